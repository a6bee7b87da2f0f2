//! The queue of waiters that everything in [`sync`](super) shares: first in, first out, of nodes that lie on the
//! waiters' stacks, and the word by which exactly one of several possible wake-ups wins.
//!
//! ```text
//!                       claim(case), by a waker                finish(outcome), by the same waker
//!            ┌──────┐ ─────────────────────────► ┌───────────────┐ ──────────────► ┌─────────────────────┐
//!   new ───► │ OPEN │                            │ CLAIMED(case) │                 │ DONE(case, outcome) │
//!            └──────┘ ──────────┐                └───────────────┘                 └─────────────────────┘
//!             ▲  cancel, by the │ waiter: its time is over                           the waiter returns
//!       reset │                 ▼
//!             │          ┌───────────┐
//!             └───────── │ CANCELLED │   the waiter takes its nodes out of their lists and returns
//!                        └───────────┘
//! ```
//!
//! # What it is for
//! A call that waits has one [`Choice`] and, for each thing it waits for, one [`Node`] in that thing's [`Waitlist`]: a
//! lock has one, a `select!` one a case. Whoever can serve a waiter takes it out of the list by [`Waitlist::claim`],
//! hands over what it was waiting for, and finishes it. So one case wins, by one compare-exchange, and the others were
//! never touched: a losing case has consumed nothing.
//!
//! # Rules
//! 1. A list, and the links of the nodes in it, are touched only under the lock that the list lies in.
//! 2. A node and its choice stay where they are, unmoved, while the node is in a list or its choice is `CLAIMED`.
//!    The waiter may therefore go when the choice is `DONE` and it has taken its other nodes out, or when it has
//!    cancelled and taken all of them out. The one node of a wait that is done was taken out by its waker, so a wait in a
//!    single list needs no lock after it was woken.
//! 3. Between `claim` and `finish` the payload is the waker's: it reads or writes what the payload points to. Before
//!    and after, it is the waiter's.
//! 4. `finish` copies who is to be woken before it stores `DONE`, because the waiter may be gone from then on.
//! 5. Nobody is woken under the lock: [`Wake::wake`] comes after it is released. Between `claim` and `finish` there are
//!    only a few instructions of ours, so that who finds itself claimed may look again until it is done.
//!
//! `claim` unlinks, on its way, nodes whose choice is no longer open: another case won, or the waiter gives up and will
//! find its node unlinked when it gets the lock. Their memory is there: their waiter cannot go before it had the lock
//! (Rule 2), which the claimer holds.
//!
//! Memory ordering: nodes and choices are published by the list's lock, so `claim` and `cancel` are Relaxed: they only
//! decide who wins, on one word. `DONE` is stored with Release and read with Acquire, which hands over the payload.
//!
//! # How to wait, and how to serve
//! In one list, without `unsafe`: [`wait_in`]. In several: make the choice and the nodes, push each under its list's
//! lock (looking there first whether there is anything to wait for), [`Choice::wait`], and then, in any case,
//! [`Waitlist::remove`] each node under its lock, except the one that [`Done`] names. To serve:
//! ```text
//! let mut caller = Caller::to_wake();
//! let mut state = lock.lock();
//! if let Some(claimed) = state.waiters.claim() {
//!     ... hand over: read or write what claimed.payload() points to, or change `state` ...
//!     drop(state);
//!     claimed.finish(OUTCOME).wake(&mut caller);
//! }
//! ```

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use super::base::{Caller, Guard, Lock, NEVER, Reason, Wake, constructor};
use crate::primitive::UnsafeCell;
use crate::primitive::atomic::{Acquire, AtomicU32, Ordering, Relaxed, Release};
use std::panic::Location;
use std::ptr::NonNull;

/// Nobody has won, and the waiter waits.
const OPEN: u32 = 0;
/// The waiter has given up.
const CANCELLED: u32 = 1;
/// A waker has won and is handing over.
const CLAIMED: u32 = 2;
/// What was waited for is there.
const DONE: u32 = 3;
/// The bits of the state.
const STATE: u32 = 3;
/// Where the outcome begins: eight bits.
const OUTCOME_SHIFT: u32 = 2;
/// Where the number of the case begins: the rest.
const CASE_SHIFT: u32 = 10;
/// No case has this number or a higher one.
pub const CASES_MAX: u32 = 1 << (u32::BITS - CASE_SHIFT);

// Planted bugs, off unless the build asks for one: the model must find each of them.
const FINISH: Ordering = if cfg!(bast_plant = "waitlist_finish_relaxed") {
    Relaxed
} else {
    Release
};
const LOOK: Ordering = if cfg!(bast_plant = "waitlist_look_relaxed") {
    Relaxed
} else {
    Acquire
};

