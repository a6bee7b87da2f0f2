//! The wait group: nobody leaves before the count is zero, and everybody does then.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::WaitGroup;
use bast::time::timeout;
use chan_util::{LONG, SHORT, everywhere, on_each, settle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;

#[test]
fn waiters_leave_at_zero() {
    everywhere(|go| {
        let (first, second) = (Arc::new(WaitGroup::new()), Arc::new(WaitGroup::new()));
        // Used again and again.
        for _ in 0..8 {
            const PARTIES: usize = 16;
            first.add(PARTIES);
            second.add(PARTIES);
            let left = Arc::new(AtomicUsize::new(0));
            let parties: Vec<_> = (0..PARTIES)
                .map(|_| {
                    let (first, second, left) = (first.clone(), second.clone(), left.clone());
                    go.spawn(move || {
                        first.done();
                        second.wait();
                        left.fetch_add(1, SeqCst);
                    })
                })
                .collect();
            first.wait();
            for _ in 0..PARTIES {
                assert_eq!(left.load(SeqCst), 0, "a waiter left before the count was zero");
                second.done();
            }
            parties.into_iter().for_each(|party| party.join());
            assert_eq!(left.load(SeqCst), PARTIES);
        }
    });
}

/// What was done before `done` is seen after `wait`.
#[test]
fn a_wait_sees_what_was_done() {
    everywhere(|go| {
        for _ in 0..go.rounds(300) {
            let shared = Arc::new((WaitGroup::new(), AtomicUsize::new(0)));
            for _ in 0..2 {
                shared.0.add(1);
                let shared = shared.clone();
                let _ = go.spawn(move || {
                    shared.1.fetch_add(1, Relaxed);
                    shared.0.done();
                });
            }
            shared.0.wait();
            assert_eq!(shared.1.load(Relaxed), 2);
        }
    });
}

/// Waiters of one use still on their way while the next has begun: each use has its own zero.
#[test]
fn used_again_at_once() {
    everywhere(|go| {
        let rounds = go.rounds(500);
        let group = Arc::new(WaitGroup::new());
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let group = group.clone();
                go.spawn(move || (0..rounds).for_each(|_| group.wait()))
            })
            .collect();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let group = group.clone();
                go.spawn(move || {
                    for _ in 0..rounds {
                        group.add(2);
                        group.done();
                        bast::task::yield_now();
                        group.done();
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|party| party.join());
        waiters.into_iter().for_each(|party| party.join());
        assert_eq!(group.count(), 0);
    });
}

#[test]
fn nothing_to_wait_for() {
    everywhere(|_| {
        let group = WaitGroup::new();
        group.wait();
        group.wait_timeout(Duration::ZERO).unwrap();
        group.add(0);
        group.wait();
    });
}

#[test]
fn more_done_than_added_is_refused() {
    let group = WaitGroup::new();
    assert!(catch_unwind(AssertUnwindSafe(|| group.done())).is_err());
    group.add(1);
    group.done();
    assert!(catch_unwind(AssertUnwindSafe(|| group.done())).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| group.add(usize::MAX))).is_err());
    assert_eq!(group.count(), 0, "a refused call changes nothing");
    group.wait();
}

/// Members count while they live, clones too, and a panic drops them like anything else.
#[test]
fn members_count_until_they_are_dropped() {
    everywhere(|go| {
        let group = Arc::new(WaitGroup::new());
        let ran = Arc::new(AtomicUsize::new(0));
        for i in 0..6 {
            let (member, ran) = (group.member(), ran.clone());
            let _ = go.spawn(move || {
                let second = member.clone();
                ran.fetch_add(1, Relaxed);
                drop(member);
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    let _second = second;
                    assert!(i % 2 == 0, "on purpose");
                }));
            });
        }
        group.wait();
        assert_eq!((ran.load(Relaxed), group.count()), (6, 0));
    });
}

#[test]
fn a_time_limit_ends_the_wait() {
    everywhere(|go| {
        let group = Arc::new(WaitGroup::new());
        group.add(1);
        assert!(group.wait_timeout(SHORT).is_err());
        let waiting = group.clone();
        let in_time = go.spawn(move || waiting.wait_timeout(LONG).is_ok());
        settle();
        group.done();
        assert!(in_time.join());
    });
}

#[test]
fn time_limits_race_with_zero() {
    everywhere(|go| {
        let group = Arc::new(WaitGroup::new());
        for round in 0..go.rounds(200) as u32 {
            group.add(1);
            let waiters: Vec<_> = (0..3_u32)
                .map(|party| {
                    let group = group.clone();
                    let limit = Duration::from_micros(u64::from((round * 7 + party * 13) % 60));
                    go.spawn(move || {
                        if group.wait_timeout(limit).is_err() {
                            group.wait();
                        }
                    })
                })
                .collect();
            group.done();
            waiters.into_iter().for_each(|party| party.join());
        }
    });
}

#[test]
fn a_timeout_around_it_bounds_the_calls_that_can_say_so() {
    on_each(|| {
        let group = Arc::new(WaitGroup::new());
        group.add(1);
        let other = group.clone();
        let ended = timeout(SHORT, || {
            assert!(group.wait_timeout(LONG).is_err());
            let worker = bast::spawn(move || other.done());
            group.wait();
            worker
        });
        ended.unwrap_err().into_inner().join().unwrap();
    });
}
