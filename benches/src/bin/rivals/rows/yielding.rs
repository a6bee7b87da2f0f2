//! Yielding: a few tasks that only give way to each other.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, may_spawn, nanos_each};
use crate::system::System;
use std::time::Instant;

const YIELDS: usize = 4_000_000;

pub(super) const TWO: Row = Row {
    name: "yield_2",
    about: "2 tasks yield, 4M yields in all",
    note: "",
    metrics: &[Metric::new("", "ns/yield")],
    systems: System::RUNTIMES,
    work: Work::Alone(|run| among(run, 2)),
};

pub(super) const THOUSAND: Row = Row {
    name: "yield_1000",
    about: "1000 tasks yield, 4M yields in all",
    note: "",
    metrics: &[Metric::new("", "ns/yield")],
    systems: System::RUNTIMES,
    work: Work::Alone(|run| among(run, 1000)),
};

fn among(run: &Run, tasks: usize) -> Values {
    let each = run.count(YIELDS) / tasks;
    match run.system {
        System::Bast => run.bast(|| {
            let yields = move || (0..each).for_each(|_| bast::task::yield_now());
            let start = Instant::now();
            let handles: Vec<_> = (0..tasks).map(|_| bast::spawn(yields)).collect();
            for handle in handles {
                handle.join().expect("a task that yields ends well");
            }
            vec![nanos_each(start, tasks * each)]
        }),
        System::Tokio => run.tokio(move || async move {
            let yields = move || async move {
                for _ in 0..each {
                    tokio::task::yield_now().await;
                }
            };
            let start = Instant::now();
            let handles: Vec<_> = (0..tasks).map(|_| tokio::spawn(yields())).collect();
            for handle in handles {
                handle.await.expect("a task that yields ends well");
            }
            vec![nanos_each(start, tasks * each)]
        }),
        System::May => run.may(move || {
            let yields = move || (0..each).for_each(|_| may::coroutine::yield_now());
            let start = Instant::now();
            let handles: Vec<_> = (0..tasks).map(|_| may_spawn(yields)).collect();
            for handle in handles {
                handle.join().expect("a task that yields ends well");
            }
            vec![nanos_each(start, tasks * each)]
        }),
        system => not_for(system),
    }
}
