//! From a closure to a runnable task, and back to its result.

use super::Priority;
use super::erased::{Birth, Ending, Outcome, Stored, complete, init};
use super::handle::{Task, TaskId};
use super::header::{Extra, Header, STORAGE_BYTES, TaskRef};
use super::join_word::{JoinWord, SetWaiter};
use super::site::Reason;
use super::slab;
use crate::context::{Context, ContextError, own_end};
use crate::error::{JoinError, SpawnError};
use crate::primitive::atomic::Acquire;
use crate::sched::inside::Inside;
use crate::sched::park::{ThreadWaiter, thread_deadline, wake_future, wake_token};
use crate::sched::shared::Shared;
use crate::sched::traced;
use crate::task_local;
use crate::time::clock::{self, NEVER};
use bast_stack::StackClass;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// Task ids a processor sets aside at once.
const ID_BLOCK: u64 = 256;

/// Spawns a task on the runtime of the calling task and gives a handle to its result.
///
/// It starts soon, perhaps on another thread. Dropping the handle detaches the task.
///
/// ```
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let task = bast::spawn(|| 6 * 7);
/// assert_eq!(task.join().unwrap(), 42);
/// # }) }
/// ```
///
/// # Panics
/// On a thread that belongs to no runtime (use [`Handle::spawn`](crate::Handle::spawn) there), and when memory or
/// stacks are exhausted; [`try_spawn`] gives an error instead.
#[track_caller]
pub fn spawn<F, T>(closure: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_here(closure, Birth::at(Location::caller())).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`spawn`], with an error where that panics.
///
/// # Errors
/// See [`SpawnError`]: no runtime on this thread, a runtime that closes, exhausted memory or stacks.
#[track_caller]
pub fn try_spawn<F, T>(closure: F) -> Result<JoinHandle<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_here(closure, Birth::at(Location::caller()))
}

/// Spawns on the runtime of the calling task.
#[inline]
fn spawn_here<F, T>(closure: F, birth: Birth) -> Result<JoinHandle<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: the closure and its result are 'static and Send.
    unsafe { spawn_lent(closure, birth) }
}

/// As [`spawn_here`].
///
/// # Safety
/// What closure and result borrow is valid for ever, and both are Send.
#[inline]
pub(super) unsafe fn spawn_lent<F: FnOnce() -> T, T>(
    closure: F,
    mut birth: Birth,
) -> Result<JoinHandle<T>, SpawnError> {
    let Some(mut inside) = Inside::enter() else {
        return Err(SpawnError::NO_RUNTIME);
    };
    if inside.has_heirs() {
        drop(inside); // values are cloned by code of the user's
        task_local::bequeath(&mut birth.extra);
        inside = Inside::enter().ok_or(SpawnError::NO_RUNTIME)?;
    }
    let task = inside.reserve()?;
    // SAFETY: the entry was reserved; the rest is the caller's promise.
    Ok(unsafe { inside.start(task, closure, (), birth) })
}

