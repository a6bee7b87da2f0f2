//! Waiting, on an OS thread, for a condition that others make true and announce.

#![expect(
    clippy::disallowed_types,
    reason = "blocks the calling thread, which is what it is for"
)]

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Something may have changed.
#[derive(Debug)]
pub(crate) struct Event {
    lock: Mutex<()>,
    changed: Condvar,
}

impl Event {
    pub(crate) const fn new() -> Event {
        Event {
            lock: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    /// Announces a change that was made before the call.
    pub(crate) fn notify(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// As [`Event::notify`], without a lock: one who is just about to wait may miss it.
    pub(crate) fn nudge(&self) {
        self.changed.notify_all();
    }

    /// Waits until `done`, for `timeout` at most; gives what `done` said last.
    pub(crate) fn wait(&self, timeout: Duration, done: impl Fn() -> bool) -> bool {
        let held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(held, timeout, |()| !done());
        drop(waited);
        done()
    }
}
