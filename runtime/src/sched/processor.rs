//! `Processor`: the right to run tasks, with its queue, timers, caches and counters.
//!
//! # Who may touch what
//! `queue`, `timers`, `tick` and `counters` are shared: anybody reads, stealers take from the queue and expire
//! timers. `own` belongs to the **holder**: the worker whose `processor` cell names this processor, and only while
//! that worker is inside the runtime (see `blocking::handoff`). A processor on the idle list is held by the
//! scheduler's lock.

use super::local_queue::LocalQueue;
use crate::metrics::counters::Counters;
use crate::primitive::atomic::{AtomicU32, AtomicU64, Relaxed};
use crate::task::header::Header;
use crate::task::slab::FreeList;
use crate::time::heap::Timers;
use crate::trace::ProcRecord;
use crate::util::rng::Rng;
use bast_stack::{HotCache, Saved, Stack, StackClass};
use crossbeam_utils::CachePadded;
use std::cell::UnsafeCell;

/// How many stacks a processor keeps hot.
const HOT_STACKS: usize = 64;

/// One processor. See the module for who may touch what.
#[derive(Debug)]
pub(crate) struct Processor {
    pub(crate) index: usize,
    pub(crate) trace: &'static ProcRecord,
    pub(crate) queue: CachePadded<LocalQueue<Header>>,
    pub(crate) timers: CachePadded<Timers>,
    /// Rounds of picking the next task, by the holder; the monitor compares it.
    tick: CachePadded<AtomicU32>,
    pub(crate) counters: CachePadded<Counters>,
    /// When it was lent last to a worker that was held (`lend`), by who lends it.
    pub(super) lent_at: AtomicU64,
    own: UnsafeCell<Own>,
}

// SAFETY: `own` is touched by the holder only (module docs); the rest is atomics, locks and the queue's own rules.
unsafe impl Send for Processor {}
// SAFETY: as for Send.
unsafe impl Sync for Processor {}

/// What only the holder touches.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) rng: Rng,
    pub(crate) headers: FreeList,
    /// A stack that waits in the entry's loop for a task, the warmest of all.
    pub(crate) runner: Option<Runner>,
    pub(crate) stacks: HotCache,
    /// Task ids set aside for this processor.
    pub(crate) ids: std::ops::Range<u64>,
    /// How many times running the next slot has been preferred to the ring.
    pub(crate) next_in_a_row: u32,
    /// How many tasks of high priority were picked since the others had their turn.
    pub(crate) high_in_a_row: u32,
}

/// See [`Own::runner`].
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) stack: Stack,
    pub(crate) saved: Saved,
}

impl Processor {
    #[expect(
        clippy::large_stack_frames,
        reason = "called at the start, on the stack of whoever starts the runtime"
    )]
    pub(crate) fn new(index: usize, class: StackClass, seed: u64) -> Processor {
        Processor {
            index,
            trace: crate::trace::add_processor(),
            queue: CachePadded::new(LocalQueue::new()),
            timers: CachePadded::new(Timers::new()),
            tick: CachePadded::new(AtomicU32::new(0)),
            counters: CachePadded::new(Counters::default()),
            lent_at: AtomicU64::new(0),
            own: UnsafeCell::new(Own {
                rng: Rng::new(seed.wrapping_add(index as u64)),
                headers: FreeList::default(),
                runner: None,
                stacks: HotCache::new(class, HOT_STACKS),
                ids: 0..0,
                next_in_a_row: 0,
                high_in_a_row: 0,
            }),
        }
    }

    /// What only the holder touches.
    ///
    /// # Safety
    /// The caller holds the processor and is inside the runtime, and no other borrow of `own` is alive.
    #[inline]
    #[expect(
        clippy::mut_from_ref,
        reason = "possession of the processor is the exclusive borrow"
    )]
    pub(crate) unsafe fn own(&self) -> &mut Own {
        // SAFETY: validity: our own cell. aliasing: the caller's promise.
        unsafe { &mut *self.own.get() }
    }

    /// A new round; gives its number.
    #[inline]
    pub(crate) fn next_tick(&self) -> u32 {
        let tick = self.tick.load(Relaxed).wrapping_add(1);
        self.tick.store(tick, Relaxed);
        tick
    }

    /// The number of the last round.
    pub(crate) fn tick(&self) -> u32 {
        self.tick.load(Relaxed)
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.trace.give_up();
    }
}
