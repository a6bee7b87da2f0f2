//! What the monitor costs and what it says: it sleeps while nothing runs, seldom looks while nothing happens, and names
//! the tasks that keep their processors from others.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant};
use util::{Watchdog, burn, in_good_child, is_emulated, start_with, wait_for};

/// Waits until the monitor has not looked for a while.
fn wait_for_rest(looks: impl Fn() -> u64) {
    let mut before = u64::MAX;
    wait_for(|| {
        std::thread::sleep(Duration::from_millis(1500)); // longer than the rest between two visits of the scavenger
        std::mem::replace(&mut before, looks()) == looks()
    });
}

#[test]
fn the_monitor_of_an_idle_runtime_sleeps_and_wakes_for_work() {
    let runtime = start_with(2);
    let _watchdog = Watchdog::start("idle", Some(runtime.handle()));
    for _ in 0..2 {
        runtime.run(|| bast::spawn(|| burn(Duration::from_millis(2))).join().unwrap());
        wait_for_rest(|| runtime.metrics().monitor_looks);
        let rested = runtime.metrics();
        // One task blocks and another waits behind it: somebody must look.
        runtime.run(|| {
            let done = Arc::new(AtomicBool::new(false));
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let done = done.clone();
                    bast::spawn(move || {
                        while !done.load(Acquire) {
                            std::thread::sleep(Duration::from_micros(100));
                        }
                    })
                })
                .collect();
            bast::task::yield_now();
            done.store(true, Release);
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
        let woken = runtime.metrics();
        assert!(woken.monitor_looks > rested.monitor_looks);
        assert!(woken.detaches > rested.detaches);
    }
}

/// Nothing waits and no round begins: a look every 10 ms is enough. More time may pass, but not less.
#[test]
fn beside_a_lone_computation_the_monitor_looks_seldom() {
    let runtime = start_with(2);
    let _watchdog = Watchdog::start("a computation", Some(runtime.handle()));
    runtime.run(|| {
        burn(Duration::from_millis(20)); // the alert of the start is over
        let (began, looks) = (Instant::now(), runtime.metrics().monitor_looks);
        burn(Duration::from_millis(500));
        let most = began.elapsed().as_millis() as u64 / 10 + 20;
        let looks = runtime.metrics().monitor_looks - looks;
        assert!(looks <= most, "{looks} looks, more than {most}");
    });
}

