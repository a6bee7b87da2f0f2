//! One task makes work for all processors.

use super::spinning::{STEPS_A_MICROSECOND, spin};
use super::{Metric, Row, Work, not_for};
use crate::run::{MAY_ALIVE_MAX, Run, Values, may_spawn, nanos_each};
use crate::system::System;
use std::time::Instant;

const SHORT_TASKS: usize = 200_000;
const LONG_TASKS: usize = 20_000;

pub(super) const ROW: Row = Row {
    name: "steal_fanout",
    about: "one task spawns 200k tasks of 1 us and 20k tasks of 50 us, and joins them",
    note: "ideal on 2 processors: 500 ns and 25,000 ns a task; may: 20,000 at a time",
    metrics: &[Metric::new("1us", "ns/task"), Metric::new("50us", "ns/task")],
    systems: System::RUNTIMES,
    work: Work::Alone(measure),
};

fn measure(run: &Run) -> Values {
    let short = (run.count(SHORT_TASKS), STEPS_A_MICROSECOND);
    let long = (run.count(LONG_TASKS), 50 * STEPS_A_MICROSECOND);
    match run.system {
        System::Bast => run.bast(|| vec![on_bast(short), on_bast(long)]),
        System::Tokio => run.tokio(move || async move { vec![on_tokio(short).await, on_tokio(long).await] }),
        System::May => run.may(move || vec![on_may(short), on_may(long)]),
        system => not_for(system),
    }
}

fn on_bast((tasks, steps): (usize, u32)) -> f64 {
    let mut handles = Vec::with_capacity(tasks);
    let start = Instant::now();
    handles.extend((0..tasks).map(|_| bast::spawn(move || spin(steps))));
    for handle in handles.drain(..) {
        handle.join().expect("a task that computes ends well");
    }
    nanos_each(start, tasks)
}

async fn on_tokio((tasks, steps): (usize, u32)) -> f64 {
    let mut handles = Vec::with_capacity(tasks);
    let start = Instant::now();
    handles.extend((0..tasks).map(|_| tokio::spawn(async move { spin(steps) })));
    for handle in handles.drain(..) {
        handle.await.expect("a task that computes ends well");
    }
    nanos_each(start, tasks)
}

fn on_may((tasks, steps): (usize, u32)) -> f64 {
    let mut handles = Vec::with_capacity(MAY_ALIVE_MAX);
    let start = Instant::now();
    for first in (0..tasks).step_by(MAY_ALIVE_MAX) {
        let last = tasks.min(first + MAY_ALIVE_MAX);
        handles.extend((first..last).map(|_| may_spawn(move || spin(steps))));
        for handle in handles.drain(..) {
            handle.join().expect("a task that computes ends well");
        }
    }
    nanos_each(start, tasks)
}
