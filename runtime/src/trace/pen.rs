//! What a thread writes with: its buffer, and what a reader knows of the thread. One a worker, and one for all threads
//! that are no workers.
//!
//! # The reader's picture comes first
//! A reader plays the scheduler: an event that cannot happen in the state it has arrived at makes it reject the trace. So
//! an event is not written because a call was made, but as the step from the state in the records to the one that the
//! call stands for, with the steps in between if there are any: a task that a trace met as runnable and that parks is
//! started first. Most often there are none. They are needed where a trace began in the middle of a transition.
//!
//! # Statuses
//! Each generation says of all tasks and processors in which state it finds them, before anything else. Whoever writes the
//! first event of one in a generation writes its status before it; a sheet's own task and processor have theirs at the
//! sheet's turn at the latest; those of which nothing happened are listed by the closer (`session`). For a task that
//! slept through a whole generation and stirs in the next one before the closer comes by, a copy is left in [`LATE`].

use super::encode::{BATCH_MAX, Batch, EVENT_MAX, Event, NONE, UNIT_NANOS, kind};
use super::gate::Sheet;
use super::generation;
use super::record::{Known, NOBODY, PROC_RUNNING, ProcRecord, RUNNABLE, RUNNING, Record, SYSCALL, WAITING};
use super::session::{self, GATE};
use super::tables::{self, Cache};
use super::walk::Walk;
use crate::sys::lock::{Lock, Rank};
use crate::sys::membarrier;
use crate::time::ticks::Scale;
use bast_stack::fetch;
use std::panic::Location;

/// What of its status in the generation before is told only now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Late {
    Task { id: u64, root: u32, state: u64 },
    Processor(u64),
}

/// Statuses for the generation of that number, left for the closer.
pub(super) static LATE: Lock<Vec<(u64, Late)>> = Lock::new(Rank::Trace, Vec::new());

/// A task, as an event names it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) record: &'static Record,
    /// Unique in the process.
    pub(crate) id: u64,
    pub(crate) details: &'a dyn Details,
}

/// What is asked of a task when it is met first, and where it lies is not touched otherwise: another CPU is at work there.
pub(crate) trait Details {
    /// The type name of its closure.
    fn entry(&self) -> &'static str;
    /// Where the code lies that runs its closure.
    fn code(&self) -> usize;
    fn spawned(&self) -> &'static Location<'static>;
    /// The name it was given.
    fn label(&self) -> Option<&str>;
}

impl Subject<'_> {
    /// The format has no empty ones.
    pub(super) fn label(&self) -> Option<&str> {
        self.details.label().filter(|label| !label.is_empty())
    }
}

/// How a task leaves its worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leave {
    /// Runnable.
    Stop(&'static str),
    /// Waiting: Go's reason, ours, and where.
    Block(&'static str, &'static str, &'static Location<'static>),
}

/// Of the cache.
const LINE: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pen(Sheet<Ink>);

/// The content of a sheet. What each event needs comes first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ink {
    pub(super) generation: u64,
    /// The generation in which `tell_own` was through.
    told_own: u64,
    /// In units.
    now: u64,
    last: u64,
    scale: Scale,
    batch: Vec<u8>,
    pub(super) processor: Option<&'static ProcRecord>,
    pub(super) task: Option<Own>,
    pub(super) cache: Cache,
    pub(super) walk: Walk,
    /// Nothing was written since the trace began.
    pub(super) fresh: bool,
    pub(super) thread: u64,
    batch_base: u64,
}

/// The task on the thread, as far as the reader knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) record: &'static Record,
    /// Without a processor.
    pub(super) syscall: bool,
}

impl Pen {
    /// For a worker whose thread has this number.
    pub(super) fn of_worker(thread: u64) -> Pen {
        Pen(Sheet::owned(Ink::new(thread), !membarrier::reaches_all()))
    }

    /// For threads that are no workers, which are shown as one with this number.
    pub(super) fn of_all(thread: u64) -> Pen {
        Pen(Sheet::shared(Ink::new(thread)))
    }

    /// Writes events in the generation of the moment, if there is one.
    ///
    /// # Safety
    /// The pen is that of the worker that the calling thread is, and `body` writes with no pen.
    pub(crate) unsafe fn write_own<R>(&self, body: impl FnOnce(&mut Ink) -> R) -> Option<R> {
        // SAFETY: as our caller says.
        unsafe { self.0.write_own(&GATE, Ink::turn, |ink, _| ink.write(body)) }
    }

