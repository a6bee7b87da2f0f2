//! The join word: who gets a finished task's result, and who waits for it.
//!
//! ```text
//!            set_waiter                    complete
//!   PENDING ───────────► WAITER(token) ───────────────► DONE   the waiter is woken, the handle takes the result
//!     │  ▲ clear_waiter      │
//!     │  └───────────────────┘
//!     ├── complete ─────────────────────────────────► DONE   the handle takes the result when it looks
//!     └── detach ──► DETACHED ── complete ──────────► DONE   the task drops the result itself
//! ```
//!
//! The result cell belongs to the task until `complete`, and from then on to the join handle, unless the word was
//! `DETACHED`, in which case it stays the task's. One handle, so at most one waiter.
//!
//! Memory ordering: `complete` is AcqRel. Release: the result is written before it and read after `is_done`
//! (Acquire) or a failed exchange (Acquire). Acquire: the waiter behind the token was written before `set_waiter`
//! (Release).

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::atomic::{AcqRel, Acquire, AtomicUsize, Ordering, Relaxed, Release};

/// The task runs and nobody waits yet.
const PENDING: usize = 0;
/// The handle is gone.
const DETACHED: usize = 2;
/// The result is there.
const DONE: usize = 4;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const COMPLETE: Ordering = if cfg!(bast_plant = "join_word_publish") {
    Acquire
} else if cfg!(bast_plant = "join_word_waiter") {
    Release
} else {
    AcqRel
};
const LOOK: Ordering = if cfg!(bast_plant = "join_word_look") {
    Relaxed
} else {
    Acquire
};

/// What the finishing task must do.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Complete {
    /// Nothing: the handle will find the result.
    Left,
    /// Wake this waiter; the handle takes the result.
    Wake(usize),
    /// Nobody will ask: drop the result.
    Detached,
}

/// What a joiner found when it wanted to wait.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum SetWaiter {
    /// Published: `complete` will hand the token to the finisher.
    Waiting,
    /// The result is there.
    Done,
}

/// The join word of a task. See the module's picture.
#[derive(Debug)]
pub struct JoinWord(AtomicUsize);

impl JoinWord {
    /// A new task with a handle.
    pub fn new() -> JoinWord {
        JoinWord(AtomicUsize::new(PENDING))
    }

    /// For a slab entry that is used again; the caller is its only user.
    pub fn reset(&self) {
        self.0.store(PENDING, Relaxed);
    }

    /// By the finishing task, after the result is written.
    pub fn complete(&self) -> Complete {
        match self.0.swap(DONE, COMPLETE) {
            PENDING => Complete::Left,
            DETACHED => Complete::Detached,
            token => {
                debug_assert_ne!(token, DONE, "a task completed twice");
                Complete::Wake(token)
            }
        }
    }

    /// True once the result may be taken.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.0.load(LOOK) == DONE
    }

    /// By the handle: publish a waiter. `token` is an address, perhaps with its low bit set.
    pub fn set_waiter(&self, token: usize) -> SetWaiter {
        debug_assert!(token > DONE, "a token is an address");
        match self.0.compare_exchange(PENDING, token, Release, Acquire) {
            Ok(_) => SetWaiter::Waiting,
            Err(_) => SetWaiter::Done,
        }
    }

    /// By the handle, when it gives up waiting. False: the finisher already has the token and will wake it.
    #[must_use]
    pub fn clear_waiter(&self, token: usize) -> bool {
        self.0.compare_exchange(token, PENDING, Acquire, Acquire).is_ok()
    }

    /// By the handle, when it is dropped unjoined. False: the task is done and the handle must drop the result.
    #[must_use]
    pub fn detach(&self) -> bool {
        if cfg!(bast_plant = "join_word_detach") {
            self.0.store(DETACHED, Release);
            return true;
        }
        self.0
            .compare_exchange(PENDING, DETACHED, Release, Acquire)
            .is_ok()
    }
}

impl Default for JoinWord {
    fn default() -> Self {
        JoinWord::new()
    }
}
