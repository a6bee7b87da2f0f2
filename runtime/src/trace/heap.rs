//! How much of the heap is in use: an allocator that counts, and what of it is written.
//!
//! The allocator does nothing but add to a counter: it takes no lock, no memory, and looks at nothing of a thread's own, so it
//! works before there is a runtime, after it, and within the trace itself. Who writes an event looks, when a while has
//! passed, and writes the sum beside it.

use super::encode::{UNIT_NANOS, kind};
use super::pen::Ink;
use crate::primitive::atomic::{AtomicU64, Relaxed};
use crossbeam_utils::CachePadded;
use std::alloc::{GlobalAlloc, Layout, System};

/// Between two values, by whoever writes: a thousand a second at most.
const PERIOD: u64 = 1_000_000 / UNIT_NANOS;
/// Counters, so that threads seldom meet at one.
const COUNTERS: usize = 16;
/// Stacks are some of these apart.
const STACK_SHIFT: u32 = 14;

/// Allocated less freed; a block may be freed at another counter than it was allocated at, so only the sum says something.
static COUNTED: [CachePadded<AtomicU64>; COUNTERS] =
    [const { CachePadded::new(AtomicU64::new(0)) }; COUNTERS];
/// When the next value is due, in units.
static DUE: AtomicU64 = AtomicU64::new(0);

/// An allocator that counts the bytes in use, for execution traces: Go's tools then show the heap over time. It hands
/// everything on to `A`.
///
/// ```
/// use bast::trace::CountedHeap;
/// use std::alloc::System;
///
/// #[global_allocator]
/// static HEAP: CountedHeap<System> = CountedHeap::new(System); // or another library's allocator
///
/// let before = HEAP.live_bytes();
/// let block = vec![1_u8; 1 << 20];
/// assert!(HEAP.live_bytes() >= before + (1 << 20));
/// # drop(block);
/// ```
///
/// Costs an addition that is uncontended most of the time for each allocation and each freeing. Bytes are those asked for,
/// without what `A` adds. All allocators of this type in a process count together.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountedHeap<A = System>(A);

impl<A> CountedHeap<A> {
    /// Counts what `inner` allocates.
    pub const fn new(inner: A) -> CountedHeap<A> {
        CountedHeap(inner)
    }

    /// The bytes that are allocated now; while other threads allocate, of about now.
    pub fn live_bytes(&self) -> u64 {
        live_bytes()
    }
}

// SAFETY: validity: every call is handed on as it is, and what comes back is too. aliasing: the counters are apart.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountedHeap<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller's contract is the same.
        let block = unsafe { self.0.alloc(layout) };
        count(block, layout.size() as u64);
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let block = unsafe { self.0.alloc_zeroed(layout) };
        count(block, layout.size() as u64);
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(block, (layout.size() as u64).wrapping_neg());
        // SAFETY: as in `alloc`.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let block = unsafe { self.0.realloc(block, layout, size) };
        count(block, (size as u64).wrapping_sub(layout.size() as u64)); // if it failed the old one is still there
        block
    }
}

/// Adds `bytes`, which may be negative, if there is a block. Wraps: the sum of all counters is right.
#[inline]
fn count(block: *mut u8, bytes: u64) {
    if !block.is_null() {
        let here = 0_u8;
        let stack = (&raw const here).addr() >> STACK_SHIFT;
        COUNTED[stack % COUNTERS].fetch_add(bytes, Relaxed); // a number of which nothing depends
    }
}

/// Zero if nobody counts.
fn live_bytes() -> u64 {
    let sum = COUNTED
        .iter()
        .fold(0, |sum: u64, counter| sum.wrapping_add(counter.load(Relaxed)));
    // A block that was allocated after the look at one counter and freed before the look at another.
    if sum.cast_signed() < 0 { 0 } else { sum }
}

/// A trace begins.
pub(super) fn begin() {
    DUE.store(0, Relaxed);
}

impl Ink {
    /// Writes the value if nobody else has since it was due; the thread may hold a processor or not.
    #[cold]
    pub(super) fn heap_if_due(&mut self) {
        let (now, due) = (self.now(), DUE.load(Relaxed));
        if now < due {
            self.heap_due = due;
        } else if self.processor.is_some() {
            self.heap_due = now + PERIOD;
            // Relaxed: whoever wins writes, and nothing else depends on it.
            if DUE.compare_exchange(due, self.heap_due, Relaxed, Relaxed).is_ok() {
                self.heap();
            }
        }
    }

    /// Writes the value. The thread holds a processor.
    #[cold]
    pub(super) fn heap(&mut self) {
        let bytes = live_bytes();
        if bytes != 0 {
            self.tell_own();
            self.put(kind::HEAP_ALLOC, &[bytes]);
        }
    }
}
