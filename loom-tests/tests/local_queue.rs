//! Models of the run queue (`runtime/src/sched/local_queue.rs`). What each proves is in the README here.
//!
//! Every task carries a cell that only its holder may touch. Who makes the task writes the cell, who takes
//! it writes again: loom fails the model if the queue does not order the two, or if two holders meet.
#![cfg(bast_loom)]

use std::ptr::NonNull;

use bast::protocol::local_queue::{CAPACITY, LocalQueue};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

struct Task {
    payload: UnsafeCell<usize>,
}

/// Queues and tasks of one execution, shared by its threads.
struct World {
    queues: Vec<LocalQueue<Task>>,
    tasks: Vec<Task>,
}

// SAFETY: validity: the cells are the only part that is not `Sync`; loom checks every access to them.
//         aliasing: as above.
unsafe impl Sync for World {}
// SAFETY: validity: nothing in it belongs to a thread.
//         aliasing: as above.
unsafe impl Send for World {}

impl World {
    /// `queues` empty queues just before their positions wrap, and `tasks` tasks that nobody has made yet.
    fn new(queues: usize, tasks: usize) -> Arc<Self> {
        Arc::new(Self {
            queues: (0..queues)
                .map(|_| LocalQueue::starting_at(u64::MAX - 1))
                .collect(),
            tasks: (0..tasks)
                .map(|_| Task {
                    payload: UnsafeCell::new(0),
                })
                .collect(),
        })
    }

    fn make(&self, id: usize) -> NonNull<Task> {
        // SAFETY: validity: the task lives as long as the execution.
        //         aliasing: each task is made once, before it is queued; loom checks it.
        self.tasks[id]
            .payload
            .with_mut(|payload| unsafe { *payload = id + 1 });
        NonNull::from(&self.tasks[id])
    }

    /// What holding a task permits: reads and writes its cell, and says which task it is.
    fn take(&self, task: NonNull<Task>) -> usize {
        // SAFETY: validity: tasks live as long as the execution.
        //         aliasing: shared.
        let task = unsafe { task.as_ref() };
        // SAFETY: validity: as above.
        //         aliasing: this thread holds the task; loom checks it.
        task.payload
            .with_mut(|payload| unsafe { std::mem::take(&mut *payload) })
            - 1
    }

    /// Pushes new tasks; overflow is taken on the spot, as the global queue would.
    fn push(&self, queue: usize, ids: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut taken = Vec::new();
        for id in ids {
            let task = self.make(id);
            let overflow = |batch: &[NonNull<Task>]| taken.extend(batch.iter().map(|task| self.take(*task)));
            // SAFETY: validity: each model lets one thread at a time use a queue as its owner.
            //         aliasing: a task is pushed once.
            unsafe { self.queues[queue].push_back(task, overflow) };
        }
        taken
    }

    fn pop(&self, queue: usize) -> Option<usize> {
        // SAFETY: validity: each model lets one thread at a time use a queue as its owner.
        //         aliasing: as above.
        unsafe { self.queues[queue].pop() }.map(|task| self.take(task))
    }

    fn replace_next(&self, queue: usize, id: usize) {
        // SAFETY: validity: each model lets one thread at a time use a queue as its owner.
        //         aliasing: a task is made and queued once.
        let displaced = unsafe { self.queues[queue].replace_next(self.make(id)) };
        if let Some(task) = displaced {
            // SAFETY: validity: as above.
            //         aliasing: the displaced task is ours.
            unsafe { self.queues[queue].push_back(task, |_| panic!("overflow")) };
        }
    }

    fn steal(&self, thief: usize, victim: usize, take_next: bool) -> Option<usize> {
        // SAFETY: validity: each model lets one thread at a time use `thief` as its owner.
        //         aliasing: as above.
        unsafe { self.queues[thief].steal_from(&self.queues[victim], take_next) }.map(|task| self.take(task))
    }

    /// Steals once, then runs what came along.
    fn rob(&self, thief: usize, victim: usize, take_next: bool) -> Vec<usize> {
        let first = self.steal(thief, victim, take_next);
        first.into_iter().chain(self.drain(thief)).collect()
    }

    fn drain(&self, queue: usize) -> Vec<usize> {
        std::iter::from_fn(|| self.pop(queue)).collect()
    }

