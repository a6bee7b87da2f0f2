//! The count of a scope: how many tasks may still use what its owner has lent, and who tells the owner that none does.
//!
//! ```text
//!                 enter, by who counts already
//!              ┌──────────────┐
//!              ▼              │
//!   new ──► COUNT(1 + n) ─────┘   1 is the owner's own, for the closure of the scope
//!              │  leave: a member                      leave: the last member
//!              ├──────────────────► COUNT(one less) ─────────────────────► 0   the owner is woken and goes on
//!              └──────────────────► COUNT(n) ──────► 0                         nobody was left: it never waits
//!                 leave_own, by the owner
//! ```
//!
//! # Goal
//! The owner must not go on while a member lives, whatever else happens, because members use its frame. The count lies
//! in that frame, so it is gone the moment after it is zero.
//!
//! # Rejected ways
//! *A counted allocation for each scope* (as std's): it would only be needed by the one who wakes the owner late. *A
//! waiter published at the end, as in the join word*: the owner is known from the beginning. *Counting members only*:
//! whenever the last of them ends while the closure still spawns others, the owner would be woken for nothing.
//!
//! # Why nobody touches a frame that is gone
//! The owner goes on only when it sees zero. Who takes the count to zero has copied the owner's address before, in
//! [`ScopeCount::leave`], and afterwards uses the copy alone. The copy stays good: a task's header is type-stable and a
//! thread's handle is counted, so a late wake-up finds somebody who does not wait, for which it is spurious.
//! The count never comes back from zero: only who counts may call `enter`.
//!
//! Memory ordering: `leave` is Release and `is_empty` Acquire: what all members did happens before the owner goes on,
//! since every change of the count is a read-modify-write and so continues the others' release sequences. `enter` is
//! Relaxed: the new member learns of the scope by its spawn.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::atomic::{Acquire, AtomicUsize, Ordering, Relaxed, Release};

// Planted bugs, off unless the build asks for one: the model must find each of them. Another is below.
const LEAVE: Ordering = if cfg!(bast_plant = "scope_count_leave_relaxed") {
    Relaxed
} else {
    Release
};
const LOOK: Ordering = if cfg!(bast_plant = "scope_count_look_relaxed") {
    Relaxed
} else {
    Acquire
};

/// The count of a scope. See the module's picture.
#[derive(Debug)]
pub struct ScopeCount(AtomicUsize);

impl ScopeCount {
    /// The owner alone.
    pub fn new() -> ScopeCount {
        ScopeCount(AtomicUsize::new(1))
    }

    /// One member more. By the owner before `leave_own`, or by a member before its `leave`.
    #[inline]
    pub fn enter(&self) {
        let before = self.0.fetch_add(1, Relaxed);
        debug_assert!(before > 0, "a scope that is over was entered");
    }

    /// One member less. If it was the last, and the owner waits, gives what `owner` gave: the caller wakes that.
    /// The scope may be gone when this returns.
    #[inline]
    pub fn leave<W>(&self, owner: impl Fn() -> W) -> Option<W> {
        let mut seen = self.0.load(Relaxed);
        loop {
            debug_assert!(seen > 0, "a scope that is over was left");
            let wake = (seen == 1 && !cfg!(bast_plant = "scope_count_owner_late")).then(&owner);
            match self.0.compare_exchange_weak(seen, seen - 1, LEAVE, Relaxed) {
                #[cfg(bast_plant = "scope_count_owner_late")]
                Ok(1) => return Some(owner()),
                Ok(_) => return wake,
                Err(now) => seen = now,
            }
        }
    }

    /// The owner itself is done. True: nobody is left, and it may go on.
    #[inline]
    #[must_use]
    pub fn leave_own(&self) -> bool {
        if cfg!(bast_plant = "scope_count_own_store") {
            let others = self.0.load(Acquire) - 1;
            self.0.store(others, Relaxed);
            return others == 0;
        }
        // Acquire: as in `is_empty`.
        self.0.fetch_sub(1, LOOK) == 1
    }

    /// By the owner, after `leave_own`: is nobody left?
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load(LOOK) == 0
    }
}

impl Default for ScopeCount {
    fn default() -> Self {
        ScopeCount::new()
    }
}
