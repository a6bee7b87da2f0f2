//! One case of a `select!`: a channel's end, the value that goes out or the place for the one that comes in, and the node
//! by which it waits.

use super::base::{Caller, NEVER};
use super::channel::{Receiver, RecvError, SendError, Sender, Source};
use super::channel_core::{Attempt, Chan, HANDED_OVER, Slot};
use super::waitlist::{Choice, Claimed, Node, Waitlist};
use crate::primitive::model_is_over;
use std::cell::{Cell, UnsafeCell};
use std::fmt;

/// What a select needs of its cases, whatever type their channels are of.
///
/// All calls come from the thread or task that selects. What others may touch meanwhile, the node and the slot, are
/// cells; so all of it goes by shared borrows.
///
/// # Safety
/// Of an implementation: `lock_address` is the same, at every call, for all cases that share a lock, and for no others.
pub(crate) unsafe trait Case {
    /// Where the channel's lock is; 0: there is none to take.
    fn lock_address(&self) -> usize;

    /// Takes the lock.
    fn lock(&self);

    /// # Safety
    /// The caller has the lock.
    unsafe fn unlock(&self);

    /// Does what the case is for, if it can be done now. True: it was, or its channel is closed, and the case has won;
    /// `served` is then who is to be woken.
    ///
    /// # Safety
    /// The caller has the lock. The node is in no list.
    unsafe fn attempt(&self, served: &mut Option<Claimed>) -> bool;

    /// Waits in the channel's list.
    ///
    /// # Safety
    /// The caller has the lock, and keeps Rule 2 of the waitlist. The node is in no list.
    unsafe fn enqueue(&self, choice: &Choice, number: u32, caller: &Caller);

    /// Takes the node out, if it is in.
    ///
    /// # Safety
    /// The caller has the lock.
    unsafe fn dequeue(&self);

    /// As [`Case::attempt`], under the case's own lock.
    ///
    /// # Safety
    /// The node is in no list.
    #[inline]
    unsafe fn attempt_alone(&self, served: &mut Option<Claimed>) -> bool {
        self.lock();
        // SAFETY: locked just now; the node is in no list, says our caller.
        let won = unsafe { self.attempt(served) };
        // SAFETY: locked above.
        unsafe { self.unlock() };
        won
    }

    /// As [`Case::dequeue`], under the case's own lock.
    #[inline]
    fn dequeue_alone(&self) {
        self.lock();
        // SAFETY: locked just now.
        unsafe { self.dequeue() };
        // SAFETY: locked above.
        unsafe { self.unlock() };
    }

    /// When there will be something without anybody's doing.
    fn due(&self) -> u64;

    /// The case has won, with this outcome from its waker.
    ///
    /// # Safety
    /// The outcome is that of [`Choice::wait`] for this case's node.
    unsafe fn settle(&self, outcome: u8);

    /// The case is to end as its plain call would: with its error, for lack of time.
    fn give_up(&self);

    /// As new, but for the value, which is dropped if there is one. In no list.
    fn reopen(&self);

    /// A random number, if its channel has one.
    fn draw(&self) -> Option<u32>;

    /// The address of the end that the case is about.
    fn end(&self) -> *const ();
}

/// How a case stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It has not won.
    Open,
    /// It has won, and the value has changed hands.
    Done,
    /// It has won because its channel is closed; the value is where it was.
    Failed,
}

/// The slot, with its owner's knowledge of it: so that a value that was not sent, or not looked at, is dropped.
struct Hand<T> {
    slot: Slot<T>,
    full: Cell<bool>,
}

impl<T> Hand<T> {
    fn take(&self) -> Option<T> {
        // SAFETY: it is full, and ours: no node of the case is in a list.
        self.full.replace(false).then(|| unsafe { self.slot.take() })
    }
}

impl<T> Drop for Hand<T> {
    fn drop(&mut self) {
        if model_is_over() {
            return;
        }
        drop(self.take());
    }
}

/// The node, in its place. It is written only while it is in no list.
struct Place(UnsafeCell<Option<Node>>);

impl Place {
    fn new() -> Place {
        Place(UnsafeCell::new(None))
    }

    /// # Safety
    /// As for [`Waitlist::push`], of the node; `list` is locked.
    unsafe fn push(&self, list: &mut Waitlist, node: Node) {
        // SAFETY: validity: ours. aliasing: the node that lay here is in no list, so nobody else sees the place.
        unsafe { *self.0.get() = Some(node) };
        // SAFETY: validity: as above. aliasing: from here on shared borrows only, until the node is out of the list.
        if let Some(node) = unsafe { &*self.0.get() } {
            // SAFETY: as our caller says.
            unsafe { list.push(node) };
        }
    }

