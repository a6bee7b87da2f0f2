//! Models of `Once` and what is built on it (`runtime/src/sync/once.rs`). What each proves is in the README here.
#![cfg(bast_loom)]

use bast::sync::{Once, OnceLock};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;

struct Shared {
    once: Once,
    value: UnsafeCell<u32>,
}

// SAFETY: validity: nothing in it belongs to a thread. aliasing: loom checks every access to the cell.
unsafe impl Send for Shared {}
// SAFETY: as for Send.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            once: Once::new(),
            value: UnsafeCell::new(0),
        })
    }

    fn call(&self) {
        self.once.call_once(|| {
            // SAFETY: validity: a live cell. aliasing: one closure runs, and nobody looks before its end; loom checks it.
            self.value.with_mut(|value| unsafe { *value += 1 });
        });
        self.look();
    }

    fn look(&self) {
        // SAFETY: validity: a live cell. aliasing: nobody writes any more; loom checks it.
        assert_eq!(self.value.with(|value| unsafe { *value }), 1);
    }
}

/// Planted: `once_end_relaxed`.
#[test]
fn three_call_and_one_runs() {
    loom::model(|| {
        let shared = Shared::new();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || shared.call())
            })
            .collect();
        shared.call();
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// Planted: `once_wait_blindly` sleeps for the end of a closure that is over.
#[test]
fn a_wait_meets_a_call() {
    loom::model(|| {
        let shared = Shared::new();
        let waiting = shared.clone();
        let waiting = thread::spawn(move || {
            waiting.once.wait();
            waiting.look();
        });
        shared.call();
        waiting.join().unwrap();
    });
}

/// Makers that fail let the next one try; who waits for the value waits until one succeeds.
#[test]
fn makers_that_fail() {
    loom::model(|| {
        let shared = Arc::new((OnceLock::new(), AtomicUsize::new(0)));
        let other = shared.clone();
        let other = thread::spawn(move || {
            let made = other.0.get_or_try_init(|| match other.1.fetch_add(1, Relaxed) {
                0 => Err(()),
                _ => Ok(7),
            });
            made.is_ok_and(|value| *value == 7)
        });
        let made = shared.0.get_or_try_init(|| match shared.1.fetch_add(1, Relaxed) {
            0 => Err(()),
            _ => Ok(7),
        });
        let here = made.is_ok();
        let there = other.join().unwrap();
        assert!(here != there, "the first maker fails, the second does not");
        assert_eq!(shared.0.get(), Some(&7));
    });
}
