//! Once, OnceLock, LazyLock: one run, seen by all; panics, failures, reentry from many.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::{LazyLock, Once, OnceLock};
use chan_util::{everywhere, settle, wait_for};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

#[test]
fn it_runs_once_and_all_see_it() {
    everywhere(|go| {
        for _ in 0..go.rounds(50) {
            let shared = Arc::new((Once::new(), AtomicUsize::new(0)));
            let parties: Vec<_> = (0..10)
                .map(|_| {
                    let shared = shared.clone();
                    go.spawn(move || {
                        shared.0.call_once(|| {
                            bast::task::yield_now(); // the closure may leave its processor
                            shared.1.fetch_add(1, Relaxed);
                        });
                        assert!(shared.0.is_completed());
                        assert_eq!(shared.1.load(Relaxed), 1);
                    })
                })
                .collect();
            parties.into_iter().for_each(|party| party.join());
            shared.0.call_once(|| unreachable!("it was done"));
        }
    });
}

/// While it runs the others park: on one processor they would otherwise hold the runner up for ever.
#[test]
fn others_wait_while_it_runs() {
    everywhere(|go| {
        let shared = Arc::new((Once::new(), AtomicBool::new(false), AtomicBool::new(false)));
        let runner = {
            let shared = shared.clone();
            go.spawn(move || {
                shared.0.call_once(|| {
                    shared.1.store(true, SeqCst);
                    (0..5).for_each(|_| settle());
                    shared.2.store(true, SeqCst);
                });
            })
        };
        wait_for(|| shared.1.load(SeqCst));
        let others: Vec<_> = (0..6)
            .map(|party| {
                let shared = shared.clone();
                go.spawn(move || {
                    match party % 3 {
                        0 => shared.0.call_once(|| unreachable!()),
                        1 => shared.0.call_once_force(|_| unreachable!()),
                        _ => shared.0.wait(),
                    }
                    assert!(shared.2.load(SeqCst), "it was not over yet");
                })
            })
            .collect();
        runner.join();
        others.into_iter().for_each(|party| party.join());
    });
}

#[test]
fn waiting_begins_nothing() {
    everywhere(|go| {
        let shared = Arc::new((Once::new(), AtomicUsize::new(0)));
        let waiters: Vec<_> = (0..4)
            .map(|party| {
                let shared = shared.clone();
                go.spawn(move || {
                    if party % 2 == 0 {
                        shared.0.wait();
                    } else {
                        shared.0.wait_force();
                    }
                    assert_eq!(shared.1.load(Relaxed), 1);
                })
            })
            .collect();
        settle();
        assert!(!shared.0.is_completed());
        shared.0.call_once(|| shared.1.store(1, Relaxed));
        waiters.into_iter().for_each(|party| party.join());
    });
}

#[test]
fn a_panic_poisons_until_one_is_forced_through() {
    everywhere(|go| {
        let once = Arc::new(Once::new());
        let panics = |f: &dyn Fn()| catch_unwind(AssertUnwindSafe(f)).is_err();
        assert!(panics(&|| once.call_once(|| panic!("on purpose"))));
        assert!(!once.is_completed());
        assert!(panics(&|| once.call_once(|| unreachable!("it is poisoned"))));
        assert!(panics(&|| once.wait()));
        // One that waits for a good end, whatever comes before it.
        let waiting = once.clone();
        let patient = go.spawn(move || waiting.wait_force());
        assert!(panics(&|| once.call_once_force(|state| {
            assert!(state.is_poisoned());
            panic!("again");
        })));
        let ran = AtomicBool::new(false);
        once.call_once_force(|state| {
            assert!(state.is_poisoned());
            ran.store(true, Relaxed);
        });
        assert!(ran.load(Relaxed) && once.is_completed());
        once.call_once(|| unreachable!());
        patient.join();
        Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
    });
}

/// Those who wait when it panics: the plain ones panic too, of the forcing ones one runs it.
#[test]
fn waiters_of_one_that_panics() {
    everywhere(|go| {
        let shared = Arc::new((Once::new(), AtomicBool::new(false), AtomicUsize::new(0)));
        let breaker = {
            let shared = shared.clone();
            go.spawn(move || {
                let broken = catch_unwind(AssertUnwindSafe(|| {
                    shared.0.call_once(|| {
                        shared.1.store(true, SeqCst);
                        (0..5).for_each(|_| settle());
                        panic!("on purpose");
                    });
                }));
                assert!(broken.is_err());
            })
        };
        wait_for(|| shared.1.load(SeqCst));
        let others: Vec<_> = (0..6)
            .map(|_| {
                let shared = shared.clone();
                go.spawn(move || {
                    shared.0.call_once_force(|state| {
                        assert!(state.is_poisoned());
                        shared.2.fetch_add(1, SeqCst);
                    });
                })
            })
            .collect();
        breaker.join();
        others.into_iter().for_each(|party| party.join());
        assert_eq!(shared.2.load(SeqCst), 1);
    });
}