    /// # Safety
    /// As for [`Waitlist::remove`], of the node; `list` is locked.
    unsafe fn remove(&self, list: &mut Waitlist) {
        // SAFETY: validity: ours. aliasing: shared borrows only while it may be in a list.
        if let Some(node) = unsafe { &*self.0.get() } {
            // SAFETY: as our caller says.
            unsafe { list.remove(node) };
        }
    }
}

/// A case `recv(receiver)`.
pub struct RecvCase<'a, T> {
    end: &'a Receiver<T>,
    hand: Hand<T>,
    place: Place,
    stand: Cell<Stand>,
}

/// A case `send(sender, value)`.
pub struct SendCase<'a, T> {
    end: &'a Sender<T>,
    hand: Hand<T>,
    place: Place,
    stand: Cell<Stand>,
}

impl<'a, T> RecvCase<'a, T> {
    /// Not yet tried.
    pub fn new(end: &'a Receiver<T>) -> Self {
        RecvCase {
            end,
            hand: Hand {
                slot: Slot::empty(),
                full: Cell::new(false),
            },
            place: Place::new(),
            stand: Cell::new(Stand::Open),
        }
    }

    /// For a select.
    pub fn erased(&self) -> AnyCase<'_> {
        AnyCase(self)
    }

    /// If it has won: what came. It is open again.
    pub fn result(&self) -> Option<Result<T, RecvError>> {
        match self.stand.replace(Stand::Open) {
            Stand::Open => None,
            Stand::Done | Stand::Failed => Some(self.hand.take().ok_or(RecvError)),
        }
    }

    fn chan(&self) -> Option<&Chan<T>> {
        match &self.end.source {
            Source::Chan(chan) => Some(chan),
            Source::Done(done) => Some(&done.chan),
            _ => None,
        }
    }
}

impl<'a, T> SendCase<'a, T> {
    /// Not yet tried.
    pub fn new(end: &'a Sender<T>, value: T) -> Self {
        SendCase {
            end,
            hand: Hand {
                slot: Slot::full(value),
                full: Cell::new(true),
            },
            place: Place::new(),
            stand: Cell::new(Stand::Open),
        }
    }

    /// For a select.
    pub fn erased(&self) -> AnyCase<'_> {
        AnyCase(self)
    }

    /// If it has won: whether the value was sent. The value is gone then in any case.
    pub fn result(&self) -> Option<Result<(), SendError<T>>> {
        match self.stand.replace(Stand::Open) {
            Stand::Open => None,
            Stand::Done | Stand::Failed => {
                Some(self.hand.take().map_or(Ok(()), |value| Err(SendError(value))))
            }
        }
    }

    /// The value, if it was not sent.
    pub(crate) fn value(&self) -> Option<T> {
        self.hand.take()
    }
}

