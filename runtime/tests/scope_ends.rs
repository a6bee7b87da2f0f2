//! Scopes that meet failure: tasks that cannot be spawned, and runtimes that end.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::task::{Builder, park};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;
use util::{Gate, Watchdog, on_each};

/// A closure is never dropped inside the runtime, where its destructor could not call it.
struct CallsWhenDropped<'a>(&'a AtomicUsize);

impl Drop for CallsWhenDropped<'_> {
    fn drop(&mut self) {
        let _ = bast::task::try_current();
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_task_that_cannot_be_spawned_is_not_waited_for() {
    on_each(|| {
        let dropped = AtomicUsize::new(0);
        bast::scope(|s| {
            let calls = CallsWhenDropped(&dropped);
            let error = Builder::new()
                .stack_size(1 << 40)
                .spawn_scoped(s, move || drop(calls))
                .unwrap_err();
            assert!(error.to_string().contains("1099511627776 bytes"), "{error}");
            assert_eq!(dropped.load(Relaxed), 1);
            assert_eq!(s.spawn(|| 1).join().unwrap(), 1);
        });
    });
}

/// What a panicking task calls does not leave its worker, so this one sees its runtime close.
struct SpawnsWhenDropped<F: FnMut()>(F);

impl<F: FnMut()> Drop for SpawnsWhenDropped<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// In a runtime that closes: closures that cannot be spawned are dropped, outside the runtime.
#[test]
fn spawning_in_a_runtime_that_closes() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    // On a busy machine the monitor may take the task for blocked, and its processor, in which case it sees nothing.
    for _ in 0..100 {
        DROPPED.store(0, Relaxed);
        let builder = bast::Builder::new().processors(2);
        let runtime = util::start(builder.slice(Duration::from_secs(3_600)));
        let _watchdog = Watchdog::start("a runtime that closes", None);
        let (ready, seen) = (Gate::new(), Gate::new());
        let told = (ready.clone(), seen.clone());
        let task = runtime.spawn(move || {
            bast::scope(|s| {
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    let _spawns = SpawnsWhenDropped(|| {
                        told.0.open();
                        while bast::try_spawn(|| ()).is_ok() {
                            std::hint::spin_loop();
                        }
                        let calls = CallsWhenDropped(&DROPPED);
                        let error = bast::try_spawn(move || drop(calls)).unwrap_err();
                        assert!(error.is_closed(), "{error}");
                        let calls = CallsWhenDropped(&DROPPED);
                        let error = Builder::new().spawn_scoped(s, move || drop(calls)).unwrap_err();
                        assert!(error.is_closed(), "{error}");
                        assert_eq!(DROPPED.load(Relaxed), 2);
                        told.1.open();
                    });
                    panic!("on purpose");
                }));
            });
        });
        while !ready.is_open() {
            std::thread::sleep(Duration::from_micros(100));
        }
        drop((runtime, task));
        if seen.is_open() {
            return;
        }
    }
    panic!("no task has seen its runtime close");
}

// ---- the runtime's end ----

/// What is lent is not freed while a leaked task may look at it: not the owner's frame, when both are parked.
#[test]
fn a_scope_that_waits_at_the_end_of_its_runtime_is_leaked() {
    static DROPPED: AtomicBool = AtomicBool::new(false);
    struct Lent(u32);
    impl Drop for Lent {
        fn drop(&mut self) {
            DROPPED.store(true, Relaxed);
        }
    }
    let name = "a_scope_that_waits_at_the_end_of_its_runtime_is_leaked";
    let text = util::in_good_child(
        name,
        |_| {},
        || {
            for processors in util::PROCESSORS {
                let (parked, leave, left) = (Gate::new(), Gate::new(), Gate::new());
                let runtime = util::start(
                    bast::Builder::new()
                        .processors(processors)
                        .shutdown_grace(Duration::from_millis(20)),
                );
                let told = (parked.clone(), leave.clone(), left.clone());
                let owner = runtime.spawn(move || {
                    let lent = Lent(17);
                    bast::scope(|s| {
                        s.spawn(|| {
                            loop {
                                park(); // for ever
                                assert_eq!(lent.0, 17);
                            }
                        });
                        s.spawn(|| {
                            told.0.open();
                            // In user code beyond the end of the runtime.
                            while !told.1.is_open() {
                                std::thread::sleep(Duration::from_millis(1));
                            }
                            assert_eq!(lent.0, 17);
                            told.2.open();
                        });
                    });
                });
                parked.wait();
                drop(runtime);
                assert!(owner.unwrap().join().unwrap_err().is_shutdown());
                leave.open();
                left.wait();
                std::thread::sleep(Duration::from_millis(20)); // for the owner to do what it must not
                assert!(!DROPPED.load(Relaxed), "what is lent was freed");
            }
        },
    );
    assert!(text.contains("still busy"), "{text}");
}

