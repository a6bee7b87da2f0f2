//! Who is sampled: the workers' rings, the timers while anybody asks, and taking out what was seen.

use super::ring::Ring;
use super::signal;
use crate::sys::cpu_timer::CpuTimer;
use crate::sys::lock::{Lock, Rank};
use crate::sys::thread::{self, CpuClock, ThreadId};
use crate::util::rng::Rng;
use std::io;
use std::ops::Range;
use std::panic::Location;
use std::sync::{Arc, OnceLock};

/// Most samples a second of CPU time: the kernel looks at CPU clocks no more often, and mostly less.
pub(crate) const HZ_MAX: u32 = 1000;
/// Frames of a sample.
pub(super) const FRAMES_MAX: usize = 60;

/// One look at a worker that computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// As [`crate::time::clock`] has it.
    pub(crate) nanos: u64,
    /// By its number in traces.
    pub(crate) processor: Option<u64>,
    pub(crate) task: Option<TaskSeen>,
    pub(super) count: usize,
    pub(super) frames: [usize; FRAMES_MAX],
}

impl Sample {
    /// The address of the instruction, and return addresses, the innermost first.
    pub(crate) fn addresses(&self) -> &[usize] {
        &self.frames[..self.count]
    }
}

/// The task on a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskSeen {
    /// Unique in the process.
    pub(crate) id: u64,
    /// Type name of its closure.
    pub(crate) entry: fn() -> &'static str,
    /// Where the code lies that runs it.
    pub(crate) code: usize,
    pub(crate) spawned: &'static Location<'static>,
}

/// What a worker has for its samples.
#[derive(Debug)]
pub(crate) struct Sampled {
    /// By its number in traces.
    thread: u64,
    tid: ThreadId,
    clock: Option<CpuClock>,
    /// Its own stack.
    pub(super) stack: Range<usize>,
    /// Made when it is to be sampled for the first time, and kept.
    pub(super) ring: OnceLock<Ring<Sample>>,
}

#[derive(Debug)]
struct Entry {
    worker: Arc<Sampled>,
    timer: Option<CpuTimer>,
    /// The worker is gone; what it has left is to be drained.
    gone: bool,
}

#[derive(Debug)]
struct State {
    /// Zero: nobody is sampled.
    hz: u32,
    workers: Vec<Entry>,
}

/// Held also while timers are made and deleted, which never waits: by threads that begin and end, and by the drainer.
static STATE: Lock<State> = Lock::new(
    Rank::Trace,
    State {
        hz: 0,
        workers: Vec::new(),
    },
);

impl Entry {
    fn arm(&mut self, hz: u32) -> io::Result<()> {
        self.worker.ring.get_or_init(Ring::new);
        let period = 1_000_000_000 / hz;
        // Not all at once, and not always at the same time after a thread's start.
        let first = 1 + Rng::new(crate::time::clock::now() ^ self.worker.thread).below(period);
        let timer = signal::timer(self.worker.clock, self.worker.tid, first, period)?;
        self.timer = Some(timer);
        Ok(())
    }

    /// Takes out what there is.
    fn drain(&self, mut sink: impl FnMut(u64, &Sample)) -> u64 {
        let Some(ring) = self.worker.ring.get() else {
            return 0;
        };
        // SAFETY: one reader: all are under the lock of `STATE`.
        while let Some(sample) = unsafe { ring.pop() } {
            sink(self.worker.thread, &sample);
        }
        ring.take_lost()
    }
}

/// The calling thread becomes a worker. It is sampled from now on, if anybody asks.
pub(crate) fn add_worker() -> Arc<Sampled> {
    let worker = Arc::new(Sampled {
        thread: thread::own_number(),
        tid: thread::own_id(),
        clock: thread::own_cpu_clock(),
        stack: bast_stack::thread_stack().unwrap_or(0..0),
        ring: OnceLock::new(),
    });
    let mut entry = Entry {
        worker: Arc::clone(&worker),
        timer: None,
        gone: false,
    };
    let mut state = STATE.lock();
    let armed = match state.hz {
        0 => Ok(()),
        hz => entry.arm(hz),
    };
    state.workers.push(entry);
    drop(state);
    if let Err(error) = armed {
        eprintln!("bast: a worker goes without CPU samples: {error}");
    }
    worker
}

/// By the worker, before its thread ends.
pub(crate) fn end_worker(worker: &Arc<Sampled>) {
    let mut state = STATE.lock();
    let sampled = state.hz != 0;
    let found = state
        .workers
        .iter()
        .position(|entry| Arc::ptr_eq(&entry.worker, worker));
    if let Some(at) = found {
        if sampled {
            let entry = &mut state.workers[at];
            entry.timer = None;
            entry.gone = true;
        } else {
            state.workers.swap_remove(at);
        }
    }
}

/// Begins to sample all workers, those that there are and those to come, so often a second of their CPU time.
///
/// # Errors
/// `ResourceBusy` if they are sampled already, or another handler has come before ours; `InvalidInput` for a rate of zero or
/// more than [`HZ_MAX`]; `Unsupported` outside of Linux; and if a timer cannot be had.
pub(crate) fn start(hz: u32) -> io::Result<()> {
    if !(1..=HZ_MAX).contains(&hz) {
        let text = format!("{hz} CPU samples a second: from 1 to {HZ_MAX} can be had");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    signal::install()?;
    let mut state = STATE.lock();
    if state.hz != 0 {
        let text = "CPU samples of this process are taken already";
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    let State { workers, .. } = &mut *state;
    workers.retain(|entry| !entry.gone); // since the last drain
    let armed = workers.iter_mut().try_for_each(|entry| {
        entry.drain(|_, _| ()); // left from before
        entry.arm(hz)
    });
    match armed {
        Ok(()) => state.hz = hz,
        Err(_) => workers.iter_mut().for_each(|entry| entry.timer = None),
    }
    armed
}

/// Ends it. What was seen can still be drained; a sample that is being taken in this moment is lost.
pub(crate) fn stop() {
    let mut state = STATE.lock();
    state.hz = 0;
    state.workers.iter_mut().for_each(|entry| entry.timer = None);
}

/// Gives all samples since the last call to `sink`, with the number of the worker's thread; those of one worker in their
/// order. Gives how many were lost, because nobody drained in time.
pub(crate) fn drain(mut sink: impl FnMut(u64, &Sample)) -> u64 {
    let mut state = STATE.lock();
    let lost = state.workers.iter().map(|entry| entry.drain(&mut sink)).sum();
    state.workers.retain(|entry| !entry.gone);
    lost
}
