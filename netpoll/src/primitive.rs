//! The one door to atomics and locks: std's in a real build, loom's under `--cfg bast_loom`.
//!
//! The protocol files (`readiness`, `crowd`, `interrupt`) take everything that two threads share from
//! here and nothing from anywhere else, so that a model runs the very code that ships.

#[cfg(not(bast_loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(bast_loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What only the files above the protocols use; they are left out of a loom build.
#[cfg(not(bast_loom))]
pub(crate) use std::sync::atomic::{AtomicI32, AtomicUsize};

#[cfg(bast_loom)]
use loom::sync as lock;
#[cfg(not(bast_loom))]
use std::sync as lock;

/// A lock for a few instructions: nothing under it waits, calls out or can panic half-way.
#[allow(
    clippy::disallowed_types,
    reason = "held for a list operation, never across a wait"
)]
pub(crate) struct Lock<T>(lock::Mutex<T>);

#[allow(clippy::disallowed_types, reason = "the guard of the lock above")]
pub(crate) type Guard<'a, T> = lock::MutexGuard<'a, T>;

#[allow(clippy::disallowed_types, reason = "the only place that names the mutex")]
impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(lock::Mutex::new(value))
    }

    /// Locks. A poisoned lock is taken as it is: no code under it leaves its data half-changed.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Locks unless another thread is inside.
    #[cfg(not(bast_loom))]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(lock::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(lock::TryLockError::WouldBlock) => None,
        }
    }
}
