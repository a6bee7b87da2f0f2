//! Panics of tasks that lose their processor before, while and after they unwind.

use super::hogs::burn;
use bast_examples::stress::ledger::Planned;
use bast_examples::stress::tools::{Ground, Rng, expect_planned};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::time::Duration;

/// Burns when it is dropped, here while a panic unwinds, and enters the task's end into the books.
#[derive(Debug)]
struct Ending(Ground, Duration);

impl Drop for Ending {
    fn drop(&mut self) {
        let Ending(ground, time) = *self;
        ground.check(std::thread::panicking(), || "dropped, and no panic".to_owned());
        burn(time);
        bast::task::checkpoint();
        ground.check(std::thread::panicking(), || "the panic was lost".to_owned());
        ground.kind.finish(1);
    }
}

/// Panics that end their task, at once or after it was caught and let go again.
pub(crate) fn panics(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(24);
    ground.kind.start(count);
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let caught_first = rng.one_in(2);
            let (before, after) = (long_or_short(rng), long_or_short(rng));
            let body = move || {
                ground.check(!std::thread::panicking(), || "begins with a panic".to_owned());
                burn(before);
                if caught_first {
                    caught(ground, number);
                }
                let _ending = Ending(ground, after);
                panic_any(Planned(number))
            };
            (number, bast::spawn(body))
        })
        .collect::<Vec<(u64, bast::JoinHandle<()>)>>();
    for (number, task) in tasks {
        expect_planned(ground, task.join(), number);
    }
}

fn long_or_short(rng: &mut Rng) -> Duration {
    let bound = if rng.one_in(6) { 25_000 } else { 300 };
    rng.micros_below(bound)
}

/// A panic within the calling task, caught twice.
pub(crate) fn caught(ground: Ground, number: u64) {
    let outer = catch_unwind(AssertUnwindSafe(|| {
        let inner = catch_unwind(|| panic_any(Planned(number)));
        let Err(payload) = inner;
        ground.check(!std::thread::panicking(), || {
            "caught, and still panicking".to_owned()
        });
        bast::task::yield_now();
        resume_unwind(payload)
    }));
    let Err(payload) = outer;
    ground.check(!std::thread::panicking(), || {
        "caught, and still panicking".to_owned()
    });
    let payload = payload.downcast_ref::<Planned>().map(|planned| planned.0);
    ground.same(payload, Some(number), "payload");
}
