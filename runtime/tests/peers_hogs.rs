//! Bugs that peers had when a task lost its processor at a bad moment, or its stack moved. `PEERS.md` lists them all.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::sync::Mutex;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::Duration;
use util::{PROCESSORS, Watchdog, burn, on_each, start};

const SLICE: Duration = Duration::from_millis(1);

/// Runs `main` with short slices for each number of processors; it is told how many processors have been taken so far.
fn with_short_slices(main: impl Fn(usize, &(dyn Fn() -> u64 + Sync)) + Sync) {
    for processors in PROCESSORS {
        let runtime = start(bast::Builder::new().processors(processors).slice(SLICE));
        let handle = runtime.handle();
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        runtime.run(|| main(processors, &|| handle.metrics().detaches));
    }
}

/// A peer's signal switched away from a task inside `malloc`, whose lock then nobody could take. Here tasks lose their
/// processors there, and others go on to allocate.
#[test]
fn processors_are_taken_inside_the_allocator() {
    // Slices and more, but not seconds, on machines that are slow or watched too.
    let blocks = if util::is_instrumented() { 500 } else { 8_000 };
    with_short_slices(|processors, detaches| {
        let over = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..2 * processors as u64 + 2)
            .map(|mark| {
                let over = over.clone();
                bast::spawn(move || {
                    let mut rounds = 0_u64;
                    while !over.load(Relaxed) {
                        for length in 1..blocks {
                            let length: usize = length % 2_000 + 1;
                            let mut block = vec![mark as u8; length % 300 + 1];
                            block.resize(length, mark as u8);
                            assert!(black_box(&block).iter().all(|byte| *byte == mark as u8));
                        }
                        rounds += 1;
                        bast::task::yield_now(); // the only call into bast
                    }
                    rounds
                })
            })
            .collect();
        while detaches() < 30 {
            bast::task::yield_now();
            drop(black_box(vec![1_u8; 100]));
        }
        over.store(true, Relaxed);
        assert!(tasks.into_iter().all(|task| task.join().is_ok()));
    });
}

/// A peer's task that ended was switched away from at the same moment, and resumed from what it had left behind.
#[test]
fn tasks_that_end_as_their_processor_is_taken() {
    with_short_slices(|_, detaches| {
        let before = detaches();
        let mut ended = 0_u64;
        while detaches() < before + 20 {
            let tasks: Vec<_> = (0..40_u64)
                .map(|number| {
                    bast::spawn(move || {
                        // The monitor looks about every millisecond: ends just before, at and after its look.
                        burn(SLICE + Duration::from_micros(number * 37 % 1_100));
                        number
                    })
                })
                .collect();
            let sum: u64 = tasks.into_iter().map(|task| task.join().unwrap()).sum();
            assert_eq!(sum, 780);
            ended += 40;
        }
        assert!(ended > 0);
    });
}

/// A peer's lock, taken on one thread and released on another, was released by what it still knew of the first.
#[test]
fn a_lock_is_released_on_another_thread_than_it_was_taken_on() {
    const MOVES: u64 = 20;
    fn thread() -> std::thread::ThreadId {
        bast::task::no_park(|| std::thread::current().id())
    }
    with_short_slices(|processors, _| {
        let sum = Arc::new(Mutex::new(0_u64));
        let moved = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (sum, moved) = (sum.clone(), moved.clone());
                bast::spawn(move || {
                    while moved.load(Relaxed) < MOVES {
                        let mut held = sum.lock().unwrap();
                        let (before, from) = (*held, thread());
                        // Gives the processor away; the task goes on where one comes free.
                        bast::blocking(|| std::thread::sleep(Duration::from_micros(50)));
                        bast::task::yield_now();
                        *held = before + 1;
                        moved.fetch_add(u64::from(thread() != from), Relaxed);
                        drop(held);
                    }
                })
            })
            .collect();
        // They want the processors too, so that a task finds none idle and goes on where one comes free.
        let hogs: Vec<_> = (0..=processors)
            .map(|_| {
                let moved = moved.clone();
                bast::spawn(move || {
                    while moved.load(Relaxed) < MOVES {
                        burn(Duration::from_micros(200));
                        bast::task::yield_now();
                    }
                })
            })
            .collect();
        tasks
            .into_iter()
            .chain(hogs)
            .for_each(|task| task.join().unwrap());
        assert!(*sum.lock().unwrap() >= MOVES);
    });
}

/// A peer moved a stack that grew, and with it what had been lent to others; and took numbers on it for addresses.
#[test]
fn what_is_lent_stays_where_it_is_however_deep_its_owner_goes() {
    #[inline(never)]
    fn descend(levels: usize, numbers: &[u64]) -> u64 {
        let space = black_box([1_u64; 64]);
        let below = if levels == 0 {
            bast::task::yield_now();
            numbers.iter().sum()
        } else {
            descend(levels - 1, numbers)
        };
        below + space[levels % 64] - 1
    }
    on_each(|| {
        let local = AtomicU64::new(0);
        // Words that look like addresses on this stack.
        let start = std::ptr::from_ref(&local) as u64;
        let words: Vec<u64> = (0..64).map(|word| start - word * 8).collect();
        let sum: u64 = words.iter().sum();
        bast::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        local.fetch_add(1, Relaxed);
                        bast::task::yield_now();
                    }
                });
            }
            assert_eq!(descend(100, &words), sum);
            // On a further stack, deeper than this one is.
            let deep = bast::on_big_stack(8 << 20, || descend(4_000, &words));
            assert_eq!(deep, sum);
        });
        assert_eq!(local.load(Relaxed), 800);
        assert_eq!(words.iter().sum::<u64>(), sum);
    });
}
