//! Models of the stacks that processors share (`bast_stack`'s `depot.rs`).
//!
//! Proved, for every interleaving of the threads below with at most two preemptions:
//! * a stack is never in two hands: each is a cell that its owner writes, and loom reports two writers;
//! * a trimmer never discards pages of a stack that somebody has taken (Rule 2 of the depot);
//! * no stack is lost, and the counts agree with what is where when all is quiet (Rules 1 and 3);
//! * what a task wrote before `put` is seen by whoever takes the stack next.
//!
//! Planted bug `stack_cache`: the trimmer chooses surplus stacks but leaves them where takers find them.
#![cfg(bast_loom)]

use bast_stack::protocol::Depot;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const STACKS: usize = 3;

/// The shared list, and the pages of each stack: written by whoever owns it.
struct World {
    depot: Depot<usize>,
    pages: [UnsafeCell<u32>; STACKS],
}

impl World {
    /// A depot with all stacks put, none out.
    fn new() -> Arc<World> {
        let world = World {
            depot: Depot::new(),
            pages: std::array::from_fn(|_| UnsafeCell::new(1)),
        };
        world.depot.enter(STACKS);
        world.depot.put(0..STACKS);
        Arc::new(world)
    }

    /// What a task does to its stack: it must find it whole, used (1) or given back (0).
    fn run_on(&self, stack: usize) {
        self.pages[stack].with_mut(|pages| {
            // SAFETY: loom checks that nobody else is in this cell.
            let pages = unsafe { &mut *pages };
            assert!(*pages <= 1, "stack {stack} is in use");
            *pages = 7;
            *pages = 1;
        });
    }

    /// What the trimmer does to a surplus stack.
    fn discard(&self, stack: usize) {
        self.pages[stack].with_mut(|pages| {
            // SAFETY: loom checks that nobody else is in this cell.
            unsafe { *pages = 0 };
        });
    }

    fn take_run_put(&self, count: usize) {
        let mut held = Vec::new();
        self.depot.take(count, &mut held);
        for &stack in &held {
            self.run_on(stack);
        }
        self.depot.put(held.into_iter());
    }

    fn trim(&self) {
        let surplus = self.depot.begin_trim(true);
        for &stack in &surplus {
            self.discard(stack);
        }
        self.depot.end_trim(surplus);
    }

    /// When all is quiet: every stack is there once, and the counts say so.
    fn assert_whole(&self) {
        let counts = self.depot.counts();
        assert_eq!(counts.out, 0);
        assert_eq!(counts.warm + counts.cold, STACKS);
        let mut all = Vec::new();
        assert_eq!(self.depot.take(STACKS + 1, &mut all), STACKS);
        all.sort_unstable();
        assert_eq!(all, (0..STACKS).collect::<Vec<_>>());
        assert_eq!(self.depot.counts().mark, STACKS);
    }
}

/// Runs `main` against two other threads.
fn model(first: fn(&World), second: fn(&World), main: fn(&World)) {
    loom::model(move || {
        let world = World::new();
        let others = [first, second].map(|body| {
            let world = world.clone();
            thread::spawn(move || body(&world))
        });
        main(&world);
        for other in others {
            other.join().unwrap();
        }
        world.assert_whole();
    });
}

#[test]
fn two_processors_and_a_trimmer() {
    model(
        |world| world.take_run_put(2),
        |world| world.take_run_put(1),
        World::trim,
    );
}

#[test]
fn a_processor_that_takes_twice_and_two_trimmers() {
    model(
        |world| {
            world.take_run_put(1);
            world.take_run_put(2);
        },
        World::trim,
        World::trim,
    );
}

#[test]
fn three_processors_find_each_stack_once() {
    model(
        |world| world.take_run_put(1),
        |world| world.take_run_put(1),
        |world| world.take_run_put(3),
    );
}

#[test]
fn a_stack_taken_by_one_is_put_by_another() {
    loom::model(|| {
        let world = World::new();
        let mut held = Vec::new();
        world.depot.take(2, &mut held);
        let other = {
            let world = world.clone();
            thread::spawn(move || {
                for &stack in &held {
                    world.run_on(stack);
                }
                world.depot.put(held.into_iter());
            })
        };
        world.trim();
        world.take_run_put(1);
        other.join().unwrap();
        world.assert_whole();
    });
}
