//! Deep stacks that stand still for so long that the runtime gives back what is not in use.

use crate::unwinding::OnDrop;
use bast_examples::stress::ledger::Planned;
use bast_examples::stress::tools::{Ground, Rng, expect_planned};
use std::hint::black_box;
use std::panic::panic_any;
use std::time::Duration;

/// Longer than the runtime waits before it takes the unused part of a parked task's stack back (two looks, a second
/// apart).
const LONG: Duration = Duration::from_millis(2300);

/// Goes down `levels` frames, calls `bottom` there, and finds every frame as it left it on the way up.
#[inline(never)]
fn descend(ground: Ground, mark: u64, levels: u64, bottom: &mut dyn FnMut()) -> u64 {
    let mut frame = [mark.wrapping_mul(levels + 1); 64];
    black_box(&mut frame);
    let below = if levels == 0 {
        bottom();
        0
    } else {
        descend(ground, mark, levels - 1, bottom)
    };
    black_box(&mut frame);
    let intact = frame.iter().all(|&word| word == mark.wrapping_mul(levels + 1));
    ground.check(intact, || {
        format!("the frame at level {levels} of task {mark:#x} is not what it was")
    });
    below + 1
}

/// Parked deep, then parked shallow after having been deep, then deep again.
pub(crate) fn deep_stacks(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(30);
    ground.kind.start(count);
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (mark, levels) = (rng.draw() | 1, 1 + rng.below(120));
            let long = rng.one_in(2);
            bast::spawn(move || {
                let pause = if long { LONG } else { Duration::from_millis(1) };
                let deep = descend(ground, mark, levels, &mut || bast::time::sleep(pause));
                bast::time::sleep(LONG);
                let again = descend(ground, !mark, levels, &mut bast::task::yield_now);
                ground.same((deep, again), (levels + 1, levels + 1), "levels");
                let big = bast::on_big_stack(1 << 20, || {
                    descend(ground, mark, 1000, &mut || {
                        bast::time::sleep(Duration::from_micros(50))
                    })
                });
                ground.same(big, 1001, "levels of a big stack");
                ground.kind.finish(1);
            })
        })
        .collect();
    tasks
        .into_iter()
        .for_each(|task| ground.must(task.join(), "join"));
}

/// A destructor at the bottom that takes its time while a panic unwinds.
pub(crate) fn deep_unwinding(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(3);
    ground.kind.start(count);
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let (mark, levels) = (rng.draw() | 1, 20 + rng.below(60));
            let body = move || {
                let _guard = OnDrop(move || {
                    descend(ground, mark, levels, &mut || bast::time::sleep(LONG));
                });
                let mut frame = [mark; 256];
                black_box(&mut frame);
                descend(ground, mark, levels, &mut || panic_any(Planned(number)));
            };
            (number, bast::spawn(body))
        })
        .collect();
    for (number, task) in tasks {
        expect_planned(ground, task.join(), number);
        ground.kind.finish(1);
    }
}
