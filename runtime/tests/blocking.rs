//! Blocking sections: the processor goes to others for the time, and comes back.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use util::{Watchdog, on_each, run_on, start, wait_for};

/// A gate that blocks the thread.
#[derive(Default)]
struct Wall {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Wall {
    fn wait(&self) {
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

#[test]
fn others_run_meanwhile() {
    on_each(|| {
        let (tell, told) = mpsc::channel();
        let waits = bast::spawn(move || bast::blocking(|| told.recv().unwrap()));
        // Tasks, timers and sockets, all on what is left of the processors.
        for i in 0..50 {
            assert_eq!(bast::spawn(move || i).join().unwrap(), i);
        }
        bast::time::sleep(Duration::from_millis(1));
        let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connects = bast::spawn(move || bast::net::TcpStream::connect(address).unwrap());
        listener.accept().unwrap();
        connects.join().unwrap();
        tell.send(7).unwrap();
        assert_eq!(waits.join().unwrap(), 7);
    });
}

#[test]
fn more_blocked_than_processors() {
    const MANY: usize = 50;
    on_each(|| {
        let wall = Arc::new(Wall::default());
        let inside = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..MANY)
            .map(|i| {
                let (wall, inside) = (wall.clone(), inside.clone());
                bast::spawn(move || {
                    bast::blocking(|| {
                        inside.fetch_add(1, AcqRel);
                        wall.wait();
                        i
                    })
                })
            })
            .collect();
        wait_for(|| inside.load(Acquire) == MANY);
        assert_eq!(bast::spawn(|| 3).join().unwrap(), 3);
        wall.open();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), i);
        }
    });
}

#[test]
fn many_short_ones() {
    on_each(|| {
        let tasks: Vec<_> = (0..20_usize)
            .map(|i| {
                bast::spawn(move || {
                    (0..100_usize)
                        .map(|k| bast::blocking(|| std::hint::black_box(i * k)))
                        .sum::<usize>()
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), i * 4950);
        }
    });
}

#[test]
fn calls_into_bast_inside_a_section() {
    on_each(|| {
        let tasks: Vec<_> = (0..20_usize)
            .map(|i| {
                bast::spawn(move || {
                    bast::blocking(|| {
                        let child = bast::spawn(move || i * 2);
                        bast::task::yield_now();
                        bast::time::sleep(Duration::from_micros(100));
                        std::thread::sleep(Duration::from_micros(100));
                        bast::task::current().unpark();
                        bast::task::park();
                        child.join().unwrap()
                    })
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), i * 2);
        }
    });
}

#[test]
fn sections_nest() {
    fn nest(depth: usize) -> usize {
        match depth {
            0 => 0,
            _ => 1 + bast::blocking(|| nest(depth - 1)),
        }
    }
    on_each(|| {
        let tasks: Vec<_> = (0..20).map(|depth| bast::spawn(move || nest(depth))).collect();
        for (depth, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), depth);
        }
    });
}

#[test]
fn a_panic_inside_a_section() {
    on_each(|| {
        let tasks: Vec<_> = (0..50_usize)
            .map(|i| {
                bast::spawn(move || {
                    bast::blocking(|| {
                        if i % 2 == 0 {
                            resume_unwind(Box::new(i));
                        }
                        i
                    })
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            let got = task
                .join()
                .unwrap_or_else(|error| *error.into_panic().downcast().unwrap());
            assert_eq!(got, i);
        }
        // Caught in the task, which then goes on.
        let caught = std::panic::catch_unwind(|| bast::blocking(|| resume_unwind(Box::new("caught"))));
        assert!(caught.is_err());
        assert_eq!(bast::spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn a_task_that_ends_in_a_section_and_one_that_spawned_from_it() {
    on_each(|| {
        for _ in 0..50 {
            let task = bast::spawn(|| bast::blocking(|| bast::spawn(|| 9)));
            assert_eq!(task.join().unwrap().join().unwrap(), 9);
        }
    });
}

#[test]
fn outside_a_task_it_just_calls() {
    assert_eq!(bast::blocking(|| 5), 5);
    let thread = std::thread::spawn(|| bast::blocking(|| bast::blocking(|| 6)));
    assert_eq!(thread.join().unwrap(), 6);
}

/// Handing the processor off is counted, and it does happen.
#[test]
fn hand_offs_are_counted() {
    let runtime = start(bast::Builder::new().processors(1));
    let _watchdog = Watchdog::start("1 processor", Some(runtime.handle()));
    runtime.run(|| (0..10).for_each(|_| bast::blocking(|| ())));
    assert_eq!(runtime.metrics().handoffs, 10);
}

/// Above the limit a worker is not started: it is said, once, and what waits runs when a section ends.
#[test]
fn the_limit_is_named_and_nothing_is_lost() {
    let name = "the_limit_is_named_and_nothing_is_lost";
    let text = util::in_good_child(
        name,
        |_| {},
        || {
            for (processors, most) in [(1, 0), (1, 1), (2, 3)] {
                let runtime = start(
                    bast::Builder::new()
                        .processors(processors)
                        .blocked_workers_max(most)
                        .slice(Duration::from_secs(3_600)), // who computes at the limit is held, and makes room
                );
                let wall = Arc::new(Wall::default());
                let inside = Arc::new(AtomicUsize::new(0));
                let tasks: Vec<_> = (0..10)
                    .map(|i| {
                        let (wall, inside) = (wall.clone(), inside.clone());
                        runtime
                            .spawn(move || {
                                bast::blocking(|| {
                                    inside.fetch_add(1, AcqRel);
                                    wall.wait();
                                });
                                bast::time::sleep(Duration::from_micros(100));
                                i
                            })
                            .unwrap()
                    })
                    .collect();
                wait_for(|| inside.load(Acquire) == processors + most);
                std::thread::sleep(Duration::from_millis(20)); // no more come
                assert_eq!(inside.load(Acquire), processors + most);
                let late = runtime.spawn(|| 5).unwrap();
                wall.open();
                for (i, task) in tasks.into_iter().enumerate() {
                    assert_eq!(task.join().unwrap(), i);
                }
                assert_eq!(late.join().unwrap(), 5);
            }
        },
    );
    assert!(text.contains("Builder::blocked_workers_max(0)"), "{text}");
    assert!(text.contains("raise it"), "{text}");
    assert_eq!(
        text.matches("Builder::blocked_workers_max(0)").count(),
        1,
        "said once a runtime:\n{text}"
    );
}

/// Blocked workers go to sleep when their section is over, and serve again: the number of threads does not grow.
#[test]
fn threads_are_used_again() {
    run_on(2, || {
        let rounds = |count: usize| {
            for _ in 0..count {
                let tasks: Vec<_> = (0..10)
                    .map(|_| {
                        bast::spawn(|| bast::blocking(|| std::thread::sleep(Duration::from_micros(500))))
                    })
                    .collect();
                tasks.into_iter().for_each(|task| task.join().unwrap());
            }
        };
        rounds(50);
    });
    let runtime = start(bast::Builder::new().processors(1));
    let _watchdog = Watchdog::start("1 processor", Some(runtime.handle()));
    for _ in 0..200 {
        runtime.run(|| bast::blocking(|| ()));
    }
    let workers = runtime.metrics().workers;
    assert!(workers <= 4, "{workers} workers for one section at a time");
}
