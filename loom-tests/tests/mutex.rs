//! Models of the mutex (`runtime/src/sync/raw_mutex.rs`). What each proves is in the README here.
//!
//! The value is a cell that loom guards: it reports two who use it at once, and one who does not see what another did.
//! One who sleeps beside a free lock is a deadlock, which loom reports too. Half a millisecond passes between two looks
//! at the clock, so that locks are both competed for and handed over.
#![cfg(bast_loom)]

use bast::sync::{Mutex, TryLockError};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::time::Duration;

/// A count that loom guards.
struct Count(UnsafeCell<u32>);

// SAFETY: validity: nothing in it belongs to a thread. aliasing: loom checks every access.
unsafe impl Send for Count {}

impl Count {
    fn new() -> Arc<Mutex<Count>> {
        Arc::new(Mutex::new(Count(UnsafeCell::new(0))))
    }

    fn add(&self) {
        // SAFETY: validity: a live cell. aliasing: the mutex excludes others; loom checks it.
        self.0.with_mut(|count| unsafe { *count += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: validity: a live cell. aliasing: as above.
        self.0.with(|count| unsafe { *count })
    }
}

fn add(count: &Mutex<Count>) {
    count.lock().unwrap().add();
}

fn spawn(count: &Arc<Mutex<Count>>, f: impl FnOnce(&Mutex<Count>) + 'static) -> thread::JoinHandle<()> {
    let count = count.clone();
    thread::spawn(move || f(&count))
}

/// The lock is free, and nothing of it says otherwise.
fn is_free(count: &Mutex<Count>) -> u32 {
    count.try_lock().expect("nobody holds it").get()
}

/// Planted: `mutex_free_relaxed`, `mutex_announce_unlocked`.
#[test]
fn two_exclude_each_other() {
    loom::model(|| {
        let count = Count::new();
        let other = spawn(&count, |count| {
            add(count);
            add(count);
        });
        add(&count);
        add(&count);
        other.join().unwrap();
        assert_eq!(is_free(&count), 4);
    });
}

/// Planted: `mutex_woken_kept` leaves the others asleep.
#[test]
fn three_exclude_each_other() {
    loom::model(|| {
        let count = Count::new();
        let others = [spawn(&count, add), spawn(&count, add)];
        add(&count);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(is_free(&count), 3);
    });
}

/// Somebody waits already when the competition begins, so there is one who is woken and loses. Planted:
/// `mutex_hand_over_free` (what is handed over is also free).
#[test]
fn a_woken_one_competes_with_the_running() {
    loom::model(|| {
        let count = Count::new();
        let held = count.lock().unwrap();
        let others = [spawn(&count, add), spawn(&count, add)];
        held.add();
        drop(held);
        add(&count);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(is_free(&count), 4);
    });
}

/// One whose time is over neither takes the lock along nor leaves others asleep.
#[test]
fn one_gives_up() {
    loom::model(|| {
        let count = Count::new();
        let patient = spawn(&count, add);
        let hasty = spawn(&count, |count| match count.lock_timeout(Duration::ZERO) {
            Ok(held) => held.add(),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Poisoned(_)) => panic!("nobody has panicked"),
        });
        add(&count);
        patient.join().unwrap();
        hasty.join().unwrap();
        assert!((2..=3).contains(&is_free(&count)));
    });
}

#[test]
fn a_try_succeeds_or_somebody_has_it() {
    loom::model(|| {
        let count = Count::new();
        let trying = spawn(&count, |count| {
            if let Ok(held) = count.try_lock() {
                held.add();
            }
        });
        let waiting = spawn(&count, add);
        add(&count);
        trying.join().unwrap();
        waiting.join().unwrap();
        assert!((2..=3).contains(&is_free(&count)));
    });
}
