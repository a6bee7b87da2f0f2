//! May a worker without a processor go on in user code? The word that its signal handler waits at, and the lease of a
//! processor with which it goes on.
//!
//! ```text
//!            ask (monitor)          park (the worker's handler)
//!   ┌──────┐ ────────────► ┌───────┐ ────────────► ┌──────┐
//!   │ FREE │               │ ASKED │               │ HELD │
//!   └──────┘ ◄──────────── └───────┘               └──┬───┘
//!     ▲  ▲    withdraw (the worker, inside)           │ release: the caller has won it
//!     │  │                                            ▼
//!     │  └──── out of patience (the handler) ──── HELD│
//!     └────────────── the lease is there ───────── ┌──────────┐
//!                                                  │ RELEASED │
//!                                                  └──────────┘
//! ```
//!
//! # Rules
//! 1. Only the handler, on the worker's own thread, makes it `HELD`, and only in user code: so it never waits inside the
//!    runtime, and what it interrupts cannot see it.
//! 2. A lease is put down before `FREE` is stored (Release), and the handler goes on after it has read that (Acquire): a
//!    worker that goes on sees its lease.
//! 3. Whoever swaps a lease out has the processor: the worker at its next entry, or the monitor when the lease is over.
//! 4. A release and the end of the handler's patience exclude each other (compare-exchanges from `HELD`), so a processor
//!    is lent to nobody who has left.
//! 5. The word may be `FREE` and `ASKED` again before the handler has looked: then it holds on.
//! 6. A worker that enters withdraws what is asked. A signal that comes later finds nothing asked, or asked anew.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::atomic::{AcqRel, Acquire, AtomicU32, AtomicUsize, Ordering, Relaxed, Release};

/// It goes on, or does not run at all.
pub const FREE: u32 = 0;
/// Its handler is to hold it.
pub const ASKED: u32 = 1;
/// Its handler waits.
pub const HELD: u32 = 2;
/// The same, and somebody is about to let it go.
pub const RELEASED: u32 = 3;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const LET_GO: Ordering = if cfg!(bast_plant = "hold_release_relaxed") {
    Relaxed
} else {
    Release
};

/// See the module.
#[derive(Debug)]
pub struct Hold {
    word: AtomicU32,
    /// The processor it was lent, as an address; 0 for none.
    lease: AtomicUsize,
}

impl Hold {
    /// Free, without a lease.
    pub fn new() -> Hold {
        Hold {
            word: AtomicU32::new(FREE),
            lease: AtomicUsize::new(0),
        }
    }

    /// Where it stands; a hint.
    pub fn state(&self) -> u32 {
        self.word.load(Relaxed)
    }

    /// The word, to wait at.
    #[cfg_attr(
        not(any(target_os = "linux", bast_loom)),
        expect(dead_code, reason = "only Linux has a handler as yet")
    )]
    pub fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// By the monitor. True: the signal is to be sent.
    #[must_use]
    pub fn ask(&self) -> bool {
        self.word.compare_exchange(FREE, ASKED, AcqRel, Relaxed).is_ok()
    }

    /// By the worker, inside; or by the monitor, when the runtime closes.
    #[inline]
    pub fn withdraw(&self) {
        // A look first: hardly ever is anything asked.
        if self.word.load(Relaxed) == ASKED {
            // Failure: in the handler by now; only the monitor's withdrawal can see that.
            let _ = self.word.compare_exchange(ASKED, FREE, AcqRel, Relaxed);
        }
    }

    /// By the handler, which only Linux has as yet. `is_inside`: it has interrupted the runtime. `wait` waits while the word is what it is given, and
    /// says false if it has waited long enough.
    #[cfg_attr(
        not(any(target_os = "linux", bast_loom)),
        expect(dead_code, reason = "only Linux has a handler as yet")
    )]
    pub fn park(&self, is_inside: bool, mut wait: impl FnMut(u32) -> bool) {
        #[cfg(bast_plant = "hold_inside")]
        let is_inside = false & is_inside;
        if is_inside || self.word.compare_exchange(ASKED, HELD, AcqRel, Relaxed).is_err() {
            return;
        }
        loop {
            // Acquire: Rule 2.
            let state = self.word.load(Acquire);
            if state == FREE {
                return;
            }
            // Let go and asked anew before it has seen the former.
            #[cfg(not(bast_plant = "hold_asked_anew"))]
            if state == ASKED {
                let _ = self.word.compare_exchange(ASKED, HELD, AcqRel, Relaxed);
                continue;
            }
            let patient = wait(state);
            #[cfg(not(bast_plant = "hold_patience_store"))]
            if !patient && self.word.compare_exchange(HELD, FREE, AcqRel, Relaxed).is_ok() {
                return;
            }
            #[cfg(bast_plant = "hold_patience_store")]
            if !patient {
                self.word.store(FREE, Release);
                return;
            }
        }
    }

    /// Lets it go with `lease`, or 0 for none, from anywhere. True: it is the worker's now, and the word's waiter is to be
    /// woken. False: it is not held, and the lease stays the caller's.
    #[must_use]
    pub fn release(&self, lease: usize) -> bool {
        // Rule 4. Acquire: what the worker did with the processor before it was held.
        if self
            .word
            .compare_exchange(HELD, RELEASED, AcqRel, Relaxed)
            .is_err()
        {
            return false;
        }
        #[cfg(bast_plant = "hold_late_lease")]
        self.word.store(FREE, LET_GO);
        if lease != 0 {
            // Release: the processor's data; pairs with `take_lease`.
            self.lease.store(lease, Release);
        }
        #[cfg(not(bast_plant = "hold_late_lease"))]
        self.word.store(FREE, LET_GO); // Rule 2
        true
    }

    /// Takes the lease, which is the caller's then; 0: there is none. Rule 3.
    #[inline]
    pub fn take_lease(&self) -> usize {
        if self.lease.load(Relaxed) == 0 {
            return 0; // hardly ever is there one
        }
        self.lease.swap(0, AcqRel)
    }

    /// Is it on a lease? A hint.
    pub fn lease(&self) -> usize {
        self.lease.load(Relaxed)
    }
}

impl Default for Hold {
    fn default() -> Self {
        Hold::new()
    }
}
