//! Models of waiting on several channels (`runtime/src/sync/select.rs`). What each proves is in the README here.
//!
//! Channels carry numbers; what was sent is what was received and what is left. That a value is seen by its receiver is
//! for the models of channels; here it is one winner, nothing consumed by losers, and nobody left asleep. A case that
//! waits still, when its select has returned, is reported by its node as it goes.
#![cfg(bast_loom)]

use bast::select;
use bast::sync::channel::{self, Receiver, RecvError, Sender};
use loom::thread;
use std::time::Duration;

type Ends = (Sender<u32>, Receiver<u32>);

/// Runs a model without buffers, and with one place.
fn each_capacity(model: impl Fn(fn() -> Ends) + Send + Sync + 'static) {
    let model = std::sync::Arc::new(model);
    for make in [channel::rendezvous as fn() -> Ends, || channel::bounded(1)] {
        let model = model.clone();
        loom::model(move || model(make));
    }
}

/// One value from either.
fn either(first: &Receiver<u32>, second: &Receiver<u32>) -> Result<u32, RecvError> {
    select! {
        recv(first) -> value => value,
        recv(second) -> value => value,
    }
}

/// Planted: `select_wait_blindly` (what came between the look and the wait is slept over).
#[test]
fn one_case_wins_and_the_other_loses_nothing() {
    each_capacity(|make| {
        let ((to_first, first), (to_second, second)) = (make(), make());
        let sending = [(to_first, 1), (to_second, 2)]
            .map(|(sender, value)| thread::spawn(move || sender.send(value).unwrap()));
        let won = either(&first, &second).unwrap();
        let left = if won == 1 { &second } else { &first };
        assert_eq!(won + left.recv().unwrap(), 3);
        assert!(first.recv().is_err() && second.recv().is_err(), "nothing is left");
        sending.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

/// Two that select on the same channels in opposite order. Planted: `select_unordered` (each holds the lock that the
/// other wants).
#[test]
fn two_selects_in_opposite_order() {
    each_capacity(|make| {
        let ((to_first, first), (to_second, second)) = (make(), make());
        let other = (second.clone(), first.clone());
        let other = thread::spawn(move || either(&other.0, &other.1).unwrap());
        let sending = thread::spawn(move || {
            to_first.send(1).unwrap();
            to_second.send(2).unwrap();
            (to_first, to_second) // a channel that is closed is ready too
        });
        let mine = either(&first, &second).unwrap();
        assert_eq!(mine + other.join().unwrap(), 3, "each value goes to one of them");
        drop(sending.join().unwrap());
    });
}

/// Two selects that each send to the other or receive from it: they agree on one of the two.
#[test]
fn two_selects_serve_each_other() {
    loom::model(|| {
        let (there, here) = (channel::rendezvous(), channel::rendezvous());
        let theirs = (here.0.clone(), there.1.clone());
        let other = thread::spawn(move || {
            select! {
                send(theirs.0, 1) -> sent => { sent.unwrap(); 0 }
                recv(theirs.1) -> value => value.unwrap(),
            }
        });
        let mine = select! {
            send(there.0, 2) -> sent => { sent.unwrap(); 0 }
            recv(here.1) -> value => value.unwrap(),
        };
        let other = other.join().unwrap();
        assert!((mine, other) == (1, 0) || (mine, other) == (0, 2));
    });
}

/// A select that sends on two channels sends its value on one.
#[test]
fn a_value_is_sent_once() {
    each_capacity(|make| {
        let ((to_first, first), (to_second, second)) = (make(), make());
        let receiving = [first, second].map(|receiver| thread::spawn(move || receiver.iter().sum::<u32>()));
        let sent = select! {
            send(to_first, 1) -> sent => { sent.unwrap(); 1 }
            send(to_second, 2) -> sent => { sent.unwrap(); 2 }
        };
        drop((to_first, to_second));
        let received: u32 = receiving
            .into_iter()
            .map(|receiver| receiver.join().unwrap())
            .sum();
        assert_eq!(received, sent);
    });
}

/// Planted: `select_lock_twice` (it waits for a lock that it holds).
#[test]
fn one_channel_in_two_cases() {
    each_capacity(|make| {
        let (sender, receiver) = make();
        let sending = thread::spawn(move || {
            sender.send(1).unwrap();
            sender.send(2).unwrap();
        });
        assert_eq!(either(&receiver, &receiver), Ok(1));
        assert_eq!(either(&receiver, &receiver), Ok(2));
        assert_eq!(either(&receiver, &receiver), Err(RecvError));
        sending.join().unwrap();
    });
}

/// A default is taken only if nothing was there, and takes nothing along.
#[test]
fn a_default_loses_nothing() {
    each_capacity(|make| {
        let ((to_first, first), (to_second, second)) = (make(), make());
        let sending = thread::spawn(move || {
            to_first.send(1).unwrap();
            to_second.send(2).unwrap();
        });
        let early = select! {
            recv(second) -> value => value.unwrap(),
            recv(first) -> value => value.unwrap(),
            default => 0,
        };
        // Both were sent one after the other, so 2 cannot have been there before 1 was received or lay in its channel.
        let late = match early {
            0 => first.recv().unwrap() + second.recv().unwrap(),
            1 => second.recv().unwrap(),
            _ => first.recv().unwrap(),
        };
        assert_eq!(early + late, 3);
        sending.join().unwrap();
    });
}

/// The same for one whose time is over when it has begun to wait.
#[test]
fn a_select_gives_up() {
    each_capacity(|make| {
        let ((to_first, first), (to_second, second)) = (make(), make());
        let sending = [(to_first, 1), (to_second, 2)]
            .map(|(sender, value)| thread::spawn(move || sender.send(value).unwrap()));
        let early = select! {
            recv(first) -> value => value.unwrap(),
            recv(second) -> value => value.unwrap(),
            default(Duration::ZERO) => 0,
        };
        let late: u32 = first.iter().sum::<u32>() + second.iter().sum::<u32>();
        assert_eq!(early + late, 3);
        sending.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

/// A close while one waits on both: a case wins with an error, and the other channel is as it was.
#[test]
fn a_close_ends_a_select() {
    each_capacity(|make| {
        let ((to_first, first), (to_second, second)) = (make(), make());
        let closing = thread::spawn(move || drop(to_first));
        let sending = thread::spawn(move || to_second.send(2).unwrap());
        let won = either(&first, &second);
        let left: u32 = second.iter().sum();
        assert_eq!(won.unwrap_or(0) + left, 2);
        closing.join().unwrap();
        sending.join().unwrap();
    });
}
