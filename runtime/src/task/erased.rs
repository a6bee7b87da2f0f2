//! The erased closure: how a task's header keeps a closure of any type, runs it, and keeps its result.
//!
//! # The end of a task, in order
//! 1. The closure has returned or panicked, or is dropped without having run; what it owned is gone.
//! 2. The result is in the storage, task-local values are dropped, and the context that the task was given is left and
//!    dropped: both may wait, and run code of the user's.
//! 3. The join word is completed. If the handle is gone the result is dropped here, which may wait too. Otherwise nothing
//!    waits from here on: who has joined a task may end the runtime.
//! 4. The [`Ending`] is dropped. From here on nothing of the task touches what its closure or its result borrowed,
//!    except a join handle, which borrows as well: this is where a scope may end.
//! 5. The joiner is woken, stack and header are recycled.

use super::Priority;
use super::handle::TaskId;
use super::header::{Extra, STORAGE_BYTES, TaskRef, VTable};
use super::join_word::Complete;
use crate::context::Context;
use crate::error::JoinError;
use bast_stack::catch_unwind;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location};

/// What a task leaves behind.
pub(crate) type Outcome<T> = Result<T, JoinError>;

/// Who lends something to a task and must know when it no longer uses it. Its drop is the task's last step but for the
/// runtime's own business. A task that is leaked while it runs never drops it.
pub(crate) trait Ending {
    /// The closure has panicked. Before the result can be seen.
    fn panicked(&self);
}

/// Nothing is lent.
impl Ending for () {
    #[inline]
    fn panicked(&self) {}
}

/// A value that lives in the header's storage if it fits, else in a box there.
pub(super) struct Stored<V>(PhantomData<V>);

impl<V> Stored<V> {
    const INLINE: bool = size_of::<V>() <= STORAGE_BYTES && align_of::<V>() <= align_of::<u64>();

    /// # Safety
    /// The storage is the caller's and holds nothing that needs dropping.
    #[inline]
    unsafe fn put(task: TaskRef, value: V) {
        let place = task.storage.get();
        if Self::INLINE {
            // SAFETY: validity: it fits, by size and alignment. aliasing: the storage is the caller's.
            unsafe { place.cast::<V>().write(value) };
        } else {
            // SAFETY: validity: a pointer fits. aliasing: the storage is the caller's.
            unsafe { place.cast::<*mut V>().write(Box::into_raw(Box::new(value))) };
        }
    }

    /// # Safety
    /// The storage is the caller's and holds what `put` put there; it holds nothing afterwards.
    #[inline]
    pub(super) unsafe fn take(task: TaskRef) -> V {
        let place = task.storage.get();
        if Self::INLINE {
            // SAFETY: validity: `put` wrote a V here. aliasing: the storage is the caller's.
            unsafe { place.cast::<V>().read() }
        } else {
            // SAFETY: validity: `put` wrote the pointer of a box here. aliasing: the storage is the caller's.
            let raw = unsafe { place.cast::<*mut V>().read() };
            // SAFETY: validity: from `Box::into_raw`. aliasing: taken once.
            *unsafe { Box::from_raw(raw) }
        }
    }
}

/// The erased operations of a task with this closure, result and ending.
struct Erased<F, T, E>(PhantomData<(F, T, E)>);

impl<F: FnOnce() -> T, T, E: Ending> Erased<F, T, E> {
    const TABLE: VTable = VTable {
        run: Self::run,
        abandon: Self::abandon,
        fail: Self::fail,
        drop_result: Self::drop_result,
        entry: std::any::type_name::<F>,
    };

    unsafe fn run(task: TaskRef) -> Option<usize> {
        // SAFETY: the caller says that the closure is in the storage and its to take.
        let (closure, ending) = unsafe { Stored::<(F, E)>::take(task) };
        let run = || {
            let outcome = catch_unwind(AssertUnwindSafe(closure)).map_err(|payload| {
                ending.panicked();
                JoinError::panic(TaskId::of(task), payload)
            });
            // SAFETY: the closure was taken out, and the storage stays the task's until `join.complete`.
            unsafe { Stored::<Outcome<T>>::put(task, outcome) };
            task.end_locals();
        };
        match task.extra().and_then(|extra| extra.context.take()) {
            None => run(),
            Some(context) => {
                let mut run = Some(run);
                within(context, &mut || {
                    if let Some(run) = run.take() {
                        run();
                    }
                });
            }
        }
        // SAFETY: the result is there.
        unsafe { complete(task) } // and then the ending
    }

    unsafe fn abandon(task: TaskRef, error: JoinError) -> Option<usize> {
        // SAFETY: the caller says that the closure never ran, so it is in the storage.
        let (closure, _ending) = unsafe { Stored::<(F, E)>::take(task) };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(closure)));
        task.end_locals();
        // SAFETY: as the caller says for `fail`.
        unsafe { Self::fail(task, error) };
        // SAFETY: the error is the result.
        unsafe { complete(task) } // and then the ending
    }

    unsafe fn fail(task: TaskRef, error: JoinError) {
        // SAFETY: the caller says that the task will never write here, and that the closure is gone.
        unsafe { Stored::<Outcome<T>>::put(task, Err(error)) };
    }

    unsafe fn drop_result(task: TaskRef) {
        // SAFETY: the caller says that the result is there and its to drop.
        let outcome = unsafe { Stored::<Outcome<T>>::take(task) };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(outcome)));
    }
}

/// Runs a task that was given a context.
#[cold]
fn within(context: Context, run: &mut dyn FnMut()) {
    context.enter(run);
    // Here, and not with the extra, which is freed inside the runtime: its values' destructors are the user's.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(context)));
}

/// Hands the result over: to the handle, whose waiter is given back to be woken; or drops it if the handle is gone.
///
/// # Safety
/// The task's result is in its storage, and this is the only call.
#[inline]
pub(super) unsafe fn complete(task: TaskRef) -> Option<usize> {
    match task.join.complete() {
        Complete::Left => None,
        Complete::Wake(token) => Some(token),
        Complete::Detached => {
            // SAFETY: the result is stored and nobody else will ask for it (Rule 3 of `header`).
            unsafe { (task.vtable().drop_result)(task) };
            task.end_locals(); // what the result's destructor has made
            None
        }
    }
}

/// What a task is given at its spawn, besides its closure.
#[derive(Debug)]
pub(crate) struct Birth {
    /// Where it was spawned.
    pub(crate) at: &'static Location<'static>,
    pub(crate) priority: Priority,
    pub(crate) extra: Option<Box<Extra>>,
}

impl Birth {
    /// An ordinary task.
    pub(crate) fn at(at: &'static Location<'static>) -> Birth {
        Birth {
            at,
            priority: Priority::Normal,
            extra: None,
        }
    }
}

/// Makes a free entry a task.
///
/// # Safety
/// The entry is free and the caller's.
#[inline]
pub(super) unsafe fn init<F: FnOnce() -> T, T, E: Ending>(
    task: TaskRef,
    id: u64,
    closure: F,
    ending: E,
    birth: Birth,
) {
    // SAFETY: the storage of a free entry holds nothing and is the caller's.
    unsafe { Stored::<(F, E)>::put(task, (closure, ending)) };
    let Birth { at, priority, extra } = birth;
    task.init(id, priority, &Erased::<F, T, E>::TABLE, at, extra);
    crate::sched::traced::created(task);
}
