//! Tasks that are locked to their OS thread.
//!
//! A locked task runs on one worker only, and that worker runs nothing else. While the task waits, the worker sleeps
//! with it (`bound_to`, as for a task that parks while it panics) and its processor goes to another; whoever finds
//! the task on a queue hands it a processor. Go's `LockOSThread` (`runtime/proc.go`: `stoplockedm`, `startlockedm`).
//!
//! The thread of a locked task may have been changed for good, its namespace or its signal mask, say. So nothing comes
//! of it: it ends with a task that ends locked, and it starts no thread, which would inherit that. The monitor starts
//! them instead.

use crate::sched::inside::Inside;
use crate::task::no_park::apart;
use crate::time::clock;
use std::ptr::NonNull;

/// Locks the calling task to its OS thread, until as many calls of [`unlock_os_thread`].
///
/// The task then stays on its thread also where it parks, and the thread runs no other task. For libraries that look
/// at the thread (OpenGL contexts, thread-local state of C code, `setns`, `sched_setaffinity`), and where a value
/// bound to the thread must be alive across a call that parks: it may be, from the first call to the last.
///
/// A task that **ends locked takes its thread with it**: what was done to the thread reaches nobody else. So a task
/// that changes its thread for good does not unlock.
///
/// A park of a locked task costs two switches of the kernel's instead of one of ours, some microseconds, and while it
/// is locked it costs a thread; threads that sleep with their task do not count against
/// [`Builder::blocked_workers_max`](crate::Builder::blocked_workers_max). Tasks that it spawns are not locked.
/// When the runtime ends, a locked task that is parked is leaked as any other is, and its thread with it.
///
/// Prefer [`on_os_thread`], which unlocks by itself. Outside tasks there is nothing to do: a plain thread stays one.
///
/// ```
/// # // SAFETY: the one borrow of a thread-local is held by a locked task.
/// # unsafe { bast::run(|| {
/// thread_local!(static CONTEXT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
/// let task = bast::spawn(|| {
///     bast::task::lock_os_thread();
///     CONTEXT.set(7);
///     bast::time::sleep(std::time::Duration::from_millis(1));
///     CONTEXT.get() // the same thread, and nobody else was on it
/// });
/// assert_eq!(task.join().unwrap(), 7);
/// # }) }
/// ```
///
/// # Panics
/// After 2^32 - 1 calls without an unlock.
pub fn lock_os_thread() {
    let Some(inside) = Inside::enter() else { return };
    let task = inside.task();
    let locks = &task.extra_or_new().locks;
    let count = locks.get().checked_add(1);
    locks.set(count.expect("bast: lock_os_thread is nested too deep"));
    task.bind_to(Some(NonNull::from(inside.worker())));
    inside.worker().locked.set(true);
}

/// Takes back one [`lock_os_thread`]. Does nothing if there is none to take back, as Go's.
///
/// ```
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// bast::task::lock_os_thread();
/// bast::task::lock_os_thread();
/// bast::task::unlock_os_thread(); // still locked: calls nest
/// bast::task::unlock_os_thread();
/// # }) }
/// ```
pub fn unlock_os_thread() {
    let Some(inside) = Inside::enter() else { return };
    let task = inside.task();
    let Some(extra) = task.extra() else { return };
    match extra.locks.get() {
        0 => {}
        1 => {
            extra.locks.set(0);
            task.bind_to(None);
            inside.worker().locked.set(false);
        }
        more => extra.locks.set(more - 1),
    }
}

/// Runs `f` with the task locked to its OS thread, and unlocks it after that, also when `f` panics.
///
/// ```
/// # // SAFETY: nothing bound to a thread is used outside of the lock.
/// # unsafe { bast::run(|| {
/// let same = bast::task::on_os_thread(|| {
///     let before = std::thread::current().id();
///     bast::task::yield_now();
///     std::thread::current().id() == before
/// });
/// assert!(same);
/// # }) }
/// ```
pub fn on_os_thread<R>(f: impl FnOnce() -> R) -> R {
    struct Unlock;
    impl Drop for Unlock {
        fn drop(&mut self) {
            unlock_os_thread();
        }
    }
    lock_os_thread();
    let _unlock = Unlock;
    apart(f) // on the thread it is locked to, which is not always the caller's
}

impl Inside {
    /// [`Inside::yield_now`] of a locked task: its processor goes to others, and it queues for one.
    #[cold]
    #[inline(never)]
    pub(crate) fn yield_locked(&mut self) {
        if !self.has_business_elsewhere() {
            return;
        }
        self.processor().counters.yields.add(1);
        let task = self.task();
        self.while_bound(task, |inside| {
            let processor = inside.let_go();
            inside.shared().inject(task);
            inside.shared().give_processor(processor);
            inside.sleep_bound();
        });
    }

    /// Is there anything that this processor should do instead?
    fn has_business_elsewhere(&self) -> bool {
        let reactor = &self.shared().reactor;
        self.is_closing()
            || !self.processor().queue.is_empty()
            || self.shared().has_shared()
            || self.shared().has_held()
            || clock::has_come(self.processor().timers.next_due())
            || (reactor.has_sources() && !reactor.poller().is_waiting())
    }
}
