//! What the scheduler tells the trace. Each function is called where a task or a processor is the caller's: before it is
//! given away, or after it was taken, so that the order of events is the order of things (`trace::gate`). A site costs one
//! load and a branch that is not taken while nothing is traced.

use super::inside::Inside;
use super::processor::Processor;
use super::shared::Shared;
use super::worker::{Settle, Worker};
use crate::current;
use crate::primitive::atomic::Acquire;
use crate::task::header::{Header, TaskRef};
use crate::task::slab;
use crate::task::state::Snapshot;
use crate::trace::{self, Leave, Pen, ProcRecord, Source, Subject};
use std::hint::cold_path;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

/// Bits for the ids of one runtime's tasks.
const ID_BITS: u32 = 40;

/// The task's id, unique in the process. Async-signal-safe.
pub(crate) fn id_of(task: TaskRef, runtime: u64) -> u64 {
    task.id() | runtime << ID_BITS
}

/// The task as the trace knows it. It is the caller's, or its record is locked.
#[inline]
fn subject<'a>(task: TaskRef, runtime: u64) -> Subject<'a> {
    // SAFETY: validity: headers are type-stable. aliasing: as in `TaskRef`'s `Deref`; what the extra owns stays while the
    // task is the caller's, which is longer than he keeps the subject.
    let header: &'a Header = unsafe { task.0.as_ref() };
    Subject {
        record: slab::record_of(task.0),
        id: id_of(task, runtime),
        details: header,
    }
}

impl trace::Details for Header {
    fn entry(&self) -> &'static str {
        (self.vtable().entry)()
    }

    fn code(&self) -> usize {
        self.vtable().run as usize
    }

    fn spawned(&self) -> &'static Location<'static> {
        self.spawned_at.get()
    }

    fn label(&self) -> Option<&str> {
        self.extra().and_then(|extra| extra.name.as_deref())
    }
}

/// As [`subject`], wherever the task is from.
fn subject_of<'a>(task: TaskRef) -> Subject<'a> {
    // SAFETY: validity: the task has not ended, so its runtime has not. aliasing: shared borrow.
    let runtime = task.runtime().map_or(0, |own| unsafe { own.as_ref() }.number);
    subject(task, runtime)
}

/// The task was spawned, and nobody has seen it yet.
#[inline(always)]
pub(crate) fn created(task: TaskRef) {
    if trace::on() {
        created_traced(task);
    }
}

#[cold]
fn created_traced(task: TaskRef) {
    let task = subject_of(task);
    with_pen_or_outside(Need::Processor, |ink, _| {
        ink.look_at_stack();
        ink.created(task);
    });
}

/// A worker's own stack has nothing of the program's.
fn on_home_stack() -> bool {
    // SAFETY: as in `inside_pen`.
    current::worker().is_some_and(|worker| unsafe { worker.as_ref() }.current.get().is_none())
}

/// The calling worker's pen, if it is inside the runtime.
fn inside_pen<'a>() -> Option<(&'a Pen, Option<&'static ProcRecord>)> {
    let worker = current::worker()?;
    // SAFETY: validity: workers live as long as their thread, which is this one. aliasing: shared borrow.
    let worker = unsafe { worker.as_ref() };
    worker.marking.is_inside().then(|| (&*worker.pen, held(worker)))
}

fn held(worker: &Worker) -> Option<&'static ProcRecord> {
    // SAFETY: validity: processors live as long as the runtime. aliasing: shared borrow.
    worker
        .processor
        .get()
        .map(|processor| unsafe { processor.as_ref() }.trace)
}

/// What an event takes that is written by whoever comes along.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// The reader must know of a processor on the thread.
    Processor,
}

/// Writes with the calling worker's pen, if it is inside the runtime and has what is needed, or else with the one of all
/// threads that are no workers, which `body` is told.
fn with_pen_or_outside(need: Need, body: impl FnOnce(&mut trace::Ink, bool)) {
    match (inside_pen(), need) {
        // SAFETY: it is the calling worker's; the bodies here write with what they are given.
        (Some((pen, _)), Need::Nothing) => unsafe { pen.write_own(|ink| body(ink, false)) },
        // SAFETY: as above.
        (Some((pen, held @ Some(_))), Need::Processor) => unsafe {
            pen.write_own(|ink| {
                ink.hold(held);
                body(ink, false);
            })
        },
        (None, Need::Nothing) => trace::outside_light(|ink| body(ink, true)),
        (_, Need::Processor) => trace::outside(|ink| body(ink, true)),
    };
}

