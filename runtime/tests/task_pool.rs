//! Pools: the bound on what runs and on what waits, and their end.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::task::{Builder, Pool, Priority, SubmitError, current, yield_now};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use util::{Gate, Watchdog, in_good_child, on_each, run_on, start_with, wait_for};

/// Keeps `count` tasks of the pool busy until the gate opens.
fn occupy(pool: &Pool, count: usize) -> Arc<Gate> {
    let gate = Gate::new();
    let busy = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let (gate, busy) = (gate.clone(), busy.clone());
        pool.submit(move || {
            busy.fetch_add(1, AcqRel);
            gate.wait();
        })
        .unwrap();
    }
    wait_for(|| busy.load(Acquire) == count);
    gate
}

#[test]
fn every_job_runs_once_on_so_many_tasks_at_most() {
    on_each(|| {
        for (tasks, queue) in [(1, 0), (1, 1), (3, 0), (4, 16), (16, 1)] {
            let pool = Pool::new(tasks, queue).unwrap();
            let runs: Arc<Vec<AtomicUsize>> = Arc::new((0..200).map(|_| AtomicUsize::new(0)).collect());
            let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let ids = Arc::new(Mutex::new(HashSet::new()));
            for i in 0..runs.len() {
                let (runs, at_once, most, ids) = (runs.clone(), at_once.clone(), most.clone(), ids.clone());
                let job = move || {
                    most.fetch_max(at_once.fetch_add(1, AcqRel) + 1, AcqRel);
                    ids.lock().unwrap().insert(current().id());
                    (0..i % 4).for_each(|_| yield_now());
                    runs[i].fetch_add(1, Relaxed);
                    at_once.fetch_sub(1, AcqRel);
                };
                pool.submit(job).unwrap();
                assert!(pool.queued() <= queue);
            }
            pool.close();
            assert!(runs.iter().all(|count| count.load(Relaxed) == 1));
            assert!(
                most.load(Relaxed) <= tasks,
                "{most:?} jobs at once on {tasks} tasks"
            );
            assert!(ids.lock().unwrap().len() <= tasks, "the tasks are used again");
            assert_eq!((pool.tasks(), pool.queued(), pool.panics()), (tasks, 0, 0));
        }
    });
}

#[test]
fn a_full_queue_hands_the_job_back() {
    on_each(|| {
        let pool = Pool::new(2, 3).unwrap();
        let gate = occupy(&pool, 2);
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let ran = ran.clone();
            pool.try_submit(move || _ = ran.fetch_add(1, Relaxed)).unwrap();
        }
        assert_eq!(pool.queued(), 3);
        let told = ran.clone();
        let kept = [7_u64; 20]; // too large for a header, and moved back whole
        let job = move || {
            assert_eq!(kept, [7; 20]);
            told.fetch_add(10, Relaxed);
        };
        let error = pool.try_submit(job).unwrap_err();
        assert!(error.is_full(), "{error}");
        let error = pool
            .submit_timeout(error.into_inner(), Duration::from_millis(1))
            .unwrap_err();
        assert!(error.is_timeout(), "{error}");
        let job = error.into_inner();
        let late = bast::time::timeout(Duration::from_millis(1), || pool.submit(job).map_err(Box::new));
        let Err(SubmitError::TimedOut(job)) = late.unwrap_err().into_inner().map_err(|error| *error) else {
            panic!("the deadline is not seen, or taken for a closed pool")
        };
        job();
        assert_eq!(ran.load(Relaxed), 10);
        gate.open();
        pool.close();
        assert_eq!(ran.load(Relaxed), 13);
    });
}

/// Without a queue a job goes to a task that waits, or back.
#[test]
fn a_pool_without_a_queue() {
    on_each(|| {
        let pool = Pool::new(1, 0).unwrap();
        let gate = occupy(&pool, 1);
        assert!(pool.try_submit(|| ()).unwrap_err().is_full());
        gate.open();
        wait_for(|| pool.try_submit(|| ()).is_ok());
        pool.close();
    });
}

