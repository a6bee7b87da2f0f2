//! The heap in execution traces, with an allocator that counts.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::trace::{self, CountedHeap};
use std::alloc::System;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use util::run_on;

#[global_allocator]
static HEAP: CountedHeap<System> = CountedHeap::new(System);

const PIECE: usize = 16 << 20;

/// A writer whose bytes can be looked at.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("the trace goes on");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// How many numbers follow an event's kind, its time counted.
fn numbers_of(kind: u8) -> usize {
    match kind {
        11 | 17 | 18 | 23 | 24 => 1,
        15 | 37 | 39 => 2,
        9 | 10 | 13 | 16 | 19 | 20 | 22 | 41 => 3,
        12 | 14 | 21 | 42 | 43 | 47 => 4,
        40 | 44 | 48 => 5,
        _ => panic!("an event of kind {kind}"),
    }
}

/// The values of the heap, with their times, in order.
fn values(trace: &[u8]) -> Vec<u64> {
    let mut rest = &trace[16..];
    let mut values = Vec::new();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == 52 {
            continue; // end of a generation
        }
        assert_eq!(first, 1, "a batch");
        let [_, _, mut time, size] = [(); 4].map(|()| number(&mut rest));
        let (mut payload, after) = rest.split_at(size as usize);
        rest = after;
        if matches!(payload.first(), Some(2 | 4 | 50) | None) {
            continue; // tables
        }
        while let Some((&kind, after)) = payload.split_first() {
            payload = after;
            let numbers: Vec<_> = (0..numbers_of(kind)).map(|_| number(&mut payload)).collect();
            time += numbers[0];
            if kind == 37 {
                values.push((time, numbers[1]));
            }
        }
    }
    values.sort_unstable();
    values.into_iter().map(|(_, value)| value).collect()
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
    let values = values(&bytes.0.lock().unwrap());
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
    let count = values(&bytes.0.lock().unwrap()).len() as u64;
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
