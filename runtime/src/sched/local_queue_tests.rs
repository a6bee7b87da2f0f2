//! Tests of the run queue by one thread, and a stress test by several that a thread sanitizer can watch.

use super::*;
use crate::primitive::UnsafeCell;
use crate::primitive::atomic::{AtomicBool, AtomicUsize};
use crate::primitive::{spin_loop, yield_now};

/// Queues do not look into tasks: a number made a pointer will do.
fn task(id: usize) -> NonNull<usize> {
    NonNull::new(ptr::without_provenance_mut(id + 1)).unwrap()
}

fn id(task: NonNull<usize>) -> usize {
    task.addr().get() - 1
}

fn push(queue: &LocalQueue<usize>, ids: std::ops::Range<usize>) {
    for id in ids {
        // SAFETY: validity: one thread owns every queue of these tests, and no task is followed.
        //         aliasing: as above.
        unsafe { queue.push_back(task(id), |_| panic!("overflow")) };
    }
}

fn pop(queue: &LocalQueue<usize>) -> Option<usize> {
    // SAFETY: validity: one thread owns every queue of these tests, and no task is followed.
    //         aliasing: as above.
    unsafe { queue.pop() }.map(id)
}

fn drain(queue: &LocalQueue<usize>) -> Vec<usize> {
    std::iter::from_fn(|| pop(queue)).collect()
}

fn steal(thief: &LocalQueue<usize>, victim: &LocalQueue<usize>, take_next: bool) -> Option<usize> {
    // SAFETY: validity: one thread owns every queue of these tests, and no task is followed.
    //         aliasing: as above.
    unsafe { thief.steal_from(victim, take_next) }.map(id)
}

/// Positions at which something could go wrong: the start and just before they wrap.
const STARTS: [u64; 3] = [0, u64::MAX - 3, u64::MAX - CAPACITY as u64];

#[test]
fn first_in_first_out_across_the_wrap() {
    for start in STARTS {
        let queue = LocalQueue::starting_at(start);
        push(&queue, 0..CAPACITY);
        assert_eq!((queue.len(), queue.is_empty()), (CAPACITY, false));
        assert_eq!(drain(&queue), Vec::from_iter(0..CAPACITY));
        assert_eq!((queue.len(), queue.is_empty()), (0, true));
    }
}

#[test]
fn a_full_ring_hands_out_its_older_half_and_the_new_task() {
    for start in STARTS {
        let queue = LocalQueue::starting_at(start);
        push(&queue, 0..CAPACITY);
        let mut batch = Vec::new();
        // SAFETY: validity: this thread owns the queue, and no task is followed.
        //         aliasing: as above.
        unsafe {
            queue.push_back(task(CAPACITY), |tasks| {
                batch.extend(tasks.iter().copied().map(id))
            })
        };
        assert_eq!(batch, Vec::from_iter((0..HALF).chain([CAPACITY])));
        assert_eq!(drain(&queue), Vec::from_iter(HALF..CAPACITY));
    }
}

#[test]
fn the_next_slot_runs_first_and_displaces() {
    let queue = LocalQueue::new();
    push(&queue, 0..2);
    // SAFETY: validity: this thread owns the queue, and no task is followed.
    //         aliasing: as above.
    let displaced = [7, 8].map(|id| unsafe { queue.replace_next(task(id)) });
    assert_eq!(displaced, [None, Some(task(7))]);
    assert_eq!((queue.len(), queue.has_next()), (3, true));
    // SAFETY: validity: this thread owns the queue.
    //         aliasing: as above.
    assert_eq!(unsafe { queue.pop_ring() }.map(id), Some(0));
    assert_eq!(drain(&queue), [8, 1]);
    assert!(!queue.has_next());
}

