//! Models of the wait group (`runtime/src/sync/wait_group.rs`). What each proves is in the README here.
//!
//! What is done is a write to a cell that loom guards: it reports a waiter that left too early. One that never leaves is a
//! deadlock.
#![cfg(bast_loom)]

use bast::sync::WaitGroup;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::time::Duration;

struct Work {
    group: WaitGroup,
    done: [UnsafeCell<bool>; 2],
}

// SAFETY: validity: nothing in it belongs to a thread. aliasing: loom checks every access to the cells.
unsafe impl Send for Work {}
// SAFETY: as for Send.
unsafe impl Sync for Work {}

impl Work {
    fn new() -> Arc<Work> {
        Arc::new(Work {
            group: WaitGroup::new(),
            done: [UnsafeCell::new(false), UnsafeCell::new(false)],
        })
    }

    fn begin(work: &Arc<Work>, piece: usize) -> thread::JoinHandle<()> {
        work.group.add(1);
        let work = work.clone();
        thread::spawn(move || {
            // SAFETY: validity: a live cell. aliasing: nobody reads before it is done; loom checks it.
            work.done[piece].with_mut(|done| unsafe { *done = true });
            work.group.done();
        })
    }

    fn is_done(&self, piece: usize) -> bool {
        // SAFETY: validity: a live cell. aliasing: written before `done`; loom checks it.
        self.done[piece].with(|done| unsafe { *done })
    }
}

/// Planted: `wait_group_look_relaxed`.
#[test]
fn a_wait_sees_what_was_done() {
    loom::model(|| {
        let work = Work::new();
        let workers = [Work::begin(&work, 0), Work::begin(&work, 1)];
        work.group.wait();
        assert!(work.is_done(0) && work.is_done(1));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn two_wait() {
    loom::model(|| {
        let work = Work::new();
        let worker = Work::begin(&work, 0);
        let other = work.clone();
        let other = thread::spawn(move || {
            other.group.wait();
            assert!(other.is_done(0));
        });
        work.group.wait();
        assert!(work.is_done(0));
        worker.join().unwrap();
        other.join().unwrap();
    });
}

/// Planted: `wait_group_zero_unlocked` wakes, for the first use's end, who waits for the second's.
#[test]
fn it_is_used_again_at_once() {
    loom::model(|| {
        let work = Work::new();
        let first = Work::begin(&work, 0);
        let other = work.clone();
        let other = thread::spawn(move || other.group.wait()); // still on its way when the second use begins
        work.group.wait();
        let second = Work::begin(&work, 1);
        work.group.wait();
        assert!(work.is_done(0) && work.is_done(1));
        [first, second, other]
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(work.group.count(), 0);
    });
}

#[test]
fn a_wait_that_gives_up() {
    loom::model(|| {
        let work = Work::new();
        let worker = Work::begin(&work, 0);
        if work.group.wait_timeout(Duration::ZERO).is_ok() {
            assert!(work.is_done(0));
        }
        work.group.wait();
        assert!(work.is_done(0));
        worker.join().unwrap();
    });
}