/// The task was woken, by whoever calls, and is the caller's.
#[inline(always)]
pub(crate) fn unblocked(task: TaskRef) {
    if trace::on() {
        cold_path();
        unblocked_traced(task, true);
    }
}

/// The tasks were woken by the runtime, on a stack that is no task's, and are the caller's. One write for all of them.
#[inline]
pub(super) fn unblocked_all(tasks: &[TaskRef], runtime: u64) {
    if trace::on() && !tasks.is_empty() {
        cold_path();
        unblocked_all_traced(tasks, runtime);
    }
}

#[inline(never)]
fn unblocked_all_traced(tasks: &[TaskRef], runtime: u64) {
    with_pen_or_outside(Need::Nothing, |ink, outside| {
        let by = woken_by(outside);
        tasks.iter().for_each(|task| slab::record_of(task.0).fetch());
        for &task in tasks {
            ink.unblocked(&subject(task, runtime), by);
        }
    });
}

/// Who has woken where no task has.
fn woken_by(outside: bool) -> &'static str {
    if outside {
        "woken by another thread"
    } else {
        "woken by the runtime"
    }
}

/// The task was woken before it was left, which is seen only now: the caller has not done it.
#[inline(always)]
pub(super) fn unblocked_before(task: TaskRef) {
    if trace::on() {
        unblocked_traced(task, false);
    }
}

#[inline(never)]
fn unblocked_traced(task: TaskRef, by_caller: bool) {
    let task = subject_of(task);
    with_pen_or_outside(Need::Nothing, |ink, outside| {
        if by_caller && !on_home_stack() {
            ink.look_at_stack();
        }
        let by = if by_caller {
            woken_by(outside)
        } else {
            "woken before it waited"
        };
        ink.unblocked(&task, by);
    });
}

/// The task will never run, or never again.
pub(crate) fn given_up(task: TaskRef) {
    if trace::on() {
        let task = subject_of(task);
        trace::outside(|ink| _ = ink.ended(&task));
    }
}

/// The monitor has taken `processor` from `worker`, and has not given it away yet.
pub(crate) fn taken(worker: &Worker, processor: &Processor) {
    if trace::on() {
        worker.pen.write(|ink| ink.taken(processor.trace));
    }
}

impl Inside {
    fn number(&self) -> u64 {
        self.shared().number
    }

    /// Writes with the worker's pen.
    fn write<R>(&self, body: impl FnOnce(&mut trace::Ink) -> R) -> Option<R> {
        // SAFETY: we are the proof that the calling thread is this worker; the bodies here write with what they are given.
        unsafe { self.worker().pen.write_own(body) }
    }

    /// The worker has taken a processor into hand, for its task if it runs one.
    #[inline(always)]
    pub(super) fn trace_hold(&self) {
        if trace::on() {
            self.hold_traced();
        }
    }

    #[cold]
    fn hold_traced(&self) {
        let worker = self.worker();
        let task = worker.current.get().map(|task| subject(task, self.number()));
        self.write(|ink| {
            ink.hold(held(worker));
            if let Some(task) = task {
                ink.starts(&task);
            }
        });
    }

    /// The worker is about to let go of its processor.
    #[inline(always)]
    pub(super) fn trace_let_go(&self) {
        if trace::on() {
            self.let_go_traced();
        }
    }

    #[cold]
    fn let_go_traced(&self) {
        self.write(|ink| {
            if !self.at_home_stack() {
                ink.look_at_stack();
            }
            ink.let_go("processor given away", None);
        });
    }

    /// As [`Inside::trace_let_go`], by a blocking section, which knows where it is.
    #[inline(always)]
    pub(crate) fn trace_blocking(&self, at: &'static Location<'static>) {
        if trace::on() {
            let worker = self.worker();
            let task = worker.current.get().map(|task| subject(task, self.number()));
            self.write(|ink| {
                ink.hold(held(worker));
                if let Some(task) = task {
                    ink.starts(&task);
                }
                ink.look_at_stack();
                ink.let_go("blocking", Some(at));
            });
        }
    }

