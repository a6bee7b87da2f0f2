//! Permits, given out in order.

use super::base::{Caller, Lock, NEVER, Reason, after, constructor, leaf};
use super::error::TimedOut;
use super::waitlist::{Batch, Wait, Waitlist, wait_in};
use crate::primitive::atomic::{Acquire, AtomicUsize, Ordering, Relaxed, Release};
use crate::primitive::model_is_over;
use std::fmt;
use std::panic::Location;
use std::ptr::without_provenance_mut;
use std::sync::Arc;
use std::time::Duration;

/// In the word: somebody waits, so the word changes under the lock only. The permits are the bits above.
const WAITING: usize = 1;
/// One permit in the word.
const PERMIT: usize = 2;
/// Outcome of a wait: the permits are the waiter's.
const GRANTED: u8 = 1;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const RETURN: Ordering = if cfg!(bast_plant = "semaphore_return_relaxed") {
    Relaxed
} else {
    Release
};

/// A number of permits, of which each holder has some: a bound on how many do something at once.
///
/// Whoever asks for permits that are not there waits, and is served strictly in the order of coming: one who wants
/// many is not overtaken by those who want few. So nobody starves, and permits may lie idle while the first waits for more.
///
/// ```
/// use bast::sync::Semaphore;
/// static DOWNLOADS: Semaphore = Semaphore::new(3);
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let tasks: Vec<_> = (0..10)
///     .map(|_| bast::spawn(|| {
///         let _permit = DOWNLOADS.acquire(); // at most three tasks are past this line at once
///         bast::time::sleep(std::time::Duration::from_micros(50));
///     }))
///     .collect();
/// tasks.into_iter().for_each(|task| task.join().unwrap());
/// assert_eq!(DOWNLOADS.available_permits(), 3);
/// # }) }
/// ```
///
/// # Deadlines
/// `acquire` and `acquire_many` wait as long as it takes, whatever [`time::timeout`](crate::time::timeout) says; the
/// calls with a timeout heed it.
pub struct Semaphore {
    /// Memory ordering: taking is Acquire, giving back Release; a grant to a waiter passes through the end of its wait.
    word: AtomicUsize,
    waiters: Lock<Waitlist>,
}

fn list(waiters: &mut Waitlist) -> &mut Waitlist {
    waiters
}

