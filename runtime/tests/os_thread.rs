//! `task::lock_os_thread`: the task keeps its thread and has it alone, the thread ends with a task that ends locked, and
//! nothing is lost on the way.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]
#![cfg(target_os = "linux")]

mod util;

use bast::sync::channel;
use bast::task::{lock_os_thread, on_os_thread, unlock_os_thread, yield_now};
use std::cell::Cell;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use util::{Gate, Watchdog, in_good_child, on_each, run_on, start, start_with, wait_for};

thread_local!(static MARK: Cell<u64> = const { Cell::new(0) });

fn thread() -> libc::pid_t {
    // SAFETY: validity: takes no argument. aliasing: no memory is passed.
    unsafe { libc::gettid() }
}

/// Every kind of wait.
const WAITS: [(&str, fn()); 10] = [
    ("yield", yield_now),
    ("checkpoint", bast::task::checkpoint),
    ("sleep", || bast::time::sleep(Duration::from_micros(300))),
    ("park", || bast::task::park_timeout(Duration::from_micros(300))),
    ("join", || bast::spawn(yield_now).join().unwrap()),
    ("section", || {
        bast::blocking(|| std::thread::sleep(Duration::from_micros(300)));
    }),
    ("blocked", || std::thread::sleep(Duration::from_millis(3))),
    ("scope", || {
        let mut value = 0;
        bast::scope(|s| {
            s.spawn(|| value += 1);
        });
        assert_eq!(value, 1);
    }),
    ("timeout", || {
        let late = bast::time::timeout(Duration::from_micros(500), || {
            bast::time::sleep(Duration::from_secs(100))
        });
        assert!(late.is_err());
    }),
    ("network", || {
        let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = bast::spawn(move || {
            let mut stream = bast::net::TcpStream::connect(address).unwrap();
            bast::time::sleep(Duration::from_micros(300));
            stream.write_all(b"x").unwrap();
        });
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(stream.read(&mut [0; 4]).unwrap(), 1);
        peer.join().unwrap();
    }),
];

/// The thread, and what it keeps, is the same after every wait; and while the task is locked nobody else sees the mark.
#[test]
fn a_locked_task_has_its_thread_for_itself() {
    on_each(|| {
        let over = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..4)
            .map(|_| {
                let over = over.clone();
                bast::spawn(move || {
                    while !over.load(Acquire) {
                        assert_eq!(MARK.get(), 0, "runs on the thread of a locked task");
                        yield_now();
                        bast::time::sleep(Duration::from_micros(50));
                    }
                })
            })
            .collect();
        let locked: Vec<_> = (1..=3)
            .map(|mark| {
                bast::spawn(move || {
                    on_os_thread(|| {
                        let own = thread();
                        MARK.set(mark);
                        for (name, wait) in WAITS {
                            for _ in 0..3 {
                                wait();
                                assert_eq!((thread(), MARK.get()), (own, mark), "{name}");
                            }
                        }
                        MARK.set(0);
                    });
                })
            })
            .collect();
        locked.into_iter().for_each(|task| task.join().unwrap());
        over.store(true, Release);
        others.into_iter().for_each(|task| task.join().unwrap());
    });
}

#[test]
fn locks_nest_and_an_unlocked_task_is_free() {
    run_on(2, || {
        unlock_os_thread(); // nothing to take back
        let own = thread();
        for _ in 0..3 {
            lock_os_thread();
        }
        for _ in 0..2 {
            unlock_os_thread();
            bast::time::sleep(Duration::from_micros(200));
            assert_eq!(thread(), own, "still locked");
        }
        unlock_os_thread();
        unlock_os_thread();
        // Free again: with this thread kept busy by another task, it goes on elsewhere.
        let mut moved = false;
        while !moved {
            let hog = bast::spawn(|| util::burn(Duration::from_millis(2)));
            yield_now();
            moved = thread() != own;
            hog.join().unwrap();
            moved |= thread() != own;
        }
    });
    // Of no use outside tasks, and harmless.
    lock_os_thread();
    unlock_os_thread();
    assert_eq!(on_os_thread(|| 5), 5);
}

