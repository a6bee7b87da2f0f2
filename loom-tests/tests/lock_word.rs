//! Models of the lock of channels (`runtime/src/sync/lock_word.rs`). What each proves is in the README here.
//!
//! The futex is a mutex and a condition. Loom's barriers reach nobody else, so whoever unlocks runs fences; what the lock
//! guards is a cell of loom's.
#![cfg(bast_loom)]

use bast::protocol::handoff::full_barrier;
use bast::protocol::lock_word::LockWord;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

struct World {
    lock: LockWord,
    guarded: UnsafeCell<u32>,
    /// Of the kernel.
    bucket: Mutex<()>,
    woken: Condvar,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            lock: LockWord::new(true),
            guarded: UnsafeCell::new(0),
            bucket: Mutex::new(()),
            woken: Condvar::new(),
        })
    }

    fn sleep(&self, word: &AtomicU32, seen: u32) {
        let bucket = self.bucket.lock().unwrap();
        if word.load(Ordering::Relaxed) == seen {
            drop(self.woken.wait(bucket).unwrap());
        }
    }

    /// A turn without a look beforehand: who finds the lock held sleeps.
    fn turn(&self) {
        if !self.lock.try_lock() {
            self.lock
                .lock_asleep(full_barrier, |word, seen| self.sleep(word, seen));
        }
        // SAFETY: validity: ours.
        //         aliasing: loom checks it.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
        // SAFETY: it was taken above, and all of us have an `Arc`.
        unsafe {
            self.lock.unlock(|_| {
                drop(self.bucket.lock().unwrap());
                self.woken.notify_one();
            });
        }
    }

    fn taken(&self) -> u32 {
        // SAFETY: validity: ours. aliasing: loom checks it.
        self.guarded.with(|guarded| unsafe { *guarded })
    }
}

/// So many threads, the model's own among them, with so many turns each, and switches between them where they need not be.
fn crowd(turns: &'static [usize], switches: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(switches);
    model.check(move || {
        let world = World::new();
        let others: Vec<_> = turns[1..]
            .iter()
            .map(|&turns| {
                let world = world.clone();
                thread::spawn(move || (0..turns).for_each(|_| world.turn()))
            })
            .collect();
        (0..turns[0]).for_each(|_| world.turn());
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(world.taken(), turns.iter().sum::<usize>() as u32);
        assert!(world.lock.try_lock(), "it is free in the end");
    });
}

/// One sleeps, and the other gives it back once, and never comes again.
#[test]
fn who_sleeps_is_woken() {
    crowd(&[1, 1], 5);
}

/// What the one has said is taken away by the first unlock of the other, whose second turn comes between.
#[test]
fn who_comes_too_late_says_so_again() {
    crowd(&[1, 2], 4);
}

/// Two may sleep at once.
#[test]
fn each_of_two_is_woken() {
    crowd(&[1, 1, 1], 3);
}
