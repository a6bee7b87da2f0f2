//! Who owns a worker's processor while user code runs: the race of a worker's entry with the monitor.
//!
//! ```text
//!                     monitor: try_detach, worker outside
//!        ┌──────┐ ───────────────────────────────────────► ┌───────┐
//!        │ HELD │                                          │ TAKEN │
//!        └──────┘ ◄──────── regained: a processor again ── └───────┘
//!          │  ▲                                                ▲
//!  settle  │  │ (entry, slow: request withdrawn)               │ given_up: a blocking section hands it off itself
//!          ▼  │                                                │
//!        ┌──────┐                                              │
//!        │ KEPT │  only within `settle_request`                │
//!        └──────┘   HELD ──────────────────────────────────────┘
//! ```
//!
//! # Goal
//! A task in user code for too long, blocked or burning, must not keep its processor. The hot path, entry to and
//! exit from every runtime call, costs two plain stores, a load and a branch.
//!
//! # The protocol: a Dekker with one cheap and one dear side
//! Worker, entry: (E1) `inside = true`; (E2) barrier; (E3) read `request`.
//! Monitor: (M1) `request |= DETACH`; (M2) heavy barrier; (M3) read `inside`.
//! Either M3 sees E1 and the monitor leaves the processor alone, or E3 sees M1 and the worker takes the slow path,
//! where one compare-exchange on `claim` decides: the monitor moves `HELD -> TAKEN`, the worker `HELD -> KEPT`.
//! `claim` carries an epoch that the worker's slow path advances: a monitor that was overtaken between M1 and its
//! exchange (the worker came in, answered the request, withdrew it and left again) finds another epoch and fails;
//! without it the worker's next entry would see no request and a processor that is no longer its own.
//! Processor-local data is touched only while `inside`, so a monitor that wins has it alone: its read of `inside`
//! (Acquire) pairs with the worker's exit (Release).
//! The same pair of barriers lets the monitor rest for long: it asks for `WATCH`, and if it then sees a worker outside, the
//! worker's next entry sees that it is asked to wake the monitor.
//! The heavy barrier is `membarrier(PRIVATE_EXPEDITED)`, which runs a full barrier on every thread of the process;
//! E2 is then only a compiler fence. Where membarrier is refused both are SeqCst fences: then `FENCE` stands in every
//! `request` from the beginning, so that an entry that goes without a fence finds something asked in any case, runs the
//! fence, and reads again. The hot path need not know which it is. Loom models the latter: the former is the kernel's
//! promise (`membarrier(2)`).

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

#[cfg(not(bast_loom))]
use crate::primitive::atomic::compiler_fence;
use crate::primitive::atomic::{
    AcqRel, Acquire, AtomicBool, AtomicU32, Ordering, Relaxed, Release, SeqCst, fence,
};

/// The low bits of `claim` are one of the three states below, the rest is the epoch.
const STATE: u32 = 3;
/// One step of the epoch.
const EPOCH_ONE: u32 = 4;
/// The worker holds its processor.
const HELD: u32 = 0;
/// The worker is deciding: the monitor keeps off.
const KEPT: u32 = 1;
/// The processor is somebody else's.
const TAKEN: u32 = 2;

/// Request: the task's slice is over; yield at the next entry.
pub const YIELD: u32 = 1;
/// Request: the monitor tries to take the processor.
pub const DETACH: u32 = 2;
/// Request: the runtime is closing; leave the task at the next entry.
pub const CLOSE: u32 = 4;
/// Request: the worker has no processor; regain one at the next entry.
pub const REGAIN: u32 = 8;
/// Request: the monitor rests; wake it at the next entry.
pub const WATCH: u32 = 16;
/// Not a request: every entry runs a fence of its own. Never withdrawn.
const FENCE: u32 = 32;
/// What an answer leaves standing.
const STANDING: u32 = CLOSE | FENCE;

// Planted bugs, off unless the build asks for one: the model must find each of them. More are below.
const EXIT: Ordering = if cfg!(bast_plant = "handoff_exit_relaxed") {
    Relaxed
} else {
    Release
};
const EPOCH_OF_REGAIN: u32 = if cfg!(bast_plant = "handoff_regain_no_epoch") {
    0
} else {
    EPOCH_ONE
};

/// What the slow path of an entry found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// The processor is still the worker's; these requests are to be honoured.
    Held(u32),
    /// The processor is gone; the worker must regain one before it goes on. The requests as above.
    Lost(u32),
}

/// One stretch of holding one processor, between two answers of the worker to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure(u32);

/// One worker's side of the race. Kept on a cache line of its own.
#[derive(Debug)]
pub struct Marking {
    /// The worker is inside the runtime and may touch its processor's data.
    inside: AtomicBool,
    /// What is asked of the worker; see the constants.
    request: AtomicU32,
    /// Whose the processor is, and the epoch.
    claim: AtomicU32,
}

impl Marking {
    /// A worker that is inside the runtime and holds nothing yet. `fences`: the monitor's barrier does not reach other
    /// threads, so each entry runs one itself.
    pub fn new(fences: bool) -> Marking {
        Marking {
            inside: AtomicBool::new(true),
            request: AtomicU32::new(if fences { FENCE } else { 0 }),
            claim: AtomicU32::new(TAKEN),
        }
    }

    /// E1, E2 and E3. True: something is asked, take the slow path ([`Marking::settle_request`]).
    #[inline(always)]
    #[must_use]
    pub fn enter(&self) -> bool {
        #[cfg(bast_plant = "handoff_enter_late")]
        if self.requested() == 0 {
            self.inside.store(true, Relaxed);
            return false;
        }
        self.inside.store(true, Relaxed); // E1
        #[cfg(not(bast_loom))]
        compiler_fence(SeqCst); // E2; pairs with M2
        let asked = self.request.load(Relaxed); // E3, or that of `is_asked`
        asked != 0 && self.is_asked(asked)
    }

