//! The user's own words in a trace: tasks, regions, logs.

use super::encode::kind;
use super::{Ink, session, tables};
use crate::primitive::atomic::{AtomicU64, Relaxed};
use crate::sched::inside::Inside;
use std::panic::Location;

static NEXT_TASK: AtomicU64 = AtomicU64::new(1);

/// A piece of work that a person would name, such as one request, on however many tasks of the runtime it is done. Go's
/// `runtime/trace.Task`. It ends when dropped.
///
/// ```
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let request = std::sync::Arc::new(bast::trace::task("request"));
/// let same = std::sync::Arc::clone(&request);
/// bast::spawn(move || same.region("parse", || { /* ... */ })).join().unwrap();
/// request.log("status", "200");
/// let inner = request.task("look up"); // a task within the task
/// drop(inner);
/// # }) }
/// ```
///
/// Costs a counter while nothing is traced. What is said outside the runtime's tasks is not in the trace.
#[derive(Debug)]
#[must_use = "the task ends when it is dropped"]
pub struct UserTask {
    id: u64,
    at: &'static Location<'static>,
}

/// Begins a [`UserTask`].
#[track_caller]
pub fn task(name: &str) -> UserTask {
    UserTask::begin(0, name, Location::caller())
}

/// Runs `body` as a region called `name`: a stretch of time of the calling task, shown as such. Regions nest.
///
/// ```
/// let sum: u64 = bast::trace::region("add up", || (1..=10).sum());
/// assert_eq!(sum, 55);
/// ```
///
/// It takes a closure, and gives no guard, as regions of one task must end in the reverse order of their beginnings, or
/// tools reject the trace.
#[track_caller]
pub fn region<T>(name: &str, body: impl FnOnce() -> T) -> T {
    region_of(0, name, Location::caller(), body)
}

/// A message at this point of the calling task.
#[track_caller]
pub fn log(key: &str, value: &str) {
    log_of(0, key, value, Location::caller());
}

impl UserTask {
    fn begin(parent: u64, name: &str, at: &'static Location<'static>) -> UserTask {
        let id = NEXT_TASK.fetch_add(1, Relaxed);
        say(|ink| {
            let name = u64::from(tables::string(name));
            ink.annotate(kind::USER_TASK_BEGIN, &[id, parent, name], "trace task", at)
        });
        UserTask { id, at }
    }

    /// Begins a task within this one.
    #[track_caller]
    pub fn task(&self, name: &str) -> UserTask {
        UserTask::begin(self.id, name, Location::caller())
    }

    /// As [`region`], for this task.
    #[track_caller]
    pub fn region<T>(&self, name: &str, body: impl FnOnce() -> T) -> T {
        region_of(self.id, name, Location::caller(), body)
    }

    /// As [`log`], for this task.
    #[track_caller]
    pub fn log(&self, key: &str, value: &str) {
        log_of(self.id, key, value, Location::caller());
    }
}

impl Drop for UserTask {
    fn drop(&mut self) {
        let (id, at) = (self.id, self.at);
        say(|ink| ink.annotate(kind::USER_TASK_END, &[id], "trace task", at));
    }
}

/// Writes for the calling task, if there is one and anything is traced.
#[inline]
fn say(body: impl FnOnce(&mut Ink) -> bool) -> bool {
    super::on() && say_inside(body)
}

#[cold]
fn say_inside(body: impl FnOnce(&mut Ink) -> bool) -> bool {
    Inside::enter().is_some_and(|inside| inside.annotate(body).unwrap_or(false))
}

fn log_of(task: u64, key: &str, value: &str, at: &'static Location<'static>) {
    say(|ink| {
        let key = u64::from(tables::string(key));
        let value = tables::passing(ink.generation(), value);
        ink.annotate(kind::USER_LOG, &[task, key, value], "trace log", at)
    });
}

fn region_of<T>(task: u64, name: &str, at: &'static Location<'static>, body: impl FnOnce() -> T) -> T {
    /// Says the end also of a region that is left by a panic.
    struct Open<'a> {
        task: u64,
        name: &'a str,
        at: &'static Location<'static>,
        /// The stretch of tracing that knows of the beginning; 0: none.
        base: u64,
    }

    impl Drop for Open<'_> {
        fn drop(&mut self) {
            if self.base != 0 {
                let (task, base, at) = (self.task, self.base, self.at);
                let name = self.name;
                say(|ink| {
                    session::base() == base && {
                        let name = u64::from(tables::string(name));
                        ink.annotate(kind::USER_REGION_END, &[task, name], "trace region", at)
                    }
                });
            }
        }
    }

    let mut base = 0;
    say(|ink| {
        let word = u64::from(tables::string(name));
        let said = ink.annotate(kind::USER_REGION_BEGIN, &[task, word], "trace region", at);
        base = if said { session::base() } else { 0 };
        said
    });
    let _open = Open { task, name, at, base };
    body()
}
