//! Scopes: what is lent, who waits for whom, and whose panic it is.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::task::yield_now;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;
use util::{Watchdog, on_each, run_on, start_with, wait_for};

/// The text of a panic, or a word for no text.
#[track_caller]
fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("a panic");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("?").to_owned(),
    }
}

/// Yields a few times, so that its end comes at some moment of others' doing.
fn dawdle(times: usize) {
    (0..times % 5).for_each(|_| yield_now());
}

#[test]
fn children_borrow_and_results_come_back() {
    on_each(|| {
        let numbers: Vec<u64> = (0..1000).collect();
        let mut total = 0;
        let sums = Mutex::new(Vec::new());
        let parts = bast::scope(|s| {
            let tasks: Vec<_> = numbers
                .chunks(100)
                .map(|part| s.spawn(|| part.iter().sum::<u64>()))
                .collect();
            s.spawn(|| total = numbers.iter().sum::<u64>());
            s.spawn(|| sums.lock().unwrap().push(numbers.len()));
            tasks.into_iter().map(|task| task.join().unwrap()).sum::<u64>()
        });
        assert_eq!((parts, total), (499_500, 499_500));
        assert_eq!(sums.into_inner().unwrap(), [1000]);
    });
}

#[test]
fn children_that_nobody_joins_are_waited_for() {
    on_each(|| {
        let ended = AtomicUsize::new(0);
        let ended = &ended;
        for round in 0..50 {
            bast::scope(|s| {
                for i in 0..20 {
                    let handle = s.spawn(move || {
                        dawdle(i + round);
                        if i % 7 == 0 {
                            bast::time::sleep(Duration::from_micros(50));
                        }
                        ended.fetch_add(1, Relaxed)
                    });
                    match i % 3 {
                        0 => drop(handle),
                        1 => std::mem::forget(handle),
                        _ => {} // dropped at the end of the statement as well, but later than `0`
                    }
                }
            });
            assert_eq!(ended.load(Relaxed), 20 * (round + 1));
        }
    });
}

/// A result that nobody takes is dropped before the scope ends: its drop looks at what was lent.
#[test]
fn results_are_dropped_before_the_end() {
    struct Looks<'a>(&'a AtomicUsize);
    impl Drop for Looks<'_> {
        fn drop(&mut self) {
            yield_now();
            self.0.fetch_add(1, Relaxed);
        }
    }
    on_each(|| {
        for round in 0..50 {
            let dropped = AtomicUsize::new(0);
            bast::scope(|s| {
                for i in 0..10 {
                    let dropped = &dropped;
                    let handle = s.spawn(move || {
                        dawdle(i + round);
                        Looks(dropped)
                    });
                    dawdle(i);
                    drop(handle); // before, during or after the end of the task
                }
            });
            assert_eq!(dropped.load(Relaxed), 10);
        }
    });
}

/// A forgotten handle leaks the result, and nothing waits for it.
#[test]
fn a_forgotten_handle_leaks_the_result_only() {
    on_each(|| {
        let dropped = AtomicUsize::new(0);
        struct Counts<'a>(&'a AtomicUsize);
        impl Drop for Counts<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        bast::scope(|s| std::mem::forget(s.spawn(|| Counts(&dropped))));
        assert_eq!(dropped.load(Relaxed), 0);
    });
}

#[test]
fn handles_travel_through_results_and_tasks() {
    on_each(|| {
        let base = 5;
        let sum = bast::scope(|s| {
            let outer = s.spawn(|| s.spawn(|| base + 1));
            let inner = outer.join().unwrap();
            let other = s.spawn(|| 10);
            let both = s.spawn(move || inner.join().unwrap() + other.join().unwrap());
            s.spawn(|| s.spawn(|| s.spawn(|| base))); // and left alone
            both.join().unwrap()
        });
        assert_eq!(sum, 16);
    });
}

#[test]
fn scopes_nest() {
    fn sum(numbers: &mut [u64]) -> u64 {
        if let [number] = numbers {
            *number += 1;
            return *number;
        }
        let (left, right) = numbers.split_at_mut(numbers.len() / 2);
        bast::scope(|s| {
            let left = s.spawn(|| sum(left));
            let right = bast::scope(|s| s.spawn(|| sum(right)).join().unwrap());
            left.join().unwrap() + right
        })
    }
    on_each(|| {
        let mut numbers: Vec<u64> = (0..256).collect();
        assert_eq!(sum(&mut numbers), 256 * 257 / 2);
        assert!(numbers.iter().copied().eq(1..257));
    });
}

