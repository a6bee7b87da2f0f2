//! The tree of what can be cancelled: its word, its waiters, its children.
//!
//! ```text
//!                cancel, by anybody, or by who sees that its deadline has passed
//!     ┌──────┐ ──────────────────────────────────────────────────────────────────► ┌───────────┐
//!     │ LIVE │                                                                     │ CANCELLED │  both for good
//!     └──────┘ ──────────────────────────────────────────────────────────────────► │ LATE      │
//!                the end of its parent, with the parent's reason                   └───────────┘
//!
//!                     ┌ lock ───────────────────────────────┐
//!       word          │ reason: none, or error and cause    │
//!       (what waits   │ waiters: tasks and threads entered  │──► their stacks, or those of functions that run after
//!        look at)     │ children: a node in each child      │──► child ──► ...
//!       parent ◄──────│ bell: a channel, once asked for     │
//!                     └─────────────────────────────────────┘
//! ```
//!
//! # What an end does
//! In one hold of the lock the reason is stored, the word, and waiters and children are taken out of their lists, as any
//! waker takes them ([`Waitlist::claim`]). Then the waiters are woken, and the children are ended in the same way. So
//! when `cancel` returns the whole tree below is over and everybody in it is awake or will find the word before he
//! sleeps. It goes by a list of what is still to be done, not by recursion: trees may be deep and stacks are not.
//!
//! # Who waits under it
//! A task or thread that enters a context ([`enter`](super::enter)) puts **one** node into the list, once, for all the waits
//! that it makes until it leaves, and each of these waits looks at the word ([`bound`](crate::task)). So a wait under a
//! context costs what a wait with a deadline costs, without the timer, and there is no second queue: waiters queue where
//! they wait, and the end of a context only wakes them. What a waker has granted in the same moment is not lost: a wait
//! that is woken so first takes its own choice back, and if it cannot, it has what it waited for.
//!
//! # Nobody misses the end
//! (1) Entering queues the node under the lock, unless there is a reason already: so the end finds the node, or whoever
//! has entered the word.
//! (2) A wait looks at the word after it has published itself. It sees it; or the end stores it afterwards, then wakes
//! the node's owner, and the park that follows returns at once.
//! (3) A child looks at its parent's reason under the parent's lock before it joins: born over, or the end finds it.
//!
//! # Nobody is left behind
//! A child holds its parent; a parent holds its child by a node in the child itself, and only as a weak reference. A
//! child that ends alone, or goes, takes its node out. A child that is going while its parent ends waits for the lock
//! to do so; until then its memory is there, and the weak reference tells that nobody needs it.
//!
//! # Deadlines
//! A deadline has no timer. Who waits under it waits until then at most; who asks looks at the clock, and whoever sees
//! first that it has passed ends the context, from the topmost one that is late. So a context that is done before its
//! time has cost nothing.
//!
//! Memory ordering: the word is stored with Release and read with Acquire; see `task::bound` for who looks when. All
//! else is under the lock.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use super::error::ContextError;
use crate::primitive;
use crate::primitive::atomic::{Acquire, AtomicU8, Ordering, Relaxed, Release};
use crate::sync::base::{Caller, LIVE, Lock, NEVER, Reason, has_come, leaf};
use crate::sync::channel_core::Chan;
use crate::sync::waitlist::{Choice, Node, Waitlist};
use std::error::Error;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

/// Why, in the words of whoever cancelled.
pub type Cause = Arc<dyn Error + Send + Sync>;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const END: Ordering = if cfg!(bast_plant = "context_end_relaxed") {
    Relaxed
} else {
    Release
};

/// The token of a child's node: nobody is to be woken for it.
const NOBODY: usize = 0;
/// Outcome of a wait for the end.
const OVER: u8 = 0;

/// Why a context is over.
#[derive(Clone, Debug)]
pub struct Why {
    /// What kind of end.
    pub error: ContextError,
    /// None: nobody gave one, so it is the error.
    pub cause: Option<Cause>,
}

/// A part of the tree that ends as one. See the module.
#[derive(Debug)]
pub struct Cancel {
    word: AtomicU8,
    /// No later than its parent's.
    deadline: u64,
    /// Why, if the deadline is our own and passes.
    late: Option<Cause>,
    me: Weak<Cancel>,
    choice: Choice,
    /// In the parent's list of children.
    node: Node,
    state: Lock<State>,
}

// SAFETY: the node's pointers are to ourselves, and its links are touched under the parent's lock only (Rule 1 of the
// waitlist). All else is Send.
unsafe impl Send for Cancel {}
// SAFETY: as for Send: what changes is atomic or under a lock.
unsafe impl Sync for Cancel {}

#[derive(Debug)]
struct State {
    why: Option<Why>,
    parent: Option<Arc<Cancel>>,
    waiters: Waitlist,
    children: Waitlist,
    bell: Option<Bell>,
}

/// The channel that is closed at the end.
#[derive(Clone)]
struct Bell(primitive::Arc<Chan<()>>);

impl std::fmt::Debug for Bell {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Bell")
    }
}

