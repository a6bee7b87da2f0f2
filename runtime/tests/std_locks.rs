//! What std's tests of `Mutex`, `RwLock`, `Condvar`, `Once`, `OnceLock`, `LazyLock` and `Barrier` pin down, beyond the
//! files `sync_*.rs`. Written anew.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::channel::{bounded, rendezvous, unbounded};
use bast::sync::{
    Barrier, Condvar, LazyLock, Mutex, MutexGuard, Once, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
    TryLockError,
};
use chan_util::{LONG, SHORT, everywhere, settle, wait_for};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Panics while `held` lives.
fn panic_with<T>(held: T) {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _held = held;
        panic!("on purpose");
    }));
    assert!(caught.is_err());
}

// ---- Mutex and Condvar ----

/// A value of the lock travels by condition, to a thread or task and back.
#[test]
fn a_value_goes_round_by_condition() {
    everywhere(|go| {
        let shared = Arc::new((Mutex::new(0_u32), Condvar::new()));
        let theirs = shared.clone();
        let (says, said) = rendezvous();
        let other = go.spawn(move || {
            said.recv().unwrap(); // until the first one is about to wait
            *theirs.0.lock().unwrap() = 1;
            theirs.1.notify_one();
            let held = theirs.0.lock().unwrap();
            drop(theirs.1.wait_while(held, |n| *n != 2).unwrap());
        });
        let mut held = shared.0.lock().unwrap();
        says.send(()).unwrap();
        while *held != 1 {
            held = shared.1.wait(held).unwrap();
        }
        *held = 2;
        drop(held);
        shared.1.notify_all();
        other.join();
    });
}

/// A lock within the value of a lock.
#[test]
fn a_lock_in_a_lock() {
    everywhere(|go| {
        let outer = Arc::new(Mutex::new(Arc::new(Mutex::new(1))));
        let (inner, done) = (outer.clone(), unbounded());
        let other = go.spawn(move || {
            let held = inner.lock().unwrap();
            let innermost = held.lock().unwrap();
            assert_eq!(*innermost, 1);
            done.0.send(()).unwrap();
        });
        done.1.recv().unwrap();
        other.join();
        assert!(outer.try_lock().unwrap().try_lock().is_ok());
    });
}

/// Locked by what is dropped while a panic goes by: taken, and left usable, if poisoned.
#[test]
fn a_lock_taken_while_unwinding() {
    struct Unwinds(Arc<Mutex<i32>>);
    impl Drop for Unwinds {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    everywhere(|go| {
        let mutex = Arc::new(Mutex::new(1));
        let theirs = mutex.clone();
        go.spawn(move || panic_with(Unwinds(theirs))).join();
        assert_eq!(*mutex.lock().unwrap(), 2);
    });
}

/// Poison passes through every way to take the lock and to wait with it, value and all.
#[test]
fn poison_says_so_everywhere() {
    everywhere(|_| {
        let (mutex, condvar) = (Mutex::new(7), Condvar::new());
        panic_with(mutex.lock().unwrap());
        assert_eq!(*mutex.lock().unwrap_err().into_inner(), 7);
        assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(held)) if **held.get_ref() == 7));
        assert!(matches!(mutex.lock_timeout(LONG), Err(TryLockError::Poisoned(_))));
        let held = mutex.lock().unwrap_or_else(|error| error.into_inner());
        let (held, over) = condvar.wait_timeout(held, SHORT).unwrap_err().into_inner();
        assert!(over.timed_out());
        let waited = condvar.wait_timeout_while(held, SHORT, |_| true);
        let (held, over) = waited.unwrap_err().into_inner();
        assert!(over.timed_out() && *held == 7);
        drop(held);
        mutex.clear_poison();
        assert!(mutex.lock().is_ok() && !mutex.is_poisoned());
    });
}

