//! Channels: values from any number of senders to any number of receivers, each value to one of them.
//!
//! | made by | a send waits | a receive gives |
//! |---|---|---|
//! | [`bounded`]`(n)` | while `n` values lie in it | the oldest value |
//! | [`rendezvous`]`()`, `bounded(0)` | for a receiver | the first waiting sender's value |
//! | [`unbounded`]`()` | never | the oldest value |
//! | [`after`]`(d)`, [`at`]`(instant)` | | the moment, once, when it has come |
//! | [`tick`]`(d)` | | a moment every `d` |
//! | [`never()`] | | nothing, ever |
//!
//! Both ends can be cloned and shared, and used by tasks and plain threads at once: a task that waits parks, a thread
//! sleeps. Whoever waits first is served first. [`select!`](crate::select) waits on several.
//!
//! A channel is closed when its last sender or its last receiver is gone, or by `close` on either end. Then nothing more
//! can be sent and all who wait to send get their values back; receivers get what still lies in the channel, and after
//! it an error. What lies in it when the last receiver goes is dropped.
//!
//! Within [`time::timeout`](crate::time::timeout) no call waits longer than that allows: `recv` and `send` then fail as if
//! the channel were closed (with the value handed back), the `_timeout` and `_deadline` forms with `Timeout`, and what
//! `timeout` itself returns tells the two apart. A call that need not wait succeeds also when the time is over. A
//! [context](crate::context) that is over does the same, and [`context::check`](crate::context::check) tells it.
//!
//! ```
//! use bast::sync::channel;
//! # // SAFETY: nothing bound to a thread is used.
//! # unsafe { bast::run(|| {
//! let (sender, receiver) = channel::bounded(2);
//! let squares = bast::spawn(move || receiver.iter().map(|n: u64| n * n).sum::<u64>());
//! for n in 1..=3 {
//!     sender.send(n).unwrap();
//! }
//! drop(sender);
//! assert_eq!(squares.join().unwrap(), 14);
//! # }) }
//! ```

pub use super::channel_error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
pub use super::channel_iter::{IntoIter, Iter, TryIter};
pub use super::recv_async::RecvAsync;
#[cfg(not(bast_loom))]
pub use super::timed::{after, at, tick};

use super::base;
use super::channel_core::{Chan, Limit, Stop};
#[cfg(not(bast_loom))]
use super::timed::Timed;
use crate::context::cancel::Cancel;
use crate::primitive::Arc;
use crate::primitive::model_is_over;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// The sending end of a channel.
pub struct Sender<T> {
    pub(super) chan: Arc<Chan<T>>,
}

/// The receiving end of a channel.
pub struct Receiver<T> {
    pub(super) source: Source<T>,
}

/// Where a receiver's values come from.
pub(super) enum Source<T> {
    Chan(Arc<Chan<T>>),
    #[cfg(not(bast_loom))]
    Timed(Arc<Timed<T>>),
    /// Closed at the end of a context; nothing is ever sent.
    Done(Arc<Done<T>>),
    Never,
}

/// The identity of `T` and `()`, which the type of [`Receiver`] cannot say, is that only [`done`] makes one.
pub(super) struct Done<T> {
    pub(super) chan: Arc<Chan<T>>,
    pub(super) cancel: std::sync::Arc<Cancel>,
}

/// A channel for `capacity` values, whose places are allocated now. With none it is a [`rendezvous`].
///
/// # Panics
/// If so many places are more than the address space, and it aborts if they are more than the memory.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    ends(Some(capacity))
}

/// A channel without a buffer: a value goes from the sender's hand to the receiver's.
pub fn rendezvous<T>() -> (Sender<T>, Receiver<T>) {
    ends(Some(0))
}

/// A channel for any number of values; memory is the limit.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    ends(None)
}

/// A receiver that nothing ever comes to: for a case of a `select!` that is switched off.
pub fn never<T>() -> Receiver<T> {
    Receiver {
        source: Source::Never,
    }
}

/// Closed at the end of a context.
pub(crate) fn done(cancel: &std::sync::Arc<Cancel>) -> Receiver<()> {
    let done = Done {
        chan: cancel.bell(),
        cancel: cancel.clone(),
    };
    Receiver {
        source: Source::Done(Arc::new(done)),
    }
}

fn ends<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let chan = Arc::new(Chan::new(capacity));
    let sender = Sender { chan: chan.clone() };
    let source = Source::Chan(chan);
    (sender, Receiver { source })
}

/// What waiting until `deadline` means.
#[cfg(not(bast_loom))]
pub(super) fn until(deadline: Instant) -> Limit {
    Limit::Until(crate::time::clock::from_instant(deadline))
}