impl Cancel {
    /// A child of `parent`, or a root. It is over from the start if its parent is. `late` is the cause of the end that
    /// its own deadline brings.
    pub fn new(parent: Option<Arc<Cancel>>, deadline: u64, late: Option<Cause>) -> Arc<Cancel> {
        let above = parent.as_ref().map_or(NEVER, |parent| parent.deadline);
        let cancel = Arc::new_cyclic(|me: &Weak<Cancel>| {
            let place = me.as_ptr();
            // SAFETY: validity: the place is allocated, and only an address is computed.
            let choice = unsafe { &raw const (*place).choice }.cast_mut();
            // SAFETY: validity: a field of an allocated place.
            let choice = unsafe { NonNull::new_unchecked(choice) };
            Cancel {
                word: AtomicU8::new(LIVE),
                deadline: deadline.min(above),
                late: late.filter(|_| deadline < above),
                me: me.clone(),
                choice: Choice::new(),
                node: Node::with_token(choice, 0, NOBODY, place.cast_mut().cast()),
                state: leaf(State {
                    why: None,
                    parent: None,
                    waiters: Waitlist::new(),
                    children: Waitlist::new(),
                    bell: None,
                }),
            }
        });
        if let Some(parent) = parent {
            cancel.join(parent);
        }
        cancel
    }

    /// A new child takes its place.
    fn join(&self, parent: Arc<Cancel>) {
        // Ours first: an end of the parent finds us with a parent.
        self.state.lock().parent = Some(Arc::clone(&parent));
        let mut above = parent.state.lock();
        match &above.why {
            Some(why) if !cfg!(bast_plant = "context_join_unchecked") => {
                let why = why.clone();
                drop(above);
                self.cancel(why);
            }
            _ => {
                // SAFETY: the node is new. It and the choice lie in the Arc's allocation, and are there until `drop`,
                // which takes the node out (Rule 2).
                unsafe { above.children.push(&self.node) };
            }
        }
    }

    /// Takes the node out of the parent's list and lets go of the parent.
    fn leave(&self) -> Option<Arc<Cancel>> {
        let parent = self.state.lock().parent.take()?;
        // SAFETY: it was pushed to this list, if to any.
        unsafe { parent.state.lock().children.remove(&self.node) };
        Some(parent)
    }

    /// Ends this context and all below. False: it was over already.
    pub fn cancel(&self, why: Why) -> bool {
        // None: it is going, so nobody is in it or below.
        let mut ended: Vec<Arc<Cancel>> = self.me.upgrade().into_iter().collect();
        let mut caller = Caller::to_wake();
        let mut bells = Vec::new();
        let mut next = 0;
        while let Some(cancel) = ended.get(next).cloned() {
            if !cancel.end(&why, &mut caller, &mut ended, &mut bells) && next == 0 {
                break;
            }
            next += 1;
        }
        drop(caller); // what follows may run destructors of the user's
        for Bell(chan) in &bells {
            chan.close();
        }
        drop(self.leave());
        next > 0
    }

    /// Ends this context alone, and adds its children to `below`.
    fn end(
        &self,
        why: &Why,
        caller: &mut Caller,
        below: &mut Vec<Arc<Cancel>>,
        bells: &mut Vec<Bell>,
    ) -> bool {
        let mut state = self.state.lock();
        if state.why.is_some() {
            return false;
        }
        state.why = Some(why.clone());
        if !cfg!(bast_plant = "context_word_late") {
            // Release: pairs with the Acquire of `Bound::over` and `word`.
            self.word.store(why.error.word(), END);
        }
        let waiters = state.waiters.claim_all();
        while let Some(child) = state.children.claim() {
            // SAFETY: validity: a child is in our list, or going and waiting for our lock to leave it, so it is there.
            // aliasing: shared borrow.
            let child = unsafe { &*child.payload().cast_const().cast::<Cancel>() };
            below.extend(child.me.upgrade());
        }
        bells.extend(state.bell.clone());
        drop(state);
        waiters.finish(OVER, caller);
        if cfg!(bast_plant = "context_word_late") {
            self.word.store(why.error.word(), END);
        }
        true
    }

    /// What waits look at, through a [`Bound`](crate::sync::base::Bound).
    pub fn word(&self) -> &AtomicU8 {
        &self.word
    }

    /// When it ends by itself.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// As [`Cancel::is_over`], but does nothing about a deadline that has passed: for a call under others' locks.
    pub fn has_ended(&self) -> bool {
        self.word.load(Acquire) != LIVE || has_come(self.deadline)
    }

    /// True if it is over. Sees to it that it is, once its deadline has passed.
    pub fn is_over(&self) -> bool {
        if self.word.load(Acquire) != LIVE {
            return true;
        }
        if has_come(self.deadline) {
            self.end_late();
            return true;
        }
        false
    }

    /// Why it is over, if it is.
    pub fn why(&self) -> Option<Why> {
        self.is_over().then(|| {
            let why = self.state.lock().why.clone();
            why.expect("the reason of an end is there before its word")
        })
    }

