//! Receiving from a channel in `async` code: a future that waits in the channel's own queue.
//!
//! What a task has on its stack while it waits (choice, node, and the place for the value) a future has on the heap, from
//! the first poll that must wait. Its token names a [`WakerSlot`]. Everything else is as for tasks: who claims the node
//! hands the value over and finishes the wait, and one exchange decides between that and giving up.
//!
//! A future that is dropped while it waits gives up. If it is too late for that, it has the value, or will within a few
//! instructions of its sender (Rule 5 of the waitlist), and gives it back.

use super::base::Caller;
use super::channel::{Done as ContextDone, Receiver, RecvError, Source};
use super::channel_core::{Attempt, Chan, HANDED_OVER, Slot, wake};
use super::waitlist::{Choice, Done, Node};
#[cfg(not(bast_loom))]
use super::{base::UNTIL_CANCELLED, timed::Timed};
use crate::primitive::model_is_over;
use crate::primitive::{Arc, yield_now};
#[cfg(bast_loom)]
use crate::protocol::waker_slot::WakerSlot;
#[cfg(not(bast_loom))]
use crate::task::waker_slot::WakerSlot;
use std::fmt;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

/// Receives one value; see [`Receiver::recv_async`].
///
/// Polled again after it was ready it receives another.
#[must_use = "a future does nothing until it is polled"]
pub struct RecvAsync<'a, T> {
    receiver: &'a Receiver<T>,
    state: State<T>,
}

enum State<T> {
    /// It does not wait.
    Idle,
    /// It waits in the channel's list.
    Waiting(Waiting<T>),
    /// It waits for a moment, on which somebody sleeps for it.
    #[cfg(not(bast_loom))]
    Timed(Arc<WakerSlot>),
}

/// A wait that may be in the list. On the heap, where it stays wherever the future goes; from a box.
struct Waiting<T>(NonNull<Inner<T>>);

struct Inner<T> {
    choice: Choice,
    value: Slot<T>,
    /// Set as soon as the others are in their place.
    node: Option<Node>,
    /// The node's: the waiter's again if nobody claims it.
    token: usize,
    slot: Arc<WakerSlot>,
}

// SAFETY: the value goes to one thread at a time, which T: Send allows; the rest is made for being touched by others.
unsafe impl<T: Send> Send for Waiting<T> {}
// SAFETY: a shared borrow of it gives access to no value.
unsafe impl<T: Send> Sync for Waiting<T> {}

impl<T> Waiting<T> {
    /// In no list yet.
    fn new(waker: &Waker) -> Waiting<T> {
        let slot = WakerSlot::new(waker.clone());
        let token = WakerSlot::token(&slot);
        let inner = Box::new(Inner {
            choice: Choice::new(),
            value: Slot::empty(),
            node: None,
            token,
            slot,
        });
        let waiting = Waiting(NonNull::from(Box::leak(inner)));
        let inner = waiting.get();
        let node = Node::with_token(NonNull::from(&inner.choice), 0, token, inner.value.payload());
        // SAFETY: validity: allocated above. aliasing: nobody else knows of it yet, nor of the node.
        unsafe { (*waiting.0.as_ptr()).node = Some(node) };
        waiting
    }

    fn get(&self) -> &Inner<T> {
        // SAFETY: validity: freed by `free` only. aliasing: shared borrows only, but for `new` and `free`.
        unsafe { self.0.as_ref() }
    }

    fn node(&self) -> &Node {
        self.get().node.as_ref().expect("set by `new`")
    }

    /// The end of the wait. None: the waker will be woken by it.
    fn end(&self, waker: &Waker) -> Option<Done> {
        let inner = self.get();
        if let Some(done) = inner.choice.done() {
            return Some(done);
        }
        if inner.slot.register(waker) {
            return None;
        }
        Some(inner.choice.done().expect("who is woken finds the wait done"))
    }

