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
use super::record::{
    Known, NOBODY, PROC_IDLE, PROC_RUNNING, ProcRecord, RUNNABLE, RUNNING, Record, SYSCALL, WAITING,
};
use super::session::{self, GATE};
use super::tables::{self, Cache};
use super::walk::Walk;
use crate::sys::lock::{Lock, Rank};
use crate::sys::membarrier;
use crate::time::clock;
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) record: &'static Record,
    /// Unique in the process.
    pub(crate) id: u64,
    /// Gives the type name of its closure.
    pub(crate) entry: fn() -> &'static str,
    /// Where the code lies that runs its closure.
    pub(crate) code: usize,
    pub(crate) spawned: &'static Location<'static>,
    /// The name it was given.
    pub(crate) label: Option<&'a str>,
}

impl Subject<'_> {
    /// The format has no empty ones.
    pub(super) fn label(&self) -> Option<&str> {
        self.label.filter(|label| !label.is_empty())
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

/// See the module.
#[derive(Debug)]
pub(crate) struct Pen(Sheet<Ink>);

/// The content of a sheet.
#[derive(Debug)]
pub(crate) struct Ink {
    pub(super) thread: u64,
    pub(super) generation: u64,
    /// In units.
    now: u64,
    last: u64,
    batch_base: u64,
    batch: Vec<u8>,
    pub(super) processor: Option<&'static ProcRecord>,
    pub(super) task: Option<Own>,
    /// The generation in which `tell_own` was through.
    told_own: u64,
    /// Nothing was written since the trace began.
    pub(super) fresh: bool,
    pub(super) cache: Cache,
    pub(super) walk: Walk,
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
            thread,
            generation: 0,
            now: 0,
            last: 0,
            batch_base: 0,
            batch: Vec::new(),
            processor: None,
            task: None,
            told_own: 0,
            fresh: true,
            cache: Cache::new(),
            walk: Walk::default(),
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

    fn look_at_clock(&mut self) {
        self.now = clock::now() / UNIT_NANOS;
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
        self.generation = to;
    }

    // ---- bytes ----

    pub(super) fn put(&mut self, kind: u8, arguments: &[u64]) {
        if self.batch.len() + EVENT_MAX > BATCH_MAX {
            self.hand_over();
        }
        let now = self.now.max(self.last);
        if self.batch.is_empty() {
            self.begin_batch(now);
        }
        let mut event = Event::new(&mut self.batch, kind);
        event.number(now - self.last);
        arguments.iter().for_each(|&argument| event.number(argument));
        event.end();
        self.last = now;
    }

    #[cold]
    fn begin_batch(&mut self, now: u64) {
        if self.batch.capacity() == 0 {
            self.batch = generation::spare_buffer();
        }
        self.batch_base = now;
        self.last = now;
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
            && processor.known().generation < generation
        {
            self.put(kind::PROC_STATUS, &[processor.number, PROC_RUNNING]);
            processor.set(Known {
                generation,
                state: PROC_RUNNING,
                sequence: 0,
            });
        }
        if let Some(Own { record, syscall }) = self.task
            && record.known().generation < generation
        {
            let state = if syscall { SYSCALL } else { RUNNING };
            self.tell(record, state);
        }
    }

    pub(super) fn tell(&mut self, record: &Record, state: u64) -> Known {
        let here = matches!(state, RUNNING | SYSCALL);
        let thread = if here { self.thread } else { NONE };
        let root = u64::from(record.root());
        self.put(kind::GO_STATUS_STACK, &[record.id(), thread, state, root]);
        let known = Known {
            generation: self.generation,
            state,
            sequence: 0,
        };
        record.set(known);
        known
    }

    /// What the reader knows of a task that is the caller's, once it has been told what it must know; `implied` is the
    /// state that the task is in if nothing is known. None: nothing can be told now.
    pub(super) fn meet(&mut self, task: &Subject<'_>, implied: u64) -> Option<Known> {
        let record = task.record;
        let mut known = record.known();
        if known.generation < session::base() && !record.claim(session::base()) {
            known = record.known(); // somebody else has claimed it meanwhile
        }
        if known.generation < session::base() || known.state == NOBODY || record.id() != task.id {
            let told = self.introduce(task, implied);
            if told.is_none() {
                record.unclaim();
            }
            return told;
        }
        if known.generation < self.generation {
            if known.generation + 1 < self.generation {
                let (id, root) = (record.id(), record.root());
                let late = Late::Task {
                    id,
                    root,
                    state: known.state,
                };
                LATE.lock().push((self.generation - 1, late));
            }
            known = self.tell(record, known.state);
        }
        Some(known)
    }

    fn introduce(&mut self, task: &Subject<'_>, implied: u64) -> Option<Known> {
        if self.generation != session::first() && self.processor.is_none() {
            return None;
        }
        let root = self.cache.root((task.entry)(), task.code, task.spawned);
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
        let known = Known {
            generation: self.generation,
            state,
            sequence: 0,
        };
        record.set(known);
        known
    }

    // ---- processors ----

    /// The thread holds this processor now, or none.
    pub(crate) fn hold(&mut self, processor: Option<&'static ProcRecord>) {
        let same = match (self.processor, processor) {
            (Some(old), Some(new)) => std::ptr::eq(old, new),
            (None, None) => true,
            _ => false,
        };
        self.tell_own();
        if same {
            return;
        }
        if self.processor.is_some() {
            self.lose(true, "user code, its processor taken", None);
        }
        if let Some(processor) = processor {
            self.take(processor);
        }
    }

    fn take(&mut self, processor: &'static ProcRecord) {
        let known = processor.known();
        let generation = self.generation;
        let mut sequence = known.sequence;
        if known.generation < session::first() || known.generation == 0 {
            self.put(kind::PROC_STATUS, &[processor.number, PROC_RUNNING]);
            sequence = 0;
        } else {
            if known.state != PROC_IDLE {
                return session::give_up("a processor was taken that another worker holds");
            }
            if known.generation < generation {
                if known.generation + 1 < generation {
                    LATE.lock()
                        .push((generation - 1, Late::Processor(processor.number)));
                }
                self.put(kind::PROC_STATUS, &[processor.number, PROC_IDLE]);
                sequence = 0;
            }
            sequence += 1;
            self.put(kind::PROC_START, &[processor.number, sequence]);
        }
        processor.set(Known {
            generation,
            state: PROC_RUNNING,
            sequence,
        });
        self.processor = Some(processor);
    }

    /// The thread's processor goes; the task, if it runs one, goes on without. `stolen`: the monitor took it. Without a
    /// place: no line of the program has asked for it.
    pub(super) fn lose(&mut self, stolen: bool, what: &'static str, at: Option<&'static Location<'static>>) {
        let Some(processor) = self.processor.take() else {
            return;
        };
        let mut known = processor.known();
        if let Some(own) = &mut self.task {
            own.syscall = true;
            let record = own.record;
            let short = match at {
                Some(at) => self.cache.stack(what, at, record.root()),
                None => self.cache.without_place(what, record.root()),
            };
            let stack = match stolen {
                true => short, // it was elsewhere then
                false => self.with_frames(short),
            };
            known.sequence += 1;
            self.put(kind::GO_SYSCALL_BEGIN, &[known.sequence, u64::from(stack)]);
            record.set(Known {
                state: SYSCALL,
                ..record.known()
            });
        }
        if stolen {
            known.sequence += 1;
            self.put(kind::PROC_STEAL, &[processor.number, known.sequence, self.thread]);
        } else {
            self.put(kind::PROC_STOP, &[]);
        }
        processor.set(Known {
            state: PROC_IDLE,
            ..known
        });
    }

    /// The thread gives its processor away before a call that blocks, or before it sleeps.
    pub(crate) fn let_go(&mut self, what: &'static str, at: Option<&'static Location<'static>>) {
        self.tell_own();
        self.lose(false, what, at);
    }

    /// The monitor has taken the processor from the thread. Nothing if the thread has noticed before.
    pub(crate) fn taken(&mut self, processor: &'static ProcRecord) {
        if self.processor.is_some_and(|own| std::ptr::eq(own, processor)) {
            self.hold(None);
        }
    }

    // ---- tasks ----

    /// A task was spawned. The thread holds a processor.
    pub(crate) fn created(&mut self, task: &Subject<'_>) {
        self.tell_own();
        if !task.record.claim(session::base()) {
            let known = task.record.known(); // it was met in this trace, and is the creator's
            if known.state != NOBODY && task.record.id() == task.id {
                return; // the walk of the start has been faster
            }
        }
        let root = self.cache.root((task.entry)(), task.code, task.spawned);
        task.record.name(task.id, root);
        let own = self.task.map_or(0, |own| own.record.root());
        let stack = self.stack("spawn", task.spawned, own);
        self.create(task.record, RUNNABLE, stack);
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
        if self.processor.is_none() {
            return;
        }
        let Some(mut known) = self.meet(task, RUNNABLE) else {
            return;
        };
        if known.state == WAITING {
            known.sequence += 1;
            self.put(kind::GO_UNBLOCK, &[task.id, known.sequence, 0]);
            known.state = RUNNABLE;
        }
        if known.state != RUNNABLE {
            return session::give_up("a task was started that another worker runs");
        }
        known.sequence += 1;
        self.put(kind::GO_START, &[task.id, known.sequence]);
        known.state = RUNNING;
        task.record.set(known);
        self.task = Some(Own {
            record: task.record,
            syscall: false,
        });
        // In each generation, as those before it may be lost to whoever reads: thrown away by a flight recorder.
        if task.record.is_to_label(self.generation)
            && let Some(label) = task.label()
        {
            let label = tables::string(label);
            self.put(kind::GO_LABEL, &[label]);
        }
    }

    /// The task comes back without a processor: runnable.
    fn end_syscall(&mut self) {
        let Some(own) = self.task.take() else { return };
        self.put(kind::GO_SYSCALL_END_BLOCKED, &[]);
        own.record.set(Known {
            state: RUNNABLE,
            ..own.record.known()
        });
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
        let (kind, state, reason, stack) = match how {
            Leave::Stop(reason) => (kind::GO_STOP, RUNNABLE, reason, self.with_frames(root)),
            Leave::Block(reason, what, at) => {
                let stack = self.stack(what, at, root);
                (kind::GO_BLOCK, WAITING, reason, stack)
            }
        };
        let reason = self.cache.string(reason);
        self.put(kind, &[u64::from(reason), u64::from(stack)]);
        let known = own.record.known();
        own.record.set(Known { state, ..known });
    }

    /// The task was woken, and is the caller's. `by` is said where no task has done it: then the stack is the woken task's.
    pub(crate) fn unblocked(&mut self, task: &Subject<'_>, by: &'static str) {
        let Some(mut known) = self.meet(task, WAITING) else {
            return;
        };
        if known.state != WAITING {
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
        known.sequence += 1;
        known.state = RUNNABLE;
        self.put(kind::GO_UNBLOCK, &[task.id, known.sequence, u64::from(stack)]);
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
        own.record.set(Known {
            state: NOBODY,
            ..own.record.known()
        });
        true
    }
}
