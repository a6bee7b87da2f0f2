//! A processor's run queue: a bounded ring that one owner fills and anybody may rob, and one *next* slot.
//!
//! ```text
//!                   head                          tail
//!                    │                             │
//!   ring   [ .  .  . │ A  B  C  D  E  F  G  H  I  J│ .  .  . ]     positions grow to the right, for ever;
//!                    │◄─── half ────►│             │               slot = position % CAPACITY
//!                    ▲               ▲             ▲
//!       pop_ring ────┘  steal_from ──┘             └──── push_back, push_batch
//!       head + 1        head + half                      tail + 1, tail + n
//!       (owner)         (any thread)                     (owner)
//!
//!   next   [ N ]     replace_next (owner) puts, pop (owner) and the last resort of steal_from take
//! ```
//!
//! # Goal
//! The owner pushes and pops some ten million times a second, so its path is one store (push) or one
//! uncontended compare-and-swap (pop). A processor without work takes half of another's ring at once: one
//! theft then pays for many tasks. No task is lost, none runs twice, and a task that is in the queue
//! cannot be overlooked by [`is_empty`](LocalQueue::is_empty), which decides whether a worker may sleep.
//!
//! # Rejected ways
//! * *A deque whose owner works at the thieves' far end (Chase-Lev).* Last-in first-out starves the oldest
//!   task, and the end at which owner and thief meet needs a store-load fence on every pop.
//! * *An unbounded ring.* It must be reclaimed while thieves read it. Full is rare and means that work
//!   abounds: half goes to the global queue, where idle workers find it without choosing a victim.
//! * *Claim first, copy afterwards.* Between the two the owner may reuse the claimed slots. Hence rule 3.
//! * *32-bit positions.* They wrap within a minute of full speed, and a thief that sleeps exactly that long
//!   between its reads and its claim would claim what it never read. 64-bit positions cost nothing here.
//!
//! # Transitions
//! | what changes | from → to | by |
//! |---|---|---|
//! | `tail` | t → t + n, at most `head + CAPACITY` | owner: `push_back`, `push_batch`, `steal_from` (as thief) |
//! | `head` | h → h + 1 | owner: `pop_ring` |
//! | `head` | h → h + CAPACITY / 2 | owner: `push_back` on a full ring |
//! | `head` | h → h + half, rounded up | any thread: `steal_from` (on its victim) |
//! | `next` | any → N | owner: `replace_next` |
//! | `next` | N → null | owner: `pop`; any thread: `steal_from` with `take_next` |
//!
//! # Who owns what
//! * Slots in `head..tail` hold pointers to live tasks, which the queue owns. Whoever moves `head` past a
//!   position owns the task of that position.
//! * All other slots hold leftovers, which are never followed. Only the owner writes slots.
//!
//! # Rules
//! 1. Only the owner stores `tail`; so its own load of it may be Relaxed. What moves a processor from one
//!    worker to another orders the two owners.
//! 2. `head` moves only by compare-and-swap from the value that was read. Owner and thieves compete for it.
//! 3. Slots are copied *before* that compare-and-swap. If it succeeds, `head` stood still meanwhile, hence no
//!    slot in `head..tail` was reused and the copies are good; if it fails they are dropped unread.
//! 4. `head <= tail <= head + CAPACITY` always; a thief that reads `head` first never sees `tail` behind it.
//!
//! # Memory ordering
//! * `tail`: the Release store publishes slots and tasks; Acquire loads are in `steal_from`, `len`, `is_empty`.
//! * `head`: each compare-and-swap is a Release: (a) the reads of the slots happen before the owner reuses
//!   them, which it does only after an Acquire load of `head`; (b) `tail` as the winner knew it is visible
//!   to whoever reads the new `head` with Acquire (rule 4).
//! * `next`: the Release swap publishes the task to the thief's Acquire compare-and-swap. The owner's taking
//!   it is a Release as well: see `is_empty`.
//! * Slots are Relaxed atomics: a thief may read one while the owner reuses it, and drops what it read.
#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use std::fmt;
use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use crate::primitive::atomic::{Acquire, AtomicPtr, AtomicU64, Ordering, Relaxed, Release};