/// An owner that computes on beside the runtime's end finds that its task will never end, and stays.
#[test]
fn an_owner_that_outlives_its_runtime_does_not_leave_its_tasks() {
    let name = "an_owner_that_outlives_its_runtime_does_not_leave_its_tasks";
    util::in_good_child(
        name,
        |_| {},
        || {
            let (parked, leave, left) = (Gate::new(), Gate::new(), Gate::new());
            let runtime = util::start(
                bast::Builder::new()
                    .processors(2)
                    .shutdown_grace(Duration::from_millis(20)),
            );
            let told = (parked.clone(), leave.clone(), left.clone());
            let owner = runtime.spawn(move || {
                let lent = AtomicUsize::new(1);
                bast::scope(|s| {
                    s.spawn(|| {
                        told.0.open();
                        while lent.load(Relaxed) > 0 {
                            park();
                        }
                    });
                    while !told.1.is_open() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
                told.2.open();
            });
            parked.wait();
            drop(runtime);
            assert!(!owner.unwrap().is_finished());
            leave.open();
            std::thread::sleep(Duration::from_millis(50));
            assert!(!left.is_open(), "the owner left a task that has its frame");
        },
    );
}

/// A task that never ran is dropped at the end of its runtime, before its owner's frame is given up.
#[test]
fn a_task_that_never_ran_is_dropped_with_its_runtime() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    static OWNER_GONE: AtomicBool = AtomicBool::new(false);
    struct Lent(u32);
    impl Drop for Lent {
        fn drop(&mut self) {
            OWNER_GONE.store(true, Relaxed);
        }
    }
    struct Looks<'a>(&'a Lent);
    impl Drop for Looks<'_> {
        fn drop(&mut self) {
            assert_eq!(self.0.0, 17);
            DROPPED.fetch_add(1, Relaxed);
        }
    }
    let name = "a_task_that_never_ran_is_dropped_with_its_runtime";
    util::in_good_child(
        name,
        |_| {},
        || loop {
            // The only processor stays with the owner: it computes, and its slice is long.
            let builder = bast::Builder::new().processors(1);
            let runtime = util::start(builder.slice(Duration::from_secs(3_600)));
            let handle = runtime.handle();
            let (spawned, closing) = (Gate::new(), Gate::new());
            let told = (spawned.clone(), closing.clone());
            let owner = runtime.spawn(move || {
                let lent = Lent(17);
                bast::scope(|s| {
                    let looks = Looks(&lent);
                    s.spawn(move || drop(looks));
                    told.0.open();
                    while !told.1.is_open() {
                        std::hint::spin_loop();
                    }
                });
            });
            while !spawned.is_open() {
                std::thread::sleep(Duration::from_micros(100));
            }
            let watched = handle.clone();
            let watcher = std::thread::spawn(move || {
                while watched.spawn(|| ()).is_ok() {
                    std::thread::sleep(Duration::from_micros(100));
                }
                closing.open();
            });
            drop(runtime);
            watcher.join().unwrap();
            let end = owner.unwrap().join();
            if handle.metrics().detaches > 0 {
                // The owner looked blocked, as on a busy machine, and others ran: then once more.
                DROPPED.store(0, Relaxed);
                OWNER_GONE.store(false, Relaxed);
                continue;
            }
            assert!(end.unwrap_err().is_shutdown());
            assert_eq!(DROPPED.load(Relaxed), 1);
            assert!(
                !OWNER_GONE.load(Relaxed),
                "the owner's frame is leaked, not unwound"
            );
            break;
        },
    );
}
