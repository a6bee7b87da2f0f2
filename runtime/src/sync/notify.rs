//! A bell: wakes who waits, or the next who comes.

use super::base::{Caller, Lock, NEVER, Reason, after, constructor, leaf};
use super::error::TimedOut;
use super::waitlist::{Wait, Waitlist, wait_in};
use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// Tells tasks and threads that something has happened, without saying what: tokio's `Notify`, for waits that park.
///
/// [`notify_one`](Notify::notify_one) wakes the one that has waited longest; if nobody waits, the next wait returns at
/// once. Such a permit is kept, but only one: two notifications that nobody waits for count as one. So who looks at
/// shared state, finds nothing to do and waits, misses nothing.
///
/// [`notify_waiters`](Notify::notify_waiters) wakes all that wait at that moment and leaves nothing behind. Who must not
/// miss it calls [`notified`](Notify::notified) before it looks.
///
/// ```
/// use bast::sync::{Mutex, Notify};
/// use std::collections::VecDeque;
/// use std::sync::Arc;
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let inbox = Arc::new((Mutex::new(VecDeque::new()), Notify::new()));
/// let sender = Arc::clone(&inbox);
/// bast::spawn(move || {
///     sender.0.lock().unwrap().push_back("hello");
///     sender.1.notify_one();
/// });
/// let message = loop {
///     if let Some(message) = inbox.0.lock().unwrap().pop_front() {
///         break message;
///     }
///     inbox.1.wait();
/// };
/// assert_eq!(message, "hello");
/// # }) }
/// ```
pub struct Notify {
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    /// A notification that nobody waited for. Never with a waiter in the list that still waits.
    permit: bool,
    /// How often all were woken.
    rounds: u64,
    waiters: Waitlist,
}

fn list(state: &mut State) -> &mut Waitlist {
    &mut state.waiters
}

impl Notify {
    constructor! {
        /// Nothing has happened.
        pub fn new() -> Notify {
            Notify {
                state: leaf(State {
                    permit: false,
                    rounds: 0,
                    waiters: Waitlist::new(),
                }),
            }
        }
    }

    /// Wakes the one that has waited longest, or lets the next wait return at once.
    pub fn notify_one(&self) {
        let mut caller = Caller::to_wake();
        let mut state = self.state.lock();
        match state.waiters.claim() {
            Some(first) => {
                drop(state);
                first.finish(0).wake(&mut caller);
            }
            None => state.permit = !cfg!(bast_plant = "notify_keep_nothing"),
        }
    }

    /// Wakes all that wait, and those that hold a [`Notified`] of before.
    pub fn notify_waiters(&self) {
        let mut caller = Caller::to_wake();
        let mut state = self.state.lock();
        state.rounds += 1;
        let all = state.waiters.claim_all();
        drop(state);
        all.finish(0, &mut caller);
    }

    /// Waits for a notification, as long as that takes, whatever [`time::timeout`](crate::time::timeout) says.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until(None, NEVER, false, Location::caller());
    }

    /// As [`Notify::wait`], for at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`] if the time is over, or that of a [`time::timeout`](crate::time::timeout) around the call. No
    /// notification is lost by it: one that comes at the last moment ends the wait well.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), TimedOut> {
        self.notified().wait_timeout(timeout)
    }

    /// Begins to listen: a wait through what this gives also ends by a [`notify_waiters`](Notify::notify_waiters) that
    /// came since.
    pub fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            rounds: self.state.lock().rounds,
        }
    }

    /// `since`: the number of rounds the caller knows of.
    fn wait_until(
        &self,
        since: Option<u64>,
        deadline: u64,
        heed_own: bool,
        at: &'static Location<'static>,
    ) -> bool {
        let mut caller = Caller::to_wait();
        let mut state = self.state.lock();
        if since.is_some_and(|rounds| rounds != state.rounds) || std::mem::take(&mut state.permit) {
            return true;
        }
        let wait = Wait {
            payload: std::ptr::null_mut(),
            first: false,
            deadline: if heed_own {
                deadline.min(caller.own_deadline())
            } else {
                deadline
            },
            reason: Reason::Notify,
            at,
        };
        wait_in(&mut caller, &self.state, state, list, &wait, |_| ()).is_ok()
    }
}

impl Default for Notify {
    fn default() -> Self {
        Notify::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Notify").finish_non_exhaustive()
    }
}

/// A listener that has begun and not yet waited. See [`Notify::notified`].
#[derive(Debug)]
#[must_use = "it waits only when it is told to"]
pub struct Notified<'a> {
    notify: &'a Notify,
    rounds: u64,
}

impl Notified<'_> {
    /// As [`Notify::wait`].
    #[track_caller]
    pub fn wait(self) {
        self.notify
            .wait_until(Some(self.rounds), NEVER, false, Location::caller());
    }

    /// As [`Notify::wait_timeout`].
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn wait_timeout(self, timeout: Duration) -> Result<(), TimedOut> {
        if self
            .notify
            .wait_until(Some(self.rounds), after(timeout), true, Location::caller())
        {
            Ok(())
        } else {
            Err(TimedOut::new())
        }
    }
}