/// How a wait ended: which case won, and what its waker said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The number of the winning node.
    pub case: u32,
    /// What was given to [`Claimed::finish`].
    pub outcome: u8,
}

/// The word of one wait. See the module's picture.
#[derive(Debug)]
pub struct Choice(AtomicU32);

impl Choice {
    /// Open.
    pub fn new() -> Choice {
        Choice(AtomicU32::new(OPEN))
    }

    /// `OPEN -> CLAIMED(case)`; true for the one who wins. A waiter that finds one of its cases ready while it is
    /// pushing its nodes may claim its own choice, and then nobody else can.
    #[inline]
    #[must_use]
    pub fn claim(&self, case: u32) -> bool {
        let claimed = CLAIMED | case << CASE_SHIFT;
        if cfg!(bast_plant = "waitlist_claim_store") {
            let open = self.0.load(Relaxed) == OPEN;
            self.0.store(claimed, Relaxed);
            return open;
        }
        // A look first: it is cheap to pass over a node that another case has won.
        self.0.load(Relaxed) == OPEN && self.0.compare_exchange(OPEN, claimed, Relaxed, Relaxed).is_ok()
    }

    /// `OPEN -> CANCELLED`, by the waiter. False: a waker has claimed it, and [`Choice::done`] will be there soon.
    #[inline]
    #[must_use]
    pub fn cancel(&self) -> bool {
        if cfg!(bast_plant = "waitlist_cancel_store") {
            self.0.store(CANCELLED, Relaxed);
            return true;
        }
        self.0.compare_exchange(OPEN, CANCELLED, Relaxed, Relaxed).is_ok()
    }

    /// The end of the wait, if it has come. What the waker handed over is visible then.
    #[inline]
    pub fn done(&self) -> Option<Done> {
        let word = self.0.load(LOOK);
        (word & STATE == DONE).then_some(Done {
            case: word >> CASE_SHIFT,
            outcome: (word >> OUTCOME_SHIFT) as u8,
        })
    }

    /// Waits for the end, until `deadline` at most. None: cancelled, and the nodes must be removed.
    #[inline]
    pub fn wait(
        &self,
        caller: &mut Caller,
        mut deadline: u64,
        reason: Reason,
        at: &'static Location<'static>,
    ) -> Option<Done> {
        loop {
            if let Some(done) = self.done() {
                return Some(done);
            }
            if caller.is_over(deadline) {
                if self.cancel() {
                    return None;
                }
                deadline = NEVER; // claimed: the end is a few instructions of the waker away
            }
            caller.park_until(deadline, reason, at);
        }
    }

    /// `CLAIMED(case) -> DONE(case, outcome)`. The choice may be gone afterwards.
    #[inline]
    fn finish(&self, case: u32, outcome: u8) {
        // Release: pairs with the Acquire in `done`.
        self.0.store(
            DONE | u32::from(outcome) << OUTCOME_SHIFT | case << CASE_SHIFT,
            FINISH,
        );
    }
}

impl Default for Choice {
    fn default() -> Self {
        Choice::new()
    }
}

/// One thing that a wait waits for, on the waiter's stack.
#[derive(Debug)]
pub struct Node {
    choice: NonNull<Choice>,
    case: u32,
    token: usize,
    payload: *mut (),
    links: UnsafeCell<Links>,
}

/// A node's place in its list.
#[derive(Debug)]
struct Links {
    next: Option<NonNull<Node>>,
    prev: Option<NonNull<Node>>,
    linked: bool,
}

impl Node {
    /// A case of `choice`, in no list yet. `payload` is what the waker may use (Rule 3): a place to read a value from or
    /// to write one to, or just a number.
    pub fn new(choice: &Choice, case: u32, caller: &Caller, payload: *mut ()) -> Node {
        Node::with_token(NonNull::from(choice), case, caller.token(), payload)
    }

    /// As [`Node::new`], for one who does not wait in this call: `token` says who is to be woken.
    pub fn with_token(choice: NonNull<Choice>, case: u32, token: usize, payload: *mut ()) -> Node {
        debug_assert!(case < CASES_MAX, "a choice has at most {CASES_MAX} cases");
        Node {
            choice,
            case,
            token,
            payload,
            links: UnsafeCell::new(Links {
                next: None,
                prev: None,
                linked: false,
            }),
        }
    }

    fn choice(&self) -> &Choice {
        // SAFETY: validity: Rule 2; our caller has the list's lock or the claim. aliasing: shared borrow of an atomic.
        unsafe { self.choice.as_ref() }
    }

