//! The read-write lock: who excludes whom, phases, time limits, poison.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use bast::time::timeout;
use chan_util::{LONG, SHORT, everywhere, on_each, run_on, settle, wait_for};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering::*};
use std::time::Duration;

fn would_block<G>(result: Result<G, TryLockError<G>>) -> bool {
    matches!(result, Err(TryLockError::WouldBlock))
}

/// Writers exclude all, readers exclude writers; the activity word would show any other company.
#[test]
fn writers_alone_readers_together() {
    everywhere(|go| {
        for readers in [1, 3, 9] {
            let rounds = go.rounds(600);
            let lock = Arc::new((RwLock::new(0_usize), AtomicIsize::new(0)));
            let writers: Vec<_> = (0..2)
                .map(|_| {
                    let lock = lock.clone();
                    go.spawn(move || {
                        for round in 0..rounds {
                            let mut held = lock.0.write().unwrap();
                            assert_eq!(lock.1.fetch_sub(10_000, SeqCst), 0, "a writer has company");
                            *held += 1;
                            if round % 16 == 0 {
                                bast::task::yield_now();
                            }
                            assert_eq!(lock.1.fetch_add(10_000, SeqCst), -10_000, "a writer has company");
                        }
                    })
                })
                .collect();
            let readers: Vec<_> = (0..readers)
                .map(|_| {
                    let lock = lock.clone();
                    go.spawn(move || {
                        for round in 0..rounds {
                            let held = lock.0.read().unwrap();
                            assert!(lock.1.fetch_add(1, SeqCst) >= 0, "a reader beside a writer");
                            let before = *held;
                            if round % 16 == 0 {
                                bast::task::yield_now();
                            }
                            assert_eq!(*held, before);
                            assert!(lock.1.fetch_sub(1, SeqCst) >= 1, "a reader beside a writer");
                        }
                    })
                })
                .collect();
            writers.into_iter().chain(readers).for_each(|party| party.join());
            assert_eq!(*lock.0.read().unwrap(), 2 * rounds);
        }
    });
}

/// All of them hold it at the same time, or this hangs.
#[test]
fn readers_meet() {
    everywhere(|go| {
        let lock = Arc::new((RwLock::new(()), AtomicUsize::new(0)));
        let readers: Vec<_> = (0..6)
            .map(|_| {
                let lock = lock.clone();
                go.spawn(move || {
                    let _held = lock.0.read().unwrap();
                    lock.1.fetch_add(1, SeqCst);
                    wait_for(|| lock.1.load(SeqCst) == 6);
                })
            })
            .collect();
        readers.into_iter().for_each(|party| party.join());
    });
}

#[test]
fn tries_in_each_state() {
    everywhere(|_| {
        let lock = RwLock::new(1);
        {
            let _one = lock.try_read().unwrap();
            let _two = lock.try_read().unwrap();
            assert!(would_block(lock.try_write()));
        }
        {
            let _writer = lock.try_write().unwrap();
            assert!(would_block(lock.try_read()));
            assert!(would_block(lock.try_write()));
        }
        *lock.try_write().unwrap() += 1;
        assert_eq!(*lock.try_read().unwrap(), 2);
    });
}

/// Readers that overlap for ever would starve a writer, if they were let in while it waits.
#[test]
fn readers_do_not_starve_a_writer() {
    everywhere(|go| {
        let lock = Arc::new(RwLock::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (lock, over) = (lock.clone(), over.clone());
                go.spawn(move || {
                    while !over.load(Relaxed) {
                        let held = lock.read().unwrap();
                        bast::time::sleep(Duration::from_micros(100)); // so that they overlap
                        drop(held);
                    }
                })
            })
            .collect();
        let writer = {
            let lock = lock.clone();
            go.spawn(move || (0..20).for_each(|_| *lock.write().unwrap() += 1))
        };
        writer.join();
        over.store(true, Relaxed);
        readers.into_iter().for_each(|party| party.join());
        assert_eq!(*lock.read().unwrap(), 20);
    });
}

