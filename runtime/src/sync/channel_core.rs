//! What every channel is inside: a buffer, the ends that wait, and one lock around both.
//!
//! ```text
//!            ┌ lock ─────────────────────────────────────────┐
//!  send ───► │ buffer: ring of n places, or blocks           │ ───► recv
//!            │ senders:   wait, value on their stack         │
//!            │ receivers: wait, place for one on their stack │
//!            └───────────────────────────────────────────────┘
//! ```
//! A rendezvous is a ring of no places: always full, always empty.
//!
//! # Invariants
//! Whenever nobody holds the lock:
//! 1. If a sender waits, the buffer is full. If a receiver waits, it is empty. So senders and receivers never wait at
//!    once, unless they are of one and the same `select!`.
//! 2. If the channel is closed, nobody waits.
//!
//! "Waits" is said of those whose [`Choice`] is open; nodes of others may still lie in the lists, and are passed over.
//!
//! A call that can be served serves itself and, in the same hold of the lock, the one that it makes ready: a sender
//! writes into the first receiver's place; a receiver that takes from a full buffer moves the first sender's value into
//! it. A waiter that is woken therefore has what it waited for, or the channel is closed, and never tries again: who
//! waits first is served first, and values keep their order. A future that is dropped when it has been handed a value gives
//! it back, to the next receiver or before all that lies in the buffer, on top of the capacity.
//!
//! # Ends
//! Senders and receivers are counted. When the last of either kind goes the channel is closed, as by `close`. When the
//! last receiver goes what lies in the buffer is dropped, for nobody can ever take it. Values are dropped, as all user
//! code is run, outside the lock and outside the runtime.

use super::base::{Caller, NEVER, Reason, Wake};
use super::bounded::Ring;
use super::channel_lock::RawLock;
use super::turn::Turn;
use super::unbounded::Blocks;
use super::waitlist::{Batch, Choice, Claimed, Node, Waitlist};
use crate::primitive::UnsafeCell;
use crate::primitive::atomic::{AcqRel, Acquire, AtomicUsize, Relaxed};
use crossbeam_utils::CachePadded;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::panic::Location;

/// Outcome of a wait: the value has changed hands.
pub(crate) const HANDED_OVER: u8 = 1;
/// Outcome of a wait: the channel was closed, and the value is where it was.
pub(crate) const CLOSED: u8 = 2;

/// Why a call did not do what it was called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The channel is closed (and, for a receiver, empty).
    Closed,
    /// It would have to wait.
    WouldWait,
    /// It has waited long enough.
    TimedOut,
}

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Not at all.
    Now,
    /// Until then.
    Until(u64),
    /// As long as it takes.
    Forever,
}

impl Limit {
    /// As a point in time.
    pub(crate) fn deadline(self) -> u64 {
        match self {
            Limit::Now => 0,
            Limit::Until(deadline) => deadline,
            Limit::Forever => NEVER,
        }
    }
}