/// Sets up a task before it is spawned: its name, its stack, its priority, its context.
///
/// ```
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let task = bast::task::Builder::new().name("parser").stack_size(1 << 20).spawn(|| {
///     assert_eq!(bast::task::current().name(), Some("parser"));
/// })?;
/// task.join().unwrap();
/// # Ok::<(), bast::SpawnError>(()) }).unwrap() }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    name: Option<Arc<str>>,
    stack_bytes: Option<usize>,
    context: Option<Context>,
    priority: Priority,
}

impl Builder {
    /// An ordinary task.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the task, for reports.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// A stack of another size than the runtime's: bytes, rounded up to a class (64 KiB, 256 KiB, 1 MiB, 8 MiB).
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_bytes = Some(bytes);
        self
    }

    /// Another priority than [`Priority::Normal`].
    pub fn priority(mut self, priority: Priority) -> Builder {
        self.priority = priority;
        self
    }

    /// Runs the task in this context, as by [`Context::enter`]. Without this a task begins in none, whatever context its
    /// spawner is in: `context(context::current())` hands that on.
    pub fn context(mut self, context: Context) -> Builder {
        self.context = Some(context);
        self
    }

    /// Spawns on the runtime of the calling task.
    ///
    /// # Errors
    /// As for [`try_spawn`].
    #[track_caller]
    #[inline]
    pub fn spawn<F, T>(self, closure: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_here(closure, self.birth(Location::caller())?)
    }

    pub(crate) fn spawn_on<F, T>(
        self,
        shared: &Shared,
        closure: F,
        at: &'static Location<'static>,
    ) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let mut birth = self.birth(at)?;
        task_local::bequeath(&mut birth.extra);
        // SAFETY: the closure and its result are 'static and Send.
        unsafe { spawn_foreign(shared, closure, (), birth) }
    }

    #[inline]
    pub(super) fn birth(self, at: &'static Location<'static>) -> Result<Birth, SpawnError> {
        let priority = self.priority;
        let extra = if self.name.is_none() && self.stack_bytes.is_none() && self.context.is_none() {
            None
        } else {
            Some(self.extra()?)
        };
        Ok(Birth { at, priority, extra })
    }

    #[cold]
    fn extra(self) -> Result<Box<Extra>, SpawnError> {
        let class = match self.stack_bytes {
            None => None,
            Some(bytes) => {
                Some(StackClass::for_bytes(bytes).ok_or_else(|| SpawnError::stack_too_large(bytes))?)
            }
        };
        Ok(Box::new(Extra {
            name: self.name,
            class,
            context: RefCell::new(self.context),
            ..Extra::default()
        }))
    }
}

impl Inside {
    /// A header for a new task. Apart from [`Inside::start`], so that a caller who gets an error has left the runtime
    /// before its closure is dropped.
    #[inline]
    pub(crate) fn reserve(&mut self) -> Result<TaskRef, SpawnError> {
        let runtime = self.runtime();
        check_open(runtime)?;
        let task = self.own().headers.take(&runtime.slab, NonNull::from(runtime));
        task.ok_or(SpawnError::NO_MEMORY)
    }

    /// Makes a task of the closure, to run soon on this processor.
    ///
    /// # Safety
    /// `task` came from [`Inside::reserve`]. What the closure and its result borrow stays valid until `ending` is
    /// dropped, or for ever if it never is; both may move to other threads.
    #[inline]
    pub(crate) unsafe fn start<F: FnOnce() -> T, T, E: Ending>(
        &mut self,
        task: TaskRef,
        closure: F,
        ending: E,
        birth: Birth,
    ) -> JoinHandle<T> {
        let ordinary = birth.priority == Priority::Normal;
        // SAFETY: as our caller says.
        let handle = unsafe { self.start_held(task, closure, ending, birth) };
        if !ordinary {
            self.shared().inject(task);
            return handle;
        }
        // SAFETY: we hold the processor.
        let displaced = unsafe { self.processor().queue.replace_next(task.0) };
        if let Some(displaced) = displaced {
            self.push_back(TaskRef(displaced));
            self.shared().wake_one();
        }
        handle
    }

    /// As [`Inside::start`], but the task is on no queue: it is the caller's, to be made runnable or parked.
    ///
    /// # Safety
    /// As for [`Inside::start`].
    #[inline]
    pub(crate) unsafe fn start_held<F: FnOnce() -> T, T, E: Ending>(
        &mut self,
        task: TaskRef,
        closure: F,
        ending: E,
        birth: Birth,
    ) -> JoinHandle<T> {
        let runtime = self.runtime();
        let own = self.own();
        let id = own.ids.next().unwrap_or_else(|| {
            own.ids = runtime.reserve_ids(ID_BLOCK);
            own.ids.next().expect("a block of ids is not empty")
        });
        // SAFETY: the entry was free, so it and its storage are ours.
        unsafe { init(task, id, closure, ending, birth) };
        self.processor().counters.spawned.add(1);
        JoinHandle::new(task)
    }
}

