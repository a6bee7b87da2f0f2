//! What is written for the trace rather than for the scheduler: what its start finds, what its user says, and what its
//! pause ends.

use super::encode::kind;
use super::pen::{Ink, Pen, Subject};
use super::record::{Known, NOBODY, ProcRecord, RUNNABLE, RUNNING, Record, SYSCALL, WAITING};
use super::tasks::Leave;
use super::{session, tables};
use crate::task::site::{Reason, Site};
use std::panic::Location;

/// Writes what a worker does: `look` says which processor it holds, and which task is on its thread.
///
/// After a pause a task may come into the trace only by being created and started on a processor. For one that has none
/// the processor of the threads that are no workers is lent, by holding their pen meanwhile. (Their lock is taken first; no
/// writer of a worker takes it within its own.)
pub(crate) fn found<'a>(
    pen: &Pen,
    look: impl FnOnce() -> (Option<&'static ProcRecord>, Option<Subject<'a>>),
) {
    let tell = |lent| {
        pen.write(|ink| {
            let (processor, task) = look();
            ink.found(processor, task, lent);
        })
    };
    if session::base() == session::first() {
        tell(None);
    } else {
        let outside = super::registry::outside();
        outside.pen.write(|_| tell(Some(outside.processor)));
    }
}

impl Ink {
    /// The task of the thread runs, and the thread holds `processor`.
    fn found(
        &mut self,
        processor: Option<&'static ProcRecord>,
        task: Option<Subject<'_>>,
        lent: Option<&'static ProcRecord>,
    ) {
        if !self.fresh {
            return; // the thread has told more
        }
        self.hold(processor);
        let Some(task) = task else { return };
        let record = task.record;
        if self.generation != session::first() {
            if processor.is_some() {
                return self.starts(&task);
            }
            if lent.is_some() && record.known().generation() < session::base() {
                self.hold(lent);
                self.starts(&task);
                self.lose(false, "goes on without a processor", None);
            }
            return;
        }
        let state = if processor.is_some() { RUNNING } else { SYSCALL };
        if record.claim(session::base()) {
            let root = self.root(task);
            record.name(task.id, root);
            let known = self.tell(record, state);
            self.task = Some(record);
            self.in_syscall = state == SYSCALL;
            if state == RUNNING {
                record.set(known.named());
                self.label(task);
            }
        }
    }

    /// Takes the record of a task that was not told of since the trace began.
    pub(crate) fn claim(&self, record: &Record) -> bool {
        record.claim(session::base())
    }

    /// The same for a task that runs nowhere. The caller has claimed its record, and writes for no worker.
    pub(crate) fn found_waiting(&mut self, task: Subject<'_>, waits: bool) {
        let root = self.root(task);
        task.record.name(task.id, root);
        if self.generation == session::first() {
            self.tell(task.record, if waits { WAITING } else { RUNNABLE });
            return;
        }
        self.hold(Some(super::registry::outside().processor));
        let state = if waits { WAITING } else { RUNNABLE };
        match task.label() {
            None => _ = self.create(task.record, state, 0),
            Some(label) => self.create_labelled(task.record, state, label),
        }
        self.let_go("", None);
    }

    /// As `create`, for a task with a name: only a task that runs can say it, so this one does for no time. Its record is
    /// the caller's until all of it is written.
    fn create_labelled(&mut self, record: &Record, state: u64, label: &str) {
        let root = u64::from(record.root());
        let leave = match state {
            WAITING => kind::GO_BLOCK,
            _ => kind::GO_STOP,
        };
        let known = Known::told(self.generation, state).counted();
        let (label, reason) = (tables::string(label), u64::from(self.cache.string("unspecified")));
        self.put(kind::GO_CREATE, &[record.id(), root, 0]);
        self.put(kind::GO_START, &[record.id(), known.sequence()]);
        self.put(kind::GO_LABEL, &[u64::from(label)]);
        self.put(leave, &[reason, root]);
        record.set_label(label);
        record.set(known.named());
    }

    // ---- annotations ----

    /// An event of the task on the thread: `kind` with `arguments` and the stack of a call.
    pub(super) fn annotate(
        &mut self,
        kind: u8,
        arguments: &[u64],
        what: &'static str,
        at: &'static Location<'static>,
    ) -> bool {
        self.tell_own();
        let Some(record) = self.task.filter(|_| !self.in_syscall) else {
            return false;
        };
        let stack = self.stack(what, at, record.root());
        let mut all = [0; 5];
        all[..arguments.len()].copy_from_slice(arguments);
        all[arguments.len()] = u64::from(stack);
        self.put(kind, &all[..=arguments.len()]);
        true
    }

    /// The number of processors, said by `task`, which is started for it on `processor`.
    pub(super) fn processors_are(
        &mut self,
        count: u64,
        task: Subject<'_>,
        processor: &'static ProcRecord,
        lost: u64,
    ) {
        self.hold(Some(processor));
        if self.meet(&task, WAITING).is_none() {
            return;
        }
        self.starts(&task);
        self.annotate(kind::PROCS_CHANGE, &[count], "trace", task.details.spawned());
        self.heap();
        if lost > 0 {
            let text = format!("{lost} generations were not written, as the writer could not keep up");
            let key = u64::from(self.cache.string("lost"));
            let text = tables::passing(self.generation, &text);
            self.annotate(kind::USER_LOG, &[0, key, text], "trace", task.details.spawned());
        }
        self.leaves(Leave::Wait(Site::new(Reason::Trace, task.details.spawned())));
        self.let_go("", None);
    }

    /// A task of which the reader knows is over, wherever it was. The thread holds a processor, and no task.
    pub(super) fn bury(&mut self, record: &Record) {
        let mut known = record.known();
        if !matches!(known.state(), RUNNABLE | WAITING) {
            return;
        }
        if known.generation() < self.generation {
            known = self.tell(record, known.state());
        }
        if known.state() == WAITING {
            known = known.counted();
            self.put(kind::GO_UNBLOCK, &[record.id(), known.sequence(), 0]);
        }
        known = known.counted();
        self.put(kind::GO_START, &[record.id(), known.sequence()]);
        self.put(kind::GO_DESTROY, &[]);
        known = known.now(NOBODY);
        record.set(known);
    }

    /// Takes everything from the thread, so that the reader sees it idle with no task.
    pub(super) fn strip(&mut self) {
        self.tell_own();
        self.destroy();
        self.lose(false, "", None);
    }
}