#[cfg(bast_loom)]
pub(super) fn until(_: Instant) -> Limit {
    Limit::Until(base::after(Duration::ZERO))
}

/// What waiting for `timeout` means.
pub(super) fn within(timeout: Duration) -> Limit {
    Limit::Until(base::after(timeout))
}

impl<T> Sender<T> {
    /// Sends `value`; waits for room, or, without a buffer, for a receiver.
    ///
    /// # Errors
    /// [`SendError`], with the value, if the channel is closed before it has taken the value.
    #[inline]
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let sent = self.chan.send(value, Limit::Forever, Location::caller());
        sent.map_err(|(_, value)| SendError(value))
    }

    /// Sends `value` if that can be done at once.
    ///
    /// # Errors
    /// [`TrySendError`], with the value.
    #[inline]
    #[track_caller]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let sent = self.chan.send(value, Limit::Now, Location::caller());
        sent.map_err(TrySendError::of)
    }

    /// As [`Sender::send`], for at most `timeout`.
    ///
    /// # Errors
    /// [`SendTimeoutError`], with the value.
    #[inline]
    #[track_caller]
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        let sent = self.chan.send(value, within(timeout), Location::caller());
        sent.map_err(SendTimeoutError::of)
    }

    /// As [`Sender::send`], until `deadline` at most.
    ///
    /// # Errors
    /// [`SendTimeoutError`], with the value.
    #[inline]
    #[track_caller]
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        let sent = self.chan.send(value, until(deadline), Location::caller());
        sent.map_err(SendTimeoutError::of)
    }

    /// Closes the channel, as the last sender does when it goes. False: it was closed already.
    pub fn close(&self) -> bool {
        self.chan.close()
    }

    /// True if the channel is closed. What it says may be over when it is read.
    pub fn is_closed(&self) -> bool {
        self.chan.is_closed()
    }

    /// How many values lie in the channel. What it says may be over when it is read.
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// True if no value lies in the channel; always without a buffer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if there is no room; always without a buffer.
    pub fn is_full(&self) -> bool {
        self.chan
            .capacity()
            .is_some_and(|capacity| self.len() >= capacity)
    }

    /// How many values can lie in the channel. None: any number.
    pub fn capacity(&self) -> Option<usize> {
        self.chan.capacity()
    }

    /// True if both are ends of one channel.
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        std::ptr::eq(&*self.chan, &*other.chan)
    }
}

