//! A count of things under way, and waiting until it is zero.

use super::base::{Caller, Lock, NEVER, Reason, after, constructor, leaf};
use super::error::TimedOut;
use super::waitlist::{Wait, Waitlist, wait_in};
use crate::primitive::atomic::{AcqRel, Acquire, AtomicUsize, Ordering, Relaxed};
use crate::primitive::model_is_over;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// In the word: somebody waits. The count is the bits above.
const WAITING: usize = 1;
/// One thing under way, in the word.
const ONE: usize = 2;
/// The highest count.
const COUNT_MAX: usize = usize::MAX / ONE - 1;
/// Outcome of a wait: the count was zero.
const ZERO: u8 = 1;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const LOOK: Ordering = if cfg!(bast_plant = "wait_group_look_relaxed") {
    Relaxed
} else {
    Acquire
};

/// A count of things under way, and waiting until all are done: Go's `sync.WaitGroup`.
///
/// Either count by hand, with [`add`](WaitGroup::add) and [`done`](WaitGroup::done), or let values count, with
/// [`member`](WaitGroup::member): the group is done when they are all dropped.
///
/// A waiter goes on when the count becomes zero while it waits, even if it grows again at once; so, other than in Go, a
/// group may be used again while waiters of its last use are still on their way.
///
/// ```
/// use bast::sync::WaitGroup;
/// use std::sync::Arc;
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let group = Arc::new(WaitGroup::new());
/// for _ in 0..10 {
///     let member = group.member();
///     bast::spawn(move || {
///         // ... work ...
///         drop(member); // or let it fall out of scope, also by a panic
///     });
/// }
/// group.wait();
/// # }) }
/// ```
pub struct WaitGroup {
    /// Memory ordering: `done` is AcqRel, so the last one has seen what the others did before theirs, and passes it on
    /// through the end of the wait, or to who finds the count zero (Acquire).
    ///
    /// `WAITING` is set and cleared under the lock, and the count becomes zero while it is set only there: so who
    /// counts to zero wakes exactly those who waited then, and nobody who began to wait for what was added since.
    word: AtomicUsize,
    waiters: Lock<Waitlist>,
}

fn list(waiters: &mut Waitlist) -> &mut Waitlist {
    waiters
}

impl WaitGroup {
    constructor! {
        /// Nothing is under way.
        pub fn new() -> WaitGroup {
            WaitGroup {
                word: AtomicUsize::new(0),
                waiters: leaf(Waitlist::new()),
            }
        }
    }

    /// So many more things are under way. Call it before they begin: not in the task that does one of them, which may
    /// come too late for a waiter.
    ///
    /// # Panics
    /// If the count does not fit its word.
    pub fn add(&self, count: usize) {
        let mut seen = self.word.load(Relaxed);
        loop {
            assert!(
                count <= COUNT_MAX - seen / ONE,
                "bast: the count of a WaitGroup is too high"
            );
            // Relaxed: what is added is ordered by how it comes to whom does it.
            match self
                .word
                .compare_exchange_weak(seen, seen + count * ONE, Relaxed, Relaxed)
            {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// One thing is done. The last one wakes all who wait.
    ///
    /// # Panics
    /// If nothing is under way.
    pub fn done(&self) {
        let mut seen = self.word.load(Relaxed);
        while seen != ONE | WAITING || cfg!(bast_plant = "wait_group_zero_unlocked") {
            if seen < ONE {
                done_too_often();
            }
            match self.word.compare_exchange_weak(seen, seen - ONE, AcqRel, Relaxed) {
                Ok(_) if seen == ONE | WAITING => break,
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
        self.done_under_lock();
    }

    /// The count may become zero, and somebody waits.
    #[cold]
    fn done_under_lock(&self) {
        let mut caller = Caller::to_wake();
        let mut waiters = self.waiters.lock();
        if !cfg!(bast_plant = "wait_group_zero_unlocked") {
            let before = self
                .word
                .fetch_update(AcqRel, Relaxed, |word| word.checked_sub(ONE));
            match before {
                Ok(before) if before / ONE > 1 => return, // more was added meanwhile
                Ok(_) => {}
                Err(_) => {
                    drop(waiters);
                    done_too_often()
                }
            }
        }
        let all = waiters.claim_all();
        self.word.fetch_and(!WAITING, Relaxed);
        drop(waiters);
        all.finish(ZERO, &mut caller);
    }

    /// How many things are under way at this moment.
    pub fn count(&self) -> usize {
        self.word.load(LOOK) / ONE
    }

    /// Waits until nothing is under way, as long as that takes, whatever [`time::timeout`](crate::time::timeout) says.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until(NEVER, false, Location::caller());
    }

    /// As [`WaitGroup::wait`], for at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`] if the time is over, or that of a [`time::timeout`](crate::time::timeout) around the call.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), TimedOut> {
        if self.wait_until(after(timeout), true, Location::caller()) {
            Ok(())
        } else {
            Err(TimedOut::new())
        }
    }

    /// One more thing is under way, until the value is dropped. It may be cloned, which counts too.
    pub fn member(self: &Arc<Self>) -> WaitGroupMember {
        self.add(1);
        WaitGroupMember(Arc::clone(self))
    }

    fn wait_until(&self, deadline: u64, heed_own: bool, at: &'static Location<'static>) -> bool {
        if self.count() == 0 {
            return true;
        }
        let mut caller = Caller::to_wait();
        let waiters = self.waiters.lock();
        let mut seen = self.word.load(LOOK);
        loop {
            if seen < ONE {
                return true;
            }
            match self
                .word
                .compare_exchange_weak(seen, seen | WAITING, Relaxed, LOOK)
            {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        let wait = Wait {
            payload: std::ptr::null_mut(),
            first: false,
            deadline: if heed_own {
                deadline.min(caller.own_deadline())
            } else {
                deadline
            },
            reason: Reason::WaitGroup,
            at,
        };
        match wait_in(&mut caller, &self.waiters, waiters, list, &wait, |_| ()) {
            Ok(_) => true,
            Err(waiters) => {
                if waiters.is_empty() {
                    self.word.fetch_and(!WAITING, Relaxed);
                }
                false
            }
        }
    }
}

#[cold]
fn done_too_often() -> ! {
    panic!("bast: WaitGroup::done was called more often than was added")
}

impl Default for WaitGroup {
    fn default() -> Self {
        WaitGroup::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("WaitGroup")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

/// A thing under way, done when it is dropped. See [`WaitGroup::member`].
#[derive(Debug)]
#[must_use = "it counts until it is dropped"]
pub struct WaitGroupMember(Arc<WaitGroup>);

impl Clone for WaitGroupMember {
    fn clone(&self) -> Self {
        self.0.member()
    }
}

impl Drop for WaitGroupMember {
    fn drop(&mut self) {
        if model_is_over() {
            return;
        }
        self.0.done();
    }
}
