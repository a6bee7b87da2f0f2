//! What a runtime may run out of: threads for its workers, and stacks for its tasks.

use super::shared::Shared;
use super::worker::Worker;
use crate::blocking::handoff::CLOSE;
use crate::primitive::atomic::{AcqRel, Acquire, Relaxed};
use crate::task::header::TaskRef;
use bast_stack::StackError;
use std::io;
use std::sync::Arc;

impl Shared {
    // ---- threads ----

    /// One more thread; refuses above the limit.
    pub(crate) fn worker_started(&self) -> io::Result<usize> {
        let one_more = |alive| (alive < self.workers_max()).then_some(alive + 1);
        let index = self.workers_alive.fetch_update(AcqRel, Acquire, one_more);
        index.map_err(|index| {
            let text = format!(
                "{index} worker threads are blocked or running, the most that Builder::blocked_workers_max({}) \
                 allows for {} processors: raise it, or block fewer tasks at once",
                self.config.blocked_workers_max,
                self.processors.len()
            );
            io::Error::new(io::ErrorKind::QuotaExceeded, text)
        })
    }

    /// Most threads now. Those that sleep with their task, or are held with it, do not count: they can run nothing else, and what they wait
    /// for must be able to run.
    pub(super) fn workers_max(&self) -> usize {
        // Below zero for a moment when a worker is woken before it has lain down.
        let bound = usize::try_from(self.workers_bound_asleep.load(Acquire).cast_signed()).unwrap_or(0);
        self.processors.len() + self.config.blocked_workers_max + bound + self.held_len.load(Acquire)
    }

    /// No more threads may be had.
    pub(crate) fn is_at_limit(&self) -> bool {
        self.workers_count() >= self.workers_max()
    }

    pub(crate) fn register_worker(&self, worker: Arc<Worker>) {
        let mut workers = self.workers.lock();
        if self.closing.load(Acquire) {
            worker.marking.ask(CLOSE);
        }
        workers.push(worker);
    }

    pub(crate) fn worker_stopped(&self, worker: Option<&Arc<Worker>>) {
        if let Some(worker) = worker {
            self.workers.lock().retain(|listed| !Arc::ptr_eq(listed, worker));
        }
        self.workers_alive.fetch_sub(1, AcqRel);
        if worker.is_some() && !self.closing.load(Acquire) {
            // It ends with a task that was locked to it, and there is room for another: somebody may have wanted one.
            self.monitor.start_worker();
        }
        self.changed.notify();
    }

    pub(crate) fn workers_count(&self) -> usize {
        self.workers_alive.load(Acquire)
    }

    // ---- tasks that wait for a stack ----

    #[cold]
    pub(crate) fn starve(&self, task: TaskRef, error: &StackError) {
        let mut lists = self.lists.lock();
        lists.starved.push(task, &self.starved_len);
        let told = !std::mem::replace(&mut lists.starved_reason, error.to_string()).is_empty();
        drop(lists);
        if !told {
            eprintln!(
                "bast: task {} (spawned at {}) waits for a stack until another task ends: {error}",
                task.id(),
                task.spawned_at.get()
            );
        }
    }

    /// A stack came back: gives one waiting task its chance.
    #[inline]
    pub(crate) fn feed_starved(&self) {
        if self.starved_len.load(Relaxed) > 0 {
            let fed = self.lists.lock().starved.pop(&self.starved_len);
            if let Some(task) = fed {
                self.inject(task);
            }
        }
    }

    /// Why the last task had to wait.
    pub(crate) fn starved_reason(&self) -> String {
        self.lists.lock().starved_reason.clone()
    }

    /// Tasks that wait for a stack now.
    pub(crate) fn starved(&self) -> usize {
        self.starved_len.load(Relaxed)
    }
}
