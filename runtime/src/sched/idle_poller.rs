//! Who waits in the poller, and until when.
//!
//! # Goal
//! There is no thread for the poller: somebody who has nothing better to do waits in it on behalf of all. One is enough,
//! and while every processor is held none is wanted, because the holders look themselves and a thread beyond them would
//! take events that it cannot run. Yet an event or a timer must never depend on a thread that sleeps elsewhere.
//!
//! # Rejected ways
//! *A reactor thread*: each event costs a switch of threads and a wake-up. *Every idle worker waits in the poller*: one
//! event wakes all of them. *A worker without a processor waits there too while all are held*: it takes the events from
//! under the holders, a few at a time.
//!
//! # The place
//! ```text
//!            lies down while a processor idles                      event, timer, interrupt
//!   ┌────────┐ ────────────────────────────► ┌──────────────────┐ ─────────────────────────► ┌────────────┐
//!   │ vacant │                               │ taken: on the    │                            │ taken: on  │
//!   │        │ ◄──────────────────────────── │ way in, or waits │                            │ the way out│
//!   └────────┘  has seen work (S4 of `idle`) └──────────────────┘                            └────────────┘
//!    ▲  ▲  │                                                                                       │
//!    │  └──┘ lies down while all are held: sleeps in its parker                                    │
//!    └─────────────────────────────────────────────────────────────────────────────────────────────┘
//!          goes on with a processor that it was handed or found, or looks for work and lies down again
//! ```
//! [`Place`] changes under the scheduler's lock only, together with the lists of idle processors and of sleeping
//! workers. That makes the first rule a matter of counting:
//!
//! **Who puts the last processor among the idle leaves somebody in the place.** Either it goes to sleep itself: then its
//! own processor is among the idle, and it takes the place unless that is taken. Or it is about to block: then it may
//! put the processor there only if the place is taken, and otherwise finds another worker for it, who searches in vain
//! and lies down ([`Place::is_needed`]). Who has taken the place gives it up with a processor in hand, or lies down
//! again, by these same rules.
//!
//! **Who hands on the last idle processor gives it to the one in the place**, if somebody is there, and not to a worker that
//! sleeps elsewhere ([`who_goes_on`]). Else there would be one thread more than processors, who takes events that he cannot
//! run from under the holders and queues them for all. While others idle he is the one left there.
//!
//! So while all processors idle somebody waits, or is on the way in. While some are held and some idle that may not be
//! so: whoever comes out with one event runs its task and wakes nobody for it, and who is handed a processor with work
//! runs that, while another has lain down believing the place taken. Then the monitor's next look wakes a searcher,
//! who finds nothing and takes the place; so the monitor sleeps without an end only while the place [`is_watched`].
//!
//! # The end of the wait
//! The one in the place waits for the first timer of all processors if any idles; timers of held ones are fired by
//! their holders. So who leaves a processor idle must see to it that its timers are among those waited for:
//!
//! Waiter: (W1) store UNDECIDED; (W2) SeqCst fence; (W3) count the idle processors, read the first timer; (W4) store
//! until when, and wait. Leaver: (L1) put the processor among the idle, its timers armed; (L2) SeqCst fence; (L3) read
//! until when, and interrupt the wait if that is later than the first timer, or UNDECIDED.
//!
//! One fence comes first. If L2 precedes W2, W3 sees the processor and its timers. If W2 precedes L2, L3 reads UNDECIDED,
//! what W4 stored, or something later still. In the latter case another wait has begun, to which the argument applies
//! anew. What it cannot read then is the near end of an earlier wait, for which it would not interrupt. An interrupt that
//! comes before the wait is kept by the poller (netpoll's `interrupt`), so L3 may be early.
//! The word has one writer at a time, whoever has the place, and the scheduler's lock hands it on; so all accesses are
//! Relaxed but for the fences. L2 stands here although S3 of `idle` comes between L1 and it as well: it is what L3 needs,
//! whoever calls.
//!
//! The loom model `idle_poller` runs this file, `idle` and netpoll's `interrupt` with workers, a waker and the monitor.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::atomic::{AtomicU64, Relaxed, SeqCst, fence};

/// The time of a timer that is not armed.
pub const NEVER: u64 = u64::MAX;
/// Until when waits a worker that is still working it out, or nobody.
const UNDECIDED: u64 = 0;