    /// Frees it, and gives the value if there is one.
    ///
    /// # Safety
    /// The node is in no list, and nobody has it. `full`: the value is there. `own_token`: it was never claimed.
    unsafe fn free(self, full: bool, own_token: bool) -> Option<T> {
        // SAFETY: validity: from a box, and this takes the only handle. aliasing: nobody else has it, says our caller.
        let inner = unsafe { Box::from_raw(self.0.as_ptr()) };
        if own_token {
            // SAFETY: ours, says our caller, and used here only.
            drop(unsafe { WakerSlot::from_token(inner.token) });
        }
        // SAFETY: full, says our caller, and ours.
        full.then(|| unsafe { inner.value.take() })
    }
}

impl<'a, T> RecvAsync<'a, T> {
    pub(super) fn new(receiver: &'a Receiver<T>) -> Self {
        RecvAsync {
            receiver,
            state: State::Idle,
        }
    }

    fn poll_chan(&mut self, chan: &Chan<T>, waker: &Waker) -> Poll<Result<T, RecvError>> {
        match &self.state {
            State::Waiting(waiting) => {
                let Some(done) = waiting.end(waker) else {
                    return Poll::Pending;
                };
                self.received(done)
            }
            _ => match attempt(chan) {
                Some(result) => Poll::Ready(result),
                None => self.begin(chan, waker),
            },
        }
    }

    /// The end of a context: a channel that is closed, but at a deadline only if somebody looks.
    fn poll_done(&mut self, done: &ContextDone<T>, waker: &Waker) -> Poll<Result<T, RecvError>> {
        if matches!(self.state, State::Idle) && done.cancel.is_over() {
            return Poll::Ready(Err(RecvError));
        }
        #[cfg(not(bast_loom))]
        if matches!(self.state, State::Idle) && done.cancel.deadline() < UNTIL_CANCELLED {
            let cancel = std::sync::Arc::clone(&done.cancel);
            call_at(done.cancel.deadline(), move || _ = cancel.is_over());
        }
        self.poll_chan(&done.chan, waker)
    }

    /// The wait is done.
    fn received(&mut self, done: Done) -> Poll<Result<T, RecvError>> {
        let State::Waiting(waiting) = std::mem::replace(&mut self.state, State::Idle) else {
            unreachable!("it has waited");
        };
        // SAFETY: it is done, so its waker took the node out, and has the token.
        let value = unsafe { waiting.free(done.outcome == HANDED_OVER, false) };
        Poll::Ready(value.ok_or(RecvError))
    }

    /// Queues, if there is still nothing. Foreign code, and the allocator, come before the lock is taken.
    fn begin(&mut self, chan: &Chan<T>, waker: &Waker) -> Poll<Result<T, RecvError>> {
        let waiting = Waiting::new(waker);
        let mut caller = Caller::to_wake();
        let mut state = chan.hold();
        // SAFETY: the place is empty, and ours.
        let full = match unsafe { state.recv(&waiting.get().value) } {
            Attempt::MustWait => {
                // SAFETY: the node is new. Node and choice stay where they are until the wait is done, or cancelled and the
                // node removed, also if the future is forgotten (Rule 2 of the waitlist).
                unsafe { state.receivers.push(waiting.node()) };
                drop(state);
                self.state = State::Waiting(waiting);
                return Poll::Pending;
            }
            Attempt::Done(sender) => {
                drop(state);
                wake(sender, &mut caller);
                true
            }
            Attempt::Closed => {
                drop(state);
                false
            }
        };
        drop(caller);
        // SAFETY: it was in no list.
        Poll::Ready(unsafe { waiting.free(full, true) }.ok_or(RecvError))
    }
}

/// Receives if that can be done at once.
fn attempt<T>(chan: &Chan<T>) -> Option<Result<T, RecvError>> {
    let value = Slot::empty();
    let mut caller = Caller::to_wake();
    let mut state = chan.hold();
    // SAFETY: the place is empty, and ours.
    match unsafe { state.recv(&value) } {
        Attempt::MustWait => None,
        Attempt::Closed => Some(Err(RecvError)),
        Attempt::Done(sender) => {
            drop(state);
            wake(sender, &mut caller);
            // SAFETY: it was filled.
            Some(Ok(unsafe { value.take() }))
        }
    }
}