#[test]
fn a_thief_takes_the_older_half_rounded_up() {
    for start in STARTS {
        for waiting in [1, 2, 3, 5, CAPACITY - 1, CAPACITY] {
            let (thief, victim) = (LocalQueue::starting_at(start), LocalQueue::starting_at(start));
            push(&victim, 0..waiting);
            assert_eq!(steal(&thief, &victim, false), Some(0));
            let half = waiting.div_ceil(2);
            assert_eq!(drain(&thief), Vec::from_iter(1..half));
            assert_eq!(drain(&victim), Vec::from_iter(half..waiting));
        }
    }
}

#[test]
fn a_thief_takes_no_more_than_fits() {
    let (thief, victim) = (LocalQueue::new(), LocalQueue::new());
    push(&victim, 0..10);
    push(&thief, 100..100 + CAPACITY - 1);
    assert_eq!(steal(&thief, &victim, false), Some(0));
    assert_eq!(thief.len(), CAPACITY);
    assert_eq!(steal(&thief, &victim, false), Some(2));
    assert_eq!(drain(&victim), Vec::from_iter(3..10));
    assert_eq!(drain(&thief).last(), Some(&1));
}

#[test]
fn the_next_slot_is_stolen_only_on_demand_and_last() {
    let (thief, victim) = (LocalQueue::new(), LocalQueue::new());
    // SAFETY: validity: this thread owns the queue, and no task is followed.
    //         aliasing: as above.
    assert_eq!(unsafe { victim.replace_next(task(9)) }, None);
    assert_eq!(steal(&thief, &victim, false), None);
    push(&victim, 0..1);
    assert_eq!(steal(&thief, &victim, true), Some(0));
    assert_eq!(steal(&thief, &victim, true), Some(9));
    assert_eq!(steal(&thief, &victim, true), None);
    assert!(victim.is_empty() && thief.is_empty());
}

#[test]
fn a_batch_is_taken_as_far_as_it_fits() {
    let queue = LocalQueue::starting_at(u64::MAX - 5);
    push(&queue, 0..CAPACITY - 3);
    let batch = [100, 101, 102, 103, 104].map(task);
    // SAFETY: validity: this thread owns the queue, and no task is followed.
    //         aliasing: as above.
    let taken = [5, 2].map(|count| unsafe { queue.push_batch(batch[..count].iter().copied()) });
    assert_eq!(taken, [3, 0]);
    assert_eq!(drain(&queue)[CAPACITY - 3..], [100, 101, 102]);
}

/// A task of the stress test: `payload` is written without synchronisation of its own, so that a
/// thread sanitizer sees whether the queue carries it over.
struct Job {
    payload: UnsafeCell<usize>,
    runs: AtomicUsize,
}

/// Stands for the global queue. No std lock: the sanitizer sees only this package's code.
struct Global {
    locked: AtomicBool,
    tasks: UnsafeCell<Vec<NonNull<Job>>>,
}

// SAFETY: validity: jobs outlive the threads, and `with` hands the vector to one thread at a time.
//         aliasing: as above.
unsafe impl Sync for Global {}
// SAFETY: validity: `payload` is touched only by the thread that holds the job, which is what is tested.
//         aliasing: as above.
unsafe impl Sync for Job {}

impl Global {
    fn with<R>(&self, f: impl FnOnce(&mut Vec<NonNull<Job>>) -> R) -> R {
        while self
            .locked
            .compare_exchange(false, true, Acquire, Relaxed)
            .is_err()
        {
            spin_loop();
            yield_now();
        }
        // SAFETY: validity: the flag was won above and is given back below.
        //         aliasing: it makes this the only borrow.
        let result = self.tasks.with_mut(|tasks| f(unsafe { &mut *tasks }));
        self.locked.store(false, Release);
        result
    }
}

const WORKERS: usize = 4;
const JOBS_PER_WORKER: usize = if cfg!(debug_assertions) { 20_000 } else { 200_000 };

