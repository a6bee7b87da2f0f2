//! Models of the read-write lock (`runtime/src/sync/raw_rwlock.rs`). What each proves is in the README here.
//!
//! The value is a cell that loom guards: it reports a writer with company, and a reader that does not see what a writer
//! did. One who sleeps beside a free lock is a deadlock.
#![cfg(bast_loom)]

use bast::sync::{RwLock, RwLockWriteGuard};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::time::Duration;

/// A count that loom guards.
struct Count(UnsafeCell<u32>);

// SAFETY: validity: nothing in it belongs to a thread. aliasing: loom checks every access.
unsafe impl Send for Count {}
// SAFETY: as for Send.
unsafe impl Sync for Count {}

impl Count {
    fn new() -> Arc<RwLock<Count>> {
        Arc::new(RwLock::new(Count(UnsafeCell::new(0))))
    }

    fn add(&self) {
        // SAFETY: validity: a live cell. aliasing: a writer has no company; loom checks it.
        self.0.with_mut(|count| unsafe { *count += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: validity: a live cell. aliasing: readers have no writer beside them; loom checks it.
        self.0.with(|count| unsafe { *count })
    }
}

fn write(lock: &RwLock<Count>) {
    lock.write().unwrap().add();
}

fn read(lock: &RwLock<Count>) {
    let held = lock.read().unwrap();
    assert_eq!(held.get(), held.get());
}

fn spawn(lock: &Arc<RwLock<Count>>, f: impl FnOnce(&RwLock<Count>) + 'static) -> thread::JoinHandle<()> {
    let lock = lock.clone();
    thread::spawn(move || f(&lock))
}

fn is_free(lock: &RwLock<Count>) -> u32 {
    lock.try_write().expect("nobody holds it").get()
}

/// Planted: `rwlock_leave_relaxed`.
#[test]
fn two_writers_and_a_reader() {
    loom::model(|| {
        let lock = Count::new();
        let others = [spawn(&lock, write), spawn(&lock, read)];
        write(&lock);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(is_free(&lock), 2);
    });
}

/// Planted: `rwlock_look_out_quietly`, where the reader that may not stay is the last to leave.
#[test]
fn a_writer_and_two_readers() {
    loom::model(|| {
        let lock = Count::new();
        let others = [spawn(&lock, read), spawn(&lock, write)];
        read(&lock);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(is_free(&lock), 1);
    });
}

/// Planted: `rwlock_give_up_quietly` leaves the readers behind a writer that gave up asleep, for the lock is held by a
/// reader that stays until they have come.
#[test]
fn a_writer_gives_up() {
    loom::model(|| {
        let lock = Count::new();
        let held = lock.read().unwrap();
        let hasty = spawn(&lock, |lock| {
            if let Ok(held) = lock.write_timeout(Duration::ZERO) {
                held.add();
            }
        });
        let reader = spawn(&lock, read);
        reader.join().unwrap();
        drop(held);
        hasty.join().unwrap();
        assert!(is_free(&lock) <= 1);
    });
}

#[test]
fn a_reader_gives_up() {
    loom::model(|| {
        let lock = Count::new();
        let hasty = spawn(&lock, |lock| {
            if let Ok(held) = lock.read_timeout(Duration::ZERO) {
                held.get();
            }
        });
        let writer = spawn(&lock, write);
        write(&lock);
        hasty.join().unwrap();
        writer.join().unwrap();
        assert_eq!(is_free(&lock), 2);
    });
}

#[test]
fn a_writer_becomes_a_reader() {
    loom::model(|| {
        let lock = Count::new();
        let held = lock.write().unwrap();
        let others = [spawn(&lock, read), spawn(&lock, write)];
        held.add();
        let held = RwLockWriteGuard::downgrade(held);
        assert_eq!(held.get(), 1, "a writer got in between");
        drop(held);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(is_free(&lock), 2);
    });
}
