//! Tasks under `--cfg bast_loom`: each is a thread of loom's, and what is here has the names and meanings of the real ones.
//!
//! A panic is not caught: it ends the model, which is what a model is for. No time passes.

pub use crate::error::{JoinError, SpawnError};

use loom::sync::{Condvar, Mutex};
use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc; // not loom's: what is ours here is not to be explored
use std::task::{Context, Poll, Waker};
use std::time::Duration;

loom::thread_local! {
    static CURRENT: RefCell<Option<Task>> = RefCell::new(None);
}

loom::lazy_static! {
    static ref NEXT_ID: Mutex<u64> = Mutex::new(1);
}

/// A task's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u64);

impl TaskId {
    /// The number.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A handle to a task: to know it by, and to unpark it.
#[derive(Clone)]
pub struct Task(Arc<Inner>);

struct Inner {
    id: TaskId,
    name: Option<Arc<str>>,
    permit: Mutex<bool>,
    changed: Condvar,
}

impl Task {
    fn new(name: Option<Arc<str>>) -> Task {
        let mut next = NEXT_ID.lock().unwrap();
        let id = TaskId(*next);
        *next += 1;
        Task(Arc::new(Inner {
            id,
            name,
            permit: Mutex::new(false),
            changed: Condvar::new(),
        }))
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.0.id
    }

    /// The name it was given at its spawn.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Wakes the task if it is parked; otherwise its next [`park`] returns at once.
    pub fn unpark(&self) {
        *self.0.permit.lock().unwrap() = true;
        self.0.changed.notify_one();
    }
}

impl PartialEq for Task {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Task {}

impl fmt::Debug for Task {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Task")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish()
    }
}

/// The calling task; the body of a model is one too.
pub fn current() -> Task {
    CURRENT.with(|current| {
        current
            .borrow_mut()
            .get_or_insert_with(|| Task::new(None))
            .clone()
    })
}

/// The calling task.
pub fn try_current() -> Option<Task> {
    Some(current())
}

/// Lets others run: loom goes on with this task when others have done something.
pub fn yield_now() {
    loom::thread::yield_now();
}

/// Nothing: loom switches wherever that makes a difference.
pub fn checkpoint() {}

/// Parks the calling task until [`Task::unpark`]. Unlike the real one it never returns for no reason.
pub fn park() {
    let task = current();
    let mut permit = task.0.permit.lock().unwrap();
    while !*permit {
        permit = task.0.changed.wait(permit).unwrap();
    }
    *permit = false;
}

/// As [`park`], and the time is over as soon as somebody looks.
pub fn park_timeout(_: Duration) {
    *current().0.permit.lock().unwrap() = false;
    yield_now();
}

/// Sets up a task before it is spawned.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    name: Option<Arc<str>>,
}

impl Builder {
    /// An ordinary task.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the task.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Nothing: threads of a model have the stacks that loom gives them.
    pub fn stack_size(self, _: usize) -> Builder {
        self
    }

    /// Spawns a task.
    ///
    /// # Errors
    /// None.
    ///
    /// # Panics
    /// If there are more tasks than loom can model: four besides the model's body.
    pub fn spawn<F, T>(self, closure: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let task = Task::new(self.name);
        let end = Arc::new(End {
            state: Mutex::new((None, None)),
            changed: Condvar::new(),
        });
        let handle = JoinHandle {
            task: task.clone(),
            end: Arc::clone(&end),
        };
        loom::thread::spawn(move || {
            CURRENT.with(|current| *current.borrow_mut() = Some(task));
            let value = closure();
            let mut state = end.state.lock().unwrap();
            state.0 = Some(value);
            let waker = state.1.take();
            drop(state);
            end.changed.notify_one();
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        Ok(handle)
    }
}

/// Spawns a task: a thread of loom's.
///
/// # Panics
/// If there are more tasks than loom can model: four besides the model's body.
pub fn spawn<F, T>(closure: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new()
        .spawn(closure)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// As [`spawn`].
///
/// # Errors
/// None.
pub fn try_spawn<F, T>(closure: F) -> Result<JoinHandle<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().spawn(closure)
}

/// The end of a task: its value, and the waker of a future that waits for it.
struct End<T> {
    state: Mutex<(Option<T>, Option<Waker>)>,
    changed: Condvar,
}

/// Owned permission to wait for a task's end and take its result. Dropping it detaches the task.
pub struct JoinHandle<T> {
    task: Task,
    end: Arc<End<T>>,
}

impl<T> JoinHandle<T> {
    /// Waits for the task's end.
    ///
    /// # Errors
    /// None: a task that panics ends the model.
    pub fn join(self) -> Result<T, JoinError> {
        let mut state = self.end.state.lock().unwrap();
        loop {
            if let Some(value) = state.0.take() {
                return Ok(value);
            }
            state = self.end.changed.wait(state).unwrap();
        }
    }

    /// As [`JoinHandle::join`], and the time is over as soon as somebody looks.
    ///
    /// # Errors
    /// Gives the handle back if the task has not ended.
    pub fn join_timeout(self, _: Duration) -> Result<Result<T, JoinError>, JoinHandle<T>> {
        let value = self.end.state.lock().unwrap().0.take();
        value.map(Ok).ok_or(self)
    }

    /// True once the task has ended.
    pub fn is_finished(&self) -> bool {
        self.end.state.lock().unwrap().0.is_some()
    }

    /// The task.
    pub fn task(&self) -> Task {
        self.task.clone()
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.task.id()
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JoinHandle").field("id", &self.id()).finish()
    }
}

/// What awaiting a [`JoinHandle`] makes.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct JoinFuture<T>(JoinHandle<T>);

impl<T> IntoFuture for JoinHandle<T> {
    type Output = Result<T, JoinError>;
    type IntoFuture = JoinFuture<T>;

    fn into_future(self) -> JoinFuture<T> {
        JoinFuture(self)
    }
}

impl<T> Future for JoinFuture<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let fresh = context.waker().clone();
        let mut state = self.0.end.state.lock().unwrap();
        match state.0.take() {
            Some(value) => Poll::Ready(Ok(value)),
            None => {
                let stale = state.1.replace(fresh);
                drop(state);
                drop(stale);
                Poll::Pending
            }
        }
    }
}
