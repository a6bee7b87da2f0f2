//! What a signal handler leaves for others: a bounded ring with one writer and one reader.
//!
//! ```text
//!              read                   written
//!               │                       │
//!   [ .  .  .   │ A   B   C   D   E   F │ .  .  . ]      positions grow for ever; slot = position % SLOTS
//!               └──► pop (the reader)   └──► push (the writer)
//! ```
//!
//! # Goal
//! The writer is a signal handler, which may not wait, whatever it has interrupted: the reader too.
//!
//! # Rejected ways
//! *A lock*: its holder may be what was interrupted. *Overwriting the oldest*: the reader may be copying it.
//!
//! # Transitions
//! | what changes | from → to | by |
//! |---|---|---|
//! | `written` | w → w + 1, at most `read + SLOTS` | the writer: `push` |
//! | `read` | r → r + 1, at most `written` | the reader: `pop` |
//! | `lost` | l → l + 1 | the writer: `push` on a full ring |
//! | `lost` | l → 0 | the reader: `take_lost` |
//!
//! # Who owns what
//! Slots in `read..written` are initialised and the reader's; all others are the writer's.
//!
//! # Memory ordering
//! Each side stores its position by Release and loads the other's by Acquire: the slot's writing happens before its reading,
//! and its reading before it is written again. Each side keeps its own position in a cell beside: loom, which remembers the last
//! access to an atomic alone, would overlook the other side's load behind a load of our own.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::UnsafeCell;
use crate::primitive::atomic::{Acquire, AtomicU64, Ordering, Relaxed, Release};
use std::fmt;
use std::mem::MaybeUninit;

/// A power of two. For the samples of a quarter of a second, at the highest rate; few for the model checker.
pub const SLOTS: u64 = if cfg!(bast_loom) { 2 } else { 256 };

// Planted bugs, off unless the build asks for one: the model must find each of them. One more is below.
const PUBLISH: Ordering = if cfg!(bast_plant = "sample_ring_publish") {
    Relaxed
} else {
    Release
};
const FREE: Ordering = if cfg!(bast_plant = "sample_ring_free") {
    Relaxed
} else {
    Release
};

/// See the module.
pub struct Ring<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    written: AtomicU64,
    read: AtomicU64,
    lost: AtomicU64,
    /// As `written`, the writer's own.
    next_write: UnsafeCell<u64>,
    /// As `read`, the reader's own.
    next_read: UnsafeCell<u64>,
}

// SAFETY: values go from one thread to another, each slot in one hand at a time.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as for Send; that there is one writer and one reader is what `push` and `pop` ask for.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// An empty one.
    #[allow(clippy::new_without_default, reason = "loom's atomics have none")]
    pub fn new() -> Ring<T> {
        Ring {
            slots: (0..SLOTS)
                .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                .collect(),
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            next_write: UnsafeCell::new(0),
            next_read: UnsafeCell::new(0),
        }
    }

    fn slot(&self, position: u64) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[(position % SLOTS) as usize]
    }

    /// Puts a value in, or counts it as lost. False: it was.
    ///
    /// # Safety
    /// One writer at a time: calls do not overlap, and each happens before the next.
    pub unsafe fn push(&self, value: &T) -> bool {
        // SAFETY: validity: our own cell. aliasing: the one writer's, as our caller says.
        let written = self.next_write.with(|next| unsafe { *next });
        // Acquire: pairs with `pop`, which has read what was in the slot.
        let full = written - self.read.load(Acquire) >= SLOTS;
        if full && !cfg!(bast_plant = "sample_ring_room") {
            self.lost.fetch_add(1, Relaxed);
            return false;
        }
        // SAFETY: validity: our own slot. aliasing: it is not in `read..written`, so it is the one writer's.
        self.slot(written)
            .with_mut(|slot| unsafe { (*slot).write(*value) });
        // SAFETY: as above.
        self.next_write.with_mut(|next| unsafe { *next = written + 1 });
        self.written.store(written + 1, PUBLISH); // Release: pairs with the Acquire in `pop`
        true
    }

    /// Takes the oldest value out.
    ///
    /// # Safety
    /// One reader at a time: calls do not overlap, and each happens before the next.
    pub unsafe fn pop(&self) -> Option<T> {
        // SAFETY: validity: our own cell. aliasing: the one reader's, as our caller says.
        let read = self.next_read.with(|next| unsafe { *next });
        // Acquire: pairs with `push`, which has written the slot.
        if read == self.written.load(Acquire) {
            return None;
        }
        // SAFETY: validity: in `read..written`, so `push` has initialised it. aliasing: it is the one reader's; T is Copy.
        let value = self.slot(read).with(|slot| unsafe { slot.cast::<T>().read() });
        // SAFETY: as above.
        self.next_read.with_mut(|next| unsafe { *next = read + 1 });
        self.read.store(read + 1, FREE); // Release: pairs with the Acquire in `push`
        Some(value)
    }

    /// How many were lost since the last call.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Relaxed)
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ring")
            .field("written", &self.written)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ring, SLOTS};

    #[test]
    fn a_full_ring_counts_what_it_refuses() {
        let ring = Ring::new();
        for round in 0..3 {
            for number in 0..SLOTS + 5 {
                // SAFETY: one writer.
                assert_eq!(unsafe { ring.push(&(round, number)) }, number < SLOTS);
            }
            // SAFETY: one reader.
            let seen: Vec<_> = std::iter::from_fn(|| unsafe { ring.pop() }).collect();
            assert!(seen.into_iter().eq((0..SLOTS).map(|number| (round, number))));
            assert_eq!((ring.take_lost(), ring.take_lost()), (5, 0));
        }
    }
}
