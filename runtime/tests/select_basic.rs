//! `select!` and `Select`: who wins, what the losers keep, time, fairness, and what the macro reads.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::select;
use bast::sync::channel::{
    self, Receiver, RecvError, SendError, Sender, TryRecvError, after, bounded, never, rendezvous, tick,
    unbounded,
};
use bast::sync::select::{Select, SelectTimeoutError, TrySelectError};
use chan_util::{LONG, SHORT, everywhere, settle};
use std::time::{Duration, Instant};

#[test]
fn the_ready_case_wins() {
    everywhere(|_| {
        let (sender, receiver) = bounded(1);
        let (_quiet, nothing) = bounded::<u32>(1);
        for n in 0..100 {
            let sent = select! {
                recv(nothing) -> value => panic!("{value:?}"),
                send(sender, n) -> sent => sent.is_ok(),
            };
            assert!(sent);
            let got = select! {
                recv(nothing) -> value => value.unwrap(),
                recv(&receiver) -> value => value.unwrap(),
                default => panic!("one is ready"),
            };
            assert_eq!(got, n);
            select! {
                recv(nothing) -> _ => panic!(),
                recv(receiver) -> _ => panic!(),
                default => {}
            }
        }
    });
}

#[test]
fn a_waiting_select_is_woken_by_each_case() {
    everywhere(|go| {
        let rounds = go.rounds(500);
        let (a, from_a) = rendezvous();
        let (b, from_b) = rendezvous();
        let (to_c, c) = rendezvous();
        let helper = go.spawn(move || {
            for n in 0..rounds {
                match n % 3 {
                    0 => a.send(n).unwrap(),
                    1 => b.send(n).unwrap(),
                    _ => assert_eq!(c.recv(), Ok(n)),
                }
            }
            (a, b) // open until all is over
        });
        for n in 0..rounds {
            let won = select! {
                recv(from_a) -> value => (0, value),
                recv(from_b) -> value => (1, value),
                send(to_c, n) -> sent => (2, sent.map(|()| n).map_err(|_| RecvError)),
            };
            assert_eq!(won, (n % 3, Ok(n)));
        }
        helper.join();
    });
}

#[test]
fn closed_channels_are_ready() {
    everywhere(|go| {
        let (sender, receiver) = bounded::<u32>(0);
        let (full, _keep) = bounded::<u32>(0);
        drop(sender);
        select! {
            recv(receiver) -> value => assert_eq!(value, Err(RecvError)),
            send(full, 1) -> _ => panic!(),
        }
        let (sender, receiver) = bounded::<String>(0);
        let closer = go.spawn(move || {
            settle();
            drop(receiver);
        });
        select! {
            recv(never::<u32>()) -> _ => panic!(),
            send(sender, "back".to_owned()) -> sent => assert_eq!(sent, Err(SendError("back".to_owned()))),
        }
        closer.join();
    });
}

#[test]
fn losers_keep_what_they_have() {
    everywhere(|_| {
        let (a, from_a) = bounded(1);
        let (b, from_b) = bounded(1);
        let value = std::sync::Arc::new(());
        for _ in 0..200 {
            select! {
                send(a, value.clone()) -> sent => sent.unwrap(),
                send(b, value.clone()) -> sent => sent.unwrap(),
            }
            assert_eq!(a.len() + b.len(), 1, "exactly one was sent");
            assert_eq!(std::sync::Arc::strong_count(&value), 2, "the loser's is dropped");
            b.try_send(value.clone())
                .or_else(|_| a.try_send(value.clone()))
                .unwrap();
            select! {
                recv(from_a) -> got => drop(got.unwrap()),
                recv(from_b) -> got => drop(got.unwrap()),
            }
            assert_eq!(from_a.len() + from_b.len(), 1, "exactly one was received");
            assert_eq!(from_a.try_iter().chain(from_b.try_iter()).count(), 1);
            assert_eq!(std::sync::Arc::strong_count(&value), 1);
        }
    });
}

