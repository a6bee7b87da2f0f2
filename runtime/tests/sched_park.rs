//! Park and unpark: permits, races, and unparkers of every kind.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::task::{Task, current, park, park_timeout, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};
use util::{Gate, Watchdog, on_each, run_on, start_with, wait_for};

#[test]
fn an_unpark_before_the_park_counts() {
    on_each(|| {
        current().unpark();
        park();
        // Permits do not add up: two unparks make one park return. The second is ended by another task.
        current().unpark();
        current().unpark();
        park();
        let me = current();
        let woke = Arc::new(AtomicBool::new(false));
        let seen = woke.clone();
        let other = bast::spawn(move || {
            seen.store(true, Release);
            me.unpark();
        });
        while !woke.load(Acquire) {
            park();
        }
        other.join().unwrap();
    });
}

/// Whatever a task waits for between the unpark and the park: the permit is still there.
#[test]
fn no_other_wait_uses_up_the_permit() {
    use bast::sync::{Mutex, channel};
    let waits: [fn(); 5] = [
        || bast::time::sleep(Duration::from_millis(1)),
        || bast::spawn(yield_now).join().unwrap(),
        || {
            let (sender, receiver) = channel::rendezvous();
            let other = bast::spawn(move || sender.send(()).unwrap());
            receiver.recv().unwrap();
            other.join().unwrap();
        },
        || {
            let lock = Arc::new(Mutex::new(()));
            let guard = lock.lock().unwrap();
            let theirs = lock.clone();
            let other = bast::spawn(move || drop(theirs.lock().unwrap()));
            yield_now();
            drop(guard);
            drop(lock.lock().unwrap());
            other.join().unwrap();
        },
        || bast::blocking(|| std::thread::sleep(Duration::from_millis(1))),
    ];
    on_each(move || {
        for wait in waits {
            current().unpark();
            wait();
            park();
        }
        // The token of the unpark and that of the value are one.
        for _ in 0..200 {
            let (sender, receiver) = channel::rendezvous::<Task>();
            let other = bast::spawn(move || receiver.recv().unwrap().unpark());
            sender.send(current()).unwrap();
            park();
            other.join().unwrap();
        }
    });
}

/// Two parties that pass a turn to and fro, each by parking until it is theirs; a lost wake-up hangs.
fn ping_pong(rounds: usize, unpark_me: &Task, turn: &AtomicUsize, me: usize) {
    for _ in 0..rounds {
        while turn.load(Acquire) != me {
            park();
        }
        turn.store(1 - me, Release);
        unpark_me.unpark();
    }
}

#[test]
fn tasks_wake_each_other() {
    on_each(|| {
        let turn = Arc::new(AtomicUsize::new(0));
        let main = current();
        let shared = turn.clone();
        let other = bast::spawn(move || ping_pong(5_000, &main, &shared, 1));
        ping_pong(5_000, &other.task(), &turn, 0);
        other.join().unwrap();
    });
}

#[test]
fn many_pairs_at_once() {
    on_each(|| {
        let pairs: Vec<_> = (0..20)
            .map(|_| {
                bast::spawn(|| {
                    let turn = Arc::new(AtomicUsize::new(0));
                    let me = current();
                    let shared = turn.clone();
                    let other = bast::spawn(move || ping_pong(500, &me, &shared, 1));
                    ping_pong(500, &other.task(), &turn, 0);
                    other.join().unwrap();
                })
            })
            .collect();
        pairs.into_iter().for_each(|pair| pair.join().unwrap());
    });
}

#[test]
fn a_plain_thread_wakes_a_task() {
    on_each(|| {
        let turn = Arc::new(AtomicUsize::new(0));
        let (task, shared) = (current(), turn.clone());
        let thread = std::thread::spawn(move || {
            for _ in 0..2_000 {
                while shared.load(Acquire) != 1 {
                    std::hint::spin_loop();
                    std::thread::yield_now();
                }
                shared.store(0, Release);
                task.unpark();
            }
        });
        for _ in 0..2_000 {
            turn.store(1, Release);
            while turn.load(Acquire) != 0 {
                park();
            }
        }
        wait_for(|| thread.is_finished());
        thread.join().unwrap();
    });
}

#[test]
fn a_task_of_another_runtime_wakes_a_task() {
    for (ours, theirs) in [(1, 1), (1, 2), (2, 1), (8, 2)] {
        let other = start_with(theirs);
        run_on(ours, || {
            let turn = Arc::new(AtomicUsize::new(0));
            let (main, shared) = (current(), turn.clone());
            let peer = other.spawn(move || ping_pong(3_000, &main, &shared, 1)).unwrap();
            ping_pong(3_000, &peer.task(), &turn, 0);
            peer.join().unwrap();
        });
    }
}

/// Several wakers of every kind at one task: each event is seen, none is needed twice.
#[test]
fn a_crowd_wakes_one_task() {
    on_each(|| {
        const EACH: usize = 1_000;
        let given = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (task, given) = (current(), given.clone());
                bast::spawn(move || {
                    for _ in 0..EACH {
                        given.fetch_add(1, AcqRel);
                        task.unpark();
                        yield_now();
                    }
                })
            })
            .collect();
        let (task, shared) = (current(), given.clone());
        let thread = std::thread::spawn(move || {
            for _ in 0..EACH {
                shared.fetch_add(1, AcqRel);
                task.unpark();
            }
        });
        while given.load(Acquire) < 5 * EACH {
            park();
        }
        tasks.into_iter().for_each(|task| task.join().unwrap());
        wait_for(|| thread.is_finished());
        thread.join().unwrap();
    });
}

