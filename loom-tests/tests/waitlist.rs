//! Models of the queue of waiters (`runtime/src/sync/waitlist.rs`). What each proves is in the README here.
//!
//! What is handed over is a cell on the waiter's side that loom guards: it reports a waiter that reads before its waker
//! has written, and two wakers that serve one wait. A waiter, its node and its choice go away by a write that loom sees,
//! so it reports a waker that comes to them later. A waiter that nobody wakes is a deadlock, which loom reports too.
#![cfg(bast_loom)]

use bast::sync::base::{Caller, Lock, NEVER, Reason, leaf};
use bast::sync::waitlist::{Choice, Node, Wait, Waitlist, wait_in};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;
use std::panic::Location;

/// A source of things: waiters take one each, givers bring one each.
struct Source {
    state: Lock<State>,
}

struct State {
    /// Things nobody waited for.
    stock: usize,
    waiters: Waitlist,
}

/// Where a waiter gets its thing.
struct Slot(UnsafeCell<usize>);

impl Slot {
    fn new() -> Slot {
        Slot(UnsafeCell::new(0))
    }

    fn get(&self) -> usize {
        // SAFETY: validity: ours. aliasing: the payload is the waiter's again; loom checks it.
        self.0.with(|slot| unsafe { *slot })
    }

    fn payload(&self) -> *mut () {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

fn waiters(state: &mut State) -> &mut Waitlist {
    &mut state.waiters
}

impl Source {
    fn new() -> Arc<Source> {
        Arc::new(Source {
            state: leaf(State {
                stock: 0,
                waiters: Waitlist::new(),
            }),
        })
    }

    /// Gives `thing` to the first waiter, or puts it into stock.
    fn give(&self, thing: usize) {
        let mut caller = Caller::to_wake();
        let mut state = self.state.lock();
        let Some(claimed) = state.waiters.claim() else {
            state.stock += 1;
            return;
        };
        // SAFETY: validity: the payload is a waiter's slot, there until `finish`. aliasing: shared borrow.
        let slot = unsafe { &*claimed.payload().cast::<Slot>() };
        // SAFETY: validity: as above. aliasing: the claim makes it ours; loom checks it.
        slot.0.with_mut(|slot| unsafe { *slot += thing });
        drop(state);
        claimed.finish(9).wake(&mut caller);
    }

    /// Takes a thing; None if the time was over first.
    fn take(&self, deadline: u64) -> Option<usize> {
        let mut caller = Caller::to_wait();
        let mut state = self.state.lock();
        if state.stock > 0 {
            state.stock -= 1;
            return Some(1);
        }
        let slot = Slot::new();
        let wait = Wait {
            payload: slot.payload(),
            first: false,
            deadline,
            reason: Reason::Notify,
            at: Location::caller(),
        };
        match wait_in(&mut caller, &self.state, state, waiters, &wait, |_| ()) {
            Ok(outcome) => {
                assert_eq!(outcome, 9, "the outcome is the waker's");
                Some(slot.get())
            }
            Err(state) => {
                assert!(state.stock == 0 || state.waiters.is_empty());
                assert_eq!(slot.get(), 0, "a wait that was given up got nothing");
                None
            }
        }
    }

    /// What is left.
    fn stock(&self) -> usize {
        let state = self.state.lock();
        assert!(state.waiters.is_empty(), "nobody waits any more");
        state.stock
    }
}

/// Takes one thing from either source by one choice.
fn select(sources: &[Arc<Source>; 2], deadline: u64) -> Option<usize> {
    let mut caller = Caller::to_wait();
    let choice = Choice::new();
    let slots = [Slot::new(), Slot::new()];
    let nodes: [Node; 2] =
        std::array::from_fn(|case| Node::new(&choice, case as u32, &caller, slots[case].payload()));
    let mut pushed = 0;
    let mut taken = None;
    for (source, node) in sources.iter().zip(&nodes) {
        let mut state = source.state.lock();
        if state.stock > 0 && choice.claim(pushed as u32) {
            state.stock -= 1;
            taken = Some(1);
            break;
        }
        // SAFETY: the node is new; it is removed below before it goes.
        unsafe { state.waiters.push(node) };
        pushed += 1;
    }
    let done = match taken {
        Some(_) => None,
        None => choice.wait(&mut caller, deadline, Reason::Notify, Location::caller()),
    };
    for case in 0..pushed {
        if done.is_none_or(|done| done.case != case as u32) {
            // SAFETY: it was pushed to this list.
            unsafe { sources[case].state.lock().waiters.remove(&nodes[case]) };
        }
    }
    let Some(done) = done else {
        assert_eq!(slots[0].get() + slots[1].get(), 0, "a losing case got something");
        return taken;
    };
    let won = done.case as usize;
    assert_eq!(slots[1 - won].get(), 0, "a losing case got something");
    Some(slots[won].get())
}

/// Planted: `waitlist_finish_relaxed`, `waitlist_look_relaxed` hide what was handed over; `waitlist_wake_late` looks for
/// the waiter when it may have gone.
#[test]
fn a_waiter_gets_what_is_handed_over() {
    loom::model(|| {
        let source = Source::new();
        let giver = source.clone();
        let giver = thread::spawn(move || giver.give(1));
        assert_eq!(source.take(NEVER), Some(1));
        giver.join().unwrap();
        assert_eq!(source.stock(), 0);
    });
}

#[test]
fn two_waiters_get_one_thing_each() {
    loom::model(|| {
        let source = Source::new();
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let source = source.clone();
                thread::spawn(move || assert_eq!(source.take(NEVER), Some(1)))
            })
            .collect();
        source.give(1);
        source.give(1);
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(source.stock(), 0);
    });
}

