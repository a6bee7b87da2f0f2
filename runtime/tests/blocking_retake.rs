//! Calls that block without saying so, and loops that never call: the monitor takes the processor from under them, on
//! any number of processors, and they come back to another or wait their turn.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::io::{Read, Write};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use util::{Watchdog, burn, on_each, run_on, start, start_with, wait_for};

/// More tasks in unannounced blocking calls than there are processors, and every one is released by a task.
#[test]
fn unannounced_blocking_calls_do_not_stall_the_others() {
    on_each(|| {
        for many in [1, 2, 20] {
            let (tells, tolds): (Vec<_>, Vec<_>) = (0..many).map(|_| mpsc::channel()).unzip();
            let blocked: Vec<_> = tolds
                .into_iter()
                .map(|told| bast::spawn(move || told.recv().unwrap()))
                .collect();
            bast::time::sleep(Duration::from_millis(1));
            let tellers: Vec<_> = tells
                .into_iter()
                .enumerate()
                .map(|(i, tell)| bast::spawn(move || tell.send(i).unwrap()))
                .collect();
            tellers.into_iter().for_each(|teller| teller.join().unwrap());
            for (i, task) in blocked.into_iter().enumerate() {
                assert_eq!(task.join().unwrap(), i);
            }
        }
    });
}

/// Endless loops without a call into bast, one a processor and more.
#[test]
fn loops_that_never_call_do_not_stall_the_others() {
    beside_loops_that_never_call();
}

/// The barriers of the entries and of the monitor as they are where the kernel has no `membarrier(2)`.
#[test]
#[cfg(target_os = "linux")]
fn loops_that_never_call_do_not_stall_the_others_without_membarrier() {
    util::in_good_child(
        "loops_that_never_call_do_not_stall_the_others_without_membarrier",
        |command| _ = command.env("BAST_NO_MEMBARRIER", "1"),
        beside_loops_that_never_call,
    );
}

fn beside_loops_that_never_call() {
    for processors in [1, 2] {
        run_on(processors, || {
            let stop = Arc::new(AtomicBool::new(false));
            let hogs: Vec<_> = (0..processors + 2)
                .map(|_| {
                    let stop = stop.clone();
                    bast::spawn(move || {
                        let mut rounds = 0_u64;
                        while !stop.load(Acquire) {
                            rounds += 1;
                        }
                        std::hint::black_box(rounds)
                    })
                })
                .collect();
            // Tasks, timers and sockets.
            for i in 0..20 {
                assert_eq!(bast::spawn(move || i).join().unwrap(), i);
            }
            bast::time::sleep(Duration::from_millis(1));
            let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let client = bast::spawn(move || {
                let mut stream = bast::net::TcpStream::connect(address).unwrap();
                stream.write_all(b"x").unwrap();
            });
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(stream.read(&mut [0; 2]).unwrap(), 1);
            client.join().unwrap();
            let last = bast::spawn(move || stop.store(true, Release));
            last.join().unwrap();
            hogs.into_iter().for_each(|hog| _ = hog.join().unwrap());
        });
    }
}

/// Only the hog runs, and only the clock and a socket could make others runnable.
#[test]
fn behind_a_lone_hog_timers_and_sockets_still_come() {
    run_on(1, || {
        let woken = Arc::new(AtomicUsize::new(0));
        let sleeper = {
            let woken = woken.clone();
            bast::spawn(move || {
                bast::time::sleep(Duration::from_millis(5));
                woken.fetch_add(1, AcqRel);
            })
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = mpsc::channel();
        let reader = {
            let woken = woken.clone();
            bast::spawn(move || {
                let mut stream = bast::net::TcpStream::connect(address).unwrap();
                tell.send(()).unwrap();
                stream.read_exact(&mut [0]).unwrap();
                woken.fetch_add(1, AcqRel);
            })
        };
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::thread::sleep(Duration::from_millis(5));
            stream.write_all(b"x").unwrap();
            stream
        });
        bast::blocking(|| told.recv()).unwrap();
        while woken.load(Acquire) < 2 {
            std::hint::spin_loop(); // we are the hog
        }
        sleeper.join().unwrap();
        reader.join().unwrap();
        drop(peer.join().unwrap());
    });
}

