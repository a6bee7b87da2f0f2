//! Joining: from tasks, threads and other runtimes; panics and their payloads.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use util::{Gate, Watchdog, on_each, run_on, start_with, wait_for};

#[test]
fn from_a_task_before_and_after_the_end() {
    on_each(|| {
        let early = bast::spawn(|| {
            bast::time::sleep(Duration::from_millis(2));
            1
        });
        assert!(!early.is_finished());
        assert_eq!(early.join().unwrap(), 1);
        let late = bast::spawn(|| 2);
        wait_for(|| late.is_finished());
        assert_eq!(late.join().unwrap(), 2);
    });
}

#[test]
fn from_plain_threads() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let gate = Gate::new();
        let tasks: Vec<_> = (0..50_usize)
            .map(|i| {
                let gate = gate.clone();
                runtime
                    .spawn(move || {
                        gate.wait();
                        i
                    })
                    .unwrap()
            })
            .collect();
        let joiners: Vec<_> = tasks
            .into_iter()
            .map(|task| std::thread::spawn(move || task.join().unwrap()))
            .collect();
        std::thread::sleep(Duration::from_millis(2));
        gate.open();
        for (i, joiner) in joiners.into_iter().enumerate() {
            assert_eq!(joiner.join().unwrap(), i);
        }
    }
}

#[test]
fn from_a_task_of_another_runtime() {
    for (ours, theirs) in [(1, 1), (2, 2), (8, 1)] {
        let other = start_with(theirs);
        run_on(ours, || {
            let tasks: Vec<_> = (0..200_usize)
                .map(|i| {
                    other
                        .spawn(move || {
                            bast::time::sleep(Duration::from_micros(100));
                            i
                        })
                        .unwrap()
                })
                .collect();
            for (i, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.join().unwrap(), i);
            }
            // And a whole run inside another runtime's task.
            assert_eq!(other.run(|| bast::spawn(|| 5).join().unwrap()), 5);
        });
    }
}

#[test]
fn a_task_that_spawned_itself_a_chain_of_joiners() {
    on_each(|| {
        let gate = Gate::new();
        let first = {
            let gate = gate.clone();
            bast::spawn(move || {
                gate.wait();
                0_u64
            })
        };
        let last = (0..1_000).fold(first, |before, _| bast::spawn(move || before.join().unwrap() + 1));
        gate.open();
        assert_eq!(last.join().unwrap(), 1_000);
    });
}

#[test]
fn join_timeout_gives_the_handle_back() {
    on_each(|| {
        let gate = Gate::new();
        let told = gate.clone();
        let task = bast::spawn(move || {
            told.wait();
            7
        });
        let start = Instant::now();
        let task = task.join_timeout(Duration::from_millis(5)).unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(5));
        let task = task.join_timeout(Duration::ZERO).unwrap_err();
        gate.open();
        assert_eq!(task.join_timeout(Duration::from_secs(100)).unwrap().unwrap(), 7);
        let task = bast::spawn(|| 8);
        assert_eq!(task.join_timeout(Duration::MAX).unwrap().unwrap(), 8);
    });
}

#[test]
fn join_timeout_from_a_thread() {
    let runtime = start_with(2);
    let _watchdog = Watchdog::start("2 processors", Some(runtime.handle()));
    let gate = Gate::new();
    let told = gate.clone();
    let task = runtime
        .spawn(move || {
            told.wait();
            7
        })
        .unwrap();
    let task = task.join_timeout(Duration::from_millis(5)).unwrap_err();
    gate.open();
    assert_eq!(task.join_timeout(Duration::from_secs(100)).unwrap().unwrap(), 7);
}

/// The end of the task and of the wait come together: the value is had now or later, but is had.
#[test]
fn join_timeout_races_the_end() {
    on_each(|| {
        for round in 0..500_u64 {
            let task = bast::spawn(move || {
                bast::time::sleep(Duration::from_micros(round % 100));
                round
            });
            let got = match task.join_timeout(Duration::from_micros(50)) {
                Ok(result) => result.unwrap(),
                Err(task) => task.join().unwrap(),
            };
            assert_eq!(got, round);
        }
    });
    let runtime = start_with(2);
    for round in 0..200_u64 {
        let task = runtime
            .spawn(move || {
                bast::time::sleep(Duration::from_micros(round % 100));
                round
            })
            .unwrap();
        let got = match task.join_timeout(Duration::from_micros(70)) {
            Ok(result) => result.unwrap(),
            Err(task) => task.join().unwrap(),
        };
        assert_eq!(got, round);
    }
}

