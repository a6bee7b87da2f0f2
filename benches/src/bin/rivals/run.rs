//! What a row's code is given: how much to do, and a runtime to do it on.

use crate::options::Work;
use crate::stats::column_medians;
use crate::system::System;
use std::future::Future;
use std::time::Instant;

/// A value for each metric of the row.
pub(crate) type Values = Vec<f64>;

/// Stacks of a may coroutine that are alive at once: each is two mappings, and the system allows 65,530 by default.
pub(crate) const MAY_ALIVE_MAX: usize = 20_000;

/// One row for one system in this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) system: System,
    pub(crate) work: Work,
}

impl Run {
    /// `full`, or a tenth of it in a quick run.
    pub(crate) fn count(&self, full: usize) -> usize {
        if self.work.quick { full / 10 } else { full }
    }

    /// Measured rounds, after one that warms up.
    fn rounds(&self, mut once: impl FnMut() -> Values) -> Values {
        once();
        let count = if self.work.quick { 1 } else { 5 };
        column_medians(&(0..count).map(|_| once()).collect::<Vec<_>>())
    }

    /// Rounds in this thread.
    pub(crate) fn plain(&self, once: impl FnMut() -> Values) -> Values {
        self.rounds(once)
    }

    /// Rounds in the first task of a bast runtime.
    pub(crate) fn bast(&self, once: impl Fn() -> Values + Sync) -> Values {
        let runtime = bast_runtime(self.work, bast::Builder::new());
        self.rounds(|| runtime.run(&once))
    }

    /// Rounds in a task of a tokio runtime, spawned so that it runs on a worker and not on this thread.
    pub(crate) fn tokio<F>(&self, once: impl Fn() -> F) -> Values
    where
        F: Future<Output = Values> + Send + 'static,
    {
        let runtime = tokio_runtime(self.work);
        self.rounds(|| {
            let task = runtime.spawn(once());
            runtime.block_on(task).expect("a round does not panic")
        })
    }

    /// Rounds in a may coroutine.
    pub(crate) fn may(&self, once: impl Fn() -> Values + Clone + Send + 'static) -> Values {
        may_runtime(self.work, MAY_ALIVE_MAX);
        self.rounds(|| may_spawn(once.clone()).join().expect("a round does not panic"))
    }

    /// One round on fresh memory.
    pub(crate) fn bast_once(&self, builder: bast::Builder, once: impl FnOnce() -> Values + Send) -> Values {
        bast_runtime(self.work, builder).run(once)
    }

    /// As [`Run::bast_once`].
    pub(crate) fn tokio_once<F: Future<Output = Values> + Send + 'static>(&self, once: F) -> Values {
        let runtime = tokio_runtime(self.work);
        let task = runtime.spawn(once);
        runtime.block_on(task).expect("the round does not panic")
    }

    /// As [`Run::bast_once`]; no stacks are made in advance.
    pub(crate) fn may_once(&self, once: impl FnOnce() -> Values + Send + 'static) -> Values {
        may_runtime(self.work, 1);
        may_spawn(once).join().expect("the round does not panic")
    }
}

/// bast with this many processors.
pub(crate) fn bast_runtime(work: Work, builder: bast::Builder) -> bast::Runtime {
    // SAFETY: no task of this program holds a value bound to a thread across a call that can park.
    let runtime = unsafe { builder.processors(work.processors).build() };
    runtime.expect("bast starts")
}

/// The multi-thread runtime.
pub(crate) fn tokio_runtime(work: Work) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(work.processors)
        .enable_all()
        .build()
        .expect("tokio starts")
}

/// Sets up may, whose runtime starts by itself: it makes `pool` stacks in advance and keeps as many.
pub(crate) fn may_runtime(work: Work, pool: usize) {
    may::config().set_workers(work.processors).set_pool_capacity(pool);
}

/// A coroutine of may.
pub(crate) fn may_spawn<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> may::coroutine::JoinHandle<T> {
    // SAFETY: what runs here uses no thread-locals across a switch and little of its 32 KiB of stack.
    unsafe { may::coroutine::spawn(f) }
}

/// Nanoseconds since `start`, for each of `count`.
pub(crate) fn nanos_each(start: Instant, count: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / count as f64
}
