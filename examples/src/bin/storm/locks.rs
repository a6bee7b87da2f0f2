//! The standard library's locks, held by tasks that burn until their processor is taken from them.

use bast_examples::stress::ledger::Planned;
use bast_examples::stress::tools::{Ground, Rng};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, mpsc};
use std::time::Duration;

/// What the tasks of a round fight for.
#[derive(Debug, Default)]
struct Fought {
    mutex: Mutex<u64>,
    changed: Condvar,
    shared: RwLock<(u64, u64)>,
    added: AtomicU64,
}

/// Mutex, RwLock, Condvar and channel of std, none of them announced; one task panics under the lock.
pub(crate) fn locks(ground: Ground, rng: &mut Rng) {
    let count = 2 + rng.below(12);
    ground.kind.start(count);
    let fought = Arc::new(Fought::default());
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let (fought, mut rng) = (Arc::clone(&fought), rng.split());
            bast::spawn(move || {
                for _ in 0..4 {
                    match rng.below(4) {
                        0 | 1 => add(&fought, &mut rng),
                        2 => look(ground, &fought, &mut rng),
                        _ => told(ground, number),
                    }
                    if rng.one_in(8) {
                        poison(ground, &fought);
                    }
                }
                ground.kind.finish(1);
            })
        })
        .collect();
    tasks
        .into_iter()
        .for_each(|task| ground.must(task.join(), "join"));
    let sum = *fought.mutex.lock().unwrap_or_else(PoisonError::into_inner);
    ground.same(
        sum,
        fought.added.load(Ordering::Relaxed),
        "what was added under the lock",
    );
}

fn hold(rng: &mut Rng) {
    if rng.one_in(4) {
        super::hogs::burn(rng.micros_below(12_000));
    } else if rng.one_in(4) {
        std::thread::sleep(rng.micros_below(3_000));
    }
}

fn add(fought: &Fought, rng: &mut Rng) {
    let mut sum = fought.mutex.lock().unwrap_or_else(PoisonError::into_inner);
    let before = *sum;
    hold(rng);
    *sum = before + 1; // nobody else was here
    fought.added.fetch_add(1, Ordering::Relaxed);
    fought.changed.notify_all();
    if rng.one_in(4) {
        let (guard, _) = fought
            .changed
            .wait_timeout(sum, Duration::from_millis(2))
            .unwrap_or_else(PoisonError::into_inner);
        sum = guard;
        *sum += 1;
        fought.added.fetch_add(1, Ordering::Relaxed);
    }
    drop(sum);
}

fn look(ground: Ground, fought: &Fought, rng: &mut Rng) {
    if rng.one_in(2) {
        let mut pair = fought.shared.write().unwrap_or_else(PoisonError::into_inner);
        pair.0 += 1;
        hold(rng);
        pair.1 += 1;
    } else {
        let pair = *fought.shared.read().unwrap_or_else(PoisonError::into_inner);
        ground.same(pair.0, pair.1, "both sides of a pair under a lock");
    }
}

/// A channel of std between two tasks, the receiver blocked in the kernel.
fn told(ground: Ground, number: u64) {
    let (tell, told) = mpsc::channel();
    let teller = bast::spawn(move || tell.send(number).is_ok());
    // std's channel parks by a thread-local, whose address the optimiser would else keep from one turn of our caller's
    // loop to the next, on another thread.
    let heard = bast::task::no_park(|| told.recv());
    ground.same(heard, Ok(number), "what the other task said");
    ground.same(ground.must(teller.join(), "join"), true, "the teller was heard");
}

/// A panic under the lock poisons it, whichever thread it began on.
fn poison(ground: Ground, fought: &Fought) {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _held = fought.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        super::hogs::burn(Duration::from_micros(100));
        panic_any(Planned(1))
    }));
    let Err(payload) = caught;
    ground.check(payload.is::<Planned>(), || {
        "another panic than planned".to_owned()
    });
    ground.check(fought.mutex.is_poisoned(), || {
        "a panic under the lock did not poison it".to_owned()
    });
}
