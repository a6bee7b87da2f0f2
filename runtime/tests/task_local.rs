//! Task-local values: one a task, made when first asked for, going where the task goes, gone at its end.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests check and drive from outside"
)]

mod util;

use bast::sync::channel;
use bast::task::AccessError;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;
use util::{on_each, start_with};

bast::task_local! {
    static COUNT: Cell<usize> = Cell::new(100);
    /// Not `Send`: it stays with its task.
    pub(crate) static SHARED: RefCell<Vec<Rc<usize>>> = RefCell::new(Vec::new());
    inherit static TRACE: RefCell<String> = RefCell::new("none".to_owned());
    inherit static LEVEL: Cell<u32> = Cell::new(0);
    static PLAIN: u64 = 7 * 6
}

#[test]
fn each_task_has_its_own() {
    on_each(|| {
        COUNT.set(1);
        let tasks: Vec<_> = (0..50)
            .map(|index| {
                bast::spawn(move || {
                    assert_eq!(COUNT.get(), 100, "the initialiser's");
                    SHARED.with_borrow_mut(|shared| shared.extend([Rc::new(index), Rc::new(index)]));
                    COUNT.with(|count| {
                        for round in 0..20 {
                            count.set(index * 1_000 + round);
                            bast::task::yield_now();
                            if round % 5 == 0 {
                                bast::time::sleep(Duration::from_micros(20));
                            }
                            assert_eq!(count.get(), index * 1_000 + round);
                            assert_eq!(COUNT.get(), count.get(), "and found anew");
                        }
                    });
                    assert_eq!(SHARED.take().len(), 2);
                    assert_eq!(SHARED.take().len(), 0);
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(COUNT.get(), 1);
        assert_eq!(PLAIN.with(|plain| *plain), 42);
    });
}

#[test]
fn cells_and_ref_cells() {
    on_each(|| {
        assert_eq!(COUNT.replace(5), 100);
        assert_eq!(COUNT.take(), 5);
        assert_eq!(COUNT.get(), 0);
        COUNT.set(9);
        assert_eq!(COUNT.get(), 9);
        SHARED.set(vec![Rc::new(3)]);
        assert_eq!(SHARED.replace(Vec::new()).len(), 1);
        SHARED.with_borrow(|shared| assert!(shared.is_empty()));
        let borrowed = catch_unwind(|| SHARED.with_borrow(|_| SHARED.set(Vec::new())));
        assert!(borrowed.is_err(), "as a RefCell");
        // Setting runs no initialiser.
        bast::task_local! {
            static NO_INIT: Cell<u32> = panic!("the initialiser ran");
            static NO_INIT_REF: RefCell<u32> = panic!("the initialiser ran");
        }
        NO_INIT.set(1);
        NO_INIT_REF.set(2);
        assert_eq!(NO_INIT.get() + NO_INIT_REF.take(), 3);
        assert!(format!("{NO_INIT:?}").contains("LocalKey"));
    });
}

#[test]
fn initialisers_may_park_use_other_keys_and_panic() {
    bast::task_local! {
        static OUTER: u32 = {
            bast::time::sleep(Duration::from_micros(50));
            INNER.with(|inner| inner + 1)
        };
        static INNER: u32 = { bast::task::yield_now(); 1 };
        static FAILS: Cell<u32> = if TRIES.replace(TRIES.get() + 1) == 0 { panic!("on purpose") } else { Cell::new(3) };
        static TRIES: Cell<u32> = Cell::new(0);
        // What an initialiser has made for its own key stays.
        static AGAIN: Cell<u32> = {
            if TRIES.replace(9) != 9 { AGAIN.set(4); }
            Cell::new(5)
        };
    }
    on_each(|| {
        assert_eq!(OUTER.with(|outer| *outer), 2);
        assert!(catch_unwind(|| FAILS.get()).is_err());
        assert_eq!(FAILS.get(), 3);
        assert_eq!(AGAIN.get(), 4);
    });
}

#[test]
fn scopes() {
    on_each(|| {
        let held = Rc::new(1);
        SHARED.with_borrow_mut(|shared| shared.push(held.clone()));
        SHARED.with(|outer| {
            let said = SHARED.scope(RefCell::new(Vec::new()), || {
                SHARED.with_borrow_mut(|shared| shared.push(held.clone()));
                bast::task::yield_now();
                assert_eq!(outer.borrow().len(), 1, "the outer one is still there");
                SHARED.scope(RefCell::new(Vec::new()), || {
                    SHARED.with_borrow(|shared| assert!(shared.is_empty()));
                });
                assert_eq!(Rc::strong_count(&held), 3);
                "said"
            });
            assert_eq!(said, "said");
        });
        assert_eq!(Rc::strong_count(&held), 2, "the scope's is dropped");
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            COUNT.scope(Cell::new(3), || panic!("on purpose"));
        }));
        assert!(unwound.is_err());
        assert_eq!(COUNT.get(), 100, "as if the scope had never been");
    });
}

#[test]
fn inherited_by_choice() {
    on_each(|| {
        TRACE.set("request".to_owned());
        COUNT.set(1);
        let child = bast::spawn(|| {
            assert_eq!(COUNT.get(), 100);
            TRACE.with_borrow_mut(|trace| trace.push_str(", child"));
            let named = bast::task::Builder::new().name("grandchild");
            let grandchild = named.spawn(|| TRACE.take()).unwrap();
            let theirs = grandchild.join().unwrap();
            (theirs, TRACE.take(), LEVEL.get())
        });
        let own = "request, child".to_owned();
        assert_eq!(child.join().unwrap(), (own.clone(), own, 0));
        assert_eq!(TRACE.with_borrow(String::clone), "request", "a clone went");
        // In a scope, and by what is the task's at that moment.
        LEVEL.scope(Cell::new(3), || {
            bast::scope(|scope| {
                scope.spawn(|| assert_eq!((LEVEL.get(), TRACE.take().as_str()), (3, "request")));
            });
        });
        assert_eq!(bast::spawn(|| LEVEL.get()).join().unwrap(), 0);
    });
}

/// Tells when it goes, and what it finds then.
struct Last(Arc<AtomicUsize>, fn() -> Result<usize, AccessError>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.fetch_add(self.1().unwrap_or(1_000_000), Relaxed);
    }
}

