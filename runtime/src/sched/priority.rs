//! Tasks that are not [`Priority::Normal`](crate::task::Priority), and what they may take from those that are.
//!
//! # Goal
//! A task of high priority runs before others, one of low priority when nothing else is to be done, and **none of the
//! three can starve another**, whatever the load. Ordinary tasks, nearly all there are, should not pay for it.
//!
//! # Rejected ways
//! *Three rings a processor*: stealing, overflow and the idle protocol would look at three of everything, for a few
//! tasks. *A share of time for each class*: it takes a clock at every switch. *Strict order*: starves. *Interrupting an
//! ordinary task when one of high priority becomes runnable*: it would cost a signal or a flag to be looked at by every
//! worker; so what runs goes on until it waits, or its slice is over.
//!
//! # Chosen way
//! Two lists for the whole runtime beside the global queue, under the same lock: high and low. A task that is not
//! ordinary is never in a ring or next slot when it becomes runnable, but always in its list, where every processor
//! finds it. The cost for others is one load a pick, of a word that only changes with tasks of high priority.
//! For whoever goes idle the lists are parts of the global queue: published under the lock, then P2 and P3 of `idle`;
//! and S4 looks at their lengths.
//!
//! # The bound
//! A *round* is one pick of one processor; one for which a worker goes home counts twice towards the 61st. Let every task
//! run at most `SLICE` between calls into the runtime.
//! * **High.** While tasks of high priority wait, a processor picks one in all but one of [`HIGH_IN_A_ROW_MAX`]` + 1`
//!   rounds, and but for the round in which it looks at the global queue. So with `n` before it, such a task runs after
//!   at most `(n + 1) x 9 / 8 + 1` rounds of any one processor, and as many more as it looked at the global queue.
//! * **Normal.** Of any `HIGH_IN_A_ROW_MAX + 1` rounds of a processor one is left to the others, so what `sched` says
//!   of ring and next slot holds with nine times as many rounds. What it says of the global queue holds as it is.
//! * **Low.** In every 61st round a processor moves the first of the list to the end of its ring, whatever else waits.
//!   So with `n` before it, such a task is in a ring after at most `61 x (n + 1)` rounds of any one processor, and from
//!   there on is as others are. When a processor finds nothing else, also not in others' rings, it takes the first.
//!
//! There is no inheritance: a task of high priority that waits for a lock held by one of low priority waits for that.

use super::inside::Inside;
use super::shared::{Lists, Shared};
use crate::primitive::atomic::{Acquire, Relaxed};
use crate::task::Priority;
use crate::task::header::TaskRef;

/// After this many picks of high priority in a row the others get a turn.
pub(crate) const HIGH_IN_A_ROW_MAX: u32 = 8;

impl Shared {
    /// Puts a task at the end of the list of its priority.
    #[inline]
    pub(super) fn push_shared(&self, lists: &mut Lists, task: TaskRef) {
        match task.priority() {
            Priority::Normal => lists.global.push(task, &self.global_len),
            Priority::High => lists.high.push(task, &self.high_len),
            Priority::Low => lists.low.push(task, &self.low_len),
        }
    }

    /// Does a task of high priority wait?
    #[inline]
    pub(super) fn has_high(&self) -> bool {
        self.high_len.load(Relaxed) > 0
    }

    /// Does a task of low priority wait?
    pub(super) fn has_low(&self) -> bool {
        self.low_len.load(Relaxed) > 0
    }

    /// Is there anything in the global queue or in the lists beside it? For S4 of `idle`.
    pub(crate) fn has_shared(&self) -> bool {
        self.has_global() || self.high_len.load(Acquire) > 0 || self.low_len.load(Acquire) > 0
    }

    /// Tasks in the global queue and in the lists beside it.
    pub(super) fn shared_len(&self) -> usize {
        [&self.global_len, &self.high_len, &self.low_len]
            .map(|len| len.load(Relaxed))
            .iter()
            .sum()
    }
}

impl Inside {
    /// Makes a task that is not ordinary runnable.
    #[cold]
    #[inline(never)]
    pub(super) fn set_apart(&self, task: TaskRef) {
        self.shared().inject(task);
    }

    /// The next task while one of high priority waits: that one, unless it is the others' turn.
    #[cold]
    #[inline(never)]
    pub(super) fn pick_beside_high(&mut self) -> Option<TaskRef> {
        let task = match self.take_high() {
            Some(task) => task,
            None => {
                let task = self.pop_local()?; // nothing: the turn stays theirs for the look at home
                self.own().high_in_a_row = 0;
                task
            }
        };
        self.unless_bound(task)
    }

    /// The first of high priority. None also if it is the others' turn.
    pub(super) fn take_high(&mut self) -> Option<TaskRef> {
        let shared = self.runtime();
        if !shared.has_high() || self.own().high_in_a_row >= HIGH_IN_A_ROW_MAX {
            return None;
        }
        let task = shared.lists.lock().high.pop(&shared.high_len)?;
        self.own().high_in_a_row += 1;
        Some(task)
    }

    /// The first of low priority, when nothing else was found.
    pub(super) fn take_low(&self) -> Option<TaskRef> {
        let shared = self.shared();
        if !shared.has_low() {
            return None;
        }
        shared.lists.lock().low.pop(&shared.low_len)
    }

    /// The turn of the low: the first goes to the end of the ring.
    pub(super) fn raise_low(&mut self) {
        if let Some(task) = self.take_low() {
            self.push_ring(task);
        }
    }

    /// The order of sources between the turns of the global queue.
    pub(super) fn look_in_order(&mut self) -> Option<TaskRef> {
        if let Some(task) = self.take_high() {
            return Some(task);
        }
        let others = self.look_for_normal();
        let others = others.or_else(|| self.take_low());
        self.own().high_in_a_row = 0;
        // Nobody wanted the turn, or one came meanwhile.
        others.or_else(|| self.take_high())
    }
}