/// `wait_while` and `wait_timeout_while`: at once, by a limit, by a wake-up; the value decides, not the notification.
#[test]
fn waiting_for_a_condition() {
    everywhere(|go| {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let held = shared
            .1
            .wait_while(shared.0.lock().unwrap(), |n| *n != 0)
            .unwrap();
        let (held, over) = shared.1.wait_timeout_while(held, LONG, |n| *n != 0).unwrap();
        assert!(!over.timed_out(), "it held at once");
        let start = Instant::now();
        let (held, over) = shared.1.wait_timeout_while(held, SHORT, |_| true).unwrap();
        assert!(over.timed_out() && start.elapsed() >= SHORT);
        let theirs = shared.clone();
        let counting = go.spawn(move || {
            for _ in 0..5 {
                // Each one wakes, but only the last one ends the wait.
                *theirs.0.lock().unwrap() += 1;
                theirs.1.notify_all();
                bast::task::yield_now();
            }
        });
        let calls = Cell::new(0);
        let (held, over) = shared
            .1
            .wait_timeout_while(held, LONG, |n| {
                calls.set(calls.get() + 1);
                *n < 5
            })
            .unwrap();
        assert_eq!((*held, over.timed_out()), (5, false));
        assert!(calls.get() >= 2);
        drop(held);
        counting.join();
    });
}

/// A limit beyond all times is none.
#[test]
fn limits_of_any_length() {
    everywhere(|go| {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = shared.clone();
        let other = go.spawn(move || {
            settle();
            *theirs.0.lock().unwrap() = true;
            theirs.1.notify_one();
        });
        let held = shared.0.lock_timeout(Duration::MAX).unwrap();
        let waited = shared.1.wait_timeout_while(held, Duration::MAX, |done| !*done);
        assert!(!waited.unwrap().1.timed_out());
        other.join();
        let lock = RwLock::new(());
        assert!(lock.read_timeout(Duration::MAX).is_ok() && lock.write_timeout(Duration::MAX).is_ok());
    });
}

// ---- RwLock ----

/// Reads and writes as dice decide, by many: writers alone, readers with readers.
#[test]
fn reads_and_writes_at_random() {
    everywhere(|go| {
        let lock = Arc::new(RwLock::new((0_u64, 0_u64)));
        let rounds = go.rounds(1_000);
        let parties: Vec<_> = (1..=8_u64)
            .map(|party| {
                let lock = lock.clone();
                go.spawn(move || {
                    let (mut x, mut writes) = (party, 0);
                    for _ in 0..rounds {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        if x.is_multiple_of(5) {
                            let mut held = lock.write().unwrap();
                            held.0 += 1;
                            if x.is_multiple_of(3) {
                                bast::task::yield_now();
                            }
                            held.1 += 1;
                            writes += 1;
                        } else {
                            let held = lock.read().unwrap();
                            assert_eq!(held.0, held.1, "a writer is at work");
                        }
                    }
                    writes
                })
            })
            .collect();
        let writes: u64 = parties.into_iter().map(|party| party.join()).sum();
        assert_eq!(*lock.read().unwrap(), (writes, writes));
    });
}

/// Only a panic with the write guard poisons; then every call says so, until it is cleared.
#[test]
fn poison_of_writers() {
    everywhere(|_| {
        let mut lock = RwLock::new(1);
        panic_with(lock.read().unwrap());
        assert!(!lock.is_poisoned());
        panic_with(lock.write().unwrap());
        assert!(lock.is_poisoned());
        assert!(matches!(lock.read_timeout(LONG), Err(TryLockError::Poisoned(_))));
        assert!(matches!(lock.write_timeout(LONG), Err(TryLockError::Poisoned(_))));
        assert_eq!(*lock.get_mut().unwrap_err().into_inner(), 1);
        lock.clear_poison();
        *lock.get_mut().unwrap() = 2;
        panic_with(lock.write().unwrap());
        assert_eq!(lock.into_inner().unwrap_err().into_inner(), 2);
    });
}

