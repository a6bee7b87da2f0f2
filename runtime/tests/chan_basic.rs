//! What every channel does: order, room, waiting, closing, errors. Flavour by flavour where they differ.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError,
    bounded, never, rendezvous, unbounded,
};
use chan_util::{Go, LONG, SHORT, everywhere, settle};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Every flavour: no buffer, one place, a few, any number.
fn each_flavour<T>(test: impl Fn(Sender<T>, Receiver<T>)) {
    for (sender, receiver) in [rendezvous(), bounded(1), bounded(3), unbounded()] {
        test(sender, receiver);
    }
}

#[test]
fn values_go_through_in_order() {
    everywhere(|go| {
        let rounds = go.rounds(10_000);
        each_flavour(|sender, receiver| {
            let producer = go.spawn(move || (0..rounds).for_each(|n| sender.send(n).unwrap()));
            (0..rounds).for_each(|n| assert_eq!(receiver.recv(), Ok(n)));
            assert_eq!(receiver.recv(), Err(RecvError));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            producer.join();
        });
    });
}

#[test]
fn many_to_many_lose_and_invent_nothing() {
    everywhere(|go| {
        let rounds = go.rounds(2_000);
        each_flavour(|sender, receiver| {
            let producers: Vec<_> = (0..4)
                .map(|id| {
                    let sender = sender.clone();
                    go.spawn(move || (0..rounds).for_each(|n| sender.send(id * rounds + n).unwrap()))
                })
                .collect();
            drop(sender);
            let consumers: Vec<_> = (0..4)
                .map(|_| {
                    let receiver = receiver.clone();
                    go.spawn(move || {
                        let got: Vec<_> = receiver.iter().collect();
                        // Of one sender every receiver gets what it gets in order.
                        for id in 0..4 {
                            let mine: Vec<_> = got.iter().filter(|&&n| n / rounds == id).collect();
                            assert!(mine.is_sorted());
                        }
                        got
                    })
                })
                .collect();
            producers.into_iter().for_each(|producer| producer.join());
            let got: Vec<_> = consumers
                .into_iter()
                .flat_map(|consumer| consumer.join())
                .collect();
            assert_eq!(got.len(), 4 * rounds);
            assert_eq!(got.into_iter().collect::<HashSet<_>>().len(), 4 * rounds);
        });
    });
}

#[test]
fn len_capacity_and_fullness() {
    everywhere(|_| {
        let (sender, receiver) = bounded(3);
        assert_eq!((sender.capacity(), receiver.capacity()), (Some(3), Some(3)));
        for n in 0..3 {
            assert_eq!((sender.len(), receiver.len()), (n, n));
            assert_eq!((sender.is_empty(), receiver.is_full()), (n == 0, false));
            sender.try_send(n).unwrap();
        }
        assert!(sender.is_full() && receiver.is_full() && !receiver.is_empty());
        assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));

        let (sender, receiver) = rendezvous();
        assert_eq!((sender.capacity(), sender.len()), (Some(0), 0));
        assert!(sender.is_full() && sender.is_empty() && receiver.is_full() && receiver.is_empty());
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));

        let (sender, receiver) = unbounded();
        assert_eq!((sender.capacity(), receiver.capacity()), (None, None));
        (0..1000).for_each(|n| sender.try_send(n).unwrap());
        assert!(!sender.is_full() && sender.len() == 1000);
        assert_eq!(receiver.try_iter().sum::<i32>(), 499_500);
    });
}

#[test]
fn a_full_channel_makes_senders_wait_in_turn() {
    everywhere(|go| {
        for capacity in [0, 1, 2] {
            let (sender, receiver) = bounded(capacity);
            (0..capacity).for_each(|n| sender.send(n).unwrap());
            let mut senders = Vec::new();
            for n in capacity..capacity + 4 {
                let ours = sender.clone();
                let started = Arc::new(AtomicUsize::new(0));
                let there = started.clone();
                senders.push(go.spawn(move || {
                    there.store(1, SeqCst);
                    ours.send(n).unwrap();
                }));
                chan_util::wait_for(|| started.load(SeqCst) == 1);
                settle();
                assert_eq!(sender.len(), capacity, "nobody gets past a full channel");
            }
            let got: HashSet<_> = (0..capacity + 4).map(|_| receiver.recv().unwrap()).collect();
            assert_eq!(got.len(), capacity + 4);
            senders.into_iter().for_each(|sender| sender.join());
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        }
    });
}

#[test]
fn try_send_meets_a_waiting_receiver() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            let waiting = go.spawn(move || receiver.recv());
            let mut value = 7;
            while let Err(TrySendError::Full(back)) = sender.try_send(value) {
                value = back;
                bast::task::yield_now();
            }
            assert_eq!(waiting.join(), Ok(7));
        });
    });
}