impl Semaphore {
    /// No semaphore has more permits than this.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    constructor! {
        /// With so many permits.
        ///
        /// # Panics
        /// With more than [`Semaphore::MAX_PERMITS`].
        pub fn new(permits: usize) -> Semaphore {
            assert!(permits <= Semaphore::MAX_PERMITS, "bast: a semaphore has at most MAX_PERMITS permits");
            Semaphore {
                word: AtomicUsize::new(permits * PERMIT),
                waiters: leaf(Waitlist::new()),
            }
        }
    }

    /// Takes a permit, waiting until one is there.
    #[track_caller]
    pub fn acquire(&self) -> SemaphorePermit<'_> {
        self.take_by(1, NEVER, false, Location::caller());
        self.permit(1)
    }

    /// Takes so many permits at once, waiting until they are there. Asking for more than will ever be there waits for
    /// ever, and everybody behind.
    #[track_caller]
    pub fn acquire_many(&self, permits: usize) -> SemaphorePermit<'_> {
        self.take_by(permits, NEVER, false, Location::caller());
        self.permit(permits)
    }

    /// As [`Semaphore::acquire`], for at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`] if the time is over, or that of a [`time::timeout`](crate::time::timeout) around the call.
    #[track_caller]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SemaphorePermit<'_>, TimedOut> {
        self.acquire_many_timeout(1, timeout)
    }

    /// As [`Semaphore::acquire_many`], for at most `timeout`.
    ///
    /// # Errors
    /// As for [`Semaphore::acquire_timeout`].
    #[track_caller]
    pub fn acquire_many_timeout(
        &self,
        permits: usize,
        timeout: Duration,
    ) -> Result<SemaphorePermit<'_>, TimedOut> {
        if self.take_by(permits, after(timeout), true, Location::caller()) {
            Ok(self.permit(permits))
        } else {
            Err(TimedOut::new())
        }
    }

    /// Takes a permit if one is there for whoever comes now: nobody waits.
    pub fn try_acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.try_acquire_many(1)
    }

    /// As [`Semaphore::try_acquire`], for so many permits at once.
    pub fn try_acquire_many(&self, permits: usize) -> Option<SemaphorePermit<'_>> {
        self.try_take(permits).then(|| self.permit(permits))
    }

    /// As [`Semaphore::acquire`], for a permit that may outlive the borrow: for giving it to a task.
    #[track_caller]
    pub fn acquire_owned(self: &Arc<Self>) -> OwnedSemaphorePermit {
        self.acquire_many_owned(1)
    }

    /// As [`Semaphore::acquire_owned`], for so many permits at once.
    #[track_caller]
    pub fn acquire_many_owned(self: &Arc<Self>, permits: usize) -> OwnedSemaphorePermit {
        self.take_by(permits, NEVER, false, Location::caller());
        OwnedSemaphorePermit {
            semaphore: Arc::clone(self),
            permits,
        }
    }

    /// As [`Semaphore::try_acquire`], for a permit that may outlive the borrow.
    pub fn try_acquire_owned(self: &Arc<Self>) -> Option<OwnedSemaphorePermit> {
        self.try_take(1).then(|| OwnedSemaphorePermit {
            semaphore: Arc::clone(self),
            permits: 1,
        })
    }

    /// Permits that nobody holds at this moment.
    pub fn available_permits(&self) -> usize {
        self.word.load(Relaxed) / PERMIT
    }

    /// Adds permits, and serves those who wait for them.
    ///
    /// # Panics
    /// If there are more than [`Semaphore::MAX_PERMITS`] then.
    pub fn add_permits(&self, permits: usize) {
        let mut seen = self.word.load(Relaxed);
        while seen & WAITING == 0 {
            let next = more(seen, permits);
            match self.word.compare_exchange_weak(seen, next, RETURN, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
        self.add_and_serve(permits);
    }

    #[cold]
    fn add_and_serve(&self, permits: usize) {
        let mut caller = Caller::to_wake();
        let mut waiters = self.waiters.lock();
        let mut seen = self.word.load(Relaxed);
        loop {
            // Without `WAITING` others change the word too.
            match self
                .word
                .compare_exchange_weak(seen, more(seen, permits), RETURN, Relaxed)
            {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        let served = self.serve(&mut waiters);
        drop(waiters);
        served.finish(GRANTED, &mut caller);
    }

    /// Takes up to so many of the permits that nobody holds out of the world; gives how many there were.
    pub fn forget_permits(&self, permits: usize) -> usize {
        let _waiters = self.waiters.lock(); // with `WAITING` the word changes under the lock only
        let mut seen = self.word.load(Relaxed);
        loop {
            let gone = permits.min(seen / PERMIT);
            match self
                .word
                .compare_exchange_weak(seen, seen - gone * PERMIT, Acquire, Relaxed)
            {
                Ok(_) => return gone,
                Err(now) => seen = now,
            }
        }
    }

    fn permit(&self, permits: usize) -> SemaphorePermit<'_> {
        SemaphorePermit {
            semaphore: self,
            permits,
        }
    }

    /// Takes permits if they are there and nobody waits.
    #[inline]
    fn try_take(&self, permits: usize) -> bool {
        let mut seen = self.word.load(Relaxed);
        while seen & WAITING == 0 && seen / PERMIT >= permits {
            let next = seen - permits * PERMIT;
            match self.word.compare_exchange_weak(seen, next, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    #[inline]
    fn take_by(&self, permits: usize, deadline: u64, heed_own: bool, at: &'static Location<'static>) -> bool {
        self.try_take(permits) || self.take_slowly(permits, deadline, heed_own, at)
    }

    #[cold]
    fn take_slowly(
        &self,
        permits: usize,
        deadline: u64,
        heed_own: bool,
        at: &'static Location<'static>,
    ) -> bool {
        let mut caller = Caller::to_wait();
        let waiters = self.waiters.lock();
        loop {
            if self.try_take(permits) {
                return true;
            }
            let seen = self.word.load(Relaxed);
            let there = seen & WAITING == 0 && seen / PERMIT >= permits;
            if !there
                && self
                    .word
                    .compare_exchange(seen, seen | WAITING, Relaxed, Relaxed)
                    .is_ok()
            {
                break;
            }
        }
        let wait = Wait {
            payload: without_provenance_mut(permits),
            first: false,
            deadline: if heed_own {
                deadline.min(caller.own_deadline())
            } else {
                deadline
            },
            reason: Reason::Semaphore,
            at,
        };
        match wait_in(&mut caller, &self.waiters, waiters, list, &wait, |_| ()) {
            Ok(_) => true,
            Err(mut waiters) => {
                // Those behind may want less than there is.
                let served = if cfg!(bast_plant = "semaphore_leave_quietly") {
                    Batch::new()
                } else {
                    self.serve(&mut waiters)
                };
                drop(waiters);
                served.finish(GRANTED, &mut caller);
                false
            }
        }
    }

    /// Gives permits to the first waiters, as far as they go. Under the lock.
    fn serve(&self, waiters: &mut Waitlist) -> Batch {
        let mut served = Batch::new();
        loop {
            // Acquire: what was done under permits that were given back is passed on through the end of the wait.
            let there = self.word.load(Acquire) / PERMIT;
            let Some(first) = waiters.claim_if(|wanted| wanted.addr() <= there) else {
                break;
            };
            // Not less than before: with `WAITING` the word changes under the lock only.
            self.word.fetch_sub(first.payload().addr() * PERMIT, Relaxed);
            served.push(first);
        }
        if waiters.is_empty() {
            self.word.fetch_and(!WAITING, Relaxed);
        }
        served
    }
}

/// The word with so many permits more.
fn more(word: usize, permits: usize) -> usize {
    assert!(
        permits <= Semaphore::MAX_PERMITS - word / PERMIT,
        "bast: a semaphore has at most MAX_PERMITS permits"
    );
    word + permits * PERMIT
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Semaphore")
            .field("available_permits", &self.available_permits())
            .finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`], given back on drop.
#[derive(Debug)]
#[must_use = "the permits are given back when it is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

/// As [`SemaphorePermit`], holding the semaphore itself.
#[derive(Debug)]
#[must_use = "the permits are given back when it is dropped"]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    permits: usize,
}

macro_rules! permit {
    ($name:ty) => {
        impl $name {
            /// How many permits it is worth.
            pub fn num_permits(&self) -> usize {
                self.permits
            }

            /// Does not give them back: the semaphore has so many less from now on, until
            /// [`add_permits`](Semaphore::add_permits).
            pub fn forget(mut self) {
                self.permits = 0;
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                if model_is_over() {
                    return;
                }
                if self.permits > 0 {
                    self.semaphore.add_permits(self.permits);
                }
            }
        }
    };
}
permit!(SemaphorePermit<'_>);
permit!(OwnedSemaphorePermit);
