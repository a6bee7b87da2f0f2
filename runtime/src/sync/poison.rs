//! Poisoning, exactly as std's: a lock whose holder panicked says so to those who come after, once, in the type.

use super::base::constructor;
use crate::primitive::atomic::{AtomicBool, Relaxed};
use std::sync::{LockResult, PoisonError};

/// Was a panic seen while the lock was held for writing?
///
/// Memory ordering: Relaxed. The flag is set before the lock is released and read after it is taken.
#[derive(Debug)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    constructor! {
        /// Not poisoned.
        pub(super) fn new() -> Flag {
            Flag(AtomicBool::new(false))
        }
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Relaxed);
    }

    /// By the holder at its end. A task that panics keeps its thread, so the thread's panic is the task's.
    #[inline]
    pub(super) fn note(&self, panicked_before: bool) {
        if !panicked_before && std::thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }

    /// The result of taking the lock: `guard`, in an error if the lock is poisoned.
    #[inline]
    pub(super) fn result<G>(&self, guard: G) -> LockResult<G> {
        if self.get() {
            Err(PoisonError::new(guard))
        } else {
            Ok(guard)
        }
    }
}
