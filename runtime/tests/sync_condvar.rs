//! The condition variable: who is woken, in which order, and what a time limit does.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::{Condvar, Mutex};
use bast::time::timeout;
use chan_util::{LONG, SHORT, everywhere, on_each, settle, wait_for};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;

/// What the parties share: `T` under the lock, and one condition.
fn pair<T>(value: T) -> Arc<(Mutex<T>, Condvar)> {
    Arc::new((Mutex::new(value), Condvar::new()))
}

#[test]
fn a_notification_without_waiters_does_nothing() {
    everywhere(|_| {
        let pair = pair(());
        pair.1.notify_one();
        pair.1.notify_all();
        let held = pair.0.lock().unwrap();
        let (_held, result) = pair.1.wait_timeout(held, SHORT).unwrap();
        assert!(result.timed_out(), "nothing was kept");
    });
}

#[derive(Default)]
struct Crowd {
    waiting: usize,
    woken: usize,
}

/// Each notification wakes exactly one of those who wait.
#[test]
fn one_wakes_one() {
    everywhere(|go| {
        let pair = pair(Crowd::default());
        let parties: Vec<_> = (0..6)
            .map(|_| {
                let pair = pair.clone();
                go.spawn(move || {
                    let mut held = pair.0.lock().unwrap();
                    held.waiting += 1;
                    held = pair.1.wait(held).unwrap();
                    held.woken += 1;
                })
            })
            .collect();
        wait_for(|| pair.0.lock().unwrap().waiting == 6);
        for woken in 1..=6 {
            pair.1.notify_one();
            wait_for(|| pair.0.lock().unwrap().woken >= woken);
            settle();
            assert_eq!(pair.0.lock().unwrap().woken, woken, "one wakes one");
        }
        parties.into_iter().for_each(|party| party.join());
    });
}

/// The one who has waited longest goes first, whatever comes later: nobody steals a wake-up.
#[test]
fn in_the_order_of_coming() {
    everywhere(|go| {
        let pair = pair((0_usize, Vec::new()));
        let parties: Vec<_> = (0..10)
            .map(|place| {
                let other = pair.clone();
                let party = go.spawn(move || {
                    let mut held = other.0.lock().unwrap();
                    held.0 += 1; // the lock is held until it waits
                    held = other.1.wait(held).unwrap();
                    held.1.push(place);
                });
                wait_for(|| pair.0.lock().unwrap().0 == place + 1);
                party
            })
            .collect();
        for woken in 1..=10 {
            pair.1.notify_one();
            wait_for(|| pair.0.lock().unwrap().1.len() == woken);
        }
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(pair.0.lock().unwrap().1, (0..10).collect::<Vec<_>>());
    });
}

/// All that wait now are woken, each once, round after round.
#[test]
fn all_wakes_all() {
    everywhere(|go| {
        const PARTIES: usize = 5;
        let rounds = go.rounds(200);
        let pair = pair(Crowd::default());
        let parties: Vec<_> = (0..PARTIES)
            .map(|_| {
                let pair = pair.clone();
                go.spawn(move || {
                    for _ in 0..rounds {
                        let mut held = pair.0.lock().unwrap();
                        held.waiting += 1;
                        held = pair.1.wait(held).unwrap();
                        held.woken += 1;
                    }
                })
            })
            .collect();
        for round in 1..=rounds {
            wait_for(|| pair.0.lock().unwrap().waiting == round * PARTIES);
            pair.1.notify_all();
            wait_for(|| pair.0.lock().unwrap().woken == round * PARTIES);
        }
        parties.into_iter().for_each(|party| party.join());
        let end = pair.0.lock().unwrap();
        assert_eq!((end.waiting, end.woken), (rounds * PARTIES, rounds * PARTIES));
    });
}

/// A bounded buffer on two conditions: every item comes out once.
#[test]
fn producers_and_consumers() {
    struct Buffer {
        items: Mutex<VecDeque<usize>>,
        filled: Condvar,
        emptied: Condvar,
    }
    everywhere(|go| {
        let each = go.rounds(1_000);
        let buffer = Arc::new(Buffer {
            items: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        });
        let producers: Vec<_> = (0..3)
            .map(|producer| {
                let buffer = buffer.clone();
                go.spawn(move || {
                    for item in 0..each {
                        let held = buffer.items.lock().unwrap();
                        let mut held = buffer.emptied.wait_while(held, |items| items.len() == 2).unwrap();
                        held.push_back(producer * each + item);
                        buffer.filled.notify_one();
                    }
                })
            })
            .collect();
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                let buffer = buffer.clone();
                go.spawn(move || {
                    let mut sum = 0;
                    for _ in 0..each {
                        let held = buffer.items.lock().unwrap();
                        let mut held = buffer.filled.wait_while(held, |items| items.is_empty()).unwrap();
                        sum += held.pop_front().unwrap();
                        drop(held);
                        buffer.emptied.notify_one();
                    }
                    sum
                })
            })
            .collect();
        producers.into_iter().for_each(|party| party.join());
        let sum: usize = consumers.into_iter().map(|party| party.join()).sum();
        assert_eq!(sum, (0..3 * each).sum());
    });
}

