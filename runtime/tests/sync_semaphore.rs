//! The semaphore: weights, order, time limits, permits that come and go.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::{Semaphore, TimedOut};
use bast::time::timeout;
use chan_util::{LONG, SHORT, everywhere, on_each, settle, wait_for};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Never more inside than there are permits, whatever each asks for; and all come through.
#[test]
fn the_bound_holds() {
    everywhere(|go| {
        const PERMITS: usize = 5;
        let rounds = go.rounds(1_000);
        let shared = Arc::new((Semaphore::new(PERMITS), AtomicUsize::new(0)));
        let parties: Vec<_> = (0..10)
            .map(|party| {
                let shared = shared.clone();
                go.spawn(move || {
                    let weight = party % PERMITS + 1;
                    for round in 0..rounds {
                        let permit = shared.0.acquire_many(weight);
                        assert_eq!(permit.num_permits(), weight);
                        let inside = shared.1.fetch_add(weight, SeqCst) + weight;
                        assert!(inside <= PERMITS, "{inside} of {PERMITS} are used");
                        if round % 32 == party {
                            bast::task::yield_now();
                        }
                        shared.1.fetch_sub(weight, SeqCst);
                    }
                })
            })
            .collect();
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(shared.0.available_permits(), PERMITS);
    });
}

/// With one permit it is a lock.
#[test]
fn one_permit_excludes() {
    everywhere(|go| {
        let rounds = go.rounds(1_000);
        let shared = Arc::new((Semaphore::new(1), AtomicUsize::new(0)));
        let parties: Vec<_> = (0..10)
            .map(|_| {
                let shared = shared.clone();
                go.spawn(move || {
                    for _ in 0..rounds {
                        let _permit = shared.0.acquire();
                        // Not an increment: two at once would lose one.
                        shared.1.store(shared.1.load(Relaxed) + 1, Relaxed);
                    }
                })
            })
            .collect();
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(shared.1.load(Relaxed), 10 * rounds);
    });
}

#[test]
fn tries_do_not_wait_nor_overtake() {
    everywhere(|go| {
        let semaphore = Arc::new(Semaphore::new(3));
        let two = semaphore.try_acquire_many(2).unwrap();
        assert!(semaphore.try_acquire_many(2).is_none());
        // Somebody waits for more than there is: nobody who comes later gets in, though there would be enough for it.
        let (waiting, arrived) = (semaphore.clone(), Arc::new(AtomicBool::new(false)));
        let arrives = arrived.clone();
        let party = go.spawn(move || {
            arrives.store(true, Release);
            drop(waiting.acquire_many(3));
        });
        wait_for(|| arrived.load(Acquire));
        wait_for(|| semaphore.try_acquire().is_none());
        assert_eq!(semaphore.available_permits(), 1);
        drop(two);
        party.join();
        assert!(semaphore.try_acquire_many(3).is_some());
        assert!(semaphore.try_acquire_many(0).is_some());
        assert!(semaphore.try_acquire_many(4).is_none());
    });
}

