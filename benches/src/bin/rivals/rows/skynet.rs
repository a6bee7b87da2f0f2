//! A tree of tasks, ten children each, whose leaves' numbers are summed on the way back.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, may_spawn, nanos_each};
use crate::system::System;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

const LEAVES: u64 = 1_000_000;
const FANOUT: u64 = 10;
/// What may can hold; the tree is built again and again.
const MAY_LEAVES: u64 = 10_000;

pub(super) const ROW: Row = Row {
    name: "skynet_1m",
    about: "a tree of tasks with 10 children each and 1M leaves, summed",
    note: "go: a channel a node; may: a tree of 10,000 leaves (a million exhausts its mappings)",
    metrics: &[Metric::new("", "ns/task")],
    systems: System::RUNTIMES,
    work: Work::Alone(measure),
};

fn measure(run: &Run) -> Values {
    let leaves = if run.work.quick { LEAVES / 100 } else { LEAVES };
    match run.system {
        System::Bast => run.bast(|| check(leaves, || on_bast(0, leaves))),
        System::Tokio => run.tokio(move || async move {
            let start = Instant::now();
            let sum = on_tokio(0, leaves).await;
            finish(start, leaves, sum)
        }),
        System::May => run.may(|| check(MAY_LEAVES, || on_may(0, MAY_LEAVES))),
        system => not_for(system),
    }
}

fn check(leaves: u64, tree: impl FnOnce() -> u64) -> Values {
    let start = Instant::now();
    let sum = tree();
    finish(start, leaves, sum)
}

fn finish(start: Instant, leaves: u64, sum: u64) -> Values {
    let nanos = nanos_each(start, leaves as usize);
    assert_eq!(sum, leaves * (leaves - 1) / 2, "the tree lost a leaf");
    vec![nanos]
}

fn on_bast(number: u64, size: u64) -> u64 {
    if size == 1 {
        return number;
    }
    let below = size / FANOUT;
    let children: [_; FANOUT as usize] = std::array::from_fn(|child| {
        let number = number + child as u64 * below;
        bast::spawn(move || on_bast(number, below))
    });
    let sums = children.map(|child| child.join().expect("a node ends well"));
    sums.into_iter().sum()
}

fn on_tokio(number: u64, size: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    if size == 1 {
        return Box::pin(std::future::ready(number));
    }
    Box::pin(async move {
        let below = size / FANOUT;
        let children: [_; FANOUT as usize] = std::array::from_fn(|child| {
            let number = number + child as u64 * below;
            if below == 1 {
                tokio::spawn(std::future::ready(number)) // a leaf needs no box
            } else {
                tokio::spawn(on_tokio(number, below))
            }
        });
        let mut sum = 0;
        for child in children {
            sum += child.await.expect("a node ends well");
        }
        sum
    })
}

fn on_may(number: u64, size: u64) -> u64 {
    if size == 1 {
        return number;
    }
    let below = size / FANOUT;
    let children: [_; FANOUT as usize] = std::array::from_fn(|child| {
        let number = number + child as u64 * below;
        may_spawn(move || on_may(number, below))
    });
    let sums = children.map(|child| child.join().expect("a node ends well"));
    sums.into_iter().sum()
}
