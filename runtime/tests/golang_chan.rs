//! The behaviours that Go's tests of channels pin down (`runtime/chan_test.go`), written anew.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::select;
use bast::sync::channel::{
    Receiver, RecvError, Sender, TryRecvError, TrySendError, bounded, never, rendezvous,
};
use chan_util::{everywhere, settle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};

/// Every capacity from none: what an empty, a full, a closed and a busy channel do.
#[test]
fn every_capacity() {
    everywhere(|go| {
        for capacity in (0..200).step_by(200 / go.rounds(50).clamp(1, 50)) {
            an_empty_channel_makes_wait(go, capacity);
            a_full_channel_makes_wait(go, capacity);
            values_survive_the_end(capacity);
            all_to_all(go, capacity);
            the_length_at_each_fill(capacity);
        }
    });
}

fn an_empty_channel_makes_wait(go: &chan_util::Go, capacity: usize) {
    let (sender, receiver) = bounded(capacity);
    let (first, second) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (theirs, got) = (receiver.clone(), first.clone());
    let by_recv = go.spawn(move || {
        theirs.recv().unwrap();
        got.store(true, SeqCst);
    });
    let (theirs, got) = (receiver.clone(), second.clone());
    let by_select = go.spawn(move || {
        select! { recv(theirs) -> value => { value.unwrap(); } }
        got.store(true, SeqCst);
    });
    bast::task::yield_now();
    assert!(
        !first.load(SeqCst) && !second.load(SeqCst),
        "received from an empty channel"
    );
    select! {
        recv(receiver) -> _ => panic!("received from an empty channel"),
        default => {}
    }
    sender.send(0).unwrap();
    sender.send(0).unwrap();
    by_recv.join();
    by_select.join();
}

fn a_full_channel_makes_wait(go: &chan_util::Go, capacity: usize) {
    let (sender, receiver) = bounded(capacity);
    (0..capacity).for_each(|n| sender.send(n).unwrap());
    let sent = Arc::new(AtomicBool::new(false));
    let (theirs, said) = (sender.clone(), sent.clone());
    let waiting = go.spawn(move || {
        theirs.send(usize::MAX).unwrap();
        said.store(true, SeqCst);
    });
    bast::task::yield_now();
    assert!(!sent.load(SeqCst), "sent to a full channel");
    select! {
        send(sender, 0) -> _ => panic!("sent to a full channel"),
        default => {}
    }
    (0..capacity).for_each(|n| assert_eq!(receiver.recv(), Ok(n)));
    assert_eq!(receiver.recv(), Ok(usize::MAX));
    waiting.join();
}

fn values_survive_the_end(capacity: usize) {
    let (sender, receiver) = bounded(capacity);
    (0..capacity).for_each(|n| sender.send(n).unwrap());
    sender.close();
    (0..capacity).for_each(|n| assert_eq!(receiver.recv(), Ok(n)));
    assert_eq!(receiver.recv(), Err(RecvError));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
}

fn all_to_all(go: &chan_util::Go, capacity: usize) {
    const EACH: usize = 40;
    let (sender, receiver) = bounded(capacity);
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let sender = sender.clone();
            go.spawn(move || (0..EACH).for_each(|n| sender.send(n).unwrap()))
        })
        .collect();
    drop(sender);
    let receivers: Vec<_> = (0..4)
        .map(|_| {
            let receiver = receiver.clone();
            go.spawn(move || receiver.iter().collect::<Vec<_>>())
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join());
    let mut counts = [0; EACH];
    receivers
        .into_iter()
        .flat_map(|receiver| receiver.join())
        .for_each(|n| counts[n] += 1);
    assert_eq!(counts, [4; EACH]);
}

fn the_length_at_each_fill(capacity: usize) {
    let (sender, receiver) = bounded(capacity);
    for n in 0..capacity {
        assert_eq!((sender.len(), sender.capacity()), (n, Some(capacity)));
        sender.send(n).unwrap();
    }
    assert_eq!((receiver.len(), receiver.is_full()), (capacity, true));
}

/// A value that lies in the channel can be received by one who does not wait, also while the channel is being closed.
#[test]
fn a_try_against_the_end() {
    everywhere(|go| {
        for _ in 0..go.rounds(1000) {
            let (sender, receiver) = bounded(1);
            sender.send(1).unwrap();
            let theirs = receiver.clone();
            let trying = go.spawn(move || {
                select! { recv(theirs) -> got => got.is_ok() || theirs.is_closed(), default => false }
            });
            sender.close();
            let _ = receiver.try_recv();
            assert!(trying.join(), "the channel was never both empty and open");
        }
    });
}

