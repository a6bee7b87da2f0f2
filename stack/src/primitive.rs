//! The one door to atomics and locks: `std` in a program, loom under `--cfg bast_loom`.
//!
//! A protocol file (`depot.rs`) takes everything from the top level of this module, so that the same
//! source runs in a loom model. Process-wide statics cannot: loom's types have no `const` constructor
//! and exist only inside a model. They use [`statics`], which is `std` always, and no model touches them.
//!
//! Blocking locks are allowed in this crate, and only by way of this file, because every critical
//! section is a few pointer moves or one system call, never runs user code and never switches stacks:
//! the holder cannot be parked, so a worker that waits here waits for another *running* thread.

#[cfg(bast_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(bast_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Locks, whether or not an earlier holder panicked: no critical section here can leave its data half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Never modelled: statics of the whole process, and data that a static owns.
pub(crate) mod statics {
    pub(crate) use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
    pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock};

    /// As [`super::lock`].
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