/// A thread-local with a destructor tells when its thread ends.
#[test]
fn a_task_that_ends_locked_ends_its_thread() {
    struct Tells(Cell<Option<Arc<AtomicUsize>>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            if let Some(ended) = self.0.take() {
                ended.fetch_add(1, AcqRel);
            }
        }
    }
    thread_local!(static TELLS: Tells = const { Tells(Cell::new(None)) });
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let ended = Arc::new(AtomicUsize::new(0));
        runtime.run(|| {
            for round in 0..30 {
                let own = ended.clone();
                let task = bast::spawn(move || {
                    lock_os_thread();
                    assert!(
                        TELLS.with(|tells| tells.0.replace(Some(own))).is_none(),
                        "a used thread"
                    );
                    MARK.set(99);
                    match round % 3 {
                        0 => yield_now(),
                        1 => std::thread::sleep(Duration::from_millis(2)), // loses its processor
                        _ => {
                            bast::time::sleep(Duration::from_micros(100));
                            resume_unwind(Box::new(round));
                        }
                    }
                });
                assert_eq!(task.join().is_err(), round % 3 == 2);
                assert_eq!(MARK.get(), 0);
            }
            wait_for(|| ended.load(Acquire) == 30);
            // Unlocked in time: the thread lives on.
            let own = ended.clone();
            let task = bast::spawn(move || {
                on_os_thread(|| TELLS.with(|tells| tells.0.set(Some(own))));
            });
            task.join().unwrap();
            (0..50).for_each(|i| assert_eq!(bast::spawn(move || i).join().unwrap(), i));
            assert_eq!(ended.load(Acquire), 30);
        });
        wait_for(|| runtime.metrics().processors_idle == processors);
    }
}

/// What a locked task has done to its thread does not reach threads that are started later, by its own waits and spawns
/// even.
#[test]
fn a_changed_thread_has_no_children() {
    const CHANGED: u64 = 1 << (libc::SIGUSR2 - 1);
    fn mask() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("SigBlk:"))
            .unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }
    let runtime = start_with(2);
    let _watchdog = Watchdog::start("signal masks", Some(runtime.handle()));
    let changes: Vec<_> = (0..3)
        .map(|_| {
            runtime.spawn(|| {
                lock_os_thread();
                // SAFETY: validity: an all-zero set is the empty one.
                let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
                // SAFETY: validity: a signal that exists. aliasing: a local.
                unsafe { libc::sigaddset(&raw mut set, libc::SIGUSR2) };
                // SAFETY: validity: a valid set. aliasing: a local, and no old one is asked for.
                unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
                assert_ne!(mask() & CHANGED, 0);
                // More workers are wanted than there are, at every one of these.
                let blocked: Vec<_> = (0..8)
                    .map(|_| bast::spawn(|| bast::blocking(|| std::thread::sleep(Duration::from_millis(2)))))
                    .collect();
                blocked.into_iter().for_each(|task| task.join().unwrap());
                std::thread::sleep(Duration::from_millis(3));
                bast::spawn(yield_now).join().unwrap();
                assert_ne!(mask() & CHANGED, 0);
            })
        })
        .collect();
    changes.into_iter().for_each(|task| task.unwrap().join().unwrap());
    runtime.run(|| {
        let masks: Vec<_> = (0..40)
            .map(|_| {
                bast::spawn(|| {
                    std::thread::sleep(Duration::from_millis(1)); // so that many threads are looked at
                    mask()
                })
            })
            .collect();
        for mask in masks {
            assert_eq!(
                mask.join().unwrap() & CHANGED,
                0,
                "inherited from a locked thread"
            );
        }
    });
}

