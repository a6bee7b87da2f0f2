//! CPU samples: one task computes, one sleeps, and one does now this and now that.

use super::{loads, on_runtime};
use bast::spawn;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufWriter};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long each computes, at least, by the clock.
const SPAN: Duration = Duration::from_millis(1500);

pub(crate) fn all(file: &Path) -> io::Result<()> {
    let file = BufWriter::new(File::create(file)?);
    let trace = bast::trace::Options::new()
        .stacks(usize::MAX)
        .cpu_samples(200)
        .start(file)?;
    on_runtime(2, || {
        let sleeper = spawn(sleeps);
        let mixed = spawn(loads::everything);
        let burner = spawn(|| black_box(burns()));
        burner.join().expect("the burner");
        sleeper.join().expect("the sleeper");
        mixed.join().expect("the mixed one");
    })?;
    println!("{:?}", trace.stop()?);
    Ok(())
}

/// Calls `computes`, which calls `turns`, and no function of bast.
#[inline(never)]
fn burns() -> u64 {
    let begin = Instant::now();
    let mut value = 1;
    while begin.elapsed() < SPAN {
        value = black_box(computes(value)) + 1;
    }
    value
}

#[inline(never)]
fn computes(seed: u64) -> u64 {
    black_box((0..20).fold(seed, |seed, _| black_box(turns(seed)))) + 2
}

#[inline(never)]
fn turns(mut seed: u64) -> u64 {
    for _ in 0..10_000 {
        seed = black_box(seed.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    seed
}

fn sleeps() {
    let begin = Instant::now();
    while begin.elapsed() < SPAN {
        bast::time::sleep(Duration::from_millis(20));
    }
}
