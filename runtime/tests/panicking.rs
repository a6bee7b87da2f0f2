//! A panicking task keeps its thread, because std counts panics a thread: `std::thread::panicking()` is right for
//! every task, locks are poisoned when and only when they should be, and no processor is lost meanwhile.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::task::{current, park, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread::panicking;
use std::time::Duration;
use util::{Gate, on_each, wait_for};

fn thread_id() -> u64 {
    // SAFETY: validity: takes no argument. aliasing: no memory is passed.
    unsafe { libc::pthread_self() as u64 }
}

/// Calls what it holds when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Panics without the hook's noise, with `during` called in a destructor on the way.
fn panic_with(during: impl FnMut()) {
    let _guard = OnDrop(during);
    resume_unwind(Box::new("expected by the test"));
}

#[test]
fn a_task_that_parks_while_it_panics_keeps_its_thread() {
    on_each(|| {
        let gate = Gate::new();
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let gate = gate.clone();
                bast::spawn(move || {
                    panic_with(|| {
                        let before = thread_id();
                        assert!(panicking());
                        gate.wait(); // parks, many times
                        assert!(panicking());
                        assert_eq!(thread_id(), before, "it came back on another thread");
                    });
                })
            })
            .collect();
        // Others run meanwhile, on all processors, and none of them is told that it panics.
        let others: Vec<_> = (0..200)
            .map(|_| {
                bast::spawn(|| {
                    for _ in 0..10 {
                        assert!(!panicking(), "a task that does not panic is told that it does");
                        yield_now();
                    }
                    bast::time::sleep(Duration::from_micros(100));
                    assert!(!panicking());
                })
            })
            .collect();
        others.into_iter().for_each(|task| task.join().unwrap());
        gate.open();
        for task in tasks {
            let payload = task.join().unwrap_err().into_panic();
            assert_eq!(*payload.downcast::<&str>().unwrap(), "expected by the test");
        }
        assert!(!panicking());
    });
}

fn waits_by_park() {
    let (me, gate) = (current(), Gate::new());
    let told = gate.clone();
    let other = bast::spawn(move || {
        told.open();
        me.unpark();
    });
    while !gate.is_open() {
        park();
    }
    other.join().unwrap();
}

fn waits_by_timeout() {
    let late = bast::time::timeout(Duration::from_millis(1), || {
        bast::time::sleep(Duration::from_secs(100))
    });
    assert!(late.is_err());
}

fn waits_by_net() {
    use std::io::{Read, Write};
    let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = bast::spawn(move || {
        let mut stream = bast::net::TcpStream::connect(address).unwrap();
        bast::time::sleep(Duration::from_millis(1));
        stream.write_all(b"x").unwrap();
    });
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(stream.read(&mut [0; 4]).unwrap(), 1);
    peer.join().unwrap();
}

type Wait = fn();

const WAITS: [(&str, Wait); 8] = [
    ("yield", yield_now),
    ("sleep", || bast::time::sleep(Duration::from_millis(1))),
    ("join", || assert_eq!(bast::spawn(|| 5).join().unwrap(), 5)),
    ("join a sleeper", || {
        bast::spawn(|| bast::time::sleep(Duration::from_millis(1)))
            .join()
            .unwrap();
    }),
    ("blocking", || {
        bast::blocking(|| std::thread::sleep(Duration::from_millis(1)))
    }),
    ("park", waits_by_park),
    ("timeout", waits_by_timeout),
    ("net", waits_by_net),
];

/// Every kind of wait in a destructor during unwinding.
#[test]
fn all_waits_work_while_panicking() {
    on_each(|| {
        let tasks = WAITS.map(|(name, wait)| {
            let waited = Arc::new(AtomicBool::new(false));
            let told = waited.clone();
            let task = bast::spawn(move || {
                panic_with(|| {
                    let before = thread_id();
                    wait();
                    assert_eq!(thread_id(), before);
                    assert!(panicking());
                    told.store(true, Release);
                });
            });
            (name, waited, task)
        });
        for (name, waited, task) in tasks {
            assert!(task.join().unwrap_err().is_panic());
            assert!(
                waited.load(Acquire),
                "the wait in a destructor did not come to its end: {name}"
            );
        }
    });
}

