//! What Go's tests say of `select` and of closed channels beyond the first programs: the whole table, late evaluation,
//! mixed crowds of selects (`test/ken`), barriers, receivers whose stack changes under them. Written anew.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::select;
use bast::sync::channel::{
    Receiver, RecvError, SendError, Sender, TryRecvError, bounded, never, rendezvous, unbounded,
};
use chan_util::{Go, everywhere, on_each, settle, wait_for};
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// `select.go`: one value each way, with one case switched off in turn.
#[test]
fn select1() {
    everywhere(|go| {
        let count = go.rounds(5_000);
        let (a, from_a) = bounded(1);
        let (b, from_b) = bounded(1);
        let (off, _kept) = rendezvous();
        let sender = go.spawn(move || {
            let mut value = 0;
            let (mut to_a, mut to_b) = (&a, &b);
            while value < count {
                select! {
                    send(to_a, value) -> sent => { sent.unwrap(); (to_a, to_b) = (&off, &b) }
                    send(to_b, value) -> sent => { sent.unwrap(); (to_a, to_b) = (&a, &off) }
                }
                value += 1;
            }
            (a, b) // open until all is received
        });
        let mut last = [None; 2];
        for _ in 0..count {
            let (which, got) = select! {
                recv(from_a) -> got => (0, got.unwrap()),
                recv(from_b) -> got => (1, got.unwrap()),
            };
            // By turns: each channel carries every other value, in order.
            assert!(last[which].is_none_or(|last| got == last + 2), "{last:?} {got}");
            last[which] = Some(got);
        }
        drop(sender.join());
        assert!(from_a.recv().is_err() && from_b.recv().is_err());
    });
}