#[test]
fn park_timeout_ends_by_itself_and_by_an_unpark() {
    on_each(|| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(10) {
            park_timeout(Duration::from_millis(10)); // it may return early
        }
        park_timeout(Duration::ZERO);
        // An unpark ends a long one.
        let me = current();
        let flag = Gate::new();
        let seen = flag.clone();
        let start = Instant::now();
        let other = bast::spawn(move || {
            seen.open();
            me.unpark();
        });
        while !flag.is_open() {
            park_timeout(Duration::from_secs(3_600));
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        other.join().unwrap();
        // Longer than any clock: no overflow.
        current().unpark();
        park_timeout(Duration::MAX);
    });
}

/// The timer and the unparker race; whoever comes second finds nothing to break.
#[test]
fn timeouts_race_unparks() {
    on_each(|| {
        for round in 0..500_u64 {
            let me = current();
            let other = bast::spawn(move || {
                bast::time::sleep(Duration::from_micros(round % 100));
                me.unpark();
            });
            park_timeout(Duration::from_micros(50));
            other.join().unwrap();
            park_timeout(Duration::ZERO); // uses up what is left
        }
    });
}

#[test]
fn finished_tasks_can_be_unparked() {
    on_each(|| {
        let tasks: Vec<Task> = (0..100)
            .map(|_| {
                let task = bast::spawn(|| ());
                let handle = task.task();
                task.join().unwrap();
                handle
            })
            .collect();
        for task in &tasks {
            assert!(task.is_finished());
            task.unpark();
        }
        // Their entries are not given to new tasks while handles live: no stray permit reaches these.
        let fresh: Vec<_> = (0..100).map(|i| bast::spawn(move || i)).collect();
        tasks.iter().for_each(Task::unpark);
        for (i, task) in fresh.into_iter().enumerate() {
            assert!(tasks.iter().all(|old| *old != task.task()));
            assert_eq!(task.join().unwrap(), i);
        }
    });
}

#[test]
fn handles_outlive_the_runtime() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let (finished, parked, main) = runtime.run(|| {
            let finished = bast::task::Builder::new().name("finished").spawn(|| ()).unwrap();
            let handle = finished.task();
            finished.join().unwrap();
            let parked = bast::task::Builder::new()
                .name("parked")
                .spawn(|| {
                    loop {
                        park();
                    }
                })
                .unwrap();
            yield_now();
            (handle, parked.task(), current())
        });
        drop(runtime);
        for task in [&finished, &parked, &main] {
            task.unpark();
            let _ = task.clone();
            assert!(!format!("{task:?}").is_empty());
        }
        assert!(finished.is_finished());
        assert!(main.is_finished());
        // Another runtime uses the same memory; the old handles still do nothing.
        run_on(processors, || {
            let tasks: Vec<_> = (0..100).map(|i| bast::spawn(move || i)).collect();
            [&finished, &parked, &main].into_iter().for_each(Task::unpark);
            for (i, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.join().unwrap(), i);
            }
        });
    }
}

#[test]
fn unparking_while_a_runtime_ends() {
    for _ in 0..20 {
        let runtime = start_with(2);
        let _watchdog = Watchdog::start("2 processors", Some(runtime.handle()));
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<Task> = (0..10)
            .map(|_| {
                runtime
                    .spawn(|| {
                        loop {
                            park();
                        }
                    })
                    .unwrap()
                    .task()
            })
            .collect();
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Acquire) {
                tasks.iter().for_each(Task::unpark);
            }
        });
        runtime.run(|| bast::time::sleep(Duration::from_millis(2)));
        drop(runtime);
        stop.store(true, Release);
        thread.join().unwrap();
    }
}

#[test]
fn outside_a_task_park_panics_with_what_to_do() {
    for call in [park as fn(), || park_timeout(Duration::ZERO), || drop(current())] {
        let panic = std::panic::catch_unwind(call).unwrap_err();
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap();
        assert!(text.contains("bast::run"), "{text}");
    }
    assert!(bast::task::try_current().is_none());
    yield_now(); // std's, on a plain thread
    bast::task::checkpoint();
}

/// The one that was woken for it finds no more work, and does not wake a second one before it runs the task.
#[test]
fn a_task_that_comes_alone_wakes_one_worker() {
    const ROUNDS: usize = 100;
    let runtime = start_with(4);
    let _watchdog = Watchdog::start("4 processors", Some(runtime.handle()));
    let asked = Arc::new(AtomicUsize::new(0));
    let heard = Arc::new(AtomicUsize::new(0));
    let (seen, tell) = (asked.clone(), heard.clone());
    let task = runtime
        .spawn(move || {
            for round in 1..=ROUNDS {
                while seen.load(Acquire) < round {
                    park(); // it may return for no reason
                }
                tell.store(round, Release);
            }
        })
        .unwrap();
    let handle = runtime.handle();
    let all_idle = || {
        let metrics = handle.metrics();
        metrics.processors_idle == metrics.processors
    };
    let mut woken_alone = 0;
    wait_for(all_idle);
    for round in 1..=ROUNDS {
        let before = handle.metrics().wakes;
        asked.store(round, Release);
        task.task().unpark();
        wait_for(|| heard.load(Acquire) == round && all_idle());
        woken_alone += usize::from(handle.metrics().wakes == before + 1);
    }
    task.join().unwrap();
    // The monitor may wake somebody too.
    assert!(woken_alone >= ROUNDS / 2, "in {woken_alone} of {ROUNDS}");
}
