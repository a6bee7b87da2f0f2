//! Spawning and joining: all first and then join all, and one by one.

use super::{Metric, Row, Work, not_for};
use crate::run::{MAY_ALIVE_MAX, Run, Values, may_spawn, nanos_each};
use crate::system::System;
use std::time::Instant;

const TASKS: usize = 1_000_000;

pub(super) const ALL: Row = Row {
    name: "spawn_join_all",
    about: "one task spawns 1M empty tasks and then joins them all",
    note: "may: 20,000 alive at a time, the most its mappings allow; go: a WaitGroup",
    metrics: &[Metric::new("", "ns/task")],
    systems: System::RUNTIMES,
    work: Work::Alone(all),
};

pub(super) const ONE: Row = Row {
    name: "spawn_join_one",
    about: "spawn one empty task and join it, 1M times",
    note: "go: a WaitGroup",
    metrics: &[Metric::new("", "ns/task")],
    systems: System::RUNTIMES,
    work: Work::Alone(one),
};

fn all(run: &Run) -> Values {
    let tasks = run.count(TASKS);
    match run.system {
        System::Bast => run.bast(|| {
            let mut handles = Vec::with_capacity(tasks);
            let start = Instant::now();
            handles.extend((0..tasks).map(|_| bast::spawn(|| ())));
            for handle in handles.drain(..) {
                handle.join().expect("an empty task ends well");
            }
            vec![nanos_each(start, tasks)]
        }),
        System::Tokio => run.tokio(move || async move {
            let mut handles = Vec::with_capacity(tasks);
            let start = Instant::now();
            handles.extend((0..tasks).map(|_| tokio::spawn(async {})));
            for handle in handles.drain(..) {
                handle.await.expect("an empty task ends well");
            }
            vec![nanos_each(start, tasks)]
        }),
        System::May => run.may(move || {
            let mut handles = Vec::with_capacity(MAY_ALIVE_MAX);
            let tasks = tasks / 5;
            let start = Instant::now();
            for _ in 0..tasks / MAY_ALIVE_MAX {
                handles.extend((0..MAY_ALIVE_MAX).map(|_| may_spawn(|| ())));
                for handle in handles.drain(..) {
                    handle.join().expect("an empty task ends well");
                }
            }
            vec![nanos_each(start, tasks)]
        }),
        system => not_for(system),
    }
}

fn one(run: &Run) -> Values {
    let tasks = run.count(TASKS);
    match run.system {
        System::Bast => run.bast(|| {
            let start = Instant::now();
            for _ in 0..tasks {
                bast::spawn(|| ()).join().expect("an empty task ends well");
            }
            vec![nanos_each(start, tasks)]
        }),
        System::Tokio => run.tokio(move || async move {
            let start = Instant::now();
            for _ in 0..tasks {
                tokio::spawn(async {}).await.expect("an empty task ends well");
            }
            vec![nanos_each(start, tasks)]
        }),
        System::May => run.may(move || {
            let tasks = tasks / 50;
            let start = Instant::now();
            for _ in 0..tasks {
                may_spawn(|| ()).join().expect("an empty task ends well");
            }
            vec![nanos_each(start, tasks)]
        }),
        system => not_for(system),
    }
}