    /// As [`Pen::write_own`], by another thread, or for all. `body` does not write with this pen.
    pub(crate) fn write<R>(&self, body: impl FnOnce(&mut Ink) -> R) -> Option<R> {
        self.0
            .write(&GATE, membarrier::heavy, Ink::turn, |ink, _| ink.write(body))
    }

    /// By the closer, who ends all that the reader knows of: `strip` writes it.
    pub(super) fn end(&self, closed: u64, strip: impl FnOnce(&mut Ink)) {
        self.0.close(closed, 0, membarrier::heavy, |ink, from, to| {
            ink.look_at_clock();
            strip(ink);
            ink.turn(from, to);
        });
    }

    /// By the closer.
    pub(super) fn close(&self, closed: u64, next: u64) {
        self.0.close(closed, next, membarrier::heavy, Ink::turn);
    }

    /// Has the thread written since the trace began?
    pub(super) fn generation(&self) -> u64 {
        self.0.generation(membarrier::heavy)
    }
}

impl Ink {
    fn new(thread: u64) -> Ink {
        Ink {
            generation: 0,
            told_own: 0,
            now: 0,
            last: 0,
            scale: Scale::KERNEL,
            batch: Vec::new(),
            processor: None,
            task: None,
            cache: Cache::new(),
            walk: Walk::default(),
            fresh: true,
            thread,
            batch_base: 0,
        }
    }

    #[inline]
    fn write<R>(&mut self, body: impl FnOnce(&mut Ink) -> R) -> R {
        self.look_at_clock();
        let result = body(self);
        self.heap_if_due();
        self.fresh = false;
        self.walk.forget();
        result
    }

    #[inline]
    fn look_at_clock(&mut self) {
        self.now = self.scale.now() / UNIT_NANOS;
    }

    /// The time of the events being written, in units.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// The generation written now.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Ends what belongs to `from`.
    #[cold]
    fn turn(&mut self, from: u64, to: u64) {
        let begins = session::base();
        if from != 0 && from >= begins {
            self.look_at_clock();
            self.tell_own();
            self.hand_over();
        }
        if to != 0 && (from == 0 || from < begins) {
            // Another trace: nothing of what was known holds.
            self.batch.clear();
            self.processor = None;
            self.task = None;
            self.fresh = true;
            self.cache.clear();
        }
        if to != 0 {
            self.scale = session::scale();
        }
        self.generation = to;
    }

    // ---- bytes ----

    /// Appends an event. Once in the program: an event is written after a system call and much else, with nothing of this
    /// in the cache, and what counts is how many lines it takes.
    #[inline(never)]
    pub(super) fn put(&mut self, kind: u8, arguments: &[u64]) {
        // Empty, or without room for any event.
        if self.batch.len().wrapping_sub(1) >= BATCH_MAX - EVENT_MAX {
            self.begin_batch();
        }
        let now = self.now.max(self.last);
        let since = now - self.last;
        self.last = now;
        let before = self.batch.len();
        Event::append(&mut self.batch, kind, |event| {
            event.number(since);
            for &argument in arguments {
                event.number(argument);
            }
        });
        if before / LINE != self.batch.len() / LINE {
            fetch(self.batch.as_ptr().wrapping_add(before + 2 * LINE));
        }
    }

    #[cold]
    fn begin_batch(&mut self) {
        self.hand_over();
        if self.batch.capacity() == 0 {
            self.batch = generation::spare_buffer();
        }
        self.last = self.now.max(self.last);
        self.batch_base = self.last;
    }

    #[cold]
    fn hand_over(&mut self) {
        if !self.batch.is_empty() {
            session::queue(Batch {
                generation: self.generation,
                thread: self.thread,
                base: self.batch_base,
                payload: std::mem::take(&mut self.batch),
            });
        }
    }

    // ---- statuses ----

    /// Of the thread's own processor and task, once a generation: what the thread takes later it tells of as it does.
    #[inline]
    pub(super) fn tell_own(&mut self) {
        if self.told_own != self.generation {
            self.told_own = self.generation;
            self.tell_own_anew();
        }
    }

