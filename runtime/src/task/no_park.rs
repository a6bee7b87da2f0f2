//! A stretch of code in which a task must not park.

use super::header::TaskRef;

use super::site::Reason;
use crate::sched::inside::Inside;
use crate::sched::worker::current_task;
use std::panic::Location;

/// Runs `f`, in which the task stays on its thread without a break: a call that would park panics instead, and says
/// where. A slice that is over does not make the task yield before `f` has returned.
///
/// It holds the contract of [`Builder::build`](crate::Builder::build) for a stretch of code: a value bound to the thread
/// may be alive in `f`, such as a borrow from [`std::thread_local!`], though `f` calls into bast.
///
/// `f` is not inlined into its caller. So code that uses a thread-local within, such as a channel of std that blocks,
/// looks for it anew in each call, where in a loop of the caller's the optimiser might look once and keep the address
/// across parks.
///
/// Calls that need not wait work as always: a lock that is free, a channel that has room. Those that must wait panic
/// before anybody has seen them, so nothing is left half done. [`scope`](crate::scope()) is the exception: it waits for
/// its tasks first, with its worker, and panics then. A task stays on its thread also in [`blocking`](crate::blocking()),
/// whose end may wait for a processor. Calls nest. Outside tasks `f` simply runs: a plain thread has no other to go to.
///
/// ```
/// use bast::sync::channel;
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let (sender, receiver) = channel::bounded(1);
/// let sum = bast::task::no_park(|| {
///     sender.send(2).unwrap(); // there is room
///     receiver.recv().unwrap() + 1
/// });
/// assert_eq!(sum, 3);
/// # }) }
/// ```
///
/// # Panics
/// If `f` makes a call that would park, and with `f`'s own panic.
#[track_caller]
pub fn no_park<R>(f: impl FnOnce() -> R) -> R {
    let Some(task) = current_task() else {
        return apart(f);
    };
    let outer = task.extra_or_new().no_park.replace(Some(Location::caller()));
    let _restore = Restore(task, outer);
    apart(f)
}

/// Calls `f` from a function that the optimiser cannot merge with others: what it remembers of a thread-local there, it
/// has forgotten at the next call.
#[inline(never)]
pub(crate) fn apart<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Puts what held before back, also when `f` panics.
struct Restore(TaskRef, Option<&'static Location<'static>>);

impl Drop for Restore {
    fn drop(&mut self) {
        self.0.extra_or_new().no_park.set(self.1);
    }
}

impl TaskRef {
    /// Where the task has said that it must not park, if it has. By the running task.
    #[inline]
    pub(crate) fn no_park(self) -> Option<&'static Location<'static>> {
        self.extra().and_then(|extra| extra.no_park.get())
    }
}

impl Inside {
    /// May the running task park? To be asked before anybody can see that it waits.
    #[inline]
    pub(crate) fn may_park(&self) -> bool {
        self.task().no_park().is_none()
    }

    /// Leaves the runtime and panics: the task must not park. Nobody can see it wait, and no lock is held.
    #[cold]
    pub(crate) fn refuse(self, reason: Reason, at: &'static Location<'static>) -> ! {
        let since = self.task().no_park();
        drop(self);
        refuse(reason.text(), since, at)
    }
}

/// See [`Inside::refuse`].
#[cold]
pub(super) fn refuse(
    what: &str,
    since: Option<&'static Location<'static>>,
    at: &'static Location<'static>,
) -> ! {
    let since = since.map(ToString::to_string).unwrap_or_default();
    panic!("bast: {what} would park at {at}, inside task::no_park of {since}")
}
