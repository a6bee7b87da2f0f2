//! Locks and what else tasks meet at: with the names and signatures of [`std::sync`], for tasks and plain threads alike.
//!
//! A task that waits parks, and its worker runs others; a plain thread sleeps. Both may use the same lock at once.
//! Nothing here allocates in order to wait.
//!
//! # One queue of waiters
//! All of it stands on one queue (`waitlist`) and one way to wait (`base`). A primitive is a word of atomic state,
//! which the calls that need not wait change with one instruction, and a small lock with the queue in it, which the
//! others take. The word says whether anybody waits, and it says so only under that lock, so that a call that looks at
//! the word alone never overlooks a waiter.

#[cfg(bast_loom)]
#[doc(hidden)]
pub mod base;
#[cfg(not(bast_loom))]
pub(crate) mod base;
#[cfg(bast_loom)]
#[doc(hidden)]
pub mod waitlist;
#[cfg(not(bast_loom))]
pub(crate) mod waitlist;

mod backoff;
mod bounded;
pub mod channel;
pub(crate) mod channel_core;
mod channel_error;
mod channel_iter;
mod channel_lock;
#[cfg(doctest)]
mod channel_types;
pub mod select;
mod select_builder;
mod select_case;
mod select_macro;
#[cfg(not(bast_loom))]
mod timed;
mod turn;
mod unbounded;

mod barrier;
pub(crate) mod block_on;
mod condvar;
mod error;
#[cfg(not(bast_loom))]
mod lock_word;
mod mutex;
mod notify;
mod once;
mod once_lock;
mod poison;
mod raw_mutex;
mod raw_rwlock;
mod recv_async;
mod rwlock;
mod semaphore;
mod wait_group;

pub use crate::primitive::public::atomic;
pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use error::TimedOut;
pub use mutex::{Mutex, MutexGuard};
pub use notify::{Notified, Notify};
pub use once::{Once, OnceState};
pub use once_lock::{LazyLock, OnceLock};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
pub use wait_group::{WaitGroup, WaitGroupMember};