#[test]
fn try_recv_meets_a_waiting_sender() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            let waiting = go.spawn(move || sender.send(7));
            chan_util::wait_for(|| match receiver.try_recv() {
                Ok(value) => {
                    assert_eq!(value, 7);
                    true
                }
                Err(error) => {
                    assert_eq!(
                        error,
                        TryRecvError::Empty,
                        "the sender is there until it has sent"
                    );
                    false
                }
            });
            assert_eq!(waiting.join(), Ok(()));
        });
    });
}

#[test]
fn what_lies_in_a_closed_channel_can_be_received() {
    everywhere(|_| {
        for by_drop in [true, false] {
            for (sender, receiver) in [bounded(3), unbounded()] {
                (0..3).for_each(|n| sender.send(n).unwrap());
                if by_drop {
                    drop(sender);
                } else {
                    assert!(receiver.close() && !sender.close(), "it is closed once");
                    assert_eq!(sender.send(3), Err(SendError(3)));
                    assert_eq!(sender.try_send(3), Err(TrySendError::Disconnected(3)));
                    let late = sender.send_timeout(3, LONG);
                    assert_eq!(late, Err(SendTimeoutError::Disconnected(3)));
                    assert!(sender.is_closed());
                }
                assert!(receiver.is_closed());
                assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1, 2]);
                assert_eq!(receiver.recv(), Err(RecvError));
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
                assert_eq!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
            }
        }
    });
}

#[test]
fn closing_wakes_all_receivers() {
    everywhere(|go| {
        for by_drop in [true, false] {
            each_flavour(|sender: Sender<u32>, receiver| {
                let receivers: Vec<_> = (0..5)
                    .map(|_| {
                        let receiver = receiver.clone();
                        go.spawn(move || receiver.recv())
                    })
                    .collect();
                settle();
                if by_drop {
                    drop(sender);
                } else {
                    sender.close();
                }
                for receiver in receivers {
                    assert_eq!(receiver.join(), Err(RecvError));
                }
            });
        }
    });
}

#[test]
fn closing_wakes_all_senders_and_gives_values_back() {
    everywhere(|go| {
        for by_drop in [true, false] {
            for capacity in [0, 1, 3] {
                let (sender, receiver) = bounded(capacity);
                (0..capacity).for_each(|_| sender.send("lies there".to_owned()).unwrap());
                let senders: Vec<_> = (0..5)
                    .map(|n| {
                        let sender = sender.clone();
                        go.spawn(move || sender.send(format!("value {n}")))
                    })
                    .collect();
                settle();
                if by_drop {
                    drop(receiver);
                } else {
                    receiver.close();
                }
                for (n, sender) in senders.into_iter().enumerate() {
                    assert_eq!(sender.join(), Err(SendError(format!("value {n}"))));
                }
            }
        }
    });
}

#[test]
fn the_last_end_closes_and_no_other() {
    everywhere(|_| {
        each_flavour(|sender: Sender<u32>, receiver| {
            let (more_senders, more_receivers) = (sender.clone(), receiver.clone());
            drop(sender);
            drop(receiver);
            assert!(!more_senders.is_closed());
            drop(more_receivers);
            assert!(more_senders.is_closed());
            assert_eq!(more_senders.try_send(1), Err(TrySendError::Disconnected(1)));
        });
        each_flavour(|sender: Sender<u32>, receiver| {
            let another = sender.clone();
            drop(sender);
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            drop(another);
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        });
    });
}

