//! Models of receiving in `async` code (`runtime/src/sync/recv_async.rs`). What each proves is in the README here.
//!
//! A value is counted when it goes: none is lost with a future that is dropped, none is there twice. A future that nobody
//! wakes is a deadlock, and a waker that is never dropped a leak; loom reports both.
#![cfg(bast_loom)]

use bast::block_on;
use bast::sync::channel::{self, Receiver, RecvAsync, Sender};
use loom::thread;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

type Ends = (Sender<Box<u32>>, Receiver<Box<u32>>);

/// Runs a model on each flavour: without a buffer, with one place, without bound.
fn each_flavour(model: impl Fn(Ends) + Send + Sync + 'static) {
    let model = std::sync::Arc::new(model);
    for make in [
        channel::rendezvous as fn() -> Ends,
        || channel::bounded(1),
        channel::unbounded,
    ] {
        let model = model.clone();
        loom::model(move || model(make()));
    }
}

/// One poll, by an executor that never polls again.
fn poll_once(future: &mut RecvAsync<'_, Box<u32>>) -> Option<Box<u32>> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value.ok(),
        Poll::Pending => None,
    }
}

#[test]
fn a_future_gets_what_is_sent_and_hears_of_the_end() {
    each_flavour(|(sender, receiver)| {
        let sending = thread::spawn(move || [1, 2].map(|n| sender.send(Box::new(n)).unwrap()));
        block_on(async {
            assert_eq!(receiver.recv_async().await, Ok(Box::new(1)));
            assert_eq!(receiver.recv_async().await, Ok(Box::new(2)));
            assert!(receiver.recv_async().await.is_err());
        });
        sending.join().unwrap();
    });
}

/// The waker of the last poll counts, whenever the value comes.
#[test]
fn a_future_changes_its_executor() {
    each_flavour(|(sender, receiver)| {
        let sending = thread::spawn(move || sender.send(Box::new(1)).unwrap());
        let mut future = receiver.recv_async();
        let early = poll_once(&mut future);
        let value = early.unwrap_or_else(|| block_on(future).unwrap());
        assert_eq!(*value, 1);
        sending.join().unwrap();
    });
}

/// Planted: `recv_async_keep` (the value goes with the future).
#[test]
fn a_future_that_is_dropped_loses_nothing() {
    each_flavour(|(sender, receiver)| {
        let sending = thread::spawn(move || sender.send(Box::new(1)).unwrap());
        let mut future = receiver.recv_async();
        let early = poll_once(&mut future);
        drop(future);
        let value = early.unwrap_or_else(|| receiver.recv().unwrap());
        assert_eq!(*value, 1);
        assert!(receiver.recv().is_err(), "it is there once");
        sending.join().unwrap();
    });
}

/// What a future gives back goes to one who waits.
#[test]
fn what_is_given_back_is_received() {
    each_flavour(|(sender, receiver)| {
        let other = receiver.clone();
        let other = thread::spawn(move || other.recv().ok());
        let sending = thread::spawn(move || {
            sender.send(Box::new(1)).unwrap();
            sender
        });
        let mut future = receiver.recv_async();
        let early = poll_once(&mut future);
        drop(future);
        drop(sending.join().unwrap());
        assert_eq!(early.or(other.join().unwrap()), Some(Box::new(1)));
    });
}

/// A future and a task that wait in the same queue get one value each, or hear of the end.
#[test]
fn a_future_and_a_task_share() {
    each_flavour(|(sender, receiver)| {
        let other = receiver.clone();
        let other = thread::spawn(move || other.recv().map_or(0, |value| *value));
        let sending = thread::spawn(move || [1, 2].map(|n| sender.send(Box::new(n)).is_ok()));
        let mine = block_on(receiver.recv_async()).map_or(0, |value| *value);
        assert_eq!(mine + other.join().unwrap(), 3);
        sending.join().unwrap();
    });
}

#[test]
fn a_close_meets_a_future() {
    each_flavour(|(sender, receiver)| {
        let closing = thread::spawn(move || drop(sender));
        assert!(block_on(receiver.recv_async()).is_err());
        let mut future = receiver.recv_async();
        assert!(poll_once(&mut future).is_none());
        closing.join().unwrap();
    });
}
