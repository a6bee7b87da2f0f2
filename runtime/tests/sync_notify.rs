//! The bell: kept permits, all at once, and listeners that began before they looked.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::{Mutex, Notify};
use bast::time::timeout;
use chan_util::{LONG, SHORT, everywhere, on_each, settle, wait_for};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::Duration;

#[test]
fn one_permit_is_kept() {
    everywhere(|_| {
        let notify = Notify::new();
        assert!(notify.wait_timeout(SHORT).is_err());
        notify.notify_one();
        notify.notify_one();
        notify.wait();
        assert!(notify.wait_timeout(SHORT).is_err(), "two make one permit");
        notify.notify_waiters();
        assert!(
            notify.wait_timeout(SHORT).is_err(),
            "nobody waited, so nothing is kept"
        );
    });
}

/// Who looks, finds nothing and waits misses nothing: every item is found.
#[test]
fn a_mailbox() {
    everywhere(|go| {
        let each = go.rounds(2_000);
        let inbox = Arc::new((Mutex::new(VecDeque::new()), Notify::new()));
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let inbox = inbox.clone();
                go.spawn(move || {
                    for item in 0..each {
                        inbox.0.lock().unwrap().push_back(sender * each + item);
                        inbox.1.notify_one();
                    }
                })
            })
            .collect();
        let mut sum = 0;
        let mut left = 3 * each;
        while left > 0 {
            let batch = std::mem::take(&mut *inbox.0.lock().unwrap());
            if batch.is_empty() {
                inbox.1.wait();
            }
            left -= batch.len();
            sum += batch.into_iter().sum::<usize>();
        }
        senders.into_iter().for_each(|party| party.join());
        assert_eq!(sum, (0..3 * each).sum());
    });
}

#[test]
fn one_wakes_one_and_all_wake_all() {
    everywhere(|go| {
        let shared = Arc::new((Notify::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let parties: Vec<_> = (0..6)
            .map(|_| {
                let shared = shared.clone();
                go.spawn(move || {
                    let notified = shared.0.notified();
                    shared.1.fetch_add(1, SeqCst);
                    notified.wait();
                    shared.2.fetch_add(1, SeqCst);
                })
            })
            .collect();
        wait_for(|| shared.1.load(SeqCst) == 6);
        for woken in 1..=2 {
            shared.0.notify_one();
            wait_for(|| shared.2.load(SeqCst) >= woken);
            settle();
            assert_eq!(shared.2.load(SeqCst), woken);
        }
        // All have begun to listen, so none misses it, whether it waits already or not.
        shared.0.notify_waiters();
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(shared.2.load(SeqCst), 6);
    });
}

#[test]
fn a_listener_misses_nothing_since_it_began() {
    everywhere(|_| {
        let notify = Notify::new();
        let before = notify.notified();
        notify.notify_waiters();
        before.wait();
        let after = notify.notified();
        assert!(after.wait_timeout(SHORT).is_err());
    });
}

/// A permit that comes at the last moment is used or kept, never lost.
#[test]
fn time_limits_race_with_notifications() {
    everywhere(|go| {
        let rounds = go.rounds(500);
        let shared = Arc::new((Notify::new(), AtomicUsize::new(0), AtomicBool::new(false)));
        let waiter = {
            let shared = shared.clone();
            go.spawn(move || {
                let mut got = 0;
                for round in 0.. {
                    let limit = Duration::from_micros(round * 7 % 60);
                    if shared.0.wait_timeout(limit).is_ok() {
                        got += 1;
                        shared.1.store(got, SeqCst);
                    } else if shared.2.load(SeqCst) {
                        break;
                    }
                }
                got
            })
        };
        for sent in 1..=rounds {
            shared.0.notify_one();
            wait_for_count(&shared.1, sent);
        }
        shared.2.store(true, SeqCst);
        assert_eq!(waiter.join(), rounds);
    });
}

fn wait_for_count(count: &AtomicUsize, wanted: usize) {
    while count.load(SeqCst) < wanted {
        bast::task::yield_now();
    }
}

#[test]
fn a_timeout_around_it_bounds_the_calls_that_can_say_so() {
    on_each(|| {
        let notify = Arc::new(Notify::new());
        let other = notify.clone();
        let ended = timeout(SHORT, || {
            assert!(notify.wait_timeout(LONG).is_err());
            let bell = bast::spawn(move || other.notify_one());
            notify.wait();
            bell
        });
        ended.unwrap_err().into_inner().join().unwrap();
    });
}
