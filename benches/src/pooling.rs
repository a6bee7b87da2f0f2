//! Jobs on a pool, and the same jobs on tasks of their own.

use crate::How;
use crate::spawning::timed;
use bast::Runtime;
use bast::sync::WaitGroup;
use bast::task::{Group, Pool, Priority};
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Tasks of the pools.
const TASKS: usize = 4;
/// Their queue.
const QUEUE: usize = 128;

pub(crate) fn operations() -> Vec<(&'static str, usize, How)> {
    vec![
        ("jobs on a pool; 1 processor", 1, How::Batch(100_000, on_a_pool)),
        ("jobs on a pool; 2 processors", 2, How::Batch(100_000, on_a_pool)),
        (
            "jobs on tasks of their own; 1 processor",
            1,
            How::Batch(100_000, on_tasks),
        ),
        (
            "jobs on tasks of their own; 2 processors",
            2,
            How::Batch(100_000, on_tasks),
        ),
        (
            "jobs in a group of 4; 1 processor",
            1,
            How::Batch(100_000, in_a_group),
        ),
        (
            "jobs on tasks of high priority; 1 processor",
            1,
            How::Batch(100_000, on_urgent_tasks),
        ),
    ]
}

fn on_a_pool(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        let pool = Pool::new(TASKS, QUEUE).unwrap_or_else(|error| panic!("{error}"));
        for number in 0..count {
            let submitted = pool.submit(move || _ = black_box(number));
            submitted.unwrap_or_else(|error| panic!("{error}"));
        }
        pool.close();
    })
}

fn in_a_group(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        let group = Group::new().limit(TASKS);
        for number in 0..count {
            group.spawn(move || Ok::<_, Infallible>(black_box(number)));
        }
        let Ok(numbers) = group.wait();
        assert_eq!(numbers.len() as u64, count);
    })
}

fn on_tasks(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || spawn_all(Priority::Normal, count))
}

fn on_urgent_tasks(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || spawn_all(Priority::High, count))
}

/// Detached tasks, and one wait for all.
fn spawn_all(priority: Priority, count: u64) {
    let all = Arc::new(WaitGroup::new());
    for number in 0..count {
        let member = all.member();
        let spawned = bast::task::Builder::new().priority(priority).spawn(move || {
            black_box(number);
            drop(member);
        });
        drop(spawned.unwrap_or_else(|error| panic!("{error}")));
    }
    all.wait();
}
