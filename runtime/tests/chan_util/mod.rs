//! Runs the tests of channels everywhere: on 1, 2 and 8 processors, from tasks, from plain threads, and from both.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

#[path = "../util/mod.rs"]
mod util;

pub(crate) use util::{PROCESSORS, Watchdog, on_each, run_on, start_with, wait_for};

use bast::Handle;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Who runs what a test spawns.
#[derive(Debug)]
pub(crate) enum Go {
    Tasks,
    Threads,
    /// In turn.
    Both(Handle, AtomicUsize),
}

#[derive(Debug)]
pub(crate) enum Spawned<T> {
    Task(bast::JoinHandle<T>),
    Thread(std::thread::JoinHandle<T>),
}

impl Go {
    pub(crate) fn spawn<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Spawned<T> {
        match self {
            Go::Tasks => Spawned::Task(bast::spawn(f)),
            Go::Threads => Spawned::Thread(std::thread::spawn(f)),
            Go::Both(handle, count) if count.fetch_add(1, Relaxed) % 2 == 0 => {
                Spawned::Task(handle.spawn(f).expect("a task"))
            }
            Go::Both(..) => Spawned::Thread(std::thread::spawn(f)),
        }
    }

    /// So many rounds, or fewer where a round costs more: threads are slow to switch, and more so under a sanitizer.
    pub(crate) fn rounds(&self, of_tasks: usize) -> usize {
        let rounds = match self {
            Go::Tasks => of_tasks,
            Go::Threads | Go::Both(..) => of_tasks.div_ceil(10),
        };
        if util::is_instrumented() || cfg!(bast_chaos) {
            rounds.div_ceil(10)
        } else {
            rounds
        }
    }
}

impl<T> Spawned<T> {
    #[track_caller]
    pub(crate) fn join(self) -> T {
        match self {
            Spawned::Task(task) => task.join().expect("the task ends well"),
            Spawned::Thread(thread) => thread.join().expect("the thread ends well"),
        }
    }
}

/// Runs `test` on 1, 2 and 8 processors as a task, on a plain thread with threads, and on a plain thread with both.
pub(crate) fn everywhere(test: impl Fn(&Go) + Sync) {
    on_each(|| test(&Go::Tasks));
    let watchdog = Watchdog::start("threads", None);
    test(&Go::Threads);
    drop(watchdog);
    let runtime = util::start_with(2);
    let _watchdog = Watchdog::start("tasks and threads", Some(runtime.handle()));
    test(&Go::Both(runtime.handle(), AtomicUsize::new(0)));
}

/// Time for others to come to a standstill. No test fails if it is not enough; some then test less.
pub(crate) fn settle() {
    bast::time::sleep(Duration::from_millis(2));
}

/// Long enough for anything.
pub(crate) const LONG: Duration = Duration::from_secs(100);
/// Too short for most.
pub(crate) const SHORT: Duration = Duration::from_millis(5);
