//! Parks and unparks: between tasks, with plain threads, and many at one task.

use bast::task::{Task, park};
use bast_examples::stress::tools::{Ground, Latch, Rng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Two tasks pass a number to and fro.
pub(crate) fn ping_pong(ground: Ground, rng: &mut Rng) {
    let turns = 1 + rng.below(300);
    ground.kind.start(2 * turns);
    let number = Arc::new(AtomicU64::new(0));
    let me = bast::task::current();
    let other = bast::spawn({
        let number = Arc::clone(&number);
        move || take_turns(ground, &number, 1, turns, &me)
    });
    take_turns(ground, &number, 0, turns, &other.task());
    ground.must(other.join(), "join");
    ground.same(number.load(Ordering::Acquire), 2 * turns, "turns");
}

/// Adds one whenever the number's parity is `mine`, and wakes the other.
fn take_turns(ground: Ground, number: &AtomicU64, mine: u64, turns: u64, other: &Task) {
    for turn in 0..turns {
        while number.load(Ordering::Acquire) != 2 * turn + mine {
            park();
        }
        number.store(2 * turn + mine + 1, Ordering::Release);
        ground.kind.finish(1);
        other.unpark();
    }
}

/// A token goes round a ring of tasks.
pub(crate) fn ring(ground: Ground, rng: &mut Rng) {
    let (size, laps) = (2 + rng.below(40), 1 + rng.below(20));
    ground.kind.start(size * laps);
    let token = Arc::new(AtomicU64::new(0));
    let links: Arc<Vec<std::sync::OnceLock<Task>>> =
        Arc::new((0..size).map(|_| std::sync::OnceLock::new()).collect());
    let tasks: Vec<_> = (0..size)
        .map(|mine| {
            let (token, links) = (Arc::clone(&token), Arc::clone(&links));
            let task = bast::spawn(move || {
                for lap in 0..laps {
                    while token.load(Ordering::Acquire) != lap * size + mine {
                        park();
                    }
                    token.fetch_add(1, Ordering::AcqRel);
                    ground.kind.finish(1);
                    // Not known yet: then it has not looked yet, and will.
                    if let Some(next) = links[((mine + 1) % size) as usize].get() {
                        next.unpark();
                    }
                }
            });
            (mine, task)
        })
        .collect();
    for (mine, task) in &tasks {
        links[*mine as usize].set(task.task()).expect("set once");
        task.task().unpark(); // it may have parked before its neighbour knew it
    }
    tasks
        .into_iter()
        .for_each(|(_, task)| ground.must(task.join(), "join"));
    ground.same(token.load(Ordering::Acquire), size * laps, "steps of the token");
}

/// Many tasks and threads wake one task, again and again; each leaves a unit behind before it does.
pub(crate) fn crowd(ground: Ground, rng: &mut Rng) {
    let (wakers, units) = (1 + rng.below(12), 1 + rng.below(50));
    ground.kind.start(wakers * units);
    let me = bast::task::current();
    let left = Arc::new(AtomicU64::new(0));
    for waker in 0..wakers {
        let (me, left, mut rng) = (me.clone(), Arc::clone(&left), rng.split());
        let wake = move |is_task: bool| {
            for _ in 0..units {
                left.fetch_add(1, Ordering::Release);
                me.unpark();
                if is_task && rng.one_in(4) {
                    bast::task::yield_now();
                }
            }
        };
        let mut wake = wake;
        match waker % 4 {
            3 => ground.on_thread(move || wake(false)),
            2 => drop(ground.must(ground.world.second.spawn(move || wake(true)), "spawn")),
            _ => drop(bast::spawn(move || wake(true))),
        }
    }
    let mut taken = 0;
    while taken < wakers * units {
        let units = left.swap(0, Ordering::Acquire);
        ground.kind.finish(units);
        taken += units;
        if units == 0 {
            park();
        }
    }
    ground.same(taken, wakers * units, "units taken");
}

/// Plain threads that wake tasks, are woken by tasks, spawn, and join.
pub(crate) fn threads(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(8);
    ground.kind.start(count);
    let latch = Latch::new(count as usize);
    for number in 0..count {
        let latch = latch.clone();
        match rng.below(4) {
            0 => drop(bast::spawn(move || asks_a_thread(ground, number, &latch))),
            1 => ground.on_thread(move || joins_a_task(ground, number, &latch)),
            2 => ground.on_thread(move || is_woken_by_a_task(ground, &latch)),
            _ => ground.on_thread(move || gives_up_joining(ground, number, &latch)),
        }
    }
    latch.wait();
}

fn asks_a_thread(ground: Ground, number: u64, latch: &Latch) {
    let answer = Arc::new(AtomicU64::new(0));
    let me = bast::task::current();
    ground.on_thread({
        let answer = Arc::clone(&answer);
        move || {
            answer.store(number + 1, Ordering::Release);
            me.unpark();
        }
    });
    while answer.load(Ordering::Acquire) == 0 {
        park();
    }
    ground.same(answer.load(Ordering::Acquire), number + 1, "the thread's answer");
    ground.kind.finish(1);
    latch.arrive();
}

fn joins_a_task(ground: Ground, number: u64, latch: &Latch) {
    let body = move || {
        (0..number % 5).for_each(|_| bast::task::yield_now());
        number
    };
    let task = ground.must(ground.world.first.spawn(body), "spawn");
    ground.same(ground.must(task.join(), "join"), number, "the task's value");
    ground.kind.finish(1);
    latch.arrive();
}

fn is_woken_by_a_task(ground: Ground, latch: &Latch) {
    let thread = std::thread::current();
    let flag = Arc::new(AtomicBool::new(false));
    let task = ground.world.first.spawn({
        let flag = Arc::clone(&flag);
        move || {
            flag.store(true, Ordering::Release);
            thread.unpark();
        }
    });
    while !flag.load(Ordering::Acquire) {
        std::thread::park();
    }
    ground.must(ground.must(task, "spawn").join(), "join");
    ground.kind.finish(1);
    latch.arrive();
}

fn gives_up_joining(ground: Ground, number: u64, latch: &Latch) {
    let pause = std::time::Duration::from_micros(number * 50);
    let body = move || {
        bast::time::sleep(pause);
        number
    };
    let mut task = ground.must(ground.world.first.spawn(body), "spawn");
    let value = loop {
        match task.join_timeout(std::time::Duration::from_micros(30)) {
            Ok(value) => break value,
            Err(again) => task = again,
        }
    };
    ground.same(ground.must(value, "join"), number, "the task's value");
    ground.kind.finish(1);
    latch.arrive();
}