/// Served in the order of coming, however much each wants.
#[test]
fn first_come_first_served() {
    everywhere(|go| {
        let semaphore = Arc::new(Semaphore::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let weights = [4, 1, 2, 1, 3];
        let parties: Vec<_> = weights
            .into_iter()
            .enumerate()
            .map(|(place, weight)| {
                let (semaphore, order) = (semaphore.clone(), order.clone());
                let asks = Arc::new(AtomicBool::new(false));
                let asking = asks.clone();
                let party = go.spawn(move || {
                    asking.store(true, Release);
                    let permit = semaphore.acquire_many(weight);
                    order.lock().unwrap().push((place, weight));
                    permit.forget();
                });
                wait_for(|| asks.load(Acquire));
                (0..3).for_each(|_| settle());
                party
            })
            .collect();
        // A permit at a time: each is served when the sum of the weights up to it is there, and not before.
        let mut given = 0;
        while given < weights.iter().sum() {
            semaphore.add_permits(1);
            given += 1;
            settle();
            let served: usize = order.lock().unwrap().iter().map(|(_, weight)| *weight).sum();
            assert!(served <= given);
        }
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(order.lock().unwrap().len(), weights.len());
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn a_time_limit_ends_the_wait() {
    everywhere(|go| {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = semaphore.acquire();
        let waiting = semaphore.clone();
        let late = go.spawn(move || waiting.acquire_timeout(SHORT).err());
        assert!(late.join().is_some());
        let waiting = semaphore.clone();
        let in_time = go.spawn(move || waiting.acquire_timeout(LONG).is_ok());
        settle();
        drop(held);
        assert!(in_time.join());
        assert!(semaphore.acquire_timeout(Duration::ZERO).is_ok());
        let error: std::io::Error = semaphore.acquire_many_timeout(2, SHORT).unwrap_err().into();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(semaphore.available_permits(), 1);
    });
}

/// One who wants much and gives up must not leave those behind it asleep who want little.
#[test]
fn those_behind_one_that_gives_up() {
    everywhere(|go| {
        let semaphore = Arc::new(Semaphore::new(2));
        let (waiting, gone) = (semaphore.clone(), Arc::new(AtomicBool::new(false)));
        let leaves = gone.clone();
        let greedy = go.spawn(move || {
            let late = waiting.acquire_many_timeout(3, Duration::from_millis(40)).err();
            leaves.store(true, Release);
            late
        });
        // It queues. (On a slow machine it has left again already.)
        wait_for(|| semaphore.try_acquire().is_none() || gone.load(Acquire));
        let modest: Vec<_> = (0..2)
            .map(|_| {
                let semaphore = semaphore.clone();
                go.spawn(move || semaphore.acquire().forget())
            })
            .collect();
        let error: Option<TimedOut> = greedy.join();
        assert!(error.is_some());
        modest.into_iter().for_each(|party| party.join());
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn time_limits_race_with_permits() {
    everywhere(|go| {
        const PERMITS: usize = 3;
        let shared = Arc::new((Semaphore::new(PERMITS), AtomicUsize::new(0)));
        let rounds = go.rounds(300);
        let parties: Vec<_> = (0..6_u32)
            .map(|party| {
                let shared = shared.clone();
                go.spawn(move || {
                    for round in 0..rounds as u32 {
                        let weight = ((party + round) % 3 + 1) as usize;
                        let limit = Duration::from_micros(u64::from((round * 7 + party * 13) % 60));
                        if let Ok(_permit) = shared.0.acquire_many_timeout(weight, limit) {
                            assert!(shared.1.fetch_add(weight, SeqCst) + weight <= PERMITS);
                            (0..round % 5).for_each(|_| bast::task::yield_now());
                            shared.1.fetch_sub(weight, SeqCst);
                        }
                    }
                })
            })
            .collect();
        parties.into_iter().for_each(|party| party.join());
        assert!(
            shared.0.try_acquire_many(PERMITS).is_some(),
            "none is lost, nobody queues"
        );
    });
}

#[test]
fn permits_come_and_go() {
    everywhere(|go| {
        let semaphore = Arc::new(Semaphore::new(2));
        assert_eq!(semaphore.forget_permits(5), 2);
        assert_eq!(semaphore.available_permits(), 0);
        let waiting = semaphore.clone();
        let party = go.spawn(move || waiting.acquire_many(4).num_permits());
        settle();
        semaphore.add_permits(3);
        settle();
        semaphore.add_permits(1);
        assert_eq!(party.join(), 4);
        assert_eq!(semaphore.available_permits(), 4);
        semaphore.acquire_many(3).forget();
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn owned_permits_go_along() {
    everywhere(|go| {
        let semaphore = Arc::new(Semaphore::new(2));
        let permit = semaphore.acquire_owned();
        let other = semaphore.try_acquire_owned().unwrap();
        assert!(semaphore.try_acquire_owned().is_none());
        go.spawn(move || drop(permit)).join();
        assert_eq!(semaphore.available_permits(), 1);
        other.forget();
        assert_eq!(semaphore.available_permits(), 1);
        drop(semaphore.acquire_many_owned(1));
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn a_timeout_around_it_bounds_the_calls_that_can_say_so() {
    on_each(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let other = semaphore.clone();
        let ended = timeout(SHORT, || {
            assert!(semaphore.acquire_timeout(LONG).is_err());
            let giver = bast::spawn(move || other.add_permits(1));
            semaphore.acquire().forget();
            giver
        });
        ended.unwrap_err().into_inner().join().unwrap();
    });
}

#[test]
fn too_many_permits_are_refused() {
    let refused = |f: fn()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    refused(|| Semaphore::new(Semaphore::MAX_PERMITS + 1).add_permits(0));
    refused(|| Semaphore::new(Semaphore::MAX_PERMITS).add_permits(1));
    let full = Semaphore::new(Semaphore::MAX_PERMITS);
    assert_eq!(
        full.acquire_many(Semaphore::MAX_PERMITS).num_permits(),
        Semaphore::MAX_PERMITS
    );
    assert_eq!(full.available_permits(), Semaphore::MAX_PERMITS);
}
