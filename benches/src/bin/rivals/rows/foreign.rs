//! Spawning from a thread that is none of the runtime's.

use super::{Metric, Row, Work, not_for};
use crate::run::{
    MAY_ALIVE_MAX, Run, Values, bast_runtime, may_runtime, may_spawn, nanos_each, tokio_runtime,
};
use crate::system::System;
use std::time::Instant;

const TASKS: usize = 500_000;

pub(super) const ROW: Row = Row {
    name: "spawn_from_foreign_thread",
    about: "the main thread, which runs no tasks, spawns 500k empty tasks and then joins them all",
    note: "go: a goroutine locked to its thread (all its threads are its own); may: 20,000 at a time",
    metrics: &[Metric::new("", "ns/task")],
    systems: System::RUNTIMES,
    work: Work::Alone(measure),
};

fn measure(run: &Run) -> Values {
    let tasks = run.count(TASKS);
    match run.system {
        System::Bast => {
            let runtime = bast_runtime(run.work, bast::Builder::new());
            run.plain(|| {
                let mut handles = Vec::with_capacity(tasks);
                let start = Instant::now();
                handles.extend((0..tasks).map(|_| runtime.spawn(|| ()).expect("there is memory")));
                for handle in handles.drain(..) {
                    handle.join().expect("an empty task ends well");
                }
                vec![nanos_each(start, tasks)]
            })
        }
        System::Tokio => {
            let runtime = tokio_runtime(run.work);
            run.plain(|| {
                let mut handles = Vec::with_capacity(tasks);
                let start = Instant::now();
                handles.extend((0..tasks).map(|_| runtime.spawn(async {})));
                runtime.block_on(async {
                    for handle in handles.drain(..) {
                        handle.await.expect("an empty task ends well");
                    }
                });
                vec![nanos_each(start, tasks)]
            })
        }
        System::May => {
            may_runtime(run.work, MAY_ALIVE_MAX);
            let tasks = tasks / 5;
            run.plain(|| {
                let mut handles = Vec::with_capacity(MAY_ALIVE_MAX);
                let start = Instant::now();
                for first in (0..tasks).step_by(MAY_ALIVE_MAX) {
                    handles.extend((first..tasks.min(first + MAY_ALIVE_MAX)).map(|_| may_spawn(|| ())));
                    for handle in handles.drain(..) {
                        handle.join().expect("an empty task ends well");
                    }
                }
                vec![nanos_each(start, tasks)]
            })
        }
        system => not_for(system),
    }
}
