//! The end of a runtime, whatever its tasks are doing; and that nothing of it stays.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::task::park;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};
use util::{Gate, Watchdog, burn, in_good_child, run_on, start, start_with, wait_for};

fn park_for_ever() {
    loop {
        park();
    }
}

/// The report is on stderr, so the child's is read.
#[test]
fn a_task_that_outlives_run_is_named() {
    let name = "a_task_that_outlives_run_is_named";
    let text = in_good_child(
        name,
        |_| {},
        || {
            let task = run_on(2, || {
                let parked = Gate::new();
                let told = parked.clone();
                let task = bast::task::Builder::new().name("straggler").spawn(move || {
                    told.open();
                    park_for_ever();
                });
                parked.wait();
                bast::time::sleep(Duration::from_millis(2));
                task.unwrap()
            });
            println!("ID {}", task.id());
            let error = task.join().unwrap_err();
            assert!(error.is_shutdown() && !error.is_panic(), "{error}");
            assert!(
                error.to_string().contains("the runtime ended before task"),
                "{error}"
            );
        },
    );
    assert!(text.contains("1 task has outlived the runtime"), "{text}");
    let id = util::word_after(&text, "ID ");
    let start = format!("task {id} \"straggler\" spawned at runtime/tests/shutdown.rs:");
    let line: usize = util::word_after(&text, &start)
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let line = include_str!("shutdown.rs").lines().nth(line - 1).unwrap();
    assert!(line.contains("spawn("), "spawned at {line:?}?");
    assert!(
        text.contains("last waited in park at runtime/tests/shutdown.rs"),
        "{text}"
    );
}

#[test]
fn many_stragglers_are_counted_and_some_named() {
    let name = "many_stragglers_are_counted_and_some_named";
    let text = in_good_child(
        name,
        |_| {},
        || {
            run_on(1, || {
                for _ in 0..20 {
                    drop(bast::spawn(park_for_ever));
                }
                bast::time::sleep(Duration::from_millis(5));
            });
        },
    );
    assert!(text.contains("20 tasks have outlived the runtime"), "{text}");
    assert!(text.contains("and 12 more"), "{text}");
}

#[test]
fn nothing_is_reported_when_all_tasks_have_ended() {
    let name = "nothing_is_reported_when_all_tasks_have_ended";
    let text = in_good_child(
        name,
        |_| {},
        || {
            util::on_each(|| {
                let tasks: Vec<_> = (0..100).map(|_| bast::spawn(bast::task::yield_now)).collect();
                tasks.into_iter().for_each(|task| task.join().unwrap());
            });
        },
    );
    assert!(!text.contains("outlived") && !text.contains("busy"), "{text}");
}

/// One of each kind, joined from outside after the end.
#[test]
fn tasks_in_every_state() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let in_accept = Gate::new();
        let mut tasks = Vec::new();
        runtime.run(|| {
            for _ in 0..10 {
                tasks.push(bast::spawn(park_for_ever));
                tasks.push(bast::spawn(|| bast::time::sleep(Duration::from_secs(3_600))));
                tasks.push(bast::spawn(|| bast::spawn(park_for_ever).join().unwrap()));
            }
            let told = in_accept.clone();
            tasks.push(bast::spawn(move || {
                let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
                told.open();
                drop(listener.accept());
            }));
            in_accept.wait();
            bast::time::sleep(Duration::from_millis(2));
        });
        // Queued, never run: with every processor kept busy by a task that stops only when told.
        let stop = Arc::new(AtomicBool::new(false));
        let busy = Arc::new(AtomicUsize::new(0));
        for _ in 0..processors {
            let (stop, busy) = (stop.clone(), busy.clone());
            tasks.push(
                runtime
                    .spawn(move || {
                        busy.fetch_add(1, AcqRel);
                        while !stop.load(Acquire) {
                            std::hint::spin_loop();
                        }
                    })
                    .unwrap(),
            );
        }
        wait_for(|| busy.load(Acquire) == processors);
        let queued: Vec<_> = (0..50).map(|_| runtime.spawn(|| ()).unwrap()).collect();
        let handle = runtime.handle();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            stop.store(true, Release);
        });
        drop(runtime);
        stopper.join().unwrap();
        let after = handle.spawn(|| ()).unwrap_err();
        assert!(after.is_closed(), "{after}");
        assert!(after.to_string().contains("shutting down"), "{after}");
        let shut = tasks
            .into_iter()
            .filter_map(|task| task.join().err())
            .filter(bast::JoinError::is_shutdown)
            .count();
        assert!(shut >= 31, "30 parked and sleeping, one in accept: {shut}");
        for task in queued {
            if let Err(error) = task.join() {
                assert!(error.is_shutdown(), "{error}");
            }
        }
        assert_eq!(handle.metrics().workers, 0);
    }
}