/// Tasks that the ring holds. A power of two; small for the model checker, which tries every overflow.
pub const CAPACITY: usize = if cfg!(bast_loom) { 4 } else { 256 };

const MASK: u64 = CAPACITY as u64 - 1;
const HALF: usize = CAPACITY / 2;
const _: () = assert!(CAPACITY.is_power_of_two() && HALF >= 2);

// Planted bugs, off unless the build asks for one: the models must find each of them.
const PUBLISH: Ordering = if cfg!(bast_plant = "local_queue_publish") {
    Relaxed
} else {
    Release
};
const CLAIM: Ordering = if cfg!(bast_plant = "local_queue_claim") {
    Relaxed
} else {
    Release
};
const NO_COMPARE: bool = cfg!(bast_plant = "local_queue_compare");
const NO_RECHECK: bool = cfg!(bast_plant = "local_queue_recheck");

/// A processor's run queue. The module's text has the picture and the rules.
pub struct LocalQueue<T> {
    /// Position of the oldest task. On a cache line of its own: thieves write it.
    head: CachePadded<AtomicU64>,
    /// Position after the newest task.
    tail: AtomicU64,
    /// The task that runs before those of the ring, or null.
    next: AtomicPtr<T>,
    slots: [AtomicPtr<T>; CAPACITY],
}

