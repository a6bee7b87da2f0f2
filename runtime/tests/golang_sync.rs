//! What Go's tests of package `sync` pin down (`mutex_test`, `rwmutex_test`, `cond_test`, `waitgroup_test`, `once_test`,
//! `runtime/sema_test`), beyond the files `sync_*.rs`. Written anew.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::channel::{bounded, rendezvous};
use bast::sync::{Condvar, LazyLock, Mutex, Once, RwLock, Semaphore, TryLockError, WaitGroup};
use chan_util::{everywhere, on_each, run_on, settle, wait_for};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Readers hold it all at once, whatever the number of processors and readers.
#[test]
fn parallel_readers() {
    for (processors, readers) in [(1, 4), (3, 4), (4, 10)] {
        run_on(processors, || {
            let lock = Arc::new(RwLock::new(()));
            let (say, said) = rendezvous();
            let (end, ended) = rendezvous::<()>();
            let tasks: Vec<_> = (0..readers)
                .map(|_| {
                    let (lock, say, ended) = (lock.clone(), say.clone(), ended.clone());
                    bast::spawn(move || {
                        let _held = lock.read().unwrap();
                        say.send(()).unwrap();
                        assert!(ended.recv().is_err());
                    })
                })
                .collect();
            (0..readers).for_each(|_| said.recv().unwrap());
            assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
            drop(end);
            tasks.into_iter().for_each(|task| task.join().unwrap());
            assert!(lock.try_write().is_ok());
        });
    }
}

/// Writers and readers in every number, on several numbers of processors: writers alone, with the count as a witness.
#[test]
fn hammered() {
    for processors in [1, 4, 10] {
        for readers in [1, 3, 10] {
            run_on(processors, || {
                let lock = Arc::new((RwLock::new(()), AtomicI32::new(0)));
                let mut tasks = Vec::new();
                for party in 0..readers + 2 {
                    let lock = lock.clone();
                    tasks.push(bast::spawn(move || {
                        for n in 0..50 {
                            if party < 2 {
                                let held = if n % 2 == 0 { lock.0.try_write().ok() } else { None };
                                let _held = held.unwrap_or_else(|| lock.0.write().unwrap());
                                assert_eq!(lock.1.fetch_add(10_000, SeqCst), 0, "a writer is alone");
                                bast::task::yield_now();
                                lock.1.fetch_sub(10_000, SeqCst);
                            } else {
                                let held = if n % 2 == 0 { lock.0.try_read().ok() } else { None };
                                let _held = held.unwrap_or_else(|| lock.0.read().unwrap());
                                let before = lock.1.fetch_add(1, SeqCst);
                                assert!((0..readers).contains(&before), "{before}");
                                bast::task::yield_now();
                                lock.1.fetch_sub(1, SeqCst);
                            }
                        }
                    }));
                }
                tasks.into_iter().for_each(|task| task.join().unwrap());
            });
        }
    }
}

/// Once somebody has starved, the lock goes to all who wait in the order in which they came, also to the one who was
/// woken before and lost; whoever frees it and asks again comes after all of them.
#[test]
fn a_starved_mutex_goes_round_in_order() {
    const WAITERS: usize = 8;
    // Nobody outside can see who is queued. So it is tried until the order of coming is certain to have been that of
    // queueing: an order that is not kept does not come out by chance.
    everywhere(|go| {
        let in_order = (0..10).any(|_| {
            let mutex = Arc::new(Mutex::new(Vec::new()));
            let held = mutex.lock().unwrap();
            let waiters: Vec<_> = (0..WAITERS)
                .map(|place| {
                    let (mutex, coming) = (mutex.clone(), Arc::new(AtomicBool::new(false)));
                    let comes = coming.clone();
                    let waiter = go.spawn(move || {
                        comes.store(true, SeqCst);
                        mutex.lock().unwrap().push(place);
                    });
                    wait_for(|| coming.load(SeqCst));
                    settle(); // it queues
                    waiter
                })
                .collect();
            settle(); // the last one starves as well
            drop(held);
            // The first is woken, and loses, because the lock is taken again at once.
            let taken = mutex.try_lock();
            let lost = taken.is_ok();
            settle();
            drop(taken);
            // From here on it is handed on, and we are the last in the queue.
            let order = mutex.lock().unwrap().clone();
            waiters.into_iter().for_each(|waiter| waiter.join());
            assert_eq!(mutex.lock().unwrap().len(), WAITERS, "each came once");
            lost && order.iter().copied().eq(0..WAITERS)
        });
        assert!(in_order, "never in order in ten attempts");
    });
}

