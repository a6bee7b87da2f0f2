//! The mutex word, and the waiters behind it: mutual exclusion without the value.
//!
//! ```text
//!             lock (one exchange)
//!      ┌───┐ ────────────────────► ┌────────┐  somebody comes, finds it locked     ┌──────────────────┐
//!      │ 0 │                       │ LOCKED │ ───────────────────────────────────► │ LOCKED | WAITING │◄─┐
//!      └───┘ ◄──────────────────── └────────┘          and waits                   └──────────────────┘  │
//!             unlock (one exchange)                                                  │             ▲     │
//!                                             unlock: the lock is free, and the      │             │     │
//!                                             first waiter is told to try again      ▼             │     │
//!                                                               ┌──────────────────────────────┐   │     │
//!                        whoever comes may take it: ──────────► │ [WAITING] | WOKEN  (| LOCKED) │ ──┘     │
//!                        running tasks win most often           └──────────────────────────────┘         │
//!                                                                 │ the woken one finds it taken, and    │
//!                                                                 ▼ has waited for 1 ms in all           │
//!                                                      ┌─────────────────────────────┐  the receiver     │
//!                     unlock: handed to the first, ┌──►│ LOCKED | WAITING | STARVING │ ──────────────────┘
//!                     never free in between        └───└─────────────────────────────┘  waited less, or was the last
//! ```
//!
//! | bit | says |
//! |---|---|
//! | `LOCKED` | somebody holds it |
//! | `WAITING` | the queue may hold a waiter; set and cleared under the queue's lock |
//! | `WOKEN` | one waiter has been told to try again and has not yet done so: unlocks wake no other |
//! | `STARVING` | unlock hands over; implies `LOCKED`, so nobody who comes can take it in between |
//!
//! # Why two ways to give it away
//! To free the lock and let the woken compete with the running is fast: a running task takes and frees it many times
//! before the woken one gets a processor. It is also unfair without bound. To hand over always is fair, and costs a
//! switch of tasks for each turn. So, as Go does: compete, until somebody has waited for [`STARVED_AFTER`]; then hand
//! over, until somebody gets it who has not waited so long.
//!
//! # Nobody sleeps beside a free lock
//! (1) A waiter sets `WAITING` on a word it saw `LOCKED`, by one exchange, before it is in the queue but under the
//! queue's lock. So the holder's unlock finds `WAITING`, and when it has the queue's lock, the waiter in it.
//! (2) An unlock that finds `WOKEN` wakes nobody: the woken one will come by. It either takes the lock, and its own
//! unlock takes care of the rest, or finds it `LOCKED` and clears `WOKEN` in the exchange that sets `WAITING`, as in (1).
//! A woken one cannot give up in between: its wait is done, and one that has no more time left queues again first.
//!
//! Memory ordering: taking is Acquire, freeing Release. A hand-over passes through the end of the wait (`waitlist`),
//! Release and Acquire too. The other bits decide only who wakes whom, and the queue's lock orders the queue: Relaxed.

use super::backoff::Backoff;
use super::base::{Caller, Lock, NEVER, Reason, constructor, leaf, now};
use super::waitlist::{Wait, Waitlist, wait_in};
use crate::primitive::atomic::{Acquire, AtomicU32, Ordering, Relaxed, Release};
use std::panic::Location;

/// Somebody holds it.
const LOCKED: u32 = 1;
/// There may be a waiter in the queue.
const WAITING: u32 = 2;
/// A waiter is on its way.
const WOKEN: u32 = 4;
/// Unlock hands over.
const STARVING: u32 = 8;

/// How long somebody waits before the lock is handed over: 1 ms.
const STARVED_AFTER: u64 = 1_000_000;
/// How often a caller looks again before it waits.
const SPINS_MAX: u32 = 4;

/// Outcome of a wait: the lock is free, or was.
const TRY_AGAIN: u8 = 0;
/// Outcome of a wait: the lock is the waiter's.
const HANDED_OVER: u8 = 1;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const FREE: Ordering = if cfg!(bast_plant = "mutex_free_relaxed") {
    Relaxed
} else {
    Release
};

/// See the module.
#[derive(Debug)]
pub(super) struct RawMutex {
    word: AtomicU32,
    waiters: Lock<Waitlist>,
}

fn list(waiters: &mut Waitlist) -> &mut Waitlist {
    waiters
}

impl RawMutex {
    constructor! {
        /// Free.
        pub(super) fn new() -> RawMutex {
            RawMutex {
                word: AtomicU32::new(0),
                waiters: leaf(Waitlist::new()),
            }
        }
    }

    /// Takes the lock, however long that takes.
    #[inline]
    pub(super) fn lock(&self, at: &'static Location<'static>) {
        // Not just from 0: while somebody waits, those who run take it many times with other bits set.
        let seen = self.word.load(Relaxed);
        if seen & LOCKED != 0 {
            return self.contended(seen, at);
        }
        if let Err(seen) = self
            .word
            .compare_exchange_weak(seen, seen | LOCKED, Acquire, Relaxed)
        {
            self.contended(seen, at);
        }
    }

    #[inline(never)]
    fn contended(&self, seen: u32, at: &'static Location<'static>) {
        if !self.take(seen, 0) {
            let taken = self.lock_slowly(&mut Caller::to_wait(), NEVER, at);
            debug_assert!(taken, "a wait without a limit ends with the lock");
        }
    }

