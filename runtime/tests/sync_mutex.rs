//! The mutex: exclusion, fairness, time limits, poison.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::{Mutex, MutexGuard, TryLockError};
use bast::time::timeout;
use chan_util::{LONG, SHORT, everywhere, on_each, run_on, settle, wait_for};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;

#[test]
fn many_parties_count_exactly() {
    everywhere(|go| {
        let rounds = go.rounds(2_000);
        let count = Arc::new(Mutex::new(0_usize));
        let parties: Vec<_> = (0..10)
            .map(|party| {
                let count = count.clone();
                go.spawn(move || {
                    for round in 0..rounds {
                        if party % 3 == 0 {
                            // A third of them never wait for it.
                            loop {
                                match count.try_lock() {
                                    Ok(mut held) => break *held += 1,
                                    Err(TryLockError::WouldBlock) => bast::task::yield_now(),
                                    Err(TryLockError::Poisoned(_)) => panic!("nobody has panicked"),
                                }
                            }
                        } else {
                            let mut held = count.lock().unwrap();
                            let before = *held;
                            if round % 64 == party {
                                bast::task::yield_now(); // a holder may leave its processor
                            }
                            *held = before + 1;
                        }
                    }
                })
            })
            .collect();
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(*count.lock().unwrap(), 10 * rounds);
    });
}

/// Holders that park: the lock is held across sleeps, and by whoever migrates meanwhile.
#[test]
fn a_holder_may_park() {
    everywhere(|go| {
        let value = Arc::new(Mutex::new(0_usize));
        let parties: Vec<_> = (0..8)
            .map(|_| {
                let value = value.clone();
                go.spawn(move || {
                    for _ in 0..20 {
                        let mut held = value.lock().unwrap();
                        let before = *held;
                        bast::time::sleep(Duration::from_micros(20));
                        *held = before + 1;
                    }
                })
            })
            .collect();
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(*value.lock().unwrap(), 160);
    });
}

#[test]
fn try_lock_takes_what_is_free_and_nothing_else() {
    everywhere(|go| {
        let mutex = Arc::new(Mutex::new(1));
        let held = mutex.lock().unwrap();
        let tried = mutex.clone();
        let seen = go.spawn(move || matches!(tried.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(seen.join());
        drop(held);
        *mutex.try_lock().unwrap() += 1;
        assert_eq!(*mutex.lock().unwrap(), 2);
    });
}

/// Nobody else competes: each unlock is followed by the next waiter.
#[test]
fn each_waiter_gets_it_once() {
    everywhere(|go| {
        let mutex = Arc::new(Mutex::new(Vec::new()));
        let held = mutex.lock().unwrap();
        let parties: Vec<_> = (0..5)
            .map(|place| {
                let (mutex, asked) = (mutex.clone(), Arc::new(AtomicBool::new(false)));
                let asking = asked.clone();
                let party = go.spawn(move || {
                    asking.store(true, Release);
                    mutex.lock().unwrap().push(place);
                });
                wait_for(|| asked.load(Acquire));
                (0..3).for_each(|_| settle()); // it queues
                party
            })
            .collect();
        drop(held);
        parties.into_iter().for_each(|party| party.join());
        let mut order = mutex.lock().unwrap().clone();
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4], "each came once");
    });
}

/// A party that takes the lock again as soon as it has freed it does not starve another.
#[test]
fn a_hog_lets_others_in() {
    everywhere(|go| {
        let mutex = Arc::new(Mutex::new(0_usize));
        let over = Arc::new(AtomicBool::new(false));
        let (hogged, stop) = (mutex.clone(), over.clone());
        let hog = go.spawn(move || {
            while !stop.load(Relaxed) {
                let held = hogged.lock().unwrap();
                let until = std::time::Instant::now() + Duration::from_micros(100);
                while std::time::Instant::now() < until {
                    std::hint::spin_loop();
                }
                drop(held);
            }
        });
        let mutex = mutex.clone();
        let modest = go.spawn(move || {
            for _ in 0..10 {
                bast::time::sleep(Duration::from_micros(100));
                *mutex.lock().unwrap() += 1;
            }
        });
        modest.join();
        over.store(true, Relaxed);
        hog.join();
    });
}