/// Many, at every limit of workers: those that sleep with their task leave room for the others.
#[test]
fn many_locked_tasks_at_the_limit_of_workers() {
    for (processors, most) in [(1, 0), (2, 1), (4, 512)] {
        let runtime = start(
            bast::Builder::new()
                .processors(processors)
                .blocked_workers_max(most),
        );
        let _watchdog = Watchdog::start(format!("{processors} and {most}"), Some(runtime.handle()));
        runtime.run(|| {
            let threads = Arc::new(Mutex::new(HashSet::new()));
            let gate = Gate::new();
            let ready = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..40)
                .map(|i| {
                    let (threads, gate, ready) = (threads.clone(), gate.clone(), ready.clone());
                    bast::spawn(move || {
                        lock_os_thread();
                        assert!(threads.lock().unwrap().insert(thread()), "a thread for two");
                        ready.fetch_add(1, AcqRel);
                        gate.wait();
                        yield_now();
                        if i % 2 == 0 {
                            assert!(threads.lock().unwrap().remove(&thread()));
                            unlock_os_thread();
                        }
                    })
                })
                .collect();
            wait_for(|| ready.load(Acquire) == 40);
            gate.open();
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
        wait_for(|| runtime.metrics().processors_idle == processors);
        wait_for(|| runtime.metrics().workers <= processors + most + 20);
    }
}

/// Two locked tasks that talk, as two threads would.
#[test]
fn locked_tasks_talk_to_each_other_and_to_others() {
    on_each(|| {
        let (to, from) = channel::bounded(0);
        let (back, answers) = channel::bounded(1);
        let echo = bast::spawn(move || {
            lock_os_thread();
            for value in from {
                back.send(value).unwrap();
            }
        });
        for locked in [true, false] {
            let (to, answers) = (to.clone(), answers.clone());
            let asks = bast::spawn(move || {
                if locked {
                    lock_os_thread();
                }
                for i in 0..100 {
                    to.send(i).unwrap();
                    assert_eq!(answers.recv().unwrap(), i);
                }
            });
            asks.join().unwrap();
        }
        drop(to);
        echo.join().unwrap();
    });
}

/// A panic, caught or not, and waits while it unwinds.
#[test]
fn a_locked_task_that_panics() {
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            let own = thread();
            WAITS.iter().for_each(|(_, wait)| wait());
            assert_eq!(thread(), own);
        }
    }
    on_each(|| {
        let task = bast::spawn(|| {
            lock_os_thread();
            let own = thread();
            let caught = catch_unwind(AssertUnwindSafe(|| {
                on_os_thread(|| {
                    let _waits = Waits;
                    resume_unwind(Box::new(1))
                })
            }));
            assert!(caught.is_err());
            bast::time::sleep(Duration::from_micros(200));
            assert_eq!(thread(), own, "locked as before");
            let _waits = Waits;
            resume_unwind(Box::new(2));
        });
        let payload = task.join().unwrap_err().into_panic();
        assert_eq!(*payload.downcast::<i32>().unwrap(), 2);
    });
}

/// In a task of one runtime that waits for a task of another, both locked.
#[test]
fn locked_to_threads_of_several_runtimes() {
    let (one, two) = (start_with(1), start_with(2));
    let _watchdog = Watchdog::start("two runtimes", Some(one.handle()));
    let other = two.handle();
    one.run(move || {
        lock_os_thread();
        let own = thread();
        for _ in 0..20 {
            let task = other
                .spawn(|| {
                    lock_os_thread();
                    bast::time::sleep(Duration::from_micros(100));
                    thread()
                })
                .unwrap();
            assert_ne!(task.join().unwrap(), own);
            assert_eq!(thread(), own);
        }
    });
}

/// The runtime ends while locked tasks are parked, queued and blocked; it says so and does not wait for them.
#[test]
fn a_runtime_ends_under_locked_tasks() {
    let name = "a_runtime_ends_under_locked_tasks";
    // Each leaves its arena behind, of which an emulator has room for few.
    let rounds = if util::is_emulated() { 3 } else { 20 };
    let text = in_good_child(
        name,
        |_| {},
        || {
            for round in 0..rounds {
                let runtime = start_with(1 + round % 3);
                let began = Arc::new(AtomicUsize::new(0));
                for i in 0..6 {
                    let began = began.clone();
                    drop(runtime.spawn(move || {
                        lock_os_thread();
                        began.fetch_add(1, AcqRel);
                        match i % 3 {
                            0 => loop {
                                bast::task::park();
                            },
                            1 => loop {
                                yield_now();
                            },
                            _ => loop {
                                std::thread::sleep(Duration::from_millis(1));
                                bast::task::checkpoint();
                            },
                        }
                    }));
                }
                wait_for(|| began.load(Acquire) == 6);
                drop(runtime);
            }
        },
    );
    assert_eq!(
        text.matches("6 tasks have outlived the runtime").count(),
        rounds,
        "{text}"
    );
    assert!(!text.contains("are still busy"), "{text}");
}
