//! Who overruns: what is known of a task that kept its processor from others.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// A task that has kept its processor while others waited for it: see [`Metrics::overruns`](crate::Metrics::overruns).
///
/// What it was doing cannot be seen from outside. The places where it was spawned and where it waited last say which
/// task it is and where it had been; `BAST_DEBUG=overrun=1` adds the backtrace of where it calls into bast next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overrun {
    /// The task's number ([`TaskId::as_u64`](crate::task::TaskId::as_u64)).
    pub task: u64,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
    /// Why and where it waited last, if it ever did.
    pub last_wait: Option<(&'static str, &'static Location<'static>)>,
    /// It was blocked in the kernel; else it computed past its slice.
    pub blocked: bool,
    /// How long it had been seen at it, at least.
    pub after: Duration,
}

impl fmt::Display for Overrun {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "task {} (spawned at {}", self.task, self.spawned_at)?;
        if let Some((reason, at)) = self.last_wait {
            write!(out, ", last waited in {reason} at {at}")?;
        }
        let does = if self.blocked {
            "is blocked"
        } else {
            "has computed past its slice"
        };
        write!(out, ") {does}, for {:?} at least", self.after)
    }
}
