//! One task makes work for all processors: how much of a second processor arrives.

use crate::How;
use crate::spawning::timed;
use bast::Runtime;
use std::time::{Duration, Instant};

pub(crate) fn operations() -> Vec<(&'static str, usize, How)> {
    vec![
        (
            "tasks of 1 us; 1 processor",
            1,
            How::Batch(50_000, |runtime, count| produce(runtime, count, 1)),
        ),
        (
            "tasks of 1 us; 2 processors",
            2,
            How::Batch(50_000, |runtime, count| produce(runtime, count, 1)),
        ),
        (
            "tasks of 50 us; 1 processor",
            1,
            How::Batch(1_000, |runtime, count| produce(runtime, count, 50)),
        ),
        (
            "tasks of 50 us; 2 processors",
            2,
            How::Batch(1_000, |runtime, count| produce(runtime, count, 50)),
        ),
    ]
}

/// Computes for so long.
fn work(micros: u64) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(micros) {
        std::hint::spin_loop();
    }
}

/// One producer spawns, and everybody runs.
fn produce(runtime: &Runtime, count: u64, micros: u64) -> Duration {
    timed(runtime, || {
        let tasks: Vec<_> = (0..count).map(|_| bast::spawn(move || work(micros))).collect();
        tasks
            .into_iter()
            .for_each(|task| task.join().unwrap_or_else(|error| panic!("{error}")));
    })
}