/// One worker: makes its jobs in bursts, runs what it finds, until all jobs of all workers have run.
fn work(me: usize, queues: &[LocalQueue<Job>], jobs: &[Job], global: &Global, done: &AtomicUsize) {
    let own = &queues[me];
    let mut fresh = jobs[me * JOBS_PER_WORKER..][..JOBS_PER_WORKER].iter();
    let mut tick = me;
    while done.load(Relaxed) < jobs.len() {
        tick += 1;
        for job in fresh.by_ref().take(tick % 41) {
            // SAFETY: validity: jobs outlive the threads.
            //         aliasing: nobody else has this job yet.
            job.payload.with_mut(|payload| unsafe { *payload = me });
            let mut task = Some(NonNull::from(job));
            if tick.is_multiple_of(3) {
                // SAFETY: validity: this thread alone owns `own`; jobs outlive the threads.
                //         aliasing: the job is given away here.
                task = unsafe { own.replace_next(NonNull::from(job)) };
            }
            if let Some(task) = task {
                // SAFETY: validity: this thread alone owns `own`; jobs outlive the threads.
                //         aliasing: the job is given away here.
                unsafe { own.push_back(task, |batch| global.with(|tasks| tasks.extend(batch))) };
            }
        }
        for _ in 0..tick % 37 {
            // SAFETY: validity: this thread alone owns `own`.
            //         aliasing: what comes out belongs to this thread.
            let found = unsafe { own.pop() }.or_else(|| search(me, tick, queues, global));
            let Some(job) = found else { break };
            // SAFETY: validity: jobs outlive the threads.
            //         aliasing: shared; `payload` is this thread's, which took the job from a queue.
            let job = unsafe { job.as_ref() };
            // SAFETY: validity: as above.
            //         aliasing: as above.
            job.payload.with_mut(|payload| unsafe { *payload += WORKERS });
            job.runs.fetch_add(1, Relaxed);
            done.fetch_add(1, Release);
        }
        if tick.is_multiple_of(64) {
            yield_now();
        }
    }
}

fn search(me: usize, tick: usize, queues: &[LocalQueue<Job>], global: &Global) -> Option<NonNull<Job>> {
    let own = &queues[me];
    let refill = global.with(|tasks| tasks.split_off(tasks.len().saturating_sub(CAPACITY)));
    // SAFETY: validity: this thread alone owns `own`; jobs outlive the threads.
    //         aliasing: those that do not fit go back.
    let taken = unsafe { own.push_batch(refill.iter().copied()) };
    global.with(|tasks| tasks.extend(&refill[taken..]));
    // SAFETY: validity: this thread alone owns `own`.
    //         aliasing: what comes out belongs to this thread.
    unsafe { own.pop() }.or_else(|| {
        let victim = (me + 1 + tick % (WORKERS - 1)) % WORKERS;
        // SAFETY: validity: this thread alone owns `own`, and `victim` is never `me`.
        //         aliasing: what comes out belongs to this thread.
        unsafe { own.steal_from(&queues[victim], tick.is_multiple_of(2)) }
    })
}

#[test]
fn stress_nothing_is_lost_and_nothing_runs_twice() {
    let starts = [0, u64::MAX - 100, u64::MAX - 5_000, 17];
    let queues = starts.map(LocalQueue::starting_at);
    let new_job = |_| Job {
        payload: UnsafeCell::new(usize::MAX),
        runs: AtomicUsize::new(0),
    };
    let jobs = Vec::from_iter((0..WORKERS * JOBS_PER_WORKER).map(new_job));
    let global = Global {
        locked: AtomicBool::new(false),
        tasks: UnsafeCell::new(Vec::new()),
    };
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for me in 0..WORKERS {
            let (queues, jobs, global, done) = (&queues, &jobs, &global, &done);
            scope.spawn(move || work(me, queues, jobs, global, done));
        }
    });
    // Acquire: every run; pairs with Release in `work`.
    assert_eq!(done.load(Acquire), jobs.len());
    for (index, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.runs.load(Relaxed), 1, "job {index}");
        assert_eq!(
            job.payload.into_inner(),
            index / JOBS_PER_WORKER + WORKERS,
            "job {index}"
        );
    }
    assert!(queues.iter().all(LocalQueue::is_empty));
}
