//! Where a future that waits leaves its [`Waker`]: what a waiter's token names when the waiter is neither a task nor a
//! thread.
//!
//! ```text
//!             register begins
//!      ┌─────┐ ─────────────► ┌─────────────┐
//! new ►│ SET │                │ REGISTERING │
//!      └─────┘ ◄───────────── └─────────────┘
//!         │     register ends        │
//!         │ wake: takes the waker    │ wake: leaves it; `register` says "woken"
//!         ▼                          ▼
//!      ┌────────────────────────────────────┐
//!      │               WOKEN                │
//!      └────────────────────────────────────┘
//! ```
//! One slot serves one wait: it is woken once. A task or a thread that waits is its own proof that it is still there; a
//! future may be dropped at any moment and may be polled with another waker each time. So the slot is counted by
//! reference, and its waker can be exchanged until it is woken.
//!
//! # Rules
//! 1. A token owns one reference. Who takes the token out of where waiters are found (a node that is claimed, a join word
//!    that is completed), or withdraws it, owns that reference: [`WakerSlot::from_token`], once.
//! 2. Only the future registers, and it has one borrow of itself to do it with.
//! 3. The waker belongs to who made the last move: in `SET` to the next `register` or `wake`, in `REGISTERING` to
//!    `register`, in `WOKEN` to `wake` if it came from `SET`, and else to nobody until the slot goes.
//! 4. A waker is foreign code: it is cloned, woken and dropped under no lock, and outside of the runtime.
//!
//! Memory ordering: what a wait is for is published before `wake`, whose swap is AcqRel. Release: for the `register` that
//! finds `WOKEN` (Acquire) and then looks. Acquire: for the waker that `register` wrote (Release).

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::atomic::{AcqRel, Acquire, AtomicU32, Ordering, Relaxed, Release};
use crate::primitive::{Arc, UnsafeCell};
use std::task::Waker;

/// The waker is there.
const SET: u32 = 0;
/// The future is writing it.
const REGISTERING: u32 = 1;
/// It is over.
const WOKEN: u32 = 2;

/// The bit of a token that says that it names a slot. The lowest one is for threads.
const TOKEN: usize = 2;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const WAKE: Ordering = if cfg!(bast_plant = "waker_slot_wake_acquire") {
    Acquire
} else if cfg!(bast_plant = "waker_slot_wake_release") {
    Release
} else {
    AcqRel
};

/// See the module.
#[derive(Debug)]
#[repr(align(8))]
pub struct WakerSlot {
    word: AtomicU32,
    waker: UnsafeCell<Option<Waker>>,
}

// SAFETY: the waker, which is Send and Sync, is touched by whom the word says (Rule 3).
unsafe impl Send for WakerSlot {}
// SAFETY: as for Send.
unsafe impl Sync for WakerSlot {}

impl WakerSlot {
    /// With the waker of the first poll.
    pub fn new(waker: Waker) -> Arc<WakerSlot> {
        Arc::new(WakerSlot {
            word: AtomicU32::new(SET),
            waker: UnsafeCell::new(Some(waker)),
        })
    }

    /// A token, with a reference of its own (Rule 1).
    pub fn token(this: &Arc<Self>) -> usize {
        Arc::into_raw(Arc::clone(this)) as usize | TOKEN
    }

    /// Does this token name a slot?
    #[inline]
    pub fn is_token(token: usize) -> bool {
        token & TOKEN != 0
    }

    /// The slot that a token names, with the token's reference.
    ///
    /// # Safety
    /// It came from [`WakerSlot::token`], and is used up by this (Rule 1).
    pub unsafe fn from_token(token: usize) -> Arc<WakerSlot> {
        // SAFETY: from `into_raw`, and the reference is ours, says our caller.
        unsafe { Arc::from_raw((token & !TOKEN) as *const WakerSlot) }
    }

    /// By the future, at each further poll. False: woken, and what was waited for is there.
    #[must_use]
    pub fn register(&self, waker: &Waker) -> bool {
        let mut fresh = Some(waker.clone()); // foreign code, which may panic: before anything is half done
        if self
            .word
            .compare_exchange(SET, REGISTERING, Relaxed, Acquire)
            .is_err()
        {
            return false;
        }
        // SAFETY: validity: ours. aliasing: ours by Rule 3; a model checks it.
        self.waker
            .with_mut(|place| unsafe { std::ptr::swap(place, &mut fresh) });
        if cfg!(bast_plant = "waker_slot_register_store") {
            self.word.store(SET, Release);
            return true;
        }
        self.word
            .compare_exchange(REGISTERING, SET, Release, Acquire)
            .is_ok()
    }

    /// Wakes the future; what it waits for has been published. Once.
    pub fn wake(&self) {
        if self.word.swap(WOKEN, WAKE) != SET {
            return; // the future is just being polled, and looks once more
        }
        // SAFETY: validity: ours. aliasing: ours by Rule 3; a model checks it.
        let waker = self.waker.with_mut(|place| unsafe { (*place).take() });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
