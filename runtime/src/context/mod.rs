//! Contexts: telling a piece of work, and all that it has started, that its result is not wanted any more.
//!
//! A [`Context`] carries a cancellation, a deadline and values down a tree. Whoever makes a child by
//! [`with_cancel`](Context::with_cancel) can end it; a child ends with its parent at the latest. It is Go's context, with
//! one difference: it need not be handed to every function. Code runs **in** a context ([`Context::enter`]), and all calls
//! of bast in it heed that.
//!
//! ```
//! use bast::context::Context;
//! use bast::net::{TcpListener, TcpStream};
//! use std::io::Read;
//! use std::time::Duration;
//!
//! # // SAFETY: nothing bound to a thread is used.
//! # unsafe { bast::run(|| {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut stream = TcpStream::connect(listener.local_addr()?)?;
//! let request = Context::background().with_timeout(Duration::from_millis(5));
//! let error = request.enter(|| stream.read(&mut [0])).unwrap_err();
//! assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
//! # Ok::<(), std::io::Error>(()) }) }?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What calls do when the context is over
//! They behave as within a [`time::timeout`](crate::time::timeout()) whose time is over: whoever waits is woken.
//!
//! | call | when cancelled | when the deadline has passed |
//! |---|---|---|
//! | reads, writes, accept, connect | an error that [`ContextError::of_io`] knows | the same, of kind `TimedOut` |
//! | `recv`, `send` | as if the channel were closed | as if the channel were closed |
//! | the forms with a timeout or deadline, of channels and locks | as if their time were over | the same |
//! | `select!` | as within `timeout`: the `default` with a time, or a case that fails | the same |
//! | `join` | [`JoinError::is_cancelled`](crate::JoinError::is_cancelled) | [`is_timeout`](crate::JoinError::is_timeout) |
//! | `sleep`, `Interval::tick`, `task::park` | return early | return early |
//! | `Mutex::lock`, `Condvar::wait` and others that cannot say that they failed | wait on | wait on |
//!
//! A call that need not wait succeeds, but for those of `net`, which fail at once, as they do at a deadline. Nothing is
//! lost: a value, a lock or a permit that is granted in the same moment is delivered. [`check`] tells a failed call's
//! reason, and [`Context::done`] puts the end of a context into a `select!` beside other things.
//!
//! # Choices
//! * **Not inherited.** A spawned task begins in no context: work that outlives a request (a pool, a cache being filled)
//!   must not end with whichever request happened to start it. [`Builder::context`](crate::task::Builder::context) hands a
//!   context on.
//! * **Bounds nest.** An inner context does not undo what an outer one says, whether or not it is its child; [`shield`]
//!   does.
//! * **Dropping is not cancelling.** A [`Canceller`] that goes leaves the context alone;
//!   [`cancel_on_drop`](Canceller::cancel_on_drop) makes a guard of it.
//!
//! The protocol is in `cancel`; what a task looks at is in `task::bound`.

#[cfg(not(bast_loom))]
mod after;
#[cfg(bast_loom)]
#[doc(hidden)]
pub mod cancel;
#[cfg(not(bast_loom))]
pub(crate) mod cancel;
#[cfg(not(bast_loom))]
mod deadline;
mod enter;
mod error;
mod value;

#[cfg(not(bast_loom))]
pub use after::AfterFunc;
pub use cancel::Cause;
#[cfg(not(bast_loom))]
pub(crate) use enter::own_end;
pub use enter::{check, current, shield};
pub use error::ContextError;
pub use value::Key;

use crate::sync::base::NEVER;
use crate::sync::channel::{self, Receiver};
use cancel::{Cancel, Why};
use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use value::Link;

/// A cancellation, a deadline and values, for a piece of work. See the [module](self).
///
/// Cloning it is cheap, and all clones are the same context.
#[derive(Clone, Default)]
pub struct Context {
    /// None: never over.
    cancel: Option<Arc<Cancel>>,
    values: Option<Arc<Link>>,
}

impl Context {
    /// The root: never over, no deadline, no values.
    pub const fn background() -> Context {
        Context {
            cancel: None,
            values: None,
        }
    }

    /// A child that the [`Canceller`] can end.
    #[must_use = "the child is what work runs in"]
    pub fn with_cancel(&self) -> (Context, Canceller) {
        let cancel = Cancel::new(self.cancel.clone(), NEVER, None);
        let context = Context {
            cancel: Some(Arc::clone(&cancel)),
            values: self.values.clone(),
        };
        (context, Canceller { cancel })
    }

