//! Tasks that borrow: `std::thread::scope` for tasks.
//!
//! # Why it is sound
//! What a scope lends lies in the frames of its owner, the task (or thread) that called [`scope`]. So the owner must
//! not leave those frames, nor may they be freed, while a task of the scope can still look at them.
//! 1. **The owner waits, whatever happens**: when its closure panics, when a [`time::timeout`](crate::time::timeout) is
//!    over, when handles are dropped, sent elsewhere or forgotten. Nothing it could forget keeps the count: each task
//!    carries its own [`Member`], outside of what user code can reach.
//! 2. **A task is over, for its scope, when it has dropped its closure and, if nobody can take it any more, its
//!    result** (`task::erased` has the order). A result that a handle still owns is taken or dropped by that handle,
//!    and handles live in the closure of the scope or in its tasks; a forgotten handle's result is never touched again.
//! 3. **A task that its runtime's end has leaked in the middle is never over**: whatever it in turn has lent to others,
//!    perhaps on another runtime, may still be in use. Its owner then waits for ever. Most often it was leaked as well;
//!    it is only seen to wait if it is of another runtime.
//! 4. **The compiler** keeps what is lent alive for `'env`, and all that spawns within `'scope`, as in std: `'scope`
//!    is any lifetime, chosen anew for each call, so nothing of it fits into what outlives the closure.

use super::erased::{Birth, Ending};
use super::handle::{Task, TaskId};
use super::scope_count::ScopeCount;
use super::site::Reason;
use super::spawn::{Builder, JoinHandle, spawn_foreign};
use crate::error::{JoinError, SpawnError};
use crate::primitive::atomic::{AtomicUsize, Relaxed};
use crate::sched::inside::Inside;
use crate::sched::shared::Shared;
use crate::sched::wait::{Caller, Wake};
use crate::time::clock::NEVER;
use bast_stack::{catch_unwind, resume_unwind};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location};
use std::ptr::NonNull;
use std::time::Duration;

/// Runs `f` with a scope whose tasks may borrow from here: as [`std::thread::scope`], for tasks.
///
/// All tasks of the scope have ended when this returns; those that were not joined by hand are waited for. That holds
/// whatever happens: also when `f` panics, and when the deadline of a [`time::timeout`](crate::time::timeout) passes,
/// which the tasks should observe and end.
///
/// ```
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let mut a = vec![1, 2, 3];
/// let mut x = 0;
///
/// bast::scope(|s| {
///     s.spawn(|| println!("one task borrows {a:?}"));
///     s.spawn(|| x += a[0] + a[2]); // and another borrows x mutably
/// });
///
/// a.push(4); // all tasks have ended: it is ours again
/// assert_eq!(x, 4);
/// # }) }
/// ```
///
/// Only what lives longer than the scope can be borrowed:
/// ```compile_fail,E0373
/// # unsafe { bast::run(|| {
/// bast::scope(|s| {
///     let within = 1;
///     s.spawn(|| println!("{within}")); // needs `move`
/// });
/// # }) }
/// ```
/// and neither the scope nor its handles can be taken out of it:
/// ```compile_fail
/// # unsafe { bast::run(|| {
/// let handle = bast::scope(|s| s.spawn(|| 1));
/// handle.join().unwrap();
/// # }) }
/// ```
/// ```compile_fail,E0521
/// # unsafe { bast::run(|| {
/// let mut outside = None;
/// bast::scope(|s| outside = Some(s.spawn(|| 1)));
/// # }) }
/// ```
/// ```compile_fail,E0521
/// # unsafe { bast::run(|| {
/// let mut outside = None;
/// bast::scope(|s| outside = Some(s));
/// # }) }
/// ```
/// A task that is not of the scope gets no borrow from it:
/// ```compile_fail,E0373
/// # unsafe { bast::run(|| {
/// let local = 1;
/// bast::scope(|_| bast::spawn(|| println!("{local}")));
/// # }) }
/// ```
/// What is lent must be [`Sync`], and what is moved [`Send`]:
/// ```compile_fail,E0277
/// # unsafe { bast::run(|| {
/// let cell = std::cell::Cell::new(1);
/// bast::scope(|s| { s.spawn(|| cell.set(2)); });
/// # }) }
/// ```
/// ```compile_fail,E0277
/// # unsafe { bast::run(|| {
/// let count = std::rc::Rc::new(1);
/// bast::scope(|s| { s.spawn(move || println!("{count}")); });
/// # }) }
/// ```
/// One borrows mutably, or several borrow shared:
/// ```compile_fail,E0499
/// # unsafe { bast::run(|| {
/// let mut sum = 0;
/// bast::scope(|s| {
///     s.spawn(|| sum += 1);
///     s.spawn(|| sum += 1);
/// });
/// # }) }
/// ```
/// ```compile_fail,E0505
/// # unsafe { bast::run(|| {
/// let text = String::from("lent");
/// bast::scope(|s| {
///     s.spawn(|| println!("{text}"));
///     drop(text);
/// });
/// # }) }
/// ```
///
/// # Panics
/// With `f`'s panic. With "a scoped task panicked" if a task of the scope did, unless its panic was taken by
/// [`ScopedJoinHandle::join`]. Outside a task: tasks need a runtime; a plain thread that has one uses
/// [`Runtime::scope`](crate::Runtime::scope).
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let Some(inside) = Inside::enter() else {
        panic!(
            "bast::scope was called on a thread of no runtime: call it inside bast::run, or use Runtime::scope"
        )
    };
    let (shared, owner) = (NonNull::from(inside.shared()), Wake::Task(inside.task()));
    drop(inside);
    // SAFETY: the runtime of a task that has begun and not ended is alive: its worker's thread keeps it, and its end
    // leaks it together with the task.
    unsafe { scope_on(shared, owner, f, Location::caller()) }
}

