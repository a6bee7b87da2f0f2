//! Who writes where while the generation changes: the gate, which is the number of the generation, and sheets, each
//! written by one thread most of the time.
//!
//! ```text
//!   owner:   writing = true ─ is it taken? ─ read gate ─┬─ as the sheet says: write ─────────────── writing = false
//!                                                       └─ another: turn (hand the old over), write ─┘
//!   closer:  set gate to g+1 ─ for each sheet: take, turn if it still says g, leave ─ all of g is handed over
//!   take:    taken = true ─ heavy barrier ─ wait while writing            leave:  taken = false
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
//! It is the owner's, who writes at each event; nobody else takes it but the closer, once a generation, and the monitor, for
//! the moment in which it writes that a processor was taken from the owner. So it is biased: the owner stores a flag and
//! reads another, and the others pay. An exchange, behind the stores of a system call, was a fifth of what an event cost.
//!
//! Owner: (W1) `writing = true`; (W2) barrier; (W3) read `taken`: if it is, step back and wait.
//! Others: (O1) `taken = true`, if it is not; (O2) heavy barrier; (O3) wait while `writing`.
//! As in `blocking::handoff`, either O3 sees W1 or W3 sees O1; O2 is `membarrier(2)`, and where that is refused `FENCE`
//! stands in `taken` for ever, so that the owner runs a fence at W2 and reads again. W3 acquires what the others wrote
//! (Release where they leave), O3 what the owner wrote.
//! A sheet that all threads write which are no workers has no owner, and is an ordinary lock.
//!
//! Rejected: Go's flag and two buffers. There a thief writes into his own buffer and the reader works out what
//! became of the victim; here the victim was *running* as far as the trace knows, so somebody must write for it.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::UnsafeCell;
#[cfg(not(bast_loom))]
use crate::primitive::atomic::compiler_fence;
use crate::primitive::atomic::{
    Acquire, AtomicBool, AtomicU32, AtomicU64, Ordering, Relaxed, Release, SeqCst, fence,
};
use crate::primitive::{spin_loop, yield_now};

/// Looks at a sheet that another uses before the thread lets others run: that one may have been put aside by the kernel.
const SPINS: u32 = 64;

// Planted bugs, off unless the build asks for one: the model must find each of them. More are below.
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

/// Another than the owner is at the sheet, or about to be.
const TAKEN: u32 = 1;
/// The owner runs a fence of its own.
const FENCE: u32 = 2;

/// What one thread writes, and the lock around it.
#[derive(Debug)]
#[repr(C, align(128))] // what the owner needs at each event begins on a line of its own, and is fetched with the next one
pub struct Sheet<T> {
    taken: AtomicU32,
    /// The owner is at it, or about to be.
    writing: AtomicBool,
    owned: bool,
    inner: UnsafeCell<Page<T>>,
}