/// And the other way round.
#[test]
fn writers_do_not_starve_a_reader() {
    everywhere(|go| {
        let lock = Arc::new(RwLock::new(0_usize));
        let over = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let (lock, over) = (lock.clone(), over.clone());
                go.spawn(move || {
                    while !over.load(Relaxed) {
                        *lock.write().unwrap() += 1;
                    }
                })
            })
            .collect();
        let reader = go.spawn(move || {
            for _ in 0..20 {
                drop(lock.read().unwrap());
                bast::task::yield_now();
            }
        });
        reader.join();
        over.store(true, Relaxed);
        writers.into_iter().for_each(|party| party.join());
    });
}

/// A writer waits, so readers that come queue behind it; when it gives up they go at once, though a reader still holds it.
#[test]
fn readers_behind_a_writer_that_gives_up() {
    everywhere(|go| {
        let lock = Arc::new(RwLock::new(()));
        let held = lock.read().unwrap();
        let (waiting, gone) = (lock.clone(), Arc::new(AtomicBool::new(false)));
        let leaves = gone.clone();
        let writer = go.spawn(move || {
            let late = would_block(waiting.write_timeout(Duration::from_millis(50)));
            leaves.store(true, Release);
            late
        });
        // It queues, and readers do not get in now. (On a slow machine it has left again already.)
        wait_for(|| would_block(lock.try_read()) || gone.load(Acquire));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let lock = lock.clone();
                go.spawn(move || drop(lock.read().unwrap()))
            })
            .collect();
        assert!(writer.join());
        readers.into_iter().for_each(|party| party.join());
        drop(held);
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_time_limit_ends_the_wait() {
    everywhere(|go| {
        let lock = Arc::new(RwLock::new(0));
        let held = lock.write().unwrap();
        let late: Vec<_> = (0..4)
            .map(|party| {
                let lock = lock.clone();
                go.spawn(move || match party % 2 {
                    0 => would_block(lock.read_timeout(SHORT)),
                    _ => would_block(lock.write_timeout(SHORT)),
                })
            })
            .collect();
        assert!(late.into_iter().all(|party| party.join()));
        let in_time: Vec<_> = (0..4)
            .map(|party| {
                let lock = lock.clone();
                go.spawn(move || match party % 2 {
                    0 => lock.read_timeout(LONG).is_ok(),
                    _ => lock.write_timeout(LONG).is_ok(),
                })
            })
            .collect();
        settle();
        drop(held);
        assert!(in_time.into_iter().all(|party| party.join()));
        assert!(lock.read_timeout(Duration::ZERO).is_ok());
        assert!(lock.write_timeout(Duration::ZERO).is_ok());
    });
}

#[test]
fn time_limits_race_with_unlocks() {
    everywhere(|go| {
        let lock = Arc::new(RwLock::new(0_usize));
        let rounds = go.rounds(300);
        let parties: Vec<_> = (0..6_u32)
            .map(|party| {
                let lock = lock.clone();
                go.spawn(move || {
                    let mut written = 0;
                    for round in 0..rounds as u32 {
                        let limit = Duration::from_micros(u64::from((round * 7 + party * 13) % 60));
                        if party % 3 == 0 {
                            if let Ok(mut held) = lock.write_timeout(limit) {
                                *held += 1;
                                written += 1;
                                (0..round % 5).for_each(|_| bast::task::yield_now());
                            }
                        } else if let Ok(held) = lock.read_timeout(limit) {
                            let before = *held;
                            (0..round % 5).for_each(|_| bast::task::yield_now());
                            assert_eq!(*held, before);
                        }
                    }
                    written
                })
            })
            .collect();
        let written: usize = parties.into_iter().map(|party| party.join()).sum();
        assert_eq!(*lock.try_write().unwrap(), written, "and nobody left it locked");
    });
}

#[test]
fn a_timeout_around_it_bounds_the_calls_that_can_say_so() {
    on_each(|| {
        let lock = Arc::new(RwLock::new(0));
        let (other, held, free) = (
            lock.clone(),
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (holds, freed) = (held.clone(), free.clone());
        let holder = bast::spawn(move || {
            let mut guard = other.write().unwrap();
            holds.store(true, Release);
            wait_for(|| freed.load(Acquire));
            *guard = 7;
        });
        wait_for(|| held.load(Acquire));
        let ended = timeout(SHORT, || {
            assert!(would_block(lock.read_timeout(LONG)));
            assert!(would_block(lock.write_timeout(LONG)));
            free.store(true, Release);
            *lock.read().unwrap()
        });
        assert_eq!(ended.unwrap_err().into_inner(), 7);
        holder.join().unwrap();
    });
}

/// From writer to reader without a writer in between; readers that waited come in beside it.
#[test]
fn a_writer_becomes_a_reader() {
    everywhere(|go| {
        let lock = Arc::new((RwLock::new(0_usize), AtomicUsize::new(0)));
        let mut held = lock.0.write().unwrap();
        *held = 5;
        let others: Vec<_> = (0..4)
            .map(|party| {
                let lock = lock.clone();
                go.spawn(move || {
                    if party == 0 {
                        *lock.0.write().unwrap() += 1;
                    } else {
                        let held = lock.0.read().unwrap();
                        assert!((5..=6).contains(&*held));
                        lock.1.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        settle();
        let held = RwLockWriteGuard::downgrade(held);
        assert!(would_block(lock.0.try_write()));
        for _ in 0..10 {
            assert_eq!(*held, 5, "no writer got in between");
            settle();
        }
        drop(held);
        others.into_iter().for_each(|party| party.join());
        assert_eq!((*lock.0.read().unwrap(), lock.1.load(SeqCst)), (6, 3));
        // And with nobody waiting.
        let held = RwLockWriteGuard::downgrade(lock.0.write().unwrap());
        assert!(lock.0.try_read().is_ok());
        drop(held);
        assert!(lock.0.try_write().is_ok());
    });
}

#[test]
fn a_writer_that_panics_poisons_and_a_reader_does_not() {
    everywhere(|go| {
        let lock = Arc::new(RwLock::new(1));
        for write in [false, true] {
            let other = lock.clone();
            let caught = go.spawn(move || {
                catch_unwind(AssertUnwindSafe(|| {
                    if write {
                        let mut held = other.write().unwrap();
                        *held = 2;
                        panic!("while writing");
                    }
                    let _held = other.read().unwrap();
                    panic!("while reading");
                }))
                .is_err()
            });
            assert!(caught.join());
            assert_eq!(lock.is_poisoned(), write);
        }
        assert!(lock.is_poisoned());
        assert_eq!(*lock.read().unwrap_err().into_inner(), 2);
        assert!(lock.write().is_err());
        assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
        assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
        lock.clear_poison();
        assert!(lock.read().is_ok() && lock.write().is_ok());
    });
}

#[test]
fn guards_move_to_other_tasks() {
    static LOCK: RwLock<u32> = RwLock::new(0);
    run_on(2, || {
        let writer: RwLockWriteGuard<'static, u32> = LOCK.write().unwrap();
        bast::spawn(move || {
            let mut writer = writer;
            *writer += 1;
        })
        .join()
        .unwrap();
        let reader: RwLockReadGuard<'static, u32> = LOCK.read().unwrap();
        bast::spawn(move || assert_eq!(*reader, 1)).join().unwrap();
        assert!(LOCK.try_write().is_ok());
    });
}

#[test]
fn the_value_and_its_wrapping() {
    let mut lock: RwLock<i32> = RwLock::from(1);
    *lock.get_mut().unwrap() = 2;
    assert_eq!(format!("{lock:?}"), "RwLock { data: 2, poisoned: false, .. }");
    let held = lock.write().unwrap();
    assert_eq!(
        format!("{lock:?} {held} {held:?}"),
        "RwLock { data: <locked>, poisoned: false, .. } 2 2"
    );
    drop(held);
    let held = lock.read().unwrap();
    assert_eq!(
        format!("{lock:?} {held} {held:?}"),
        "RwLock { data: 2, poisoned: false, .. } 2 2"
    );
    drop(held);
    assert_eq!(lock.into_inner().unwrap(), 2);
    let whole = RwLock::new([1, 2, 3]);
    let unsized_value: &RwLock<[i32]> = &whole;
    unsized_value.write().unwrap()[0] = 4;
    assert_eq!(*whole.read().unwrap(), [4, 2, 3]);
    assert_eq!(*RwLock::<u8>::default().read().unwrap(), 0);
}