bast::task_local! {
    static FIRST_MADE: RefCell<Option<Last>> = RefCell::new(None);
    static LAST_MADE: RefCell<Option<Last>> = RefCell::new(None);
    static LATE: Cell<usize> = Cell::new(30);
}

#[test]
fn values_go_at_the_tasks_end_before_it_is_joined() {
    on_each(|| {
        let sum = Arc::new(AtomicUsize::new(0));
        let (first, last) = (sum.clone(), sum.clone());
        let task = bast::spawn(move || {
            FIRST_MADE.set(Some(Last(first, || {
                bast::task::yield_now(); // a destructor may park
                assert_eq!(LATE.try_with(Cell::get), Ok(30), "made by a destructor");
                LAST_MADE.try_with(|_| 1)
            })));
            LAST_MADE.set(Some(Last(last, || FIRST_MADE.try_with(|_| 1))));
        });
        task.join().unwrap();
        assert_eq!(
            sum.load(Relaxed),
            1_000_001,
            "the last one found the first, the first did not find the last"
        );
    });
}

#[test]
fn a_panic_in_a_destructor_is_its_own() {
    struct Fails;
    impl Drop for Fails {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    bast::task_local! {
        static FAILS: RefCell<Option<Fails>> = RefCell::new(None);
    }
    on_each(|| {
        let sum = Arc::new(AtomicUsize::new(0));
        let ours = sum.clone();
        let task = bast::spawn(move || {
            FIRST_MADE.set(Some(Last(ours, || Ok(1))));
            FAILS.set(Some(Fails));
            "result"
        });
        assert_eq!(task.join().unwrap(), "result");
        assert_eq!(sum.load(Relaxed), 1);
    });
}

/// The destructor of a result runs when the task's values are gone; so does one in a task that panics.
#[test]
fn results_outlive_the_values() {
    on_each(|| {
        let sum = Arc::new(AtomicUsize::new(0));
        let ours = sum.clone();
        let (sender, receiver) = channel::bounded::<()>(0);
        let task = bast::spawn(move || {
            COUNT.set(2);
            receiver.recv().unwrap_err();
            Last(ours, || COUNT.try_with(Cell::get))
        });
        drop(task); // the result is dropped in the task
        drop(sender);
        util::wait_for(|| sum.load(Relaxed) == 1_000_000);
        let ours = sum.clone();
        let task = bast::spawn(move || {
            FIRST_MADE.set(Some(Last(ours, || Ok(1))));
            panic!("on purpose");
        });
        assert!(task.join().unwrap_err().is_panic());
        assert_eq!(sum.load(Relaxed), 1_000_001);
    });
}

#[test]
fn plain_threads_have_values_of_their_own() {
    let sum = Arc::new(AtomicUsize::new(0));
    let ours = sum.clone();
    COUNT.set(55);
    std::thread::spawn(move || {
        assert_eq!(COUNT.get(), 100);
        COUNT.set(56);
        FIRST_MADE.set(Some(Last(ours, || Ok(1))));
        TRACE.set("thread".to_owned());
        let runtime = start_with(1);
        // A task is not its thread, and a thread hands nothing on.
        let in_task = runtime.run(|| (COUNT.get(), TRACE.take()));
        assert_eq!(in_task, (100, "none".to_owned()));
        assert_eq!(COUNT.get(), 56);
    })
    .join()
    .unwrap();
    assert_eq!(COUNT.get(), 55);
    assert_eq!(sum.load(Relaxed), 1, "gone with the thread");
}

/// What a task has inherited goes with it also if it never runs.
#[test]
fn a_task_that_never_runs() {
    #[derive(Clone)]
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    bast::task_local! {
        inherit static HELD: RefCell<Option<Counted>> = RefCell::new(None);
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let ours = Counted(dropped.clone());
    let never = start_with(1).run(move || {
        HELD.set(Some(ours));
        bast::spawn(|| bast::time::sleep(Duration::from_secs(1_000)))
    });
    drop(never);
    let seen = dropped.load(Relaxed);
    assert!(
        seen == 2 || (seen == 1 && Arc::strong_count(&dropped) == 2),
        "{seen}: begun and leaked, or dropped"
    );
}
