//! Several runtimes in one process: they do not share tasks, and their tasks may deal with each other.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;
use util::{Watchdog, run_on, start_with, wait_for};

#[test]
fn side_by_side() {
    let runtimes: Vec<_> = (0..6).map(|_| start_with(2)).collect();
    let _watchdog = Watchdog::start("six runtimes", Some(runtimes[0].handle()));
    std::thread::scope(|scope| {
        for (i, runtime) in runtimes.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..20 {
                    let sum = runtime.run(|| {
                        let tasks: Vec<_> = (0..100).map(|k| bast::spawn(move || i * k * round)).collect();
                        tasks.into_iter().map(|task| task.join().unwrap()).sum::<usize>()
                    });
                    assert_eq!(sum, i * round * 4950);
                }
            });
        }
    });
    for runtime in &runtimes {
        assert_eq!(
            runtime.metrics().spawned,
            20 * 101,
            "no task ran in another's runtime"
        );
    }
}

#[test]
fn one_runtime_runs_many_mains_at_once() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        std::thread::scope(|scope| {
            for i in 0..8_usize {
                let runtime = &runtime;
                scope.spawn(move || {
                    let local = [i; 10];
                    for _ in 0..50 {
                        let sum = runtime.run(|| {
                            bast::task::yield_now();
                            local.iter().sum::<usize>()
                        });
                        assert_eq!(sum, i * 10);
                    }
                });
            }
        });
    }
}

#[test]
fn run_inside_run() {
    // In a task of the same runtime, and of another, several levels deep.
    let same = Arc::new(start_with(2));
    let inner = same.clone();
    let got = same.run(move || inner.run(|| inner.run(|| bast::spawn(|| 3).join().unwrap())));
    assert_eq!(got, 3);
    assert_eq!(
        run_on(1, || run_on(2, || run_on(1, || bast::spawn(|| 4)
            .join()
            .unwrap()))),
        4
    );
}

/// What `main` borrows must stay until it is over, whatever deadline its caller has.
#[test]
fn run_inside_a_timeout_waits_for_main() {
    for (ours, theirs) in [(1, 1), (2, 2)] {
        let inner = start_with(theirs);
        run_on(ours, || {
            let done = AtomicBool::new(false);
            let _ = catch_unwind(AssertUnwindSafe(|| {
                bast::time::timeout(Duration::from_millis(5), || {
                    inner.run(|| {
                        bast::time::sleep(Duration::from_millis(50));
                        done.store(true, Release);
                    });
                })
            }));
            assert!(
                done.load(Acquire),
                "run returned while main still borrowed from its caller"
            );
        });
    }
}

#[test]
fn tasks_spawn_into_each_others_runtimes() {
    let (one, other) = (start_with(2), start_with(1));
    let _watchdog = Watchdog::start("two runtimes", Some(one.handle()));
    let count = Arc::new(AtomicUsize::new(0));
    let there = other.handle();
    one.run(|| {
        let tasks: Vec<_> = (0..500)
            .map(|_| {
                let (there, count) = (there.clone(), count.clone());
                bast::spawn(move || {
                    let far = there
                        .spawn(move || {
                            bast::task::yield_now();
                            // A task spawned there stays there.
                            bast::spawn(move || _ = count.fetch_add(1, AcqRel))
                                .join()
                                .unwrap();
                        })
                        .unwrap();
                    far.join().unwrap();
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
    assert_eq!(count.load(Acquire), 500);
    assert_eq!(one.metrics().spawned, 501);
    assert_eq!(other.metrics().spawned, 1_000);
}

#[test]
fn a_socket_made_in_one_runtime_is_used_in_another() {
    use std::io::{Read, Write};
    let (one, other) = (start_with(1), start_with(1));
    let _watchdog = Watchdog::start("two runtimes", Some(one.handle()));
    let (mut near, mut far) = one.run(|| {
        let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = bast::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    });
    let reader = other
        .spawn(move || {
            let mut got = [0; 1000];
            for _ in 0..1000 {
                far.read_exact(&mut got).unwrap(); // parks there, is woken by the poller here
                far.write_all(&got[..1]).unwrap();
            }
        })
        .unwrap();
    one.run(|| {
        for _ in 0..1000 {
            near.write_all(&[7; 1000]).unwrap();
            let mut answer = [0];
            near.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [7]);
        }
    });
    reader.join().unwrap();
}

#[test]
fn the_end_of_one_does_not_disturb_the_other() {
    run_on(2, || {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicUsize::new(0));
        let worker = {
            let (stop, rounds) = (stop.clone(), rounds.clone());
            bast::spawn(move || {
                while !stop.load(Acquire) {
                    rounds.fetch_add(1, AcqRel);
                    bast::time::sleep(Duration::from_micros(100));
                }
            })
        };
        for _ in 0..20 {
            let other = start_with(2);
            let before = rounds.load(Acquire);
            other.run(|| bast::spawn(|| ()).join().unwrap());
            wait_for(|| rounds.load(Acquire) > before);
            drop(other);
        }
        stop.store(true, Release);
        worker.join().unwrap();
    });
}

/// Whoever wakes the last task of a runtime from outside may still be at its queue when the runtime is dropped.
#[test]
fn a_runtime_ends_as_soon_as_its_last_task_is_woken_from_outside() {
    let waker = start_with(2);
    let _watchdog = Watchdog::start("the waker", Some(waker.handle()));
    let rounds = if util::is_emulated() { 20 } else { 500 };
    for round in 0..rounds {
        let ends_at_once = start_with(1);
        let (sender, receiver) = bast::sync::channel::rendezvous();
        let wake = move || {
            let task: bast::task::Task = receiver.recv().unwrap();
            task.unpark();
        };
        let thread = (round % 2 == 0).then(|| std::thread::spawn(wake.clone()));
        let task = thread.is_none().then(|| waker.spawn(wake).unwrap());
        ends_at_once.run(move || {
            sender.send(bast::task::current()).unwrap();
            bast::task::park();
        });
        drop(ends_at_once);
        thread.map_or(Ok(()), std::thread::JoinHandle::join).unwrap();
        task.map_or(Ok(()), bast::JoinHandle::join).unwrap();
    }
}