    /// The values alone: never over, no deadline. For work that is to go on when what has started it is cancelled.
    #[must_use = "it is a new context"]
    pub fn without_cancel(&self) -> Context {
        Context {
            cancel: None,
            values: self.values.clone(),
        }
    }

    /// True if it is over, for whatever reason.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.is_over())
    }

    /// Why it is over; None as long as it goes on.
    pub fn error(&self) -> Option<ContextError> {
        self.why().map(|why| why.error)
    }

    /// Why it is over, in the words of whoever has cancelled it or set the deadline; if they gave none, as
    /// [`Context::error`]. The first end counts, and its cause is that of all contexts below.
    pub fn cause(&self) -> Option<Cause> {
        let why = self.why()?;
        Some(why.cause.unwrap_or_else(|| Arc::new(why.error)))
    }

    /// For `?`, in loops that compute and make no call that waits.
    ///
    /// # Errors
    /// Why it is over.
    pub fn check(&self) -> Result<(), ContextError> {
        self.error().map_or(Ok(()), Err)
    }

    /// Nobody is below it or waits in it; for models.
    #[cfg(bast_loom)]
    #[doc(hidden)]
    pub fn is_deserted(&self) -> bool {
        self.cancel.as_ref().is_none_or(|cancel| cancel.is_deserted())
    }

    fn why(&self) -> Option<Why> {
        self.cancel.as_ref()?.why()
    }

    /// A receiver that is closed when the context is over, for `select!`. Nothing is ever sent.
    ///
    /// ```
    /// use bast::context::Context;
    /// use bast::sync::channel;
    /// # // SAFETY: nothing bound to a thread is used.
    /// # unsafe { bast::run(|| {
    /// let (context, canceller) = Context::background().with_cancel();
    /// let (_sender, orders) = channel::bounded::<u32>(4);
    /// let waiter = bast::spawn(move || {
    ///     bast::select! {
    ///         recv(orders) -> order => order.is_ok(),
    ///         recv(context.done()) -> _ => false,
    ///     }
    /// });
    /// canceller.cancel();
    /// assert!(!waiter.join().unwrap());
    /// # }) }
    /// ```
    pub fn done(&self) -> Receiver<()> {
        match &self.cancel {
            Some(cancel) => channel::done(cancel),
            None => channel::never(),
        }
    }

    /// Waits until it is over, and says why. What bounds the calling code itself ends the wait too.
    ///
    /// # Errors
    /// [`ContextError`] of the contexts that the caller is in, if they end first.
    #[track_caller]
    pub fn wait(&self) -> Result<ContextError, ContextError> {
        let ended = self.done().recv();
        debug_assert!(ended.is_err(), "nothing is ever sent to a context");
        match self.error() {
            Some(error) => Ok(error),
            None => Err(check().err().unwrap_or(ContextError::DeadlineExceeded)),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Context")
            .field("error", &self.error())
            .field("keys", &self.keys().collect::<Vec<_>>())
            .finish()
    }
}

// No code of the user's runs while a tree is being changed, so a panic cannot leave one half changed; values and causes
// are shared borrows.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}

/// Ends a context, and with it all that are made from it. See [`Context::with_cancel`].
///
/// Dropping it leaves the context alone.
#[derive(Clone)]
pub struct Canceller {
    cancel: Arc<Cancel>,
}

impl Canceller {
    /// Ends the context. When it returns, all contexts below are over and all waits in them have been woken. False: it
    /// was over already, and remains so for the reason it had.
    ///
    /// From any task or thread. It never waits, so it may be called under a lock.
    pub fn cancel(&self) -> bool {
        self.end(None)
    }

    /// As [`Canceller::cancel`], with what [`Context::cause`] shall say.
    pub fn cancel_with(&self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> bool {
        self.end(Some(Arc::from(cause.into())))
    }

    fn end(&self, cause: Option<Cause>) -> bool {
        self.cancel.cancel(Why {
            error: ContextError::Cancelled,
            cause,
        })
    }

    /// True if the context is over, for whatever reason.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_over()
    }

    /// A guard that cancels when it is dropped: at the end of a block, also by `?` or a panic.
    pub fn cancel_on_drop(self) -> CancelOnDrop {
        CancelOnDrop(self)
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Canceller")
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}

impl UnwindSafe for Canceller {}
impl RefUnwindSafe for Canceller {}

/// Cancels a context when it is dropped. See [`Canceller::cancel_on_drop`].
#[derive(Debug)]
#[must_use = "the context is cancelled when it is dropped"]
pub struct CancelOnDrop(Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
