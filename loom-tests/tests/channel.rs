//! Models of channels (`runtime/src/sync/channel_core.rs`), one set for all flavours. What each proves is in the README
//! here.
//!
//! A value carries a cell that loom guards: it reports a receiver that is not ordered after the value's sender, and two
//! that have the same one. When a model ends each value has been received, handed back or dropped, once; one that was
//! lost is missing in the sum. Who waits although there is something for it is a deadlock, which loom reports too.
#![cfg(bast_loom)]

use bast::sync::channel::{self, Receiver, SendTimeoutError, Sender, TryRecvError, TrySendError};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;
use std::time::Duration;

/// A value. Whoever has it may read and write it.
struct Value {
    number: UnsafeCell<usize>,
    dropped: Arc<AtomicUsize>,
}

// SAFETY: validity: nothing in it belongs to a thread. aliasing: loom checks every access.
unsafe impl Send for Value {}

/// Makes values, and counts those that have gone.
struct Mint(Arc<AtomicUsize>);

impl Mint {
    fn new() -> Mint {
        Mint(Arc::new(AtomicUsize::new(0)))
    }

    fn make(&self, number: usize) -> Value {
        Value {
            number: UnsafeCell::new(number),
            dropped: self.0.clone(),
        }
    }

    /// Of so many values that were made, each has gone once.
    fn all_gone(&self, made: usize) {
        assert_eq!(self.0.load(Relaxed), made, "a value was lost, or was there twice");
    }
}

impl Value {
    /// Takes the number out: zero is left.
    fn open(self) -> usize {
        // SAFETY: validity: ours. aliasing: the value is here, so nobody else has it; loom checks it.
        self.number
            .with_mut(|number| unsafe { std::mem::take(&mut *number) })
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Relaxed);
    }
}

type Ends = (Sender<Value>, Receiver<Value>);

/// Runs a model on each flavour: without a buffer, with one place, without bound.
fn each_flavour(model: impl Fn(Ends, &Mint) + Send + Sync + 'static) {
    let model = std::sync::Arc::new(model);
    for make in [
        channel::rendezvous as fn() -> Ends,
        || channel::bounded(1),
        channel::unbounded,
    ] {
        let model = model.clone();
        loom::model(move || model(make(), &Mint::new()));
    }
}

fn sum(receiver: &Receiver<Value>) -> usize {
    receiver.iter().map(Value::open).sum()
}

/// Planted: `channel_wait_blindly` (the receiver queues after a value has come), `channel_close_quietly` (the receiver
/// waits for the end).
#[test]
fn all_that_is_sent_is_received_in_order() {
    each_flavour(|(sender, receiver), mint| {
        let values = [1, 2, 3].map(|number| mint.make(number));
        let sending = thread::spawn(move || values.map(|value| sender.send(value).unwrap()));
        for number in [1, 2, 3] {
            assert_eq!(receiver.recv().unwrap().open(), number);
        }
        assert!(receiver.recv().is_err(), "the sender has gone");
        sending.join().unwrap();
        mint.all_gone(3);
    });
}

/// Planted: `channel_no_refill` (the sender waits although there is room).
#[test]
fn a_place_that_becomes_free_is_filled() {
    loom::model(|| {
        let (sender, receiver) = channel::bounded(1);
        let sending = thread::spawn(move || [1, 2].map(|number| sender.send(number).unwrap()));
        assert_eq!(receiver.recv(), Ok(1));
        sending.join().unwrap(); // before anybody receives again
        assert_eq!(receiver.recv(), Ok(2));
    });
}

/// Planted: `channel_last_by_look` (of two senders that go neither is the last).
#[test]
fn two_senders_and_a_receiver() {
    each_flavour(|(sender, receiver), mint| {
        let senders = [(sender.clone(), mint.make(1)), (sender, mint.make(2))]
            .map(|(sender, value)| thread::spawn(move || sender.send(value).unwrap()));
        assert_eq!(sum(&receiver), 3);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        mint.all_gone(2);
    });
}