#[test]
fn submitters_wait_for_room_and_come_in_order() {
    run_on(2, || {
        let pool = Arc::new(Pool::new(1, 1).unwrap());
        let gate = occupy(&pool, 1);
        pool.submit(|| ()).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let submitters: Vec<_> = (0..5)
            .map(|i| {
                let (pool, order) = (pool.clone(), order.clone());
                let task = bast::spawn(move || pool.submit(move || order.lock().unwrap().push(i)).unwrap());
                bast::time::sleep(Duration::from_millis(5)); // so that they wait in this order
                assert!(!task.is_finished());
                task
            })
            .collect();
        gate.open();
        submitters.into_iter().for_each(|task| task.join().unwrap());
        pool.close();
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_job_that_panics_costs_no_task() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("a payload's drop");
        }
    }
    on_each(|| {
        let pool = Pool::new(2, 4).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        for i in 0..50 {
            let ran = ran.clone();
            pool.submit(move || match i % 3 {
                0 => panic!("a job"),
                1 if i == 1 => std::panic::panic_any(PanicsInDrop),
                _ => _ = ran.fetch_add(1, Relaxed),
            })
            .unwrap();
        }
        pool.close();
        assert_eq!((pool.panics(), ran.load(Relaxed)), (18, 32));
    });
}

#[test]
fn closing_runs_what_is_queued_and_refuses_the_rest() {
    on_each(|| {
        let pool = Arc::new(Pool::new(2, 100).unwrap());
        let gate = occupy(&pool, 2);
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let ran = ran.clone();
            pool.submit(move || _ = ran.fetch_add(1, Relaxed)).unwrap();
        }
        let waiting = {
            let pool = pool.clone();
            bast::spawn(move || {
                pool.submit(|| unreachable!("taken by a closed pool"))
                    .is_err_and(|error| error.is_closed())
            })
        };
        bast::time::sleep(Duration::from_millis(1));
        let closers: Vec<_> = (0..3)
            .map(|_| {
                let (pool, ran) = (pool.clone(), ran.clone());
                bast::spawn(move || {
                    pool.close();
                    ran.load(Relaxed)
                })
            })
            .collect();
        assert!(waiting.join().unwrap(), "a submitter waits on a closed pool");
        assert!(pool.close_timeout(Duration::from_millis(1)).is_err());
        assert!(pool.try_submit(|| ()).unwrap_err().is_closed());
        gate.open();
        for closer in closers {
            assert_eq!(closer.join().unwrap(), 100);
        }
        pool.close_timeout(Duration::ZERO).unwrap();
    });
}

#[test]
fn a_dropped_pool_runs_what_is_queued() {
    on_each(|| {
        let pool = Pool::new(1, 10).unwrap();
        let gate = occupy(&pool, 1);
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let ran = ran.clone();
            pool.submit(move || _ = ran.fetch_add(1, Relaxed)).unwrap();
        }
        drop(pool);
        assert_eq!(ran.load(Relaxed), 0);
        gate.open();
        wait_for(|| ran.load(Relaxed) == 10);
    });
}

#[test]
fn its_tasks_are_set_up_by_a_builder() {
    on_each(|| {
        let builder = Builder::new().name("crew").priority(Priority::Low);
        let pool = Pool::with(&builder, 2, 2).unwrap();
        let (told, seen) = bast::sync::channel::bounded(1);
        pool.submit(move || {
            let me = current();
            told.send((me.name().map(str::to_owned), me.priority())).unwrap();
        })
        .unwrap();
        assert_eq!(seen.recv().unwrap(), (Some("crew".to_owned()), Priority::Low));
        pool.close();
        let error = Pool::with(&Builder::new().stack_size(1 << 40), 2, 2).unwrap_err();
        assert!(error.to_string().contains("stack"), "{error}");
    });
    assert!(Pool::new(1, 1).unwrap_err().is_no_runtime());
}

#[test]
fn plain_threads_submit_and_close() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let pool = runtime.run(|| Pool::new(3, 2).unwrap());
        let ran = AtomicUsize::new(0);
        let total = Arc::new(ran);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..100 {
                        let total = total.clone();
                        pool.submit(move || _ = total.fetch_add(1, Relaxed)).unwrap();
                    }
                });
            }
        });
        pool.close();
        assert_eq!(total.load(Relaxed), 400);
    }
}

/// A pool that is not closed before its runtime ends: its tasks wait for jobs, so they are named.
#[test]
fn a_pool_that_outlives_its_runtime() {
    let name = "a_pool_that_outlives_its_runtime";
    let text = in_good_child(
        name,
        |_| {},
        || {
            let pool = run_on(2, || {
                let pool = Pool::with(&Builder::new().name("crew"), 2, 1).unwrap();
                occupy(&pool, 2).open();
                bast::time::sleep(Duration::from_millis(5));
                pool
            });
            pool.try_submit(|| unreachable!("no task is left")).ok();
            assert!(pool.close_timeout(Duration::from_millis(1)).is_err());
        },
    );
    assert!(
        text.contains("2 tasks have outlived") && text.contains("\"crew\""),
        "{text}"
    );
}