/// Many that wait longer than the limit for a hand-over, so that locks are handed over, given up and competed for.
#[test]
fn starving_parties_count_exactly() {
    everywhere(|go| {
        let rounds = go.rounds(100);
        let count = Arc::new(Mutex::new(0_usize));
        let parties: Vec<_> = (0..8)
            .map(|party| {
                let count = count.clone();
                go.spawn(move || {
                    let mut got = 0;
                    for round in 0..rounds {
                        if party % 2 == 0 {
                            let mut held = count.lock().unwrap();
                            *held += 1;
                            got += 1;
                            if round % 8 == 0 {
                                bast::time::sleep(Duration::from_micros(300));
                            }
                        } else if let Ok(mut held) = count.lock_timeout(Duration::from_micros(700)) {
                            *held += 1;
                            got += 1;
                        }
                    }
                    got
                })
            })
            .collect();
        let got: usize = parties.into_iter().map(|party| party.join()).sum();
        assert_eq!(*count.lock().unwrap(), got);
        assert!(count.try_lock().is_ok(), "nobody left it locked");
    });
}

#[test]
fn a_time_limit_ends_the_wait() {
    everywhere(|go| {
        let mutex = Arc::new(Mutex::new(()));
        let held = mutex.lock().unwrap();
        let waiting = mutex.clone();
        let late = go.spawn(move || matches!(waiting.lock_timeout(SHORT), Err(TryLockError::WouldBlock)));
        assert!(late.join(), "the lock is held, so the time runs out");
        assert!(matches!(
            mutex.lock_timeout(Duration::ZERO),
            Err(TryLockError::WouldBlock)
        ));
        let waiting = mutex.clone();
        let in_time = go.spawn(move || waiting.lock_timeout(LONG).is_ok());
        settle();
        drop(held);
        assert!(in_time.join());
        assert!(
            mutex.lock_timeout(Duration::ZERO).is_ok(),
            "a free lock needs no time"
        );
    });
}

/// Time limits that end at about the moment of the unlock.
#[test]
fn time_limits_race_with_unlocks() {
    everywhere(|go| {
        let mutex = Arc::new(Mutex::new(0_usize));
        let rounds = go.rounds(300);
        let parties: Vec<_> = (0..6_u32)
            .map(|party| {
                let mutex = mutex.clone();
                go.spawn(move || {
                    let mut got = 0;
                    for round in 0..rounds as u32 {
                        let limit = Duration::from_micros(u64::from((round * 7 + party * 13) % 60));
                        if let Ok(mut held) = mutex.lock_timeout(limit) {
                            *held += 1;
                            got += 1;
                            (0..(round % 5)).for_each(|_| bast::task::yield_now());
                        }
                    }
                    got
                })
            })
            .collect();
        let got: usize = parties.into_iter().map(|party| party.join()).sum();
        assert_eq!(*mutex.try_lock().unwrap(), got);
    });
}

/// `lock` cannot say that it failed, so it waits on; `lock_timeout` can.
#[test]
fn a_timeout_around_it_bounds_lock_timeout_only() {
    on_each(|| {
        let mutex = Arc::new(Mutex::new(0));
        let (other, free) = (mutex.clone(), Arc::new(AtomicBool::new(false)));
        let (held, freed) = (Arc::new(AtomicBool::new(false)), free.clone());
        let holds = held.clone();
        let holder = bast::spawn(move || {
            let mut guard = other.lock().unwrap();
            holds.store(true, Release);
            wait_for(|| freed.load(Acquire));
            *guard = 7;
        });
        wait_for(|| held.load(Acquire));
        let ended = timeout(SHORT, || {
            assert!(matches!(mutex.lock_timeout(LONG), Err(TryLockError::WouldBlock)));
            free.store(true, Release);
            *mutex.lock().unwrap()
        });
        assert_eq!(ended.unwrap_err().into_inner(), 7, "it waited for the holder");
        holder.join().unwrap();
    });
}

#[test]
fn a_panic_poisons_until_it_is_cleared() {
    everywhere(|go| {
        let mutex = Arc::new(Mutex::new(1));
        let other = mutex.clone();
        let caught = go.spawn(move || {
            catch_unwind(AssertUnwindSafe(|| {
                let mut held = other.lock().unwrap();
                *held = 2;
                panic!("while it is held");
            }))
            .is_err()
        });
        assert!(caught.join());
        assert!(mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap_err().into_inner(), 2);
        assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
        assert!(matches!(mutex.lock_timeout(LONG), Err(TryLockError::Poisoned(_))));
        assert!(format!("{mutex:?}").contains("poisoned: true"));
        mutex.clear_poison();
        assert!(!mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap(), 2);
    });
}