#[test]
fn a_time_limit_ends_a_wait_and_nothing_is_lost() {
    everywhere(|_| {
        let (sender, receiver) = bounded(1);
        let start = Instant::now();
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert_eq!(
            receiver.recv_deadline(start + 2 * SHORT),
            Err(RecvTimeoutError::Timeout)
        );
        assert!(start.elapsed() >= 2 * SHORT, "not before the time");
        sender.send_timeout(1, Duration::ZERO).unwrap();
        assert_eq!(sender.send_timeout(2, SHORT), Err(SendTimeoutError::Timeout(2)));
        let past = Instant::now();
        assert_eq!(sender.send_deadline(3, past), Err(SendTimeoutError::Timeout(3)));
        // What need not wait succeeds although the time is over.
        assert_eq!(receiver.recv_deadline(past), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert!(never::<u8>().recv_timeout(SHORT).is_err());
        assert_eq!(never::<u8>().try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn limits_in_a_race_with_the_other_side() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            let rounds = go.rounds(1_000);
            let producer = go.spawn(move || {
                let mut sent = 0;
                for n in 0..rounds {
                    match sender.send_timeout(n, Duration::from_micros(n as u64 % 20)) {
                        Ok(()) => sent += 1,
                        Err(error) => assert_eq!(error, SendTimeoutError::Timeout(n)),
                    }
                }
                sent
            });
            let (mut got, mut wait) = (0, 0);
            loop {
                match receiver.recv_timeout(Duration::from_micros(wait % 30)) {
                    Ok(_) => got += 1,
                    Err(RecvTimeoutError::Timeout) => wait += 7,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            assert_eq!(producer.join(), got, "a value was lost, or came twice");
        });
    });
}

#[test]
fn a_timeout_around_a_call_bounds_it() {
    chan_util::on_each(|| {
        let (sender, receiver) = bounded(1);
        let late = bast::time::timeout(SHORT, || receiver.recv());
        assert_eq!(late.unwrap_err().into_inner(), Err(RecvError));
        sender.send(1).unwrap();
        let late = bast::time::timeout(SHORT, || sender.send(2));
        assert_eq!(late.unwrap_err().into_inner(), Err(SendError(2)));
        let late = bast::time::timeout(SHORT, || sender.send_timeout(2, LONG));
        assert_eq!(late.unwrap_err().into_inner(), Err(SendTimeoutError::Timeout(2)));
        assert!(bast::time::timeout(SHORT, || never::<u8>().recv()).is_err());
        assert_eq!(bast::time::timeout(LONG, || receiver.recv()).unwrap(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    });
}

/// Counts how many of it are alive.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, SeqCst);
        Counted(alive.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn every_value_is_dropped_once() {
    everywhere(|go| {
        for capacity in [Some(1), Some(5), Some(64), None] {
            let alive = Arc::new(AtomicUsize::new(0));
            let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
            let (many, more) = (alive.clone(), sender.clone());
            let producer = go.spawn(move || {
                let mut sent = 0;
                while more.send(Counted::new(&many)).is_ok() {
                    sent += 1;
                    if sent == 300 {
                        break;
                    }
                }
            });
            (0..50).for_each(|_| drop(receiver.recv().unwrap()));
            drop(receiver);
            producer.join();
            assert_eq!(
                alive.load(SeqCst),
                0,
                "what nobody can receive goes with the last receiver"
            );
            assert!(sender.send(Counted::new(&alive)).is_err());
            assert_eq!(alive.load(SeqCst), 0);
        }
    });
}

/// A value whose drop uses the channel that drops it.
struct Reentrant(Sender<Reentrant>);

impl Drop for Reentrant {
    fn drop(&mut self) {
        assert!(self.0.is_closed());
        assert!(self.0.is_empty());
    }
}

#[test]
fn values_may_use_the_channel_while_they_are_dropped() {
    everywhere(|_| {
        let (sender, receiver) = bounded(4);
        (0..3).for_each(|_| assert!(sender.send(Reentrant(sender.clone())).is_ok()));
        drop(receiver);
    });
}

#[test]
fn values_of_no_size_and_of_much() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            let producer = go.spawn(move || (0..100).for_each(|_| sender.send(()).unwrap()));
            assert_eq!(receiver.iter().count(), 100);
            producer.join();
        });
        each_flavour(|sender, receiver| {
            let producer = go.spawn(move || (0..100_u8).for_each(|n| sender.send([n; 1000]).unwrap()));
            let all = receiver.iter().enumerate().all(|(n, got)| got == [n as u8; 1000]);
            assert!(all);
            producer.join();
        });
    });
}

#[test]
fn same_channel() {
    let (a, b) = bounded::<u8>(1);
    let (c, d) = bounded::<u8>(1);
    assert!(a.same_channel(&a.clone()) && b.same_channel(&b.clone()));
    assert!(!a.same_channel(&c) && !b.same_channel(&d) && !b.same_channel(&never()));
    assert!(never::<u8>().same_channel(&never()));
}

#[test]
fn what_errors_say() {
    let errors: [(Box<dyn std::error::Error>, &str); 4] = [
        (Box::new(SendError(1)), "closed"),
        (Box::new(TrySendError::Full(1)), "full"),
        (Box::new(RecvTimeoutError::Timeout), "until the time was over"),
        (Box::new(TryRecvError::Empty), "empty"),
    ];
    for (error, says) in errors {
        assert!(error.to_string().contains(says), "{error}");
    }
    struct Plain;
    assert_eq!(format!("{:?}", TrySendError::Full(Plain)), "Full(..)");
    assert!(TrySendError::from(SendError(1)).is_disconnected());
    assert!(RecvTimeoutError::from(RecvError).is_disconnected());
    assert_eq!(SendTimeoutError::Timeout(5).into_inner(), 5);
}

#[test]
fn ends_can_be_shared() {
    fn is<T: Send + Sync + std::panic::UnwindSafe>() {}
    is::<Sender<std::cell::Cell<u8>>>();
    is::<Receiver<std::cell::Cell<u8>>>();
    everywhere(|go: &Go| {
        let (sender, receiver) = bounded(1);
        let shared = Arc::new((sender, receiver));
        let other = shared.clone();
        let task = go.spawn(move || other.0.send(1).unwrap());
        assert_eq!(shared.1.recv(), Ok(1));
        task.join();
    });
}
