//! `Runtime`: owns everything; start, run, shut down.

use crate::builder::{Builder, Config};
use crate::error::{JoinError, SpawnError};
use crate::metrics::Metrics;
use crate::preempt::signal;
use crate::sched::inside::Inside;
use crate::sched::shared::Shared;
use crate::sched::shutdown::shut_down;
use crate::sched::wait::Wake;
use crate::sys::{membarrier, thread};
use crate::task::erased::Birth;
use crate::task::scope::{Scope, scope_on};
use crate::task::spawn::{self, JoinHandle};
use crate::{monitor, overflow};
use bast_stack::resume_unwind;
use std::io;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;

/// Stack of the thread that ends a runtime dropped in its own task.
const SHUTDOWN_STACK_BYTES: usize = 256 << 10;

/// Starts a runtime with the default settings, runs `main` as its first task, and ends it when `main` returns.
///
/// Tasks that still run then are waited for until their next call into bast, and tasks that are parked are leaked,
/// with a report on stderr: join what must be finished.
///
/// ```
/// // SAFETY: no value bound to a thread is alive across a call that can park.
/// let answer = unsafe { bast::run(|| bast::spawn(|| 6 * 7).join().unwrap()) };
/// assert_eq!(answer, 42);
/// ```
///
/// # Safety
/// The one contract of bast; see [`Builder::build`].
///
/// # Panics
/// With `main`'s panic, and if the runtime cannot start ([`Builder::build`] gives an error instead).
#[track_caller]
pub unsafe fn run<T: Send>(main: impl FnOnce() -> T + Send) -> T {
    // SAFETY: the caller's promise is the same.
    let runtime = unsafe { Builder::new().build() };
    runtime
        .unwrap_or_else(|error| panic!("bast cannot start: {error}"))
        .run(main)
}

/// A running scheduler: worker threads, a poller, a monitor. Dropping it shuts it down.
#[derive(Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
}

impl Runtime {
    pub(crate) fn start(config: Config) -> io::Result<Runtime> {
        crate::chaos::start();
        membarrier::register();
        overflow::install()?;
        if config.strict_parallelism {
            signal::install(config.preempt_signal)?;
        }
        crate::trace::start_from_environment();
        let shared = Shared::new(config)?;
        monitor::start(&shared)?;
        Ok(Runtime { shared })
    }

    /// Runs `main` as a task and waits for its value. May be called several times, and from several threads.
    ///
    /// # Panics
    /// With `main`'s panic, and if it cannot be spawned.
    #[track_caller]
    pub fn run<T: Send>(&self, main: impl FnOnce() -> T + Send) -> T {
        let at = Location::caller();
        // SAFETY: `join_lent` below does not return before the task is done or will never run again, so what `main`
        // borrows is not touched after it; both closure and value are Send.
        let spawned = unsafe { spawn::spawn_foreign(&self.shared, main, (), Birth::at(at)) };
        let task = spawned.unwrap_or_else(|error| panic!("bast: the main task cannot be spawned: {error}"));
        match task.join_lent(at).map_err(JoinError::try_into_panic) {
            Ok(value) => value,
            Err(Ok(payload)) => resume_unwind(payload),
            Err(Err(error)) => panic!("{error}"),
        }
    }

    /// As [`bast::scope`](crate::scope()), with tasks on this runtime, from any thread: a plain one waits for them as a
    /// thread does.
    ///
    /// ```
    /// // SAFETY: no value bound to a thread is alive across a call that can park.
    /// let runtime = unsafe { bast::Builder::new().build()? };
    /// let words = vec!["lent", "by", "a", "thread"];
    /// let lengths: usize = runtime.scope(|s| {
    ///     let tasks: Vec<_> = words.iter().map(|word| s.spawn(|| word.len())).collect();
    ///     tasks.into_iter().map(|task| task.join().unwrap()).sum()
    /// });
    /// assert_eq!(lengths, 13);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`bast::scope`](crate::scope()), wherever it is called.
    #[track_caller]
    pub fn scope<'env, F, T>(&self, f: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    {
        let owner = Wake::of_caller();
        // SAFETY: the runtime is borrowed for longer than the call.
        unsafe { scope_on(NonNull::from(&*self.shared), owner, f, Location::caller()) }
    }

    /// Spawns a task from any thread.
    ///
    /// # Errors
    /// If memory or stacks are exhausted.
    #[track_caller]
    pub fn spawn<F, T>(&self, closure: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        crate::task::Builder::new().spawn_on(&self.shared, closure, Location::caller())
    }

    /// A handle to spawn with from elsewhere.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// What the runtime has done so far.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// Shuts the runtime down; the same as dropping it.
    pub fn shutdown(self) {}
}

impl Drop for Runtime {
    /// In a task of its own the runtime cannot wait for that task's worker: it is then shut down from a thread of its
    /// own, after the call.
    fn drop(&mut self) {
        if !Inside::enter().is_some_and(|inside| std::ptr::eq(inside.shared(), &*self.shared)) {
            return shut_down(&self.shared);
        }
        let shared = Arc::clone(&self.shared);
        let started = thread::start("bast-shutdown".to_owned(), SHUTDOWN_STACK_BYTES, move || {
            shut_down(&shared)
        });
        if let Err(error) = started {
            eprintln!(
                "bast: a runtime dropped in its own task goes on, as no thread can be had to end it: {error}"
            );
            std::mem::forget(Arc::clone(&self.shared));
        }
    }
}

/// Spawns tasks on a runtime from any thread. Does not keep the runtime running.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

// As std's handles to threads: what is behind it is atomics and locks of ours, which no panic leaves half changed.
impl std::panic::UnwindSafe for Handle {}
impl std::panic::RefUnwindSafe for Handle {}

impl Handle {
    /// Spawns a task.
    ///
    /// # Errors
    /// If the runtime has ended, or memory or stacks are exhausted.
    #[track_caller]
    pub fn spawn<F, T>(&self, closure: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        crate::task::Builder::new().spawn_on(&self.shared, closure, Location::caller())
    }

    /// What the runtime has done so far.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }
}
