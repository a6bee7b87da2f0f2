//! Why a context is over.

use std::error::Error;
use std::fmt;
use std::io;

/// Why a [`Context`](super::Context) is over, and with it what runs under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextError {
    /// Somebody cancelled it, or a context above it.
    Cancelled,
    /// Its deadline has passed, or that of a context above it.
    DeadlineExceeded,
}

impl ContextError {
    /// As the word that waits look at; never `LIVE`.
    pub(super) fn word(self) -> u8 {
        match self {
            ContextError::Cancelled => 1,
            ContextError::DeadlineExceeded => 2,
        }
    }

    /// The inverse of `word`; None for `LIVE`.
    pub(crate) fn of_word(word: u8) -> Option<ContextError> {
        match word {
            1 => Some(ContextError::Cancelled),
            2 => Some(ContextError::DeadlineExceeded),
            _ => None,
        }
    }

    /// True for [`ContextError::Cancelled`].
    pub fn is_cancelled(self) -> bool {
        self == ContextError::Cancelled
    }

    /// True for [`ContextError::DeadlineExceeded`].
    pub fn is_timeout(self) -> bool {
        self == ContextError::DeadlineExceeded
    }

    /// The context error that a call of [`net`](crate::net) failed with, if it failed with one.
    ///
    /// A deadline gives [`TimedOut`](io::ErrorKind::TimedOut), whoever has set it, and is not told from others here.
    pub fn of_io(error: &io::Error) -> Option<ContextError> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for ContextError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            ContextError::Cancelled => "the context was cancelled",
            ContextError::DeadlineExceeded => "the deadline of the context has passed",
        })
    }
}

impl Error for ContextError {}

impl From<ContextError> for io::Error {
    /// [`TimedOut`](io::ErrorKind::TimedOut) for a deadline. For a cancellation [`Other`](io::ErrorKind::Other) with
    /// the error inside: `Interrupted` would be taken for a reason to try again.
    fn from(error: ContextError) -> io::Error {
        let kind = match error {
            ContextError::Cancelled => io::ErrorKind::Other,
            ContextError::DeadlineExceeded => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, error)
    }
}