// SAFETY: the address of the channel's own lock.
unsafe impl<T> Case for RecvCase<'_, T> {
    fn lock_address(&self) -> usize {
        self.chan().map_or(0, Chan::lock_address)
    }

    fn lock(&self) {
        if let Some(chan) = self.chan() {
            chan.lock();
        }
    }

    unsafe fn unlock(&self) {
        if let Some(chan) = self.chan() {
            // SAFETY: as our caller says.
            unsafe { chan.unlock() };
        }
    }

    unsafe fn attempt(&self, served: &mut Option<Claimed>) -> bool {
        let attempt = match &self.end.source {
            Source::Chan(chan) => {
                // SAFETY: under the lock, says our caller.
                let mut state = unsafe { chan.held() };
                // SAFETY: the slot is empty, and ours: no node is in a list.
                unsafe { state.recv(&self.hand.slot) }
            }
            #[cfg(not(bast_loom))]
            Source::Timed(timed) => match timed.take() {
                Some(moment) => {
                    // SAFETY: it is empty, and ours.
                    unsafe { self.hand.slot.put(moment) };
                    Attempt::Done(None)
                }
                None => Attempt::MustWait,
            },
            // Its channel is closed a little later, and not at all at a deadline that nobody has seen pass.
            Source::Done(done) if done.cancel.has_ended() => Attempt::Closed,
            Source::Done(done) => {
                // SAFETY: under the lock, says our caller.
                let mut state = unsafe { done.chan.held() };
                // SAFETY: the slot is empty, and ours: no node is in a list.
                unsafe { state.recv(&self.hand.slot) }
            }
            Source::Never => Attempt::MustWait,
        };
        match attempt {
            Attempt::Done(sender) => {
                *served = sender;
                self.hand.full.set(true);
                self.stand.set(Stand::Done);
            }
            Attempt::Closed => self.stand.set(Stand::Failed),
            Attempt::MustWait => return false,
        }
        true
    }

    unsafe fn enqueue(&self, choice: &Choice, number: u32, caller: &Caller) {
        if let Some(chan) = self.chan() {
            let node = Node::new(choice, number, caller, self.hand.slot.payload());
            // SAFETY: under the lock, says our caller.
            let mut state = unsafe { chan.held() };
            // SAFETY: Rule 2 is kept, says our caller.
            unsafe { self.place.push(&mut state.receivers, node) };
        }
    }

    unsafe fn dequeue(&self) {
        if let Some(chan) = self.chan() {
            // SAFETY: under the lock, says our caller.
            let mut state = unsafe { chan.held() };
            // SAFETY: it was pushed to this list, if to any.
            unsafe { self.place.remove(&mut state.receivers) };
        }
    }

    fn due(&self) -> u64 {
        match &self.end.source {
            #[cfg(not(bast_loom))]
            Source::Timed(timed) => timed.due(),
            Source::Done(done) => done.cancel.deadline(),
            _ => NEVER,
        }
    }

    unsafe fn settle(&self, outcome: u8) {
        let full = outcome == HANDED_OVER;
        self.hand.full.set(full);
        self.stand.set(if full { Stand::Done } else { Stand::Failed });
    }

    fn give_up(&self) {
        self.stand.set(Stand::Failed);
    }

    fn reopen(&self) {
        self.stand.set(Stand::Open);
        drop(self.hand.take());
    }

    fn draw(&self) -> Option<u32> {
        match &self.end.source {
            Source::Chan(chan) => Some(chan.draw()),
            Source::Done(done) => Some(done.chan.draw()),
            #[cfg(not(bast_loom))]
            Source::Timed(timed) => Some(timed.draw()),
            Source::Never => None,
        }
    }

    fn end(&self) -> *const () {
        std::ptr::from_ref(self.end).cast()
    }
}

// SAFETY: the address of the channel's own lock.
unsafe impl<T> Case for SendCase<'_, T> {
    fn lock_address(&self) -> usize {
        self.end.chan.lock_address()
    }

    fn lock(&self) {
        self.end.chan.lock();
    }

    unsafe fn unlock(&self) {
        // SAFETY: as our caller says.
        unsafe { self.end.chan.unlock() };
    }

    unsafe fn attempt(&self, served: &mut Option<Claimed>) -> bool {
        // SAFETY: under the lock, says our caller.
        let mut state = unsafe { self.end.chan.held() };
        // SAFETY: the slot is full, and ours: no node is in a list.
        match unsafe { state.send(&self.hand.slot) } {
            Attempt::Done(receiver) => {
                *served = receiver;
                self.hand.full.set(false);
                self.stand.set(Stand::Done);
            }
            Attempt::Closed => self.stand.set(Stand::Failed),
            Attempt::MustWait => return false,
        }
        true
    }

    unsafe fn enqueue(&self, choice: &Choice, number: u32, caller: &Caller) {
        let node = Node::new(choice, number, caller, self.hand.slot.payload());
        // SAFETY: under the lock, says our caller.
        let mut state = unsafe { self.end.chan.held() };
        // SAFETY: Rule 2 is kept, says our caller.
        unsafe { self.place.push(&mut state.senders, node) };
    }

    unsafe fn dequeue(&self) {
        // SAFETY: under the lock, says our caller.
        let mut state = unsafe { self.end.chan.held() };
        // SAFETY: it was pushed to this list, if to any.
        unsafe { self.place.remove(&mut state.senders) };
    }

    fn due(&self) -> u64 {
        NEVER
    }

    unsafe fn settle(&self, outcome: u8) {
        let sent = outcome == HANDED_OVER;
        self.hand.full.set(!sent);
        self.stand.set(if sent { Stand::Done } else { Stand::Failed });
    }

    fn give_up(&self) {
        self.stand.set(Stand::Failed);
    }

    fn reopen(&self) {
        self.stand.set(Stand::Open);
        drop(self.hand.take());
    }

    fn draw(&self) -> Option<u32> {
        Some(self.end.chan.draw())
    }

    fn end(&self) -> *const () {
        std::ptr::from_ref(self.end).cast()
    }
}

/// A case, whatever it is about.
#[derive(Clone, Copy)]
pub struct AnyCase<'a>(pub(super) &'a dyn Case);

impl<T> fmt::Debug for RecvCase<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RecvCase { .. }")
    }
}

impl<T> fmt::Debug for SendCase<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SendCase { .. }")
    }
}

impl fmt::Debug for AnyCase<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("AnyCase { .. }")
    }
}
