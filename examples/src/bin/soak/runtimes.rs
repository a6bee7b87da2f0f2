//! Several runtimes in one process: tasks that spawn, join and wake across, and runtimes that come and go.

use bast::task::park;
use bast_examples::stress::tools::{Ground, Latch, Rng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Work handed to and fro between the two runtimes.
pub(crate) fn second(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(60);
    ground.kind.start(count);
    let world = ground.world;
    let latch = Latch::new(count as usize);
    let mut joined = Vec::new();
    for number in 0..count {
        let latch = latch.clone();
        let (pause, how) = (rng.micros_below(500), rng.below(3));
        let over_there = move || {
            if how == 0 {
                bast::time::sleep(pause);
            }
            // And back: a task of the first runtime, waited for by one of the second.
            let back = ground.must(world.first.spawn(move || number), "spawn on the first");
            let value = ground.must(back.join(), "join across");
            ground.kind.finish(1);
            latch.arrive();
            value
        };
        joined.push(ground.must(world.second.spawn(over_there), "spawn on the second"));
    }
    if rng.one_in(2) {
        latch.wait();
    }
    let sum: u64 = joined
        .into_iter()
        .map(|task| ground.must(task.join(), "join"))
        .sum();
    ground.same(sum, count * (count - 1) / 2, "sum of the tasks");
    latch.wait();
    across(ground, 1 + rng.below(100));
}

/// Ping-pong between a task here and one there.
fn across(ground: Ground, turns: u64) {
    ground.kind.start(turns);
    let number = Arc::new(AtomicU64::new(0));
    let me = bast::task::current();
    let other = ground.must(
        ground.world.second.spawn({
            let number = Arc::clone(&number);
            move || {
                for turn in 0..turns {
                    while number.load(Ordering::Acquire) != 2 * turn + 1 {
                        park();
                    }
                    number.store(2 * turn + 2, Ordering::Release);
                    ground.kind.finish(1);
                    me.unpark();
                }
            }
        }),
        "spawn",
    );
    for turn in 0..turns {
        number.store(2 * turn + 1, Ordering::Release);
        other.task().unpark();
        while number.load(Ordering::Acquire) != 2 * turn + 2 {
            park();
        }
    }
    ground.must(other.join(), "join");
}

/// A runtime that is made, used from several threads, and ended while spawns still come in. Every spawn it took
/// ends: with its value, or with the news that the runtime has ended.
pub(crate) fn short_lived(ground: Ground, rng: &mut Rng) {
    let (processors, spawners, each) = (1 + rng.below(3) as usize, 1 + rng.below(3), 1 + rng.below(200));
    ground.kind.start(spawners * each + 1);
    let seed = rng.draw();
    let lives = rng.micros_below(3000);
    bast::blocking(move || {
        // SAFETY: the tasks below keep nothing at all across a wait.
        let built = unsafe { bast::Builder::new().processors(processors).seed(seed).build() };
        let runtime = ground.must(built, "build");
        let ran = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..spawners)
            .map(|_| {
                let (handle, ran) = (runtime.handle(), Arc::clone(&ran));
                std::thread::spawn(move || spawn_until_closed(ground, &handle, each, &ran))
            })
            .collect();
        let value = runtime.run(|| bast::spawn(|| 5).join().map_err(|_| ()));
        ground.same(value, Ok(5), "the main task of a short-lived runtime");
        std::thread::sleep(lives);
        runtime.shutdown();
        let (mut done, mut refused) = (0, 0);
        for thread in threads {
            let (tasks, closed) = thread.join().expect("a panic would have ended the process");
            refused += closed;
            for task in tasks {
                match task.join() {
                    Ok(()) => done += 1,
                    Err(error) if error.is_shutdown() => refused += 1,
                    Err(error) => ground.check(false, || format!("neither done nor ended: {error}")),
                }
            }
        }
        ground.same(
            ran.load(Ordering::Acquire),
            done,
            "tasks that ran and tasks that say so",
        );
        ground.same(done + refused, spawners * each, "spawns accounted for");
        ground.kind.finish(done + refused + 1);
    });
    bast::time::sleep(Duration::from_millis(20)); // making threads is dear: let the other kinds have the CPU
}

/// Spawns `each` tasks; gives the handles, and how many were refused.
fn spawn_until_closed(
    ground: Ground,
    handle: &bast::Handle,
    each: u64,
    ran: &Arc<AtomicU64>,
) -> (Vec<bast::JoinHandle<()>>, u64) {
    let (mut tasks, mut closed) = (Vec::new(), 0);
    for _ in 0..each {
        let ran = Arc::clone(ran);
        match handle.spawn(move || {
            ran.fetch_add(1, Ordering::AcqRel);
        }) {
            Ok(task) => tasks.push(task),
            Err(error) => {
                ground.check(error.is_closed(), || {
                    format!("refused for another reason: {error}")
                });
                closed += 1;
            }
        }
    }
    (tasks, closed)
}