    #[cold]
    fn tell_own_anew(&mut self) {
        let generation = self.generation;
        if let Some(processor) = self.processor
            && processor.known().generation() < generation
        {
            self.put(kind::PROC_STATUS, &[processor.number, PROC_RUNNING]);
            processor.set(Known::told(generation, PROC_RUNNING));
        }
        if let Some(Own { record, syscall }) = self.task
            && record.known().generation() < generation
        {
            let state = if syscall { SYSCALL } else { RUNNING };
            self.tell(record, state);
            if !syscall && record.label() != 0 && record.is_to_label(generation) {
                self.put(kind::GO_LABEL, &[u64::from(record.label())]);
            }
        }
    }

    pub(super) fn tell(&mut self, record: &Record, state: u64) -> Known {
        let here = matches!(state, RUNNING | SYSCALL);
        let thread = if here { self.thread } else { NONE };
        let root = u64::from(record.root());
        self.put(kind::GO_STATUS_STACK, &[record.id(), thread, state, root]);
        let known = Known::told(self.generation, state);
        record.set(known);
        known
    }

    /// What the reader knows of a task that is the caller's, once it has been told what it must know; `implied` is the
    /// state that the task is in if nothing is known. None: nothing can be told now.
    #[inline]
    pub(super) fn meet(&mut self, task: &Subject<'_>, implied: u64) -> Option<Known> {
        let record = task.record;
        let known = record.known();
        if known.generation() == self.generation && known.state() != NOBODY && record.id() == task.id {
            return Some(known);
        }
        self.meet_anew(task, known, implied)
    }

    #[cold]
    fn meet_anew(&mut self, task: &Subject<'_>, mut known: Known, implied: u64) -> Option<Known> {
        let record = task.record;
        if known.generation() < session::base() && !record.claim(session::base()) {
            known = record.known(); // somebody else has claimed it meanwhile
        }
        if known.generation() < session::base() || known.state() == NOBODY || record.id() != task.id {
            let told = self.introduce(task, implied);
            if told.is_none() {
                record.unclaim();
            }
            return told;
        }
        if known.generation() < self.generation {
            if known.generation() + 1 < self.generation {
                let (id, root) = (record.id(), record.root());
                let late = Late::Task {
                    id,
                    root,
                    state: known.state(),
                };
                LATE.lock().push((self.generation - 1, late));
            }
            known = self.tell(record, known.state());
        }
        Some(known)
    }

    /// The stack of its entry function alone.
    pub(super) fn root(&mut self, task: &Subject<'_>) -> u32 {
        let details = task.details;
        self.cache
            .root(details.entry(), details.code(), details.spawned())
    }

    #[cold]
    fn introduce(&mut self, task: &Subject<'_>, implied: u64) -> Option<Known> {
        if self.generation != session::first() && self.processor.is_none() {
            return None;
        }
        let root = self.root(task);
        task.record.name(task.id, root);
        if self.generation == session::first() {
            return Some(self.tell(task.record, implied));
        }
        Some(self.create(task.record, RUNNABLE, 0))
    }

    pub(super) fn create(&mut self, record: &Record, state: u64, stack: u32) -> Known {
        let root = u64::from(record.root());
        let kind = match state {
            WAITING => kind::GO_CREATE_BLOCKED,
            _ => kind::GO_CREATE,
        };
        self.put(kind, &[record.id(), root, u64::from(stack)]);
        let known = Known::told(self.generation, state);
        record.set(known);
        known
    }

    // ---- tasks ----

    /// A task was spawned. The thread holds a processor.
    pub(crate) fn created(&mut self, task: &Subject<'_>) {
        self.tell_own();
        if !task.record.claim(session::base()) {
            let known = task.record.known(); // it was met in this trace, and is the creator's
            if known.state() != NOBODY && task.record.id() == task.id {
                return; // the walk of the start has been faster
            }
        }
        let root = self.root(task);
        task.record.name(task.id, root);
        let own = self.task.map_or(0, |own| own.record.root());
        let stack = self.stack("spawn", task.details.spawned(), own);
        self.create(task.record, RUNNABLE, stack);
    }

    /// The thread holds this processor, and the task runs on it.
    #[inline]
    pub(crate) fn runs(&mut self, processor: Option<&'static ProcRecord>, task: &Subject<'_>) {
        let known = self.told_own == self.generation
            && self.holds(processor)
            && self
                .task
                .is_some_and(|own| std::ptr::eq(own.record, task.record) && !own.syscall);
        if !known {
            self.runs_anew(processor, task);
        }
    }

