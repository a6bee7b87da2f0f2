//! Tasks: what one is, and what may be done to it from outside.
//!
//! # Life of a task
//! 1. **Spawned**: a slab entry gets the closure (inline if it is small) and goes on a run queue. No stack yet.
//! 2. **First run**: a worker binds a stack, from its processor's hot cache or the very stack that the task before it
//!    has just finished on, and calls the closure on it.
//! 3. **Parked and unparked**, any number of times, see [`state`](self).
//! 4. **Done**: the result is in the entry, the joiner is woken, the stack goes to whoever runs next.
//! 5. **Released**: with the last handle the entry goes back to the slab.

pub(crate) mod bound;
pub(crate) mod chain;
pub(crate) mod erased;
mod group;
pub(crate) mod handle;
pub(crate) mod header;
mod join_async;
pub(crate) mod join_word;
pub(crate) mod no_park;
pub(crate) mod os_thread;
mod place;
mod pool;
mod priority;
pub(crate) mod scope;
pub(crate) mod scope_count;
pub(crate) mod site;
pub(crate) mod slab;
pub(crate) mod spawn;
pub(crate) mod state;
pub(crate) mod waker_slot;

pub use crate::task_local::{AccessError, LocalKey};
pub use bast_stack::catch_unwind;
pub use group::Group;
pub use handle::{Task, TaskId};
pub use join_async::JoinFuture;
pub use no_park::no_park;
pub use os_thread::{lock_os_thread, on_os_thread, unlock_os_thread};
pub use pool::{Pool, SubmitError};
pub use priority::Priority;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use spawn::{Builder, JoinHandle, spawn, try_spawn};

use crate::sched::inside::Inside;
use crate::time::clock;

use std::panic::Location;
use std::time::Duration;

fn inside() -> Inside {
    Inside::enter().unwrap_or_else(|| panic!("bast: this call needs a task: make it inside bast::run"))
}

/// The calling task.
///
/// # Panics
/// Outside a task; see [`try_current`].
pub fn current() -> Task {
    Task::new(inside().task())
}

/// The calling task, if there is one.
pub fn try_current() -> Option<Task> {
    Inside::enter().map(|inside| Task::new(inside.task()))
}

/// Lets other runnable tasks run. Outside a runtime, [`std::thread::yield_now`].
///
/// # Panics
/// Within [`no_park()`].
#[track_caller]
pub fn yield_now() {
    match Inside::enter() {
        Some(mut inside) => {
            if !inside.yield_now()
                && let Some(since) = inside.task().no_park()
            {
                drop(inside);
                no_park::refuse("yield_now", Some(since), Location::caller());
            }
        }
        None => std::thread::yield_now(),
    }
}

/// A place where a task lets others run if it has used up its slice: for loops that make no other call into bast.
/// Costs a few instructions.
pub fn checkpoint() {
    drop(Inside::enter()); // the entry looks
}

/// Parks the calling task until [`Task::unpark`]; returns at once if that came before, also if the task has waited for
/// other things in between: unlike [`std::thread::park`]'s, its permit is used up by nothing else. May return for no
/// reason, so call it in a loop that looks at what it waits for.
///
/// ```
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// # use std::sync::Arc;
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let flag = Arc::new(AtomicBool::new(false));
/// let waiter = bast::spawn({
///     let flag = flag.clone();
///     move || while !flag.load(Ordering::Acquire) { bast::task::park() }
/// });
/// flag.store(true, Ordering::Release);
/// waiter.task().unpark();
/// waiter.join().unwrap();
/// # }) }
/// ```
///
/// # Panics
/// Outside a task.
#[track_caller]
pub fn park() {
    park_for(clock::NEVER, Location::caller());
}

/// As [`park`], for at most `timeout`.
///
/// # Panics
/// Outside a task.
#[track_caller]
pub fn park_timeout(timeout: Duration) {
    park_for(clock::after(timeout), Location::caller());
}

/// Until `deadline`, and no longer than the task may wait (`time::timeout`).
fn park_for(deadline: u64, at: &'static Location<'static>) {
    let mut inside = inside();
    let task = inside.task();
    let deadline = deadline.min(task.deadline.get());
    if task.state.take_permit() || task.is_over(deadline) {
        return;
    }
    if !inside.may_park() {
        inside.refuse(site::Reason::Park, at);
    }
    inside.park_until(deadline, site::Reason::Park, at);
    task.state.take_permit();
}