/// # Safety
/// The runtime is alive during the call. `owner` is the caller.
pub(crate) unsafe fn scope_on<'env, F, T>(
    shared: NonNull<Shared>,
    owner: Wake,
    f: F,
    at: &'static Location<'static>,
) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope {
        base: Base {
            count: ScopeCount::new(),
            panics: AtomicUsize::new(0),
            shared,
            owner,
        },
        scope: PhantomData,
        env: PhantomData,
    };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    scope.base.wait(at);
    match result {
        Err(payload) => resume_unwind(payload),
        Ok(_) if scope.base.panics.load(Relaxed) > 0 => panic!("a scoped task panicked"),
        Ok(value) => value,
    }
}

/// Where tasks that borrow are spawned. See [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    base: Base,
    /// Invariant: a shorter `'scope` would let tasks borrow from the closure of the scope itself.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// A scope without its lifetimes. Lies in the frame of [`scope_on`], which its members must not touch once they have
/// left.
pub(crate) struct Base {
    count: ScopeCount,
    /// Tasks whose panic nobody has taken. Relaxed: ordered by the join word and the count.
    panics: AtomicUsize,
    /// Where its tasks run. Alive while the owner is.
    shared: NonNull<Shared>,
    /// The caller of `scope`.
    owner: Wake,
}

// SAFETY: `Shared` is Sync; the rest is atomics and a waker that is only copied.
unsafe impl Send for Base {}
// SAFETY: as for Send.
unsafe impl Sync for Base {}

impl Base {
    /// Waits for all members, as long as that takes: what they borrow is the caller's.
    fn wait(&self, at: &'static Location<'static>) {
        if self.count.leave_own() {
            return;
        }
        let mut caller = Caller::to_wait();
        while !self.count.is_empty() {
            caller.park_until(NEVER, Reason::Scope, at);
        }
        if !caller.may_park() && !std::thread::panicking() {
            caller.refuse(Reason::Scope, at);
        }
    }

    /// # Safety
    /// What closure and result borrow outlives the scope, and both are Send.
    pub(super) unsafe fn spawn<F: FnOnce() -> T, T>(
        &self,
        closure: F,
        mut birth: Birth,
    ) -> Result<JoinHandle<T>, SpawnError> {
        crate::task_local::bequeath(&mut birth.extra);
        // SAFETY: validity: alive while the owner is, which waits. aliasing: shared borrow of a Sync type.
        let shared = unsafe { self.shared.as_ref() };
        let mut inside = Inside::enter();
        if let Some(inside) = inside
            .as_mut()
            .filter(|inside| std::ptr::eq(inside.shared(), shared))
        {
            let task = inside.reserve()?;
            // SAFETY: the entry was reserved. The owner waits for the member, and the lender is valid until then.
            return Ok(unsafe { inside.start(task, closure, Member::of(self), birth) });
        }
        drop(inside);
        // SAFETY: the owner waits for the member, and the lender is valid until then.
        unsafe { spawn_foreign(shared, closure, Member::of(self), birth) }
    }
}

