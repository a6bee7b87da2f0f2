//! The execution trace, in Go's format, for Go's tools; [the guide](crate::guide::tracing) says how to use it.
//!
//! # Goal
//! See what the scheduler did to each task, with tools that people know, on programs in production: at a cost that allows to
//! leave it on, at no cost that can be measured while it is off, and never with a trace that the tools reject.
//!
//! # Rejected ways
//! *A format of our own*: nobody has a viewer for it. *A lock-free ring a worker, sorted afterwards*: Go's format has its own
//! means to put events of several threads in order, numbers drawn by who owns what changes, and the scheduler knows who that
//! is. *To stop all workers at the start and at each generation*: tasks in user code cannot be stopped.
//!
//! # Chosen way
//! | file | what |
//! |---|---|
//! | `gate` | the protocol: who writes into which generation; a model in `loom-tests` |
//! | `pen`, `tasks`, `holding`, `found` | what a thread writes: from what the reader knows to what has happened |
//! | `record` | what the reader knows of each task and processor |
//! | `tables`, `name`, `encode` | stacks by `#[track_caller]`, readable names, bytes |
//! | `walk`, `symbols` | stacks by frame pointers, if asked for, and their names |
//! | `heap` | an allocator that counts |
//! | `samples` | what the workers compute, from `profile` |
//! | `session` | the start, which finds out what everybody does; generations; the end |
//! | `generation` | one as it stands in a file, in the buffers it was written into |
//! | `outbox`, `flight` | where generations go |
//! | `registry` | all that can be in a trace |
//! | `user`, `marks` | the interface |
//!
//! The scheduler's side is `sched/traced`. Facts on the format: Go's `internal/trace` and `runtime/trace*.go`.
//!
//! # Several runtimes
//! A trace is of the process. Tasks of the nth runtime have its number in the upper bits of their ids; processors are numbered
//! through, and those of a runtime that has ended go to the next one; threads have the system's numbers.

mod encode;
mod flight;
mod found;
mod gate;
mod generation;
mod heap;
mod holding;
mod marks;
mod name;
mod outbox;
mod pen;
mod record;
mod registry;
mod samples;
mod session;
mod symbols;
mod tables;
mod tasks;
mod user;
mod walk;

pub use flight::{FlightRecorder, Recording};
pub(crate) use found::found;
pub use heap::CountedHeap;
pub use marks::{UserTask, log, region, task};
pub(crate) use pen::{Details, Ink, Pen, Subject};
pub(crate) use record::{ProcRecord, Record};
pub(crate) use registry::{
    Source, TABLE_LEN, add_pen, add_processor, add_runtime, add_source, add_table, end_pen, new_table,
};
pub(crate) use tasks::Leave;
pub(crate) use user::start_from_environment;
pub use user::{Guard, Options, Summary, is_enabled, start, stop};

/// Is anything traced? One load.
#[inline(always)]
pub(crate) fn on() -> bool {
    session::GATE.is_open()
}

/// Writes for a thread that is no worker, with a processor of its own.
pub(crate) fn outside(body: impl FnOnce(&mut Ink)) -> Option<()> {
    let outside = registry::outside();
    outside.pen.write(|ink| {
        ink.hold(Some(outside.processor));
        body(ink);
        ink.let_go("", None);
    })
}

/// As [`outside`], without a processor.
pub(crate) fn outside_light(body: impl FnOnce(&mut Ink)) -> Option<()> {
    registry::outside().pen.write(body)
}

/// Has the thread written in the generation of the moment?
pub(crate) fn has_written(pen: &Pen) -> bool {
    pen.generation() >= session::base()
}

/// For whoever waits for a worker to come to a point.
pub(crate) fn wait_a_moment() {
    std::thread::park_timeout(std::time::Duration::from_micros(50));
}
