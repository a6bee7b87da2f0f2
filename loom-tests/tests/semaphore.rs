//! Models of the semaphore (`runtime/src/sync/semaphore.rs`). What each proves is in the README here.
//!
//! With one permit it guards a cell: loom reports two who use it at once, and one who does not see what another did.
//! One who sleeps although its permits are there is a deadlock.
#![cfg(bast_loom)]

use bast::sync::Semaphore;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::time::Duration;

struct Guarded {
    semaphore: Semaphore,
    count: UnsafeCell<u32>,
}

// SAFETY: validity: nothing in it belongs to a thread. aliasing: loom checks every access to the cell.
unsafe impl Send for Guarded {}
// SAFETY: as for Send.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn new(permits: usize) -> Arc<Guarded> {
        Arc::new(Guarded {
            semaphore: Semaphore::new(permits),
            count: UnsafeCell::new(0),
        })
    }

    /// By whoever has all permits.
    fn add(&self) {
        // SAFETY: validity: a live cell. aliasing: the permits exclude others; loom checks it.
        self.count.with_mut(|count| unsafe { *count += 1 });
    }
}

fn spawn(guarded: &Arc<Guarded>, f: impl FnOnce(&Guarded) + 'static) -> thread::JoinHandle<()> {
    let guarded = guarded.clone();
    thread::spawn(move || f(&guarded))
}

/// Planted: `semaphore_return_relaxed`.
#[test]
fn one_permit_excludes() {
    loom::model(|| {
        let guarded = Guarded::new(1);
        let use_it = |guarded: &Guarded| {
            let _permit = guarded.semaphore.acquire();
            guarded.add();
        };
        let others = [spawn(&guarded, use_it), spawn(&guarded, use_it)];
        use_it(&guarded);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(guarded.semaphore.available_permits(), 1);
        assert!(
            guarded.semaphore.try_acquire().is_some(),
            "nobody queues any more"
        );
    });
}

/// One wants all, two want one each: all get theirs.
#[test]
fn weights() {
    loom::model(|| {
        let guarded = Guarded::new(2);
        let heavy = spawn(&guarded, |guarded| {
            let _permits = guarded.semaphore.acquire_many(2);
            guarded.add();
        });
        let light = spawn(&guarded, |guarded| drop(guarded.semaphore.acquire()));
        drop(guarded.semaphore.acquire());
        heavy.join().unwrap();
        light.join().unwrap();
        assert!(guarded.semaphore.try_acquire_many(2).is_some());
    });
}

/// Planted: `semaphore_leave_quietly` leaves the modest one asleep behind a greedy one that has gone.
#[test]
fn a_greedy_one_gives_up() {
    loom::model(|| {
        let guarded = Guarded::new(1);
        let greedy = spawn(&guarded, |guarded| {
            let got = guarded.semaphore.acquire_many_timeout(2, Duration::ZERO);
            assert!(got.is_err(), "there are not so many");
        });
        let modest = spawn(&guarded, |guarded| drop(guarded.semaphore.acquire()));
        greedy.join().unwrap();
        modest.join().unwrap();
        assert!(guarded.semaphore.try_acquire().is_some());
    });
}

/// A permit that comes when the time is over is taken or stays.
#[test]
fn a_permit_meets_a_time_limit() {
    loom::model(|| {
        let guarded = Guarded::new(0);
        let hasty = spawn(&guarded, |guarded| {
            if let Ok(permit) = guarded.semaphore.acquire_timeout(Duration::ZERO) {
                drop(permit);
            }
        });
        guarded.semaphore.add_permits(1);
        hasty.join().unwrap();
        assert!(guarded.semaphore.try_acquire().is_some());
    });
}

/// Permits are taken away while others are served.
#[test]
fn permits_are_forgotten() {
    loom::model(|| {
        let guarded = Guarded::new(1);
        let waiting = spawn(&guarded, |guarded| {
            let got = guarded.semaphore.acquire_many_timeout(2, Duration::ZERO);
            got.into_iter().for_each(|permits| permits.forget());
        });
        let forgetful = guarded.clone();
        let forgetful = thread::spawn(move || forgetful.semaphore.forget_permits(1));
        guarded.semaphore.add_permits(1);
        waiting.join().unwrap();
        let forgotten = forgetful.join().unwrap();
        let left = guarded.semaphore.available_permits();
        assert!(forgotten + left == 2 || (forgotten, left) == (0, 0));
    });
}
