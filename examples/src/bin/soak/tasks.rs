//! Tasks that only run: spawned in storms, in trees, yielding, and keeping the processor.

use bast::task::yield_now;
use bast_examples::stress::tools::{Ground, Latch, Rng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Many at once: some joined, some left alone, some by a plain thread, some on stacks of other sizes.
pub(crate) fn storm(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(if rng.clone().one_in(8) { 3000 } else { 200 });
    ground.kind.start(count);
    let ran = Arc::new(AtomicU64::new(0));
    let latch = Latch::new(count as usize);
    let mut joined = Vec::new();
    let mut sum_joined = 0;
    for number in 0..count {
        let (ran, latch) = (Arc::clone(&ran), latch.clone());
        let padding = [number; 8]; // does not fit into the header, so it is boxed
        let large = rng.one_in(3);
        let body = move || {
            ground.check(!std::thread::panicking(), || {
                "an ordinary task sees a panic".to_owned()
            });
            ran.fetch_add(if large { padding[7] } else { number }, Ordering::Relaxed);
            ground.kind.finish(1);
            latch.arrive();
            number
        };
        let task = match rng.below(16) {
            0 => bast::task::Builder::new().stack_size(64 << 10).spawn(body),
            1 => bast::task::Builder::new()
                .stack_size(1 << 20)
                .name("large")
                .spawn(body),
            2 => ground.world.first.spawn(body),
            _ => bast::try_spawn(body),
        };
        let task = ground.must(task, "spawn");
        if rng.one_in(2) {
            sum_joined += number;
            joined.push(task);
        } else if rng.one_in(64) {
            yield_now();
        }
    }
    let got: u64 = joined
        .into_iter()
        .map(|task| ground.must(task.join(), "join"))
        .sum();
    ground.same(got, sum_joined, "sum of the joined tasks");
    latch.wait();
    ground.same(
        ran.load(Ordering::Relaxed),
        count * (count - 1) / 2,
        "sum of all tasks",
    );
}

/// A tree of tasks, each of which joins its children.
pub(crate) fn nested(ground: Ground, rng: &mut Rng) {
    fn grow(ground: Ground, depth: u64, width: u64) -> u64 {
        if depth == 0 {
            ground.kind.finish(1);
            return 1;
        }
        let children: Vec<_> = (0..width)
            .map(|_| bast::spawn(move || grow(ground, depth - 1, width)))
            .collect();
        children
            .into_iter()
            .map(|child| ground.must(child.join(), "join"))
            .sum()
    }
    let (depth, width) = (1 + rng.below(5), 1 + rng.below(4));
    let leaves = width.pow(depth as u32);
    ground.kind.start(leaves);
    ground.same(grow(ground, depth, width), leaves, "leaves of the tree");
}

/// Tasks that let each other run.
pub(crate) fn yields(ground: Ground, rng: &mut Rng) {
    let (tasks, turns) = (1 + rng.below(50), 1 + rng.below(200));
    ground.kind.start(tasks * turns);
    let all: Vec<_> = (0..tasks)
        .map(|_| {
            bast::spawn(move || {
                for _ in 0..turns {
                    ground.kind.finish(1);
                    yield_now();
                }
                turns
            })
        })
        .collect();
    let sum: u64 = all.into_iter().map(|task| ground.must(task.join(), "join")).sum();
    ground.same(sum, tasks * turns, "turns");
}

/// Tasks that compute for longer than a slice, with and without looks at the clock of the runtime.
pub(crate) fn hogs(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(3);
    ground.kind.start(count);
    let all: Vec<_> = (0..count)
        .map(|_| {
            let time = Duration::from_micros(1 + rng.below(25_000));
            let polite = rng.one_in(2);
            bast::spawn(move || {
                let began = Instant::now();
                while began.elapsed() < time {
                    std::hint::black_box((0..200).map(std::hint::black_box).sum::<u64>());
                    if polite {
                        bast::task::checkpoint();
                    }
                }
                ground.kind.finish(1);
            })
        })
        .collect();
    all.into_iter().for_each(|task| ground.must(task.join(), "join"));
    bast::time::sleep(rng.micros_below(20_000)); // the others want the processors too
}
