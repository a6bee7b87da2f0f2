//! The bound that `sched/mod.rs` states: who may be kept from running, and for how long.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::task::{park, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};
use util::{Watchdog, burn, run_on, start_with, wait_for};

/// Two tasks that hand a turn to each other by unpark, through the next slot, until `stop`. Gives the rounds.
fn wakers(stop: &Arc<AtomicBool>, rounds: &Arc<AtomicU64>) -> [bast::JoinHandle<()>; 2] {
    let turn = Arc::new(AtomicUsize::new(0));
    let peers: Arc<std::sync::OnceLock<[bast::task::Task; 2]>> = Arc::default();
    let tasks = [0, 1].map(|me| {
        let (stop, turn, peers) = (stop.clone(), turn.clone(), peers.clone());
        let rounds = rounds.clone();
        bast::spawn(move || {
            while !stop.load(Acquire) {
                if turn.load(Acquire) == me {
                    rounds.fetch_add(1, Relaxed);
                    turn.store(1 - me, Release);
                    if let Some(peers) = peers.get() {
                        peers[1 - me].unpark();
                    } else {
                        yield_now();
                    }
                } else if peers.get().is_some() {
                    park();
                } else {
                    yield_now();
                }
            }
            if let Some(peers) = peers.get() {
                peers[1 - me].unpark();
            }
        })
    });
    let handles = [tasks[0].task(), tasks[1].task()];
    peers.set(handles).expect("set once");
    tasks.iter().for_each(|task| task.task().unpark());
    tasks
}

#[test]
fn two_tasks_that_wake_each_other_do_not_starve_a_third() {
    for processors in [1, 2] {
        run_on(processors, || {
            let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
            let pairs: Vec<_> = (0..processors * 2).map(|_| wakers(&stop, &rounds)).collect();
            // The third task yields: each yield puts it at the ring's end, behind which the pairs would run for ever.
            let seen = rounds.clone();
            let third = bast::spawn(move || {
                let before = seen.load(Relaxed);
                (0..1000).for_each(|_| yield_now());
                seen.load(Relaxed) - before
            });
            let passed = third.join().unwrap();
            // Without the bound only the monitor, or the kernel, gives the third its turn: after thousands of rounds.
            // With it and one processor, at most the five tasks of the ring come before, each with 16 picks of the
            // next slot behind it; twice that for what the looks at home begin anew.
            if processors == 1 {
                assert!(
                    passed <= 1000 * 5 * 17 * 2,
                    "{passed} rounds of the pairs for 1000 of the third task"
                );
            }
            wait_for(|| rounds.load(Relaxed) > 10_000); // the pairs did run beside it
            stop.store(true, Release);
            pairs.into_iter().flatten().for_each(|task| task.join().unwrap());
        });
    }
}

/// The bound itself: with one processor, no ring task waits for more than 16 picks of the next slot.
#[test]
fn the_next_slot_is_preferred_at_most_sixteen_times_in_a_row() {
    run_on(1, || {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pair = wakers(&stop, &rounds);
        wait_for(|| rounds.load(Relaxed) > 100);
        let seen = rounds.clone();
        let worst = bast::spawn(move || {
            let mut worst = 0;
            for _ in 0..1000 {
                let before = seen.load(Relaxed);
                yield_now(); // to the end of a ring that holds nobody else
                worst = worst.max(seen.load(Relaxed) - before);
            }
            worst
        })
        .join()
        .unwrap();
        stop.store(true, Release);
        pair.into_iter().for_each(|task| task.join().unwrap());
        // A pick of the next slot is half a round trip: one count. The ring's other tasks are few: the main task,
        // parked in `join`. Sixteen picks, one more for the task that was running, and the looks at home in between,
        // which may begin the count anew once.
        // Chaos sends the third to the end of the ring a few times more than it asks for.
        let most = if cfg!(bast_chaos) { 8 * 17 } else { 2 * 17 };
        assert!(
            worst <= most,
            "the third task waited for {worst} picks of the next slot"
        );
    });
}

#[test]
fn a_task_in_the_global_queue_runs_while_local_ones_yield_for_ever() {
    for processors in [1, 2, 8] {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let stop = Arc::new(AtomicBool::new(false));
        runtime.run(|| {
            let yielders: Vec<_> = (0..processors * 3)
                .map(|_| {
                    let stop = stop.clone();
                    bast::spawn(move || {
                        while !stop.load(Acquire) {
                            yield_now();
                        }
                    })
                })
                .collect();
            // A plain thread's spawns go through the global queue.
            let handle = runtime.handle();
            let outside = std::thread::spawn(move || {
                for round in 0..200 {
                    let task = handle.spawn(move || round).unwrap();
                    assert_eq!(task.join().unwrap(), round);
                }
            });
            wait_for(|| outside.is_finished());
            outside.join().unwrap();
            stop.store(true, Release);
            yielders.into_iter().for_each(|task| task.join().unwrap());
        });
    }
}