    /// Takes the lock if that can be done by `deadline`, and by the calling task's own.
    pub(super) fn lock_until(&self, deadline: u64, at: &'static Location<'static>) -> bool {
        self.try_lock() || {
            let mut caller = Caller::to_wait();
            let deadline = deadline.min(caller.own_deadline());
            self.lock_slowly(&mut caller, deadline, at)
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        match self.word.compare_exchange(0, LOCKED, Acquire, Relaxed) {
            Ok(_) => true,
            Err(seen) => self.take(seen, 0),
        }
    }

    /// Takes the lock while it is seen free, clearing `also`.
    #[inline]
    fn take(&self, mut seen: u32, also: u32) -> bool {
        while seen & LOCKED == 0 {
            let taken = (seen | LOCKED) & !also;
            match self.word.compare_exchange_weak(seen, taken, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    #[cold]
    fn lock_slowly(&self, caller: &mut Caller, deadline: u64, at: &'static Location<'static>) -> bool {
        let mut began = None;
        let (mut woken, mut starving) = (false, false);
        let mut spins = 0;
        let mut backoff = Backoff::new();
        loop {
            let seen = self.word.load(Relaxed);
            if self.take(seen, if woken { WOKEN } else { 0 }) {
                return true;
            }
            if spins < SPINS_MAX && seen & STARVING == 0 && caller.may_spin() {
                spins += 1;
                backoff.wait();
                continue;
            }
            let waiters = self.waiters.lock();
            if !self.announce(woken, starving) {
                continue;
            }
            let began = *began.get_or_insert_with(now);
            let wait = Wait {
                payload: std::ptr::null_mut(),
                first: woken,
                deadline,
                reason: Reason::Mutex,
                at,
            };
            match wait_in(caller, &self.waiters, waiters, list, &wait, |_| ()) {
                Ok(HANDED_OVER) => {
                    self.handed_over(began);
                    return true;
                }
                Ok(_) => {
                    woken = true;
                    starving = now() - began >= STARVED_AFTER;
                    spins = 0;
                }
                Err(waiters) => {
                    self.note_left(&waiters);
                    return false;
                }
            }
        }
    }

    /// Says in the word that a waiter is about to be queued. Under the queue's lock. False: the lock is free now.
    fn announce(&self, woken: bool, starving: bool) -> bool {
        let mut seen = self.word.load(Relaxed);
        loop {
            if seen & LOCKED == 0 && !cfg!(bast_plant = "mutex_announce_unlocked") {
                return false;
            }
            let mut next = seen | WAITING;
            if woken && !cfg!(bast_plant = "mutex_woken_kept") {
                next &= !WOKEN;
            }
            if starving {
                next |= STARVING;
            }
            match self.word.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// By one who was handed the lock: go on handing over?
    fn handed_over(&self, began: u64) {
        if now() - began < STARVED_AFTER || self.word.load(Relaxed) & WAITING == 0 {
            // One who has starved meanwhile may have set it anew: it will set it again when it loses the next time.
            self.word.fetch_and(!STARVING, Relaxed);
        }
    }

    /// A waiter has left the queue. Under the queue's lock.
    fn note_left(&self, waiters: &Waitlist) {
        if waiters.is_empty() {
            self.word.fetch_and(!WAITING, Relaxed);
        }
    }

    /// Frees the lock. By its holder.
    #[inline]
    pub(super) fn unlock(&self) {
        if !self.free_quietly() {
            self.unlock_slowly(None);
        }
    }

    /// As [`RawMutex::unlock`], for a holder that is about to wait for something else.
    pub(super) fn unlock_by(&self, caller: &mut Caller) {
        if !self.free_quietly() {
            self.unlock_slowly(Some(caller));
        }
    }

    /// Frees the lock if nobody is to be told. By its holder.
    #[inline]
    fn free_quietly(&self) -> bool {
        let seen = self.word.load(Relaxed);
        seen & STARVING == 0
            && seen & (WAITING | WOKEN) != WAITING
            && self
                .word
                .compare_exchange_weak(seen, seen & !LOCKED, FREE, Relaxed)
                .is_ok()
    }

    #[inline(never)]
    fn unlock_slowly(&self, caller: Option<&mut Caller>) {
        let mut seen = self.word.load(Relaxed);
        let wake = loop {
            debug_assert!(seen & LOCKED != 0, "unlock of an unlocked mutex");
            if seen & STARVING != 0 {
                break true;
            }
            let wake = seen & (WAITING | WOKEN) == WAITING;
            let next = (seen & !LOCKED) | if wake { WOKEN } else { 0 };
            match self.word.compare_exchange_weak(seen, next, FREE, Relaxed) {
                Ok(_) => break wake,
                Err(now) => seen = now,
            }
        };
        if !wake {
            return;
        }
        let hand_over = seen & STARVING != 0;
        match caller {
            Some(caller) => self.wake_first(caller, hand_over),
            None => self.wake_first(&mut Caller::to_wake(), hand_over),
        }
    }

    /// Gives the first waiter the lock, which the caller still holds, or with `WOKEN` set tells it to try again.
    fn wake_first(&self, caller: &mut Caller, hand_over: bool) {
        let mut waiters = self.waiters.lock();
        let Some(first) = waiters.claim() else {
            // All have given up meanwhile.
            if hand_over {
                self.word.fetch_and(!(LOCKED | WAITING | STARVING), FREE);
            } else {
                self.word.fetch_and(!(WAITING | WOKEN), Relaxed);
            }
            return;
        };
        self.note_left(&waiters);
        drop(waiters);
        if cfg!(bast_plant = "mutex_hand_over_free") {
            self.word.fetch_and(!LOCKED, FREE);
        }
        first
            .finish(if hand_over { HANDED_OVER } else { TRY_AGAIN })
            .wake(caller);
    }
}
