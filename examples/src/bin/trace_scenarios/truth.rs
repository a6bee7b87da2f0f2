//! Does the trace tell the truth? Tasks that sleep, wait and compute for known times, and measure themselves; next to the
//! trace, FILE.json says what must be found in it.

use super::on_runtime;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::time::{Duration, Instant};

/// What one task has measured, in nanoseconds.
#[derive(serde::Serialize)]
struct Measured {
    name: &'static str,
    running: u64,
    sleep: u64,
    /// Waiting for a channel.
    chan: u64,
    blocking: u64,
}

fn nanos(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

fn burn(time: Duration) -> u64 {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
    nanos(start)
}

fn sleeper() -> Measured {
    let mut measured = Measured {
        name: "trace_scenarios::truth::sleeper",
        running: 0,
        sleep: 0,
        chan: 0,
        blocking: 0,
    };
    for _ in 0..10 {
        measured.running += burn(Duration::from_millis(5));
        let start = Instant::now();
        bast::time::sleep(Duration::from_millis(20));
        measured.sleep += nanos(start);
    }
    measured
}

fn receiver(from: &bast::sync::channel::Receiver<()>) -> Measured {
    let mut measured = Measured {
        name: "trace_scenarios::truth::receiver_of",
        running: 0,
        sleep: 0,
        chan: 0,
        blocking: 0,
    };
    for _ in 0..10 {
        measured.running += burn(Duration::from_millis(4));
        let start = Instant::now();
        from.recv().expect("recv");
        measured.chan += nanos(start);
    }
    measured
}

/// The closure is a function's own, so that the task has a name of its own.
fn receiver_of(from: bast::sync::channel::Receiver<()>) -> impl FnOnce() -> Measured {
    move || receiver(&from)
}

fn blocker() -> Measured {
    let mut measured = Measured {
        name: "trace_scenarios::truth::blocker",
        running: 0,
        sleep: 0,
        chan: 0,
        blocking: 0,
    };
    for _ in 0..10 {
        measured.running += burn(Duration::from_millis(5));
        let start = Instant::now();
        bast::blocking(|| std::thread::sleep(Duration::from_millis(15)));
        measured.blocking += nanos(start);
    }
    measured
}

/// The script, and what must be found.
pub(crate) fn all(file: &Path) -> io::Result<()> {
    let trace = bast::trace::start(BufWriter::new(File::create(file)?))?;
    // One processor a task: what is measured is not the queue.
    let (measured, spawned) = on_runtime(6, || {
        let (to, from) = bast::sync::channel::rendezvous();
        let tasks = vec![
            bast::spawn(sleeper),
            bast::spawn(receiver_of(from)),
            bast::spawn(blocker),
        ];
        let sender = bast::spawn(move || {
            for _ in 0..10 {
                bast::time::sleep(Duration::from_millis(25));
                to.send(()).expect("send");
            }
        });
        let crowd: Vec<_> = (0..1000).map(|_| bast::spawn(bast::task::yield_now)).collect();
        let crowd_len = crowd.len();
        crowd.into_iter().for_each(|task| task.join().expect("crowd"));
        let measured: Vec<_> = tasks
            .into_iter()
            .map(|task| task.join().expect("a measuring task"))
            .collect();
        sender.join().expect("sender");
        let spawned = 1 + measured.len() + 1 + crowd_len; // this one, and the sender
        (measured, spawned)
    })?;
    trace.stop()?;
    let mut name = file.as_os_str().to_owned();
    name.push(".json");
    let expected = serde_json::json!({ "tasks": measured, "spawned": spawned });
    std::fs::write(name, expected.to_string())
}
