//! The child processes: started, listened to, and ended whatever happens.
//!
//! Three things end a child: the main process kills it; the pipe on its standard input closes; the kernel kills it when
//! the main process dies (`PR_SET_PDEATHSIG`, see `platform::die_with_parent`). Each child is in a process group of its own, so
//! that Ctrl-C reaches only the main process, which then ends the run in order.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::protocol::{Event, Order};

/// Stack of a thread that only passes lines on.
const READER_STACK: usize = 64 << 10;
/// How long a child whose output has ended may take to be dead.
const SUDDEN_END: Duration = Duration::from_millis(500);
/// How long servers may take to write their traces to the end, and to close their connections.
const ORDERLY_END: Duration = Duration::from_secs(10);

/// One of the children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Server(usize),
    Load(usize),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(index) => write!(f, "server process {}", index + 1),
            Self::Load(index) => write!(f, "load process {}", index + 1),
        }
    }
}

/// What the main process can hear of.
#[derive(Debug)]
pub(crate) enum Incoming {
    Said(Who, Event),
    /// Its output ended: it is dead or about to be.
    Gone(Who),
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted,
}

/// All children of the main process.
#[derive(Debug)]
pub(crate) struct Family {
    members: Vec<Member>,
    sender: Sender<Incoming>,
    receiver: Receiver<Incoming>,
}

#[derive(Debug)]
struct Member {
    who: Who,
    process: Child,
    orders: ChildStdin,
}

impl Family {
    /// No children yet; signals are caught from here on. A second one ends the program at once.
    pub(crate) fn new() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let on_signal = sender.clone();
        thread::Builder::new()
            .name("signals".into())
            .stack_size(READER_STACK)
            .spawn(move || {
                for (count, _) in signals.forever().enumerate() {
                    if count > 0 || on_signal.send(Incoming::Interrupted).is_err() {
                        // The children die with this process.
                        std::process::exit(130);
                    }
                }
            })?;
        Ok(Self {
            members: Vec::new(),
            sender,
            receiver,
        })
    }

    /// Runs this program again as `who`, with these arguments. To be called on the main thread only: the kernel ties the
    /// child's life to the thread that started it.
    pub(crate) fn start(&mut self, who: Who, arguments: &[String]) -> io::Result<u32> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let orders = process.stdin.take().expect("piped above");
        let output = process.stdout.take().expect("piped above");
        let pid = process.id();
        self.members.push(Member { who, process, orders });
        let sender = self.sender.clone();
        thread::Builder::new()
            .name(who.to_string())
            .stack_size(READER_STACK)
            .spawn(move || pass_on(who, output, &sender))?;
        Ok(pid)
    }

    /// Gives an order. A child that is gone does not hear it; its end is reported by itself.
    pub(crate) fn tell(&mut self, who: Who, order: &Order) {
        let Some(member) = self.members.iter_mut().find(|member| member.who == who) else {
            return;
        };
        let mut line = serde_json::to_vec(order).expect("orders are plain data");
        line.push(b'\n');
        let _ = member.orders.write_all(&line);
    }

    /// The next thing heard before `until`.
    pub(crate) fn listen(&self, until: Instant) -> Option<Incoming> {
        self.receiver
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .ok()
    }

    /// Ends a child and tells how it had ended if it was dead already.
    pub(crate) fn end(&mut self, who: Who) -> String {
        let Some(place) = self.members.iter().position(|member| member.who == who) else {
            return format!("{who} is gone");
        };
        let mut member = self.members.swap_remove(place);
        let pid = member.process.id();
        // Its output has ended, so it is exiting, unless it only closed it: the kill then settles that.
        let ended = wait_until(&mut member.process, Instant::now() + SUDDEN_END);
        let status = match ended {
            Some(status) => status,
            None => {
                let _ = member.process.kill();
                let _ = member.process.wait();
                return format!("{who} (pid {pid}) did not answer and was ended");
            }
        };
        match (status.signal(), status.code()) {
            (Some(signal), _) => format!("{who} (pid {pid}) was killed by signal {signal}"),
            (None, code) => format!("{who} (pid {pid}) ended with exit code {}", code.unwrap_or(-1)),
        }
    }

    /// Ends all, load processes first, so that servers see their connections closed by them. A server ends by itself, its
    /// trace before it, once nobody can give it orders any more; one that does not is killed.
    pub(crate) fn end_all(&mut self) {
        let (servers, mut loads): (Vec<_>, Vec<_>) = self
            .members
            .drain(..)
            .partition(|member| matches!(member.who, Who::Server(_)));
        for load in &mut loads {
            let _ = load.process.kill();
        }
        for mut load in loads {
            let _ = load.process.wait();
        }
        // What else a member has is dropped here: the pipe of its orders closes.
        let servers: Vec<_> = servers.into_iter().map(|server| server.process).collect();
        let until = Instant::now() + ORDERLY_END;
        for mut server in servers {
            if wait_until(&mut server, until).is_none() {
                let _ = server.kill();
                let _ = server.wait();
            }
        }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// The status of a process that is about to end, or nothing if it has not by then.
fn wait_until(process: &mut Child, until: Instant) -> Option<std::process::ExitStatus> {
    loop {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(status);
        }
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Turns the lines of a child into events.
fn pass_on(who: Who, output: ChildStdout, sender: &Sender<Incoming>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        let event = serde_json::from_str(&line).unwrap_or_else(|_| Event::Trouble {
            what: format!("said something not understood: {line}"),
        });
        if sender.send(Incoming::Said(who, event)).is_err() {
            return;
        }
    }
    let _ = sender.send(Incoming::Gone(who));
}
