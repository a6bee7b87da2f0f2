//! `Shared`: what all workers of one runtime share, and how threads outside reach it.

use super::global_queue::{CHAIN_MAX, GlobalQueue};
use super::idle::Idle;
use super::idle_poller::{Place, is_watched, who_goes_on};
use super::local_queue::{self, LocalQueue};
use super::processor::Processor;
use super::reactor::Reactor;
use super::worker::{self, Worker, thread_is_locked};
use crate::builder::Config;
use crate::chaos;
use crate::metrics::Metrics;
use crate::monitor::{Monitor, Overruns};
use crate::primitive::atomic::{Acquire, AtomicBool, AtomicU64, AtomicUsize, Relaxed};
use crate::sys::event::Event;
use crate::sys::lock::{Guard, Lock, Rank};
use crate::task::chain::Chain;
use crate::task::header::{Header, TaskRef};
use crate::task::slab::Pool;
use crate::time::clock::NEVER;
use bast_stack::Stacks;
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// One runtime.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) processors: Box<[Processor]>,
    pub(crate) idle: Idle,
    pub(crate) lists: Lock<Lists>,
    /// Length of the global queue, readable without the lock.
    pub(super) global_len: AtomicUsize,
    /// The same for the tasks of low priority.
    pub(super) low_len: AtomicUsize,
    /// And of high priority: read at every pick, so on a line that nothing else changes.
    pub(super) high_len: CachePadded<AtomicUsize>,
    /// Length of the list of workers that are held.
    pub(crate) held_len: CachePadded<AtomicUsize>,
    pub(crate) workers: Lock<Vec<Arc<Worker>>>,
    /// The workers' threads, for shutdown to join.
    pub(crate) threads: Lock<Vec<std::thread::JoinHandle<()>>>,
    pub(super) workers_alive: AtomicUsize,
    /// Sleeping with a task of their own on their stack: shutdown does not wait for them.
    pub(crate) workers_bound_asleep: AtomicUsize,
    pub(crate) reactor: Reactor,
    pub(crate) stacks: Stacks,
    pub(crate) slab: Pool,
    /// Set under the lock of `lists`.
    pub(crate) closing: AtomicBool,
    /// The end of the runtime is over, beside workers that are still busy.
    pub(crate) abandoned: AtomicBool,
    /// A worker ended or fell asleep with its task.
    pub(crate) changed: Event,
    pub(crate) monitor: Monitor,
    pub(super) starved_len: AtomicUsize,
    next_task_id: AtomicU64,
    /// Spawned from threads that hold no processor of ours.
    pub(crate) spawned_foreign: AtomicU64,
    /// Processors taken from workers in user code.
    pub(crate) detached: AtomicU64,
    /// Workers that were found for a processor.
    wakes: AtomicU64,
    pub(crate) overruns: Overruns,
    /// Workers that were asked to stop.
    pub(crate) holds: AtomicU64,
    /// Ended on workers that held no processor.
    pub(crate) finished_foreign: AtomicU64,
    /// Sets the ids of its tasks apart from those of other runtimes in a trace.
    pub(crate) number: u64,
}

/// Who idles, and the global queue: all under the scheduler's lock.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(crate) global: GlobalQueue,
    /// Tasks of high and of low priority, see `priority`.
    pub(super) high: GlobalQueue,
    pub(super) low: GlobalQueue,
    pub(crate) processors: Vec<NonNull<Processor>>,
    pub(crate) workers: Vec<NonNull<Worker>>,
    /// Workers that are held with a computing task, until they are lent a processor.
    pub(super) held: VecDeque<Arc<Worker>>,
    /// Who waits in the poller, or is about to.
    pub(super) poller: Place,
    /// Fresh tasks that wait for a stack.
    pub(super) starved: GlobalQueue,
    /// Why there was no stack, the last time.
    pub(super) starved_reason: String,
}

// SAFETY: the pointers name processors and workers of the runtime, which are Sync and live as long as it.
unsafe impl Send for Lists {}

