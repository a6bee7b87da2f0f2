//! Running code in a context: what its waits heed from then on.

use super::Context;
use super::cancel::Cancel;
use super::error::ContextError;
use crate::sync::base::{Bound, Identity, NEVER, UNTIL_CANCELLED};
use crate::sync::waitlist::{Choice, Node};
use std::panic::Location;
use std::ptr::NonNull;

/// What held before, to be put back, also when the code panics.
struct Leave<'a> {
    identity: &'a Identity,
    outer: (Option<NonNull<Bound>>, u64),
    /// Where the node is queued.
    queued: Option<(&'a Cancel, &'a Node, &'a Choice)>,
    at: &'static Location<'static>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some((cancel, node, choice)) = self.queued {
            // SAFETY: it was queued there, with this choice.
            unsafe { cancel.withdraw(node, choice, self.at) };
        }
        let (bound, deadline) = self.outer;
        self.identity.set_bound(bound, deadline);
    }
}

impl Context {
    /// Runs `f` in this context: it is the [`current`] one, and calls of bast that wait in `f` give up when it is over, as
    /// the [module](crate::context) says. Nothing is injected into `f`: it sees its calls fail and comes to its end by itself.
    ///
    /// What bounds the code around goes on to hold: an outer context that ends, or a
    /// [`time::timeout`](crate::time::timeout()), ends waits in `f` too. [`shield`] is the way out of that.
    ///
    /// Works in tasks and on plain threads. Tasks that `f` spawns do not begin in the context, unless they are given it
    /// by [`Builder::context`](crate::task::Builder::context).
    ///
    /// ```
    /// use bast::context::{Context, ContextError};
    /// use bast::sync::channel;
    /// # // SAFETY: nothing bound to a thread is used.
    /// # unsafe { bast::run(|| {
    /// let (context, canceller) = Context::background().with_cancel();
    /// let worker = bast::spawn(move || {
    ///     let (_sender, receiver) = channel::bounded::<u32>(1);
    ///     let received = context.enter(|| receiver.recv());
    ///     (received.is_err(), context.error())
    /// });
    /// canceller.cancel();
    /// assert_eq!(worker.join().unwrap(), (true, Some(ContextError::Cancelled)));
    /// # }) }
    /// ```
    #[track_caller]
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        enter(self, false, f, Location::caller())
    }
}

/// Runs `f` free of all that bounds the calling code: contexts and [`time::timeout`](crate::time::timeout()) alike. For
/// what must be done also after a cancellation, such as telling a peer. The values of the current context remain.
///
/// ```
/// use bast::context::{self, Context};
/// # use std::time::Duration;
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let (context, canceller) = Context::background().with_cancel();
/// canceller.cancel();
/// let (sender, receiver) = bast::sync::channel::rendezvous();
/// bast::spawn(move || receiver.recv());
/// context.enter(|| {
///     bast::time::sleep(Duration::from_secs(60)); // returns at once
///     context::shield(|| sender.send("goodbye")).unwrap();
/// });
/// # }) }
/// ```
#[track_caller]
pub fn shield<R>(f: impl FnOnce() -> R) -> R {
    enter(&entered().without_cancel(), true, f, Location::caller())
}

fn enter<R>(context: &Context, shield: bool, f: impl FnOnce() -> R, at: &'static Location<'static>) -> R {
    let identity = Identity::new();
    let outer = identity.bound();
    let (held, above) = if shield { (None, NEVER) } else { outer };
    let cancel = context.cancel.as_deref();
    let deadline = cancel.map_or(above, |cancel| above.min(cancel.deadline()).min(UNTIL_CANCELLED));
    // SAFETY: the word is the context's, which is borrowed for this call, and `held` is a call's around this one. The bound
    // is taken back, by `Leave`, before this call ends.
    let bound = unsafe {
        Bound::new(
            cancel.map(Cancel::word),
            held,
            deadline,
            std::ptr::from_ref(context).cast(),
        )
    };
    let choice = Choice::new();
    let node = Node::with_token(NonNull::from(&choice), 0, identity.token(), std::ptr::null_mut());
    // SAFETY: the node is new. Node, choice and identity lie in this frame, which does not end before `Leave` has withdrawn
    // the node (Rule 2 of the waitlist).
    let queued = cancel.filter(|cancel| unsafe { cancel.queue(&node) });
    let leave = Leave {
        identity: &identity,
        outer,
        queued: queued.map(|cancel| (cancel, &node, &choice)),
        at,
    };
    identity.set_bound(Some(NonNull::from(&bound)), deadline);
    let value = f();
    drop(leave);
    value
}

/// The innermost context that was entered.
fn entered() -> Context {
    let (bound, _) = Identity::new().bound();
    bound.map_or_else(Context::background, |bound| {
        // SAFETY: validity: it lies on the stack of a call that has entered and not left. aliasing: shared borrow.
        let entered = unsafe { bound.as_ref() }.entered;
        // SAFETY: validity: as above, a context that this call borrows. aliasing: shared borrow.
        unsafe { &*entered.cast::<Context>() }.clone()
    })
}

/// The context that the calling task or thread is in: the one entered last, or the background. Its deadline is no later
/// than that of a [`time::timeout`](crate::time::timeout()) around the call.
pub fn current() -> Context {
    let context = entered();
    let (_, deadline) = Identity::new().bound();
    let own = context.cancel.as_ref().map_or(NEVER, |cancel| cancel.deadline());
    if deadline < own.min(UNTIL_CANCELLED) {
        let cancel = Cancel::new(context.cancel.clone(), deadline, None);
        return Context {
            cancel: Some(cancel),
            ..context
        };
    }
    context
}

/// Why the calling code is to come to its end, if it is: a context that it is in is over, or the time of a
/// [`time::timeout`](crate::time::timeout()).
///
/// For loops that compute, and for code that was told by a call without a word of its own, such as `recv`.
///
/// # Errors
/// The reason.
pub fn check() -> Result<(), ContextError> {
    own_end().map_or(Ok(()), Err)
}

/// Why the waits of the calling task or thread are over, if they are.
pub(crate) fn own_end() -> Option<ContextError> {
    let (bound, deadline) = Identity::new().bound();
    // SAFETY: validity: it lies on the stack of a call that has entered and not left. aliasing: shared borrow.
    let word = bound.map_or(crate::sync::base::LIVE, |bound| unsafe { bound.as_ref() }.over());
    ContextError::of_word(word)
        .or_else(|| crate::sync::base::has_come(deadline).then_some(ContextError::DeadlineExceeded))
}
