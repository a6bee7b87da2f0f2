//! The heap in execution traces, with an allocator that counts.
#![allow(
    clippy::disallowed_methods,
    reason = "tests use plain threads and clocks to look at the runtime from outside"
)]

mod util;

use bast::trace::{self, CountedHeap};
use std::alloc::System;
use std::time::{Duration, Instant};
use util::run_on;
use util::trace_bytes::{Bytes, HEAP_ALLOC, read};

#[global_allocator]
static HEAP: CountedHeap<System> = CountedHeap::new(System);

const PIECE: usize = 16 << 20;

/// The values of the heap, in order.
fn values(trace: &[u8]) -> Vec<u64> {
    let (events, _) = read(trace);
    let values = events.iter().filter(|event| event.kind == HEAP_ALLOC);
    values.map(|event| event.words[0]).collect()
}

/// Tasks that write events, until values must have been written.
fn a_while() {
    for _ in 0..5 {
        bast::time::sleep(Duration::from_millis(2));
    }
}

fn the_heap_is_in_the_trace() {
    let bytes = Bytes::default();
    let before = HEAP.live_bytes();
    let trace = trace::start(bytes.clone()).unwrap();
    run_on(2, || {
        a_while();
        let pieces: Vec<Vec<u8>> = (0..2).map(|_| vec![1; PIECE]).collect();
        a_while();
        let mut grown = vec![1_u8; PIECE / 2];
        grown.resize(2 * PIECE, 1); // realloc
        drop(pieces);
        assert!(
            HEAP.live_bytes() >= before + 2 * PIECE as u64,
            "what has grown is counted"
        );
        a_while();
        drop(grown);
        a_while();
    });
    trace.stop().unwrap();
    let values = values(&bytes.get());
    let floor = before + PIECE as u64 / 2;
    let low = |value: &u64| *value < floor;
    let high = |value: &u64| (before + 2 * PIECE as u64..before + 3 * PIECE as u64).contains(value);
    let first = values.iter().position(high).expect("32 MiB were in use");
    let last = values.iter().rposition(high).expect("32 MiB were in use");
    assert!(values[..first].iter().any(low), "before: {values:?}");
    assert!(values[last..].iter().any(low), "after: {values:?}");
    assert!(
        values
            .iter()
            .all(|value| low(value) || *value < before + 5 * PIECE as u64)
    );
}

/// What one thread allocates another frees.
fn nothing_is_lost_between_threads() {
    let before = HEAP.live_bytes();
    let blocks = std::thread::spawn(|| (0..64).map(|_| vec![0_u8; PIECE]).collect::<Vec<_>>());
    let blocks = blocks.join().unwrap();
    let all = 64 * PIECE as u64;
    assert!(HEAP.live_bytes() > before + all - PIECE as u64);
    drop(blocks);
    assert!(HEAP.live_bytes() < before + PIECE as u64);
}

/// However many events there are.
fn one_value_a_millisecond_is_the_most() {
    let bytes = Bytes::default();
    let start = Instant::now();
    let trace = trace::start(bytes.clone()).unwrap();
    run_on(2, || {
        let tasks = (0..4).map(|_| bast::spawn(|| (0..5000).for_each(|_| bast::task::yield_now())));
        let tasks: Vec<_> = tasks.collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
    let generations = trace.stop().unwrap().generations;
    let most = start.elapsed().as_millis() as u64 + 1 + generations; // each begins with one
    let count = values(&bytes.get()).len() as u64;
    assert!(
        (1..=most).contains(&count),
        "{count} values, {most} would be right"
    );
}

/// Of one process: what one of them allocates the others would see.
#[test]
fn one_after_the_other() {
    nothing_is_lost_between_threads();
    the_heap_is_in_the_trace();
    one_value_a_millisecond_is_the_most();
}