    /// The rest of an entry that read `asked`.
    #[cold]
    fn is_asked(&self, asked: u32) -> bool {
        if asked & FENCE == 0 {
            return true;
        }
        #[cfg(not(bast_plant = "handoff_no_fence"))]
        fence(SeqCst); // E2; pairs with M2
        self.requested() != 0 // E3
    }

    /// Leaves the runtime for user code.
    #[inline(always)]
    pub fn exit(&self) {
        // Not under loom, whose search for races keeps only the last access to an atomic: a load just before the store
        // would hide those of the monitor.
        debug_assert!(cfg!(bast_loom) || self.is_inside(), "left the runtime twice");
        // Release: what was done to the processor's data is seen by a monitor that reads `inside` as false.
        self.inside.store(false, EXIT);
    }

    /// True between entry and exit. By the worker itself.
    #[inline]
    pub fn is_inside(&self) -> bool {
        self.inside.load(Relaxed)
    }

    /// Slow path of the entry, by the worker, inside.
    #[cold]
    pub fn settle_request(&self) -> Settled {
        let held = self.claim.load(Relaxed);
        // AcqRel: a failed exchange acquires what the new owner released; a won one keeps the monitor off until
        // the request is withdrawn, so that it cannot act on a request that has been answered.
        let won = held & STATE == HELD
            && self
                .claim
                .compare_exchange(held, (held & !STATE) | KEPT, AcqRel, Acquire)
                .is_ok();
        let asked = self.request.fetch_and(STANDING, AcqRel) & !FENCE;
        if !won {
            return Settled::Lost(asked);
        }
        #[cfg(not(bast_plant = "handoff_no_epoch"))]
        let next = held.wrapping_add(EPOCH_ONE);
        #[cfg(bast_plant = "handoff_no_epoch")]
        let next = held;
        self.claim.store(next, Release); // pairs with the exchange in `try_detach`
        Settled::Held(asked)
    }

    /// By the worker, inside: it hands its processor to somebody else (a blocking section, or going to sleep).
    pub fn given_up(&self) {
        let held = self.claim.load(Relaxed);
        debug_assert_eq!(held & STATE, HELD, "gave up a processor that was not held");
        // A plain store would do as far as the monitor goes (it acts only while the worker is outside); Release
        // publishes the processor's data to whoever regains it through this word.
        self.claim.store((held & !STATE) | TAKEN, Release);
        self.request.fetch_or(REGAIN, AcqRel);
    }

    /// By the worker, inside: it has a processor again.
    pub fn regained(&self) {
        self.request.fetch_and(STANDING, AcqRel);
        let taken = self.claim.load(Relaxed);
        debug_assert_eq!(taken & STATE, TAKEN, "regained a processor that was never lost");
        self.claim
            .store((taken & !STATE).wrapping_add(EPOCH_OF_REGAIN) | HELD, Release);
    }

    /// By the monitor, first: the present tenure, if the worker holds a processor. What is read of the worker after it
    /// (which processor it holds) is of this tenure if [`Marking::try_detach`] succeeds with it, for every change of
    /// processor goes through [`Marking::given_up`] and [`Marking::regained`].
    pub fn tenure(&self) -> Option<Tenure> {
        let held = self.claim.load(Acquire); // pairs with the Release in `regained`
        (held & STATE == HELD).then_some(Tenure(held))
    }

    /// M1 to M3, by the monitor. True: the processor is the caller's now, to hand to another worker.
    #[must_use]
    pub fn try_detach(&self, tenure: Tenure, heavy_barrier: impl FnOnce()) -> bool {
        #[cfg(not(bast_plant = "handoff_any_tenure"))]
        let Tenure(held) = tenure;
        #[cfg(bast_plant = "handoff_any_tenure")]
        let Tenure(held) = self.tenure().unwrap_or(tenure);
        self.request.fetch_or(DETACH, AcqRel); // M1
        heavy_barrier(); // M2
        // Acquire: pairs with `exit`, so that the processor's data is whole.
        #[cfg(not(bast_plant = "handoff_ignore_inside"))]
        let inside = self.inside.load(Acquire); // M3
        #[cfg(bast_plant = "handoff_ignore_inside")]
        let inside = false;
        let taken = (held & !STATE) | TAKEN;
        if !inside && self.claim.compare_exchange(held, taken, AcqRel, Relaxed).is_ok() {
            self.request.fetch_or(REGAIN, AcqRel);
            return true;
        }
        // The worker is at hand: it sees the request at its next entry or at its next switch.
        self.request.fetch_or(YIELD, AcqRel);
        false
    }

    /// Asks for `what` (`YIELD`, `CLOSE`) at the worker's next entry.
    pub fn ask(&self, what: u32) {
        self.request.fetch_or(what, AcqRel);
    }

    /// What is asked now. Racy unless the caller is the worker.
    #[inline]
    pub fn requested(&self) -> u32 {
        self.request.load(Relaxed) & !FENCE
    }

    /// Withdraws requests that a voluntary switch has answered. By the worker, inside.
    #[inline]
    pub fn answered(&self, what: u32) {
        if self.request.load(Relaxed) & what != 0 {
            self.request.fetch_and(!what, AcqRel);
        }
    }
}

/// The monitor's barrier under loom; see `sys::membarrier` for the real one.
#[cfg(bast_loom)]
pub fn full_barrier() {
    fence(SeqCst);
}