impl<T> Receiver<T> {
    /// Receives a value; waits for one.
    ///
    /// # Errors
    /// [`RecvError`] if the channel is closed and empty.
    #[inline]
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_at(Location::caller())
    }

    #[inline]
    pub(super) fn recv_at(&self, at: &'static Location<'static>) -> Result<T, RecvError> {
        self.take(Limit::Forever, at).map_err(|_| RecvError)
    }

    /// Receives a value if there is one.
    ///
    /// # Errors
    /// [`TryRecvError`] says why there is none.
    #[inline]
    #[track_caller]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.take(Limit::Now, Location::caller())
            .map_err(TryRecvError::of)
    }

    /// As [`Receiver::recv`], for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError`] says why there is none.
    #[inline]
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.take(within(timeout), Location::caller())
            .map_err(RecvTimeoutError::of)
    }

    /// As [`Receiver::recv`], until `deadline` at most.
    ///
    /// # Errors
    /// [`RecvTimeoutError`] says why there is none.
    #[inline]
    #[track_caller]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.take(until(deadline), Location::caller())
            .map_err(RecvTimeoutError::of)
    }

    /// As [`Receiver::recv`], for `async` code: on any executor, of this runtime ([`block_on`](crate::block_on)) or another.
    ///
    /// The future waits in the same queue as tasks and threads do. Dropping it loses nothing: a value that it had been
    /// handed by then goes to the next receiver, or back into the channel before all others (on top of its capacity).
    /// A deadline of [`time::timeout`](crate::time::timeout) does not end it; that is for the executor's own timers.
    ///
    /// Timers wake tasks, not futures: a moment of [`after`], [`at`] or [`tick`], and the deadline of a context, is waited
    /// for by a task of its own or, outside of tasks, by a thread. Prefer the executor's timers there.
    ///
    /// ```
    /// use bast::sync::channel;
    /// # // SAFETY: nothing bound to a thread is used.
    /// # unsafe { bast::run(|| {
    /// let (sender, receiver) = channel::bounded(1);
    /// bast::spawn(move || sender.send("from a task"));
    /// let received = bast::block_on(async { receiver.recv_async().await });
    /// assert_eq!(received, Ok("from a task"));
    /// # }) }
    /// ```
    pub fn recv_async(&self) -> RecvAsync<'_, T> {
        RecvAsync::new(self)
    }

    #[inline]
    fn take(&self, limit: Limit, at: &'static Location<'static>) -> Result<T, Stop> {
        match &self.source {
            Source::Chan(chan) => chan.recv(limit, at),
            #[cfg(not(bast_loom))]
            Source::Timed(timed) => timed.recv(limit, at),
            Source::Done(done) => done_recv(done, limit, at),
            Source::Never => never_recv(limit, at),
        }
    }

    /// Values as they come, until the channel is closed and empty.
    #[track_caller]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self, Location::caller())
    }

    /// Values that are there, until there is none.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(self)
    }

    /// Closes the channel: nothing more can be sent, and what lies in it can be received. False: it was closed already,
    /// or cannot be closed (`after`, `tick`, `never`).
    pub fn close(&self) -> bool {
        self.chan().is_some_and(Chan::close)
    }

    /// True if the channel is closed; values may still lie in it. What it says may be over when it is read.
    pub fn is_closed(&self) -> bool {
        match &self.source {
            Source::Chan(chan) => chan.is_closed(),
            Source::Done(done) => done.cancel.is_over(),
            _ => false,
        }
    }

    /// How many values lie in the channel. What it says may be over when it is read.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Chan(chan) => chan.len(),
            #[cfg(not(bast_loom))]
            Source::Timed(timed) => usize::from(timed.is_due()),
            Source::Done(..) | Source::Never => 0,
        }
    }

    /// True if no value lies in the channel; always without a buffer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if there is no room; always without a buffer.
    pub fn is_full(&self) -> bool {
        self.capacity().is_some_and(|capacity| self.len() >= capacity)
    }

    /// How many values can lie in the channel. None: any number.
    pub fn capacity(&self) -> Option<usize> {
        match &self.source {
            Source::Chan(chan) => chan.capacity(),
            #[cfg(not(bast_loom))]
            Source::Timed(_) => Some(1),
            Source::Done(..) | Source::Never => Some(0),
        }
    }

    /// True if both are ends of one channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        match (&self.source, &other.source) {
            (Source::Chan(this), Source::Chan(that)) => std::ptr::eq(&**this, &**that),
            #[cfg(not(bast_loom))]
            (Source::Timed(this), Source::Timed(that)) => std::ptr::eq(&**this, &**that),
            (Source::Done(this), Source::Done(that)) => std::ptr::eq(&*this.chan, &*that.chan),
            (Source::Never, Source::Never) => true,
            _ => false,
        }
    }

    fn chan(&self) -> Option<&Chan<T>> {
        match &self.source {
            Source::Chan(chan) => Some(chan),
            _ => None,
        }
    }
}

/// Nothing comes until the end of the context, of which nobody tells if it is a deadline.
fn done_recv<T>(done: &Done<T>, limit: Limit, at: &'static Location<'static>) -> Result<T, Stop> {
    let Done { chan, cancel } = done;
    if cancel.is_over() {
        return Err(Stop::Closed);
    }
    let until = match (limit, cancel.deadline()) {
        (Limit::Now, _) | (_, base::NEVER) => limit,
        (_, deadline) => Limit::Until(limit.deadline().min(deadline)),
    };
    let ended = chan.recv(until, at);
    match ended {
        Err(Stop::TimedOut) if cancel.is_over() => Err(Stop::Closed),
        ended => ended,
    }
}

/// Nothing comes: only time passes.
#[cold]
fn never_recv<T>(limit: Limit, at: &'static Location<'static>) -> Result<T, Stop> {
    if limit == Limit::Now {
        return Err(Stop::WouldWait);
    }
    let mut caller = base::Caller::to_wait();
    let deadline = limit.deadline().min(caller.own_deadline());
    while !caller.is_over(deadline) {
        if !caller.may_park() {
            caller.refuse(base::Reason::Recv, at);
        }
        caller.park_until(deadline, base::Reason::Recv, at);
    }
    Err(Stop::TimedOut)
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.chan.add_sender();
        Sender {
            chan: self.chan.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if model_is_over() {
            return;
        }
        self.chan.remove_sender();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let source = match &self.source {
            Source::Chan(chan) => {
                chan.add_receiver();
                Source::Chan(chan.clone())
            }
            #[cfg(not(bast_loom))]
            Source::Timed(timed) => Source::Timed(timed.clone()),
            // Its ends are not counted: it is closed by the context alone.
            Source::Done(done) => Source::Done(done.clone()),
            Source::Never => Source::Never,
        };
        Receiver { source }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if model_is_over() {
            return;
        }
        if let Some(chan) = self.chan() {
            chan.remove_receiver();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Sender { .. }")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Receiver { .. }")
    }
}

// No code of the user's runs while a channel is being changed, so a panic cannot leave one half changed.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}
