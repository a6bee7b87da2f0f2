//! Groups: order, limit, the first failure, and who is told to end.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::context::{self, Context, ContextError};
use bast::task::{Builder, Group, Priority, current, yield_now};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;
use util::{Gate, Watchdog, on_each, run_on, start_with, wait_for};

/// Longer than the watchdog waits: only a cancellation ends it.
const FOR_EVER: Duration = Duration::from_secs(36_000);

/// Waits until the context it runs in is over.
fn until_cancelled() -> ContextError {
    bast::time::sleep(FOR_EVER);
    context::check().unwrap_err()
}

#[test]
fn results_come_in_the_order_of_the_spawns() {
    on_each(|| {
        for limit in [1, 2, 7, usize::MAX] {
            let words: Vec<String> = (0..100).map(|number| number.to_string()).collect();
            let numbers = bast::scope(|s| {
                let group = Group::scoped(s).limit(limit);
                for (i, word) in words.iter().enumerate() {
                    let begun = group.spawn(move || {
                        (0..i % 5).for_each(|_| yield_now());
                        word.parse::<usize>()
                    });
                    assert!(begun);
                }
                group.wait()
            });
            assert!(numbers.unwrap().into_iter().eq(0..100));
        }
    });
}

#[test]
fn results_come_as_they_come() {
    on_each(|| {
        let gates: Vec<_> = (0..4).map(|_| Gate::new()).collect();
        let mut group = Group::new();
        for (i, gate) in gates.iter().cloned().enumerate() {
            group.spawn(move || {
                gate.wait();
                if i == 2 { Err("two") } else { Ok(i) }
            });
        }
        for i in [3, 0] {
            gates[i].open();
            assert_eq!(group.next(), Some(Ok(i)));
        }
        assert_eq!(group.running(), 2);
        gates[2].open();
        assert_eq!(group.next(), Some(Err("two")));
        assert!(!group.spawn(|| unreachable!("after a failure")));
        gates[1].open();
        assert_eq!(group.next(), Some(Ok(1)));
        assert_eq!((group.next(), group.running()), (None, 0));
    });
}

/// Some are taken as they come, more are spawned, and `wait` gives the others.
#[test]
fn taking_some_and_waiting_for_the_rest() {
    on_each(|| {
        let mut group = Group::new();
        for i in 0..10 {
            group.spawn(move || Ok::<_, Infallible>(i));
        }
        let mut seen: Vec<i32> = (0..4).map(|_| group.next().unwrap().unwrap()).collect();
        for i in 10..13 {
            group.spawn(move || Ok(i));
        }
        let rest = group.wait().unwrap();
        assert!(rest.is_sorted() && rest.len() == 9);
        seen.extend(rest);
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..13));
    });
}

#[test]
fn no_more_than_the_limit_run_at_once() {
    on_each(|| {
        for limit in [1, 3] {
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            bast::scope(|s| {
                let group = Group::scoped(s).limit(limit);
                for i in 0..60 {
                    let (now, most) = (&now, &most);
                    group.spawn(move || {
                        most.fetch_max(now.fetch_add(1, AcqRel) + 1, AcqRel);
                        (0..i % 4).for_each(|_| yield_now());
                        now.fetch_sub(1, AcqRel);
                        Ok::<_, Infallible>(())
                    });
                    assert!(group.running() <= limit);
                }
                assert_eq!(group.wait().unwrap().len(), 60);
            });
            assert!(
                most.load(Relaxed) <= limit,
                "{most:?} at once, the limit is {limit}"
            );
        }
    });
}

#[test]
fn a_full_group_hands_the_closure_back() {
    on_each(|| {
        let gate = Gate::new();
        let group = Group::new().limit(1);
        let waits = gate.clone();
        group.spawn(move || {
            waits.wait();
            Ok::<_, Infallible>(1)
        });
        let Err(refused) = group.try_spawn(|| Ok(2)) else {
            panic!("a group of one runs two")
        };
        assert_eq!(refused().unwrap(), 2);
        gate.open();
        wait_for(|| group.running() == 0);
        group.try_spawn(|| Ok(3)).ok().expect("there is room");
        assert_eq!(group.wait().unwrap(), [1, 3]);
    });
}

