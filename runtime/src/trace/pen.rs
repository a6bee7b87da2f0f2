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

use super::encode::{
    BATCH_MAX, Batch, Code, EVENT_MAX, Event, NONE, THREE_BYTES, TWO_BYTES, UNIT_NANOS, kind,
};
use super::gate::Sheet;
use super::generation;
use super::record::{Known, NOBODY, PROC_RUNNING, ProcRecord, RUNNABLE, RUNNING, Record, SYSCALL, WAITING};
use super::session::{self, GATE};
use super::tables::Cache;
use super::walk::{self, Walk};
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

/// Of the cache.
const LINE: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pen(Sheet<Ink>);

/// The content of a sheet. What each event needs comes first: with the sheet's own words it fills two lines of the cache.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ink {
    pub(super) generation: u64,
    /// In units.
    now: u64,
    last: u64,
    scale: Scale,
    batch: Vec<u8>,
    pub(super) processor: Option<&'static ProcRecord>,
    /// The task on the thread, as far as the reader knows.
    pub(super) task: Option<&'static Record>,
    /// That one is without a processor.
    pub(super) in_syscall: bool,
    /// `tell_own` was through in this generation.
    pub(super) told_own: bool,
    /// Nothing was written since the trace began.
    pub(super) fresh: bool,
    /// The walk is of what is written now.
    pub(super) walked: bool,
    /// How many frames are walked; zero: none.
    pub(super) depth: u32,
    pub(super) cache: Cache,
    /// When to look whether the heap is to be told of, in units.
    pub(super) heap_due: u64,
    pub(super) walk: Walk,
    pub(super) thread: u64,
    batch_base: u64,
}

/// Before it a sheet has two words of its own.
const _: () = assert!(std::mem::offset_of!(Ink, walk) + 16 == 2 * LINE);

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
            now: 0,
            last: 0,
            scale: Scale::KERNEL,
            batch: Vec::new(),
            processor: None,
            task: None,
            in_syscall: false,
            told_own: false,
            fresh: true,
            walked: false,
            depth: 0,
            cache: Cache::new(),
            heap_due: 0,
            walk: Walk::default(),
            thread,
            batch_base: 0,
        }
    }

    #[inline]
    fn write<R>(&mut self, body: impl FnOnce(&mut Ink) -> R) -> R {
        self.look_at_clock();
        let result = body(self);
        if self.now >= self.heap_due {
            self.heap_if_due();
        }
        self.fresh = false;
        self.walked = false;
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
            self.heap_due = 0;
            self.cache.clear();
        }
        if to != 0 {
            self.scale = session::scale();
            self.depth = walk::depth();
        }
        self.told_own = false;
        self.generation = to;
    }

    // ---- bytes ----

    /// Appends an event: any. The two below are for the frequent ones. Each is once in the program: an event is written
    /// after a system call and much else, with nothing of this in the cache, and what counts is how many lines it takes.
    #[inline(never)]
    pub(super) fn put(&mut self, kind: u8, arguments: &[u64]) {
        self.append(kind, |event| {
            arguments.iter().for_each(|&argument| event.number(argument));
        });
    }

    /// Appends an event with these arguments.
    #[inline(never)]
    pub(super) fn put_coded(&mut self, kind: u8, arguments: Code) {
        let (now, since) = self.time();
        if self.is_full() || since >= TWO_BYTES {
            return self.put_coded_slowly(kind, arguments);
        }
        self.last = now;
        self.append_here(kind, |event| {
            event.number_of_two(since);
            event.code(arguments);
        });
    }

    /// Appends an event about a task, with one of the numbers that put its events in order, and what comes behind.
    #[inline(never)]
    pub(super) fn put_ordered(&mut self, kind: u8, record: &Record, known: Known, rest: Code) {
        let (now, since) = self.time();
        let (id, sequence) = (record.code(), known.sequence());
        if self.is_full() || id.is_empty() || since >= TWO_BYTES || sequence >= THREE_BYTES {
            return self.put_ordered_slowly(kind, record, known, rest);
        }
        self.last = now;
        self.append_here(kind, |event| {
            event.number_of_two(since);
            event.code(id);
            event.number_of_three(sequence);
            event.code(rest);
        });
    }

    #[inline(never)]
    fn put_coded_slowly(&mut self, kind: u8, arguments: Code) {
        self.append(kind, |event| event.code(arguments));
    }

    #[inline(never)]
    fn put_ordered_slowly(&mut self, kind: u8, record: &Record, known: Known, rest: Code) {
        self.append(kind, |event| {
            event.number(record.id());
            event.number(known.sequence());
            event.code(rest);
        });
    }

    /// `fill` adds the arguments, behind the time.
    #[inline(always)]
    fn append(&mut self, kind: u8, fill: impl FnOnce(&mut Event<'_>)) {
        if self.is_full() {
            self.begin_batch();
        }
        let (now, since) = self.time();
        self.last = now;
        self.append_here(kind, |event| {
            event.number(since);
            fill(event);
        });
    }

    /// In this batch, which is not full; `fill` adds the time too.
    #[inline(always)]
    fn append_here(&mut self, kind: u8, fill: impl FnOnce(&mut Event<'_>)) {
        let before = self.batch.len();
        Event::append(&mut self.batch, kind, fill);
        if before / LINE != self.batch.len() / LINE {
            fetch(self.batch.as_ptr().wrapping_add(before + 2 * LINE));
        }
    }

    /// The time of an event, and how long after the last one it is.
    #[inline(always)]
    fn time(&self) -> (u64, u64) {
        let now = self.now.max(self.last);
        (now, now - self.last)
    }

    /// Empty, or without room for any event.
    #[inline(always)]
    fn is_full(&self) -> bool {
        self.batch.len().wrapping_sub(1) >= BATCH_MAX - EVENT_MAX
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
        if !self.told_own {
            self.told_own = true;
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
        if let Some(record) = self.task
            && record.known().generation() < generation
        {
            let state = if self.in_syscall { SYSCALL } else { RUNNING };
            let known = self.tell(record, state);
            if !self.in_syscall && record.label() != 0 {
                self.put(kind::GO_LABEL, &[u64::from(record.label())]);
                record.set(known.named());
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
        self.meet_anew(*task, known, implied)
    }

    #[cold]
    fn meet_anew(&mut self, task: Subject<'_>, mut known: Known, implied: u64) -> Option<Known> {
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
    pub(super) fn root(&mut self, task: Subject<'_>) -> u32 {
        let details = task.details;
        self.cache
            .root(details.entry(), details.code(), details.spawned())
    }

    #[cold]
    fn introduce(&mut self, task: Subject<'_>, implied: u64) -> Option<Known> {
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
}
