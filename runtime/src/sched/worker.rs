//! `Worker`: an OS thread that runs tasks, and its loop: find, switch, settle what was left behind.

use super::give_way::GiveWay;
use super::inside::Inside;
use super::processor::Processor;
use super::shared::Shared;
use super::shutdown::worker_leaves;
use crate::blocking::handoff::Marking;
use crate::current;
use crate::monitor::Notes;
use crate::preempt::hold::Hold;
use crate::primitive::atomic::{AcqRel, AtomicBool, AtomicPtr, Relaxed};
use crate::profile::{self, Sampled};
use crate::sys::membarrier;
use crate::sys::parker::Parker;
use crate::sys::thread::{self, CpuClock, ThreadId};
use crate::task::header::{Header, TaskRef};
use crate::trace::Pen;
use bast_netpoll::ReadyList;
use bast_stack::Saved;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// What the stack that was switched away from wants done, by whoever runs next on the same worker. It cannot do it
/// itself: until its registers are saved nobody else may have it, and afterwards it no longer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settle {
    /// Nothing.
    None,
    /// Still runnable: to the back of the local queue.
    Yield(TaskRef),
    /// The same, because the monitor asked for it.
    Preempted(TaskRef),
    /// Still runnable, without a processor or for fairness: to the global queue.
    Global(TaskRef),
    /// Commit the park.
    Park(TaskRef),
    /// Over: recycle the stack, drop the task's own reference.
    Dead(TaskRef),
}

/// The task that a worker runs. Others may look, and learn what was true a moment ago: entries of tasks stay readable.
#[derive(Debug, Default)]
pub(crate) struct Current(AtomicPtr<Header>);

impl Current {
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<TaskRef> {
        NonNull::new(self.0.load(Relaxed)).map(TaskRef)
    }

    #[inline(always)]
    pub(crate) fn set(&self, task: Option<TaskRef>) {
        // Relaxed: nothing is published by it; to others it is a hint.
        let task = task.map_or(std::ptr::null_mut(), |task| task.0.as_ptr());
        self.0.store(task, Relaxed);
    }
}

/// One worker. Cells belong to its own thread; the rest is for others.
#[repr(align(128))]
pub(crate) struct Worker {
    pub(crate) marking: Marking,
    /// The task that runs here: the worker's to change.
    pub(crate) current: Current,
    pub(crate) processor: Cell<Option<NonNull<Processor>>>,
    pub(crate) settle: Cell<Settle>,
    pub(crate) home: UnsafeCell<Saved>,
    /// Counted among the searching.
    pub(crate) searching: Cell<bool>,
    /// A task of another worker that was picked where it could not be handed over.
    pub(crate) bound_next: Cell<Option<TaskRef>>,
    /// Its task is locked to the thread. That leaves it at its end only, and the thread ends with it.
    pub(crate) locked: Cell<bool>,
    /// The processor held last, for affinity.
    pub(crate) last_processor: Cell<Option<NonNull<Processor>>>,
    /// Taken out while it is filled and emptied.
    pub(crate) ready: Cell<Option<ReadyList>>,
    /// Tasks that a look into the poller has woken, until they are queued; empty otherwise.
    pub(crate) woken: Cell<Vec<TaskRef>>,
    /// Looking into the poller before going to sleep found something the last time.
    pub(crate) poll_pays: Cell<bool>,
    pub(crate) give_way: GiveWay,
    /// Where this thread's thread-locals lie; empty unless that is to be checked.
    #[cfg(debug_assertions)]
    pub(crate) tls_blocks: Vec<std::ops::Range<usize>>,
    pub(crate) shared: Arc<Shared>,
    // For others:
    /// Tells blocked from burning; for the monitor.
    pub(crate) cpu_clock: Option<CpuClock>,
    /// The thread, as the kernel names it.
    pub(crate) tid: ThreadId,
    /// Where it is held while it computes without a processor.
    pub(crate) hold: Hold,
    pub(crate) notes: Notes,
    parker: Parker,
    /// A processor given to this worker while it slept; written under the scheduler's lock or by the one who found
    /// its bound task.
    handed: AtomicPtr<Processor>,
    /// The handed processor comes with a place among the searching.
    handed_searching: AtomicBool,
    /// Sleeps in the poller rather than in the parker. Under the scheduler's lock.
    pub(crate) in_poller: AtomicBool,
    /// The processor in hand, for the monitor.
    pub(crate) holds: AtomicPtr<Processor>,
    pub(crate) pen: Arc<Pen>,
    pub(crate) sampled: Arc<Sampled>,
}

// SAFETY: the cells are touched by the worker's own thread only; everything else is atomics and locks.
unsafe impl Send for Worker {}
// SAFETY: as for Send.
unsafe impl Sync for Worker {}

/// The task that runs on this thread, if one does; without entering the runtime.
#[inline]
pub(crate) fn current_task() -> Option<TaskRef> {
    let worker = current::worker()?;
    // SAFETY: validity: workers live as long as their thread, which is this one. aliasing: shared borrow; the cell is
    // this thread's.
    unsafe { worker.as_ref() }.current.get()
}

/// Is the calling thread a worker whose task is, or was, locked to it? Then it must start no thread.
#[cold]
pub(crate) fn thread_is_locked() -> bool {
    current::worker().is_some_and(|worker| {
        // SAFETY: as in `current_task`.
        unsafe { worker.as_ref() }.locked.get()
    })
}