#[derive(Debug)]
#[repr(C)]
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
    /// A blank one with an owner. `fences`: the others' heavy barrier does not reach him.
    pub fn owned(content: T, fences: bool) -> Sheet<T> {
        Sheet::blank(content, true, if fences { FENCE } else { 0 })
    }

    /// A blank one that anybody writes.
    pub fn shared(content: T) -> Sheet<T> {
        Sheet::blank(content, false, 0)
    }

    fn blank(content: T, owned: bool, taken: u32) -> Sheet<T> {
        let generation = 0;
        Sheet {
            writing: AtomicBool::new(false),
            taken: AtomicU32::new(taken),
            owned,
            inner: UnsafeCell::new(Page { generation, content }),
        }
    }

    /// Writes in the generation of the moment, which `body` is told; `turn` hands over what there is of another, whose
    /// number it is told. None: there is no generation.
    ///
    /// # Safety
    /// The sheet has an owner, who is the calling thread, and is not writing it already.
    #[inline]
    pub unsafe fn write_own<R>(
        &self,
        gate: &Gate,
        turn: impl FnOnce(&mut T, u64, u64),
        body: impl FnOnce(&mut T, u64) -> R,
    ) -> Option<R> {
        #[cfg(bast_plant = "gate_read_early")]
        let generation = gate.now();
        debug_assert!(self.owned && (cfg!(bast_loom) || !self.writing.load(Relaxed)));
        self.writing.store(true, Relaxed); // W1
        #[cfg(not(bast_loom))]
        compiler_fence(SeqCst); // W2; pairs with O2
        let taken = self.taken.load(Acquire); // W3, or that of `step_back`; pairs with the others' leaving
        if taken != 0 {
            self.step_back();
        }
        #[cfg(not(bast_plant = "gate_read_early"))]
        let generation = gate.now();
        // SAFETY: validity: our own cell. aliasing: ours, who own it, until the store below: the others wait.
        let result = self
            .inner
            .with_mut(|page| unsafe { &mut *page }.write(generation, turn, body));
        self.writing.store(false, UNLOCK); // Release: pairs with O3
        result
    }

    /// As [`Sheet::write_own`], by anybody who is not writing it already.
    pub fn write<R>(
        &self,
        gate: &Gate,
        heavy_barrier: impl FnOnce(),
        turn: impl FnOnce(&mut T, u64, u64),
        body: impl FnOnce(&mut T, u64) -> R,
    ) -> Option<R> {
        self.with(heavy_barrier, |page| page.write(gate.now(), turn, body))
    }

    /// By the closer, after it has changed the gate to `next`: hands over what there still is of `closed`.
    pub fn close(
        &self,
        closed: u64,
        next: u64,
        heavy_barrier: impl FnOnce(),
        turn: impl FnOnce(&mut T, u64, u64),
    ) {
        self.with(heavy_barrier, |page| {
            if page.generation == closed {
                turn(&mut page.content, closed, next);
                page.generation = next;
            }
        });
    }

    /// The generation of the page. For whoever waits for the writer to have seen one.
    pub fn generation(&self, heavy_barrier: impl FnOnce()) -> u64 {
        self.with(heavy_barrier, |page| page.generation)
    }

    /// The owner has found that it is taken, or that it has to run a fence.
    #[cold]
    fn step_back(&self) {
        loop {
            #[cfg(not(bast_plant = "gate_no_fence"))]
            fence(SeqCst); // W2; pairs with O2
            if self.taken.load(Acquire) & TAKEN == 0 {
                return; // W3
            }
            self.writing.store(false, Release); // pairs with O3
            wait_until(|| self.taken.load(Relaxed) & TAKEN == 0);
            self.writing.store(true, Relaxed); // W1
        }
    }

    /// For others than the owner.
    fn with<R>(&self, heavy_barrier: impl FnOnce(), body: impl FnOnce(&mut Page<T>) -> R) -> R {
        wait_until(|| {
            // Acquire: pairs with whoever left before.
            self.taken.fetch_or(TAKEN, Acquire) & TAKEN == 0 // O1
        });
        if self.owned {
            heavy_barrier(); // O2; pairs with W2
            #[cfg(not(bast_plant = "gate_no_wait"))]
            wait_until(|| !self.writing.load(Acquire)); // O3; Acquire: pairs with the owner's unlock
        }
        // SAFETY: validity: our own cell. aliasing: nobody else has taken it, and the owner waits, until the line below.
        let result = self.inner.with_mut(|page| body(unsafe { &mut *page }));
        self.taken.fetch_and(!TAKEN, UNLOCK); // Release: pairs with O1 and W3
        result
    }
}

impl<T> Page<T> {
    #[inline]
    fn write<R>(
        &mut self,
        generation: u64,
        turn: impl FnOnce(&mut T, u64, u64),
        body: impl FnOnce(&mut T, u64) -> R,
    ) -> Option<R> {
        if generation == 0 {
            return None; // what is left on the page is the closer's to take
        }
        if self.generation != generation {
            turn(&mut self.content, self.generation, generation);
            self.generation = generation;
        }
        Some(body(&mut self.content, generation))
    }
}

/// Most often at once.
#[inline]
fn wait_until(mut done: impl FnMut() -> bool) {
    let mut looks = 0;
    while !done() {
        looks += 1;
        if looks < SPINS {
            spin_loop();
        } else {
            yield_now();
        }
    }
}