    fn links<R>(&self, f: impl FnOnce(&mut Links) -> R) -> R {
        // SAFETY: validity: a field. aliasing: under the list's lock (Rule 1), or not shared; `f` calls nothing that
        // comes here again.
        self.links.with_mut(|links| f(unsafe { &mut *links }))
    }
}

/// Goes away visibly, so that loom reports whoever looks at the node later.
#[cfg(bast_loom)]
impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.links(|links| assert!(!links.linked, "a node goes while it is in a list"));
        }
    }
}

/// Waiters in the order in which they came. It lies in the lock that guards it.
#[derive(Debug)]
pub struct Waitlist {
    front: Option<NonNull<Node>>,
    back: Option<NonNull<Node>>,
}

// SAFETY: the nodes are touched under the lock that the list lies in (Rule 1) and are made for being touched from
// other threads; the list itself is two pointers.
unsafe impl Send for Waitlist {}

impl Waitlist {
    constructor! {
        /// Nobody waits.
        pub fn new() -> Waitlist {
            Waitlist { front: None, back: None }
        }
    }

    /// True if there is no node in it. A node in it may be one whose wait is over.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    /// Puts a node at the end.
    ///
    /// # Safety
    /// The node is in no list, and Rule 2 is kept.
    #[inline]
    pub unsafe fn push(&mut self, node: &Node) {
        // SAFETY: as our caller says.
        unsafe { self.push_at(node, false) };
    }

    /// Puts a node at the end or, for a waiter that was woken and came too late, before all others.
    ///
    /// # Safety
    /// As for [`Waitlist::push`].
    #[inline]
    pub unsafe fn push_at(&mut self, node: &Node, first: bool) {
        let (next, prev) = if first {
            (self.front, None)
        } else {
            (None, self.back)
        };
        node.links(|links| {
            debug_assert!(!links.linked, "a node is in one list");
            *links = Links {
                next,
                prev,
                linked: true,
            };
        });
        self.join(prev, Some(NonNull::from(node)));
        self.join(Some(NonNull::from(node)), next);
    }

    /// Takes a node out, if it is still in. By its waiter.
    ///
    /// # Safety
    /// If the node is in a list, it is this one.
    #[inline]
    pub unsafe fn remove(&mut self, node: &Node) {
        if node.links(|links| links.linked) {
            self.unlink(node);
        }
    }

    /// Takes the first waiter that still waits, for the caller to serve and finish.
    #[inline]
    pub fn claim(&mut self) -> Option<Claimed> {
        self.claim_if(|_| true)
    }

    /// As [`Waitlist::claim`], if the payload of that first waiter suits the caller.
    #[inline]
    pub fn claim_if(&mut self, mut suits: impl FnMut(*mut ()) -> bool) -> Option<Claimed> {
        while let Some(first) = self.front {
            // SAFETY: validity: it is in the list, so it is there (Rule 2). aliasing: shared borrow.
            let node = unsafe { first.as_ref() };
            let open = node.choice().0.load(Relaxed) == OPEN;
            if open && !suits(node.payload) {
                return None;
            }
            self.unlink(node);
            if open && node.choice().claim(node.case) {
                return Some(Claimed(first));
            }
        }
        None
    }

    /// Takes all who still wait, in order.
    pub fn claim_all(&mut self) -> Batch {
        let mut batch = Batch::new();
        while let Some(claimed) = self.claim() {
            batch.push(claimed);
        }
        batch
    }

    /// The node is in this list.
    fn unlink(&mut self, node: &Node) {
        let (next, prev) = node.links(|links| {
            debug_assert!(links.linked, "a node that is taken out is in");
            links.linked = false;
            (links.next.take(), links.prev.take())
        });
        self.join(prev, next);
    }

    /// Makes two nodes of this list neighbours; None is the end on that side.
    #[inline]
    fn join(&mut self, prev: Option<NonNull<Node>>, next: Option<NonNull<Node>>) {
        match prev {
            None => self.front = next,
            // SAFETY: validity: in the list, so it is there (Rule 2). aliasing: shared borrow.
            Some(prev) => unsafe { prev.as_ref() }.links(|links| links.next = next),
        }
        match next {
            None => self.back = prev,
            // SAFETY: as above.
            Some(next) => unsafe { next.as_ref() }.links(|links| links.prev = prev),
        }
    }
}

impl Default for Waitlist {
    fn default() -> Self {
        Waitlist::new()
    }
}