/// The place of one value that changes hands, on the stack of a sender or receiver. The owner knows whether it is full.
pub(crate) struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Slot<T> {
    #[inline]
    pub(crate) fn full(value: T) -> Slot<T> {
        Slot(UnsafeCell::new(MaybeUninit::new(value)))
    }

    #[inline]
    pub(crate) fn empty() -> Slot<T> {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// For [`Node::new`].
    pub(crate) fn payload(&self) -> *mut () {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// # Safety
    /// It is full, and the caller's to use; it is empty afterwards.
    #[inline]
    pub(crate) unsafe fn take(&self) -> T {
        // SAFETY: validity: full, says our caller. aliasing: the caller's to use, which a model checks.
        self.0.with(|value| unsafe { value.cast::<T>().read() })
    }

    /// # Safety
    /// It is empty, and the caller's to use; it is full afterwards.
    #[inline]
    pub(crate) unsafe fn put(&self, value: T) {
        self.0.with_mut(|place| {
            // SAFETY: validity: ours. aliasing: the caller's to use, which a model checks.
            unsafe { place.cast::<T>().write(value) };
        });
    }
}

/// The slot of a waiter who was claimed.
///
/// # Safety
/// The payload is a `Slot<T>`'s; it is not used after `finish`.
unsafe fn slot_of<'a, T>(claimed: &Claimed) -> &'a Slot<T> {
    // SAFETY: validity: the waiter keeps it until `finish` (Rule 3 of the waitlist). aliasing: shared borrow.
    unsafe { &*claimed.payload().cast::<Slot<T>>() }
}

/// Where values wait for a receiver.
pub(crate) enum Buffer<T> {
    Ring(Ring<T>),
    Blocks(Blocks<T>),
}

impl<T> Buffer<T> {
    #[inline]
    fn is_full(&self) -> bool {
        match self {
            Buffer::Ring(ring) => ring.is_full(),
            Buffer::Blocks(_) => false,
        }
    }

    #[inline]
    fn push(&mut self, value: T) {
        match self {
            Buffer::Ring(ring) => ring.push(value),
            Buffer::Blocks(blocks) => blocks.push(value),
        }
    }

    fn push_front(&mut self, value: T) {
        match self {
            Buffer::Ring(ring) => ring.push_front(value),
            Buffer::Blocks(blocks) => blocks.push_front(value),
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        match self {
            Buffer::Ring(ring) => ring.pop(),
            Buffer::Blocks(blocks) => blocks.pop(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Buffer::Ring(ring) => ring.len(),
            Buffer::Blocks(blocks) => blocks.len(),
        }
    }
}

/// What one look at a channel came to.
#[must_use]
pub(crate) enum Attempt {
    /// Done; this waiter, if any, is to be finished with [`HANDED_OVER`].
    Done(Option<Claimed>),
    /// The channel is closed.
    Closed,
    /// Neither.
    MustWait,
}

/// What the lock guards.
pub(crate) struct State<T> {
    buffer: Buffer<T>,
    closed: bool,
    pub(crate) senders: Waitlist,
    pub(crate) receivers: Waitlist,
}

impl<T> State<T> {
    /// Sends the value in `from`.
    ///
    /// # Safety
    /// `from` is full and the caller's. It is empty afterwards if this is done, otherwise as before.
    #[inline]
    pub(crate) unsafe fn send(&mut self, from: &Slot<T>) -> Attempt {
        if self.closed {
            return Attempt::Closed;
        }
        if let Some(receiver) = self.receivers.claim() {
            // SAFETY: our caller says that it is full.
            let value = unsafe { from.take() };
            // SAFETY: receivers of this channel wait with a slot of its type.
            let slot = unsafe { slot_of::<T>(&receiver) };
            // SAFETY: a waiting receiver's is empty, and the claim makes it ours.
            unsafe { slot.put(value) };
            return Attempt::Done(Some(receiver));
        }
        if self.buffer.is_full() {
            return Attempt::MustWait;
        }
        // SAFETY: our caller says that it is full.
        self.buffer.push(unsafe { from.take() });
        Attempt::Done(None)
    }

    /// Receives into `to`.
    ///
    /// # Safety
    /// `to` is empty and the caller's. It is full afterwards if this is done, otherwise as before.
    #[inline]
    pub(crate) unsafe fn recv(&mut self, to: &Slot<T>) -> Attempt {
        let buffered = self.buffer.pop();
        let refill = !(cfg!(bast_plant = "channel_no_refill") && buffered.is_some());
        let sender = refill.then(|| self.senders.claim()).flatten();
        let waiting = sender.as_ref().map(|sender| {
            // SAFETY: senders of this channel wait with a slot of its type.
            let slot = unsafe { slot_of::<T>(sender) };
            // SAFETY: a waiting sender's is full, and the claim makes it ours.
            unsafe { slot.take() }
        });
        let value = match (buffered, waiting) {
            (Some(value), Some(next)) => {
                self.buffer.push(next);
                value
            }
            (Some(value), None) | (None, Some(value)) => value,
            (None, None) if self.closed => return Attempt::Closed,
            (None, None) => return Attempt::MustWait,
        };
        // SAFETY: our caller says that it is empty.
        unsafe { to.put(value) };
        Attempt::Done(sender)
    }
}

impl<T> State<T> {
    /// Takes back a value that one had received who cannot use it. Who is claimed is to be finished.
    pub(crate) fn give_back(&mut self, value: T) -> Option<Claimed> {
        let Some(receiver) = self.receivers.claim() else {
            self.buffer.push_front(value);
            return None;
        };
        // SAFETY: receivers of this channel wait with a slot of its type.
        let slot = unsafe { slot_of::<T>(&receiver) };
        // SAFETY: a waiting receiver's is empty, and the claim makes it ours.
        unsafe { slot.put(value) };
        Some(receiver)
    }
}

/// What changes with every call.
struct Hot<T> {
    lock: RawLock,
    state: UnsafeCell<State<T>>,
}

/// See the module.
pub(crate) struct Chan<T> {
    hot: CachePadded<Hot<T>>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// Where `select!` draws its order from.
    turn: Turn,
    /// None: unbounded.
    capacity: Option<usize>,
}

// SAFETY: values go from thread to thread, one at a time; the state is touched under the lock only.
unsafe impl<T: Send> Send for Chan<T> {}
// SAFETY: as for Send. No two threads ever see the same value.
unsafe impl<T: Send> Sync for Chan<T> {}

/// The state, held.
pub(crate) struct Held<'a, T>(&'a Chan<T>);

impl<T> Deref for Held<'_, T> {
    type Target = State<T>;
    #[inline]
    fn deref(&self) -> &State<T> {
        // SAFETY: validity: ours. aliasing: we have the lock, and hand out borrows of `self` only.
        self.0.hot.state.with(|state| unsafe { &*state })
    }
}

impl<T> DerefMut for Held<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State<T> {
        // SAFETY: validity: ours. aliasing: we have the lock, and hand out borrows of `self` only.
        self.0.hot.state.with_mut(|state| unsafe { &mut *state })
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: we have it.
        unsafe { self.0.hot.lock.unlock() };
    }
}

/// Which list a call waits in.
type List<T> = fn(&mut State<T>) -> &mut Waitlist;

impl<T> Chan<T> {
    /// With one sender and one receiver.
    pub(crate) fn new(capacity: Option<usize>) -> Chan<T> {
        let buffer = match capacity {
            Some(capacity) => Buffer::Ring(Ring::new(capacity)),
            None => Buffer::Blocks(Blocks::new()),
        };
        Chan {
            hot: CachePadded::new(Hot {
                lock: RawLock::new(),
                state: UnsafeCell::new(State {
                    buffer,
                    closed: false,
                    senders: Waitlist::new(),
                    receivers: Waitlist::new(),
                }),
            }),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            turn: Turn::new(0),
            capacity,
        }
    }

    #[inline]
    pub(crate) fn hold(&self) -> Held<'_, T> {
        self.hot.lock.lock();
        Held(self)
    }

    #[inline]
    pub(crate) fn send(
        &self,
        value: T,
        limit: Limit,
        at: &'static Location<'static>,
    ) -> Result<(), (Stop, T)> {
        let slot = Slot::full(value);
        let mut caller = Caller::to_wait();
        let mut state = self.hold();
        // SAFETY: it is full, and ours.
        let stop = match unsafe { state.send(&slot) } {
            Attempt::Done(receiver) => {
                drop(state);
                wake(receiver, &mut caller);
                return Ok(());
            }
            Attempt::Closed => Stop::Closed,
            Attempt::MustWait if limit == Limit::Now => Stop::WouldWait,
            Attempt::MustWait if !caller.may_park() => {
                drop(state);
                // SAFETY: nobody has taken the value. It is dropped as the panic goes on.
                let _value = unsafe { slot.take() };
                caller.refuse(Reason::Send, at);
            }
            Attempt::MustWait => {
                let payload = slot.payload();
                match wait(
                    state,
                    &mut caller,
                    |state| &mut state.senders,
                    payload,
                    limit,
                    Reason::Send,
                    at,
                ) {
                    Ok(()) => return Ok(()),
                    Err(stop) => stop,
                }
            }
        };
        // SAFETY: nobody has taken the value, and nobody will.
        Err((stop, unsafe { slot.take() }))
    }

    #[inline]
    pub(crate) fn recv(&self, limit: Limit, at: &'static Location<'static>) -> Result<T, Stop> {
        let slot = Slot::empty();
        let mut caller = Caller::to_wait();
        let mut state = self.hold();
        // SAFETY: it is empty, and ours.
        match unsafe { state.recv(&slot) } {
            Attempt::Done(sender) => {
                drop(state);
                wake(sender, &mut caller);
            }
            Attempt::Closed => return Err(Stop::Closed),
            Attempt::MustWait if limit == Limit::Now => return Err(Stop::WouldWait),
            Attempt::MustWait if !caller.may_park() => {
                drop(state);
                caller.refuse(Reason::Recv, at);
            }
            Attempt::MustWait => {
                let payload = slot.payload();
                wait(
                    state,
                    &mut caller,
                    |state| &mut state.receivers,
                    payload,
                    limit,
                    Reason::Recv,
                    at,
                )?;
            }
        }
        // SAFETY: it was filled.
        Ok(unsafe { slot.take() })
    }

    /// Closes the channel and wakes all; false: it was closed already.
    pub(crate) fn close(&self) -> bool {
        let mut caller = Caller::to_wake();
        let mut state = self.hold();
        if state.closed {
            return false;
        }
        state.closed = true;
        let senders = state.senders.claim_all();
        let receivers = if cfg!(bast_plant = "channel_close_quietly") {
            Batch::new()
        } else {
            state.receivers.claim_all()
        };
        drop(state);
        senders.finish(CLOSED, &mut caller);
        receivers.finish(CLOSED, &mut caller);
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.hold().closed
    }

    pub(crate) fn len(&self) -> usize {
        self.hold().buffer.len()
    }

    pub(crate) fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    pub(crate) fn add_sender(&self) {
        // Relaxed: whoever clones an end has one. No overflow: every end has a reference to the channel, and `Arc`
        // aborts long before.
        self.senders.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_receiver(&self) {
        self.receivers.fetch_add(1, Relaxed); // as above
    }

    /// A sender goes.
    pub(crate) fn remove_sender(&self) {
        if leave(&self.senders) {
            self.close();
        }
    }

    /// A receiver goes.
    pub(crate) fn remove_receiver(&self) {
        if leave(&self.receivers) {
            self.close();
            let unread = std::mem::replace(&mut self.hold().buffer, Buffer::Ring(Ring::new(0)));
            drop(unread);
        }
    }

    // ---- for `select!`, which holds several channels at once ----

    pub(crate) fn lock_address(&self) -> usize {
        self.hot.lock.address()
    }

    pub(crate) fn lock(&self) {
        self.hot.lock.lock();
    }

    /// # Safety
    /// The caller has the lock.
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: as our caller says.
        unsafe { self.hot.lock.unlock() };
    }

    /// The state, to look at without giving the lock back.
    ///
    /// # Safety
    /// The caller has the lock, and looks at nothing else of this state meanwhile.
    pub(crate) unsafe fn held(&self) -> ManuallyDrop<Held<'_, T>> {
        ManuallyDrop::new(Held(self))
    }

    /// A random number.
    pub(crate) fn draw(&self) -> u32 {
        self.turn.draw()
    }
}

