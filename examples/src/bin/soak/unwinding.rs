//! Blocking sections and panics: where a task and its thread are tied together for a while.

use bast::task::{park, yield_now};
use bast_examples::stress::ledger::Planned;
use bast_examples::stress::tools::{Ground, Latch, Rng, expect_planned};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Sections that sleep, wait for other tasks in std's ways, call back into the runtime, and panic.
pub(crate) fn blocking(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(12);
    ground.kind.start(count);
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let (how, time) = (rng.below(5), rng.micros_below(1500));
            bast::spawn(move || {
                match how {
                    0 => bast::blocking(|| std::thread::sleep(time)),
                    1 => waits_for_a_task(ground, number),
                    2 => calls_back(ground, number),
                    3 => panics_inside(ground, number),
                    _ => {
                        let text = bast::blocking(|| std::fs::read_to_string("/proc/self/comm"));
                        ground.check(text.is_ok_and(|text| !text.is_empty()), || {
                            "no file was read".to_owned()
                        });
                    }
                }
                ground.kind.finish(1);
                number
            })
        })
        .collect();
    let sum: u64 = tasks
        .into_iter()
        .map(|task| ground.must(task.join(), "join"))
        .sum();
    ground.same(sum, count * (count - 1) / 2, "sum of the tasks");
}

fn waits_for_a_task(ground: Ground, number: u64) {
    let (tell, told) = mpsc::channel();
    let teller = bast::spawn(move || tell.send(number).is_ok());
    let heard = bast::blocking(move || told.recv());
    ground.same(heard, Ok(number), "what the other task said");
    ground.check(ground.must(teller.join(), "join"), || {
        "the teller was not heard".to_owned()
    });
}

fn calls_back(ground: Ground, number: u64) {
    let value = bast::blocking(|| {
        let task = bast::spawn(move || number);
        std::thread::yield_now();
        task.join()
    });
    ground.same(ground.must(value, "join"), number, "a task made in a section");
}

fn panics_inside(ground: Ground, number: u64) {
    let caught = catch_unwind(|| bast::blocking(|| panic_any(Planned(number))));
    let payload = caught.expect_err("it always panics");
    ground.same(
        payload.downcast_ref::<Planned>().map(|planned| planned.0),
        Some(number),
        "payload",
    );
    yield_now();
}

/// Calls its function when it is dropped, here while a panic unwinds.
#[derive(Debug)]
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Panics that end their task, or are caught in it, or go on in its parent.
pub(crate) fn panics(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(60);
    ground.kind.start(count);
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let how = rng.below(3);
            let body = move || {
                ground.kind.finish(1);
                match how {
                    0 => panic_any(Planned(number)),
                    1 => {
                        let caught = catch_unwind(|| panic_any(Planned(number)));
                        yield_now();
                        ground.check(!std::thread::panicking(), || {
                            "caught, and still panicking".to_owned()
                        });
                        caught.map_or_else(|payload| resume_unwind(payload), |()| number)
                    }
                    _ => {
                        let child = bast::spawn(move || panic_any(Planned(number)));
                        child
                            .join()
                            .map_or_else(|error| resume_unwind(error.into_panic()), |()| number)
                    }
                }
            };
            (number, bast::spawn(body))
        })
        .collect();
    for (number, task) in tasks {
        expect_planned(ground, task.join(), number);
    }
}

/// Destructors that park in every way while a panic unwinds their task.
pub(crate) fn parks_while_unwinding(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(8);
    ground.kind.start(count);
    let latch = Latch::new(count as usize);
    let dropped = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let (latch, dropped, mut rng) = (latch.clone(), Arc::clone(&dropped), rng.split());
            let caught = rng.one_in(3);
            let body = move || {
                let guard = OnDrop(move || {
                    wait_somehow(ground, number, &mut rng);
                    dropped.fetch_add(number, Ordering::Relaxed);
                    ground.kind.finish(1);
                    latch.arrive();
                });
                if !caught {
                    let _guard = guard;
                    panic_any(Planned(number));
                }
                let result = catch_unwind(AssertUnwindSafe(move || {
                    let _guard = guard;
                    panic_any(Planned(number))
                }));
                park_and_be_woken(ground); // tied to its thread no longer
                let Err(payload) = result;
                resume_unwind(payload)
            };
            (number, bast::spawn(body))
        })
        .collect::<Vec<(u64, bast::JoinHandle<()>)>>();
    latch.wait();
    for (number, task) in tasks {
        expect_planned(ground, task.join(), number);
    }
    ground.same(
        dropped.load(Ordering::Relaxed),
        count * (count - 1) / 2,
        "sum of the destructors",
    );
}

fn wait_somehow(ground: Ground, number: u64, rng: &mut Rng) {
    ground.check(std::thread::panicking(), || {
        "a task unwinds on another thread than it panicked on".to_owned()
    });
    let thread = std::thread::current().id();
    match rng.below(6) {
        0 => bast::time::sleep(rng.micros_below(3000)),
        1 => park_and_be_woken(ground),
        2 => {
            let child = bast::spawn(move || {
                yield_now();
                number
            });
            ground.same(
                ground.must(child.join(), "join"),
                number,
                "a child joined in a destructor",
            );
        }
        3 => bast::blocking(|| std::thread::sleep(Duration::from_micros(200))),
        4 => (0..5).for_each(|_| yield_now()),
        _ => {
            let cut = bast::time::timeout(Duration::from_micros(300), || {
                bast::time::sleep(Duration::from_secs(3600))
            });
            ground.check(cut.is_err(), || {
                "a timeout in a destructor did not elapse".to_owned()
            });
        }
    }
    ground.check(thread == std::thread::current().id(), || {
        "an unwinding task changed threads".to_owned()
    });
    ground.check(std::thread::panicking(), || {
        "the panic was lost in a park".to_owned()
    });
}

/// Parks until a child, or a thread, has set the flag.
fn park_and_be_woken(ground: Ground) {
    let flag = Arc::new(AtomicBool::new(false));
    let me = bast::task::current();
    let wake = {
        let flag = Arc::clone(&flag);
        move || {
            flag.store(true, Ordering::Release);
            me.unpark();
        }
    };
    if bast::task::current().id().as_u64().is_multiple_of(2) {
        drop(bast::spawn(wake));
    } else {
        ground.on_thread(wake);
    }
    while !flag.load(Ordering::Acquire) {
        park();
    }
}
