//! From an unpark to the task's next instruction when all processors sleep.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, bast_runtime, may_runtime, may_spawn, tokio_runtime};
use crate::system::System;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const WAKES: usize = 3_000;
/// Long enough for every worker to fall asleep.
const PAUSE: Duration = Duration::from_micros(500);

pub(super) const ROW: Row = Row {
    name: "wake_latency",
    about: "a thread wakes a parked task of an idle runtime, every 0.5 ms: until the task runs",
    note: "go: a goroutine locked to its thread sends on a channel; tokio: Notify; control: std's park and unpark",
    metrics: &[Metric::new("p50", "ns"), Metric::new("p99", "ns")],
    systems: &System::ALL,
    work: Work::Alone(measure),
};

/// What waker and woken share.
#[derive(Debug)]
struct Bell {
    began: Instant,
    /// When the last wake-up was sent, in nanoseconds since `began`; never 0, and 0 for none yet.
    sent: AtomicU64,
    answered: AtomicU64,
}

impl Bell {
    fn new() -> Arc<Bell> {
        Arc::new(Bell {
            began: Instant::now(),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a run is shorter than centuries")
    }

    /// The woken side: whether there is a new wake-up, and if so, notes how late it is.
    fn hear(&self, heard: &mut u64, lateness: &mut Histogram<u64>) -> bool {
        let sent = self.sent.load(Acquire);
        if sent == *heard {
            return false;
        }
        lateness.saturating_record(self.now() - sent);
        *heard = sent;
        self.answered.store(sent, Release);
        true
    }

    /// The waking side, in a thread of its own.
    fn ring(&self, wakes: usize, wake: impl Fn()) {
        for _ in 0..wakes {
            thread::sleep(PAUSE);
            let sent = self.now();
            self.sent.store(sent, Release);
            wake();
            while self.answered.load(Acquire) != sent {
                thread::sleep(PAUSE);
            }
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("up to a minute, three digits")
}

fn values(lateness: &Histogram<u64>) -> Values {
    let at = |quantile| lateness.value_at_quantile(quantile) as f64;
    vec![at(0.5), at(0.99)]
}

/// The loop of the woken side, parking by `park`.
fn hear_all(bell: &Bell, wakes: usize, park: impl Fn()) -> Values {
    let (mut heard, mut lateness) = (0, histogram());
    for _ in 0..wakes {
        while !bell.hear(&mut heard, &mut lateness) {
            park();
        }
    }
    values(&lateness)
}

fn measure(run: &Run) -> Values {
    let wakes = run.count(WAKES);
    let bell = Bell::new();
    let hearer = Arc::clone(&bell);
    match run.system {
        System::Bast => {
            let runtime = bast_runtime(run.work, bast::Builder::new());
            let task = runtime
                .spawn(move || hear_all(&hearer, wakes, bast::task::park))
                .expect("there is memory");
            let woken = task.task();
            bell.ring(wakes, || woken.unpark());
            task.join().expect("the woken task ends well")
        }
        System::Tokio => {
            let runtime = tokio_runtime(run.work);
            let notify = Arc::new(Notify::new());
            let task = runtime.spawn({
                let notify = Arc::clone(&notify);
                async move {
                    let (mut heard, mut lateness) = (0, histogram());
                    for _ in 0..wakes {
                        while !hearer.hear(&mut heard, &mut lateness) {
                            notify.notified().await;
                        }
                    }
                    values(&lateness)
                }
            });
            bell.ring(wakes, || notify.notify_one());
            runtime.block_on(task).expect("the woken task ends well")
        }
        System::May => {
            may_runtime(run.work, 1);
            let task = may_spawn(move || hear_all(&hearer, wakes, may::coroutine::park));
            let woken = task.coroutine().clone();
            bell.ring(wakes, || woken.unpark());
            task.join().expect("the woken task ends well")
        }
        System::Control => {
            let task = thread::spawn(move || hear_all(&hearer, wakes, thread::park));
            let woken = task.thread().clone();
            bell.ring(wakes, || woken.unpark());
            task.join().expect("the woken thread ends well")
        }
        system => not_for(system),
    }
}
