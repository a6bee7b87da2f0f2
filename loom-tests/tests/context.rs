//! Models of contexts (`runtime/src/context/cancel.rs`, `enter.rs`, `runtime/src/task/bound.rs`). What each proves is in
//! the README here.
//!
//! A wait that the end of its context does not wake is a deadlock, which loom reports. What is handed over is a cell that
//! loom guards, and so are a waiter's node and identity, which go away by a write: it reports who comes to them later.
#![cfg(bast_loom)]

use bast::context::{Context, ContextError};
use bast::sync::base::{Caller, Lock, Reason, leaf};
use bast::sync::waitlist::{Wait, Waitlist, wait_in};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::panic::Location;

/// A source of things: waiters take one each, givers bring one each.
struct Source(Lock<State>);

struct State {
    /// Things nobody waited for.
    stock: usize,
    waiters: Waitlist,
}

impl Source {
    fn new() -> Arc<Source> {
        Arc::new(Source(leaf(State {
            stock: 0,
            waiters: Waitlist::new(),
        })))
    }

    fn give(&self) {
        let mut caller = Caller::to_wake();
        let mut state = self.0.lock();
        match state.waiters.claim() {
            None => state.stock += 1,
            Some(claimed) => {
                drop(state);
                claimed.finish(9).wake(&mut caller);
            }
        }
    }

    /// Takes a thing; false: the caller's context ended first.
    fn take(&self) -> bool {
        let mut caller = Caller::to_wait();
        let mut state = self.0.lock();
        if state.stock > 0 {
            state.stock -= 1;
            return true;
        }
        let wait = Wait {
            payload: std::ptr::null_mut(),
            first: false,
            deadline: caller.own_deadline(),
            reason: Reason::Notify,
            at: Location::caller(),
        };
        wait_in(
            &mut caller,
            &self.0,
            state,
            |state| &mut state.waiters,
            &wait,
            |_| (),
        )
        .is_ok()
    }

    fn stock(&self) -> usize {
        let state = self.0.lock();
        assert!(state.waiters.is_empty(), "nobody waits any more");
        state.stock
    }
}

/// A waiter for what never comes. Planted: `context_word_late` wakes it before it can see why.
#[test]
fn the_end_finds_who_waits() {
    loom::model(|| {
        let (context, canceller) = Context::background().with_cancel();
        let waiter = thread::spawn(move || {
            let source = Source::new();
            assert!(!context.enter(|| source.take()));
            assert_eq!(context.error(), Some(ContextError::Cancelled));
            assert_eq!(source.stock(), 0);
        });
        assert!(canceller.cancel());
        waiter.join().unwrap();
    });
}

#[test]
fn the_end_against_a_grant() {
    loom::model(|| {
        let (context, canceller) = Context::background().with_cancel();
        let source = Source::new();
        let theirs = source.clone();
        let taker = thread::spawn(move || context.enter(|| theirs.take()));
        let theirs = source.clone();
        let giver = thread::spawn(move || theirs.give());
        canceller.cancel();
        let took = taker.join().unwrap();
        giver.join().unwrap();
        assert_eq!(usize::from(took) + source.stock(), 1, "lost, or there twice");
    });
}

/// Two waits in one stay: the end comes before, between or after; the first is granted.
#[test]
fn two_waits_in_one_stay() {
    loom::model(|| {
        let (context, canceller) = Context::background().with_cancel();
        let source = Source::new();
        let theirs = source.clone();
        let taker = thread::spawn(move || {
            context.enter(|| {
                let first = theirs.take();
                let second = theirs.take();
                assert!(!second, "one thing was given, and the end goes on to hold");
                first
            })
        });
        source.give();
        canceller.cancel();
        let took = taker.join().unwrap();
        assert_eq!(usize::from(took) + source.stock(), 1);
    });
}

/// Entering and leaving without a wait. Planted: `context_leave_early` goes while it is being woken.
#[test]
fn who_has_left_is_not_touched() {
    loom::model(|| {
        let (context, canceller) = Context::background().with_cancel();
        let guest = thread::spawn(move || {
            for _ in 0..2 {
                context.enter(|| ());
            }
        });
        canceller.cancel();
        guest.join().unwrap();
    });
}

/// Planted: `context_join_unchecked` gives a dead parent a child that nobody ends.
#[test]
fn a_child_of_a_dying_parent_ends() {
    loom::model(|| {
        let (parent, canceller) = Context::background().with_cancel();
        let waiter = thread::spawn(move || {
            let child = parent.with_cancel().0;
            let source = Source::new();
            assert!(!child.enter(|| source.take()));
        });
        canceller.cancel();
        waiter.join().unwrap();
    });
}

/// A child that goes, or ends by itself, while its parent ends.
#[test]
fn a_child_that_goes_while_its_parent_ends() {
    for cancelled in [false, true] {
        loom::model(move || {
            let (parent, canceller) = Context::background().with_cancel();
            let (child, cancel_child) = parent.with_cancel();
            let other = thread::spawn(move || {
                if cancelled {
                    cancel_child.cancel();
                    assert!(child.is_cancelled());
                }
                drop((child, cancel_child));
            });
            canceller.cancel();
            other.join().unwrap();
            assert!(parent.is_deserted(), "nobody is left behind");
        });
    }
}

/// Two cancel, and one waits below: one wins, and its reason is that of all.
#[test]
fn one_of_two_ends_counts() {
    loom::model(|| {
        let (parent, canceller) = Context::background().with_cancel();
        let (child, cancel_child) = parent.with_cancel();
        let other = thread::spawn(move || cancel_child.cancel_with("child"));
        let first = canceller.cancel_with("parent");
        assert!(first, "nobody else ends the parent");
        let own = other.join().unwrap();
        let said = child.cause().unwrap().to_string();
        assert_eq!(said == "child", own);
        assert!(child.is_cancelled() && parent.is_cancelled());
    });
}

/// What was done before the end is seen by who finds the context over. Planted: `context_end_relaxed`.
#[test]
fn the_end_publishes() {
    loom::model(|| {
        let (context, canceller) = Context::background().with_cancel();
        let done = Arc::new(UnsafeCell::new(0));
        let theirs = done.clone();
        let other = thread::spawn(move || {
            // SAFETY: validity: ours. aliasing: nobody looks before the end; loom checks it.
            theirs.with_mut(|done| unsafe { *done = 1 });
            canceller.cancel();
        });
        if context.is_cancelled() {
            // SAFETY: validity: ours. aliasing: as above.
            done.with(|done| assert_eq!(unsafe { *done }, 1));
        }
        other.join().unwrap();
    });
}