    /// The running task is about to be left as `settle` says, for `next` if there is one.
    #[inline(always)]
    pub(super) fn trace_leave(&self, settle: Settle, next: Option<TaskRef>) {
        if trace::on() {
            cold_path();
            self.leave_traced(settle, next);
        }
    }

    #[inline(never)]
    fn leave_traced(&self, settle: Settle, next: Option<TaskRef>) {
        let worker = self.worker();
        let (task, how) = match settle {
            Settle::Park(task) => (task, Leave::Wait(task.site().expect("noted before"))),
            Settle::Yield(task) | Settle::Global(task) => (task, Leave::Stop("runtime.Gosched")),
            Settle::Preempted(task) => (task, Leave::Stop("preempted")),
            Settle::None | Settle::Dead(_) => return,
        };
        let left = slab::record_of(task.0);
        let next = next.map(|next| subject(next, self.number()));
        if let Some(next) = &next {
            next.record.fetch();
        }
        self.write(|ink| {
            ink.leaves_processor(held(worker), (left, || subject(task, self.number())), how);
            if let Some(next) = &next {
                ink.starts_next(next);
            }
        });
    }

    /// The worker, which runs nothing, is about to run `task`.
    #[inline(always)]
    pub(super) fn trace_start(&self, task: Option<TaskRef>) {
        if trace::on()
            && let Some(task) = task
        {
            cold_path();
            self.start_traced(task);
        }
    }

    #[inline(never)]
    fn start_traced(&self, task: TaskRef) {
        let task = subject(task, self.number());
        let worker = self.worker();
        self.write(|ink| {
            ink.hold(held(worker));
            ink.starts(&task);
        });
    }

    /// The running task is over.
    #[inline(always)]
    pub(super) fn trace_end(&self, task: TaskRef) {
        if trace::on() {
            self.end_traced(task);
        }
    }

    #[cold]
    fn end_traced(&self, task: TaskRef) {
        let task = subject(task, self.number());
        let worker = self.worker();
        let said = self.write(|ink| {
            ink.hold(held(worker));
            ink.ended(&task)
        });
        if said == Some(false) {
            trace::outside(|ink| _ = ink.ended(&task));
        }
    }

    /// Writes about the running task.
    pub(crate) fn annotate<R>(&self, body: impl FnOnce(&mut trace::Ink) -> R) -> Option<R> {
        let worker = self.worker();
        let task = subject(worker.current.get()?, self.number());
        self.write(|ink| {
            ink.hold(held(worker));
            ink.starts(&task);
            ink.look_at_stack();
            body(ink)
        })
    }
}

/// Makes the runtime known to traces.
pub(super) fn add_source(shared: &Arc<Shared>) {
    let weak: Weak<Shared> = Arc::downgrade(shared);
    trace::add_source(weak);
}

impl Source for Shared {
    fn tell_workers(&self) {
        let workers = self.workers.lock().clone();
        for worker in workers {
            while !is_settled(&worker) {
                trace::wait_a_moment();
            }
            trace::found(&worker.pen, || {
                let processor = NonNull::new(worker.holds.load(Acquire));
                // SAFETY: validity: processors live as long as the runtime. aliasing: shared borrow.
                let processor = processor.map(|processor| unsafe { processor.as_ref() }.trace);
                // Without a processor and inside it sleeps beside its task, which waits or is queued.
                let runs = processor.is_some() || !worker.marking.is_inside();
                let task = worker.current.get().filter(|_| runs);
                (processor, task.map(|task| subject(task, self.number)))
            });
        }
    }

    fn tell_tasks(&self) {
        self.slab.for_each(|task| {
            trace::outside_light(|ink| {
                let record = slab::record_of(task.0);
                if !ink.claim(record) {
                    return;
                }
                // Claimed, so it cannot end before the record is let go of.
                match task.state.snapshot() {
                    Snapshot::Done => record.unclaim(),
                    now => ink.found_waiting(subject(task, self.number), now == Snapshot::Parked),
                }
            });
        });
    }
}

/// Has the worker seen that a trace has begun, or will it before it tells or changes anything?
fn is_settled(worker: &Worker) -> bool {
    !worker.marking.is_inside() || worker.holds.load(Acquire).is_null() || trace::has_written(&worker.pen)
}