    #[cold]
    fn runs_anew(&mut self, processor: Option<&'static ProcRecord>, task: &Subject<'_>) {
        self.hold(processor);
        self.starts(task);
    }

    /// The task runs on the thread now.
    pub(crate) fn starts(&mut self, task: &Subject<'_>) {
        self.tell_own();
        match self.task {
            Some(own) if std::ptr::eq(own.record, task.record) => {
                if !own.syscall {
                    return;
                }
                self.end_syscall();
            }
            Some(_) => self.leaves(Leave::Stop("unspecified")),
            None => {}
        }
        self.starts_next(task);
    }

    /// As [`Ink::starts`], where there is no other task on the thread.
    #[inline]
    pub(crate) fn starts_next(&mut self, task: &Subject<'_>) {
        if self.processor.is_none() {
            return;
        }
        let Some(mut known) = self.meet(task, RUNNABLE) else {
            return;
        };
        if known.state() != RUNNABLE {
            if known.state() != WAITING {
                return session::give_up("a task was started that another worker runs");
            }
            known = known.counted();
            self.put(kind::GO_UNBLOCK, &[task.id, known.sequence(), 0]);
        }
        known = known.counted().now(RUNNING);
        self.put(kind::GO_START, &[task.id, known.sequence()]);
        task.record.set(known);
        self.task = Some(Own {
            record: task.record,
            syscall: false,
        });
        // In each generation, as those before it may be lost to whoever reads: thrown away by a flight recorder. Who runs as
        // one begins is named by `tell_own`.
        if task.record.is_to_label(self.generation) {
            self.label(task);
        }
    }

    /// Says the name of the task on the thread, if it has one.
    #[cold]
    pub(super) fn label(&mut self, task: &Subject<'_>) {
        if let Some(label) = task.label() {
            let label = tables::string(label);
            task.record.set_label(label);
            self.put(kind::GO_LABEL, &[u64::from(label)]);
        }
    }

    /// The task comes back without a processor: runnable.
    fn end_syscall(&mut self) {
        let Some(own) = self.task.take() else { return };
        self.put(kind::GO_SYSCALL_END_BLOCKED, &[]);
        own.record.set(own.record.known().now(RUNNABLE));
    }

    /// The task on the thread leaves it.
    pub(crate) fn leaves(&mut self, how: Leave) {
        self.tell_own();
        let Some(own) = self.task else { return };
        if own.syscall {
            return self.end_syscall();
        }
        self.task = None;
        let root = own.record.root();
        let (kind, state, (stack, reason)) = match how {
            Leave::Stop(reason) => (kind::GO_STOP, RUNNABLE, (root, self.cache.string(reason))),
            Leave::Block(reason, what, at) => {
                (kind::GO_BLOCK, WAITING, self.cache.wait(reason, what, at, root))
            }
        };
        let stack = self.with_frames(stack);
        self.put(kind, &[u64::from(reason), u64::from(stack)]);
        own.record.set(own.record.known().now(state));
    }

    /// The task was woken, and is the caller's. `by` is said where no task has done it: then the stack is the woken task's.
    pub(crate) fn unblocked(&mut self, task: &Subject<'_>, by: &'static str) {
        let Some(known) = self.meet(task, WAITING) else {
            return;
        };
        if known.state() != WAITING {
            return;
        }
        let stack = match self.task {
            Some(own) => self.with_frames(own.record.root()),
            None if self.walk.addresses().is_empty() => self.cache.without_place(by, task.record.root()),
            None => {
                let short = self.cache.without_place(by, 0);
                self.with_frames(short)
            }
        };
        let known = known.counted().now(RUNNABLE);
        self.put(kind::GO_UNBLOCK, &[task.id, known.sequence(), u64::from(stack)]);
        task.record.set(known);
    }

    /// The task on the thread is over. False: it could not be said, as the reader takes the task for one that does not run,
    /// and the thread has no processor to start it with.
    pub(crate) fn ended(&mut self, task: &Subject<'_>) -> bool {
        let runs = self.task.is_some_and(|own| std::ptr::eq(own.record, task.record));
        if !runs || self.processor.is_some() {
            self.starts(task); // most often it runs already
        }
        let Some(own) = self.task.take() else {
            return false;
        };
        let kind = if own.syscall {
            kind::GO_DESTROY_SYSCALL
        } else {
            kind::GO_DESTROY
        };
        self.put(kind, &[]);
        own.record.set(own.record.known().now(NOBODY));
        true
    }
}