#[test]
fn a_time_limit_ends_the_wait() {
    everywhere(|go| {
        let pair = pair(0);
        let other = pair.clone();
        let limits_are_over = Arc::new(AtomicBool::new(false));
        let over = limits_are_over.clone();
        let party = go.spawn(move || {
            let held = other.0.lock().unwrap();
            let (held, result) = other.1.wait_timeout(held, SHORT).unwrap();
            assert!(result.timed_out());
            let (held, result) = other
                .1
                .wait_timeout_while(held, SHORT, |value| *value == 0)
                .unwrap();
            assert!(result.timed_out());
            let (held, result) = other
                .1
                .wait_timeout_while(held, SHORT, |value| *value != 0)
                .unwrap();
            assert!(!result.timed_out(), "there was nothing to wait for");
            over.store(true, Release);
            let (held, result) = other
                .1
                .wait_timeout_while(held, LONG, |value| *value == 0)
                .unwrap();
            assert!(!result.timed_out());
            *held
        });
        while !limits_are_over.load(Acquire) {
            settle();
        }
        (0..10).for_each(|_| settle());
        *pair.0.lock().unwrap() = 9;
        pair.1.notify_all();
        // It may not have come to its last wait before; that finds the value then.
        assert_eq!(party.join(), 9);
    });
}

/// Time limits that end as the notification comes: a notification that met a waiter is counted by it, and none is lost:
/// as many waiters were notified as notifications met one.
#[test]
fn time_limits_race_with_notifications() {
    everywhere(|go| {
        let pair = pair(0_usize);
        let (notified, timed_out) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let rounds = go.rounds(400);
        let waiters: Vec<_> = (0..4_u32)
            .map(|party| {
                let (pair, notified, timed_out) = (pair.clone(), notified.clone(), timed_out.clone());
                go.spawn(move || {
                    for round in 0..rounds as u32 {
                        let limit = Duration::from_micros(u64::from((round * 11 + party * 17) % 90));
                        // An item, or the time is over: whoever is woken for an item finds one, unless another took it.
                        let held = pair.0.lock().unwrap();
                        let (mut held, result) = pair
                            .1
                            .wait_timeout_while(held, limit, |items| *items == 0)
                            .unwrap();
                        if result.timed_out() {
                            assert_eq!(*held, 0, "there was an item when the time was over");
                            timed_out.fetch_add(1, Relaxed);
                        } else {
                            *held -= 1;
                            notified.fetch_add(1, Relaxed);
                        }
                    }
                })
            })
            .collect();
        let giver = {
            let pair = pair.clone();
            go.spawn(move || {
                for round in 0..rounds {
                    *pair.0.lock().unwrap() += 1;
                    pair.1.notify_one();
                    (0..round % 4).for_each(|_| bast::task::yield_now());
                }
            })
        };
        giver.join();
        waiters.into_iter().for_each(|party| party.join());
        let left = *pair.0.lock().unwrap();
        assert_eq!(notified.load(Relaxed) + left, rounds);
        assert_eq!(notified.load(Relaxed) + timed_out.load(Relaxed), 4 * rounds);
    });
}

#[test]
fn a_timeout_around_it_bounds_the_waits_that_can_say_so() {
    on_each(|| {
        let pair = pair(false);
        let other = pair.clone();
        let ended = timeout(SHORT, || {
            let held = pair.0.lock().unwrap();
            let (held, result) = pair.1.wait_timeout(held, LONG).unwrap();
            assert!(result.timed_out());
            let waker = bast::spawn(move || {
                *other.0.lock().unwrap() = true;
                other.1.notify_one();
            });
            let held = pair.1.wait_while(held, |ready| !*ready).unwrap();
            assert!(*held);
            drop(held);
            waker.join_timeout(LONG)
        });
        drop(ended.unwrap_err().into_inner());
    });
}

#[test]
fn a_wait_sees_poison() {
    everywhere(|go| {
        let pair = pair(false);
        let other = pair.clone();
        let waiter = go.spawn(move || {
            let mut held = other.0.lock().unwrap();
            *held = true;
            let (_, result) = other.1.wait_timeout(held, LONG).unwrap_err().into_inner();
            assert!(!result.timed_out());
        });
        wait_for(|| *pair.0.lock().unwrap()); // it waits now
        let breaker = pair.clone();
        let broken = go.spawn(move || {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let _held = breaker.0.lock().unwrap();
                breaker.1.notify_all();
                panic!("while it is held");
            }));
        });
        broken.join();
        waiter.join();
        assert!(pair.0.is_poisoned());
    });
}