/// A panic that ends a task, with a guard on its stack, while others wait for it.
#[test]
fn waiters_get_a_poisoned_lock() {
    on_each(|| {
        let mutex = Arc::new(Mutex::new(()));
        let (other, held) = (mutex.clone(), Arc::new(AtomicBool::new(false)));
        let holds = held.clone();
        let broken = bast::spawn(move || {
            let _held = other.lock().unwrap();
            holds.store(true, Release);
            settle();
            panic!("with the lock");
        });
        wait_for(|| held.load(Acquire));
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let mutex = mutex.clone();
                bast::spawn(move || mutex.lock().is_err())
            })
            .collect();
        assert!(broken.join().is_err());
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    });
}

/// Taken and given back while a panic goes by: it says nothing about the value.
#[test]
fn a_lock_taken_while_panicking_is_not_poisoned() {
    struct Locks<'a>(&'a Mutex<usize>, usize);
    impl Drop for Locks<'_> {
        fn drop(&mut self) {
            for _ in 0..self.1 {
                *self.0.lock().unwrap() += 1;
                bast::task::yield_now();
            }
        }
    }
    on_each(|| {
        let mutex = Arc::new(Mutex::new(0));
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let mutex = mutex.clone();
                bast::spawn(move || {
                    // Contended, so a task that panics waits.
                    let _locks = Locks(&mutex, 50);
                    panic!("on purpose");
                })
            })
            .collect();
        let others: Vec<_> = (0..4)
            .map(|_| {
                let mutex = mutex.clone();
                bast::spawn(move || {
                    for _ in 0..50 {
                        let mut held = mutex.lock().unwrap();
                        bast::task::yield_now();
                        *held += 1;
                    }
                })
            })
            .collect();
        assert!(
            tasks
                .into_iter()
                .all(|task: bast::JoinHandle<()>| task.join().is_err())
        );
        others.into_iter().for_each(|task| task.join().unwrap());
        assert!(!mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap(), 400);
    });
}

/// A guard is no thread's: another task may be given it and free the lock.
#[test]
fn a_guard_moves_to_another_task() {
    static MUTEX: Mutex<u32> = Mutex::new(0);
    run_on(2, || {
        let guard: MutexGuard<'static, u32> = MUTEX.lock().unwrap();
        let other = bast::spawn(move || {
            let mut guard = guard;
            *guard += 1;
        });
        other.join().unwrap();
        assert_eq!(*MUTEX.try_lock().unwrap(), 1);
        let guard = MUTEX.lock().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || drop(guard));
        });
        assert!(MUTEX.try_lock().is_ok());
    });
}

#[test]
fn the_value_and_its_wrapping() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let mutex = Mutex::new(Counts(dropped.clone()));
    assert_eq!(dropped.load(Relaxed), 0);
    let value = mutex.into_inner().unwrap();
    assert_eq!(dropped.load(Relaxed), 0);
    drop(Mutex::from(value));
    assert_eq!(dropped.load(Relaxed), 1);

    let mut mutex: Mutex<i32> = Mutex::default();
    *mutex.get_mut().unwrap() = 10;
    assert_eq!(format!("{mutex:?}"), "Mutex { data: 10, poisoned: false, .. }");
    let held = mutex.lock().unwrap();
    assert_eq!(format!("{held} {held:?}"), "10 10");
    assert_eq!(
        format!("{mutex:?}"),
        "Mutex { data: <locked>, poisoned: false, .. }"
    );
    drop(held);

    let whole = Mutex::new([1, 2, 3]);
    let unsized_value: &Mutex<[i32]> = &whole;
    unsized_value
        .lock()
        .unwrap()
        .iter_mut()
        .for_each(|item| *item += 1);
    assert_eq!(whole.into_inner().unwrap(), [2, 3, 4]);

    let mut poisoned = Mutex::new(1);
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _held = poisoned.lock().unwrap();
        panic!("on purpose");
    }));
    assert_eq!(*poisoned.get_mut().unwrap_err().into_inner(), 1);
    assert_eq!(poisoned.into_inner().unwrap_err().into_inner(), 1);
}
