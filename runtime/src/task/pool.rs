//! A pool: a fixed number of tasks that take jobs from one bounded queue.

use super::spawn::Builder;
use crate::error::SpawnError;
use crate::primitive::atomic::{AtomicU64, Relaxed};
use crate::sync::channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};
use crate::sync::{TimedOut, WaitGroup};
use bast_stack::catch_unwind;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// A job on its way to a task of the pool.
type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of tasks that run jobs from a bounded queue, first come, first served.
///
/// Tasks are cheap, so a pool is not there to save on them: it bounds **how much is done at once** and **how much may
/// wait**, and says no to the rest. Who only wants to bound the first uses [`Semaphore`](crate::sync::Semaphore); who
/// wants results or borrows uses [`scope`](crate::scope()).
///
/// A job that panics is counted, and its task goes on with the next. Dropping the pool closes it and does not wait; jobs
/// that are queued still run.
///
/// ```
/// use bast::task::{Pool, SubmitError};
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::sync::Arc;
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let pool = Pool::new(4, 16)?;
/// let sum = Arc::new(AtomicU32::new(0));
/// for number in 1..=100 {
///     let sum = sum.clone();
///     pool.submit(move || _ = sum.fetch_add(number, Ordering::Relaxed)).unwrap(); // waits while 16 are queued
/// }
/// pool.close();
/// assert_eq!(sum.load(Ordering::Relaxed), 5050);
/// let refused = pool.try_submit(|| ()).unwrap_err();
/// assert!(refused.is_closed());
/// # Ok::<(), bast::SpawnError>(()) }).unwrap() }
/// ```
pub struct Pool {
    jobs: Sender<Job>,
    crew: Arc<Crew>,
}

/// What the tasks of a pool share.
struct Crew {
    tasks: usize,
    /// Tasks that have not ended.
    running: Arc<WaitGroup>,
    panics: AtomicU64,
}

impl Crew {
    /// A task of the pool, until the queue is closed and empty.
    fn work(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
                self.panics.fetch_add(1, Relaxed);
                // A payload that panics in its drop, and so on, is not worth the task.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                    std::mem::forget(payload);
                }
            }
        }
    }
}

impl Pool {
    /// A pool of so many tasks, and a queue for so many jobs beside those that run. With `queue` zero a job is taken
    /// only by a task that waits for one. The tasks are of the runtime of the calling task.
    ///
    /// # Errors
    /// See [`SpawnError`].
    ///
    /// # Panics
    /// If `tasks` is zero.
    #[track_caller]
    pub fn new(tasks: usize, queue: usize) -> Result<Pool, SpawnError> {
        Pool::with(&Builder::new(), tasks, queue)
    }

    /// As [`Pool::new`], with tasks set up by `builder`: their name, stack and priority.
    ///
    /// # Errors
    /// See [`SpawnError`].
    ///
    /// # Panics
    /// If `tasks` is zero.
    #[track_caller]
    pub fn with(builder: &Builder, tasks: usize, queue: usize) -> Result<Pool, SpawnError> {
        assert!(tasks > 0, "bast: a pool without tasks runs no job");
        let (jobs, queue) = bounded::<Job>(queue);
        let crew = Arc::new(Crew {
            tasks,
            running: Arc::new(WaitGroup::new()),
            panics: AtomicU64::new(0),
        });
        let pool = Pool { jobs, crew }; // if there are too few tasks, its drop ends those that are there
        for _ in 0..tasks {
            let (crew, queue) = (Arc::clone(&pool.crew), queue.clone());
            let member = crew.running.member();
            let spawned = builder.clone().spawn(move || {
                let _member = member; // let go last
                crew.work(&queue);
            });
            drop(spawned?);
        }
        Ok(pool)
    }

    /// Queues a job; waits while the queue is full.
    ///
    /// # Errors
    /// [`SubmitError::Closed`], with the job, if the pool is closed before there is room;
    /// [`SubmitError::TimedOut`] if the caller may wait no longer (`time::timeout`).
    #[track_caller]
    pub fn submit<F>(&self, job: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.jobs.send(Box::new(job)).map_err(|error| {
            // SAFETY: it is the box that was just made of an `F`.
            let job = unsafe { unbox(error.0) };
            if self.jobs.is_closed() {
                SubmitError::Closed(job)
            } else {
                SubmitError::TimedOut(job)
            }
        })
    }