/// A task that is handed the lock again and again does not starve the one that asks now and then.
#[test]
fn a_mutex_is_fair_to_one_who_sleeps() {
    everywhere(|go| {
        let (mutex, stop) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
        let (theirs, stopped) = (mutex.clone(), stop.clone());
        let rounds = Arc::new(AtomicUsize::new(0));
        let counted = rounds.clone();
        let hog = go.spawn(move || {
            while !stopped.load(SeqCst) {
                let held = theirs.lock().unwrap();
                bast::time::sleep(Duration::from_micros(100));
                drop(held);
                counted.fetch_add(1, SeqCst);
            }
        });
        wait_for(|| rounds.load(SeqCst) > 0);
        for _ in 0..10 {
            bast::time::sleep(Duration::from_micros(100));
            drop(mutex.lock().unwrap());
        }
        stop.store(true, SeqCst);
        hog.join();
    });
}

/// A notification wakes one that waits by then, not one that comes later and could have taken its place.
#[test]
fn a_wake_up_is_not_stolen() {
    everywhere(|go| {
        for round in 0..go.rounds(100) {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            // One waits.
            let (waits, waiting) = bounded(1);
            let theirs = shared.clone();
            let first = go.spawn(move || {
                let held = theirs.0.lock().unwrap();
                waits.send(()).unwrap(); // the lock is held until it waits
                drop(theirs.1.wait(held).unwrap());
            });
            waiting.recv().unwrap();
            drop(shared.0.lock().unwrap());
            // It is notified; then another waits for something else.
            shared.1.notify_one();
            let theirs = shared.clone();
            let second = go.spawn(move || {
                let held = theirs.0.lock().unwrap();
                drop(theirs.1.wait_while(held, |done| !*done).unwrap());
            });
            first.join(); // hangs if the second took its notification
            *shared.0.lock().unwrap() = true;
            shared.1.notify_all();
            second.join();
            assert!(*shared.0.lock().unwrap(), "round {round}");
        }
    });
}

/// Three parties hand a number on by one condition.
#[test]
fn three_parties_and_one_condition() {
    everywhere(|go| {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let steps: [(u32, u32); 3] = [(0, 1), (1, 2), (2, 3)];
        let parties: Vec<_> = steps
            .into_iter()
            .rev()
            .map(|(from, to)| {
                let shared = shared.clone();
                go.spawn(move || {
                    let mut held = shared.0.lock().unwrap();
                    while *held != from {
                        held = shared.1.wait(held).unwrap();
                    }
                    *held = to;
                    shared.1.notify_all();
                })
            })
            .collect();
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(*shared.0.lock().unwrap(), 3);
    });
}

/// The waiters of one count and those of the next, with no pause in between.
#[test]
fn wait_groups_one_after_the_other() {
    everywhere(|go| {
        let (one, two) = (Arc::new(WaitGroup::new()), Arc::new(WaitGroup::new()));
        for _ in 0..go.rounds(60) {
            const PARTIES: usize = 8;
            one.add(PARTIES);
            two.add(PARTIES);
            let left = Arc::new(AtomicUsize::new(0));
            let parties: Vec<_> = (0..PARTIES)
                .map(|_| {
                    let (one, two, left) = (one.clone(), two.clone(), left.clone());
                    go.spawn(move || {
                        one.done();
                        two.wait();
                        left.fetch_add(1, SeqCst);
                    })
                })
                .collect();
            one.wait();
            for _ in 0..PARTIES {
                assert_eq!(left.load(SeqCst), 0, "two is not done");
                two.done();
            }
            parties.into_iter().for_each(|party| party.join());
            assert_eq!((one.count(), two.count()), (0, 0));
        }
    });
}