/// A writer that becomes a reader lets no other writer in between, and lets readers in at once.
#[test]
fn downgrading_is_one_step() {
    everywhere(|go| {
        let lock = Arc::new(RwLock::new(0));
        let rounds = go.rounds(200);
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let lock = lock.clone();
                go.spawn(move || {
                    for _ in 0..rounds {
                        let mut held = lock.write().unwrap();
                        *held += 1;
                        let mine = *held;
                        let held = RwLockWriteGuard::downgrade(held);
                        bast::task::yield_now();
                        assert_eq!(*held, mine, "another writer came in between");
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|one| one.join());
        assert_eq!(*lock.read().unwrap(), 4 * rounds);
        let reader = RwLockWriteGuard::downgrade(lock.write().unwrap());
        let theirs = lock.clone();
        go.spawn(move || assert!(theirs.read().is_ok() && theirs.try_write().is_err()))
            .join();
        drop(reader);
        assert!(lock.try_write().is_ok());
    });
}

/// A guard of a longer life serves for a shorter one, as std's.
#[test]
fn guards_are_covariant() {
    fn shorter<'short>(_: &'short u8, held: RwLockReadGuard<'static, &'static str>) -> &'short str {
        let held: RwLockReadGuard<'short, &'short str> = held;
        *held
    }
    static LOCK: RwLock<&str> = RwLock::new("text");
    let local = 1;
    assert_eq!(shorter(&local, LOCK.read().unwrap()), "text");
}

/// Guards can be shared where their values can, and sent, unlike std's: no lock here is a thread's.
#[test]
fn what_guards_may_do() {
    fn shared<T: Sync>() {}
    fn sent<T: Send>() {}
    shared::<MutexGuard<'_, u8>>();
    shared::<RwLockReadGuard<'_, u8>>();
    shared::<Mutex<Cell<u8>>>();
    sent::<MutexGuard<'_, u8>>();
    sent::<RwLockWriteGuard<'_, u8>>();
    sent::<Mutex<Cell<u8>>>();
}

// ---- Once, OnceLock, LazyLock, Barrier ----

/// Many at once; a poisoned one that another forces, while a third waits.
#[test]
fn once_poisoned_forced_and_waited_for() {
    everywhere(|go| {
        let once = Arc::new(Once::new());
        assert!(catch_unwind(AssertUnwindSafe(|| once.call_once(|| panic!("on purpose")))).is_err());
        assert!(
            catch_unwind(AssertUnwindSafe(|| once.call_once(|| ()))).is_err(),
            "poisoned"
        );
        assert!(
            catch_unwind(AssertUnwindSafe(|| once.wait())).is_err(),
            "poisoned"
        );
        let (theirs, (begun, began), (end, ended)) = (once.clone(), rendezvous(), rendezvous::<()>());
        let forcing = go.spawn(move || {
            theirs.call_once_force(|state| {
                assert!(state.is_poisoned());
                begun.send(()).unwrap();
                ended.recv().unwrap();
            });
        });
        began.recv().unwrap();
        let theirs = once.clone();
        let waiting = go.spawn(move || {
            let mut called = false;
            theirs.call_once(|| called = true);
            assert!(!called && theirs.is_completed());
        });
        let theirs = once.clone();
        let forced_waiting = go.spawn(move || theirs.wait_force());
        settle();
        end.send(()).unwrap();
        [forcing, waiting, forced_waiting]
            .into_iter()
            .for_each(|one| one.join());
        once.wait();
        once.call_once_force(|_| unreachable!("it is done"));
    });
}

