//! The lock of runtime internals: blocks the worker, so it is held for a few instructions only, and never across a
//! switch, a user callback or a system call other than a futex wake.
//!
//! Lock order is data: a lock may be taken only while locks of a lower [`Rank`] are held. Debug builds check it.

#![expect(
    clippy::disallowed_types,
    reason = "the one place where the runtime's own locks come from"
)]

use crate::metrics::counters::Counter;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lower ranks are taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Rank {
    /// The list of workers of a runtime.
    Workers = 1,
    /// Idle processors, idle workers and the global queue.
    Scheduler = 2,
    /// One processor's timers.
    Timers = 3,
    /// Shared free lists of task headers.
    Slab = 4,
    /// Leaves: nothing is taken under them but what the trace needs.
    Leaf = 5,
    /// The tables and queues of the trace, whose events come from anywhere.
    Trace = 6,
}

/// A mutual exclusion lock with a rank.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    rank: Rank,
    inner: Mutex<T>,
    order: order::Order,
    /// Times it was taken, and had to be waited for. Under the lock.
    taken: Counter,
    waited: Counter,
}

impl<T> Lock<T> {
    pub(crate) const fn new(rank: Rank, value: T) -> Lock<T> {
        Lock {
            rank,
            inner: Mutex::new(value),
            order: order::Order::new(),
            taken: Counter::new(),
            waited: Counter::new(),
        }
    }

    /// Waits for the lock. Poison is not carried: the runtime never panics while it holds one, and aborts if it does.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        ranks::taken(self.rank);
        let inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(_) => self.wait(),
        };
        self.taken.add(1);
        self.order.acquire();
        Guard { lock: self, inner }
    }

    #[cold]
    fn wait(&self) -> MutexGuard<'_, T> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        self.waited.add(1);
        inner
    }

    /// How often it was taken so far, and how often somebody had to wait for it.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.taken.get(), self.waited.get())
    }
}

/// The held lock.
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
    inner: MutexGuard<'a, T>,
}

impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> std::ops::DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.order.release(); // while it is still held
        ranks::released(self.lock.rank);
    }
}

#[cfg(debug_assertions)]
mod ranks {
    use super::Rank;
    use crate::current;

    pub(super) fn taken(rank: Rank) {
        let held = current::held_ranks();
        assert!(
            held >> (rank as u32) == 0,
            "bast: lock order broken: {rank:?} taken while ranks {held:#b} are held"
        );
        current::set_held_ranks(held | 1 << rank as u32);
    }

    pub(super) fn released(rank: Rank) {
        current::set_held_ranks(current::held_ranks() & !(1 << rank as u32));
    }
}

#[cfg(not(debug_assertions))]
mod ranks {
    use super::Rank;
    #[inline(always)]
    pub(super) fn taken(_: Rank) {}
    #[inline(always)]
    pub(super) fn released(_: Rank) {}
}

/// What the lock orders, said to ThreadSanitizer once more: std is not instrumented, so its mutex is invisible to it.
#[cfg(bast_tsan)]
mod order {
    use crate::primitive::atomic::{Acquire, AtomicBool, Release};

    #[derive(Debug)]
    pub(super) struct Order(AtomicBool);

    impl Order {
        pub(super) const fn new() -> Order {
            Order(AtomicBool::new(false))
        }
        pub(super) fn acquire(&self) {
            self.0.load(Acquire);
        }
        pub(super) fn release(&self) {
            self.0.store(true, Release);
        }
    }
}

#[cfg(not(bast_tsan))]
mod order {
    #[derive(Debug)]
    pub(super) struct Order;

    impl Order {
        pub(super) const fn new() -> Order {
            Order
        }
        #[inline(always)]
        pub(super) fn acquire(&self) {}
        #[inline(always)]
        pub(super) fn release(&self) {}
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::{Lock, Rank};

    #[test]
    #[should_panic(expected = "lock order broken")]
    fn order_is_checked() {
        let low = Lock::new(Rank::Scheduler, ());
        let high = Lock::new(Rank::Slab, ());
        let _high = high.lock();
        let _low = low.lock();
    }
}
