//! What the rounds are made with: random numbers, a latch, plain threads.

use super::ledger::{self, Kind, Planned, World};
use bast::task::Task;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a round takes place.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// What all rounds share.
    pub world: &'static World,
    /// The account of the round's kind.
    pub kind: &'static Kind,
}

impl Ground {
    /// Ends the process with the books if `right` is false.
    #[track_caller]
    pub fn check(self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            let at = std::panic::Location::caller();
            ledger::fail(self.world, self.kind.name, &format!("{} ({at})", what()));
        }
    }

    /// Both the same, or the end.
    #[track_caller]
    pub fn same<T: PartialEq + std::fmt::Debug>(self, got: T, wanted: T, what: &str) {
        if got != wanted {
            let at = std::panic::Location::caller();
            let text = format!("{what}: {got:?}, where it must be {wanted:?} ({at})");
            ledger::fail(self.world, self.kind.name, &text);
        }
    }

    /// The value, or the end.
    #[track_caller]
    pub fn must<T, E: std::fmt::Debug>(self, result: Result<T, E>, what: &str) -> T {
        result.unwrap_or_else(|error| {
            let at = std::panic::Location::caller();
            ledger::fail(self.world, self.kind.name, &format!("{what}: {error:?} ({at})"))
        })
    }

    /// Has a plain thread do `job`, some time. Not inlined: std's channel uses thread-locals.
    #[inline(never)]
    pub fn on_thread(self, job: impl FnOnce() + Send + 'static) {
        let workshop = self.world.workshop.get().expect("the threads have started");
        workshop
            .send(Box::new(job))
            .expect("the threads outlive the rounds");
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and every seed is a good one.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A stream of its own for every seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// A generator for a part of the work, so that its draws do not depend on what others do.
    pub fn split(&mut self) -> Rng {
        Rng(self.draw())
    }

    /// A time below so many microseconds.
    pub fn micros_below(&mut self, bound: u64) -> Duration {
        Duration::from_micros(self.below(bound))
    }
}

/// FNV-1a, to give each kind a stream of its own.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

pub(super) fn seed_from_clock() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Short enough to be typed.
    Rng::new(time.as_nanos() as u64).draw() % 1_000_000_000
}

/// The task that made it waits until `left` others have been here.
#[derive(Clone, Debug)]
pub struct Latch(Arc<(AtomicUsize, Task)>);

impl Latch {
    /// For the calling task to wait on.
    pub fn new(count: usize) -> Latch {
        Latch(Arc::new((AtomicUsize::new(count), bast::task::current())))
    }

    /// One has been here. The last one wakes the waiter, and nobody else does.
    pub fn arrive(&self) {
        let (left, waiter) = &*self.0;
        let before = left.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "more came than were expected");
        if before == 1 {
            waiter.unpark();
        }
    }

    /// How many are still to come.
    pub fn left(&self) -> usize {
        self.0.0.load(Ordering::Acquire)
    }

    /// By the task that made it.
    pub fn wait(&self) {
        while self.left() > 0 {
            bast::task::park();
        }
    }
}

/// Something for a plain thread to do.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Plain threads that belong to no runtime.
#[derive(Debug)]
pub(super) struct Threads {
    world: &'static World,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn start(world: &'static World, count: usize) -> Threads {
        let (send, receive) = mpsc::channel::<Job>();
        let receive = Arc::new(Mutex::new(receive));
        world.workshop.set(send).expect("the threads start once");
        let work = move || {
            loop {
                let job = receive.lock().expect("no job runs under the lock").recv();
                match job {
                    Ok(job) => job(),
                    Err(_) => break,
                }
                if world.is_over() && world.drivers() == 0 {
                    break;
                }
            }
        };
        let threads = (0..count).map(|_| std::thread::spawn(work.clone())).collect();
        Threads { world, threads }
    }

    pub(super) fn stop(self) {
        let workshop = self.world.workshop.get().expect("the threads have started");
        // A job that does nothing, for each to see that the work is over.
        self.threads
            .iter()
            .for_each(|_| workshop.send(Box::new(|| ())).expect("they still wait"));
        for thread in self.threads {
            thread.join().expect("a panic would have ended the process");
        }
    }
}

/// Descriptors the process has open.
pub(super) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count())
}

/// No more descriptors than there were before; those of short-lived runtimes may go a moment after their threads.
pub(super) fn expect_files(world: &World, before: usize) {
    for _ in 0..2000 {
        if open_files() <= before {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let now = open_files();
    ledger::fail(
        world,
        "the end",
        &format!("{now} files are open, {before} were before"),
    );
}

/// The task ended by the planned panic `number`.
pub fn expect_planned<T>(ground: Ground, joined: Result<T, bast::JoinError>, number: u64) {
    let Err(error) = joined else {
        return ground.check(false, || format!("task {number} did not panic"));
    };
    ground.check(error.is_panic(), || format!("not a panic: {error}"));
    let payload = error.into_panic();
    ground.same(
        payload.downcast_ref::<Planned>().map(|planned| planned.0),
        Some(number),
        "payload",
    );
}
