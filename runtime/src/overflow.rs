//! What the overflow report says of the task: called in a signal handler, so nothing here allocates or locks.

use crate::current;
use bast_stack::fault::{self, FaultText};
use std::fmt::Write;
use std::io;

/// Installs the handler, once a process.
pub(crate) fn install() -> io::Result<()> {
    fault::install(describe)
}

fn describe(_address: usize, out: &mut FaultText) {
    let Some(worker) = current::worker() else { return };
    // SAFETY: validity: the worker of this thread lives as long as it. aliasing: shared borrow; the cell is this
    // thread's.
    let Some(task) = unsafe { worker.as_ref() }.current.get() else {
        return;
    };
    let _ = write!(out, "task {}", task.id());
    if let Some(name) = task.extra().and_then(|extra| extra.name.as_deref()) {
        let _ = write!(out, " \"{name}\"");
    }
    let _ = write!(out, ", spawned at {}", task.spawned_at.get());
}