/// A value that has come to a future that goes.
fn give_back<T>(chan: &Chan<T>, value: T) {
    if cfg!(bast_plant = "recv_async_keep") {
        return;
    }
    let mut caller = Caller::to_wake();
    let mut state = chan.hold();
    let next = state.give_back(value);
    drop(state);
    wake(next, &mut caller);
}

/// Takes a waiting future out of its channel.
fn leave<T>(chan: &Chan<T>, waiting: Waiting<T>) {
    if waiting.get().choice.cancel() {
        // SAFETY: it was pushed to this list, if to any.
        unsafe { chan.hold().receivers.remove(waiting.node()) };
        // SAFETY: it was taken out, and nobody can claim it any more.
        unsafe { waiting.free(false, true) };
        return;
    }
    let done = loop {
        if let Some(done) = waiting.get().choice.done() {
            break done;
        }
        yield_now();
    };
    // SAFETY: it is done, so its waker took the node out, and has the token.
    if let Some(value) = unsafe { waiting.free(done.outcome == HANDED_OVER, false) } {
        give_back(chan, value);
    }
}

impl<T> Future for RecvAsync<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let receiver = self.receiver;
        match &receiver.source {
            Source::Chan(chan) => self.poll_chan(chan, context.waker()),
            #[cfg(not(bast_loom))]
            Source::Timed(timed) => self.poll_timed(timed, context.waker()),
            Source::Done(done) => self.poll_done(done, context.waker()),
            Source::Never => Poll::Pending,
        }
    }
}

impl<T> Drop for RecvAsync<'_, T> {
    fn drop(&mut self) {
        if model_is_over() {
            return;
        }
        if let State::Waiting(waiting) = std::mem::replace(&mut self.state, State::Idle) {
            match &self.receiver.source {
                Source::Chan(chan) => leave(chan, waiting),
                Source::Done(done) => leave(&done.chan, waiting),
                _ => unreachable!("only a channel has a list"),
            }
        }
    }
}

// The value lies on the heap while others know where.
impl<T> Unpin for RecvAsync<'_, T> {}

#[cfg(not(bast_loom))]
impl<T> RecvAsync<'_, T> {
    fn poll_timed(&mut self, timed: &Timed<T>, waker: &Waker) -> Poll<Result<T, RecvError>> {
        if let Some(moment) = timed.take() {
            return Poll::Ready(Ok(moment));
        }
        if let State::Timed(slot) = &self.state
            && slot.register(waker)
        {
            return Poll::Pending;
        }
        let due = timed.due();
        if due != super::base::NEVER {
            let slot = WakerSlot::new(waker.clone());
            self.state = State::Timed(Arc::clone(&slot));
            call_at(due, move || slot.wake());
        }
        Poll::Pending
    }
}

/// Timers wake tasks, and futures have none: so one sleeps for it or, if there is no runtime here, a thread does.
#[cfg(not(bast_loom))]
fn call_at(due: u64, call: impl FnOnce() + Send + 'static) {
    use crate::time::sleep::sleep_to;
    const STACK_BYTES: usize = 64 << 10;
    let at = std::panic::Location::caller();
    let sleeper = move || {
        sleep_to(due, at);
        call();
    };
    if crate::task::try_current().is_some() {
        crate::task::spawn(sleeper);
    } else {
        let thread = crate::sys::thread::start("bast-recv-async".to_owned(), STACK_BYTES, sleeper);
        thread.unwrap_or_else(|error| panic!("bast: no thread to wait for a moment: {error}"));
    }
}

impl<T> fmt::Debug for RecvAsync<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RecvAsync { .. }")
    }
}
