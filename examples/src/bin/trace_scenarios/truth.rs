//! Does the trace tell the truth? Tasks that sleep, wait and compute for known times, and measure themselves; next to the
//! trace, FILE.json says what must be found in it.

use super::{beside, burn, nanos, on_runtime};
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often each kind of task runs. What the system takes from a thread between the two clocks that are read, the
/// task's own and the trace's, is nobody's fault and on a calm machine nothing: each run must fit its bounds, and one be near.
const ROUNDS: usize = 5;
/// Waits of a task.
const TURNS: usize = 10;

/// What one task has measured, in nanoseconds.
#[derive(Default, serde::Serialize)]
struct Measured {
    /// Computing: no less can have been running.
    running: u64,
    /// In calls that sleep: no more can have been asleep. As for the two that follow.
    sleep: u64,
    /// Waiting for a channel.
    chan: u64,
    blocking: u64,
    /// From its first instruction to its last.
    inside: u64,
}

/// A task that has run, and what its spawner measured.
#[derive(serde::Serialize)]
struct Run {
    kind: &'static str,
    id: u64,
    #[serde(flatten)]
    measured: Measured,
    /// From before it was spawned until it was joined.
    around: u64,
}

impl Run {
    fn of(kind: &'static str, task: impl FnOnce() -> Measured + Send + 'static) -> Run {
        let start = Instant::now();
        let task = bast::spawn(move || {
            let start = Instant::now();
            let measured = task();
            Measured {
                inside: nanos(start),
                ..measured
            }
        });
        let id = task.id().as_u64();
        let measured = task.join().expect("a measuring task");
        Run {
            kind,
            id,
            measured,
            around: nanos(start),
        }
    }
}

/// Computes for so long and then waits, [`TURNS`] times; gives the nanoseconds of either.
fn in_turns(compute: Duration, wait: impl Fn()) -> (u64, u64) {
    let (mut running, mut waiting) = (0, 0);
    for _ in 0..TURNS {
        running += burn(compute);
        let start = Instant::now();
        wait();
        waiting += nanos(start);
    }
    (running, waiting)
}

fn sleeper() -> Measured {
    let (running, sleep) = in_turns(Duration::from_millis(5), || {
        bast::time::sleep(Duration::from_millis(20));
    });
    Measured {
        running,
        sleep,
        ..Measured::default()
    }
}

fn receiver(from: &bast::sync::channel::Receiver<()>) -> Measured {
    let (running, chan) = in_turns(Duration::from_millis(4), || from.recv().expect("recv"));
    Measured {
        running,
        chan,
        ..Measured::default()
    }
}

fn blocker() -> Measured {
    let (running, blocking) = in_turns(Duration::from_millis(5), || {
        bast::blocking(|| std::thread::sleep(Duration::from_millis(15)));
    });
    Measured {
        running,
        blocking,
        ..Measured::default()
    }
}

/// The script, and what must be found.
pub(crate) fn all(file: &Path) -> io::Result<()> {
    let trace = bast::trace::start(BufWriter::new(File::create(file)?))?;
    let (runs, spawned) = on_runtime(2, || {
        let crowd: Vec<_> = (0..1000).map(|_| bast::spawn(bast::task::yield_now)).collect();
        let crowd_len = crowd.len();
        crowd.into_iter().for_each(|task| task.join().expect("crowd"));
        let mut runs = Vec::new();
        for _ in 0..ROUNDS {
            runs.push(Run::of("sleeper", sleeper));
            let (to, from) = bast::sync::channel::rendezvous();
            let sender = bast::spawn(move || {
                for _ in 0..TURNS {
                    bast::time::sleep(Duration::from_millis(25));
                    to.send(()).expect("send");
                }
            });
            runs.push(Run::of("receiver", move || receiver(&from)));
            sender.join().expect("sender");
            runs.push(Run::of("blocker", blocker));
        }
        let spawned = 1 + crowd_len + runs.len() + ROUNDS; // this one, and the senders
        (runs, spawned)
    })?;
    trace.stop()?;
    let expected = serde_json::json!({ "runs": runs, "spawned": spawned });
    std::fs::write(beside(file, ".json"), expected.to_string())
}