#[test]
fn two_receivers_share() {
    each_flavour(|(sender, receiver), mint| {
        let receivers = [receiver.clone(), receiver].map(|end| thread::spawn(move || sum(&end)));
        for number in [1, 2] {
            sender.send(mint.make(number)).unwrap();
        }
        drop(sender);
        let received: usize = receivers.into_iter().map(|end| end.join().unwrap()).sum();
        assert_eq!(received, 3);
        mint.all_gone(2);
    });
}

/// Of a close and a send, whichever comes first: the value is received or handed back.
#[test]
fn a_close_meets_a_send() {
    each_flavour(|(sender, receiver), mint| {
        let value = mint.make(1);
        let sending = thread::spawn(move || match sender.send(value) {
            Ok(()) => 0,
            Err(channel::SendError(value)) => value.open(),
        });
        let other = receiver.clone();
        let closing = thread::spawn(move || other.close());
        let received = sum(&receiver);
        let handed_back = sending.join().unwrap();
        closing.join().unwrap();
        assert!(receiver.is_closed());
        assert_eq!(received + handed_back, 1);
        mint.all_gone(1);
    });
}

/// Planted: `channel_close_quietly`.
#[test]
fn a_close_wakes_all_who_wait() {
    each_flavour(|(sender, receiver), _| {
        let waiting = [receiver.clone(), receiver]
            .map(|receiver| thread::spawn(move || assert!(receiver.recv().is_err())));
        assert!(sender.close());
        assert!(!sender.close(), "it is closed once");
        waiting.into_iter().for_each(|receiver| receiver.join().unwrap());
    });
}

/// The last receiver goes while values are sent: each is handed back or dropped with the channel.
#[test]
fn the_last_receiver_goes() {
    each_flavour(|(sender, receiver), mint| {
        let values = [1, 2].map(|number| mint.make(number));
        let sending = thread::spawn(move || values.map(|value| sender.send(value).is_ok()));
        let other = receiver.clone();
        let leaving = thread::spawn(move || drop(other));
        drop(receiver);
        leaving.join().unwrap();
        let sent = sending.join().unwrap();
        assert!(sent[0] || !sent[1], "it opened again");
        mint.all_gone(2);
    });
}

/// A send and a receive whose time is over when they look: either both have happened or neither.
#[test]
fn both_sides_give_up() {
    each_flavour(|(sender, receiver), mint| {
        let value = mint.make(1);
        let sending = thread::spawn(move || match sender.send_timeout(value, Duration::ZERO) {
            Ok(()) => (true, sender),
            Err(SendTimeoutError::Timeout(value)) => {
                assert_eq!(value.open(), 1, "a value that is handed back is whole");
                (false, sender)
            }
            Err(SendTimeoutError::Disconnected(_)) => panic!("nobody has closed it"),
        });
        let early = receiver.recv_timeout(Duration::ZERO).map_or(0, Value::open);
        let (sent, sender) = sending.join().unwrap();
        drop(sender);
        assert_eq!(early + sum(&receiver), usize::from(sent));
        mint.all_gone(1);
    });
}

/// One that gives up takes nothing along that was meant for another.
#[test]
fn one_receiver_gives_up() {
    each_flavour(|(sender, receiver), mint| {
        let hasty = receiver.clone();
        let hasty = thread::spawn(move || hasty.recv_timeout(Duration::ZERO).map_or(0, Value::open));
        let values = [1, 2].map(|number| mint.make(number));
        let sending = thread::spawn(move || values.map(|value| sender.send(value).unwrap()));
        let received = sum(&receiver);
        sending.join().unwrap();
        assert_eq!(received + hasty.join().unwrap(), 3);
        mint.all_gone(2);
    });
}

/// Calls that never wait: a try succeeds, or there was a moment at which it could not.
#[test]
fn tries_on_both_sides() {
    each_flavour(|(sender, receiver), mint| {
        let value = mint.make(1);
        let sending = thread::spawn(move || match sender.try_send(value) {
            Ok(()) => 0,
            Err(TrySendError::Full(value)) => value.open(),
            Err(TrySendError::Disconnected(_)) => panic!("the receiver is there"),
        });
        let received = match receiver.try_recv() {
            Ok(value) => value.open(),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => 0,
        };
        let handed_back = sending.join().unwrap();
        assert_eq!(received + handed_back + sum(&receiver), 1);
        mint.all_gone(1);
    });
}