#[test]
fn a_place_is_filled_once() {
    everywhere(|go| {
        let place = Arc::new(OnceLock::new());
        assert_eq!(place.get(), None);
        let parties: Vec<_> = (0..10)
            .map(|party| {
                let place = place.clone();
                go.spawn(move || {
                    let mine = format!("party {party}");
                    let seen = match party % 3 {
                        0 => place.get_or_init(|| mine.clone()).clone(),
                        1 => match place.set(mine.clone()) {
                            Ok(()) => mine,
                            Err(back) => {
                                assert_eq!(back, mine, "the value comes back");
                                place.get().unwrap().clone()
                            }
                        },
                        _ => place.wait().clone(),
                    };
                    assert_eq!(&seen, place.get().unwrap());
                    seen
                })
            })
            .collect();
        let seen: Vec<_> = parties.into_iter().map(|party| party.join()).collect();
        assert!(seen.iter().all(|name| name == &seen[0]));
    });
}

#[test]
fn a_maker_that_fails_leaves_the_place_empty() {
    everywhere(|go| {
        let place = Arc::new(OnceLock::<String>::new());
        let broken = catch_unwind(AssertUnwindSafe(|| place.get_or_init(|| panic!("on purpose"))));
        assert!(broken.is_err() && place.get().is_none());
        assert_eq!(place.get_or_try_init(|| Err::<String, _>(7)), Err(7));
        let waiting = place.clone();
        let waiter = go.spawn(move || waiting.wait().clone());
        // Many try, most fail, one gets it right; the others see that one's.
        let parties: Vec<_> = (0..10_usize)
            .map(|party| {
                let place = place.clone();
                go.spawn(move || {
                    let made = place.get_or_try_init(|| {
                        bast::task::yield_now();
                        if party == 9 {
                            Ok("nine".to_owned())
                        } else {
                            Err(party)
                        }
                    });
                    match made {
                        Ok(value) => assert_eq!(value, "nine"),
                        Err(failed) => assert_eq!(failed, party),
                    }
                })
            })
            .collect();
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(waiter.join(), "nine");
    });
}

#[test]
fn values_are_dropped_once() {
    #[derive(Clone)]
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut place = OnceLock::new();
    assert!(place.set(Counts(dropped.clone())).is_ok());
    assert!(place.set(Counts(dropped.clone())).is_err());
    assert_eq!(dropped.load(Relaxed), 1, "the refused one");
    drop(place.take().unwrap());
    assert_eq!(dropped.load(Relaxed), 2);
    assert!(place.get().is_none() && place.take().is_none());
    assert!(place.set(Counts(dropped.clone())).is_ok());
    assert!(place.get_mut().is_some());
    drop(place);
    assert_eq!(dropped.load(Relaxed), 3);
    drop(OnceLock::from(Counts(dropped.clone())).into_inner());
    assert_eq!(dropped.load(Relaxed), 4);
    drop(OnceLock::<Counts>::new());
    assert_eq!(dropped.load(Relaxed), 4);
    let whole = OnceLock::from(3);
    assert_eq!(whole.clone(), whole);
    assert_eq!(
        format!("{whole:?} {:?}", OnceLock::<u8>::new()),
        "OnceLock(3) OnceLock(<uninit>)"
    );
}

#[test]
fn a_lazy_value_is_made_once() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static LAZY: LazyLock<Vec<usize>> = LazyLock::new(|| {
        MADE.fetch_add(1, SeqCst);
        vec![1, 2, 3]
    });
    assert_eq!(format!("{LAZY:?}"), "LazyLock(<uninit>)");
    everywhere(|go| {
        let parties: Vec<_> = (0..10).map(|_| go.spawn(|| LAZY.iter().sum::<usize>())).collect();
        assert!(parties.into_iter().all(|party| party.join() == 6));
    });
    assert_eq!(MADE.load(SeqCst), 1);
    assert_eq!(format!("{LAZY:?}"), "LazyLock([1, 2, 3])");
    assert_eq!(*LazyLock::<u32>::default(), 0);
}

#[test]
fn a_lazy_value_whose_maker_panics_is_poisoned() {
    let calls = AtomicUsize::new(0);
    let lazy: LazyLock<u32, _> = LazyLock::new(|| {
        calls.fetch_add(1, Relaxed);
        panic!("on purpose")
    });
    for _ in 0..3 {
        assert!(catch_unwind(AssertUnwindSafe(|| *LazyLock::force(&lazy))).is_err());
    }
    assert_eq!(calls.load(Relaxed), 1, "the maker is called once");
}
