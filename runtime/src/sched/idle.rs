//! How many workers search, how many processors idle, and who must wake whom.
//!
//! # Goal
//! Work that becomes runnable while a processor idles is picked up promptly, without a wake-up for every task: a
//! spawner that makes a thousand tasks must not make a thousand futex calls.
//!
//! # Rejected ways
//! *Wake a worker for each new task*: thrash, every spawn is a system call. *One central queue that knows where
//! everything is*: the lock on it is the scheduler's limit. *Wake nobody and let workers poll*: burns idle CPUs.
//!
//! # Chosen way (Go's, `proc.go`, "Worker thread parking/unparking")
//! A worker that holds a processor and has found nothing is **searching**. Whoever publishes work wakes one worker
//! only if some processor idles and nobody searches. In exchange, the **last** searcher to find work looks whether there is
//! more of it, and wakes a successor then; and a searcher that gives up looks at every queue once more after it has stopped
//! counting itself.
//!
//! Go wakes the successor whether there is more or not. For a task that comes alone to a program that waits that is a second
//! thread woken each time, before the task runs: 14 of the 17 us from its wake-up to its first instruction.
//!
//! # Why nothing is lost
//! Publisher: (P1) push the task; (P2) SeqCst fence; (P3) read `searching` and `idle`.
//! Searcher that gives up: (S1) put the processor among the idle; (S2) `searching -= 1`; (S3) SeqCst fence;
//! (S4) look at all queues.
//! One of the fences comes first in the single order of SeqCst fences. If P2 precedes S3, S4 sees the task.
//! If S3 precedes P2, P3 sees `searching` without this worker and `idle` with its processor, so the publisher
//! wakes somebody (or sees another searcher, to which the argument applies again; the last one ends it).
//! Searcher that found work, and was the last: (F1) `searching -= 1`; (F2) SeqCst fence; (F3) read `idle`, and unless that is
//! zero look at all queues. If F2 precedes P2, P3 sees that nobody searches. If P2 precedes F2, F3 sees the task, and wakes
//! somebody for it if a processor idles. It may miss one that comes to idle now: then its S3 is behind F2, so behind P2,
//! and its S4 sees the task.
//! A worker that puts its processor among the idle **without** having searched, because too many did or because it is
//! about to block, takes S1, S3 and S4 just the same: the last searcher may have found work, and no idle processor
//! for the rest of it, a moment before.
//! Two more take them: a worker that goes to sleep **without** a processor, having found none idle for its task, and a
//! waker that has a processor in hand and can start no thread for it. While it is in the waker's hands nobody finds it
//! among the idle; so the waker looks for sleepers once more under the lock of S1, and a worker that lies down later
//! finds the processor in its own S4. A worker that lies down with its task (see `sleep_bound`) is on no list of
//! sleepers, but makes room for one more thread: S3 and S4 again.
//! The loom model `idle` fails when any of the fences is taken out.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::atomic::{AcqRel, AtomicUsize, Relaxed, SeqCst, fence};

/// The two counts. The lists of who idles live beside it under the scheduler's lock.
#[derive(Debug)]
pub struct Idle {
    /// Workers that hold a processor and look for work.
    searching: AtomicUsize,
    /// Processors that nobody holds. Changed only under the scheduler's lock, read by anybody.
    processors: AtomicUsize,
}

impl Idle {
    /// Nobody searches; `processors` idle.
    pub fn new(processors: usize) -> Idle {
        Idle {
            searching: AtomicUsize::new(0),
            processors: AtomicUsize::new(processors),
        }
    }

    /// P2 and P3: by whoever has just published work. True: the caller has become responsible for waking a worker
    /// *as a searcher* (already counted); if it cannot, it must call [`Idle::cancel_wake`].
    #[must_use]
    pub fn claim_wake(&self) -> bool {
        #[cfg(not(bast_plant = "idle_no_publish_fence"))]
        fence(SeqCst); // P2; pairs with S3 in `end_search_empty`
        self.processors.load(Relaxed) > 0
            && self.searching.load(Relaxed) == 0
            && self.searching.compare_exchange(0, 1, AcqRel, Relaxed).is_ok()
    }

    /// The wake-up claimed before did not come about: no processor or no worker was left.
    pub fn cancel_wake(&self) {
        self.searching.fetch_sub(1, AcqRel);
    }

    /// A worker with a processor and no work asks to search: at most half of the busy processors do.
    #[must_use]
    pub fn try_begin_search(&self, processors_total: usize) -> bool {
        let idle = self.processors.load(Relaxed);
        let searching = self.searching.load(Relaxed);
        if 2 * searching >= processors_total.saturating_sub(idle) {
            return false;
        }
        self.searching.fetch_add(1, AcqRel);
        true
    }

    /// As [`Idle::try_begin_search`], without the limit: for a worker that reclaims a processor after S4.
    pub fn begin_search(&self) {
        self.searching.fetch_add(1, AcqRel);
    }

    /// F1 and F2: a searcher found work. True: it was the last one, a processor idles, and it must look whether there is more
    /// (F3), and wake a successor for that.
    #[must_use]
    pub fn end_search_found(&self) -> bool {
        let before = self.searching.fetch_sub(1, AcqRel);
        debug_assert!(before > 0, "a worker stopped searching twice");
        if before != 1 || cfg!(bast_plant = "idle_no_successor") {
            return false;
        }
        #[cfg(not(bast_plant = "idle_no_found_fence"))]
        fence(SeqCst); // F2; pairs with P2 in `claim_wake`, and with S3
        self.processors.load(Relaxed) > 0
    }

    /// S2 and S3: a searcher gives up, having put its processor among the idle. It must now look once more (S4).
    pub fn end_search_empty(&self) {
        let before = self.searching.fetch_sub(1, AcqRel);
        debug_assert!(before > 0, "a worker stopped searching twice");
        #[cfg(not(bast_plant = "idle_no_sleep_fence"))]
        fence(SeqCst); // S3; pairs with P2 in `claim_wake`
    }

    /// S3 alone, after S1, by a worker that was not searching. It must look once more as well (S4).
    pub fn end_unsearched(&self) {
        #[cfg(not(bast_plant = "idle_no_unsearched_fence"))]
        fence(SeqCst); // S3; pairs with P2 in `claim_wake`
    }

    /// S1, under the scheduler's lock.
    pub fn processor_released(&self) {
        self.processors.fetch_add(1, AcqRel);
    }

    /// Under the scheduler's lock.
    pub fn processor_acquired(&self) {
        let before = self.processors.fetch_sub(1, AcqRel);
        debug_assert!(before > 0, "more processors acquired than idle");
    }

    /// Racy counts `(searching, idle processors)`.
    pub fn counts(&self) -> (usize, usize) {
        (self.searching.load(Relaxed), self.processors.load(Relaxed))
    }
}