/// One end less of its kind; true: it was the last. AcqRel: what all of them did comes before the closing.
fn leave(ends: &AtomicUsize) -> bool {
    if cfg!(bast_plant = "channel_last_by_look") {
        let last = ends.load(Acquire) == 1;
        ends.fetch_sub(1, AcqRel);
        return last;
    }
    ends.fetch_sub(1, AcqRel) == 1
}

/// Wakes who was served, if anybody.
#[inline]
pub(crate) fn wake(served: Option<Claimed>, caller: &mut Caller) {
    if let Some(served) = served {
        let wake: Wake = served.finish(HANDED_OVER);
        wake.wake(caller);
    }
}

/// Waits in one list. Errors leave the slot as it was.
fn wait<T>(
    mut state: Held<'_, T>,
    caller: &mut Caller,
    list: List<T>,
    payload: *mut (),
    limit: Limit,
    reason: Reason,
    at: &'static Location<'static>,
) -> Result<(), Stop> {
    let chan = state.0;
    if cfg!(bast_plant = "channel_wait_blindly") {
        drop(state);
        state = chan.hold();
    }
    let choice = Choice::new();
    let node = Node::new(&choice, 0, caller, payload);
    // SAFETY: the node is new. Node and choice lie in this frame, which does not end before the choice is done, with the
    // node out of its list, or cancelled and the node removed (Rule 2 of the waitlist).
    unsafe { list(&mut state).push(&node) };
    drop(state);
    let deadline = limit.deadline().min(caller.own_deadline());
    match choice.wait(caller, deadline, reason, at) {
        Some(done) if done.outcome == HANDED_OVER => Ok(()),
        Some(_) => Err(Stop::Closed),
        None => {
            // SAFETY: it was pushed to this list.
            unsafe { list(&mut chan.hold()).remove(&node) };
            Err(Stop::TimedOut)
        }
    }
}