/// `select3.go`: what can never go on waits for ever. The tasks are left behind, as are the threads.
#[test]
fn nothing_ready_waits_for_ever() {
    fn waits_for_ever(go: &Go, what: &str, f: impl FnOnce() + Send + 'static) {
        let (begun, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (begins, ends) = (begun.clone(), over.clone());
        drop(go.spawn(move || {
            begins.store(true, SeqCst);
            f();
            ends.store(true, SeqCst);
        }));
        wait_for(|| begun.load(SeqCst));
        settle();
        assert!(!over.load(SeqCst), "{what} came to an end");
    }
    everywhere(|go| {
        waits_for_ever(go, "an empty select", || select! {});
        waits_for_ever(go, "a plain receive", || {
            let _ = never::<u32>().recv();
        });
        waits_for_ever(go, "a select of one that never comes", || {
            select! { recv(never::<u32>()) -> _ => {} }
        });
        waits_for_ever(go, "a select of two that never come", || {
            select! { recv(never::<u32>()) -> _ => {}, recv(never::<String>()) -> _ => {} }
        });
        let (sender, receiver) = rendezvous::<u32>();
        let kept = receiver.clone();
        waits_for_ever(go, "a send that nobody receives", move || {
            let _kept = kept;
            let _ = sender.send(1);
        });
        drop(receiver);
        let (sender, receiver) = rendezvous::<u32>();
        waits_for_ever(go, "a select with itself", move || {
            select! { send(sender, 1) -> _ => {}, recv(receiver) -> _ => {} }
        });
    });
}

/// `select4.go`: what stands after the arrow of a case that does not win is not evaluated.
#[test]
fn only_the_winner_s_pattern_and_code_run() {
    everywhere(|_| {
        let (sender, receiver) = bounded(1);
        let (_open, quiet) = bounded::<u32>(1);
        sender.send(42).unwrap();
        let target = Cell::new(None);
        select! {
            recv(quiet) -> _ => unreachable!("it is empty"),
            recv(receiver) -> got => target.set(got.ok()),
        }
        assert_eq!(target.get(), Some(42));
        // A pattern that would not fit is only looked at by the winner.
        select! {
            recv(quiet) -> (Err(_) | Ok(_)) => unreachable!("it is empty"),
            send(sender, 1) -> (Ok(()) | Err(SendError(_))) => {}
        }
    });
}

/// `closedchan.go`: every way to receive from and send to a closed channel, asked twice, empty or not.
#[test]
fn closed_channels_in_every_way() {
    fn receive(receiver: &Receiver<u32>, way: usize) -> Result<u32, RecvError> {
        match way {
            0 => receiver.recv(),
            1 => receiver.try_recv().map_err(|error| {
                assert_eq!(error, TryRecvError::Disconnected);
                RecvError
            }),
            2 => select! { recv(receiver) -> got => got },
            3 => select! { recv(receiver) -> got => got, recv(never::<u32>()) -> _ => unreachable!() },
            4 => select! { recv(receiver) -> got => got, default => unreachable!("closed is ready") },
            _ => receiver.iter().next().ok_or(RecvError),
        }
    }
    fn send(sender: &Sender<u32>, way: usize) -> bool {
        match way {
            0 => sender.send(2).is_ok(),
            1 => sender.try_send(2).is_ok(),
            2 => select! { send(sender, 2) -> sent => sent.is_ok() },
            3 => {
                select! { send(sender, 2) -> sent => sent.is_ok(), recv(never::<u32>()) -> _ => unreachable!() }
            }
            _ => {
                select! { send(sender, 2) -> sent => sent.is_ok(), default => unreachable!("closed is ready") }
            }
        }
    }
    everywhere(|_| {
        for way in 0..6 {
            for capacity in [Some(0), Some(1), Some(2), None] {
                let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
                let there = sender.try_send(1).is_ok();
                assert!(sender.close() && !sender.close(), "closed once");
                assert!(!send(&sender, way % 5) && !send(&sender, way % 5));
                if there {
                    assert_eq!(receive(&receiver, way), Ok(1));
                }
                for _ in 0..2 {
                    assert_eq!(receive(&receiver, way), Err(RecvError), "way {way}, {capacity:?}");
                }
            }
        }
    });
}

/// `chan_test.go`'s barrier of channels: many reach it, one opens it, all pass; again and again.
#[test]
fn a_barrier_of_channels() {
    everywhere(|go| {
        let parties = 8;
        for _ in 0..go.rounds(50) {
            let (open, opened) = rendezvous::<()>();
            let (reach, reached) = bounded(0);
            let passed = Arc::new(AtomicUsize::new(0));
            let all: Vec<_> = (0..parties)
                .map(|_| {
                    let (reach, opened, passed) = (reach.clone(), opened.clone(), passed.clone());
                    go.spawn(move || {
                        reach.send(()).unwrap();
                        assert!(opened.recv().is_err(), "it opens by being closed");
                        passed.fetch_add(1, SeqCst);
                    })
                })
                .collect();
            (0..parties).for_each(|_| reached.recv().unwrap());
            assert_eq!(passed.load(SeqCst), 0, "nobody passes before it is opened");
            drop(open);
            all.into_iter().for_each(|one| one.join());
            assert_eq!(passed.load(SeqCst), parties);
        }
    });
}

/// One direction of `ken/chan.go`: a sender of a run of numbers, by plain sends or a select.
fn send_run(to: &Sender<usize>, run: std::ops::Range<usize>, also: Option<&Sender<usize>>) {
    for n in run {
        match also {
            None => to.send(n).unwrap(),
            Some(also) => select! {
                send(to, n) -> sent => sent.unwrap(),
                send(also, n) -> sent => sent.unwrap(),
            },
        }
    }
}

/// `ken/chan.go`: senders and receivers in every mixture (plain, by select over two channels) and number; each value
/// arrives, once.
#[test]
fn every_mixture_of_plain_calls_and_selects() {
    everywhere(|go| {
        let each = go.rounds(200);
        for capacity in [0, 1, 10] {
            for (senders, receivers) in [(1, 1), (1, 4), (4, 1), (3, 3)] {
                let ends = [bounded(capacity), bounded(capacity)];
                let sending: Vec<_> = (0..senders)
                    .map(|id| {
                        let to = ends.clone().map(|(sender, _)| sender);
                        go.spawn(move || {
                            let also = (id % 2 == 1).then_some(&to[1]);
                            send_run(&to[0], id * each..(id + 1) * each, also);
                        })
                    })
                    .collect();
                let receiving: Vec<_> = (0..receivers)
                    .map(|_| {
                        let from = ends.clone().map(|(_, receiver)| receiver);
                        go.spawn(move || receive_both(from))
                    })
                    .collect();
                sending.into_iter().for_each(|one| one.join());
                ends.iter().for_each(|(sender, _)| assert!(sender.close()));
                let got: Vec<usize> = receiving.into_iter().flat_map(|one| one.join()).collect();
                assert_eq!(got.len(), senders * each, "{senders} to {receivers}");
                assert_eq!(got.into_iter().collect::<HashSet<_>>().len(), senders * each);
            }
        }
    });
}

/// Until both are closed: by select, and by a plain receive from what is left.
fn receive_both([a, b]: [Receiver<usize>; 2]) -> Vec<usize> {
    let mut got = Vec::new();
    let left = loop {
        let (value, other) = select! {
            recv(a) -> value => (value, &b),
            recv(b) -> value => (value, &a),
        };
        match value {
            Ok(value) => got.push(value),
            Err(RecvError) => break other,
        }
    };
    got.extend(left.iter());
    got
}

/// `ken/chan1.go`: many senders stop a crowd of receivers with a mark each.
#[test]
fn marks_stop_a_crowd() {
    everywhere(|go| {
        let (sender, receiver) = bounded(0);
        let count = go.rounds(2_000);
        let crowd: Vec<_> = (0..10)
            .map(|_| {
                let receiver = receiver.clone();
                go.spawn(move || receiver.iter().take_while(|&n| n != usize::MAX).sum::<usize>())
            })
            .collect();
        (0..count).for_each(|n| sender.send(n).unwrap());
        (0..10).for_each(|_| sender.send(usize::MAX).unwrap());
        let sum: usize = crowd.into_iter().map(|one| one.join()).sum();
        assert_eq!(sum, count * (count - 1) / 2);
    });
}

/// The place of a waiting receiver stays valid, whatever happens to stacks meanwhile: the value is written to a stack
/// that its owner has grown beyond, on a large one, and deep inside another call.
#[test]
fn places_of_waiters_stay_valid_on_deep_and_borrowed_stacks() {
    fn deep(depth: usize, receiver: &Receiver<[usize; 40]>) -> usize {
        let filler = std::hint::black_box([depth as u8; 2000]);
        if depth > 0 {
            return deep(depth - 1, receiver) + usize::from(filler[depth] == depth as u8);
        }
        let got = select! {
            recv(receiver) -> got => got.unwrap(),
            recv(never::<u32>()) -> _ => unreachable!(),
        };
        got[39]
    }
    on_each(|| {
        for round in 0..20 {
            let (sender, receiver) = rendezvous();
            let tasks: Vec<_> = (0..4)
                .map(|task| {
                    let receiver = receiver.clone();
                    bast::spawn(move || match task % 2 {
                        0 => deep(15, &receiver),
                        _ => bast::on_big_stack(1 << 20, || deep(40, &receiver)),
                    })
                })
                .collect();
            settle();
            (0..4).for_each(|_| sender.send([round; 40]).unwrap());
            for task in tasks {
                let depth = task.join().unwrap() - round;
                assert!(depth == 15 || depth == 40, "{depth}");
            }
        }
    });
}

/// `zerosize.go` and beyond: values without a size still count, of every such type, through every way.
#[test]
fn values_without_size_count() {
    #[derive(Debug, PartialEq, Clone, Copy)]
    struct Nothing;
    fn through<T: Copy + PartialEq + std::fmt::Debug + Send + 'static>(go: &Go, value: T) {
        for (sender, receiver) in [rendezvous(), bounded(2), unbounded()] {
            let other = go.spawn(move || {
                for n in 0..30 {
                    match n % 3 {
                        0 => sender.send(value).unwrap(),
                        1 => select! { send(sender, value) -> sent => sent.unwrap() },
                        _ => wait_for(|| sender.try_send(value).is_ok()),
                    }
                }
            });
            assert_eq!(receiver.iter().inspect(|got| assert_eq!(*got, value)).count(), 30);
            other.join();
        }
    }
    everywhere(|go| {
        through(go, ());
        through(go, Nothing);
        through(go, [0_u64; 0]);
        through(go, (Nothing, [(); 7]));
    });
}

/// `goroutines.go` on plain threads too, where fewer are enough.
#[test]
fn a_long_chain_of_any() {
    everywhere(|go| {
        let length = go.rounds(1_000).min(1_000);
        let (first, mut end) = rendezvous();
        let mut chain = Vec::new();
        for _ in 0..length {
            let (sender, receiver) = rendezvous();
            let from = std::mem::replace(&mut end, receiver);
            chain.push(go.spawn(move || sender.send(from.recv().unwrap() + 1_usize).unwrap()));
        }
        first.send(0).unwrap();
        assert_eq!(end.recv(), Ok(length));
        chain.into_iter().for_each(|one| one.join());
    });
}