/// A task has handed over its result, which nobody wants, and the result's destructor waits as the runtime ends.
#[test]
fn results_that_wait_as_they_are_dropped() {
    struct Waits(Arc<Gate>);

    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.open();
            park_for_ever();
        }
    }

    let name = "results_that_wait_as_they_are_dropped";
    let text = in_good_child(
        name,
        |_| {},
        || {
            util::on_each(|| {
                let dropping = Gate::new();
                let told = dropping.clone();
                let task = bast::task::Builder::new().name("over").spawn(move || {
                    bast::task::yield_now();
                    Waits(told)
                });
                drop(task.unwrap()); // detached
                dropping.wait();
                bast::time::sleep(Duration::from_millis(2));
            });
        },
    );
    assert_eq!(
        text.matches("\"over\" spawned at").count(),
        util::PROCESSORS.len(),
        "{text}"
    );
}

/// A task in user code is waited for, up to the grace.
#[test]
fn the_end_waits_for_running_tasks() {
    for processors in [1, 2] {
        let runtime = start_with(processors);
        let began = Gate::new();
        let ended = Arc::new(AtomicBool::new(false));
        let (told, done) = (began.clone(), ended.clone());
        let task = runtime
            .spawn(move || {
                told.open();
                burn(Duration::from_millis(50));
                done.store(true, Release);
            })
            .unwrap();
        began.wait();
        drop(runtime);
        assert!(
            ended.load(Acquire),
            "the runtime's end did not wait for a task in user code"
        );
        task.join().unwrap();
    }
}

#[test]
fn a_task_that_never_comes_back_is_reported_after_the_grace() {
    let name = "a_task_that_never_comes_back_is_reported_after_the_grace";
    let text = in_good_child(
        name,
        |_| {},
        || {
            let grace = Duration::from_millis(100);
            let runtime = start(bast::Builder::new().processors(2).shutdown_grace(grace));
            let began = Gate::new();
            let told = began.clone();
            drop(
                runtime
                    .spawn(move || {
                        told.open();
                        loop {
                            std::hint::spin_loop();
                        }
                    })
                    .unwrap(),
            );
            began.wait();
            let start = Instant::now();
            drop(runtime);
            assert!(start.elapsed() >= grace);
            assert!(start.elapsed() < grace * 300);
        },
    );
    assert!(text.contains("still busy 100ms after its end"), "{text}");
    assert!(text.contains("Builder::shutdown_grace"), "{text}");
}

/// What waits on the queue of a worker that does not come back, because nobody has taken its processor from it before the end:
/// who joins it is told at the end.
#[test]
fn what_is_queued_behind_a_busy_task_is_given_up() {
    const QUEUED: usize = 5;
    let runtime = start(
        bast::Builder::new()
            .processors(1)
            .slice(Duration::from_secs(3_600))
            .shutdown_grace(Duration::from_millis(1)),
    );
    let _watchdog = util::Watchdog::start("a runtime that ends beside a busy task", None);
    let (tell, told) = std::sync::mpsc::channel();
    let (leave, left) = (Gate::new(), Gate::new());
    let gates = (leave.clone(), left.clone());
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    let busy = move || {
        let queued = [(); QUEUED].map(|()| {
            let count = count.clone();
            bast::spawn(move || _ = count.fetch_add(1, AcqRel))
        });
        // From here on nothing lets them run. Disorder may have let this task yield to some of them before.
        tell.send((queued, count.load(Acquire))).unwrap();
        while !gates.0.is_open() {
            std::hint::spin_loop();
        }
        gates.1.open();
    };
    drop(runtime.spawn(busy).unwrap());
    let (queued, before) = told.recv().unwrap();
    drop(runtime);
    let ends = queued.map(bast::JoinHandle::join);
    let given_up = ends
        .iter()
        .filter(|end| end.as_ref().is_err_and(|error| error.is_shutdown()))
        .count();
    assert_eq!((given_up, ran.load(Acquire)), (QUEUED - before, before));
    assert!(before < QUEUED, "the last one was queued after all others");
    leave.open();
    left.wait();
}