#[test]
fn the_first_error_cancels_the_rest_and_is_the_one_given() {
    on_each(|| {
        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let error = bast::scope(|s| {
            let group = Group::scoped(s);
            for _ in 0..10 {
                group.spawn(|| -> Result<(), String> {
                    begun.fetch_add(1, AcqRel);
                    let error = until_cancelled();
                    ended.fetch_add(1, Relaxed);
                    Err(error.to_string())
                });
            }
            wait_for(|| begun.load(Acquire) == 10);
            group.spawn(|| Err("the cause".to_owned()));
            let context = group.context().clone();
            let error = group.wait().unwrap_err();
            assert_eq!(context.error(), Some(ContextError::Cancelled));
            assert_eq!(ended.load(Relaxed), 10, "`wait` waits for all");
            error
        });
        assert_eq!(error, "the cause");
    });
}

/// Every kind of wait gives up.
#[test]
fn tasks_that_wait_in_bast_come_to_their_end() {
    on_each(|| {
        let (sender, receiver) = bast::sync::channel::rendezvous::<u32>();
        let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let group = Group::new();
        let ended = Arc::new(AtomicUsize::new(0));
        let waits: [Box<dyn FnOnce() + Send>; 4] = [
            Box::new(move || assert!(receiver.recv().is_err())),
            Box::new(|| bast::task::park()),
            Box::new(move || drop(listener.accept())),
            Box::new(|| drop(bast::spawn(|| bast::time::sleep(Duration::from_secs(1))).join())),
        ];
        for wait in waits {
            let ended = ended.clone();
            group.spawn(move || {
                wait();
                ended.fetch_add(1, Relaxed);
                Ok::<_, Infallible>(())
            });
        }
        bast::time::sleep(Duration::from_millis(1));
        group.cancel();
        assert_eq!(group.wait().unwrap().len(), 4);
        assert_eq!(ended.load(Relaxed), 4);
        drop(sender);
    });
}

/// Spawners that wait for room are told, all of them, whoever cancels.
#[test]
fn spawners_that_wait_are_let_go() {
    on_each(|| {
        for by_parent in [false, true] {
            let (context, canceller) = Context::background().with_cancel();
            let group = Arc::new(context.enter(|| Group::<(), ContextError>::new().limit(1)));
            group.spawn(|| Err(until_cancelled()));
            let spawners: Vec<_> = (0..5)
                .map(|_| {
                    let group = group.clone();
                    bast::spawn(move || group.spawn(|| unreachable!("in a cancelled group")))
                })
                .collect();
            bast::time::sleep(Duration::from_millis(2));
            if by_parent {
                canceller.cancel();
            } else {
                group.cancel();
                assert!(
                    !context.is_cancelled(),
                    "a group does not cancel what is above it"
                );
            }
            for spawner in spawners {
                assert!(!spawner.join().unwrap());
            }
            let group = Arc::into_inner(group).unwrap();
            assert_eq!(group.wait(), Err(ContextError::Cancelled));
        }
    });
}

/// A closure that is not begun is dropped, outside of the group's lock.
#[test]
fn a_cancelled_group_drops_what_it_is_given() {
    struct Asks(Arc<Group<'static, (), ()>>, Arc<AtomicUsize>);
    impl Drop for Asks {
        fn drop(&mut self) {
            assert_eq!(self.0.running(), 0);
            self.1.fetch_add(1, Relaxed);
        }
    }
    on_each(|| {
        let (group, dropped) = (Arc::new(Group::new()), Arc::new(AtomicUsize::new(0)));
        group.cancel();
        let asks = Asks(group.clone(), dropped.clone());
        assert!(!group.spawn(move || {
            let _asks = asks;
            Ok(())
        }));
        assert_eq!(dropped.load(Relaxed), 1);
    });
}

#[test]
fn a_panic_cancels_the_rest_and_is_passed_on_when_all_have_ended() {
    on_each(|| {
        let ended = AtomicBool::new(false);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            bast::scope(|s| {
                let group = Group::scoped(s);
                group.spawn(|| {
                    let error = until_cancelled();
                    bast::context::shield(|| bast::time::sleep(Duration::from_millis(2)));
                    ended.store(true, Relaxed);
                    Err::<(), _>(error)
                });
                group.spawn(|| panic!("a task's"));
                group.wait()
            })
        }))
        .unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"a task's"));
        assert!(ended.load(Relaxed));
        let mut group = Group::<(), ()>::new();
        group.spawn(|| panic!("as it comes"));
        let payload = catch_unwind(AssertUnwindSafe(|| group.next())).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"as it comes"));
        assert!(group.next().is_none());
    });
}