/// Children spawn siblings after the closure of the scope has ended.
#[test]
fn a_chain_of_siblings_is_waited_for() {
    fn link<'scope>(s: &'scope bast::task::Scope<'scope, '_>, left: usize, ended: &'scope AtomicUsize) {
        dawdle(left);
        if left > 0 {
            s.spawn(move || link(s, left - 1, ended));
        }
        ended.fetch_add(1, Relaxed);
    }
    on_each(|| {
        let ended = AtomicUsize::new(0);
        bast::scope(|s| link(s, 200, &ended));
        assert_eq!(ended.load(Relaxed), 201);
    });
}

// ---- panics ----

#[test]
fn a_panic_nobody_took_is_the_scopes() {
    on_each(|| {
        let ended = AtomicUsize::new(0);
        let count = || {
            bast::time::sleep(Duration::from_micros(100));
            ended.fetch_add(1, Relaxed);
        };
        let dropped = panic_of(|| {
            bast::scope(|s| {
                s.spawn(count);
                s.spawn(|| panic!("dropped"));
                s.spawn(count);
            });
        });
        assert_eq!(dropped, "a scoped task panicked");
        let forgotten = panic_of(|| bast::scope(|s| std::mem::forget(s.spawn(|| panic!("forgotten")))));
        assert_eq!(forgotten, "a scoped task panicked");
        let late = panic_of(|| {
            bast::scope(|s| {
                let handle = s.spawn(|| panic!("dropped after its end"));
                wait_for(|| handle.is_finished());
            });
        });
        assert_eq!(late, "a scoped task panicked");
        assert_eq!(ended.load(Relaxed), 2, "the others were waited for");
    });
}

#[test]
fn a_panic_taken_by_join_is_not_the_scopes() {
    on_each(|| {
        let (text, number) = bast::scope(|s| {
            let first = s.spawn(|| -> () { panic!("joined") });
            let second = s.spawn(|| -> () { panic_any(7_u8) });
            let third = s.spawn(|| 1);
            let error = first.join().unwrap_err();
            assert!(error.is_panic());
            let payload = second
                .join_timeout(Duration::from_secs(100))
                .unwrap()
                .unwrap_err()
                .into_panic();
            assert_eq!(third.join().unwrap(), 1);
            (error.to_string(), *payload.downcast::<u8>().unwrap())
        });
        assert!(text.ends_with("panicked: joined"), "{text}");
        assert_eq!(number, 7);
    });
}

/// The closure's own panic counts more than a task's, and comes after all tasks have ended.
#[test]
fn the_closures_panic_waits_for_the_tasks() {
    on_each(|| {
        for child_panics in [false, true] {
            let ended = AtomicUsize::new(0);
            let text = panic_of(|| {
                bast::scope(|s| {
                    for i in 0..10 {
                        let ended = &ended;
                        s.spawn(move || {
                            bast::time::sleep(Duration::from_micros(100 * i));
                            ended.fetch_add(1, Relaxed);
                            assert!(!child_panics, "a child's");
                        });
                    }
                    panic!("the closure's");
                })
            });
            assert_eq!(text, "the closure's");
            assert_eq!(ended.load(Relaxed), 10);
        }
    });
}

/// A scope that begins while its task unwinds waits on the worker, with the task.
#[test]
fn a_scope_in_a_destructor_of_a_panicking_task() {
    struct Scopes<'a>(&'a AtomicUsize);
    impl Drop for Scopes<'_> {
        fn drop(&mut self) {
            bast::scope(|s| {
                for _ in 0..3 {
                    s.spawn(|| {
                        bast::time::sleep(Duration::from_millis(1));
                        self.0.fetch_add(1, Relaxed);
                    });
                }
            });
        }
    }
    on_each(|| {
        let ended = AtomicUsize::new(0);
        let text = panic_of(|| {
            let _scopes = Scopes(&ended);
            panic!("on its way");
        });
        assert_eq!((text.as_str(), ended.load(Relaxed)), ("on its way", 3));
    });
}

// ---- time and strangers ----

/// The deadline of the owner is not the tasks', and does not end its wait for them.
#[test]
fn a_deadline_does_not_end_the_scope() {
    on_each(|| {
        let ended = AtomicBool::new(false);
        let late = bast::time::timeout(Duration::from_millis(2), || {
            bast::scope(|s| {
                let handle = s.spawn(|| {
                    bast::time::sleep(Duration::from_millis(20));
                    ended.store(true, Relaxed);
                });
                let error = handle.join().unwrap_err();
                assert!(error.is_timeout(), "{error}");
                assert!(!ended.load(Relaxed));
            });
            ended.load(Relaxed)
        });
        assert!(late.unwrap_err().into_inner(), "the scope left its task");
    });
}