/// Timers that workers wait for do not concern it, however many there are, also beside computations that have lost their
/// processors. In one round of some, at least: where workers wait for CPUs it looks for other reasons.
#[test]
fn it_does_not_look_at_every_timer() {
    if is_emulated() {
        return; // they always do there
    }
    let runtime = start_with(2);
    let _watchdog = Watchdog::start("timers", Some(runtime.handle()));
    runtime.run(|| {
        let over = Arc::new(AtomicBool::new(false));
        let hogs: Vec<_> = (0..2)
            .map(|_| {
                let over = over.clone();
                bast::spawn(move || {
                    while !over.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        bast::time::sleep(Duration::from_millis(50)); // they have lost their processors
        let mut rounds = (0..10).map(|_| {
            let looks = runtime.metrics().monitor_looks;
            let tickers: Vec<_> = (0..50)
                .map(|ticker| {
                    bast::spawn(move || {
                        bast::time::sleep(Duration::from_micros(200 * ticker)); // no two at once
                        for _ in 0..25 {
                            bast::time::sleep(Duration::from_millis(10));
                        }
                    })
                })
                .collect();
            tickers.into_iter().for_each(|ticker| ticker.join().unwrap());
            runtime.metrics().monitor_looks - looks
        });
        let seldom = rounds.any(|looks| looks <= 50 * 25 / 3);
        over.store(true, Relaxed);
        hogs.into_iter().for_each(|hog| hog.join().unwrap());
        assert!(seldom, "ten times more than a look at every third timer");
    });
}

/// In the long rest beside it everything still comes: work from outside, from its own calls, from the clock.
#[test]
fn the_long_rest_ends_when_something_happens() {
    let runtime = start_with(1);
    let _watchdog = Watchdog::start("a computation", Some(runtime.handle()));
    for round in 0..6 {
        let done = Arc::new(AtomicBool::new(false));
        let told = done.clone();
        let outside = (round % 3 == 0).then(|| {
            let (told, handle) = (done.clone(), runtime.handle());
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                let task = handle.spawn(move || told.store(true, Release));
                task.unwrap().join().unwrap();
            })
        });
        runtime.run(move || {
            let sleeper = (round % 3 == 1).then(|| {
                let told = told.clone();
                bast::spawn(move || {
                    bast::time::sleep(Duration::from_millis(30));
                    told.store(true, Release);
                })
            });
            bast::task::yield_now();
            burn(Duration::from_millis(30));
            let own = (round % 3 == 2).then(|| bast::spawn(move || told.store(true, Release)));
            while !done.load(Acquire) {
                std::hint::spin_loop();
            }
            drop((sleeper, own));
        });
        outside.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Blocks, or computes, without a call into bast while another task waits.
fn keep_the_processor(computes: bool) {
    let done = Arc::new(AtomicBool::new(false));
    let other = {
        let done = done.clone();
        bast::spawn(move || done.store(true, Release))
    };
    while !done.load(Acquire) {
        if !computes {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    bast::task::checkpoint();
    other.join().unwrap();
}

#[test]
fn overruns_are_counted_and_named() {
    for computes in [false, true] {
        let runtime = start_with(1);
        let _watchdog = Watchdog::start("overruns", Some(runtime.handle()));
        // A loaded machine may have the monitor see another task last, or this one when it has just ended: then once more.
        let (over, spawned, waited) = loop {
            let (spawned, waited) = runtime.run(|| {
                let spawned = line!() + 1;
                let task = bast::spawn(move || {
                    bast::time::sleep(Duration::from_millis(50)); // long enough that it has to wait
                    let waited = line!() - 1;
                    keep_the_processor(computes);
                    waited
                });
                (spawned, task.join().unwrap())
            });
            let metrics = runtime.metrics();
            assert!(metrics.detaches >= 1, "{metrics:?}");
            if let Some(over) = metrics.last_overrun
                && over.spawned_at.line() == spawned
            {
                assert!(metrics.overruns >= 1, "{over}");
                break (over, spawned, waited);
            }
        };
        assert!(over.spawned_at.file().ends_with("monitor.rs"), "{over}");
        assert_eq!(over.spawned_at.line(), spawned, "{over}");
        let (reason, at) = over.last_wait.expect("it slept before");
        assert_eq!((reason, at.line()), ("sleep", waited), "{over}");
        // A loaded machine may keep a blocked task from being seen within its slice.
        assert!(
            over.blocked != computes || over.after >= Duration::from_millis(10),
            "{over}"
        );
    }
}

#[test]
fn overruns_are_reported_with_the_place_where_the_task_comes_back() {
    let name = "overruns_are_reported_with_the_place_where_the_task_comes_back";
    let text = in_good_child(
        name,
        |command| {
            command.env("BAST_DEBUG", "overrun=1");
        },
        || {
            let runtime = start_with(1);
            runtime.run(|| {
                for _ in 0..5 {
                    let task = bast::task::Builder::new()
                        .name("the hog")
                        .spawn(|| keep_the_processor(false))
                        .unwrap();
                    task.join().unwrap();
                }
            });
        },
    );
    if util::is_emulated() {
        return;
    }
    assert!(text.contains("BAST_DEBUG=overrun: task "), "{text}");
    assert!(text.contains("others run on its processor"), "{text}");
    assert!(text.contains("\"the hog\""), "{text}");
    assert!(text.contains("makes its next call into bast here"), "{text}");
    assert!(text.contains("keep_the_processor"), "no backtrace:\n{text}");
    assert!(
        text.matches("others run on its processor").count() <= 2,
        "too often:\n{text}"
    );
}
