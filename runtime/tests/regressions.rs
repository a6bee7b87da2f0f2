//! Bugs that other green-thread runtimes had and that a runtime of this kind invites; each as a program that shows it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::fmt;
use std::io::{Read, Write};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use util::{on_each, on_each_64k, run_on, wait_for};

/// A timer that fires before the park it belongs to is committed must not be lost.
#[test]
fn a_sleep_timer_that_fires_before_the_park_commits() {
    on_each(|| {
        let tasks: Vec<_> = (0..20)
            .map(|task| {
                bast::spawn(move || {
                    for round in 0..500_u64 {
                        bast::time::sleep(Duration::from_nanos(round * (task + 1) % 2_000));
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// The same for deadlines of parks and joins.
#[test]
fn park_and_join_timers_that_fire_before_the_commit() {
    on_each(|| {
        for round in 0..1_000_u64 {
            bast::task::park_timeout(Duration::from_nanos(round));
        }
        let mut task = bast::spawn(|| bast::time::sleep(Duration::from_millis(5)));
        for round in 0..1_000_u64 {
            match task.join_timeout(Duration::from_nanos(round)) {
                Ok(_) => return,
                Err(still) => task = still,
            }
        }
    });
}

/// The C library's resolver needs far more stack than a small task has, and does not probe it.
#[test]
fn names_are_resolved_on_small_stacks() {
    on_each_64k(|| {
        let listener = bast::net::TcpListener::bind("localhost:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let clients: Vec<_> = (0..5)
            .map(|_| {
                bast::spawn(move || {
                    let mut stream = bast::net::TcpStream::connect(format!("localhost:{port}")).unwrap();
                    stream.write_all(b"!").unwrap();
                })
            })
            .collect();
        for _ in 0..5 {
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(stream.read(&mut [0; 2]).unwrap(), 1);
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
        // A name that does not exist goes the whole way through the resolver.
        assert!(bast::net::TcpStream::connect("no-such-host.invalid:1").is_err());
    });
}

/// Unwinding and formatting take some 12 KiB and more: they must fit in the smallest stack.
#[test]
fn panics_with_deep_formatting_on_small_stacks() {
    struct Deep(usize);
    impl fmt::Debug for Deep {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                0 => out.write_str("bottom"),
                depth => out
                    .debug_struct("Deep")
                    .field("below", &Deep(depth - 1))
                    .field("number", &12.75_f64)
                    .finish(),
            }
        }
    }
    impl Drop for Deep {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let _ = format!("{:#?}", Deep2(5));
            }
        }
    }
    #[derive(Debug)]
    struct Deep2(#[expect(dead_code, reason = "printed")] usize);
    on_each_64k(|| {
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                bast::spawn(|| {
                    let deep = Deep(5);
                    panic!("{deep:#?} and {:?} (expected by the test)", vec![1.5_f64; 20]);
                })
            })
            .collect();
        for task in tasks {
            let text = *task
                .join()
                .unwrap_err()
                .into_panic()
                .downcast::<String>()
                .unwrap();
            assert!(text.contains("bottom"), "{text}");
        }
    });
}

/// The same with a backtrace printed by the panic hook, which symbolises on the small stack.
#[test]
fn panics_with_a_full_backtrace_on_small_stacks() {
    let name = "panics_with_a_full_backtrace_on_small_stacks";
    let text = util::in_good_child(
        name,
        |command| _ = command.env("RUST_BACKTRACE", "full"),
        || {
            on_each_64k(|| {
                assert!(bast::spawn(|| panic!("expected by the test")).join().is_err());
            });
        },
    );
    assert!(text.contains("stack backtrace"), "{text}");
}

/// `resume_unwind` after a park on another thread crashed a peer.
#[test]
fn resume_unwind_after_a_migration() {
    on_each(|| {
        let tasks: Vec<_> = (0..100_usize)
            .map(|i| {
                bast::spawn(move || {
                    let caught = std::panic::catch_unwind(|| {
                        bast::task::yield_now();
                        bast::time::sleep(Duration::from_micros(50));
                        resume_unwind(Box::new(i))
                    });
                    bast::time::sleep(Duration::from_micros(50));
                    match caught {
                        Ok(()) => unreachable!("it unwinds"),
                        Err(payload) => resume_unwind(payload),
                    }
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(
                *task.join().unwrap_err().into_panic().downcast::<usize>().unwrap(),
                i
            );
        }
    });
}

/// Equal times: a heap that compares badly, or batches that cut a run of equals, lose some.
#[test]
fn many_timers_due_at_the_same_moment() {
    on_each(|| {
        let due = Instant::now() + Duration::from_millis(30);
        let tasks: Vec<_> = (0..3_000)
            .map(|_| {
                bast::spawn(move || {
                    bast::time::sleep_until(due);
                    assert!(Instant::now() >= due);
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// Timers cancelled in every order while others are due.
#[test]
fn timers_armed_and_cancelled_in_bulk() {
    on_each(|| {
        let tasks: Vec<_> = (0..300_u64)
            .map(|i| {
                bast::spawn(move || {
                    for _ in 0..5 {
                        bast::task::park_timeout(Duration::from_millis(200 + i % 50));
                    }
                })
            })
            .collect();
        while !tasks.iter().all(bast::JoinHandle::is_finished) {
            for task in tasks.iter().rev().step_by(3).chain(&tasks) {
                task.task().unpark();
            }
            bast::task::yield_now();
        }
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// A blocking call in one task must not stall the others, on any number of processors: what users of other runtimes
/// meet first.
#[test]
fn a_blocking_call_stalls_nobody() {
    on_each(|| {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let blocked = bast::spawn(move || bast::blocking(move || told.recv()));
        let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = bast::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).unwrap() > 0 {
                stream.write_all(&byte).unwrap();
            }
        });
        let mut stream = bast::net::TcpStream::connect(address).unwrap();
        for i in 0..100 {
            stream.write_all(&[i]).unwrap();
            let mut got = [0];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, [i]);
        }
        drop(stream);
        server.join().unwrap();
        tell.send(()).unwrap();
        blocked.join().unwrap().unwrap();
    });
}

/// A wake-up between "nothing to do" and "asleep" was lost by more than one peer: bursts with idle gaps, from
/// outside, for every number of processors.
#[test]
fn bursts_from_outside_into_an_idle_runtime() {
    for processors in util::PROCESSORS {
        let runtime = util::start_with(processors);
        let _watchdog = util::Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        for round in 0..300 {
            let tasks: Vec<_> = (0..round % 5 + 1)
                .map(|i| runtime.spawn(move || i).unwrap())
                .collect();
            for (i, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.join().unwrap(), i);
            }
            if round % 7 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    }
}

/// All tasks parked on each other but one thread outside: the runtime is idle, and comes back for each event.
#[test]
fn an_idle_runtime_comes_back_for_sockets_timers_and_threads() {
    on_each(|| {
        let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let echo = bast::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).unwrap() > 0 {
                stream.write_all(&byte).unwrap();
            }
        });
        // The client is a plain thread with a std socket: nothing in the runtime runs between two events.
        let client = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            for i in 0..200_u8 {
                stream.write_all(&[i]).unwrap();
                let mut got = [0];
                stream.read_exact(&mut got).unwrap();
                assert_eq!(got, [i]);
            }
        });
        echo.join().unwrap();
        client.join().unwrap();
    });
}

/// More tasks than the local queues hold, spawned by one: the overflow to the global queue loses none.
#[test]
fn local_queues_overflow() {
    on_each(|| {
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..20 {
            for _ in 0..777 {
                let ran = ran.clone();
                drop(bast::spawn(move || _ = ran.fetch_add(1, AcqRel)));
            }
            bast::task::yield_now();
        }
        wait_for(|| ran.load(Acquire) == 20 * 777);
    });
}

/// A task in the next slot of a worker that burns is not stuck there.
#[test]
fn the_next_slot_of_a_busy_worker_can_be_taken() {
    run_on(2, || {
        for _ in 0..20 {
            let ran = Arc::new(AtomicBool::new(false));
            let told = ran.clone();
            let waits = bast::spawn(move || {
                bast::task::park();
                told.store(true, Release);
            });
            bast::time::sleep(Duration::from_micros(200));
            waits.task().unpark(); // into our next slot
            while !ran.load(Acquire) {
                std::hint::spin_loop(); // no call into bast
            }
            waits.join().unwrap();
        }
    });
}

/// std's locks held within one task between two calls into bast, by many tasks at once.
#[test]
fn std_locks_not_held_across_parks() {
    on_each(|| {
        let sum = Arc::new(Mutex::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let sum = sum.clone();
                bast::spawn(move || {
                    for _ in 0..100 {
                        *sum.lock().unwrap() += 1;
                        bast::task::yield_now();
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(*sum.lock().unwrap(), 5_000);
    });
}

/// What is printed and allocated in tasks goes through thread-locals of std: millions of switches beside it do no
/// harm, since no borrow of them is alive across a call of ours.
#[test]
fn thread_locals_of_std_between_switches() {
    on_each(|| {
        let tasks: Vec<_> = (0..50_usize)
            .map(|i| {
                bast::spawn(move || {
                    let mut texts = Vec::new();
                    for round in 0..50 {
                        texts.push(format!("{i} {round} {:?}", std::thread::current().id()));
                        bast::task::yield_now();
                        let map: std::collections::HashMap<usize, usize> = (0..10).map(|k| (k, k)).collect();
                        assert_eq!(map.len(), 10);
                    }
                    texts.len()
                })
            })
            .collect();
        tasks
            .into_iter()
            .for_each(|task| assert_eq!(task.join().unwrap(), 50));
    });
}
