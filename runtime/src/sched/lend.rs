//! Lending a processor to a worker that is held with a computing task (`preempt`), and the list of those who are.

use super::inside::Inside;
use super::processor::Processor;
use super::shared::Shared;
use super::worker::Worker;
use crate::preempt::signal;
use crate::primitive::atomic::{Acquire, Relaxed, Release};
use crate::time::clock;
use std::ptr::NonNull;
use std::sync::Arc;

impl Shared {
    /// Is anybody held who waits for a processor?
    #[inline]
    pub(crate) fn has_held(&self) -> bool {
        self.held_len.load(Acquire) > 0
    }

    /// Puts a worker that is held on the list. By the monitor, who then wakes somebody.
    pub(crate) fn list_held(&self, worker: &Arc<Worker>) {
        let mut lists = self.lists.lock();
        lists.held.push_back(Arc::clone(worker));
        self.held_len.store(lists.held.len(), Release);
    }

    /// Takes a worker off the list that has left by itself.
    pub(crate) fn unlist_held(&self, worker: &Arc<Worker>) {
        let mut lists = self.lists.lock();
        lists.held.retain(|held| !Arc::ptr_eq(held, worker));
        self.held_len.store(lists.held.len(), Release);
    }

    /// Since when the first of the list has been held.
    pub(crate) fn first_held_since(&self) -> Option<u64> {
        let lists = self.lists.lock();
        Some(lists.held.front()?.notes.since.load(Relaxed))
    }

    /// The first of the list; with `rested` only if it was held before that.
    fn pop_held(&self, rested: Option<u64>) -> Option<Arc<Worker>> {
        let mut lists = self.lists.lock();
        let since = lists.held.front()?.notes.since.load(Relaxed);
        if rested.is_some_and(|rested| since > rested) {
            return None;
        }
        let worker = lists.held.pop_front();
        self.held_len.store(lists.held.len(), Release);
        worker
    }

    /// Lets all go on as they are, without a processor: the runtime closes, or somebody inside waits for what they hold.
    pub(crate) fn release_held(&self) {
        let held = std::mem::take(&mut self.lists.lock().held);
        self.held_len.store(0, Release);
        drop(held);
        for worker in self.workers.lock().iter() {
            worker.hold.withdraw();
            if worker.hold.release(0) {
                signal::wake(worker);
            }
        }
    }
}

impl Inside {
    /// Lends the processor in hand to the first worker that is held; `always`, or only if that has rested for a slice, and
    /// the processor was the others' for one since it was lent last: so they have half of it beside any number. True: this
    /// worker has none now.
    #[cold]
    #[inline(never)]
    pub(super) fn lend(&mut self, always: bool) -> bool {
        let shared = self.runtime();
        let now = clock::now();
        let slice = shared.config.slice.as_nanos() as u64;
        let rested = (!always).then(|| now.saturating_sub(slice));
        if !always && now.saturating_sub(self.processor().lent_at.load(Relaxed)) < 2 * slice {
            return false;
        }
        while let Some(worker) = shared.pop_held(rested) {
            self.stop_searching();
            self.processor().lent_at.store(now, Relaxed);
            let processor = self.let_go();
            worker.notes.since.store(now, Relaxed);
            worker.notes.listed.store(false, Relaxed);
            if worker.hold.release(processor.as_ptr() as usize) {
                signal::wake(&worker);
                shared.monitor.note_work();
                return true;
            }
            self.hold(processor); // it has left by itself
        }
        false
    }

    /// Takes the processor that was lent to this worker while it was held. Nobody is to hold it from here on.
    #[inline]
    pub(super) fn take_lease(&mut self) -> bool {
        let hold = &self.worker().hold;
        hold.withdraw();
        let Some(processor) = NonNull::new(hold.take_lease() as *mut Processor) else {
            return false;
        };
        self.hold(processor);
        true
    }
}
