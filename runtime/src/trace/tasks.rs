//! What a thread writes of tasks: from the state in which the reader has them to what becomes of them.

use super::encode::{Code, kind};
use super::pen::{Ink, Subject};
use super::record::{Known, NOBODY, ProcRecord, RUNNABLE, RUNNING, Record, WAITING};
use super::{session, tables};
use crate::task::site::Site;
use std::hint::cold_path;

/// How a task leaves its worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leave {
    /// Runnable: Go's reason.
    Stop(&'static str),
    Wait(Site),
}

impl Leave {
    /// As Go has it.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Leave::Stop(reason) => reason,
            Leave::Wait(site) => site.reason().in_go(),
        }
    }
}

impl Ink {
    /// A task was spawned. The thread holds a processor.
    pub(crate) fn created(&mut self, task: Subject<'_>) {
        self.tell_own();
        if !task.record.claim(session::base()) {
            let known = task.record.known(); // it was met in this trace, and is the creator's
            if known.state() != NOBODY && task.record.id() == task.id {
                return; // the walk of the start has been faster
            }
        }
        let root = self.root(task);
        task.record.name(task.id, root);
        let own = self.task.map_or(0, |own| own.root());
        let stack = self.stack("spawn", task.details.spawned(), own);
        self.create(task.record, RUNNABLE, stack);
    }

    /// The task leaves the thread, on which it runs, with this processor.
    #[inline(always)]
    pub(crate) fn leaves_processor<'a>(
        &mut self,
        processor: Option<&'static ProcRecord>,
        (record, task): (&'static Record, impl FnOnce() -> Subject<'a>),
        how: Leave,
    ) {
        let known = self.told_own
            && !self.in_syscall
            && self.holds(processor)
            && self.task.is_some_and(|own| std::ptr::eq(own, record));
        if known {
            self.look_at_stack();
            self.leaves_known(record, how);
        } else {
            cold_path();
            self.leaves_anew(processor, task(), how);
        }
    }

    #[cold]
    fn leaves_anew(&mut self, processor: Option<&'static ProcRecord>, task: Subject<'_>, how: Leave) {
        self.hold(processor);
        self.starts(&task);
        self.look_at_stack();
        self.leaves(how);
    }

    /// The task runs on the thread now.
    #[inline]
    pub(crate) fn starts(&mut self, task: &Subject<'_>) {
        self.tell_own();
        if let Some(own) = self.task {
            if !self.in_syscall && std::ptr::eq(own, task.record) {
                return;
            }
            self.makes_room(task.record);
        }
        self.starts_next(task);
    }

    /// The task on the thread leaves it, for this one, or because it has come back without a processor.
    #[cold]
    fn makes_room(&mut self, task: &Record) {
        if self.task.is_some_and(|own| std::ptr::eq(own, task)) {
            self.end_syscall();
        } else {
            self.leaves(Leave::Stop("unspecified"));
        }
    }

    /// As [`Ink::starts`], where there is no other task on the thread.
    #[inline(always)]
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
        self.put_ordered(kind::GO_START, task.record, known, Code::default());
        // In each generation, as those before it may be lost to whoever reads: thrown away by a flight recorder. Who runs as
        // one begins is named by `tell_own`.
        task.record.set(known.named());
        self.task = Some(task.record);
        self.in_syscall = false;
        if !known.is_named() {
            self.label(*task);
        }
    }

    /// Says the name of the task on the thread, if it has one.
    #[cold]
    pub(super) fn label(&mut self, task: Subject<'_>) {
        if let Some(label) = task.label() {
            let label = tables::string(label);
            task.record.set_label(label);
            self.put(kind::GO_LABEL, &[u64::from(label)]);
        }
    }

    /// The task comes back without a processor: runnable.
    #[cold]
    fn end_syscall(&mut self) {
        let Some(record) = self.task.take() else { return };
        self.put(kind::GO_SYSCALL_END_BLOCKED, &[]);
        record.set(record.known().now(RUNNABLE));
    }

    /// The task on the thread leaves it.
    pub(crate) fn leaves(&mut self, how: Leave) {
        self.tell_own();
        match self.task {
            None => {}
            Some(_) if self.in_syscall => self.end_syscall(),
            Some(record) => self.leaves_known(record, how),
        }
    }

    /// The same for one that runs, as the reader knows.
    #[inline(always)]
    fn leaves_known(&mut self, record: &Record, how: Leave) {
        self.task = None;
        let (kind, state) = match how {
            Leave::Stop(_) => (kind::GO_STOP, RUNNABLE),
            Leave::Wait(_) => (kind::GO_BLOCK, WAITING),
        };
        let (stack, code) = self.cache.leave(how, record.root());
        if self.walked || code.is_empty() {
            cold_path();
            self.leaves_with_frames(kind, how, stack);
        } else {
            self.put_coded(kind, code);
        }
        record.set(record.known().now(state));
    }

    #[cold]
    fn leaves_with_frames(&mut self, kind: u8, how: Leave, stack: u32) {
        let reason = self.cache.string(how.reason());
        let stack = self.with_frames(stack);
        self.put(kind, &[u64::from(reason), u64::from(stack)]);
    }

    /// The task was woken, and is the caller's. `by` is said where no task has done it: then the stack is the woken task's.
    #[inline(always)]
    pub(crate) fn unblocked(&mut self, task: &Subject<'_>, by: &'static str) {
        let Some(known) = self.meet(task, WAITING) else {
            return;
        };
        if known.state() != WAITING {
            return;
        }
        let known = known.counted().now(RUNNABLE);
        let code = match self.task {
            _ if self.walked => Code::default(),
            Some(own) => self.cache.rooted(own.root()),
            None => self.cache.without_place(by, task.record.root()).1,
        };
        if code.is_empty() {
            cold_path();
            self.unblocked_with_frames(*task, by, known);
        } else {
            self.put_ordered(kind::GO_UNBLOCK, task.record, known, code);
        }
        task.record.set(known);
    }

    #[cold]
    fn unblocked_with_frames(&mut self, task: Subject<'_>, by: &'static str, known: Known) {
        let short = match self.task {
            Some(own) => own.root(),
            None if self.walked => self.cache.without_place(by, 0).0,
            None => self.cache.without_place(by, task.record.root()).0,
        };
        let stack = self.with_frames(short);
        self.put(kind::GO_UNBLOCK, &[task.id, known.sequence(), u64::from(stack)]);
    }

    /// The task on the thread is over. False: it could not be said, as the reader takes the task for one that does not run,
    /// and the thread has no processor to start it with.
    pub(crate) fn ended(&mut self, task: &Subject<'_>) -> bool {
        let runs = self.task.is_some_and(|own| std::ptr::eq(own, task.record));
        if !runs || self.processor.is_some() {
            self.starts(task); // most often it runs already
        }
        self.destroy()
    }

    /// The task on the thread is over. False: there is none.
    pub(super) fn destroy(&mut self) -> bool {
        let Some(record) = self.task.take() else {
            return false;
        };
        let kind = if self.in_syscall {
            kind::GO_DESTROY_SYSCALL
        } else {
            kind::GO_DESTROY
        };
        self.put(kind, &[]);
        record.set(record.known().now(NOBODY));
        true
    }
}
