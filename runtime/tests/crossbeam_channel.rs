//! What crossbeam-channel's tests pin down for its three flavours (`array`, `list`, `zero`), for iterators and for
//! `same_channel`, beyond `chan_basic.rs`. Written anew.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::select;
use bast::sync::channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError,
    after, bounded, never, rendezvous, tick, unbounded,
};
use chan_util::{LONG, SHORT, everywhere, settle, wait_for};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

fn each_flavour<T>(test: impl Fn(Sender<T>, Receiver<T>)) {
    for (sender, receiver) in [rendezvous(), bounded(1), bounded(7), unbounded()] {
        test(sender, receiver);
    }
}

/// Every call, on a channel that lost its other side: what it says, and that it gives the value back.
#[test]
fn calls_after_the_other_side_has_gone() {
    everywhere(|_| {
        each_flavour(|sender, receiver| {
            let there = (0..3).take_while(|&n| sender.try_send(n).is_ok()).count();
            drop(receiver);
            assert_eq!(sender.send(4), Err(SendError(4)));
            assert_eq!(sender.try_send(5), Err(TrySendError::Disconnected(5)));
            assert_eq!(
                sender.send_timeout(6, LONG),
                Err(SendTimeoutError::Disconnected(6))
            );
            assert_eq!(sender.len(), 0, "{there} values went with their last receiver");
        });
        each_flavour(|sender, receiver| {
            let there = (0..3).take_while(|&n| sender.try_send(n).is_ok()).count();
            drop(sender);
            assert_eq!(receiver.len(), there);
            for n in 0..there {
                let got = match n % 3 {
                    0 => receiver.recv().unwrap(),
                    1 => receiver.try_recv().unwrap(),
                    _ => receiver.recv_timeout(LONG).unwrap(),
                };
                assert_eq!(got, n);
            }
            assert_eq!(receiver.recv(), Err(RecvError));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            assert_eq!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
        });
    });
}

/// The length never leaves its bounds, and says at the end what is there.
#[test]
fn lengths_while_values_go_through() {
    everywhere(|go| {
        for capacity in [1, 5] {
            let (sender, receiver) = bounded(capacity);
            let rounds = go.rounds(3_000);
            let (ours, theirs) = (receiver.clone(), sender.clone());
            let consumer = go.spawn(move || {
                for n in 0..rounds {
                    assert_eq!(ours.recv(), Ok(n));
                    assert!(ours.len() <= capacity);
                }
            });
            let producer = go.spawn(move || {
                for n in 0..rounds {
                    theirs.send(n).unwrap();
                    assert!(theirs.len() <= capacity);
                }
            });
            producer.join();
            consumer.join();
            assert_eq!((sender.len(), receiver.len(), sender.is_full()), (0, 0, false));
        }
    });
}

/// A channel for one value only, its ends dropped at once after use, by both sides at the same time.
#[test]
fn channels_of_one_value() {
    everywhere(|go| {
        for _ in 0..go.rounds(500) {
            for capacity in [Some(0), Some(1), None] {
                let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
                let value = Arc::new(());
                let sent = value.clone();
                let other = go.spawn(move || sender.send(sent));
                drop(receiver.recv().unwrap());
                drop(receiver);
                assert_eq!(other.join(), Ok(()));
                assert_eq!(Arc::strong_count(&value), 1);
            }
        }
    });
}

/// Requests and answers, where one side takes what is there without waiting.
#[test]
fn what_is_there_without_waiting() {
    everywhere(|go| {
        each_flavour(|ask, asked| {
            let (answer, answers) = ([rendezvous(), bounded(1)], go.rounds(300));
            for (answer, answered) in answer {
                let asked: Receiver<()> = asked.clone();
                let other = go.spawn(move || {
                    let mut count = 0;
                    while count < answers {
                        for () in asked.try_iter() {
                            answer.send(count).unwrap();
                            count += 1;
                        }
                        bast::task::yield_now();
                    }
                });
                for n in 0..answers {
                    ask.send(()).unwrap();
                    assert_eq!(answered.recv(), Ok(n));
                }
                other.join();
            }
        });
    });
}

