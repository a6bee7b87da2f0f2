//! Models of the condition variable (`runtime/src/sync/condvar.rs`). What each proves is in the README here.
//!
//! A notification that is lost is a deadlock, which loom reports.
#![cfg(bast_loom)]

use bast::sync::{Condvar, Mutex};
use loom::sync::Arc;
use loom::thread;
use std::time::Duration;

type Pair = Arc<(Mutex<u32>, Condvar)>;

fn pair() -> Pair {
    Arc::new((Mutex::new(0), Condvar::new()))
}

fn spawn(pair: &Pair, f: impl FnOnce(&(Mutex<u32>, Condvar)) + 'static) -> thread::JoinHandle<()> {
    let pair = pair.clone();
    thread::spawn(move || f(&pair))
}

/// Takes an item, waiting until there is one.
fn take((items, changed): &(Mutex<u32>, Condvar)) {
    let held = items.lock().unwrap();
    *changed.wait_while(held, |items| *items == 0).unwrap() -= 1;
}

/// Planted: `condvar_unlock_first` frees the mutex before the waiter is in the queue.
#[test]
fn a_notification_is_not_lost() {
    loom::model(|| {
        let pair = pair();
        let taker = spawn(&pair, take);
        *pair.0.lock().unwrap() += 1;
        pair.1.notify_one(); // after the mutex was freed
        taker.join().unwrap();
        assert_eq!(*pair.0.lock().unwrap(), 0);
    });
}

/// Planted: `condvar_forget_the_rest` (who takes one waiter out says that nobody is left).
#[test]
fn two_takers_two_notifications() {
    loom::model(|| {
        let pair = pair();
        let takers = [spawn(&pair, take), spawn(&pair, take)];
        for _ in 0..2 {
            let mut held = pair.0.lock().unwrap();
            *held += 1;
            pair.1.notify_one(); // while it is held
        }
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(*pair.0.lock().unwrap(), 0);
    });
}

#[test]
fn all_are_woken() {
    loom::model(|| {
        let pair = pair();
        let takers = [spawn(&pair, take), spawn(&pair, take)];
        *pair.0.lock().unwrap() += 2;
        pair.1.notify_all();
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(*pair.0.lock().unwrap(), 0);
    });
}

/// One whose time is over has either been notified, and passes it on, or the notification goes to the other.
#[test]
fn one_gives_up() {
    loom::model(|| {
        let pair = pair();
        let patient = spawn(&pair, take);
        let hasty = spawn(&pair, |(items, changed)| {
            let held = items.lock().unwrap();
            let (held, result) = changed.wait_timeout(held, Duration::ZERO).unwrap();
            drop(held);
            if !result.timed_out() {
                changed.notify_one();
            }
        });
        *pair.0.lock().unwrap() += 1;
        pair.1.notify_one();
        patient.join().unwrap();
        hasty.join().unwrap();
        assert_eq!(*pair.0.lock().unwrap(), 0);
    });
}
