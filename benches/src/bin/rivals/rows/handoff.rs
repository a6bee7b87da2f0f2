//! What it costs to say that a call blocks, and how soon another task has the processor then.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, bast_runtime, nanos_each, tokio_runtime};
use crate::stats::median;
use crate::system::System;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

const CALLS: usize = 100_000;
/// Measured one by one.
const HAND_OFFS: usize = 2_000;

pub(super) const ROW: Row = Row {
    name: "blocking_handoff",
    about: "an empty section that is announced to block: the call when nothing else runs, and from the call to the first \
            instruction of a task that waits for the one processor",
    note: "bast: blocking; tokio: block_in_place, and a yield, without which it has given its worker away for good; go: announces nothing, so idle is a system call and handoff a nanosleep \
           of 20 ms; may has none",
    metrics: &[
        Metric::new("idle", "ns/call"),
        Metric::new("handoff_p50", "ns"),
        Metric::new("handoff_p99", "ns"),
    ],
    systems: &[System::Bast, System::Go, System::Tokio],
    work: Work::Alone(measure),
};

/// When the other task ran, in nanoseconds since `began`; 0: not yet.
#[derive(Debug)]
struct Other {
    began: Instant,
    ran: AtomicU64,
}

impl Other {
    fn new() -> Arc<Other> {
        Arc::new(Other {
            began: Instant::now(),
            ran: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a run is shorter than centuries")
    }

    fn runs(&self) {
        self.ran.store(self.now(), Release);
    }

    /// In the section: until the other task has run.
    fn wait(&self) -> u64 {
        loop {
            match self.ran.load(Acquire) {
                0 => thread::sleep(Duration::from_micros(20)), // leaves it the CPU
                ran => return ran,
            }
        }
    }
}

/// The median and the 99th percentile.
fn quantiles(nanos: &mut [f64]) -> [f64; 2] {
    nanos.sort_unstable_by(f64::total_cmp);
    [median(nanos), nanos[(nanos.len() - 1) * 99 / 100]]
}

fn measure(run: &Run) -> Values {
    let (calls, hand_offs) = (run.count(CALLS), run.count(HAND_OFFS));
    let mut one = run.work;
    one.processors = 1;
    match run.system {
        System::Bast => {
            let runtime = bast_runtime(one, bast::Builder::new());
            run.plain(|| runtime.run(|| on_bast(calls, hand_offs)))
        }
        System::Tokio => {
            let runtime = tokio_runtime(one);
            run.plain(|| {
                let task = runtime.spawn(on_tokio(calls, hand_offs));
                runtime.block_on(task).expect("a round does not panic")
            })
        }
        system => not_for(system),
    }
}

fn on_bast(calls: usize, hand_offs: usize) -> Values {
    let start = Instant::now();
    for _ in 0..calls {
        bast::blocking(|| ());
    }
    let idle = nanos_each(start, calls);
    let mut nanos = Vec::with_capacity(hand_offs);
    for _ in 0..hand_offs {
        let other = Other::new();
        let task = bast::spawn({
            let other = Arc::clone(&other);
            move || other.runs()
        });
        let called = other.now();
        let ran = bast::blocking(|| other.wait());
        nanos.push(ran as f64 - called as f64);
        task.join().expect("the other task ends well");
    }
    let [p50, p99] = quantiles(&mut nanos);
    vec![idle, p50, p99]
}

async fn on_tokio(calls: usize, hand_offs: usize) -> Values {
    let start = Instant::now();
    for _ in 0..calls {
        tokio::task::block_in_place(|| ());
        tokio::task::yield_now().await; // back to a worker that has something to hand over
    }
    let idle = nanos_each(start, calls);
    let mut nanos = Vec::with_capacity(hand_offs);
    for _ in 0..hand_offs {
        let other = Other::new();
        let task = tokio::spawn({
            let other = Arc::clone(&other);
            async move { other.runs() }
        });
        let called = other.now();
        let ran = tokio::task::block_in_place(|| other.wait());
        nanos.push(ran as f64 - called as f64);
        task.await.expect("the other task ends well");
        tokio::task::yield_now().await;
    }
    let [p50, p99] = quantiles(&mut nanos);
    vec![idle, p50, p99]
}
