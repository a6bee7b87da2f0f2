//! Many tasks that sleep at once.

use super::{Metric, Row, Work, not_for};
use crate::run::{MAY_ALIVE_MAX, Run, Values, may_spawn, nanos_each};
use crate::system::System;
use std::time::{Duration, Instant};

const TASKS: usize = 100_000;
const NAP: Duration = Duration::from_millis(1);

pub(super) const ROW: Row = Row {
    name: "sleep_100k",
    about: "100k tasks sleep 1 ms each; from the first spawn to the last join",
    note: "may: 20,000 at a time",
    metrics: &[Metric::new("", "ns/task")],
    systems: System::RUNTIMES,
    work: Work::Alone(measure),
};

fn measure(run: &Run) -> Values {
    let tasks = run.count(TASKS);
    match run.system {
        System::Bast => run.bast(|| {
            let mut handles = Vec::with_capacity(tasks);
            let start = Instant::now();
            handles.extend((0..tasks).map(|_| bast::spawn(|| bast::time::sleep(NAP))));
            for handle in handles.drain(..) {
                handle.join().expect("a task that sleeps ends well");
            }
            vec![nanos_each(start, tasks)]
        }),
        System::Tokio => run.tokio(move || async move {
            let mut handles = Vec::with_capacity(tasks);
            let start = Instant::now();
            handles.extend((0..tasks).map(|_| tokio::spawn(tokio::time::sleep(NAP))));
            for handle in handles.drain(..) {
                handle.await.expect("a task that sleeps ends well");
            }
            vec![nanos_each(start, tasks)]
        }),
        System::May => run.may(move || {
            let mut handles = Vec::with_capacity(MAY_ALIVE_MAX);
            let start = Instant::now();
            for first in (0..tasks).step_by(MAY_ALIVE_MAX) {
                let last = tasks.min(first + MAY_ALIVE_MAX);
                handles.extend((first..last).map(|_| may_spawn(|| may::coroutine::sleep(NAP))));
                for handle in handles.drain(..) {
                    handle.join().expect("a task that sleeps ends well");
                }
            }
            vec![nanos_each(start, tasks)]
        }),
        system => not_for(system),
    }
}