/// A std lock held over a blocking call, and taken by others meanwhile: nobody parks with it, so it is allowed.
#[test]
fn contended_std_locks() {
    on_each(|| {
        let lock = Arc::new(Mutex::new(0));
        let tasks: Vec<_> = (0..12)
            .map(|_| {
                let lock = lock.clone();
                bast::spawn(move || {
                    for _ in 0..3 {
                        let mut held = lock.lock().unwrap();
                        std::thread::sleep(Duration::from_millis(1));
                        *held += 1;
                        drop(held);
                        bast::task::yield_now();
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(*lock.lock().unwrap(), 36);
    });
}

/// What a task does first when it comes back and its processor is gone.
#[test]
fn every_way_back_from_a_lost_processor() {
    type Step = fn();
    let steps: [(&str, Step); 10] = [
        ("end", || ()),
        ("yield", bast::task::yield_now),
        ("checkpoint", bast::task::checkpoint),
        ("sleep", || bast::time::sleep(Duration::from_micros(100))),
        ("park", || bast::task::park_timeout(Duration::from_micros(100))),
        ("spawn and join", || bast::spawn(|| ()).join().unwrap()),
        ("spawn and forget", || drop(bast::spawn(|| ()))),
        ("a section", || {
            bast::blocking(|| std::thread::sleep(Duration::from_micros(100)))
        }),
        ("unpark", || bast::task::current().unpark()),
        ("a socket", || {
            drop(bast::net::TcpListener::bind("127.0.0.1:0").unwrap())
        }),
    ];
    on_each(|| {
        for (name, step) in steps {
            for away in [
                || std::thread::sleep(Duration::from_millis(3)),
                || burn(Duration::from_millis(15)),
            ] {
                // Work that waits, so that somebody wants the processor, and takes it.
                let tasks: Vec<_> = (0..4)
                    .map(|i| {
                        bast::spawn(move || {
                            away();
                            step();
                            i
                        })
                    })
                    .collect();
                for (i, task) in tasks.into_iter().enumerate() {
                    assert_eq!(task.join().unwrap(), i, "{name}");
                }
            }
        }
    });
}

#[test]
fn a_panic_on_a_lost_processor() {
    on_each(|| {
        let tasks: Vec<_> = (0..8_usize)
            .map(|i| {
                bast::spawn(move || {
                    struct Sleeps;
                    impl Drop for Sleeps {
                        fn drop(&mut self) {
                            std::thread::sleep(Duration::from_millis(2)); // lost while it unwinds
                            bast::time::sleep(Duration::from_micros(100));
                            assert!(std::thread::panicking());
                        }
                    }
                    let _sleeps = Sleeps;
                    std::thread::sleep(Duration::from_millis(2));
                    resume_unwind(Box::new(i));
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(
                *task.join().unwrap_err().into_panic().downcast::<usize>().unwrap(),
                i
            );
        }
        assert!(!std::thread::panicking());
    });
}

/// A mixture of everything; afterwards all processors are there and all tasks are counted.
#[test]
fn no_processor_and_no_task_is_lost() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        runtime.run(|| {
            let tasks: Vec<_> = (0..60_usize)
                .map(|i| {
                    bast::spawn(move || {
                        for round in 0..4 {
                            match (i + round) % 5 {
                                0 => burn(Duration::from_millis(1)),
                                1 => std::thread::sleep(Duration::from_millis(2)),
                                2 => bast::time::sleep(Duration::from_micros(300)),
                                3 => bast::blocking(|| std::thread::sleep(Duration::from_millis(1))),
                                _ => bast::spawn(|| burn(Duration::from_micros(500))).join().unwrap(),
                            }
                        }
                        i
                    })
                })
                .collect();
            for (i, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.join().unwrap(), i);
            }
        });
        wait_for(|| runtime.metrics().processors_idle == processors);
        wait_for(|| runtime.metrics().tasks_alive() == 0);
        runtime.run(|| {
            let tasks: Vec<_> = (0..100).map(|i| bast::spawn(move || i)).collect();
            tasks.into_iter().for_each(|task| _ = task.join().unwrap());
        });
    }
}

/// At the limit of workers the runtime waits until one comes back, and then everything runs.
#[test]
fn at_the_limit_what_waits_runs_later() {
    for (processors, most) in [(1, 0), (1, 1), (2, 1)] {
        let runtime = start(
            bast::Builder::new()
                .processors(processors)
                .blocked_workers_max(most)
                .slice(Duration::from_secs(3_600)), // who computes keeps its processor
        );
        let _watchdog = Watchdog::start("few workers", Some(runtime.handle()));
        let tasks: Vec<_> = (0..10)
            .map(|i| {
                runtime
                    .spawn(move || {
                        std::thread::sleep(Duration::from_millis(3));
                        bast::task::yield_now();
                        i
                    })
                    .unwrap()
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), i);
        }
        // Who computes without a processor at the limit is held, and makes room: an emulator computes for long.
        let metrics = runtime.metrics();
        let room = processors + most + usize::try_from(metrics.holds).unwrap();
        assert!(metrics.workers <= room, "{metrics:?}");
    }
}

/// A task that keeps its worker while it waits (here because it panics) leaves room for another worker, at any limit.
#[test]
fn a_task_that_keeps_its_worker_does_not_count_against_the_limit() {
    struct Waits(Option<bast::JoinHandle<()>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            self.0.take().unwrap().join().unwrap();
        }
    }
    let runtime = start(bast::Builder::new().processors(1).blocked_workers_max(0));
    let _watchdog = Watchdog::start("one worker", Some(runtime.handle()));
    for _ in 0..20 {
        let task = runtime
            .spawn(|| {
                let _waits = Waits(Some(bast::spawn(bast::task::yield_now)));
                std::panic::resume_unwind(Box::new("on purpose"));
            })
            .unwrap();
        assert!(task.join().unwrap_err().is_panic());
    }
}

/// A runtime can end while its tasks are away on lost processors.
#[test]
fn a_runtime_ends_while_tasks_are_away() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let began = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..10)
            .map(|i| {
                let began = began.clone();
                runtime
                    .spawn(move || {
                        began.fetch_add(1, AcqRel);
                        std::thread::sleep(Duration::from_millis(20));
                        if i % 2 == 0 {
                            bast::task::yield_now(); // too late: it never comes back from here
                        }
                        i
                    })
                    .unwrap()
            })
            .collect();
        wait_for(|| began.load(Acquire) == 10);
        drop(runtime);
        for (i, task) in tasks.into_iter().enumerate() {
            match task.join() {
                Ok(value) => assert_eq!(value, i),
                Err(error) => assert!(error.is_shutdown() && i % 2 == 0, "task {i}: {error}"),
            }
        }
    }
}