/// The last owner of a runtime may be one of its own tasks.
/// A task whose worker comes back after the end is over: who joins it is told then, whether it yields or parks, and with it
/// the tasks that its worker had in its queue.
#[test]
fn who_comes_back_after_the_end_is_given_up_then() {
    for processors in util::PROCESSORS {
        for comes_back in [bast::task::yield_now as fn(), park_for_ever] {
            let runtime = start(
                bast::Builder::new()
                    .processors(processors)
                    .shutdown_grace(Duration::from_millis(1))
                    .slice(Duration::from_secs(3_600)),
            );
            let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
            let (busy, go) = (Gate::new(), Gate::new());
            let told = (busy.clone(), go.clone());
            let (tell, heard) = std::sync::mpsc::channel();
            let late = runtime.spawn(move || {
                tell.send((0..3).map(|_| bast::spawn(park_for_ever)).collect::<Vec<_>>())
                    .unwrap();
                told.0.open();
                while !told.1.is_open() {
                    std::hint::spin_loop();
                }
                loop {
                    comes_back();
                }
            });
            busy.wait();
            drop(runtime);
            go.open();
            assert!(late.unwrap().join().unwrap_err().is_shutdown());
            for queued in heard.recv().unwrap() {
                assert!(queued.join().unwrap_err().is_shutdown());
            }
        }
    }
}

#[test]
fn dropped_by_its_own_task() {
    for processors in util::PROCESSORS {
        let runtime = Arc::new(start_with(processors));
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let handle = runtime.handle();
        let own = runtime.clone();
        let gate = Gate::new();
        let told = gate.clone();
        let task = handle
            .spawn(move || {
                told.wait();
                drop(own);
            })
            .unwrap();
        drop(runtime);
        gate.open();
        let _ = task.join(); // it may end, or be told that the runtime did
        wait_for(|| handle.metrics().workers == 0);
        assert!(handle.spawn(|| ()).unwrap_err().is_closed());
    }
}

/// Joiners who wait while the runtime ends are woken, threads and other runtimes' tasks alike.
#[test]
fn joiners_are_woken_by_the_end() {
    for processors in [1, 2] {
        let runtime = start_with(processors);
        let other = start_with(2);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let threads: Vec<_> = (0..5)
            .map(|_| {
                let task = runtime.spawn(park_for_ever).unwrap();
                std::thread::spawn(move || task.join())
            })
            .collect();
        let far: Vec<_> = (0..5)
            .map(|_| {
                let task = runtime.spawn(park_for_ever).unwrap();
                other.spawn(move || task.join()).unwrap()
            })
            .collect();
        runtime.run(|| bast::time::sleep(Duration::from_millis(5)));
        drop(runtime);
        for thread in threads {
            assert!(thread.join().unwrap().unwrap_err().is_shutdown());
        }
        for task in far {
            assert!(task.join().unwrap().unwrap_err().is_shutdown());
        }
    }
}

#[test]
fn dropped_within_another_runtimes_task() {
    for processors in util::PROCESSORS {
        run_on(processors, || {
            for _ in 0..5 {
                let inner = start_with(2);
                let task = inner.spawn(park_for_ever).unwrap();
                let sum: usize = inner.run(|| (0..10).map(|i| bast::spawn(move || i).join().unwrap()).sum());
                assert_eq!(sum, 45);
                drop(inner);
                assert!(task.join().unwrap_err().is_shutdown());
                assert_eq!(bast::spawn(|| 1).join().unwrap(), 1, "the outer one goes on");
            }
        });
    }
}

