//! Waiting for a condition on what a mutex guards.

use super::base::{Caller, Lock, NEVER, Reason, after, constructor, leaf};
use super::mutex::MutexGuard;
use super::waitlist::{Wait, Waitlist, wait_in};
use crate::primitive::atomic::{AtomicBool, Relaxed};
use std::fmt;
use std::panic::Location;
use std::sync::LockResult;
use std::time::Duration;

/// Lets tasks and threads wait until others have changed what a [`Mutex`](super::Mutex) guards, as
/// [`std::sync::Condvar`].
///
/// Waiters are woken in the order in which they began to wait: one that comes later cannot take the wake-up of one that
/// came before it. A wait ends by a notification or, if it has one, by its time limit, never for no reason; still, what
/// was waited for may be gone again when the waiter has the mutex back, so look again, as [`wait_while`](Condvar::wait_while)
/// does.
///
/// # Deadlines
/// The waits without a timeout wait as long as it takes, whatever [`time::timeout`](crate::time::timeout) says; the
/// others heed it.
///
/// ```
/// use bast::sync::{Condvar, Mutex};
/// use std::sync::Arc;
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let pair = Arc::new((Mutex::new(false), Condvar::new()));
/// let other = Arc::clone(&pair);
/// bast::spawn(move || {
///     *other.0.lock().unwrap() = true;
///     other.1.notify_one();
/// });
/// let (lock, changed) = &*pair;
/// let ready = changed.wait_while(lock.lock().unwrap(), |ready| !*ready).unwrap();
/// assert!(*ready);
/// # }) }
/// ```
pub struct Condvar {
    /// True while there may be a waiter; written under the lock.
    ///
    /// Memory ordering: Relaxed. A waiter sets it while it holds the mutex. Who has changed the condition has held the
    /// mutex since, or the waiter would have seen the change; so it sees the flag.
    waiting: AtomicBool,
    waiters: Lock<Waitlist>,
}

/// Outcome of a wait: notified.
const NOTIFIED: u8 = 1;

fn list(waiters: &mut Waitlist) -> &mut Waitlist {
    waiters
}

impl Condvar {
    constructor! {
        /// Nobody waits.
        pub fn new() -> Condvar {
            Condvar {
                waiting: AtomicBool::new(false),
                waiters: leaf(Waitlist::new()),
            }
        }
    }

    /// Frees the mutex and waits for a notification, in one step; then takes the mutex again.
    ///
    /// # Errors
    /// The guard all the same, in an error, if the mutex is poisoned.
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(&guard, NEVER, false, Location::caller());
        guard.again()
    }

    /// Waits as long as `condition` holds.
    ///
    /// # Errors
    /// The guard all the same, in an error, if the mutex is poisoned.
    #[track_caller]
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`Condvar::wait`], for at most `timeout`; then it takes the mutex, however long that takes.
    ///
    /// # Errors
    /// The guard all the same, in an error, if the mutex is poisoned.
    #[track_caller]
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let notified = self.wait_until(&guard, after(timeout), true, Location::caller());
        with_result(guard.again(), !notified)
    }

    /// As [`Condvar::wait_while`], for at most `timeout` in all.
    ///
    /// # Errors
    /// The guard all the same, in an error, if the mutex is poisoned.
    #[track_caller]
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let deadline = after(timeout);
        while condition(&mut guard) {
            let notified = self.wait_until(&guard, deadline, true, Location::caller());
            match guard.again() {
                Ok(held) if notified => guard = held,
                Ok(mut held) => {
                    let over = condition(&mut held);
                    return with_result(Ok(held), over);
                }
                Err(poisoned) => return with_result(Err(poisoned), !notified),
            }
        }
        with_result(Ok(guard), false)
    }

    /// Wakes the one that has waited longest. If nobody waits, nothing happens.
    pub fn notify_one(&self) {
        if !self.waiting.load(Relaxed) {
            return;
        }
        let mut caller = Caller::to_wake();
        let mut waiters = self.waiters.lock();
        let first = waiters.claim();
        self.note_left(&waiters);
        drop(waiters);
        if let Some(first) = first {
            first.finish(NOTIFIED).wake(&mut caller);
        }
    }

    /// Wakes all that wait now.
    pub fn notify_all(&self) {
        if !self.waiting.load(Relaxed) {
            return;
        }
        let mut caller = Caller::to_wake();
        let mut waiters = self.waiters.lock();
        let all = waiters.claim_all();
        self.note_left(&waiters);
        drop(waiters);
        all.finish(NOTIFIED, &mut caller);
    }

    /// Under the lock.
    fn note_left(&self, waiters: &Waitlist) {
        let waiting = !waiters.is_empty() && !cfg!(bast_plant = "condvar_forget_the_rest");
        self.waiting.store(waiting, Relaxed);
    }

    /// The mutex is held before and after. True: notified.
    fn wait_until<T: ?Sized>(
        &self,
        guard: &MutexGuard<'_, T>,
        deadline: u64,
        heed_own: bool,
        at: &'static Location<'static>,
    ) -> bool {
        let mutex = guard.raw();
        let mut caller = Caller::to_wait();
        let wait = Wait {
            payload: std::ptr::null_mut(),
            first: false,
            deadline: if heed_own {
                deadline.min(caller.own_deadline())
            } else {
                deadline
            },
            reason: Reason::Condvar,
            at,
        };
        if cfg!(bast_plant = "condvar_unlock_first") {
            mutex.unlock_by(&mut caller);
        }
        let waiters = self.waiters.lock();
        self.waiting.store(true, Relaxed);
        let ended = wait_in(&mut caller, &self.waiters, waiters, list, &wait, |caller| {
            // Queued first, freed then: who changes the condition from now on finds us.
            if !cfg!(bast_plant = "condvar_unlock_first") {
                mutex.unlock_by(caller);
            }
        });
        let notified = match ended {
            Ok(_) => true,
            Err(waiters) => {
                self.note_left(&waiters);
                false
            }
        };
        drop(caller);
        mutex.lock(at);
        notified
    }
}

fn with_result<G>(guard: LockResult<G>, timed_out: bool) -> LockResult<(G, WaitTimeoutResult)> {
    let result = WaitTimeoutResult(timed_out);
    match guard {
        Ok(guard) => Ok((guard, result)),
        Err(poisoned) => Err(std::sync::PoisonError::new((poisoned.into_inner(), result))),
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Condvar").finish_non_exhaustive()
    }
}

/// How a wait with a time limit ended, as [`std::sync::WaitTimeoutResult`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True if the time was over before a notification came.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}
