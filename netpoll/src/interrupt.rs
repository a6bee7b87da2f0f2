//! Wakes a thread that is blocked in the poller, at the price of one write a wait.
//!
//! ```text
//!                 begin_wait                      request (true: write to the waker)
//!      ┌──────┐ ─────────────► ┌─────────┐ ───────────────────────┐
//!      │ idle │                │ waiting │                        ▼
//!      └──────┘ ◄───────────── └─────────┘              ┌───────────────────┐
//!        │  ▲      end_wait                             │ waiting + pending │ ◄─┐ request
//! request│  └────────────────────────────────────────── └───────────────────┘ ──┘ (false)
//!        ▼                      end_wait                          ▲
//!   ┌─────────┐                                                   │
//!   │ pending │ ──────────────────────────────────────────────────┘
//!   └─────────┘        begin_wait (false: look without blocking)
//! ```
//!
//! The word, not the waker, carries the interrupt. The waker only ends a blocking system call that has
//! begun or is about to. Hence:
//! * an interrupt sent while nobody waits costs one atomic operation, and the next blocking wait finds it;
//! * of many interrupts during one wait only the first, which sees `WAITING` alone, writes;
//! * a poll that does not block never comes here, so it cannot eat an interrupt. It may harvest the
//!   waker's edge, but an edge nobody has harvested yet belongs to a wait that is over: the poller lets
//!   one thread in at a time.
//!
//! A writer may be late: its write can land after the wait it was meant for has returned for another
//! reason. The next blocking wait then returns once for nothing, which every caller has to bear anyway.
//!
//! Memory ordering: every change is a read-modify-write. `request` releases what its caller did before;
//! `begin_wait` and `end_wait`, which clear the bit, acquire it. So whoever comes back from a wait that
//! swallowed an interrupt sees the work that the interrupt announced. A `request` that comes after
//! `end_wait` in the word's order is kept for the next wait.

use std::fmt;

use crate::primitive::{AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

/// A thread is inside a blocking wait, or about to begin it.
const WAITING: u32 = 1;
/// An interrupt has been asked for and no blocking wait has returned since.
const PENDING: u32 = 2;

/// The word of the picture above.
pub(crate) struct Interrupt {
    word: AtomicU32,
}

impl Interrupt {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }

    /// Asks for an interrupt. `true`: the caller must write to the waker.
    #[must_use = "when it is true the waiter sleeps until the waker is written to"]
    pub(crate) fn request(&self) -> bool {
        if cfg!(bast_plant = "interrupt_only_while_waiting") && !self.is_waiting() {
            return false;
        }
        let seen = self.word.fetch_or(PENDING, AcqRel);
        if cfg!(bast_plant = "interrupt_not_coalesced") {
            return seen & WAITING != 0;
        }
        seen == WAITING
    }

    /// Before a blocking wait. `false`: an interrupt is pending, so look but do not block.
    #[must_use = "blocking when this is false loses an interrupt"]
    pub(crate) fn begin_wait(&self) -> bool {
        let seen = self.word.fetch_or(WAITING, AcqRel);
        debug_assert_eq!(seen & WAITING, 0, "two threads wait in one poller");
        seen & PENDING == 0
    }

    /// After a blocking wait, however it ended. Tells whether an interrupt was pending; it no longer is.
    pub(crate) fn end_wait(&self) -> bool {
        let order = if cfg!(bast_plant = "interrupt_forgets_work") {
            Relaxed
        } else {
            AcqRel
        };
        let seen = self.word.swap(0, order);
        debug_assert_ne!(seen & WAITING, 0, "the end of a wait that did not begin");
        seen & PENDING != 0
    }

    /// A thread is inside a blocking wait.
    pub(crate) fn is_waiting(&self) -> bool {
        self.word.load(Acquire) & WAITING != 0
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Acquire);
        f.debug_struct("Interrupt")
            .field("waiting", &(word & WAITING != 0))
            .field("pending", &(word & PENDING != 0))
            .finish()
    }
}