/// The place in the poller. Under the scheduler's lock.
#[derive(Debug, Default)]
pub struct Place {
    taken: bool,
}

impl Place {
    /// For a worker that goes to sleep, with so many processors idle, its own, if it had one, among them. True: in the
    /// poller, until [`Place::leave`].
    #[must_use]
    pub fn try_take(&mut self, idle: usize) -> bool {
        let idle = idle.saturating_sub(usize::from(cfg!(bast_plant = "idle_poller_last_not_counted")));
        idle > 0 && !std::mem::replace(&mut self.taken, true)
    }

    /// By who has taken it.
    pub fn leave(&mut self) {
        debug_assert!(self.taken, "the place in the poller was left twice");
        self.taken = cfg!(bast_plant = "idle_poller_never_left");
    }

    /// Would a processor that is put among the idle leave the poller to nobody? Then some worker must take it.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.taken && !cfg!(bast_plant = "idle_poller_given_to_nobody")
    }
}

/// Which of the sleeping workers, by its place on the list on which who lay down last is the last, goes on with a processor
/// that leaves so many idle. None: nobody sleeps.
#[must_use]
pub fn who_goes_on(sleeping: usize, idle_left: usize, in_poller: impl Fn(usize) -> bool) -> Option<usize> {
    let last = sleeping.checked_sub(1)?;
    let wanted = (0..sleeping)
        .rev()
        .find(|&place| in_poller(place) == (idle_left == 0));
    Some(wanted.unwrap_or(last))
}

/// Until when the one in the poller waits.
#[derive(Debug)]
pub struct WaitUntil(AtomicU64);

impl Default for WaitUntil {
    fn default() -> WaitUntil {
        WaitUntil::new()
    }
}

impl WaitUntil {
    /// Nobody waits.
    pub fn new() -> WaitUntil {
        WaitUntil(AtomicU64::new(UNDECIDED))
    }

    /// W1 to W4, by who has the place and is about to wait: until when.
    pub fn begin(&self, idle: impl FnOnce() -> usize, first_timer: impl FnOnce() -> u64) -> u64 {
        self.0.store(UNDECIDED, Relaxed); // W1
        #[cfg(not(bast_plant = "idle_poller_no_begin_fence"))]
        fence(SeqCst); // W2; pairs with L2 in `is_too_late`
        let until = if idle() > 0 { first_timer() } else { NEVER }; // W3
        self.0.store(until, Relaxed); // W4
        until
    }

    /// The wait is over.
    pub fn end(&self) {
        self.0.store(UNDECIDED, Relaxed);
    }

    /// L2 and L3, by who has left a processor among the idle, where the first timer is due at `due`. True: the wait must
    /// be interrupted.
    #[must_use]
    pub fn is_too_late(&self, due: u64) -> bool {
        if due == NEVER {
            return false;
        }
        #[cfg(not(bast_plant = "idle_poller_no_leave_fence"))]
        fence(SeqCst); // L2; pairs with W2 in `begin`
        let until = self.0.load(Relaxed); // L3
        (until == UNDECIDED && !cfg!(bast_plant = "idle_poller_undecided_is_early")) || due < until
    }
}

/// Is everything that may happen while no processor is held seen without the monitor? `waited`: a thread waits in the
/// poller; `sources`: there is something to poll.
pub fn is_watched(waited: bool, sources: bool, first_timer: u64) -> bool {
    waited || (!sources && first_timer == NEVER) || cfg!(bast_plant = "idle_poller_unwatched_doze")
}

#[cfg(test)]
mod tests {
    use super::who_goes_on;

    #[test]
    fn the_last_idle_processor_goes_to_who_waits_in_the_poller() {
        let in_poller = |place| place == 1;
        assert_eq!(who_goes_on(4, 0, in_poller), Some(1));
        assert_eq!(
            who_goes_on(4, 1, in_poller),
            Some(3),
            "he stays while others idle"
        );
        assert_eq!(who_goes_on(2, 1, in_poller), Some(0));
        assert_eq!(who_goes_on(3, 0, |_| false), Some(2));
        assert_eq!(who_goes_on(1, 1, |_| true), Some(0), "there is no other");
        assert_eq!(who_goes_on(0, 0, |_| true), None);
    }
}