#[test]
fn a_dropped_group_cancels_and_its_scope_waits() {
    on_each(|| {
        let ended = AtomicUsize::new(0);
        bast::scope(|s| {
            let group = Group::scoped(s);
            for _ in 0..5 {
                group.spawn(|| {
                    let error = until_cancelled();
                    ended.fetch_add(1, Relaxed);
                    Err::<(), _>(error)
                });
            }
            drop(group);
        });
        assert_eq!(ended.load(Relaxed), 5);
        // A forgotten one cancels nothing, and the scope waits all the same.
        bast::scope(|s| {
            let group = Group::scoped(s);
            group.spawn(|| Ok::<_, Infallible>(ended.fetch_add(1, Relaxed)));
            std::mem::forget(group);
        });
        assert_eq!(ended.load(Relaxed), 6);
    });
}

/// What bounds the code around the group bounds its tasks, but not the wait for them.
#[test]
fn a_deadline_around_the_group_is_its_tasks() {
    on_each(|| {
        let mut time = Duration::from_millis(2);
        let mut begun = false;
        while !begun {
            let late = bast::time::timeout(time, || {
                let group = Group::new();
                begun = group.spawn(|| Err::<(), _>(until_cancelled()));
                group.wait()
            });
            // A slow machine may be late before the task is spawned: then nothing is, and the time was too short.
            let outcome = late.unwrap_err().into_inner();
            let expected = if begun {
                Err(ContextError::DeadlineExceeded)
            } else {
                Ok(Vec::new())
            };
            assert_eq!(outcome, expected);
            time *= 2;
        }
    });
}

#[test]
fn its_tasks_are_set_up_by_a_builder() {
    on_each(|| {
        let builder = Builder::new().name("member").priority(Priority::High);
        let group = Group::new().with(builder).limit(2);
        for _ in 0..5 {
            group.spawn(|| {
                let me = current();
                Ok::<_, Infallible>((me.name().map(str::to_owned), me.priority()))
            });
        }
        for member in group.wait().unwrap() {
            assert_eq!(member, (Some("member".to_owned()), Priority::High));
        }
        // A task that cannot be spawned is not waited for.
        let group = Group::<(), ()>::new().with(Builder::new().stack_size(1 << 40));
        assert!(catch_unwind(AssertUnwindSafe(|| group.spawn(|| Ok(())))).is_err());
        assert_eq!(group.running(), 0);
        assert!(catch_unwind(AssertUnwindSafe(|| group.wait())).is_err());
    });
}

#[test]
fn a_plain_thread_waits_for_a_group() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let numbers = [1, 2, 3];
        let squares = runtime.scope(|s| {
            let group = Group::scoped(s).limit(2);
            for number in &numbers {
                group.spawn(move || Ok::<_, Infallible>(number * number));
            }
            group.wait()
        });
        assert_eq!(squares.unwrap(), [1, 4, 9]);
        let group = runtime.run(|| {
            let group = Group::new();
            group.spawn(|| Ok::<_, Infallible>("from within"));
            group
        });
        assert_eq!(group.wait().unwrap(), ["from within"]);
    }
}

/// Tasks that never began: nobody waits for them for ever.
#[test]
fn a_group_that_outlives_its_runtime() {
    let runtime = util::start(
        bast::Builder::new()
            .processors(1)
            .slice(Duration::from_secs(3_600)),
    );
    let _watchdog = Watchdog::start("a group that outlives its runtime", None);
    let group = runtime.run(|| {
        let group = Group::new();
        for _ in 0..50 {
            group.spawn(|| Ok::<_, Infallible>(()));
        }
        group
    });
    drop(runtime);
    // Some may have run before the end.
    match catch_unwind(AssertUnwindSafe(|| group.wait())) {
        Ok(Ok(values)) => assert_eq!(values.len(), 50),
        Ok(Err(never)) => match never {},
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
            let text = text
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap();
            assert!(text.contains("never began"), "{text}");
        }
    }
}

/// Many groups at once, failing at every place.
#[test]
fn stress() {
    let rounds = if cfg!(debug_assertions) { 100 } else { 1000 };
    for processors in util::PROCESSORS {
        run_on(processors, || {
            bast::scope(|s| {
                for owner in 0..4_usize {
                    s.spawn(move || {
                        for round in 0..rounds {
                            let fails = (round + owner) % 30; // beyond 20: none
                            let outcome = bast::scope(|s| {
                                let group = Group::scoped(s).limit(1 + round % 6);
                                for i in 0..20 {
                                    group.spawn(move || {
                                        (0..(i + round) % 3).for_each(|_| yield_now());
                                        if i == fails { Err(i) } else { Ok(i) }
                                    });
                                }
                                group.wait()
                            });
                            match outcome {
                                Ok(values) => assert!(fails >= 20 && values.into_iter().eq(0..20)),
                                Err(failed) => assert_eq!(failed, fails),
                            }
                        }
                    });
                }
            });
        });
    }
}