/// Whoever has sent a value can take one at once: what was sent is there.
#[test]
fn what_was_sent_is_there() {
    everywhere(|go| {
        const PARTIES: usize = 4;
        for capacity in [Some(PARTIES), None] {
            let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
            let rounds = go.rounds(2_000);
            let parties: Vec<_> = (0..PARTIES)
                .map(|_| {
                    let (sender, receiver) = (sender.clone(), receiver.clone());
                    go.spawn(move || {
                        for _ in 0..rounds {
                            sender.try_send(0).expect("there is room for one of each party");
                            receiver.try_recv().expect("at least one is there");
                        }
                    })
                })
                .collect();
            parties.into_iter().for_each(|party| party.join());
            assert!(receiver.is_empty());
        }
    });
}

/// One channel in five cases: each is chosen about equally often.
#[test]
fn cases_of_one_channel_are_chosen_fairly() {
    everywhere(|go| {
        for capacity in [Some(0), Some(100), None] {
            let rounds = 2_000;
            let (sender, receiver) = capacity.map_or_else(unbounded, bounded);
            let producer = go.spawn(move || (0..rounds).for_each(|n| sender.send(n).unwrap()));
            let mut hits = [0; 5];
            for _ in 0..rounds {
                let hit = select! {
                    recv(receiver) -> got => got.map(|_| 0),
                    recv(receiver) -> got => got.map(|_| 1),
                    recv(receiver) -> got => got.map(|_| 2),
                    recv(receiver) -> got => got.map(|_| 3),
                    recv(receiver) -> got => got.map(|_| 4),
                };
                hits[hit.unwrap()] += 1;
            }
            producer.join();
            assert!(
                hits.iter().all(|&hits| hits >= rounds / 5 / 2),
                "{capacity:?}: {hits:?}"
            );
        }
    });
}

/// Two senders without a buffer: a select over both takes from each. How often depends on which of them is back in time;
/// but neither may be left out for ever.
#[test]
fn senders_who_wait_are_chosen_fairly() {
    everywhere(|go| {
        let (a, from_a) = rendezvous();
        let (b, from_b) = rendezvous();
        let senders = [a, b].map(|end| go.spawn(move || while end.send(()).is_ok() {}));
        let mut hits = [0; 2];
        for _ in 0..1_000_000 {
            select! {
                recv(from_a) -> got => { got.unwrap(); hits[0] += 1 }
                recv(from_b) -> got => { got.unwrap(); hits[1] += 1 }
            }
            if hits.iter().all(|&hits| hits >= 50) {
                break;
            }
        }
        drop((from_a, from_b));
        senders.into_iter().for_each(|sender| sender.join());
        assert!(hits.iter().all(|&hits| hits >= 50), "{hits:?}");
    });
}

/// The value of a send is worked out before the channel is touched: it may come from that same channel.
#[test]
fn a_value_that_comes_from_its_own_channel() {
    everywhere(|_| {
        for (sender, receiver) in [bounded(1), unbounded()] {
            sender.send(1).unwrap();
            select! {
                recv(never::<u32>()) -> _ => unreachable!(),
                send(sender, receiver.recv().unwrap() + 1) -> sent => sent.unwrap(),
            }
            sender.send(receiver.recv().unwrap() + 1).unwrap();
            assert_eq!(receiver.recv(), Ok(3));
        }
    });
}

/// Ends of channels as values: each brings the next.
#[test]
fn channels_through_channels() {
    type Anything = Box<dyn Any + Send>;
    everywhere(|go| {
        for capacity in [Some(0), Some(1), None] {
            let make = move || capacity.map_or_else(unbounded::<Anything>, bounded);
            let rounds = go.rounds(300);
            let (first, mut receiver) = make();
            let producer = go.spawn(move || {
                let mut sender = first;
                for _ in 0..rounds {
                    let (next_sender, next) = make();
                    sender.send(Box::new(Some(next))).unwrap();
                    sender = next_sender;
                }
            });
            for _ in 0..rounds {
                let mut got = receiver.recv().unwrap();
                let next = got.downcast_mut::<Option<Receiver<Anything>>>();
                receiver = next.and_then(Option::take).expect("the next receiver");
            }
            assert!(receiver.recv().is_err(), "its sender has gone");
            producer.join();
        }
    });
}