    /// The deadline has passed: ends the topmost context for which it has.
    #[cold]
    fn end_late(&self) {
        let mut top = None;
        let mut above = self.parent();
        while let Some(late) = above.filter(|above| has_come(above.deadline)) {
            above = late.parent();
            top = Some(late);
        }
        let top = top.as_deref().unwrap_or(self);
        top.cancel(Why {
            error: ContextError::DeadlineExceeded,
            cause: top.late.clone(),
        });
        // Somebody else may have ended that one just now, and not have come down to us yet.
        let why = top.state.lock().why.clone();
        self.cancel(why.expect("a context that was cancelled has a reason"));
    }

    fn parent(&self) -> Option<Arc<Cancel>> {
        self.state.lock().parent.clone()
    }

    /// Queues the node of one who is to be woken at the end. False: it is over.
    ///
    /// # Safety
    /// Rule 2 of the waitlist; the node is in no list.
    pub unsafe fn queue(&self, node: &Node) -> bool {
        let mut state = self.state.lock();
        if state.why.is_some() {
            return false;
        }
        // SAFETY: as our caller says.
        unsafe { state.waiters.push(node) };
        true
    }

    /// Takes out a node that was queued, or if it is being woken, waits until that is done.
    ///
    /// # Safety
    /// The node was queued here, with this choice.
    pub unsafe fn withdraw(&self, node: &Node, choice: &Choice, at: &'static Location<'static>) {
        if choice.cancel() {
            // SAFETY: as our caller says.
            unsafe { self.state.lock().waiters.remove(node) };
        } else if choice.done().is_none() && !cfg!(bast_plant = "context_leave_early") {
            let done = choice.wait(&mut Caller::to_wait(), NEVER, Reason::Notify, at);
            debug_assert!(done.is_some(), "a wait without a limit is ended by its waker");
        }
    }

    /// A channel that is closed at the end. At a deadline that nobody has seen pass it is not: who waits looks at the
    /// clock.
    pub(crate) fn bell(&self) -> primitive::Arc<Chan<()>> {
        let fresh = Bell(primitive::Arc::new(Chan::new(Some(0))));
        let mut state = self.state.lock();
        let Bell(chan) = state.bell.get_or_insert_with(|| fresh.clone()).clone();
        let over = state.why.is_some();
        drop(state);
        if over {
            chan.close();
        }
        chan
    }

    /// Nobody is left behind, below or waiting.
    #[cfg(any(test, bast_loom))]
    pub fn is_deserted(&self) -> bool {
        let state = self.state.lock();
        state.children.is_empty() && state.waiters.is_empty()
    }
}

impl Drop for Cancel {
    /// Goes up by a loop, because chains may be long.
    fn drop(&mut self) {
        let mut above = self.leave();
        while let Some(parent) = above {
            // If we hold the last one nobody can come to it any more but an end from above, which needs no parent.
            above = if Arc::strong_count(&parent) == 1 {
                parent.leave()
            } else {
                None
            };
        }
    }
}

#[cfg(all(test, not(bast_loom)))]
mod tests {
    use super::{Arc, Cancel, ContextError, NEVER, Why};

    fn why() -> Why {
        Why {
            error: ContextError::Cancelled,
            cause: None,
        }
    }

    #[test]
    fn a_child_that_goes_leaves_no_trace() {
        let root = Cancel::new(None, NEVER, None);
        let kept = Cancel::new(Some(Arc::clone(&root)), NEVER, None);
        for _ in 0..1_000 {
            let child = Cancel::new(Some(Arc::clone(&root)), NEVER, None);
            drop(Cancel::new(Some(child), NEVER, None));
        }
        assert!(!root.is_deserted(), "one is kept");
        assert_eq!(Arc::strong_count(&root), 2);
        assert_eq!(Arc::weak_count(&root), 1, "its own");
        drop(kept);
        assert!(root.is_deserted());
        assert_eq!(Arc::strong_count(&root), 1);
    }

    #[test]
    fn a_child_that_ends_leaves_its_parent() {
        let root = Cancel::new(None, NEVER, None);
        let middle = Cancel::new(Some(Arc::clone(&root)), NEVER, None);
        let leaf = Cancel::new(Some(Arc::clone(&middle)), NEVER, None);
        assert!(middle.cancel(why()));
        assert!(root.is_deserted() && middle.is_deserted());
        assert!(leaf.is_over() && !root.is_over());
        assert_eq!(Arc::strong_count(&root), 1);
        assert!(!middle.cancel(why()));
        let dead = Cancel::new(Some(Arc::clone(&middle)), NEVER, None);
        assert!(dead.is_over() && middle.is_deserted());
    }

    #[test]
    fn a_parent_is_kept_by_its_child() {
        let root = Cancel::new(None, NEVER, None);
        let leaf = Cancel::new(
            Some(Cancel::new(Some(Arc::clone(&root)), NEVER, None)),
            NEVER,
            None,
        );
        assert!(root.cancel(why()));
        assert!(leaf.is_over());
        assert!(root.is_deserted());
    }
}