/// Spawns from a thread that holds no processor of the runtime.
///
/// # Safety
/// As for [`Inside::start`].
pub(crate) unsafe fn spawn_foreign<F: FnOnce() -> T, T, E: Ending>(
    shared: &Shared,
    closure: F,
    ending: E,
    birth: Birth,
) -> Result<JoinHandle<T>, SpawnError> {
    check_open(shared)?;
    let Some(task) = shared.slab.take_foreign(NonNull::from(shared)) else {
        return Err(if shared.closing.load(Acquire) {
            SpawnError::CLOSED
        } else {
            SpawnError::NO_MEMORY
        });
    };
    let id = shared.reserve_ids(1).start;
    // SAFETY: the entry was free, so it and its storage are ours.
    unsafe { init(task, id, closure, ending, birth) };
    let handle = JoinHandle::new(task);
    if !shared.try_inject_new(task) {
        // SAFETY: it was on no queue, so it never runs.
        unsafe { give_up(task, false) };
        return Err(SpawnError::CLOSED);
    }
    Ok(handle)
}

#[inline]
fn check_open(shared: &Shared) -> Result<(), SpawnError> {
    if shared.closing.load(Acquire) {
        return Err(SpawnError::CLOSED);
    }
    match shared.starved() {
        0 => Ok(()),
        _ => Err(SpawnError::no_stack(shared.starved_reason())),
    }
}

/// Owned permission to wait for a task's end and take its result. Dropping it detaches the task.
///
/// Usable from tasks and from plain threads, also after the runtime has ended.
pub struct JoinHandle<T> {
    task: TaskRef,
    result: PhantomData<T>,
}

// SAFETY: the handle gives the result to one thread, which T: Send allows; the header is shared by its own rules.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle gives no access to the result.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    fn new(task: TaskRef) -> JoinHandle<T> {
        JoinHandle {
            task,
            result: PhantomData,
        }
    }

    /// Waits for the task's end.
    ///
    /// # Errors
    /// If the task panicked (the error carries the payload), its runtime ended first, or the deadline of a
    /// [`time::timeout`](crate::time::timeout) around the call passed or its [context](crate::context) ended first.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        if self.wait_until(NEVER, Location::caller()) {
            return self.take();
        }
        Err(match own_end() {
            Some(ContextError::Cancelled) => JoinError::cancelled(self.id()),
            _ => JoinError::timed_out(self.id()),
        })
    }

    /// As [`JoinHandle::join`], whatever the deadline of the calling task: for callers that have lent something to the
    /// task.
    pub(crate) fn join_lent(self, at: &'static Location<'static>) -> Result<T, JoinError> {
        while !self.wait(NEVER, false, at) {}
        self.take()
    }

    /// Waits for the task's end for at most `timeout`.
    ///
    /// # Errors
    /// Gives the handle back if the time is over; the inner result is that of [`JoinHandle::join`].
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, JoinHandle<T>> {
        if self.wait_until(clock::after(timeout), Location::caller()) {
            Ok(self.take())
        } else {
            Err(self)
        }
    }

    /// True once the task has ended, so that `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.task.join.is_done()
    }

    /// The task, to unpark it or to tell it from others.
    pub fn task(&self) -> Task {
        Task::new(self.task)
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        TaskId::of(self.task)
    }

    /// Waits for the end until `deadline`, and no longer than the calling task may wait (`time::timeout`).
    fn wait_until(&self, deadline: u64, at: &'static Location<'static>) -> bool {
        self.wait(deadline, true, at)
    }

    /// Publish, re-check, commit. True: the task is done.
    fn wait(&self, deadline: u64, heed_own: bool, at: &'static Location<'static>) -> bool {
        let word = &self.task.join;
        if word.is_done() {
            return true;
        }
        let Some(mut inside) = Inside::enter() else {
            let own = if heed_own { thread_deadline() } else { NEVER };
            return self.wait_on_thread(deadline.min(own));
        };
        let me = inside.task();
        let deadline = if heed_own {
            deadline.min(me.deadline.get())
        } else {
            deadline
        };
        if heed_own && !inside.may_park() {
            inside.refuse(Reason::Join, at);
        }
        let token = me.token();
        if word.set_waiter(token) == SetWaiter::Done {
            return true;
        }
        while !word.is_done() {
            if me.is_over(deadline) {
                // Lost to the finisher: it wakes us once more than needed, which a park allows.
                return !word.clear_waiter(token);
            }
            inside.park_until(deadline, Reason::Join, at);
        }
        true
    }

    #[cold]
    fn wait_on_thread(&self, deadline: u64) -> bool {
        let waiter = ThreadWaiter::new();
        if self.task.join.set_waiter(waiter.token()) == SetWaiter::Done {
            return true;
        }
        if !waiter.wait_until(deadline) {
            if self.task.join.clear_waiter(waiter.token()) {
                return false;
            }
            waiter.wait_until(NEVER); // the finisher has the token and will touch the waiter
        }
        true
    }

    /// For the future of a join.
    pub(super) fn word(&self) -> &JoinWord {
        &self.task.join
    }

    /// Takes the result, which is there.
    pub(super) fn take(self) -> Result<T, JoinError> {
        debug_assert!(self.task.join.is_done(), "a result is taken before it is there");
        let handle = ManuallyDrop::new(self);
        // SAFETY: the join word says done, so the result is there and the handle's.
        let outcome = unsafe { Stored::<Outcome<T>>::take(handle.task) };
        release(handle.task);
        outcome
    }
}