#[test]
fn payloads_are_those_of_std() {
    #[derive(Debug, PartialEq)]
    struct Custom(u32);
    on_each(|| {
        let payload = bast::spawn(|| panic!("a literal"))
            .join()
            .unwrap_err()
            .into_panic();
        assert_eq!(*payload.downcast::<&'static str>().unwrap(), "a literal");
        let number = std::hint::black_box(3);
        let payload = bast::spawn(move || panic!("formatted {number}"))
            .join()
            .unwrap_err()
            .into_panic();
        assert_eq!(*payload.downcast::<String>().unwrap(), "formatted 3");
        let error = bast::spawn(|| panic_any(Custom(4))).join().unwrap_err();
        assert!(error.is_panic() && !error.is_shutdown());
        assert_eq!(*error.into_panic().downcast::<Custom>().unwrap(), Custom(4));
    });
}

#[test]
fn the_error_says_which_task_and_what_it_said() {
    on_each(|| {
        let task = bast::spawn(|| panic!("the reason"));
        let id = task.id();
        let error = task.join().unwrap_err();
        assert_eq!(error.id(), id);
        assert_eq!(error.to_string(), format!("task {id} panicked: the reason"));
        assert!(format!("{error:?}").contains("the reason"));
        let error = bast::spawn(|| panic_any(1_u8)).join().unwrap_err();
        assert!(error.to_string().ends_with("panicked"), "{error}");
        // As an error of another function.
        let boxed: Box<dyn std::error::Error + Send> = Box::new(error);
        assert!(boxed.source().is_none());
    });
}

#[test]
fn a_panic_can_be_passed_on_through_a_chain_of_tasks() {
    on_each(|| {
        let first = bast::spawn(|| panic_any(42_u64));
        let last = (0..20).fold(first, |before, _| {
            bast::spawn(move || match before.join() {
                Ok(()) => unreachable!("it panics"),
                Err(error) => resume_unwind(error.into_panic()),
            })
        });
        assert_eq!(
            *last.join().unwrap_err().into_panic().downcast::<u64>().unwrap(),
            42
        );
    });
}

#[test]
fn mains_panic_is_runs_panic() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let payload = catch_unwind(AssertUnwindSafe(|| runtime.run(|| panic_any(5_u16)))).unwrap_err();
        assert_eq!(*payload.downcast::<u16>().unwrap(), 5);
        assert_eq!(runtime.run(|| 1), 1, "the runtime goes on");
    }
}

#[test]
fn panics_caught_inside_a_task_stay_there() {
    on_each(|| {
        let tasks: Vec<_> = (0..50_usize)
            .map(|i| {
                bast::spawn(move || {
                    let caught = catch_unwind(|| {
                        bast::task::yield_now();
                        panic_any(i)
                    });
                    bast::task::yield_now(); // not panicking any more: free to migrate
                    assert!(!std::thread::panicking());
                    *caught.unwrap_err().downcast::<usize>().unwrap()
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), i);
        }
    });
}

#[test]
fn many_panics_at_once() {
    on_each(|| {
        let tasks: Vec<_> = (0..500_usize)
            .map(|i| {
                bast::spawn(move || {
                    bast::task::yield_now();
                    if i % 2 == 0 {
                        resume_unwind(Box::new(i));
                    }
                    i
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            let got = task
                .join()
                .unwrap_or_else(|error| *error.into_panic().downcast().unwrap());
            assert_eq!(got, i);
        }
    });
}

#[test]
fn handles_move_between_threads_and_say_who_they_are() {
    on_each(|| {
        let task = Arc::new(bast::spawn(|| 3));
        let seen = task.clone();
        let other = bast::spawn(move || (seen.id(), seen.task()));
        let (id, handle) = other.join().unwrap();
        assert_eq!(id, task.id());
        assert_eq!(handle, task.task());
        assert!(format!("{task:?}").contains(&id.to_string()));
        assert_eq!(Arc::try_unwrap(task).unwrap().join().unwrap(), 3);
    });
}
/// A `timeout` bounds joins too; what `join` cannot give then it must not invent.
#[test]
fn join_inside_a_timeout() {
    on_each(|| {
        let gate = Gate::new();
        let told = gate.clone();
        let task = bast::spawn(move || {
            told.wait();
            String::from("whole")
        });
        let opener = {
            let gate = gate.clone();
            bast::spawn(move || {
                bast::time::sleep(Duration::from_millis(20));
                gate.open();
            })
        };
        let joined = bast::time::timeout(Duration::from_millis(5), || task.join());
        let result = joined.unwrap_or_else(bast::time::Elapsed::into_inner);
        match result {
            Ok(text) => assert_eq!(text, "whole"), // a slow machine: the opener was faster
            Err(error) => assert!(
                error.is_timeout() && !error.is_panic() && !error.is_shutdown(),
                "{error}"
            ),
        }
        opener.join().unwrap();
    });
}
