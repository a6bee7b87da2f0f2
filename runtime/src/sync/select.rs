//! Waiting on several channels at once: the [`select!`](crate::select) macro, and [`Select`] for a number of cases that is
//! known only when the program runs.
//!
//! # One winner
//! A select that must wait lies with one node a case in the channels' lists; the nodes share one word, and whoever can
//! serve a case first claims that word. So one case wins, and the others were never touched.
//!
//! # At one moment
//! Before it waits, or takes `default`, a select looks at all of its channels with all of their locks held, taken in the
//! order of their addresses, each once, as Go does. Rejected: to look at one channel after the other, with nodes left
//! behind in those that were looked at. Then two selects that wait for each other in two channels must claim each other
//! and themselves by two exchanges, and either both can give up, or a third state is needed that others wait out; and a
//! `default` would be taken although at every moment one of the channels had something. With the locks in hand nobody
//! sees a select before it waits in all its channels, so a claim is always of another's word alone. Nobody waits for
//! anything while holding these locks but for the next one in order, so they cannot deadlock.
//!
//! A select that may wait first tries its channels one by one, each under its own lock: if one has something, that is
//! all it takes.
//!
//! # Fairness
//! Cases are tried in a random order, so that of several that are ready each is chosen equally often.
//!
//! # Time
//! Cases of `after` and `tick` have no list: they bound the wait, and are tried again when their time has come.

pub use super::select_builder::{Select, SelectTimeoutError, SelectedOperation, TrySelectError};

use super::base::{self, Caller, NEVER, Reason};
use super::channel_core::{self, Limit};
use super::select_case::{AnyCase, Case};
use super::waitlist::{CASES_MAX, Choice};
use std::panic::Location;
use std::time::Duration;

/// What the macro expands to. No part of the interface.
#[doc(hidden)]
pub mod expansion {
    pub use super::{Wait, choose, wait_forever};
    pub use crate::sync::select_case::{AnyCase, RecvCase, SendCase};
}

/// How long a select waits.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Wait(Limit);

impl Wait {
    /// Until a case wins.
    pub fn forever() -> Wait {
        Wait(Limit::Forever)
    }

    /// Not at all.
    pub fn none() -> Wait {
        Wait(Limit::Now)
    }

    /// For so long.
    pub fn within(timeout: Duration) -> Wait {
        Wait(super::channel::within(timeout))
    }
}

/// Lets one case win, and gives its number; none if the wait is over first.
#[doc(hidden)]
#[track_caller]
pub fn choose<const N: usize>(cases: [AnyCase<'_>; N], wait: Wait) -> Option<usize> {
    let cases = cases.map(|case| case.0);
    let mut orders = ([0; N], [(0, 0); N]);
    let orders = Orders::new(&cases, &mut orders.0, &mut orders.1);
    select(&cases, orders, wait.0, Location::caller())
}

/// The address of a case's lock, and the case.
pub(super) type LockOf = (usize, u32);

/// In which order cases are tried, and in which they are locked: in arrays of the caller's, worked out as far as they
/// are needed. Most selects end with the first cases they try.
pub(super) struct Orders<'a> {
    tried: &'a mut [u32],
    locked: &'a mut [LockOf],
    random: u32,
}

impl<'a> Orders<'a> {
    /// In two arrays as long as `cases`.
    #[inline]
    pub(super) fn new(cases: &[&dyn Case], tried: &'a mut [u32], locked: &'a mut [LockOf]) -> Orders<'a> {
        assert!(
            cases.len() < CASES_MAX as usize,
            "bast: a select has fewer than {CASES_MAX} cases"
        );
        for (index, place) in tried.iter_mut().enumerate() {
            *place = index as u32;
        }
        let seed = match cases {
            [] | [_] => None,
            cases => cases.iter().find_map(|case| case.draw()),
        };
        Orders {
            tried,
            locked,
            random: seed.unwrap_or(0) | 1,
        }
    }

    /// Draws the case that is tried as number `place`, from those not drawn yet (Fisher and Yates, with xorshift32).
    #[inline]
    fn draw(&mut self, place: usize) -> usize {
        let x = &mut self.random;
        *x ^= *x << 13;
        *x ^= *x >> 17;
        *x ^= *x << 5;
        let left = (self.tried.len() - place) as u64;
        let drawn = place + ((u64::from(*x) * left) >> 32) as usize;
        self.tried.swap(place, drawn);
        self.tried[place] as usize
    }

    /// Sorts the cases by their locks.
    fn sort_locks(&mut self, cases: &[&dyn Case]) {
        for (index, (place, case)) in self.locked.iter_mut().zip(cases).enumerate() {
            *place = (case.lock_address(), index as u32);
        }
        if !cfg!(bast_plant = "select_unordered") {
            self.locked.sort_unstable();
        }
    }
}

