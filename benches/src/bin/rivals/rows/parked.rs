//! A million tasks that all wait: how long to get there, and what each costs.

use super::{Metric, Row, Work, not_for};
use crate::memory::Memory;
use crate::run::{MAY_ALIVE_MAX, Run, Values, may_spawn};
use crate::system::System;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const TASKS: usize = 1_000_000;

pub(super) const ROW: Row = Row {
    name: "parked_1m",
    about: "1M tasks that all park, then are woken and joined: time until all are parked, memory of each",
    note: "bast: 64 KiB stacks; may: 20,000 tasks, seconds scaled to 1M; go: one channel all wait on; tokio: one Notify",
    metrics: &[
        Metric::new("start", "s/1M"),
        Metric::new("rss", "B/task"),
        Metric::new("page_tables", "B/task"),
    ],
    systems: System::RUNTIMES,
    work: Work::Alone(measure),
};

/// Tasks that are about to park.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static OPEN: AtomicBool = AtomicBool::new(false);
static GATE: Notify = Notify::const_new();

fn measure(run: &Run) -> Values {
    let tasks = run.count(TASKS);
    let before = memory(); // before the runtime starts, which may set memory aside
    match run.system {
        System::Bast => run.bast_once(bast::Builder::new().stack_size(64 << 10), move || {
            on_bast(tasks, before)
        }),
        System::Tokio => run.tokio_once(on_tokio(tasks, before)),
        System::May => run.may_once(move || on_may(MAY_ALIVE_MAX, before)),
        system => not_for(system),
    }
}

fn all_arrived(tasks: usize) -> bool {
    ARRIVED.load(Acquire) == tasks
}

fn memory() -> Memory {
    Memory::of("self").expect("own memory can be read")
}

fn values(start: Instant, before: Memory, tasks: usize) -> Values {
    let seconds = start.elapsed().as_secs_f64() * TASKS as f64 / tasks as f64;
    let [private, page_tables] = memory().each_since(before, tasks);
    vec![seconds, private, page_tables]
}

fn on_bast(tasks: usize, before: Memory) -> Values {
    let mut handles = Vec::with_capacity(tasks);
    let start = Instant::now();
    handles.extend((0..tasks).map(|_| {
        bast::spawn(|| {
            ARRIVED.fetch_add(1, Release);
            while !OPEN.load(Acquire) {
                bast::task::park();
            }
        })
    }));
    while !all_arrived(tasks) {
        bast::time::sleep(Duration::from_millis(1));
    }
    let values = values(start, before, tasks);
    OPEN.store(true, Release);
    handles.iter().for_each(|handle| handle.task().unpark());
    for handle in handles {
        handle.join().expect("a parked task ends well");
    }
    values
}

async fn on_tokio(tasks: usize, before: Memory) -> Values {
    let mut handles = Vec::with_capacity(tasks);
    let start = Instant::now();
    handles.extend((0..tasks).map(|_| {
        tokio::spawn(async {
            let gate = GATE.notified();
            ARRIVED.fetch_add(1, Release);
            gate.await;
        })
    }));
    while !all_arrived(tasks) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let values = values(start, before, tasks);
    GATE.notify_waiters();
    for handle in handles {
        handle.await.expect("a parked task ends well");
    }
    values
}

fn on_may(tasks: usize, before: Memory) -> Values {
    let mut handles = Vec::with_capacity(tasks);
    let start = Instant::now();
    handles.extend((0..tasks).map(|_| {
        may_spawn(|| {
            ARRIVED.fetch_add(1, Release);
            while !OPEN.load(Acquire) {
                may::coroutine::park();
            }
        })
    }));
    while !all_arrived(tasks) {
        may::coroutine::sleep(Duration::from_millis(1));
    }
    let values = values(start, before, tasks);
    OPEN.store(true, Release);
    handles.iter().for_each(|handle| handle.coroutine().unpark());
    for handle in handles {
        handle.join().expect("a parked task ends well");
    }
    values
}