/// A place that is filled once: by one of many, after a failure, and what is left when it goes.
#[test]
fn places_that_are_filled_once() {
    everywhere(|go| {
        for _ in 0..go.rounds(50) {
            let place = Arc::new(OnceLock::new());
            let crowd: Vec<_> = (0..6)
                .map(|id| {
                    let place = place.clone();
                    go.spawn(move || match id % 3 {
                        0 => place
                            .set(id)
                            .map_or_else(|back| back == id, |()| *place.get().unwrap() == id),
                        1 => *place.get_or_init(|| id) < 6,
                        _ => *place.wait() < 6,
                    })
                })
                .collect();
            assert!(crowd.into_iter().all(|one| one.join()));
            assert_eq!(place.set(7), Err(7));
        }
        let mut place = OnceLock::new();
        assert!(catch_unwind(AssertUnwindSafe(|| place.get_or_init(|| panic!("on purpose")))).is_err());
        assert_eq!(place.get(), None, "a maker that panics leaves it empty");
        assert_eq!(place.get_or_try_init(|| Err("no")), Err("no"));
        assert_eq!(place.get_or_try_init(|| Ok::<_, ()>(1)), Ok(&1));
        *place.get_mut().unwrap() += 1;
        assert_eq!(
            format!("{place:?} {:?}", place.clone()),
            "OnceLock(2) OnceLock(2)"
        );
        assert_eq!((place.take(), place.take()), (Some(2), None));
        assert_eq!(OnceLock::from(3).into_inner(), Some(3));
        assert_eq!(format!("{:?}", OnceLock::<u8>::new()), "OnceLock(<uninit>)");
    });
}

/// Statics that are made by whoever comes first.
#[test]
fn lazy_statics() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static LAZY: LazyLock<Vec<u32>> = LazyLock::new(|| {
        MADE.fetch_add(1, SeqCst);
        bast::time::sleep(SHORT);
        vec![1, 2, 3]
    });
    everywhere(|go| {
        let crowd: Vec<_> = (0..8).map(|_| go.spawn(|| LAZY.iter().sum::<u32>())).collect();
        assert!(crowd.into_iter().all(|one| one.join() == 6));
    });
    assert_eq!(MADE.load(SeqCst), 1);
    let dropped = Arc::new(());
    let kept = dropped.clone();
    drop(LazyLock::new(move || kept));
    assert_eq!(
        Arc::strong_count(&dropped),
        1,
        "one that was never made drops its maker"
    );
}

/// One of each round leads, and nobody is let through before all have come.
#[test]
fn one_leads_each_round() {
    everywhere(|go| {
        const PARTIES: usize = 10;
        let barrier = Arc::new(Barrier::new(PARTIES));
        let (say, said) = bounded(PARTIES);
        let crowd: Vec<_> = (1..PARTIES)
            .map(|_| {
                let (barrier, say) = (barrier.clone(), say.clone());
                go.spawn(move || {
                    for _ in 0..10 {
                        say.send(barrier.wait().is_leader()).unwrap();
                    }
                })
            })
            .collect();
        for round in 0..10 {
            settle();
            assert!(said.is_empty(), "round {round}: somebody is through");
            let mut leaders = usize::from(barrier.wait().is_leader());
            leaders += (1..PARTIES).filter(|_| said.recv().unwrap()).count();
            assert_eq!(leaders, 1, "round {round}");
        }
        crowd.into_iter().for_each(|one| one.join());
    });
}

/// A flag that is set under the lock is seen by whoever takes it next, in every mixture of calls.
#[test]
fn what_was_done_under_the_lock_is_seen() {
    everywhere(|go| {
        let (flag, lock) = (Arc::new(AtomicBool::new(false)), Arc::new(RwLock::new(())));
        let held = lock.write().unwrap();
        let crowd: Vec<_> = (0..6)
            .map(|way| {
                let (flag, lock) = (flag.clone(), lock.clone());
                go.spawn(move || {
                    let _held: (Option<_>, Option<_>) = match way % 3 {
                        0 => (Some(lock.read().unwrap()), None),
                        1 => (Some(lock.read_timeout(LONG).unwrap()), None),
                        _ => (None, Some(lock.write().unwrap())),
                    };
                    assert!(flag.load(std::sync::atomic::Ordering::Relaxed));
                })
            })
            .collect();
        settle();
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
        drop(held);
        crowd.into_iter().for_each(|one| one.join());
        wait_for(|| lock.try_write().is_ok());
    });
}