#[test]
fn unparks_do_not_end_the_scope() {
    on_each(|| {
        let ended = AtomicUsize::new(0);
        let owner = bast::task::current();
        bast::scope(|s| {
            for i in 0..100 {
                let (owner, ended) = (&owner, &ended);
                s.spawn(move || {
                    owner.unpark();
                    dawdle(i);
                    owner.unpark();
                    ended.fetch_add(1, Relaxed);
                });
            }
        });
        assert_eq!(ended.load(Relaxed), 100);
    });
}

#[test]
fn outside_a_task_there_is_no_scope() {
    let text = panic_of(|| bast::scope(|_| ()));
    assert!(
        text.contains("on a thread of no runtime") && text.contains("Runtime::scope"),
        "{text}"
    );
}

#[test]
fn a_plain_thread_owns_a_scope_of_a_runtime() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        for round in 0..100 {
            let mut places = [0; 10];
            let waited = AtomicBool::new(false);
            runtime.scope(|s| {
                for (i, place) in places.iter_mut().enumerate() {
                    s.spawn(move || {
                        dawdle(i + round);
                        *place = i;
                    });
                }
                s.spawn(|| {
                    bast::time::sleep(Duration::from_micros(50));
                    s.spawn(|| waited.store(true, Relaxed)); // from a task, so on its own processor
                });
            });
            assert!(waited.into_inner() && places.into_iter().eq(0..10));
        }
        let text = panic_of(|| runtime.scope(|s| drop(s.spawn(|| panic!("?")))));
        assert_eq!(text, "a scoped task panicked");
    }
}

/// The owner is a task of one runtime, its tasks are of another, and plain threads spawn there too.
#[test]
fn a_scope_of_another_runtime() {
    let other = start_with(2);
    on_each(|| {
        let ended = AtomicUsize::new(0);
        other.scope(|s| {
            for i in 0..10 {
                let ended = &ended;
                s.spawn(move || {
                    dawdle(i);
                    ended.fetch_add(1, Relaxed);
                });
            }
        });
        assert_eq!(ended.load(Relaxed), 10);
        bast::scope(|s| {
            let ended = &ended;
            std::thread::scope(|threads| {
                threads.spawn(move || s.spawn(move || ended.fetch_add(1, Relaxed)).join().unwrap());
            });
            other.run(|| s.spawn(move || ended.fetch_add(1, Relaxed)).join().unwrap());
        });
        assert_eq!(ended.load(Relaxed), 12);
    });
}

/// Many owners, scopes in scopes, ends in every order.
#[test]
fn stress() {
    let rounds = if cfg!(debug_assertions) { 300 } else { 3000 };
    for processors in util::PROCESSORS {
        run_on(processors, || {
            let total = AtomicUsize::new(0);
            bast::scope(|s| {
                for owner in 0..8 {
                    let total = &total;
                    s.spawn(move || {
                        for round in 0..rounds {
                            let mut mine = [0_usize; 4];
                            bast::scope(|s| {
                                for (i, place) in mine.iter_mut().enumerate() {
                                    let handle = s.spawn(move || {
                                        dawdle(i + round + owner);
                                        *place = round;
                                    });
                                    if (i + round) % 3 == 0 {
                                        handle.join().unwrap();
                                    }
                                }
                                dawdle(round);
                            });
                            assert_eq!(mine, [round; 4]);
                            total.fetch_add(1, Relaxed);
                        }
                    });
                }
            });
            assert_eq!(total.load(Relaxed), 8 * rounds);
        });
    }
}

/// A cancelled owner waits for its tasks all the same, without looking again and again.
#[test]
fn a_cancelled_owner_waits() {
    on_each(|| {
        let (context, canceller) = bast::context::Context::background().with_cancel();
        canceller.cancel();
        let (refused, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        context.enter(|| {
            bast::scope(|s| {
                let handle = s.spawn(|| {
                    // The context is not the task's.
                    while !refused.load(Relaxed) {
                        bast::time::sleep(Duration::from_millis(1));
                    }
                    bast::time::sleep(Duration::from_millis(2));
                    assert!(bast::context::check().is_ok());
                    ended.store(true, Relaxed);
                });
                assert!(handle.join().unwrap_err().is_cancelled());
                refused.store(true, Relaxed);
            });
        });
        assert!(ended.load(Relaxed));
    });
}