/// Planted: `waitlist_cancel_store` gives up although a waker has won.
#[test]
fn a_waiter_whose_time_is_over_gets_it_or_leaves_it() {
    loom::model(|| {
        let source = Source::new();
        let giver = source.clone();
        let giver = thread::spawn(move || giver.give(1));
        let got = source.take(0).unwrap_or(0);
        giver.join().unwrap();
        assert_eq!(got + source.stock(), 1, "the thing is lost, or there twice");
    });
}

/// A waiter that gives up does not take along what was meant for the next.
#[test]
fn one_gives_up_and_the_other_waits() {
    loom::model(|| {
        let source = Source::new();
        let patient = source.clone();
        let patient = thread::spawn(move || assert_eq!(patient.take(NEVER), Some(1)));
        let giver = source.clone();
        let giver = thread::spawn(move || {
            giver.give(1);
            giver.give(1);
        });
        let got = source.take(0).unwrap_or(0);
        giver.join().unwrap();
        patient.join().unwrap();
        assert_eq!(got + source.stock(), 1);
    });
}

/// Planted: `waitlist_claim_store` lets both cases win.
#[test]
fn one_case_wins_and_the_other_loses_nothing() {
    loom::model(|| {
        let sources = [Source::new(), Source::new()];
        let givers = sources
            .clone()
            .map(|source| thread::spawn(move || source.give(1)));
        assert_eq!(select(&sources, NEVER), Some(1));
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        assert_eq!(sources[0].stock() + sources[1].stock(), 1);
    });
}

#[test]
fn a_select_whose_time_is_over_loses_nothing() {
    loom::model(|| {
        let sources = [Source::new(), Source::new()];
        let givers = sources
            .clone()
            .map(|source| thread::spawn(move || source.give(1)));
        let got = select(&sources, 0).unwrap_or(0);
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        assert_eq!(got + sources[0].stock() + sources[1].stock(), 2);
    });
}

/// Two selects over the same two sources, and two things: each gets one, whichever way round.
#[test]
fn two_selects_share() {
    loom::model(|| {
        let sources = [Source::new(), Source::new()];
        let got = Arc::new(AtomicUsize::new(0));
        let (theirs, their_got) = (sources.clone(), got.clone());
        let other = thread::spawn(move || their_got.fetch_add(select(&theirs, NEVER).unwrap(), Relaxed));
        let giver = sources.clone();
        let giver = thread::spawn(move || giver.iter().for_each(|source| source.give(1)));
        got.fetch_add(select(&sources, NEVER).unwrap(), Relaxed);
        other.join().unwrap();
        giver.join().unwrap();
        assert_eq!(got.load(Relaxed), 2);
        assert_eq!(sources[0].stock() + sources[1].stock(), 0);
    });
}

/// All who wait now are woken, each once, by one who takes them all.
#[test]
fn a_batch_wakes_all() {
    loom::model(|| {
        let source = Source::new();
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let source = source.clone();
                thread::spawn(move || source.take(NEVER))
            })
            .collect();
        let mut caller = Caller::to_wake();
        let batch = source.state.lock().waiters.claim_all();
        batch.finish(9, &mut caller);
        // Those who came later.
        source.give(1);
        source.give(1);
        let got: usize = takers
            .into_iter()
            .map(|taker| taker.join().unwrap().unwrap())
            .sum();
        assert_eq!(got + source.stock(), 2);
    });
}
