//! Tasks that keep their thread's CPU and never call the runtime, one a processor.

use bast_examples::stress::tools::{Ground, Rng};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// One hog a processor, each for up to four slices.
pub(crate) fn hogs(ground: Ground, rng: &mut Rng) {
    let count = ground.world.processors as u64;
    ground.kind.start(count);
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (how, time) = (rng.below(3), Duration::from_micros(1 + rng.below(40_000)));
            bast::spawn(move || {
                match how {
                    0 => burn(time),
                    1 => burn_in_c(time),
                    _ => burn_by_steps(steps_in(time)),
                }
                ground.kind.finish(1);
            })
        })
        .collect();
    tasks
        .into_iter()
        .for_each(|task| ground.must(task.join(), "join"));
    bast::time::sleep(rng.micros_below(2_000));
}

/// Looks at the clock.
pub(crate) fn burn(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// In foreign code for nearly all of the time.
fn burn_in_c(time: Duration) {
    let began = Instant::now();
    let mut block = vec![0_u8; 256 << 10];
    while began.elapsed() < time {
        // SAFETY: validity: the whole of a vector of bytes. aliasing: it is this function's.
        unsafe { libc::memset(block.as_mut_ptr().cast(), 0x55, block.len()) };
        black_box(&mut block);
    }
}

fn steps_in(time: Duration) -> u64 {
    time.as_micros() as u64 * 200
}

/// Without one call.
fn burn_by_steps(steps: u64) {
    let mut state = black_box(1_u64);
    for _ in 0..steps {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
}