/// Locals of leaked stacks are not dropped: they may be borrowed.
#[test]
fn what_lies_on_a_leaked_stack_is_leaked() {
    struct Flag(Arc<AtomicUsize>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.fetch_add(1, AcqRel);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let own = drops.clone();
    let runtime = start_with(1);
    let task = runtime
        .spawn(move || {
            let _flag = Flag(own);
            park_for_ever();
        })
        .unwrap();
    runtime.run(|| bast::time::sleep(Duration::from_millis(2)));
    drop(runtime);
    assert!(task.join().unwrap_err().is_shutdown());
    assert_eq!(drops.load(Acquire), 0);
}

#[test]
fn panicking_tasks_asleep_with_their_workers_do_not_hold_up_the_end() {
    let name = "panicking_tasks_asleep_with_their_workers_do_not_hold_up_the_end";
    let text = in_good_child(
        name,
        |_| {},
        || {
            struct ParksInDrop(Arc<AtomicUsize>);
            impl Drop for ParksInDrop {
                fn drop(&mut self) {
                    self.0.fetch_add(1, AcqRel);
                    park_for_ever();
                }
            }
            for processors in [1, 2] {
                let runtime = start(
                    bast::Builder::new()
                        .processors(processors)
                        .shutdown_grace(Duration::from_secs(3_600)),
                );
                let parked = Arc::new(AtomicUsize::new(0));
                let tasks: Vec<_> = (0..3)
                    .map(|_| {
                        let parked = parked.clone();
                        runtime
                            .spawn(move || {
                                let _parks = ParksInDrop(parked);
                                std::panic::resume_unwind(Box::new("expected by the test"));
                            })
                            .unwrap()
                    })
                    .collect();
                wait_for(|| parked.load(Acquire) == 3);
                std::thread::sleep(Duration::from_millis(5));
                drop(runtime); // the watchdog bounds it
                for task in tasks {
                    assert!(task.join().unwrap_err().is_shutdown());
                }
            }
        },
    );
    assert!(text.contains("3 tasks have outlived the runtime"), "{text}");
}

/// Starts and stops leave nothing behind: threads, descriptors, memory, mappings.
#[test]
fn two_hundred_runtimes_in_a_row() {
    let name = "two_hundred_runtimes_in_a_row";
    in_good_child(
        name,
        |command| _ = command.env("MALLOC_ARENA_MAX", "1"), // or an arena more would count as address space
        || {
            let round = |i: usize| {
                let runtime = start_with(1 + i % 4);
                runtime.run(|| {
                    let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
                    let address = listener.local_addr().unwrap();
                    let client = bast::spawn(move || bast::net::TcpStream::connect(address).map(drop));
                    listener.accept().unwrap();
                    client.join().unwrap().unwrap();
                    bast::time::sleep(Duration::from_micros(100));
                    let tasks: Vec<_> = (0..50).map(|i| bast::spawn(move || i)).collect();
                    tasks.into_iter().for_each(|task| _ = task.join().unwrap());
                });
            };
            let own = util::status("Threads").max(3); // the test's, its harness's, the watchdog; a tool's
            let maps = || {
                std::fs::read_to_string("/proc/self/maps")
                    .unwrap()
                    .lines()
                    .count()
            };
            let counts = || {
                // A worker's thread may still be on its way out, with the runtime's descriptors.
                wait_for(|| util::status("Threads") <= own);
                (
                    util::open_files(),
                    util::status("VmSize"),
                    maps(),
                    util::status("VmRSS"),
                )
            };
            (0..20).for_each(round); // allocators and caches have what they want
            let before = counts();
            (0..200).for_each(round);
            let after = counts();
            assert_eq!(after.0, before.0, "open files");
            // An emulator's own memory is in these figures.
            if !util::is_instrumented() && !util::is_emulated() {
                assert!(
                    after.1 <= before.1 + (64 << 10),
                    "KiB of address space: {} then {}",
                    before.1,
                    after.1
                );
                assert!(
                    after.2 <= before.2 + 20,
                    "mappings: {} then {}",
                    before.2,
                    after.2
                );
                (0..200).for_each(round);
                let grown = counts().3.saturating_sub(after.3);
                assert!(grown < 4 << 10, "{grown} KiB more memory after 200 more runtimes");
            }
        },
    );
}

#[test]
fn an_unused_runtime_starts_and_stops() {
    for _ in 0..50 {
        drop(start_with(8));
    }
}

#[test]
fn shutdown_is_the_same_as_drop() {
    let runtime = start_with(2);
    let handle = runtime.handle();
    runtime.run(|| bast::spawn(|| ()).join().unwrap());
    runtime.shutdown();
    assert!(handle.spawn(|| ()).unwrap_err().is_closed());
}

/// Spawns that race the end either run, or are told, or end with the runtime; none hangs its joiner.
#[test]
fn spawns_race_the_end() {
    for round in 0..30 {
        let runtime = start_with(1 + round % 3);
        let _watchdog = Watchdog::start("spawns race the end", Some(runtime.handle()));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let handle = runtime.handle();
                std::thread::spawn(move || {
                    let mut tasks = Vec::new();
                    loop {
                        match handle.spawn(|| 1) {
                            Ok(task) => tasks.push(task),
                            Err(error) => {
                                assert!(error.is_closed(), "{error}");
                                break;
                            }
                        }
                    }
                    for task in tasks {
                        match task.join() {
                            Ok(value) => assert_eq!(value, 1),
                            Err(error) => assert!(error.is_shutdown(), "{error}"),
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_micros(500));
        drop(runtime);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