/// Senders by select against receivers by select over the same channels: the hardest meeting.
#[test]
fn selects_meet_selects() {
    everywhere(|go| {
        for capacity in [0, 1] {
            let rounds = go.rounds(3_000);
            let (a, from_a) = bounded(capacity);
            let (b, from_b) = bounded(capacity);
            let senders: Vec<_> = (0..2)
                .map(|id| {
                    let (a, b) = (a.clone(), b.clone());
                    go.spawn(move || {
                        for n in 0..rounds {
                            let value = 2 * n + id;
                            if id == 0 {
                                select! { send(a, value) -> r => r.unwrap(), send(b, value) -> r => r.unwrap() }
                            } else {
                                select! { send(b, value) -> r => r.unwrap(), send(a, value) -> r => r.unwrap() }
                            }
                        }
                    })
                })
                .collect();
            drop((a, b));
            let receivers: Vec<_> = (0..2)
                .map(|_| {
                    let (mut a, mut b) = (from_a.clone(), from_b.clone());
                    go.spawn(move || {
                        let mut got = Vec::new();
                        let mut open = 2;
                        while open > 0 {
                            select! {
                                recv(a) -> value => match value {
                                    Ok(value) => got.push(value),
                                    Err(RecvError) => { a = never(); open -= 1 }
                                },
                                recv(b) -> value => match value {
                                    Ok(value) => got.push(value),
                                    Err(RecvError) => { b = never(); open -= 1 }
                                },
                            }
                        }
                        got
                    })
                })
                .collect();
            senders.into_iter().for_each(|sender| sender.join());
            let mut got: Vec<_> = receivers
                .into_iter()
                .flat_map(|receiver| receiver.join())
                .collect();
            got.sort_unstable();
            assert_eq!(got, (0..2 * rounds).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_select_never_meets_itself_without_a_buffer() {
    everywhere(|_| {
        let (sender, receiver) = rendezvous();
        for _ in 0..100 {
            select! {
                send(sender, 1) -> _ => panic!("sent to itself"),
                recv(receiver) -> _ => panic!("received from itself"),
                default => {}
            }
        }
        select! {
            send(sender, 1) -> _ => panic!("sent to itself"),
            recv(receiver) -> _ => panic!("received from itself"),
            default(SHORT) => {}
        }
        let (sender, receiver) = bounded(1);
        for n in 0..100 {
            select! {
                send(sender, n) -> sent => assert_eq!((sent, n % 2), (Ok(()), 0)),
                recv(receiver) -> got => assert_eq!((got, n % 2), (Ok(n - 1), 1)),
            }
        }
    });
}

#[test]
fn the_same_channel_twice() {
    everywhere(|go| {
        for capacity in [0, 1] {
            let rounds = go.rounds(1_000);
            let (sender, receiver) = bounded(capacity);
            let producer = go.spawn(move || (0..rounds).for_each(|n| sender.send(n).unwrap()));
            for n in 0..rounds {
                let got = select! {
                    recv(receiver) -> value => value,
                    recv(receiver) -> value => value,
                    recv(receiver) -> value => value,
                };
                assert_eq!(got, Ok(n));
            }
            producer.join();
        }
    });
}

#[test]
fn cases_are_chosen_fairly() {
    everywhere(|_| {
        // As Go's: two ready cases among four, ten sigma.
        const ROUNDS: usize = 10_000;
        let (full, a) = bounded(ROUNDS + 1);
        let (_f2, b) = bounded::<usize>(1);
        let (f3, c) = bounded(ROUNDS + 1);
        let (_f4, d) = bounded::<usize>(1);
        (0..=ROUNDS).for_each(|n| {
            full.send(n).unwrap();
            f3.send(n).unwrap();
        });
        let mut first = 0;
        for _ in 0..ROUNDS {
            select! {
                recv(a) -> _ => first += 1,
                recv(b) -> _ => panic!(),
                recv(c) -> _ => {}
                recv(d) -> _ => panic!(),
            }
        }
        let sigma = (ROUNDS as f64 * 0.25).sqrt();
        let off = (f64::from(first) - ROUNDS as f64 / 2.0).abs();
        assert!(off < 10.0 * sigma, "{first} of {ROUNDS}");
    });
}

#[test]
fn moments() {
    everywhere(|_| {
        let start = Instant::now();
        let (_sender, receiver) = rendezvous::<u32>();
        let moment = select! {
            recv(receiver) -> _ => panic!(),
            recv(after(LONG)) -> _ => panic!(),
            recv(after(SHORT)) -> moment => moment.unwrap(),
        };
        assert!(moment >= start + SHORT && Instant::now() >= moment);
        let ticks = tick(Duration::from_millis(1));
        for _ in 0..3 {
            select! {
                recv(receiver) -> _ => panic!(),
                recv(ticks) -> moment => assert!(moment.unwrap() <= Instant::now()),
            }
        }
        select! {
            recv(receiver) -> _ => panic!(),
            recv(after(LONG)) -> _ => panic!(),
            default(SHORT) => {}
        }
        select! { recv(after(Duration::ZERO)) -> _ => {}, default => {} }
        select! { default(SHORT) => {} }
        assert_eq!(select! { default => 1 }, 1);
    });
}

#[test]
fn a_timeout_around_a_select_bounds_it() {
    chan_util::on_each(|| {
        let (sender, receiver) = rendezvous::<u32>();
        let late = bast::time::timeout(SHORT, || {
            select! {
                recv(receiver) -> value => assert_eq!(value, Err(RecvError)),
                send(sender, 5) -> sent => assert_eq!(sent, Err(SendError(5))),
            }
        });
        assert!(late.is_err());
        let late = bast::time::timeout(SHORT, || {
            select! { recv(receiver) -> _ => false, default(LONG) => true }
        });
        assert!(late.unwrap_err().into_inner(), "default is taken early");
    });
}

#[test]
fn expressions_are_evaluated_once_and_in_order() {
    everywhere(|_| {
        let order = std::cell::RefCell::new(Vec::new());
        let (sender, receiver) = bounded(1);
        fn note<T>(order: &std::cell::RefCell<Vec<u32>>, n: u32, value: T) -> T {
            order.borrow_mut().push(n);
            value
        }
        select! {
            recv(note(&order, 1, never::<u32>())) -> _ => { note(&order, 10, ()) }
            send(note(&order, 2, &sender), note(&order, 3, "x")) -> sent => {
                note(&order, 11, ());
                sent.unwrap();
            }
            recv(*note(&order, 4, &&never::<u32>())) -> _ => note(&order, 12, ()),
            default(note(&order, 5, LONG)) => note(&order, 13, ()),
        }
        assert_eq!(*order.borrow(), [1, 2, 3, 4, 5, 11]);
        assert_eq!(receiver.recv(), Ok("x"));
    });
}

#[test]
fn what_the_macro_reads() {
    fn leaves(receiver: &Receiver<u32>) -> Result<u32, RecvError> {
        loop {
            select! {
                recv(receiver) -> value => {
                    let value = value?;
                    if value == 0 { continue }
                    if value == 1 { break }
                    return Ok(value);
                }
            }
        }
        Ok(100)
    }
    everywhere(|_| {
        let (sender, receiver) = unbounded();
        [0, 1, 0, 7].into_iter().for_each(|n| sender.send(n).unwrap());
        assert_eq!(leaves(&receiver), Ok(100));
        assert_eq!(leaves(&receiver), Ok(7));
        sender.close();
        assert_eq!(leaves(&receiver), Err(RecvError));
        // The code may use up what the case borrowed.
        select! { recv(receiver) -> _ => drop(receiver), }
        let boxed: Box<dyn Fn() -> Sender<u32>> = Box::new(|| sender.clone());
        select! { send(boxed(), 1,) -> sent => assert!(sent.is_err()) }
        let got = select! { recv(never::<()>()) -> _ => 1, default() => 2 };
        assert_eq!(got, 2);
        let got = select! {
            default => { 3 }
            recv(never::<()>(),) -> _ => { 4 }
        };
        assert_eq!(got, 3);
    });
}

#[test]
fn a_select_built_one_by_one() {
    everywhere(|go| {
        let channels: Vec<_> = (0..20).map(|_| channel::bounded::<usize>(0)).collect();
        let mut select = Select::new();
        let numbers: Vec<_> = channels
            .iter()
            .map(|(_, receiver)| select.recv(receiver))
            .collect();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        assert_eq!(select.try_select().unwrap_err(), TrySelectError);
        assert_eq!(select.select_timeout(SHORT).unwrap_err(), SelectTimeoutError);
        assert_eq!(
            select.select_deadline(Instant::now()).unwrap_err(),
            SelectTimeoutError
        );
        let senders: Vec<_> = channels.iter().map(|(sender, _)| sender.clone()).collect();
        let producer = go.spawn(move || {
            for n in 0..200 {
                senders[n % 20].send(n).unwrap();
            }
        });
        select.remove(3);
        for n in (0..200).filter(|n| n % 20 != 3) {
            if n > 0 && (n - 1) % 20 == 3 {
                assert_eq!(channels[3].1.recv(), Ok(n - 1));
            }
            let won = select.select();
            assert_eq!(won.index(), n % 20);
            assert_eq!(won.recv(&channels[n % 20].1), Ok(n));
        }
        producer.join();
    });
}

#[test]
fn a_built_select_sends_and_gives_back() {
    everywhere(|_| {
        let (sender, receiver) = bounded(1);
        let (stuck, _stuck_receiver) = rendezvous();
        let mut select = Select::new();
        let sends = select.send(&sender, "sent".to_owned());
        let waits = select.send(&stuck, "given back".to_owned());
        let won = select.select();
        assert_eq!(won.index(), sends);
        assert_eq!(won.send(&sender), Ok(()));
        assert_eq!(select.try_select().unwrap_err(), TrySelectError);
        assert_eq!(select.remove_send(waits, &stuck), "given back");
        assert_eq!(receiver.recv(), Ok("sent".to_owned()));
        // Nobody asks for the result: the value is gone, and nothing else.
        let again = select.send(&sender, "unasked".to_owned());
        assert_eq!(select.try_select().unwrap().index(), again);
        assert!(select.try_select().is_err());
        let receives = select.recv(&receiver);
        assert_eq!(select.try_select().unwrap().index(), receives);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert!(select.try_select().is_err());
        sender.send("asked".to_owned()).unwrap();
        let won = select.select();
        assert_eq!(won.index(), receives);
        assert_eq!(won.recv(&receiver), Ok("asked".to_owned()));
    });
}

#[test]
#[should_panic(expected = "not about that receiver")]
fn a_built_select_asked_for_another_channel() {
    let (sender, receiver) = bounded(1);
    let other = receiver.clone();
    sender.send(1).unwrap();
    let mut select = Select::new();
    select.recv(&receiver);
    let _ = select.select().recv(&other);
}
