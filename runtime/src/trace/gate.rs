//! Who writes where while the generation changes: the gate, which is the number of the generation, and sheets, each
//! written by one thread most of the time.
//!
//! ```text
//!   writer:  lock sheet ─ read gate ─┬─ as the sheet says: write ─────────────── unlock
//!                                    └─ another: turn (hand the old over), write ─┘
//!   closer:  set gate to g+1 ─ for each sheet: lock, turn if it still says g, unlock ─ all of g is handed over
//! ```
//!
//! # Goal
//! A trace is cut into generations that each stand alone. When the closer is through, no event of generation g may come
//! any more, none may be missing, and an event that happens after another one is never in an earlier generation.
//!
//! # Why it holds
//! *Nothing late*: a writer reads the gate under the sheet's lock. One that locks before the closer has its events taken
//! by the closer's turn; one that locks after it synchronises with the closer's unlock (Release, Acquire), which comes
//! after the store to the gate, so it reads g+1 or more.
//! *Nothing goes back*: the gate is one atomic that only grows while a trace runs, so of two reads of which one happens
//! before the other the later one cannot give less (coherence). The scheduler orders the events of a task and of a
//! processor: who writes the second has taken the task from a queue or a word where the writer of the first has put it.
//! Nothing is said of an event and the transition that it tells of being one step: the first is written by whoever owns
//! the task or processor, before it is published or after it was taken.
//!
//! # The lock
//! It is the writer's own: nobody else takes it but the closer, once a generation, and the monitor, for the moment in
//! which it writes that a processor was taken from the writer. So it costs one exchange and is never waited for in
//! between. Rejected: Go's flag and two buffers. There a thief writes into his own buffer and the reader works out what
//! became of the victim; here the victim was *running* as far as the trace knows, so somebody must write for it.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::UnsafeCell;
use crate::primitive::atomic::{Acquire, AtomicBool, AtomicU64, Ordering, Relaxed, Release};
use crate::primitive::{spin_loop, yield_now};

/// Looks at a taken lock before the thread lets others run: its holder may have been put aside by the kernel.
const SPINS: u32 = 64;

// Planted bugs, off unless the build asks for one: the model must find each of them. Two more are below.
const UNLOCK: Ordering = if cfg!(bast_plant = "gate_unlock_relaxed") {
    Relaxed
} else {
    Release
};

/// The number of the generation that is written now; zero while there is none.
#[derive(Debug)]
pub struct Gate(AtomicU64);

impl Gate {
    /// Closed.
    #[cfg(not(bast_loom))]
    pub const fn new() -> Gate {
        Gate(AtomicU64::new(0))
    }

    /// Closed.
    #[cfg(bast_loom)]
    #[allow(clippy::new_without_default, reason = "as the one above")]
    pub fn new() -> Gate {
        Gate(AtomicU64::new(0))
    }

    /// Is anything written? One load, for the hot paths; what follows asks again.
    #[inline(always)]
    pub fn is_open(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// The generation.
    #[inline]
    pub fn now(&self) -> u64 {
        self.0.load(Acquire) // pairs with `set`: what was set up for the generation is seen
    }

    /// Changes it. By the closer alone.
    pub fn set(&self, generation: u64) {
        self.0.store(generation, Release);
    }
}

/// What one thread writes, and the lock around it.
#[derive(Debug)]
pub struct Sheet<T> {
    taken: AtomicBool,
    inner: UnsafeCell<Page<T>>,
}

#[derive(Debug)]
struct Page<T> {
    /// The generation of what is on it; zero for a blank one.
    generation: u64,
    content: T,
}

// SAFETY: the content is reached under the lock only.
unsafe impl<T: Send> Send for Sheet<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send> Sync for Sheet<T> {}

impl<T> Sheet<T> {
    /// A blank one.
    pub fn new(content: T) -> Sheet<T> {
        let generation = 0;
        Sheet {
            taken: AtomicBool::new(false),
            inner: UnsafeCell::new(Page { generation, content }),
        }
    }

    /// Writes in the generation of the moment, which `body` is told; `turn` hands over what there is of another, whose
    /// number it is told. None: there is no generation.
    #[inline]
    pub fn write<R>(
        &self,
        gate: &Gate,
        turn: impl FnOnce(&mut T, u64, u64),
        body: impl FnOnce(&mut T, u64) -> R,
    ) -> Option<R> {
        #[cfg(bast_plant = "gate_read_early")]
        let generation = gate.now();
        self.with(|page| {
            #[cfg(not(bast_plant = "gate_read_early"))]
            let generation = gate.now();
            if generation == 0 {
                return None; // what is left on the page is the closer's to take
            }
            if page.generation != generation {
                turn(&mut page.content, page.generation, generation);
                page.generation = generation;
            }
            Some(body(&mut page.content, generation))
        })
    }

    /// By the closer, after it has changed the gate to `next`: hands over what there still is of `closed`.
    pub fn close(&self, closed: u64, next: u64, turn: impl FnOnce(&mut T, u64, u64)) {
        #[cfg(bast_plant = "gate_no_wait")]
        if self.taken.load(Acquire) {
            return;
        }
        self.with(|page| {
            if page.generation == closed {
                turn(&mut page.content, closed, next);
                page.generation = next;
            }
        });
    }

    /// The generation of the page. For whoever waits for the writer to have seen one.
    pub fn generation(&self) -> u64 {
        self.with(|page| page.generation)
    }

    #[inline]
    fn with<R>(&self, body: impl FnOnce(&mut Page<T>) -> R) -> R {
        if !self.try_take() {
            self.wait();
        }
        // SAFETY: validity: our own cell. aliasing: under the lock, which is ours until the store below.
        let result = self.inner.with_mut(|page| body(unsafe { &mut *page }));
        self.taken.store(false, UNLOCK); // Release: pairs with the exchange above
        result
    }

    #[inline(always)]
    fn try_take(&self) -> bool {
        // Acquire: pairs with the unlock of whoever wrote before.
        self.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok()
    }

    #[cold]
    fn wait(&self) {
        let mut spins = 0;
        while !self.try_take() {
            spins += 1;
            if spins < SPINS {
                spin_loop();
            } else {
                yield_now();
            }
        }
    }
}
