//! The execution trace, in Go's format.

mod encode;
mod flight;
mod gate;
mod marks;
mod name;
mod outbox;
mod pen;
mod record;
mod registry;
mod session;
mod tables;
mod user;

pub use flight::{FlightRecorder, Recording};
pub use marks::{UserTask, log, region, task};
pub(crate) use pen::{Ink, Leave, Pen, Subject};
pub(crate) use record::{ProcRecord, Record};
pub(crate) use registry::{
    Source, TABLE_LEN, add_pen, add_processor, add_runtime, add_source, add_table, end_pen, new_table,
};
pub(crate) use user::start_from_environment;
pub use user::{Guard, Options, Summary, is_enabled, start, stop};

use std::panic::Location;

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
        ink.let_go("", Location::caller());
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
