//! What bounds the waits of a task or thread besides its deadline: the contexts it has entered, innermost first.
//!
//! ```text
//!   task or thread ──► Bound ──outer──► Bound ──outer──► none
//!                        │ word           │ word           each on the stack of the call that entered
//!                        ▼                ▼
//!                      context's word   context's word     0: it goes on; else why it is over
//! ```
//! A bound is made and taken back by the task or thread that it bounds, and read by nobody else: only the word is shared.
//!
//! # The deadline says that there is a bound
//! A task that has entered a context that can end has a deadline other than `NEVER`, be it [`UNTIL_CANCELLED`]. So a
//! wait that heeds no bound, and a task without one, pay nothing: only a deadline that is not `NEVER` is looked at
//! further.
//!
//! Memory ordering: the word is stored with Release before those who wait under it are woken, and read with Acquire. A
//! waiter looks at it after it has published itself and before it parks; whoever ends the context afterwards finds the
//! waiter's node and leaves a permit. So no end is missed.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::atomic::{Acquire, AtomicU8};
use std::ptr::NonNull;

/// A point in time that never comes; but unlike with `NEVER`, something else may end the wait.
pub const UNTIL_CANCELLED: u64 = u64::MAX - 1;

/// The word of a context that goes on.
pub const LIVE: u8 = 0;

/// See the module.
#[derive(Debug)]
pub struct Bound {
    word: Option<NonNull<AtomicU8>>,
    outer: Option<NonNull<Bound>>,
    /// Until when at most, the outer bounds included. For a task its header's counts, which `time::timeout` may have
    /// brought forward.
    pub deadline: u64,
    /// The context that was entered.
    pub entered: *const (),
}

impl Bound {
    /// A bound by `word`, if there is one, and by what `outer` says, if that is to hold too.
    ///
    /// # Safety
    /// Both stay where they are while this one is anybody's bound.
    pub unsafe fn new(
        word: Option<&AtomicU8>,
        outer: Option<NonNull<Bound>>,
        deadline: u64,
        entered: *const (),
    ) -> Bound {
        Bound {
            word: word.map(NonNull::from),
            outer,
            deadline,
            entered,
        }
    }

    /// Why it is over, by the innermost word that says so; [`LIVE`] if none does.
    #[cold]
    pub fn over(&self) -> u8 {
        let mut bound = self;
        loop {
            if let Some(word) = bound.word {
                // SAFETY: validity: it stays while we are a bound. aliasing: shared borrow of an atomic.
                let over = unsafe { word.as_ref() }.load(Acquire);
                if over != LIVE {
                    return over;
                }
            }
            let Some(outer) = bound.outer else {
                return LIVE;
            };
            // SAFETY: validity: it stays while we are a bound. aliasing: shared borrow; it does not change.
            bound = unsafe { outer.as_ref() };
        }
    }
}