/// At every moment one of the two is ready: first the one, then both, then the other.
#[test]
fn default_is_not_taken_while_one_is_ready() {
    everywhere(|go| {
        for by_close in [false, true] {
            let rounds = go.rounds(20_000);
            let (start, started) = rendezvous::<(Receiver<u32>, Receiver<u32>)>();
            let (say, said) = bounded(1);
            let selecting = go.spawn(move || {
                for (one, other) in &started {
                    let ready = select! {
                        recv(one) -> _ => true,
                        recv(other) -> _ => true,
                        default => false,
                    };
                    say.send(ready).unwrap();
                }
            });
            for round in 0..rounds {
                let (to_one, one) = bounded(1);
                let (to_other, other) = bounded(1);
                to_one.send(1).unwrap();
                start.send((one.clone(), other.clone())).unwrap();
                if by_close {
                    to_other.close();
                } else {
                    to_other.send(1).unwrap();
                }
                let _ = one.try_recv();
                assert_eq!(said.recv(), Ok(true), "round {round}");
            }
            drop(start);
            selecting.join();
        }
    });
}

#[test]
fn a_select_with_itself() {
    everywhere(|go| {
        for capacity in [0, 10] {
            let rounds = go.rounds(1000);
            let (sender, receiver) = bounded(capacity);
            let peers: Vec<_> = (0..2)
                .map(|id| {
                    let (sender, receiver) = (sender.clone(), receiver.clone());
                    go.spawn(move || {
                        for n in 0..rounds {
                            if id == 0 || n % 2 == 0 {
                                select! {
                                    send(sender, id) -> sent => sent.unwrap(),
                                    recv(receiver) -> got => assert!(capacity > 0 || got != Ok(id), "its own"),
                                }
                            } else {
                                select! {
                                    recv(receiver) -> got => assert!(capacity > 0 || got != Ok(id), "its own"),
                                    send(sender, id) -> sent => sent.unwrap(),
                                }
                            }
                        }
                    })
                })
                .collect();
            peers.into_iter().for_each(|peer| peer.join());
        }
    });
}

/// Plain operations against selects over four channels whose cases are switched off one by one.
#[test]
fn selects_under_stress() {
    everywhere(|go| {
        let rounds = go.rounds(2_000);
        let channels: Vec<(Sender<usize>, Receiver<usize>)> = [0, 0, 2, 3].map(bounded).into();
        let mut all = Vec::new();
        for (sender, receiver) in channels.clone() {
            all.push(go.spawn(move || (0..rounds).for_each(|_| sender.send(0).unwrap())));
            all.push(go.spawn(move || (0..rounds).for_each(|_| assert_eq!(receiver.recv(), Ok(0)))));
        }
        let ends = channels.clone();
        all.push(go.spawn(move || {
            let mut sent = [0; 4];
            let (off, _never_received) = rendezvous();
            while sent.iter().any(|&sent| sent < rounds) {
                let end = |n: usize| if sent[n] < rounds { &ends[n].0 } else { &off };
                let won = select! {
                    send(end(3), 0) -> sent => { sent.unwrap(); 3 }
                    send(end(2), 0) -> sent => { sent.unwrap(); 2 }
                    send(end(0), 0) -> sent => { sent.unwrap(); 0 }
                    send(end(1), 0) -> sent => { sent.unwrap(); 1 }
                };
                sent[won] += 1;
            }
        }));
        all.push(go.spawn(move || {
            let mut got = [0; 4];
            let off = never();
            while got.iter().any(|&got| got < rounds) {
                let end = |n: usize| if got[n] < rounds { &channels[n].1 } else { &off };
                let won = select! {
                    recv(end(0)) -> got => { got.unwrap(); 0 }
                    recv(end(1)) -> got => { got.unwrap(); 1 }
                    recv(end(2)) -> got => { got.unwrap(); 2 }
                    recv(end(3)) -> got => { got.unwrap(); 3 }
                };
                got[won] += 1;
            }
        }));
        all.into_iter().for_each(|one| one.join());
    });
}

#[test]
fn both_values_are_sent_now_and_then() {
    everywhere(|go| {
        for capacity in [0, 100] {
            let rounds = 500;
            let (sender, receiver) = bounded(capacity);
            let receiving = go.spawn(move || receiver.iter().take(rounds).sum::<usize>());
            for _ in 0..rounds {
                select! {
                    send(sender, 0) -> sent => sent.unwrap(),
                    send(sender, 1) -> sent => sent.unwrap(),
                }
            }
            let ones = receiving.join();
            assert!(ones > rounds / 10 && ones < rounds * 9 / 10, "{ones} of {rounds}");
        }
    });
}

#[test]
fn many_consumers() {
    const PRIMES: [usize; 9] = [2, 3, 5, 7, 11, 13, 17, 19, 23];
    everywhere(|go| {
        let items = go.rounds(27_182);
        let (to_work, work) = bounded(23 / 4);
        let (to_results, results) = bounded(23);
        let workers: Vec<_> = (0..23)
            .map(|id| {
                let (work, to_results) = (work.clone(), to_results.clone());
                go.spawn(move || {
                    for item in work.iter() {
                        if id == item % 23 {
                            bast::task::yield_now();
                        }
                        to_results.send(item).unwrap();
                    }
                })
            })
            .collect();
        drop(to_results);
        let expected = Arc::new(AtomicUsize::new(0));
        let sum = expected.clone();
        let producer = go.spawn(move || {
            for n in 0..items {
                let item = PRIMES[n % PRIMES.len()];
                sum.fetch_add(item, SeqCst);
                to_work.send(item).unwrap();
            }
        });
        let got: Vec<_> = results.iter().collect();
        producer.join();
        workers.into_iter().for_each(|worker| worker.join());
        assert_eq!(got.len(), items);
        assert_eq!(got.iter().sum::<usize>(), expected.load(SeqCst));
    });
}