impl Shared {
    #[expect(
        clippy::large_stack_frames,
        reason = "called once, on the stack of whoever starts the runtime"
    )]
    pub(crate) fn new(config: Config) -> io::Result<Arc<Shared>> {
        let count = config.processors;
        let overrun_reports = config.overrun_reports;
        let stacks = Stacks::new(config.stacks.clone()).map_err(io::Error::other)?;
        let processors: Box<[Processor]> = (0..count)
            .map(|index| Processor::new(index, config.stack_class, chaos::seed_for(config.seed)))
            .collect();
        let shared = Arc::new(Shared {
            config,
            processors,
            idle: Idle::new(count),
            lists: Lock::new(Rank::Scheduler, Lists::default()),
            global_len: AtomicUsize::new(0),
            low_len: AtomicUsize::new(0),
            high_len: CachePadded::new(AtomicUsize::new(0)),
            held_len: CachePadded::new(AtomicUsize::new(0)),
            workers: Lock::new(Rank::Workers, Vec::new()),
            threads: Lock::new(Rank::Leaf, Vec::new()),
            workers_alive: AtomicUsize::new(0),
            workers_bound_asleep: AtomicUsize::new(0),
            reactor: Reactor::new()?,
            stacks,
            slab: Pool::new(),
            closing: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            changed: Event::new(),
            monitor: Monitor::new(),
            starved_len: AtomicUsize::new(0),
            next_task_id: AtomicU64::new(1),
            spawned_foreign: AtomicU64::new(0),
            detached: AtomicU64::new(0),
            wakes: AtomicU64::new(0),
            overruns: Overruns::new(overrun_reports),
            holds: AtomicU64::new(0),
            finished_foreign: AtomicU64::new(0),
            number: crate::trace::add_runtime(),
        });
        super::traced::add_source(&shared);
        shared
            .lists
            .lock()
            .processors
            .extend(shared.processors.iter().rev().map(NonNull::from));
        Ok(shared)
    }

    /// A block of `count` task ids.
    pub(crate) fn reserve_ids(&self, count: u64) -> std::ops::Range<u64> {
        let first = self.next_task_id.fetch_add(count, Relaxed);
        first..first + count
    }

    // ---- the global queue ----

    #[inline]
    pub(crate) fn has_global(&self) -> bool {
        self.global_len.load(Acquire) > 0
    }

    /// Makes `task`, which is the caller's, runnable from any thread, in the list of its priority.
    pub(crate) fn inject(&self, task: TaskRef) {
        self.push_shared(&mut self.lists.lock(), task);
        self.monitor.note_work();
        self.wake_one();
    }

    /// The same for several at once, under one lock. Who is woken wakes the next, as long as there is more to run.
    pub(crate) fn inject_all(&self, tasks: &mut Vec<TaskRef>) {
        if tasks.is_empty() {
            return;
        }
        let mut lists = self.lists.lock();
        tasks
            .drain(..)
            .for_each(|task| self.push_shared(&mut lists, task));
        drop(lists);
        self.monitor.note_work();
        self.wake_one();
    }

    /// As [`Shared::inject`] for a task that was just spawned by a thread outside. False: the runtime closes.
    pub(crate) fn try_inject_new(&self, task: TaskRef) -> bool {
        let mut lists = self.lists.lock();
        if self.closing.load(Acquire) {
            return false; // `closing` is set under this lock, so shutdown sees all that got in before
        }
        self.spawned_foreign.fetch_add(1, Relaxed);
        self.push_shared(&mut lists, task);
        drop(lists);
        self.monitor.note_work();
        self.wake_one();
        true
    }

    /// Overflow of a local queue. The caller wakes somebody.
    #[cold]
    pub(crate) fn push_global(&self, tasks: &[NonNull<Header>]) {
        const CHAINS: usize = (local_queue::CAPACITY / 2 + 1).div_ceil(CHAIN_MAX);
        // Linked before the lock is taken.
        let mut chains = [const { Chain::new() }; CHAINS];
        debug_assert!(tasks.len() <= CHAINS * CHAIN_MAX, "more than half a ring and one");
        for (chain, tasks) in chains.iter_mut().zip(tasks.chunks(CHAIN_MAX)) {
            *chain = tasks.iter().copied().map(TaskRef).collect();
        }
        let mut lists = self.lists.lock();
        for chain in chains {
            lists.global.push_chain(chain, &self.global_len);
        }
    }

    /// Moves a fair share of the global queue to `processor`, whose holder calls, and gives the first.
    pub(crate) fn take_global(&self, processor: &Processor, most: usize) -> Option<TaskRef> {
        if !self.has_global() {
            return None;
        }
        let mut lists = self.lists.lock();
        let share = lists.global.len() / self.processors.len() + 1;
        let mut taken = lists.global.take(share.min(most), &self.global_len);
        drop(lists);
        let first = taken.pop()?;
        if taken.is_empty() {
            return Some(first);
        }
        let rest = std::iter::from_fn(|| taken.pop().map(|task| task.0));
        // SAFETY: the caller holds the processor, and the tasks are ours.
        unsafe { processor.queue.push_batch(rest) };
        while let Some(task) = taken.pop() {
            self.inject(task); // no room, which an empty ring has
        }
        // Between the lock and the ring they were nowhere to be seen for a worker that goes to sleep (S4 of `idle`).
        self.wake_one();
        Some(first)
    }

    // ---- waking ----

    /// Work was published: wakes one worker as a searcher if a processor idles and nobody searches.
    #[inline]
    pub(crate) fn wake_one(&self) {
        if self.idle.claim_wake() {
            self.wake_claimed();
        }
    }

    #[cold]
    fn wake_claimed(&self) {
        let mut lists = self.lists.lock();
        if self.closing.load(Acquire) {
            self.idle.cancel_wake();
            return;
        }
        let Some(processor) = self.pop_idle_processor(&mut lists, None) else {
            self.idle.cancel_wake();
            return;
        };
        drop(lists);
        self.run_processor(processor, true);
        self.monitor.note_busy(); // after the worker: it is the one that is waited for
    }

    /// Takes an idle processor, `wanted` if it is there. The caller tells the monitor, without the lock.
    pub(crate) fn pop_idle_processor(
        &self,
        lists: &mut Lists,
        wanted: Option<NonNull<Processor>>,
    ) -> Option<NonNull<Processor>> {
        let place = wanted.and_then(|wanted| lists.processors.iter().position(|&idle| idle == wanted));
        let processor = match place {
            Some(place) => lists.processors.swap_remove(place),
            None => lists.processors.pop()?,
        };
        self.idle.processor_acquired();
        Some(processor)
    }

    /// Puts a processor among the idle (S1 of `idle`).
    pub(crate) fn push_idle_processor(&self, lists: &mut Lists, processor: NonNull<Processor>) {
        lists.processors.push(processor);
        self.idle.processor_released();
    }

    /// Finds a worker for `processor`, which nobody holds: a sleeping one, or a new thread. `searching`: with the place
    /// among the searching that the caller has claimed. False: none could be started; the place is given up and the
    /// processor idle again.
    fn run_processor(&self, processor: NonNull<Processor>, searching: bool) -> bool {
        self.wakes.fetch_add(1, Relaxed);
        if self
            .hand_to_sleeper(self.lists.lock(), processor, searching)
            .is_ok()
        {
            return true;
        }
        if thread_is_locked() {
            return self.leave_idle(processor, searching, None);
        }
        // SAFETY: validity: `self` is inside the Arc that `Shared::new` made. aliasing: counts only.
        unsafe { Arc::increment_strong_count(std::ptr::from_ref(self)) };
        // SAFETY: validity: as above. aliasing: the count was just raised for this Arc.
        let shared = unsafe { Arc::from_raw(std::ptr::from_ref(self)) };
        match worker::start(&shared, Some(processor), searching) {
            Ok(()) => true,
            Err(error) => self.leave_idle(processor, searching, Some(&error)),
        }
    }

    /// Hands `processor` to a sleeping worker; the lock comes back if there is none.
    fn hand_to_sleeper<'a>(
        &self,
        mut lists: Guard<'a, Lists>,
        processor: NonNull<Processor>,
        searching: bool,
    ) -> Result<(), Guard<'a, Lists>> {
        let Some((worker, in_poller)) = pop_idle_worker(&mut lists) else {
            return Err(lists);
        };
        // SAFETY: validity: a listed worker cannot end without this lock. aliasing: shared borrow.
        unsafe { worker.as_ref() }.hand(processor, searching);
        drop(lists);
        wake_sleeper(self, worker, in_poller);
        Ok(())
    }

    /// No thread could be started for `processor`, or (without an error) none may be from this thread, and the monitor
    /// is asked to. As `run_processor` returns.
    ///
    /// While it was in nobody's hands others may have looked for an idle processor in vain, and publishers may have
    /// relied on the claim: so S1 to S4 of `idle`, as by a searcher that gives up. A worker that fell asleep before S1 is
    /// found on the list, one that does so later sees the processor in its own S4.
    #[cold]
    fn leave_idle(&self, processor: NonNull<Processor>, searching: bool, error: Option<&io::Error>) -> bool {
        if let Some(error) = error {
            self.monitor.complain_once(error);
        }
        chaos::point(chaos::Point::Sleep);
        let mut lists = match self.hand_to_sleeper(self.lists.lock(), processor, searching) {
            Ok(()) => return true,
            Err(lists) => lists,
        };
        // SAFETY: validity: processors live as long as the runtime. aliasing: shared borrow.
        if let Some(next) = unsafe { processor.as_ref() }.queue.steal_next() {
            lists.global.push(TaskRef(next), &self.global_len); // S4 does not look at the next slots
        }
        self.push_idle_processor(&mut lists, processor); // S1
        if searching {
            self.idle.cancel_wake(); // S2, under the lock as where no processor is left
        }
        drop(lists);
        self.idle.end_unsearched(); // S3
        let Some(error) = error else {
            self.monitor.start_worker(); // also without work: somebody must wait in the poller
            return false;
        };
        if self.has_any_work() {
            // S4: nobody sleeps who could run it. A task that took its worker to sleep with it has made room for another.
            if error.kind() != io::ErrorKind::QuotaExceeded {
                self.monitor.retry_start();
            } else if self.workers_count() < self.workers_max() {
                self.wake_one();
            }
        }
        false
    }

    /// A worker that is about to block gives its processor away: to another worker if there is anything to do, or
    /// nobody waits in the poller; else to the idle.
    pub(crate) fn give_processor(&self, processor: NonNull<Processor>) {
        // SAFETY: validity: processors live as long as the runtime. aliasing: shared borrow.
        let has_work = !unsafe { processor.as_ref() }.queue.is_empty() || self.has_shared();
        let mut lists = self.lists.lock();
        let wanted = (has_work || lists.poller.is_needed()) && !self.closing.load(Acquire);
        if wanted {
            drop(lists);
            if self.run_processor(processor, false) {
                return;
            }
        } else {
            self.push_idle_processor(&mut lists, processor);
            drop(lists);
        }
        self.idle.end_unsearched(); // S3 of `idle`: work whose publisher did not see the idle processor is seen here
        if self.has_any_work() {
            self.wake_one();
        }
        self.reactor.check_wait_until(self.first_timer());
    }

    // ---- looking at everything ----

    /// S4 of `idle`: is there anything to run? The next slots do not count: their owners are about to run them, and
    /// the monitor sees to those that do not.
    pub(crate) fn has_any_work(&self) -> bool {
        self.has_shared()
            || self.has_held()
            || self.processors.iter().any(|processor| processor.queue.has_ring())
    }

    /// F3 of `idle`: is there something left for one more worker? Next slots count here, whose owners may be at something
    /// long; and so does the poller if nobody waits in it, as a searcher that finds nothing goes there.
    pub(crate) fn wants_successor(&self) -> bool {
        self.has_shared()
            || self.has_held()
            || self
                .processors
                .iter()
                .any(|processor| !processor.queue.is_empty())
            || !is_watched(
                self.reactor.poller().is_waiting(),
                self.reactor.has_sources(),
                self.first_timer(),
            )
    }

    /// When the first timer of all processors is due.
    pub(crate) fn first_timer(&self) -> u64 {
        self.processors
            .iter()
            .map(|processor| processor.timers.next_due())
            .min()
            .unwrap_or(NEVER)
    }

    /// Counters so far.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut metrics = Metrics {
            processors: self.processors.len(),
            processors_idle: self.idle.counts().1,
            workers: self.workers_count(),
            global_queue: self.shared_len(),
            ..Metrics::default()
        };
        self.processors
            .iter()
            .for_each(|processor| metrics.add(&processor.counters));
        metrics.detaches = self.detached.load(Relaxed);
        metrics.wakes = self.wakes.load(Relaxed);
        (metrics.scheduler_locks, metrics.scheduler_lock_waits) = self.lists.counts();
        metrics.slab_refills = self.slab.refills.get();
        metrics.slab_spills = self.slab.spills.get();
        metrics.overruns = self.overruns.count();
        metrics.holds = self.holds.load(Relaxed);
        metrics.held = self.held_len.load(Relaxed);
        metrics.last_overrun = self.overruns.last();
        metrics.monitor_looks = self.monitor.looks();
        metrics.finished += self.finished_foreign.load(Relaxed);
        metrics.spawned += self.spawned_foreign.load(Relaxed);
        metrics
    }

    /// Takes what is on the queues of processors, as any thief may: also from under a worker that is busy in user code, which
    /// nobody will take the processor from any more. At shutdown.
    pub(crate) fn take_left_behind(&self) -> Vec<TaskRef> {
        let mut tasks = Vec::new();
        let loot = Box::new(LocalQueue::new());
        for processor in &self.processors {
            // SAFETY: the loot's owner is this call; it is no processor's queue.
            while let Some(task) = unsafe { loot.steal_from(&processor.queue, true) } {
                tasks.push(TaskRef(task));
                // SAFETY: as above.
                tasks.extend(std::iter::from_fn(|| unsafe { loot.pop() }.map(TaskRef)));
            }
        }
        tasks
    }

    /// Takes all that will never run, at shutdown.
    pub(crate) fn take_queued(&self) -> Vec<TaskRef> {
        let mut lists = self.lists.lock();
        let mut tasks = Vec::new();
        let lists = &mut *lists;
        for (queue, len) in [
            (&mut lists.global, &self.global_len),
            (&mut lists.high, &*self.high_len),
            (&mut lists.low, &self.low_len),
        ] {
            tasks.extend(std::iter::from_fn(|| queue.pop(len)));
        }
        while let Some(task) = lists.starved.pop(&self.starved_len) {
            tasks.push(task);
        }
        tasks
    }
}

/// Wakes a worker that was taken off the list of those that sleep; `in_poller` as it was then.
pub(crate) fn wake_sleeper(shared: &Shared, worker: NonNull<Worker>, in_poller: bool) {
    if in_poller {
        shared.reactor.interrupt();
    } else {
        // SAFETY: validity: it sleeps in its parker until whoever took it off the list wakes it, which is here; the
        // parker copes with a thread that is gone right after. aliasing: shared borrow.
        unsafe { worker.as_ref() }.wake();
    }
}

/// The sleeping worker that goes on with a processor that is in nobody's list any more; and whether it is in the poller.
pub(crate) fn pop_idle_worker(lists: &mut Lists) -> Option<(NonNull<Worker>, bool)> {
    // SAFETY: validity: a listed worker sleeps, so its thread is alive. aliasing: shared borrow.
    let in_poller = |worker: NonNull<Worker>| unsafe { worker.as_ref() }.in_poller.load(Relaxed);
    let place = who_goes_on(lists.workers.len(), lists.processors.len(), |place| {
        in_poller(lists.workers[place])
    })?;
    let worker = lists.workers.swap_remove(place);
    Some((worker, in_poller(worker)))
}