/// "at most 61 x n rounds of any one processor": with one processor, counted in its own rounds.
#[test]
fn the_global_queue_is_looked_at_every_61_rounds() {
    let runtime = start_with(1);
    let _watchdog = Watchdog::start("1 processor", Some(runtime.handle()));
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU64::new(0));
    runtime.run(|| {
        // One task that yields for ever, and counts; every yield is at least one round.
        let yielder = {
            let (stop, rounds) = (stop.clone(), rounds.clone());
            bast::spawn(move || {
                while !stop.load(Acquire) {
                    rounds.fetch_add(1, Release);
                    yield_now();
                }
            })
        };
        let outer = runtime.handle();
        let seen = rounds.clone();
        let outside = std::thread::spawn(move || {
            let mut worst = 0;
            for _ in 0..100 {
                let seen = seen.clone();
                let before = Arc::new(AtomicU64::new(u64::MAX));
                let told = before.clone();
                let task = outer
                    .spawn(move || seen.load(Acquire).saturating_sub(told.load(Acquire)))
                    .unwrap();
                // Read after the task is in the queue, so that the time of the spawn itself does not count.
                before.store(rounds.load(Acquire), Release);
                worst = worst.max(task.join().unwrap());
            }
            worst
        });
        wait_for(|| outside.is_finished());
        let worst = outside.join().unwrap();
        stop.store(true, Release);
        yielder.join().unwrap();
        // Twice: the round in which it is looked at may just have passed, and the main task sleeps beside it.
        assert!(
            worst <= 2 * 61,
            "a task in the global queue waited for {worst} rounds"
        );
    });
}

/// L0: calls that never wait are where a task past its slice gives way.
#[test]
fn a_task_past_its_slice_gives_way_at_a_call_that_never_waits() {
    type Call = fn();
    let calls: [(&str, Call); 4] = [
        ("checkpoint", bast::task::checkpoint),
        ("current", || drop(bast::task::current())),
        ("spawn", || drop(bast::spawn(|| ()))),
        ("unpark", || bast::task::current().unpark()),
    ];
    for (name, call) in calls {
        run_on(1, move || {
            let ran = Arc::new(AtomicBool::new(false));
            let other = {
                let ran = ran.clone();
                bast::spawn(move || ran.store(true, Release))
            };
            // Without L0 this loop never ends: the watchdog says so.
            while !ran.load(Acquire) {
                burn(Duration::from_micros(20));
                call();
            }
            other.join().unwrap_or_else(|error| panic!("{name}: {error}"));
        });
    }
}

/// A hog that calls nothing keeps one processor; the others' tasks go on, timers and all.
#[test]
fn a_hog_does_not_keep_the_other_processors_from_working() {
    run_on(2, || {
        let stop = Arc::new(AtomicBool::new(false));
        let hog = {
            let stop = stop.clone();
            bast::spawn(move || {
                while !stop.load(Acquire) {
                    std::hint::spin_loop();
                }
            })
        };
        let sum: usize = (0..200_usize)
            .map(|i| {
                let task = bast::spawn(move || {
                    bast::time::sleep(Duration::from_micros(50));
                    i
                });
                task.join().unwrap()
            })
            .sum();
        assert_eq!(sum, 199 * 100);
        stop.store(true, Release);
        hog.join().unwrap();
    });
}

/// What a hog has readied before it began to burn is run by others: from its next slot, and from its ring.
#[test]
fn what_a_hog_has_readied_runs_elsewhere() {
    for count in [1, 2, 100, 600] {
        run_on(2, move || {
            let ran = Arc::new(AtomicUsize::new(0));
            let hog = {
                let ran = ran.clone();
                bast::spawn(move || {
                    let tasks: Vec<_> = (0..count)
                        .map(|_| {
                            let ran = ran.clone();
                            bast::spawn(move || _ = ran.fetch_add(1, AcqRel))
                        })
                        .collect();
                    while ran.load(Acquire) < count {
                        std::hint::spin_loop(); // no call into bast
                    }
                    tasks.into_iter().for_each(|task| task.join().unwrap());
                })
            };
            hog.join().unwrap();
        });
    }
}

/// A timer that a busy worker has armed is fired by others; see also `time.rs`.
#[test]
fn timers_behind_a_hog_are_fired_by_others() {
    run_on(2, || {
        let done = Arc::new(AtomicBool::new(false));
        let sleeper_and_hog = {
            let done = done.clone();
            bast::spawn(move || {
                let told = done.clone();
                let sleeper = bast::spawn(move || {
                    bast::time::sleep(Duration::from_millis(5));
                    told.store(true, Release);
                });
                yield_now(); // so that the sleeper arms its timer here, or is stolen
                while !done.load(Acquire) {
                    std::hint::spin_loop();
                }
                sleeper.join().unwrap();
            })
        };
        sleeper_and_hog.join().unwrap();
    });
}

#[test]
fn yielding_alone_returns_at_once() {
    run_on(1, || {
        let start = Instant::now();
        (0..10_000).for_each(|_| yield_now());
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "a yield with nobody else waits for something"
        );
    });
}
