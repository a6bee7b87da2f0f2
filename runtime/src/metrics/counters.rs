//! Counters: written by the processor's holder with plain loads and stores, read by anybody.

use super::Overrun;
use crate::primitive::atomic::{AtomicU64, Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One processor's counters. Only its holder adds.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }

        /// What a runtime has done so far, summed over its processors. See [`crate::Runtime::metrics`].
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Processors taken from tasks that blocked, or computed for longer than a slice, without saying so.
            pub detaches: u64,
            /// Workers woken, or started, because there was work for them.
            pub wakes: u64,
            /// Times the scheduler's lock was taken: idle lists, global queue.
            pub scheduler_locks: u64,
            /// Times somebody had to wait for it.
            pub scheduler_lock_waits: u64,
            /// Chains of free task headers that processors took from the runtime's pool.
            pub slab_refills: u64,
            /// Chains that went back to it.
            pub slab_spills: u64,
            /// Times a task was found to keep its processor from others: past its slice, or blocked in the kernel. Either
            /// the processor was taken (`detaches`), or the task was in a call into bast and had to yield after it.
            pub overruns: u64,
            /// Times a worker was to be held with a computing task, by a signal: see
            /// [`Builder::strict_parallelism`](crate::Builder::strict_parallelism).
            pub holds: u64,
            /// Workers that are held at this moment.
            pub held: usize,
            /// The last overrun.
            pub last_overrun: Option<Overrun>,
            /// Looks of the monitor, each of which is one wake-up of its thread: what it costs to watch the workers.
            pub monitor_looks: u64,
            /// Processors of the runtime.
            pub processors: usize,
            /// Processors nobody holds at this moment.
            pub processors_idle: usize,
            /// Worker threads, running and sleeping.
            pub workers: usize,
            /// Tasks in the global queue at this moment.
            pub global_queue: usize,
        }

        impl Metrics {
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)*
            }
        }
    };
}

counters! {
    /// Tasks spawned.
    spawned,
    /// Tasks that ran to their end.
    finished,
    /// Times a task began or went on running.
    switches,
    /// Times a task gave up the processor and stayed runnable.
    yields,
    /// Times a task parked.
    parks,
    /// Times a parked task was made runnable.
    unparks,
    /// Successful steals; each moves up to half a queue.
    steals,
    /// Rounds of looking at the queues of all others.
    searches,
    /// Queues of others that were looked at.
    steal_attempts,
    /// Full local queues of which half went to the global queue.
    overflows,
    /// Times a worker gave its processor up because there was nothing to do.
    sleeps,
    /// Calls to the poller.
    polls,
    /// Processors handed off at a blocking section.
    handoffs,
    /// Readiness events turned into wake-ups.
    polled,
    /// Timers that came due.
    timers_fired,
    /// First runs for which the stack of the task before could be used as it was.
    stacks_reused,
}

impl Metrics {
    /// Tasks spawned and not finished: running, runnable or parked.
    pub fn tasks_alive(&self) -> u64 {
        self.spawned.saturating_sub(self.finished)
    }
}

/// A number only one thread at a time adds to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// Not a read-modify-write: the holder of the processor is the only writer.
    #[inline(always)]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