/// The winner of a select that has one channel twice is taken out; others who wait there stay.
#[test]
fn a_channel_twice_and_others_who_wait() {
    everywhere(|go| {
        let (sender, receiver) = rendezvous::<u32>();
        let (to_other, other) = rendezvous::<u32>();
        let theirs = receiver.clone();
        let twice = go.spawn(move || {
            select! { recv(theirs) -> _ => {}, recv(theirs) -> _ => {}, recv(other) -> got => assert_eq!(got, Ok(2)) }
        });
        settle();
        let plain = go.spawn(move || receiver.recv());
        settle();
        to_other.send(2).unwrap();
        twice.join();
        sender.send(3).unwrap();
        assert_eq!(plain.join(), Ok(3));
    });
}

/// Values behind a pointer to a trait go through plain sends and selects alike.
#[test]
fn values_of_unknown_type() {
    everywhere(|_| {
        let (sender, receiver) = bounded::<Option<Box<dyn std::error::Error + Send + Sync>>>(1);
        sender.send(None).unwrap();
        assert!(receiver.recv().unwrap().is_none());
        select! { send(sender, Some("text".into())) -> sent => sent.unwrap(), default => panic!() }
        assert_eq!(receiver.recv().unwrap().unwrap().to_string(), "text");
    });
}

/// Tries against partners that wait, with and without a buffer, for values of several sizes.
#[test]
fn tries_meet_partners() {
    fn with<T: Clone + PartialEq + std::fmt::Debug + Send + 'static>(go: &chan_util::Go, value: T) {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded::<T>(capacity);
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            if capacity == 0 {
                assert_eq!(
                    sender.try_send(value.clone()),
                    Err(TrySendError::Full(value.clone()))
                );
            }
            let theirs = receiver.clone();
            let waiting = go.spawn(move || theirs.recv());
            chan_util::wait_for(|| sender.try_send(value.clone()).is_ok());
            assert_eq!(waiting.join().as_ref(), Ok(&value));
            let (theirs, sent) = (sender.clone(), value.clone());
            let waiting = go.spawn(move || theirs.send(sent));
            let mut got = None;
            chan_util::wait_for(|| {
                got = receiver.try_recv().ok();
                got.is_some()
            });
            assert_eq!(got.as_ref(), Some(&value));
            assert_eq!(waiting.join(), Ok(()));
        }
    }
    everywhere(|go| {
        with(go, true);
        with(go, i32::MAX);
        with(go, "text".to_owned());
        with(go, [7_u64; 33]);
    });
}

/// What must wait waits, what must not does not: the table of `select`.
#[test]
fn the_table_of_select() {
    everywhere(|go| {
        let must_wait = |what: &str, waiting: Box<dyn FnOnce() + Send>| {
            let over = Arc::new(AtomicI64::new(0));
            let said = over.clone();
            let task = go.spawn(move || {
                waiting();
                said.store(1, SeqCst);
            });
            settle();
            assert_eq!(over.load(SeqCst), 0, "{what} did not wait");
            task
        };
        // Never ready, with `default` and without.
        select! { recv(never::<u32>()) -> _ => panic!(), default => {} }
        // Both ends of one channel without a buffer, in one select, until somebody else comes.
        let (sender, receiver) = rendezvous();
        let (s, r) = (sender.clone(), receiver.clone());
        let task = must_wait(
            "a select with itself",
            Box::new(move || select! { send(s, 1) -> _ => {}, recv(r) -> _ => {} }),
        );
        sender.send(2).unwrap();
        task.join();
        // A select of nothing but a receiver, until its channel is closed.
        let r = receiver.clone();
        let task = must_wait(
            "an empty channel",
            Box::new(move || select! { recv(r) -> got => assert!(got.is_err()) }),
        );
        sender.close();
        task.join();
        // Closed: a receive does not wait, nor does a send, which fails.
        select! { recv(receiver) -> got => assert_eq!(got, Err(RecvError)) }
        select! { send(sender, 1) -> sent => assert!(sent.is_err()) }
        select! { recv(receiver) -> got => assert_eq!(got, Err(RecvError)), default => panic!("closed is ready") }
        // With a buffer both directions are ready at once.
        let (sender, receiver) = bounded(10);
        sender.send(1).unwrap();
        select! { recv(receiver) -> got => assert_eq!(got, Ok(1)), default => panic!() }
        select! { send(sender, 1) -> sent => sent.unwrap(), default => panic!() }
    });
}
