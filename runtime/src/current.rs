//! THE thread-local: which worker this OS thread is.
//!
//! LLVM takes a thread-local's address as constant within a function, and a task may be resumed on another thread in
//! the middle of one. So the accessors are never inlined and return by value, and nothing borrowed from the
//! thread-local crosses a call, let alone a switch (llvm-project#98479; `tests/tls_regression.rs` pins it with fat
//! LTO). What says which worker this is is `const`-initialised and has no destructor, so it may be read in a signal
//! handler.

#![expect(clippy::disallowed_types, reason = "the one file with a thread-local")]

use crate::sched::worker::Worker;
use crate::task::bound::Bound;
use crate::task_local::Locals;
use std::cell::Cell;
use std::ptr::NonNull;
use std::thread::LocalKey;

thread_local! {
    static WORKER: Cell<Option<NonNull<Worker>>> = const { Cell::new(None) };
    static HELD_RANKS: Cell<u32> = const { Cell::new(0) };
    static LOCALS: Locals = Locals::default();
    static BOUND: Cell<Option<NonNull<Bound>>> = const { Cell::new(None) };
}

const _: fn() -> &'static LocalKey<Cell<u32>> = || &HELD_RANKS;

/// The worker this thread is, if it is one.
#[inline(never)]
pub(crate) fn worker() -> Option<NonNull<Worker>> {
    WORKER.get()
}

/// Makes this thread a worker, or none again.
#[inline(never)]
pub(crate) fn set_worker(worker: Option<NonNull<Worker>>) {
    WORKER.set(worker);
}

/// The innermost context that this thread has entered, outside tasks.
#[inline(never)]
pub(crate) fn thread_bound() -> Option<NonNull<Bound>> {
    BOUND.get()
}

/// See [`thread_bound`].
#[inline(never)]
pub(crate) fn set_thread_bound(bound: Option<NonNull<Bound>>) {
    BOUND.set(bound);
}

/// The task-local values of this thread, for when it runs no task. None: the thread is at its end.
#[inline(never)]
pub(crate) fn thread_locals() -> Option<NonNull<Locals>> {
    LOCALS.try_with(|locals| NonNull::from(locals)).ok()
}

/// Is this an address in one of ours? For the check that looks for others' (`sched::tls_check`).
#[inline(never)]
#[cfg(debug_assertions)]
pub(crate) fn is_own_thread_local(address: usize) -> bool {
    fn holds<T>(value: &T, address: usize) -> bool {
        // Not by a range: its end, left over on the stack, would be found by the next check as a pointer to what is behind.
        address.wrapping_sub(std::ptr::from_ref(value) as usize) < size_of::<T>().max(1)
    }
    WORKER.with(|own| holds(own, address))
        || HELD_RANKS.with(|own| holds(own, address))
        || BOUND.with(|own| holds(own, address))
        || LOCALS.try_with(|own| holds(own, address)).unwrap_or(false)
}

/// The address of one of ours.
#[cfg(all(test, debug_assertions, target_os = "linux"))]
pub(crate) fn own_thread_local() -> usize {
    WORKER.with(|own| std::ptr::from_ref(own) as usize)
}

/// Ranks of the runtime locks this thread holds; a bit each. For the lock order check of debug builds.
#[inline(never)]
#[cfg_attr(
    not(debug_assertions),
    expect(dead_code, reason = "checked in debug builds only")
)]
pub(crate) fn held_ranks() -> u32 {
    HELD_RANKS.get()
}

/// See [`held_ranks`].
#[inline(never)]
#[cfg_attr(
    not(debug_assertions),
    expect(dead_code, reason = "checked in debug builds only")
)]
pub(crate) fn set_held_ranks(ranks: u32) {
    HELD_RANKS.set(ranks);
}