/// Says when it is dropped, by a panic.
#[derive(Debug)]
struct Panics(Arc<AtomicUsize>);

impl Drop for Panics {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
        panic!("on purpose, in drop");
    }
}

/// A value whose drop panics: nothing is dropped twice, and the channel is closed all the same.
#[test]
fn values_that_panic_when_dropped() {
    everywhere(|_| {
        for (sender, receiver) in [bounded(3), unbounded()] {
            let dropped = Arc::new(AtomicUsize::new(0));
            sender.send(Panics(dropped.clone())).unwrap();
            assert!(catch_unwind(AssertUnwindSafe(|| drop(receiver.recv()))).is_err());
            assert_eq!(dropped.load(SeqCst), 1);
            sender.send(Panics(dropped.clone())).unwrap();
            assert!(catch_unwind(AssertUnwindSafe(|| drop(receiver))).is_err());
            assert_eq!(dropped.load(SeqCst), 2);
            assert!(sender.is_closed() && sender.is_empty());
            drop(sender);
            assert_eq!(dropped.load(SeqCst), 2, "once each");
        }
    });
}

// ---- iterators ----

#[test]
fn iterators_within_iterators() {
    everywhere(|go| {
        each_flavour(|sender, receiver: Receiver<Receiver<usize>>| {
            let other = go.spawn(move || {
                for n in 0..20 {
                    let (inner, values) = bounded(1);
                    sender.send(values).unwrap();
                    (0..n).for_each(|n| inner.send(n).unwrap());
                }
            });
            let mut sum = 0;
            for (n, inner) in (&receiver).into_iter().enumerate() {
                let values: Vec<_> = inner.into_iter().collect();
                assert_eq!(values.len(), n);
                sum += values.len();
            }
            assert_eq!(sum, 190);
            other.join();
        });
    });
}

/// Who breaks off an iteration has taken what it saw, and no more.
#[test]
fn an_iteration_broken_off() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            let other = go.spawn(move || {
                let sent = (0..).take_while(|&n| sender.send(n).is_ok()).last();
                sent.expect("at least one")
            });
            for n in receiver.iter() {
                if n == 10 {
                    break;
                }
            }
            assert_eq!(receiver.recv(), Ok(11));
            assert_eq!(receiver.iter().next(), Some(12));
            drop(receiver);
            assert!(other.join() >= 12);
        });
    });
}

#[test]
fn iterators_end_with_the_channel_and_stay_ended() {
    everywhere(|_| {
        let (sender, receiver) = unbounded();
        assert_eq!(receiver.try_iter().next(), None);
        (0..3).for_each(|n| sender.send(n).unwrap());
        let mut trying = receiver.try_iter();
        assert_eq!((trying.next(), trying.next()), (Some(0), Some(1)));
        let mut taking = (&receiver).into_iter();
        assert_eq!(taking.next(), Some(2));
        assert_eq!(trying.next(), None);
        sender.send(3).unwrap();
        assert_eq!(trying.next(), Some(3), "what has come since");
        drop(sender);
        assert_eq!((taking.next(), taking.next()), (None, None));
        let mut owned = receiver.into_iter();
        assert_eq!((owned.next(), owned.next()), (None, None));
    });
}

// ---- ends ----