    /// Every task was taken exactly once: by those who report here or by draining the queues now.
    fn settle(&self, mut taken: Vec<usize>) {
        for queue in 0..self.queues.len() {
            taken.extend(self.drain(queue));
            assert!(self.queues[queue].is_empty());
        }
        taken.sort_unstable();
        assert_eq!(taken, Vec::from_iter(0..self.tasks.len()));
    }
}

fn spawn(
    world: &Arc<World>,
    f: impl FnOnce(&World) -> Vec<usize> + 'static,
) -> thread::JoinHandle<Vec<usize>> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

#[test]
fn owner_pops_while_a_thief_takes_half() {
    loom::model(|| {
        let world = World::new(2, 4);
        let thief = spawn(&world, |world| {
            [world.rob(1, 0, false), world.rob(1, 0, false)].concat()
        });
        let mut taken = world.push(0, 0..3);
        taken.extend(world.pop(0));
        taken.extend(world.push(0, [3]));
        taken.extend(world.pop(0));
        taken.extend(thief.join().unwrap());
        world.settle(taken);
    });
}

#[test]
fn overflow_against_a_thief() {
    loom::model(|| {
        let world = World::new(2, CAPACITY + 2);
        let mut taken = world.push(0, 0..CAPACITY);
        let thief = spawn(&world, |world| world.rob(1, 0, false));
        taken.extend(world.push(0, CAPACITY..CAPACITY + 2));
        taken.extend(world.pop(0));
        taken.extend(thief.join().unwrap());
        world.settle(taken);
    });
}

#[test]
fn slots_are_reused_under_a_reading_thief() {
    loom::model(|| {
        let world = World::new(2, CAPACITY + 3);
        let mut taken = world.push(0, 0..CAPACITY);
        let thief = spawn(&world, |world| world.rob(1, 0, false));
        for id in CAPACITY..CAPACITY + 3 {
            taken.extend(world.pop(0));
            taken.extend(world.push(0, [id]));
        }
        taken.extend(thief.join().unwrap());
        world.settle(taken);
    });
}

#[test]
fn two_thieves_share_a_victim() {
    loom::model(|| {
        let world = World::new(3, 4);
        let thieves = [1, 2].map(|own| spawn(&world, move |world| world.rob(own, 0, false)));
        let mut taken = world.push(0, 0..4);
        taken.extend(world.pop(0));
        for thief in thieves {
            taken.extend(thief.join().unwrap());
        }
        world.settle(taken);
    });
}

#[test]
fn loot_is_stolen_from_the_thief() {
    loom::model(|| {
        let world = World::new(3, 4);
        let first = spawn(&world, |world| world.rob(1, 0, false));
        let second = spawn(&world, |world| world.rob(2, 1, false));
        let mut taken = world.push(0, 0..4);
        taken.extend(first.join().unwrap());
        taken.extend(second.join().unwrap());
        world.settle(taken);
    });
}

#[test]
fn the_next_slot_goes_to_one_taker() {
    loom::model(|| {
        let world = World::new(2, 3);
        let thief = spawn(&world, |world| {
            [world.rob(1, 0, true), world.rob(1, 0, true)].concat()
        });
        world.replace_next(0, 0);
        world.replace_next(0, 1);
        let mut taken = Vec::from_iter(world.pop(0));
        world.replace_next(0, 2);
        taken.extend(thief.join().unwrap());
        world.settle(taken);
    });
}

#[test]
fn a_batch_is_published_at_once() {
    loom::model(|| {
        let world = World::new(2, 3);
        let thief = spawn(&world, |world| world.rob(1, 0, false));
        let batch = Vec::from_iter((0..3).map(|id| world.make(id)));
        // SAFETY: validity: this thread owns the queue.
        //         aliasing: a task is made and queued once.
        assert_eq!(unsafe { world.queues[0].push_batch(batch) }, 3);
        let mut taken = Vec::from_iter(world.pop(0));
        taken.extend(thief.join().unwrap());
        world.settle(taken);
    });
}

#[test]
fn a_queue_that_holds_a_task_never_looks_empty() {
    loom::model(|| {
        let world = World::new(1, 2);
        world.replace_next(0, 0);
        let observer = spawn(&world, |world| {
            assert!(
                !world.queues[0].is_empty(),
                "a worker would sleep beside a runnable task"
            );
            Vec::new()
        });
        // Displaces task 0 into the ring and runs task 1: at no time is the queue without a task.
        world.replace_next(0, 1);
        let mut taken = Vec::from_iter(world.pop(0));
        taken.extend(observer.join().unwrap());
        world.settle(taken);
    });
}
