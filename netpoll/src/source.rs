//! A registered descriptor and its two directions.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::readiness::{Arm, Disarm, Readiness};
use crate::table::{Chunk, Entry};
use crate::{Direction, Tokens};

/// A descriptor's registration with a [`Poller`](crate::Poller), and the place where its waiters are kept.
///
/// It does not own the descriptor. The owner drops the source, or calls [`deregister`](Self::deregister),
/// **before** it closes the descriptor: a number that is closed first may by then name another's file.
///
/// The crate's page shows the loop these methods are made for. A source outlives its poller without harm,
/// but then gets no events.
pub struct Source {
    chunk: Arc<Chunk>,
    offset: u32,
}

impl Source {
    pub(crate) fn new(chunk: Arc<Chunk>, offset: u32) -> Self {
        Self { chunk, offset }
    }

    fn entry(&self) -> &Entry {
        self.chunk.entry(self.offset)
    }

    /// The word of one direction, for the fast path around a system call.
    #[inline]
    pub fn readiness(&self, direction: Direction) -> &Readiness {
        self.entry().readiness(direction)
    }

    /// The caller wants to wait: publishes `token`, which is at most [`TOKEN_MAX`](crate::TOKEN_MAX).
    ///
    /// From [`Arm::Armed`] on the token may be handed out, once, to whoever calls a wait of the poller,
    /// [`close`](Self::close), [`set_deadline`](Self::set_deadline) or [`leave`](Self::leave), even before
    /// the caller parks; so its park must keep a permit. Then, and not earlier, read the
    /// [`deadline`](Self::deadline), park, and call [`wait_end`](Self::wait_end) whatever the reason for
    /// coming back. A token waits in a direction at most once at a time.
    #[inline]
    pub fn wait_start(&self, direction: Direction, token: usize) -> Arm {
        let entry = self.entry();
        entry.readiness(direction).arm(token, entry.queue(direction))
    }

    /// The waiter is back: takes its token out, if it is still there.
    ///
    /// After [`Disarm::Taken`] and [`Disarm::Closed`] the token has been handed out and its unpark may be
    /// yet to come, even when this waiter has long gone on.
    #[inline]
    pub fn wait_end(&self, direction: Direction, token: usize) -> Disarm {
        let entry = self.entry();
        entry.readiness(direction).disarm(token, entry.queue(direction))
    }

    /// The caller leaves its loop, with success or with an error. Gives the token to be woken next, when
    /// others wait in this direction and there may be more to be had.
    ///
    /// An event wakes one waiter, and each passes the chance on when it leaves. A caller who forgets this
    /// lets the others sleep. It costs one load when nobody else waits.
    #[inline]
    #[must_use = "the waiter sleeps until its token is unparked"]
    pub fn leave(&self, direction: Direction) -> Option<usize> {
        let entry = self.entry();
        entry.readiness(direction).hand_on(entry.queue(direction))
    }

    /// Closes both directions for good, from any thread. Every wait that has begun or will begin ends with
    /// [`Arm::Closed`] or [`Disarm::Closed`]. The descriptor stays open and registered.
    pub fn close(&self) -> Tokens {
        let mut tokens = Tokens::default();
        let entry = self.entry();
        for direction in Direction::BOTH {
            entry
                .readiness(direction)
                .close(entry.queue(direction), &mut tokens);
        }
        tokens
    }

    /// The moment at which waits in this direction end, in whatever nanoseconds the caller counts.
    /// Read it after [`wait_start`](Self::wait_start); then no change is missed.
    #[inline]
    pub fn deadline(&self, direction: Direction) -> Option<u64> {
        self.readiness(direction).deadline()
    }

    /// Sets or takes away the deadline of a direction. The waiters that reckoned with the old one are
    /// handed out: woken, they find [`Disarm::Taken`], and arm again with the new one.
    pub fn set_deadline(&self, direction: Direction, deadline: Option<u64>) -> Tokens {
        let mut tokens = Tokens::default();
        let entry = self.entry();
        entry
            .readiness(direction)
            .set_deadline(deadline, entry.queue(direction), &mut tokens);
        tokens
    }

    /// Takes the descriptor out of the poller. For its owner, before it closes it; a second call does
    /// nothing. It wakes nobody: [`close`](Self::close) does.
    ///
    /// # Errors
    ///
    /// When `fd` is not the descriptor that was registered, and when the system refuses.
    pub fn deregister(&self, fd: RawFd) -> io::Result<()> {
        match self.entry().fd() {
            Some(registered) if registered != fd => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("descriptor {fd} is not the one registered here, which is {registered}"),
            )),
            _ => self.remove(),
        }
    }

    /// The registration failed: there is nothing to take out of the poller.
    pub(crate) fn forget_fd(&self) {
        let _ = self.entry().take_fd();
    }

    fn remove(&self) -> io::Result<()> {
        match (self.entry().take_fd(), self.chunk.inner()) {
            (Some(fd), Some(inner)) => inner.deregister(fd),
            _ => Ok(()),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // An error means that the descriptor has left the selector already, by being closed too early.
        let _ = self.remove();
        if let Some(inner) = self.chunk.inner() {
            inner.table().give_back(&self.chunk, self.offset);
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(self.entry()).finish()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_source_is_two_words() {
        assert_eq!(size_of::<super::Source>(), 16);
    }
}