/// A task's part of the count: its scope waits until this is dropped, by the task's last step.
struct Member(NonNull<Base>);

impl Member {
    /// By the owner or by a member.
    #[inline]
    fn of(base: &Base) -> Member {
        base.count.enter();
        Member(NonNull::from(base))
    }
}

impl Ending for Member {
    fn panicked(&self) {
        // SAFETY: validity: this member is counted, so its scope is there. aliasing: shared borrow of a Sync type.
        unsafe { self.0.as_ref() }.panics.fetch_add(1, Relaxed);
    }
}

impl Drop for Member {
    #[inline]
    fn drop(&mut self) {
        let base = self.0.as_ptr();
        // No borrow of the whole: one that is alive while the owner's frame goes would be one too long.
        // SAFETY: validity: this member is counted, so its scope is there. aliasing: shared borrow of an atomic.
        let count = unsafe { &(*base).count };
        // SAFETY: validity: still counted. aliasing: shared borrow.
        let owner = || unsafe { &(*base).owner }.clone();
        if let Some(owner) = count.leave(owner) {
            owner.wake(&mut Caller::to_wake());
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Without its lifetimes: who spawns by it keeps to them.
    pub(super) fn base(&'scope self) -> &'scope Base {
        &self.base
    }

    /// Spawns a task that may borrow what outlives the scope, on the scope's runtime. From the closure of the scope,
    /// from its tasks, and from plain threads that borrow the scope.
    ///
    /// Dropping the handle changes nothing: the scope waits for the task.
    ///
    /// # Panics
    /// If the task cannot be spawned (see [`SpawnError`]); [`Builder::spawn_scoped`] gives an error instead.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        Builder::new()
            .spawn_scoped(self, f)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Scope")
            .field("count", &self.base.count)
            .field("panics", &self.base.panics)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Spawns in a scope: as [`Scope::spawn`], with what was set up here.
    ///
    /// ```
    /// # // SAFETY: nothing bound to a thread is used.
    /// # unsafe { bast::run(|| {
    /// let words = ["lent", "not", "given"];
    /// bast::scope(|s| {
    ///     let counter = bast::task::Builder::new().name("counter").spawn_scoped(s, || words.len())?;
    ///     assert_eq!(counter.join().unwrap(), 3);
    ///     Ok::<(), bast::SpawnError>(())
    /// }).unwrap();
    /// # }) }
    /// ```
    ///
    /// # Errors
    /// See [`SpawnError`]. The closure is dropped, and the scope goes on without the task.
    #[track_caller]
    pub fn spawn_scoped<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> Result<ScopedJoinHandle<'scope, T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let birth = self.birth(Location::caller())?;
        // SAFETY: both outlive `'scope`, which lasts until the scope is over, and are Send.
        let handle = unsafe { scope.base.spawn(f, birth) }?;
        Ok(ScopedJoinHandle {
            handle,
            base: &scope.base,
        })
    }
}

/// Permission to wait for the end of a scope's task before the scope ends, and to take its result.
///
/// Dropping or forgetting it detaches the task only from the handle: the scope still waits for it.
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<T>,
    base: &'scope Base,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the task's end.
    ///
    /// # Errors
    /// If the task panicked: the error carries the payload, and the scope takes the panic for dealt with. If the
    /// deadline of a [`time::timeout`](crate::time::timeout) around the call passed first: the scope itself waits
    /// nevertheless.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        note(self.base, self.handle.join())
    }

    /// Waits for the task's end for at most `timeout`.
    ///
    /// # Errors
    /// Gives the handle back if the time is over; the inner result is that of [`ScopedJoinHandle::join`].
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        let base = self.base;
        match self.handle.join_timeout(timeout) {
            Ok(outcome) => Ok(note(base, outcome)),
            Err(handle) => Err(ScopedJoinHandle { handle, base }),
        }
    }

    /// True once the task's closure has ended, so that `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// The task, to unpark it or to tell it from others.
    pub fn task(&self) -> Task {
        self.handle.task()
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.handle.id()
    }
}

/// A panic that is handed to a joiner is not the scope's any more.
fn note<T>(base: &Base, outcome: Result<T, JoinError>) -> Result<T, JoinError> {
    if outcome.as_ref().is_err_and(JoinError::is_panic) {
        base.panics.fetch_sub(1, Relaxed);
    }
    outcome
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ScopedJoinHandle")
            .field("id", &self.id())
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