/// A std lock may be held across a park only by a task that keeps its thread. A panicking one does: that is the rule
/// under test here.
#[test]
fn a_std_mutex_held_by_a_panicking_task_is_poisoned() {
    on_each(|| {
        for _ in 0..20 {
            let lock = Arc::new(Mutex::new(0));
            let (parked, gate) = (Gate::new(), Gate::new());
            let task = {
                let (lock, parked, gate) = (lock.clone(), parked.clone(), gate.clone());
                bast::spawn(move || {
                    let _held_by_frame = OnDrop(|| {});
                    let held = lock.lock().unwrap();
                    // Dropped first: waits in the middle of the unwinding, with the lock held.
                    let _waits = OnDrop(move || {
                        parked.open();
                        gate.wait();
                    });
                    let _keep = &held;
                    resume_unwind(Box::new("expected by the test"));
                })
            };
            parked.wait();
            // Somebody else's lock, taken and given back by tasks that do not panic, meanwhile: not poisoned.
            let innocent = Arc::new(Mutex::new(0));
            let users: Vec<_> = (0..20)
                .map(|_| {
                    let innocent = innocent.clone();
                    bast::spawn(move || {
                        *innocent.lock().unwrap() += 1;
                        yield_now();
                        *innocent.lock().unwrap() += 1;
                    })
                })
                .collect();
            users.into_iter().for_each(|user| user.join().unwrap());
            assert!(!innocent.is_poisoned());
            assert!(lock.try_lock().is_err(), "the panicking task still holds it");
            gate.open();
            assert!(task.join().unwrap_err().is_panic());
            assert!(lock.is_poisoned(), "a panic went through its guard");
        }
    });
}

#[test]
fn many_panicking_tasks_parked_at_once_lose_no_processor() {
    const MANY: usize = 100;
    on_each(|| {
        let (gate, parked) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..MANY)
            .map(|_| {
                let (gate, parked) = (gate.clone(), parked.clone());
                bast::spawn(move || {
                    panic_with(|| {
                        parked.fetch_add(1, AcqRel);
                        while !gate.is_open() {
                            park();
                        }
                    });
                })
            })
            .collect();
        wait_for(|| parked.load(Acquire) == MANY);
        // The processors still work.
        let sum: usize = (0..200_usize)
            .map(|i| bast::spawn(move || i).join().unwrap())
            .sum();
        assert_eq!(sum, 199 * 100);
        gate.open();
        tasks.iter().for_each(|task| task.task().unpark());
        tasks
            .into_iter()
            .for_each(|task| assert!(task.join().unwrap_err().is_panic()));
        // Spread over all processors again, with no leftover of the panics on any worker.
        let tasks: Vec<_> = (0..500)
            .map(|_| {
                bast::spawn(|| {
                    yield_now();
                    assert!(!panicking());
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// A panic inside a destructor that runs during another's unwinding is caught inside it, with waits in both.
#[test]
fn a_panic_within_a_panic() {
    on_each(|| {
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                bast::spawn(|| {
                    panic_with(|| {
                        let inner = catch_unwind(AssertUnwindSafe(|| {
                            panic_with(|| bast::time::sleep(Duration::from_micros(500)));
                        }));
                        assert!(inner.is_err());
                        assert!(panicking(), "still in the outer one");
                        bast::time::sleep(Duration::from_micros(500));
                    });
                })
            })
            .collect();
        tasks
            .into_iter()
            .for_each(|task| assert!(task.join().unwrap_err().is_panic()));
        assert!(!panicking());
    });
}

/// A task whose panic is over may migrate again, and is not bound for ever.
#[test]
fn after_the_catch_a_task_is_free_again() {
    on_each(|| {
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                bast::spawn(|| {
                    for _ in 0..5 {
                        let caught =
                            catch_unwind(|| panic_with(|| bast::time::sleep(Duration::from_micros(200))));
                        assert!(caught.is_err());
                        assert!(!panicking());
                        yield_now();
                        bast::time::sleep(Duration::from_micros(100));
                        assert!(!panicking());
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// The slice of a panicking task runs out too: it must not yield, and nothing may break.
#[test]
fn a_panicking_task_past_its_slice() {
    on_each(|| {
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                bast::spawn(|| {
                    panic_with(|| {
                        let before = thread_id();
                        for _ in 0..30 {
                            util::burn(Duration::from_millis(1));
                            bast::task::checkpoint();
                        }
                        assert_eq!(thread_id(), before);
                    });
                })
            })
            .collect();
        let others: Vec<_> = (0..50).map(|_| bast::spawn(yield_now)).collect();
        others.into_iter().for_each(|task| task.join().unwrap());
        tasks
            .into_iter()
            .for_each(|task| assert!(task.join().unwrap_err().is_panic()));
    });
}