/// The locks of all cases, held: each once.
struct Locked<'a, 'c> {
    cases: &'a [&'c dyn Case],
    order: &'a [LockOf],
}

impl<'a, 'c> Locked<'a, 'c> {
    fn take(cases: &'a [&'c dyn Case], order: &'a [LockOf]) -> Self {
        let locked = Locked { cases, order };
        locked.each_lock(|case| case.lock());
        locked
    }

    /// One case of each lock, in the order of the addresses.
    fn each_lock(&self, mut f: impl FnMut(&dyn Case)) {
        let mut last = 0;
        for &(address, index) in self.order {
            if address != last || cfg!(bast_plant = "select_lock_twice") {
                f(self.cases[index as usize]);
            }
            last = address;
        }
    }
}

impl Drop for Locked<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: `take` took it.
        self.each_lock(|case| unsafe { case.unlock() });
    }
}

/// See [`choose`].
pub(super) fn select(
    cases: &[&dyn Case],
    mut orders: Orders<'_>,
    limit: Limit,
    at: &'static Location<'static>,
) -> Option<usize> {
    let mut caller = Caller::to_wait();
    let alone_first = limit != Limit::Now && cases.len() > 1;
    for place in 0..cases.len() {
        let index = orders.draw(place);
        if alone_first && attempt_alone(cases[index], &mut caller) {
            return Some(index);
        }
    }
    orders.sort_locks(cases);
    let (tried, by_lock) = (&*orders.tried, &*orders.locked);
    let over = limit.deadline().min(caller.own_deadline());
    loop {
        let choice = Choice::new();
        let locked = Locked::take(cases, by_lock);
        let mut served = None;
        // SAFETY: all locks are held, and no node is in a list.
        let ready = |&&index: &&u32| unsafe { cases[index as usize].attempt(&mut served) };
        if let Some(&index) = tried.iter().find(ready) {
            drop(locked);
            channel_core::wake(served, &mut caller);
            return Some(index as usize);
        }
        if limit == Limit::Now {
            return None;
        }
        let locked = if cfg!(bast_plant = "select_wait_blindly") {
            drop(locked);
            Locked::take(cases, by_lock)
        } else {
            locked
        };
        if !caller.may_park() {
            drop(locked);
            caller.refuse(Reason::Select, at);
        }
        // In the order of the draw: of two cases on one channel the first in its queue is served first.
        for &index in tried {
            let case = cases[index as usize];
            // SAFETY: all locks are held, and no node of this case is in a list. The cases are borrowed until we return,
            // and the choice lies in this frame; `wait` below is followed by taking out all nodes but the winner's.
            unsafe { case.enqueue(&choice, index, &caller) };
        }
        drop(locked);
        let due = cases.iter().map(|case| case.due()).min().unwrap_or(NEVER);
        let done = choice.wait(&mut caller, over.min(due), Reason::Select, at);
        let won = done.map(|done| done.case as usize);
        dequeue_but(cases, won);
        if let Some(done) = done {
            // SAFETY: this is its outcome.
            unsafe { cases[done.case as usize].settle(done.outcome) };
            return won;
        }
        // A moment that is due is tried once more, above; it, or a later one, may have gone to somebody else.
        if !base::has_come(due) || due > over {
            return out_of_time(cases, tried, limit);
        }
    }
}

/// One case under its own lock.
fn attempt_alone(case: &dyn Case, caller: &mut Caller) -> bool {
    let mut served = None;
    // SAFETY: no node is in a list.
    let won = unsafe { case.attempt_alone(&mut served) };
    channel_core::wake(served, caller);
    won
}

/// Takes out all nodes but the winner's, which its waker took out.
fn dequeue_but(cases: &[&dyn Case], won: Option<usize>) {
    for (index, case) in cases.iter().enumerate() {
        if won != Some(index) {
            case.dequeue_alone();
        }
    }
}

/// The time of the select is over, or that of an enclosing `timeout`. A select that has no time of its own cannot say
/// so: one of its cases fails, as its plain call would.
#[cold]
fn out_of_time(cases: &[&dyn Case], tried: &[u32], limit: Limit) -> Option<usize> {
    let index = match limit {
        Limit::Forever => *tried.first()? as usize,
        Limit::Now | Limit::Until(_) => return None,
    };
    cases[index].give_up();
    Some(index)
}

/// A select without cases: waits for ever.
#[doc(hidden)]
#[cold]
#[track_caller]
pub fn wait_forever() -> ! {
    let at = Location::caller();
    let mut caller = base::Caller::to_wait();
    if !caller.may_park() {
        caller.refuse(Reason::Select, at);
    }
    loop {
        caller.park_until(NEVER, Reason::Select, at);
    }
}