impl<T> LocalQueue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::starting_at(0)
    }

    /// An empty queue whose positions begin at `position`: the tests make them wrap.
    #[cfg_attr(
        not(bast_loom),
        expect(
            clippy::large_stack_frames,
            reason = "built once, on the stack of whoever makes the processors"
        )
    )]
    pub fn starting_at(position: u64) -> Self {
        Self {
            head: CachePadded::new(AtomicU64::new(position)),
            tail: AtomicU64::new(position),
            next: AtomicPtr::new(ptr::null_mut()),
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    /// Adds `task` at the end. If the ring is full, hands its older half and then `task` to `overflow`,
    /// oldest first.
    ///
    /// # Safety
    /// The caller is the owner: it holds the processor. `task` is alive and belongs to the caller, who gives
    /// it to the queue.
    #[inline]
    pub unsafe fn push_back(&self, task: NonNull<T>, mut overflow: impl FnMut(&[NonNull<T>])) {
        let tail = self.tail.load(Relaxed);
        loop {
            // Acquire: thieves have read the slots that `head` has passed; pairs with `advance_head`.
            let head = self.head.load(Acquire);
            if tail.wrapping_sub(head) < CAPACITY as u64 {
                self.slot(tail).store(task.as_ptr(), Relaxed);
                self.publish(tail.wrapping_add(1));
                return;
            }
            if self.take_half_and(head, task, &mut overflow) {
                return;
            }
            // A thief was faster: there is room now.
        }
    }

    /// Adds tasks at the end, as many as fit, all at once, and says how many that were. Asks for no more than fit.
    ///
    /// # Safety
    /// As for [`push_back`](Self::push_back), for the tasks that were added.
    pub unsafe fn push_batch(&self, tasks: impl IntoIterator<Item = NonNull<T>>) -> usize {
        let tail = self.tail.load(Relaxed);
        let mut count = 0;
        for task in tasks.into_iter().take(self.room(tail)) {
            let position = tail.wrapping_add(count);
            self.slot(position).store(task.as_ptr(), Relaxed);
            count += 1;
        }
        self.publish(tail.wrapping_add(count));
        count as usize
    }

    /// Puts `task` into the next slot and returns the one it displaces, which the caller pushes back.
    ///
    /// # Safety
    /// As for [`push_back`](Self::push_back).
    #[inline]
    pub unsafe fn replace_next(&self, task: NonNull<T>) -> Option<NonNull<T>> {
        // Release: publishes the task; pairs with Acquire in `steal_next`.
        NonNull::new(self.next.swap(task.as_ptr(), Release))
    }

    /// Takes the task to run: the next slot's, otherwise the oldest of the ring.
    ///
    /// # Safety
    /// The caller is the owner.
    #[inline]
    pub unsafe fn pop(&self) -> Option<NonNull<T>> {
        // The owner alone fills the slot, so a null seen here is true; the read spares the usual swap.
        if !self.next.load(Relaxed).is_null() {
            // Release: whoever sees the slot empty sees what was pushed before; pairs with `is_empty`.
            if let Some(task) = NonNull::new(self.next.swap(ptr::null_mut(), Release)) {
                return Some(task);
            }
        }
        // SAFETY: validity: the caller is the owner, which is all that `pop_ring` asks.
        //         aliasing: as there.
        unsafe { self.pop_ring() }
    }

    /// Takes the oldest task of the ring and leaves the next slot alone.
    ///
    /// # Safety
    /// The caller is the owner.
    #[inline]
    pub unsafe fn pop_ring(&self) -> Option<NonNull<T>> {
        let tail = self.tail.load(Relaxed);
        // Relaxed: the owner's own slots; a stale value fails the compare-and-swap.
        let mut head = self.head.load(Relaxed);
        while head != tail {
            let task = self.slot(head).load(Relaxed);
            match self.advance_head(head, 1) {
                Ok(()) => return NonNull::new(task),
                Err(moved) => head = moved,
            }
        }
        None
    }

    /// Takes half of `victim`'s ring, rounded up: returns its oldest task, to be run, and appends the others
    /// to `self` as far as they fit. From an empty ring, `take_next` lets it take the next slot.
    ///
    /// A task in the next slot is about to run where its data is warm. Callers set `take_next` only in their
    /// last round, and after a delay: robbing it at once costs much, and never robbing it starves the task.
    ///
    /// # Safety
    /// The caller is the owner of `self`. `victim` is another queue.
    pub unsafe fn steal_from(&self, victim: &LocalQueue<T>, take_next: bool) -> Option<NonNull<T>> {
        debug_assert!(!ptr::eq(self, victim), "a queue cannot steal from itself");
        let own_tail = self.tail.load(Relaxed);
        let room = self.room(own_tail) as u64;
        // Acquire: `tail` below is at least as new (rule 4); pairs with Release in `advance_head`.
        let mut head = victim.head.load(Acquire);
        loop {
            // Acquire: the slots below `tail` and their tasks; pairs with Release in `publish`.
            let tail = victim.tail.load(Acquire);
            let waiting = tail.wrapping_sub(head);
            debug_assert!(waiting as i64 >= 0, "rule 4: tail seen behind head");
            if waiting == 0 {
                return if take_next { victim.steal_next() } else { None };
            }
            // `head` may be stale, and `waiting` too large: then the claim fails, but rings have bounds.
            let count = waiting.div_ceil(2).min(HALF as u64).min(room + 1);
            let first = victim.slot(head).load(Relaxed);
            for offset in 1..count {
                let task = victim.slot(head.wrapping_add(offset)).load(Relaxed);
                self.slot(own_tail.wrapping_add(offset - 1)).store(task, Relaxed);
            }
            match victim.advance_head(head, count) {
                Ok(()) => {
                    if count > 1 {
                        self.publish(own_tail.wrapping_add(count - 1));
                    }
                    return NonNull::new(first);
                }
                Err(moved) => head = moved,
            }
        }
    }

    /// Whether the queue held no task at some moment of the call. Never true of a queue that held one
    /// throughout, also while the owner moves it from the next slot to the ring.
    pub fn is_empty(&self) -> bool {
        loop {
            let head = self.head.load(Acquire);
            let tail = self.tail.load(Acquire);
            // Acquire: a slot found empty shows what was pushed before it was emptied; pairs with `pop`.
            let next = self.next.load(Acquire);
            // The owner may have displaced `next` into the ring after `tail` was read, then run the new one.
            if self.tail.load(Relaxed) == tail || NO_RECHECK {
                return head == tail && next.is_null();
            }
        }
    }

    /// The number of tasks, the next slot's included, as of some time during the call.
    pub fn len(&self) -> usize {
        let head = self.head.load(Acquire);
        let waiting = self.tail.load(Acquire).wrapping_sub(head);
        (waiting as usize).min(CAPACITY) + usize::from(self.has_next())
    }

    /// Whether the ring holds a task, as of some time during the call.
    pub fn has_ring(&self) -> bool {
        let head = self.head.load(Acquire);
        self.tail.load(Acquire) != head
    }

    /// Whether the next slot holds a task, as of some time during the call.
    pub fn has_next(&self) -> bool {
        !self.next.load(Relaxed).is_null()
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> &AtomicPtr<T> {
        &self.slots[(position & MASK) as usize]
    }

    /// Free slots of the ring, for the owner, whose tail is `tail`. Thieves can only add to them.
    fn room(&self, tail: u64) -> usize {
        // Acquire: thieves have read the slots that `head` has passed; pairs with `advance_head`.
        let head = self.head.load(Acquire);
        CAPACITY - tail.wrapping_sub(head) as usize
    }

    /// Owner: the slots below `tail` are filled.
    #[inline(always)]
    fn publish(&self, tail: u64) {
        // Release: the slots and their tasks; pairs with Acquire in `steal_from`, `len`, `is_empty`.
        self.tail.store(tail, PUBLISH);
    }

    /// Claims the `count` oldest tasks if `head` is still the head, otherwise says where it is.
    #[inline(always)]
    fn advance_head(&self, head: u64, count: u64) -> Result<(), u64> {
        // Release: our reads of the slots come before their reuse, and `tail` as we know it goes along;
        // pairs with the Acquire loads of `head`. Acquire on failure: the value stands for such a load.
        let claimed = self
            .head
            .compare_exchange(head, head.wrapping_add(count), CLAIM, Acquire);
        claimed
            .map(drop)
            .or_else(|moved| if NO_COMPARE { Ok(()) } else { Err(moved) })
    }

    /// Any thread: takes the next slot's task. For the monitor, when its owner has not come to run it.
    pub fn steal_next(&self) -> Option<NonNull<T>> {
        let task = NonNull::new(self.next.load(Relaxed))?;
        // The same pointer may have left and come back meanwhile; it is the task that is here now.
        // Acquire: the task; pairs with Release in `replace_next`.
        let taken = self
            .next
            .compare_exchange(task.as_ptr(), ptr::null_mut(), Acquire, Relaxed);
        taken.is_ok().then_some(task)
    }

    /// Owner, ring full: gives `overflow` its older half, with `task` behind it; false if a thief moved `head` first.
    /// Apart from the push, with the buffer, so that only an overflow pays for its 2 KiB of stack.
    #[cold]
    #[inline(never)]
    fn take_half_and(&self, head: u64, task: NonNull<T>, overflow: &mut impl FnMut(&[NonNull<T>])) -> bool {
        let mut batch = [task; HALF + 1];
        for (place, offset) in batch[..HALF].iter_mut().zip(0..) {
            // The owner filled these slots, so no null is among them; `task` would not be lost if it were.
            let Some(old) = NonNull::new(self.slot(head.wrapping_add(offset)).load(Relaxed)) else {
                return false;
            };
            *place = old;
        }
        let taken = self.advance_head(head, HALF as u64).is_ok();
        if taken {
            overflow(&batch);
        }
        taken
    }
}

impl<T> Default for LocalQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for LocalQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalQueue")
            .field("len", &self.len())
            .field("has_next", &self.has_next())
            .finish()
    }
}

#[cfg(all(test, not(bast_loom)))]
#[path = "local_queue_tests.rs"]
mod tests;
