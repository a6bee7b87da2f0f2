//! Giving way, parking, and being woken.

use crate::How;
use crate::spawning::timed;
use bast::Runtime;
use bast::task::{Task, park, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) fn yields() -> Vec<(&'static str, usize, How)> {
    vec![
        (
            "alone",
            1,
            How::Each(|runtime, count| take_turns(runtime, count, 1)),
        ),
        (
            "2 tasks; 1 processor",
            1,
            How::Each(|runtime, count| take_turns(runtime, count, 2)),
        ),
        (
            "1000 tasks; 1 processor",
            1,
            How::Batch(1_000_000, |runtime, count| take_turns(runtime, count, 1000)),
        ),
        (
            "1000 tasks; 2 processors",
            2,
            How::Batch(1_000_000, |runtime, count| take_turns(runtime, count, 1000)),
        ),
        ("checkpoint", 1, How::Each(checkpoints)),
    ]
}

pub(crate) fn parks() -> Vec<(&'static str, usize, How)> {
    vec![
        ("round trip of 2 tasks; 1 processor", 1, How::Each(round_trips)),
        ("round trip of 2 tasks; 2 processors", 2, How::Each(round_trips)),
        ("unpark and park of the task itself", 1, How::Each(own_token)),
        ("round trip with a thread", 1, How::Each(with_a_thread)),
    ]
}

/// `count` yields in all, by `tasks` tasks.
fn take_turns(runtime: &Runtime, count: u64, tasks: u64) -> Duration {
    timed(runtime, || {
        let all: Vec<_> = (0..tasks)
            .map(|number| {
                let turns = count / tasks + u64::from(number < count % tasks);
                bast::spawn(move || (0..turns).for_each(|_| yield_now()))
            })
            .collect();
        all.into_iter()
            .for_each(|task| task.join().unwrap_or_else(|error| panic!("{error}")));
    })
}

fn checkpoints(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || (0..count).for_each(|_| bast::task::checkpoint()))
}

/// Waits until the number is `wanted`, adds one, and wakes the other.
#[inline(always)]
fn pass_on(number: &AtomicU64, wanted: u64, other: &Task) {
    while number.load(Ordering::Acquire) != wanted {
        park();
    }
    number.store(wanted + 1, Ordering::Release);
    other.unpark();
}

fn round_trips(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        let number = Arc::new(AtomicU64::new(0));
        let me = bast::task::current();
        let other = bast::spawn({
            let number = Arc::clone(&number);
            move || (0..count).for_each(|turn| pass_on(&number, 2 * turn + 1, &me))
        });
        let task = other.task();
        (0..count).for_each(|turn| pass_on(&number, 2 * turn, &task));
        other.join().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(number.load(Ordering::Acquire), 2 * count);
    })
}

/// Publish and take back the token: what a wait costs that has nothing to wait for.
fn own_token(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        let me = bast::task::current();
        for _ in 0..count {
            me.unpark();
            park();
        }
    })
}

/// A plain thread and a task wake each other.
fn with_a_thread(runtime: &Runtime, count: u64) -> Duration {
    let number = Arc::new(AtomicU64::new(0));
    let thread = std::thread::current();
    let spawned = runtime.spawn({
        let number = Arc::clone(&number);
        move || {
            for turn in 0..count {
                while number.load(Ordering::Acquire) != 2 * turn + 1 {
                    park();
                }
                number.store(2 * turn + 2, Ordering::Release);
                thread.unpark();
            }
        }
    });
    let task = spawned.unwrap_or_else(|error| panic!("{error}"));
    let other = task.task();
    let began = Instant::now();
    for turn in 0..count {
        number.store(2 * turn + 1, Ordering::Release);
        other.unpark();
        while number.load(Ordering::Acquire) != 2 * turn + 2 {
            std::thread::park();
        }
    }
    let time = began.elapsed();
    task.join().unwrap_or_else(|error| panic!("{error}"));
    time
}