/// A waiter that is the caller's to serve: it cannot give up any more, so it must be finished, soon.
#[derive(Debug)]
#[must_use = "the waiter waits for `finish`"]
pub struct Claimed(NonNull<Node>);

impl Claimed {
    fn node(&self) -> &Node {
        // SAFETY: validity: claimed and not finished, so the waiter keeps it (Rule 2). aliasing: shared borrow.
        unsafe { self.0.as_ref() }
    }

    /// What the waiter gave to [`Node::new`]: the caller's to use until `finish` (Rule 3).
    #[inline]
    pub fn payload(&self) -> *mut () {
        self.node().payload
    }

    /// Ends the wait with this outcome. Under the list's lock or after it; what is returned is for after it.
    #[inline]
    pub fn finish(self, outcome: u8) -> Wake {
        let node = self.node();
        if cfg!(bast_plant = "waitlist_wake_late") {
            let token = node.token;
            node.choice().finish(node.case, outcome);
            // SAFETY: the planted bug: the waiter may be gone.
            return unsafe { Wake::of(token) };
        }
        // SAFETY: the waiter is there until the line after (Rule 4).
        let wake = unsafe { Wake::of(node.token) };
        node.choice().finish(node.case, outcome);
        wake
    }
}

/// Claimed waiters, in order, chained through their own nodes: to be finished after the list's lock is released.
#[derive(Debug)]
#[must_use = "the waiters wait for `finish`"]
pub struct Batch(Waitlist);

impl Batch {
    /// Of nobody.
    pub fn new() -> Batch {
        Batch(Waitlist::new())
    }

    /// One more.
    #[inline]
    pub fn push(&mut self, claimed: Claimed) {
        // SAFETY: it was unlinked when it was claimed, and its waiter keeps it until it is finished (Rule 2); until then
        // its links are the claimer's.
        unsafe { self.0.push(claimed.node()) };
    }

    /// True if there is nobody in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out the first.
    #[inline]
    pub fn pop(&mut self) -> Option<Claimed> {
        let claimed = Claimed(self.0.front?);
        self.0.unlink(claimed.node());
        Some(claimed)
    }

    /// Finishes and wakes all. Not under a lock.
    pub fn finish(mut self, outcome: u8, caller: &mut Caller) {
        // Wakers of futures are foreign code, which may wait for the end of a wait that is still in this batch: they
        // come after all others. No memory is taken unless futures wait.
        let mut foreign = Vec::new();
        while let Some(claimed) = self.pop() {
            let wake = claimed.finish(outcome);
            if wake.is_foreign() {
                foreign.push(wake);
            } else {
                wake.wake(caller);
            }
        }
        foreign.into_iter().for_each(|wake| wake.wake(caller));
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

/// What [`wait_in`] needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// For the waker (Rule 3); null if it needs nothing.
    pub payload: *mut (),
    /// Before all others, see [`Waitlist::push_at`].
    pub first: bool,
    /// Until when at most; [`NEVER`] for no limit.
    pub deadline: u64,
    /// For dumps.
    pub reason: Reason,
    /// For dumps.
    pub at: &'static Location<'static>,
}

/// One wait in one list: the list that `list` finds in what `guard` holds. If the caller must not park it panics before
/// the lists are touched. `published` runs once others can see the
/// waiter, without the lock: for a condition variable, to release the mutex.
///
/// Gives the outcome its waker stored. If the time is over, gives the lock, held, with the waiter out of the list: what
/// follows from its leaving is the caller's to do.
#[inline]
pub fn wait_in<'a, S>(
    caller: &mut Caller,
    lock: &'a Lock<S>,
    mut guard: Guard<'a, S>,
    list: fn(&mut S) -> &mut Waitlist,
    wait: &Wait,
    published: impl FnOnce(&mut Caller),
) -> Result<u8, Guard<'a, S>> {
    if !caller.may_park() {
        drop(guard);
        caller.refuse(wait.reason, wait.at);
    }
    let choice = Choice::new();
    let node = Node::new(&choice, 0, caller, wait.payload);
    // SAFETY: the node is new. Node and choice lie in this frame, which does not end before the choice is done, with the
    // node out of its list, or cancelled and the node removed (Rule 2).
    unsafe { list(&mut guard).push_at(&node, wait.first) };
    drop(guard);
    published(caller);
    match choice.wait(caller, wait.deadline, wait.reason, wait.at) {
        Some(done) => Ok(done.outcome),
        None => {
            let mut guard = lock.lock();
            // SAFETY: it was pushed to this list.
            unsafe { list(&mut guard).remove(&node) };
            Err(guard)
        }
    }
}