impl fmt::Debug for Worker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Worker")
            .field("marking", &self.marking)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// For the calling thread.
    fn new(shared: Arc<Shared>) -> Worker {
        Worker {
            marking: Marking::new(!membarrier::reaches_all()),
            current: Current::default(),
            processor: Cell::new(None),
            settle: Cell::new(Settle::None),
            home: UnsafeCell::new(Saved::empty()),
            searching: Cell::new(false),
            bound_next: Cell::new(None),
            locked: Cell::new(false),
            last_processor: Cell::new(None),
            ready: Cell::new(Some(ReadyList::new())),
            woken: Cell::new(Vec::new()),
            poll_pays: Cell::new(true),
            give_way: GiveWay::new(),
            #[cfg(debug_assertions)]
            tls_blocks: if shared.config.tls_check {
                crate::sys::static_tls::blocks()
            } else {
                Vec::new()
            },
            shared,
            cpu_clock: thread::own_cpu_clock(),
            tid: thread::own_id(),
            hold: Hold::new(),
            notes: Notes::default(),
            parker: Parker::new(),
            handed: AtomicPtr::new(std::ptr::null_mut()),
            handed_searching: AtomicBool::new(false),
            in_poller: AtomicBool::new(false),
            holds: AtomicPtr::new(std::ptr::null_mut()),
            pen: crate::trace::add_pen(),
            sampled: profile::add_worker(),
        }
    }

    /// Gives this sleeping worker a processor; [`Worker::wake`] must follow.
    pub(crate) fn hand(&self, processor: NonNull<Processor>, searching: bool) {
        self.handed_searching.store(searching, Relaxed);
        // Release: publishes the flag above and the processor's data.
        let before = self.handed.swap(processor.as_ptr(), AcqRel);
        debug_assert!(before.is_null(), "a worker was handed two processors");
    }

    /// Takes the handed processor, if any, and whether it comes with a place among the searching.
    pub(crate) fn take_handed(&self) -> Option<(NonNull<Processor>, bool)> {
        let processor = NonNull::new(self.handed.swap(std::ptr::null_mut(), AcqRel))?;
        Some((processor, self.handed_searching.load(Relaxed)))
    }

    /// Wakes the worker from its parker. One that waits in the poller is woken by [`Reactor::interrupt`] instead, without
    /// a look at the worker: it may have woken by itself, and be gone.
    ///
    /// [`Reactor::interrupt`]: super::reactor::Reactor::interrupt
    pub(crate) fn wake(&self) {
        self.parker.wake();
    }

    /// Sleeps until woken. By the worker itself.
    pub(crate) fn sleep(&self) {
        self.parker.sleep();
    }
}

/// Starts a worker thread; it begins with `processor` in hand, or by looking for one.
pub(crate) fn start(
    shared: &Arc<Shared>,
    processor: Option<NonNull<Processor>>,
    searching: bool,
) -> io::Result<()> {
    struct Gift(Option<NonNull<Processor>>);
    // SAFETY: processors are Sync and live as long as the runtime.
    unsafe impl Send for Gift {}

    let index = shared.worker_started()?;
    let gift = Gift(processor);
    let own = Arc::clone(shared);
    let name = (shared.config.thread_name)(index);
    let started = thread::start(name, shared.config.worker_stack_bytes, move || {
        let gift = gift;
        run(own, index, gift.0, searching);
    });
    match started {
        Ok(thread) => {
            let mut threads = shared.threads.lock();
            let over: Vec<_> = threads.extract_if(.., |thread| thread.is_finished()).collect();
            threads.push(thread);
            drop(threads);
            over.into_iter().for_each(|thread| drop(thread.join()));
            Ok(())
        }
        Err(error) => {
            shared.worker_stopped(None);
            Err(thread_error(&error, shared.workers_count()))
        }
    }
}

/// What a refused thread means and how to raise the limit.
fn thread_error(error: &io::Error, running: usize) -> io::Error {
    let text = format!(
        "cannot start a worker thread beside {running} others: {error}; \
         raise the limit of processes (ulimit -u), of threads (sysctl kernel.threads-max, kernel.pid_max) or the \
         cgroup's pids.max"
    );
    io::Error::new(error.kind(), text)
}

/// A worker thread from its first to its last instruction.
fn run(shared: Arc<Shared>, index: usize, processor: Option<NonNull<Processor>>, searching: bool) {
    let _alternate_stack = bast_stack::fault::AltStack::new().inspect_err(|error| {
        eprintln!("bast: worker {index} has no alternate signal stack, so an overflow there goes unreported: {error}");
    });
    shared.config.pin_worker(index);
    let worker = Arc::new(Worker::new(Arc::clone(&shared)));
    shared.register_worker(Arc::clone(&worker));
    current::set_worker(Some(NonNull::from(&*worker)));
    (shared.config.on_worker_start)();
    let mut inside = Inside::at_home(&worker);
    if let Some(processor) = processor {
        inside.hold(processor);
        worker.searching.set(searching);
    }
    inside.run_tasks();
    inside.leave_home();
    crate::trace::end_pen(&worker.pen);
    (shared.config.on_worker_stop)();
    profile::end_worker(&worker.sampled);
    current::set_worker(None);
    worker_leaves(&shared);
    shared.worker_stopped(Some(&worker));
}
