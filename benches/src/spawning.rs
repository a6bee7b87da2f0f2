//! Making tasks and waiting for their ends.

use crate::How;
use bast::{JoinHandle, Runtime};
use std::hint::black_box;
use std::time::{Duration, Instant};

pub(crate) fn operations() -> Vec<(&'static str, usize, How)> {
    vec![
        ("one, join it", 1, How::Each(one_by_one)),
        ("one in a scope, join it", 1, How::Each(one_by_one_in_a_scope)),
        ("a scope of 8, wait for it; a task", 1, How::Each(scopes_of_eight)),
        (
            "all, join all; 1 processor",
            1,
            How::Batch(1_000_000, all_at_once),
        ),
        (
            "all, join all; 2 processors",
            2,
            How::Batch(1_000_000, all_at_once),
        ),
        (
            "detached, 100 words captured",
            1,
            How::Batch(100_000, large_closures),
        ),
        (
            "nested, 2 children a task; 1 processor",
            1,
            How::Batch(1 << 16, nested),
        ),
        (
            "nested, 2 children a task; 2 processors",
            2,
            How::Batch(1 << 16, nested),
        ),
        ("from a thread, join there", 1, How::Each(from_a_thread)),
        ("from a thread, all", 1, How::Batch(100_000, all_from_a_thread)),
    ]
}

/// Runs `body` in a task and gives the time it took there.
pub(crate) fn timed(runtime: &Runtime, body: impl FnOnce() + Send) -> Duration {
    runtime.run(|| {
        let began = Instant::now();
        body();
        began.elapsed()
    })
}

fn value<T>(task: JoinHandle<T>) -> T {
    task.join().unwrap_or_else(|error| panic!("{error}"))
}

fn one_by_one(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        for number in 0..count {
            black_box(value(bast::spawn(move || number)));
        }
    })
}

fn one_by_one_in_a_scope(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        bast::scope(|s| {
            for number in 0..count {
                black_box(
                    s.spawn(move || number)
                        .join()
                        .unwrap_or_else(|error| panic!("{error}")),
                );
            }
        });
    })
}

/// So many tasks, in scopes of eight.
fn scopes_of_eight(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        for _ in 0..count.div_ceil(8) {
            let mut places = [0_u64; 8];
            bast::scope(|s| {
                for place in &mut places {
                    s.spawn(|| *place = black_box(1));
                }
            });
            black_box(places);
        }
    })
}

fn all_at_once(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        let tasks: Vec<_> = (0..count).map(|number| bast::spawn(move || number)).collect();
        let sum: u64 = tasks.into_iter().map(value).sum();
        assert_eq!(sum, count * (count - 1) / 2);
    })
}

/// What does not fit into the header is boxed. The last task ends the measurement.
fn large_closures(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        let words = black_box([1_u64; 100]);
        for _ in 1..count {
            drop(bast::spawn(move || black_box(words).iter().sum::<u64>()));
        }
        value(bast::spawn(move || black_box(words).iter().sum::<u64>()));
    })
}

/// A tree with `leaves` leaves; time a leaf, of which there are as many as other tasks.
fn nested(runtime: &Runtime, leaves: u64) -> Duration {
    fn grow(leaves: u64) -> u64 {
        if leaves <= 1 {
            return leaves;
        }
        let left = bast::spawn(move || grow(leaves / 2));
        let right = bast::spawn(move || grow(leaves - leaves / 2));
        value(left) + value(right)
    }
    timed(runtime, || assert_eq!(grow(leaves), leaves))
}

fn from_a_thread(runtime: &Runtime, count: u64) -> Duration {
    let began = Instant::now();
    for number in 0..count {
        let task = runtime.spawn(move || number);
        black_box(value(task.unwrap_or_else(|error| panic!("{error}"))));
    }
    began.elapsed()
}

fn all_from_a_thread(runtime: &Runtime, count: u64) -> Duration {
    let began = Instant::now();
    let tasks: Vec<_> = (0..count).map(|number| runtime.spawn(move || number)).collect();
    let sum: u64 = tasks
        .into_iter()
        .map(|task| value(task.unwrap_or_else(|error| panic!("{error}"))))
        .sum();
    assert_eq!(sum, count * (count - 1) / 2);
    began.elapsed()
}
