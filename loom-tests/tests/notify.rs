//! Models of `Notify` and `Barrier` (`runtime/src/sync`), which keep all their state under one lock. What each proves is in
//! the README here. A wake-up that is lost is a deadlock.
#![cfg(bast_loom)]

use bast::sync::{Barrier, Mutex, Notify};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;
use std::time::Duration;

/// Planted: `notify_keep_nothing` loses a notification that comes between the look and the wait.
#[test]
fn a_look_and_then_a_wait() {
    loom::model(|| {
        let inbox = Arc::new((Mutex::new(0), Notify::new()));
        let sender = inbox.clone();
        let sender = thread::spawn(move || {
            *sender.0.lock().unwrap() = 7;
            sender.1.notify_one();
        });
        while *inbox.0.lock().unwrap() == 0 {
            inbox.1.wait();
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_listener_that_began_in_time_misses_nothing() {
    loom::model(|| {
        let shared = Arc::new((AtomicUsize::new(0), Notify::new()));
        let bell = shared.clone();
        let bell = thread::spawn(move || {
            bell.0.store(1, Relaxed);
            bell.1.notify_waiters();
        });
        let notified = shared.1.notified();
        if shared.0.load(Relaxed) == 0 {
            notified.wait();
        }
        bell.join().unwrap();
    });
}

/// A notification meets a wait whose time is over: it ends the wait, or it is kept for the next.
#[test]
fn a_notification_meets_a_time_limit() {
    loom::model(|| {
        let notify = Arc::new(Notify::new());
        let bell = notify.clone();
        let bell = thread::spawn(move || bell.notify_one());
        if notify.wait_timeout(Duration::ZERO).is_err() {
            notify.wait();
        }
        bell.join().unwrap();
        assert!(notify.wait_timeout(Duration::ZERO).is_err(), "it counted twice");
    });
}

#[test]
fn three_meet_twice() {
    loom::model(|| {
        let barrier = Arc::new(Barrier::new(3));
        let leaders = Arc::new(AtomicUsize::new(0));
        let meet = |barrier: &Barrier, leaders: &AtomicUsize| {
            for _ in 0..2 {
                leaders.fetch_add(usize::from(barrier.wait().is_leader()), Relaxed);
            }
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (barrier, leaders) = (barrier.clone(), leaders.clone());
                thread::spawn(move || meet(&barrier, &leaders))
            })
            .collect();
        meet(&barrier, &leaders);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(leaders.load(Relaxed), 2);
    });
}
