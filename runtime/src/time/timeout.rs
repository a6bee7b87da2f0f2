//! A bound on every wait of a piece of code.

use super::clock::{self, NEVER};
use crate::sched::inside::Inside;
use std::fmt;
use std::time::Duration;

/// Runs `f` with a deadline: no call of bast in it waits longer than `duration` from now.
///
/// When the time is over, reads and writes fail with [`TimedOut`](std::io::ErrorKind::TimedOut), sleeps return
/// early, and so on; `f` sees that and comes to its end by itself, as it would on any other error. Nothing is
/// injected and nothing is lost: what `f` returns is handed back in either case. A `f` that computes without waiting
/// is not interrupted. Timeouts nest; the earliest counts. A [context](crate::context) bounds code in the same way, and can
/// also be cancelled.
///
/// ```
/// # use std::time::Duration;
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let late = bast::time::timeout(Duration::from_millis(5), || {
///     bast::time::sleep(Duration::from_secs(60));
///     "woken"
/// });
/// assert_eq!(late.unwrap_err().into_inner(), "woken");
/// assert_eq!(bast::time::timeout(Duration::from_secs(60), || 1).unwrap(), 1);
/// # }) }
/// ```
///
/// # Errors
/// [`Elapsed`], with `f`'s value, if the deadline had passed when `f` returned.
///
/// # Panics
/// Outside a task, and with `f`'s panic.
#[track_caller]
pub fn timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed<T>> {
    let Some(inside) = Inside::enter() else {
        panic!("bast: time::timeout needs a task: call it inside bast::run")
    };
    let task = inside.task();
    drop(inside);
    let outer = task.deadline.get();
    let deadline = outer.min(clock::after(duration));
    task.deadline.set(deadline);
    let restore = Restore(task, outer);
    let value = f();
    drop(restore);
    if deadline != NEVER && clock::now() >= deadline {
        Err(Elapsed { value })
    } else {
        Ok(value)
    }
}

/// Puts the outer deadline back, also when `f` panics.
struct Restore(crate::task::header::TaskRef, u64);

impl Drop for Restore {
    fn drop(&mut self) {
        self.0.deadline.set(self.1);
    }
}

/// The time of a [`timeout`] was over when its code returned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Elapsed<T> {
    value: T,
}

impl<T> Elapsed<T> {
    /// What the code returned nevertheless.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> fmt::Debug for Elapsed<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Elapsed(..)")
    }
}

impl<T> fmt::Display for Elapsed<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the deadline has passed")
    }
}

impl<T> std::error::Error for Elapsed<T> {}