    /// Queues a job if there is room for it.
    ///
    /// # Errors
    /// [`SubmitError::Full`] or [`SubmitError::Closed`], with the job.
    pub fn try_submit<F>(&self, job: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        self.jobs.try_send(Box::new(job)).map_err(|error| match error {
            // SAFETY: it is the box that was just made of an `F`.
            TrySendError::Full(job) => SubmitError::Full(unsafe { unbox(job) }),
            // SAFETY: as above.
            TrySendError::Disconnected(job) => SubmitError::Closed(unsafe { unbox(job) }),
        })
    }

    /// As [`Pool::submit`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`SubmitError::TimedOut`] or [`SubmitError::Closed`], with the job.
    #[track_caller]
    pub fn submit_timeout<F>(&self, job: F, timeout: Duration) -> Result<(), SubmitError<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let sent = self.jobs.send_timeout(Box::new(job), timeout);
        sent.map_err(|error| match error {
            // SAFETY: it is the box that was just made of an `F`.
            SendTimeoutError::Timeout(job) => SubmitError::TimedOut(unsafe { unbox(job) }),
            // SAFETY: as above.
            SendTimeoutError::Disconnected(job) => SubmitError::Closed(unsafe { unbox(job) }),
        })
    }

    /// Takes no more jobs, and waits until those that were taken are done and the tasks have ended, however long that
    /// takes. May be called several times. A job that calls it waits for itself, for ever.
    #[track_caller]
    pub fn close(&self) {
        self.jobs.close();
        self.crew.running.wait();
    }

    /// As [`Pool::close`], waiting for at most `timeout`. The pool is closed in any case.
    ///
    /// # Errors
    /// [`TimedOut`] if jobs are under way when the time is over.
    #[track_caller]
    pub fn close_timeout(&self, timeout: Duration) -> Result<(), TimedOut> {
        self.jobs.close();
        self.crew.running.wait_timeout(timeout)
    }

    /// How many tasks run jobs.
    pub fn tasks(&self) -> usize {
        self.crew.tasks
    }

    /// Jobs that wait for a task at this moment.
    pub fn queued(&self) -> usize {
        self.jobs.len()
    }

    /// Jobs that have panicked so far.
    pub fn panics(&self) -> u64 {
        self.crew.panics.load(Relaxed)
    }
}

/// # Safety
/// The job was made by boxing an `F`.
unsafe fn unbox<F>(job: Job) -> F {
    let raw = Box::into_raw(job).cast::<F>();
    // SAFETY: validity: it was allocated as a box of an `F`, says the caller. aliasing: taken out of its owner.
    *unsafe { Box::from_raw(raw) }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs.close();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pool")
            .field("tasks", &self.tasks())
            .field("running", &self.crew.running.count())
            .field("queued", &self.queued())
            .field("panics", &self.panics())
            .finish_non_exhaustive()
    }
}

/// Why a [`Pool`] did not take a job, which is in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SubmitError<F> {
    /// The queue is full, and no task waits.
    Full(F),
    /// The queue was full until the time was over.
    TimedOut(F),
    /// The pool is closed.
    Closed(F),
}

impl<F> SubmitError<F> {
    /// The job.
    pub fn into_inner(self) -> F {
        match self {
            SubmitError::Full(job) | SubmitError::TimedOut(job) | SubmitError::Closed(job) => job,
        }
    }

    /// There was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, SubmitError::Full(_))
    }

    /// There was no room for as long as the caller could wait.
    pub fn is_timeout(&self) -> bool {
        matches!(self, SubmitError::TimedOut(_))
    }

    /// The pool is closed.
    pub fn is_closed(&self) -> bool {
        matches!(self, SubmitError::Closed(_))
    }
}

impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            SubmitError::Full(_) => "Full(..)",
            SubmitError::TimedOut(_) => "TimedOut(..)",
            SubmitError::Closed(_) => "Closed(..)",
        })
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            SubmitError::Full(_) => "the pool's queue is full",
            SubmitError::TimedOut(_) => "the pool's queue was full until the time was over",
            SubmitError::Closed(_) => "the pool is closed",
        })
    }
}

impl<F> std::error::Error for SubmitError<F> {}