impl<T> Drop for JoinHandle<T> {
    /// Detaches. The result of a task that has ended is dropped; a panic in that is swallowed, as it is when the task
    /// ends after its handle is gone.
    fn drop(&mut self) {
        if !self.task.join.detach() {
            let drop_result = self.task.vtable().drop_result;
            // SAFETY: not detached, so it is done: the result is there and the handle's.
            unsafe { drop_result(self.task) };
        }
        release(self.task);
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JoinHandle")
            .field("id", &self.id())
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// Drops one reference from user code.
#[inline]
pub(crate) fn release(task: TaskRef) {
    if !task.release() {
        return;
    }
    task.drop_extra();
    if let Some(mut inside) = Inside::try_enter()
        && task.belongs_to(inside.shared())
    {
        inside.give_header(task);
    } else {
        slab::give_foreign(task);
    }
}

/// Ends a task that will never run, or never again, and tells its joiner. If it has run, its stack and its own
/// reference are leaked: what lies there may be borrowed. It may have handed over its result, and wait in the destructor of
/// one that nobody wants: then there is nothing to be told.
///
/// # Safety
/// The task will never run (again). `ran`: it has run before.
pub(crate) unsafe fn give_up(task: TaskRef, ran: bool) {
    traced::given_up(task);
    task.state.abandon();
    let table = task.vtable();
    let error = JoinError::shutdown(TaskId::of(task));
    let waiter = if ran && task.join.is_done() {
        None
    } else if ran {
        // SAFETY: the caller says that the task never runs again, so its storage is ours.
        unsafe { (table.fail)(task, error) };
        // SAFETY: the error is the result.
        unsafe { complete(task) }
    } else {
        // SAFETY: as above; the closure is in the storage.
        unsafe { (table.abandon)(task, error) }
    };
    if let Some(waiter) = waiter {
        // SAFETY: the join word gave the token to us.
        if !unsafe { wake_future(waiter) } {
            wake_token(waiter, None);
        }
    }
    if !ran {
        release(task);
    }
}

const _: () = assert!(size_of::<Header>() >= STORAGE_BYTES);