/// Which ends belong together, of every kind.
#[test]
fn ends_of_one_channel() {
    everywhere(|_| {
        each_flavour(|sender: Sender<u8>, receiver| {
            let (other_sender, other) = bounded(1);
            assert!(sender.same_channel(&sender.clone()) && !sender.same_channel(&other_sender));
            assert!(receiver.same_channel(&receiver.clone()) && !receiver.same_channel(&other));
            assert!(!receiver.same_channel(&never()));
        });
        let (moment, ticks) = (after(LONG), tick(LONG));
        assert!(moment.same_channel(&moment.clone()) && !moment.same_channel(&after(LONG)));
        assert!(ticks.same_channel(&ticks.clone()) && !ticks.same_channel(&tick(LONG)));
        assert!(!ticks.same_channel(&moment) && !never().same_channel(&ticks));
        assert!(never::<u8>().same_channel(&never()), "one never is like another");
    });
}

/// Ends that are cloned and dropped while others wait: only the last one counts.
#[test]
fn ends_come_and_go_while_others_wait() {
    everywhere(|go| {
        each_flavour(|sender: Sender<usize>, receiver| {
            let waiting = receiver.clone();
            let waiter = go.spawn(move || waiting.recv());
            let rounds = go.rounds(300);
            let crowd: Vec<_> = (0..3)
                .map(|_| {
                    let (sender, receiver) = (sender.clone(), receiver.clone());
                    go.spawn(move || {
                        for _ in 0..rounds {
                            drop((sender.clone(), receiver.clone()));
                        }
                    })
                })
                .collect();
            crowd.into_iter().for_each(|one| one.join());
            assert!(!sender.is_closed() && !receiver.is_closed());
            sender.send(7).unwrap();
            assert_eq!(waiter.join(), Ok(7));
        });
    });
}

/// The last end goes while another is being cloned from a third: nobody sees a closed channel that is open.
#[test]
fn the_last_sender_goes_in_a_race() {
    everywhere(|go| {
        each_flavour(|sender: Sender<usize>, receiver| {
            let crowd: Vec<_> = (0..4)
                .map(|id| {
                    let sender = sender.clone();
                    go.spawn(move || (0..50).for_each(|_| sender.clone().send(id).unwrap()))
                })
                .collect();
            drop(sender);
            assert_eq!(receiver.iter().count(), 200);
            crowd.into_iter().for_each(|one| one.join());
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        });
    });
}

/// A limit that is never reached does not wrap round; one that is over is over.
#[test]
fn limits_of_any_length() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            let other = go.spawn(move || {
                settle();
                sender.send_timeout(1, Duration::MAX).unwrap();
                sender.send_timeout(2, Duration::from_secs(u64::MAX)).unwrap();
                sender
            });
            assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(1));
            assert_eq!(receiver.recv_timeout(Duration::from_secs(u64::MAX)), Ok(2));
            let sender = other.join();
            assert_eq!(
                receiver.recv_timeout(Duration::ZERO),
                Err(RecvTimeoutError::Timeout)
            );
            assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
            drop(sender);
        });
    });
}

/// A wait with a limit that ends by the other side's going.
#[test]
fn going_ends_waits_with_a_limit() {
    everywhere(|go| {
        each_flavour(|sender: Sender<usize>, receiver| {
            let waiter = go.spawn(move || receiver.recv_timeout(LONG));
            settle();
            drop(sender);
            assert_eq!(waiter.join(), Err(RecvTimeoutError::Disconnected));
        });
        for capacity in [0, 2] {
            let (sender, receiver) = bounded(capacity);
            (0..capacity).for_each(|n| sender.send(n).unwrap());
            let waiter = go.spawn(move || sender.send_timeout(9, LONG));
            settle();
            drop(receiver);
            assert_eq!(waiter.join(), Err(SendTimeoutError::Disconnected(9)));
        }
    });
}

/// A receiver whose time ran out does not swallow the value that comes next.
#[test]
fn a_value_that_comes_after_the_time() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            for n in 0..go.rounds(100) {
                assert_eq!(
                    receiver.recv_timeout(Duration::from_micros(10)),
                    Err(RecvTimeoutError::Timeout)
                );
                let ours = sender.clone();
                let other = go.spawn(move || ours.send(n));
                wait_for(|| receiver.try_recv().map(|got| assert_eq!(got, n)).is_ok());
                other.join().unwrap();
            }
        });
    });
}
