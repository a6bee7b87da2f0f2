//! The models: loom tries every interleaving of each. Those of the bugs must fail, and say why.
//!
//! ```sh
//! RUSTFLAGS="--cfg bast_loom" LOOM_MAX_PREEMPTIONS=2 cargo test --release -p bast-user-example
//! ```
#![cfg(bast_loom)]

use bast::sync::channel;
use bast_user_example::{Account, Visits, sum, sum_buggy, transfer, transfer_buggy};
use std::sync::Arc;

/// Two visits at once.
fn two_visits(visit: fn(&Visits)) {
    loom::model(move || {
        let visits = Arc::new(Visits::new());
        let other = visits.clone();
        let task = bast::spawn(move || visit(&other));
        visit(&visits);
        task.join().unwrap();
        assert_eq!(visits.count(), 2, "an update was lost");
    });
}

#[test]
#[should_panic(expected = "an update was lost")]
fn finds_the_lost_update() {
    two_visits(Visits::visit_buggy);
}

#[test]
fn no_update_is_lost() {
    two_visits(Visits::visit);
}

/// Two transfers in opposite directions.
fn two_transfers(transfer: fn(&Account, &Account, i64)) {
    loom::model(move || {
        let accounts = Arc::new([Account::new(1, 100), Account::new(2, 100)]);
        let other = accounts.clone();
        let task = bast::spawn(move || transfer(&other[1], &other[0], 30));
        transfer(&accounts[0], &accounts[1], 50);
        task.join().unwrap();
        assert_eq!([accounts[0].balance(), accounts[1].balance()], [80, 120]);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn finds_the_deadlock() {
    two_transfers(transfer_buggy);
}

#[test]
fn transfers_do_not_deadlock() {
    two_transfers(transfer);
}

type Sum = fn(&channel::Receiver<u64>, &channel::Receiver<()>, &channel::Sender<u64>);

/// Two values, and then a stop.
fn values_and_a_stop(sum: Sum) {
    loom::model(move || {
        let (values, to_add) = channel::unbounded();
        let (stop, stopped) = channel::bounded(1);
        let (result, total) = channel::rendezvous();
        let task = bast::spawn(move || sum(&to_add, &stopped, &result));
        values.send(1).unwrap();
        values.send(2).unwrap();
        stop.send(()).unwrap();
        assert_eq!(total.recv(), Ok(3), "a value was forgotten");
        task.join().unwrap();
        drop(values);
    });
}

#[test]
#[should_panic(expected = "a value was forgotten")]
fn finds_the_forgotten_value() {
    values_and_a_stop(sum_buggy);
}

#[test]
fn no_value_is_forgotten() {
    values_and_a_stop(sum);
}

/// Each waits for what the other sends afterwards.
#[test]
#[should_panic(expected = "deadlock")]
fn finds_a_deadlock_of_channels() {
    loom::model(|| {
        let (there, here) = (channel::bounded(1), channel::bounded(1));
        let task = bast::spawn(move || {
            let value: u32 = here.1.recv().unwrap();
            there.0.send(value).unwrap();
        });
        let value = there.1.recv().unwrap();
        here.0.send(value).unwrap();
        task.join().unwrap();
    });
}

/// What else has the same names: parking, awaiting, locks with conditions.
#[test]
fn the_rest_of_the_names() {
    loom::model(|| {
        let task = bast::spawn(|| {
            bast::task::park();
            bast::task::current().id()
        });
        task.task().unpark();
        let id = task.id();
        assert_eq!(bast::block_on(task).unwrap(), id);
    });
}