/// A wait returns after all that was counted, and sees it, however the parties race.
#[test]
fn a_wait_races_with_the_last() {
    everywhere(|go| {
        for _ in 0..go.rounds(300) {
            let (group, done) = (Arc::new(WaitGroup::new()), Arc::new(AtomicUsize::new(0)));
            for _ in 0..2 {
                let (member, done) = (group.member(), done.clone());
                drop(go.spawn(move || {
                    done.fetch_add(1, SeqCst);
                    drop(member);
                }));
            }
            group.wait();
            assert_eq!(done.load(SeqCst), 2);
        }
    });
}

#[test]
fn a_count_below_zero_is_refused() {
    everywhere(|_| {
        let group = WaitGroup::new();
        group.add(1);
        group.done();
        assert!(catch_unwind(AssertUnwindSafe(|| group.done())).is_err());
        group.add(1); // and it can be used on
        assert_eq!(group.count(), 1);
        group.done();
        group.wait();
    });
}

/// A member whose task panics is done as well: nobody waits for it for ever.
#[test]
fn a_member_that_panics_is_done() {
    on_each(|| {
        let group = Arc::new(WaitGroup::new());
        let tasks: Vec<bast::JoinHandle<()>> = (0..5)
            .map(|n| {
                let member = group.member();
                bast::spawn(move || {
                    let _member = member;
                    assert!(n % 2 == 0, "on purpose");
                })
            })
            .collect();
        group.wait();
        let failed = tasks.into_iter().map(|task| task.join().is_err());
        assert_eq!(failed.filter(|failed| *failed).count(), 2);
    });
}

/// The first call counts, also if it panics: unlike Go's the others say so.
#[test]
fn once_and_what_a_panic_means() {
    everywhere(|go| {
        let shared = Arc::new((Once::new(), AtomicUsize::new(0)));
        let crowd: Vec<_> = (0..10)
            .map(|_| {
                let shared = shared.clone();
                go.spawn(move || {
                    catch_unwind(AssertUnwindSafe(|| {
                        shared.0.call_once(|| {
                            shared.1.fetch_add(1, SeqCst);
                            panic!("on purpose");
                        });
                    }))
                    .is_err()
                })
            })
            .collect();
        assert!(crowd.into_iter().all(|one| one.join()), "all are told");
        assert_eq!(shared.1.load(SeqCst), 1, "it ran once");
        // A value that is made once repeats its panic, as Go's OnceValue does.
        let lazy: LazyLock<u32> = LazyLock::new(|| panic!("on purpose"));
        for _ in 0..2 {
            assert!(catch_unwind(AssertUnwindSafe(|| *lazy)).is_err());
        }
    });
}

/// Permits as a lock: whoever has the one permit is alone; tries in between.
#[test]
fn a_semaphore_of_one() {
    everywhere(|go| {
        let shared = Arc::new((Semaphore::new(1), AtomicUsize::new(0)));
        let rounds = go.rounds(1_000);
        let crowd: Vec<_> = (0..10)
            .map(|party| {
                let shared = shared.clone();
                go.spawn(move || {
                    for _ in 0..rounds {
                        let tried = if party % 3 == 0 {
                            shared.0.try_acquire()
                        } else {
                            None
                        };
                        let _permit = tried.unwrap_or_else(|| shared.0.acquire());
                        assert_eq!(shared.1.fetch_add(1, SeqCst), 0);
                        shared.1.fetch_sub(1, SeqCst);
                    }
                })
            })
            .collect();
        crowd.into_iter().for_each(|one| one.join());
        assert_eq!(shared.0.available_permits(), 1);
    });
}
