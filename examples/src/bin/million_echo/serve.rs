//! The server half: one process, one listener, an echo on each connection.

use std::io::{self, Read};
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::limits::System;
use crate::options::{Backend, ServeOptions};
use crate::plan::Kind;
use crate::platform::die_with_parent;
use crate::protocol::{Event, emit, now_ns};
use crate::{serve_bast, serve_epoll};

/// The kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 65_535;
/// Wait after an accept that a limit refused: someone has to close a file first.
const PAUSE: Duration = Duration::from_millis(50);
/// At most one report of refused accepts in this time.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The running trace, if one was asked for; ends before the process does.
static TRACE: Mutex<Option<bast::trace::Guard>> = Mutex::new(None);

/// Entry of `serve`.
pub(crate) fn run(options: &ServeOptions) -> ExitCode {
    // Connections take one file each: use all that is allowed.
    let system = System::prepare();
    match listen(options).and_then(|listener| serve(options, listener, &system)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let what = format!("cannot serve on {}:{}: {error}", options.address, options.port);
            if options.controlled {
                emit(&Event::Trouble { what });
            } else {
                eprintln!("error: {what}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &ServeOptions, listener: TcpListener, system: &System) -> io::Result<()> {
    let SocketAddr::V4(address) = listener.local_addr()? else {
        unreachable!("bound to an IPv4 address")
    };
    if options.controlled {
        die_with_parent()?;
        thread::Builder::new()
            .name("parent-watch".into())
            .stack_size(64 << 10)
            .spawn(end_with_parent)?;
    }
    let failures = AcceptFailures::new(options.controlled, system.clone());
    let ready = || announce(options, address);
    let settings = &options.server;
    if let Some(file) = &settings.trace {
        let trace = bast::trace::start(std::fs::File::create(file)?)?;
        *TRACE.lock().unwrap_or_else(PoisonError::into_inner) = Some(trace);
    }
    match settings.backend {
        Backend::Bast => serve_bast::run(
            listener,
            settings.processors,
            settings.stack_size,
            &failures,
            ready,
        ),
        Backend::Epoll => {
            ready();
            serve_epoll::run(&listener, settings.processors.unwrap_or(1), &failures)
        }
    }
}

fn announce(options: &ServeOptions, address: SocketAddrV4) {
    if options.controlled {
        emit(&Event::Ready {
            address: Some(address),
        });
    } else {
        println!("listening on {address}, pid {}", std::process::id());
    }
}

/// A listener that other processes may share the port with.
fn listen(options: &ServeOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddrV4::new(options.address, options.port).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Waits for the pipe from the main process to close, then ends this process.
fn end_with_parent() {
    let mut byte = [0];
    while !matches!(io::stdin().read(&mut byte), Ok(0) | Err(_)) {}
    drop(TRACE.lock().unwrap_or_else(PoisonError::into_inner).take());
    std::process::exit(0);
}

/// What to do when a connection cannot be taken: a limit neither ends the server nor makes it spin, and is reported.
#[derive(Debug)]
pub(crate) struct AcceptFailures {
    controlled: bool,
    system: System,
    /// Refused since the last report.
    unreported: AtomicU64,
    /// Nothing more is reported until then, in nanoseconds of the monotonic clock.
    quiet_until: AtomicU64,
}

impl AcceptFailures {
    fn new(controlled: bool, system: System) -> Self {
        Self {
            controlled,
            system,
            unreported: AtomicU64::new(0),
            quiet_until: AtomicU64::new(0),
        }
    }

    /// How long to wait before accepting again; none if the next accept may succeed at once.
    pub(crate) fn pause_after(&self, error: &io::Error) -> Option<Duration> {
        let errno = error.raw_os_error()?;
        let advice = match Kind::of_errno(errno)? {
            Kind::OpenFiles => {
                format!(
                    "{} open files a process; raise it with: ulimit -n N",
                    self.system.files_a_process
                )
            }
            Kind::SystemFiles => {
                format!(
                    "fs.file-max = {}; raise it with: sysctl -w fs.file-max=N",
                    self.system.file_max
                )
            }
            Kind::Memory => "the kernel has no memory for sockets".into(),
            // The client went away before it was accepted.
            _ => return None,
        };
        self.report(|times| {
            if self.controlled {
                emit(&Event::AcceptFailed { errno, times });
            } else {
                eprintln!(
                    "cannot accept: {error} ({advice}); trying again every {} ms",
                    PAUSE.as_millis()
                );
            }
        });
        Some(PAUSE)
    }

    /// A connection was accepted and dropped: the runtime had no task for it. How long to wait before accepting again.
    pub(crate) fn no_task(&self, error: &bast::SpawnError) -> Duration {
        self.report(|times| {
            let what = format!("{times} connections dropped, no task for them: {error}");
            if self.controlled {
                emit(&Event::Trouble { what });
            } else {
                eprintln!("{what}");
            }
        });
        PAUSE
    }

    /// Calls `say` with the number of failures since the last report, unless that was a moment ago.
    fn report(&self, say: impl FnOnce(u64)) {
        self.unreported.fetch_add(1, Relaxed);
        let (now, quiet_until) = (now_ns(), self.quiet_until.load(Relaxed));
        let later = now + REPORT_EVERY.as_nanos() as u64;
        if now >= quiet_until
            && self
                .quiet_until
                .compare_exchange(quiet_until, later, Relaxed, Relaxed)
                .is_ok()
        {
            say(self.unreported.swap(0, Relaxed));
        }
    }
}
