//! Deadlines down the tree.

use super::Context;
use super::cancel::{Cancel, Cause};
use crate::time::clock;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Context {
    /// A child that ends by itself at `deadline`, if it does not earlier with this one.
    ///
    /// A deadline costs no timer, so nothing needs to be cancelled when the work is done in time. Where it shall be
    /// possible to cancel too: `context.with_cancel()` first, and the deadline on that.
    ///
    /// ```
    /// use bast::context::{Context, ContextError};
    /// use std::time::Duration;
    ///
    /// let context = Context::background().with_timeout(Duration::from_millis(1));
    /// std::thread::sleep(Duration::from_millis(2));
    /// assert_eq!(context.error(), Some(ContextError::DeadlineExceeded));
    /// ```
    #[must_use = "it is a new context"]
    pub fn with_deadline(&self, deadline: Instant) -> Context {
        self.until(clock::from_instant(deadline), None)
    }

    /// As [`Context::with_deadline`], so long from now.
    #[must_use = "it is a new context"]
    pub fn with_timeout(&self, timeout: Duration) -> Context {
        self.until(clock::after(timeout), None)
    }

    /// As [`Context::with_deadline`], with what [`Context::cause`] says when this deadline was what ended it.
    #[must_use = "it is a new context"]
    pub fn with_deadline_cause(
        &self,
        deadline: Instant,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Context {
        self.until(clock::from_instant(deadline), Some(Arc::from(cause.into())))
    }

    /// As [`Context::with_timeout`], with what [`Context::cause`] says when this deadline was what ended it.
    #[must_use = "it is a new context"]
    pub fn with_timeout_cause(
        &self,
        timeout: Duration,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Context {
        self.until(clock::after(timeout), Some(Arc::from(cause.into())))
    }

    fn until(&self, deadline: u64, late: Option<Cause>) -> Context {
        Context {
            cancel: Some(Cancel::new(self.cancel.clone(), deadline, late)),
            values: self.values.clone(),
        }
    }

    /// When it ends by itself, if nothing ends it earlier. None: never.
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = self.cancel.as_ref()?.deadline();
        (deadline != clock::NEVER).then(|| clock::to_instant(deadline))
    }
}
