//! The error of waits with a time limit that have nothing to hand back.

use std::fmt;

/// The time of a wait was over before what it waited for came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut(());

impl TimedOut {
    pub(super) fn new() -> TimedOut {
        TimedOut(())
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("timed out while waiting")
    }
}

impl std::error::Error for TimedOut {}

impl From<TimedOut> for std::io::Error {
    fn from(error: TimedOut) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, error)
    }
}
