//! What crossbeam-channel's tests of `Select` and `select!` pin down, beyond `select_basic.rs`: stress of every mixture,
//! pairs that match each other, one moment for a whole select, panics in what a select evaluates, what the macro takes.
//! Written anew.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::select;
use bast::sync::channel::{
    Receiver, RecvError, SendError, Sender, TryRecvError, after, bounded, never, rendezvous, unbounded,
};
use bast::sync::select::Select;
use chan_util::{LONG, SHORT, everywhere, settle, wait_for};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

// ---- who matches whom ----

/// Parties that each both send and receive on one channel without a buffer: they pair up, nobody with itself.
#[test]
fn parties_pair_up() {
    fn meet(sender: &Sender<usize>, receiver: &Receiver<usize>, me: usize, built: bool) {
        if built {
            let mut select = Select::new();
            let receives = select.recv(receiver);
            select.send(sender, me);
            let won = select.select();
            if won.index() == receives {
                assert_ne!(won.recv(receiver), Ok(me));
            } else {
                won.send(sender).unwrap();
            }
        } else {
            select! {
                recv(receiver) -> got => assert_ne!(got, Ok(me)),
                send(sender, me) -> sent => sent.unwrap(),
            }
        }
    }
    everywhere(|go| {
        for parties in [2, 8, 7] {
            for _ in 0..go.rounds(50) {
                let (sender, receiver) = rendezvous();
                let all: Vec<_> = (0..parties)
                    .map(|me| {
                        let (sender, receiver) = (sender.clone(), receiver.clone());
                        go.spawn(move || meet(&sender, &receiver, me, me % 2 == 0))
                    })
                    .collect();
                if parties % 2 == 1 {
                    sender.send(usize::MAX).unwrap(); // for the one that is left over
                }
                all.into_iter().for_each(|one| one.join());
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            }
        }
    });
}

/// Every party puts a value somewhere and then takes one: so some channel has one whenever anybody looks, and who looks
/// at all of them at one moment finds it. (Those who looked at one after the other would not.)
#[test]
fn a_select_looks_at_one_moment() {
    everywhere(|go| {
        for built in [false, true] {
            const CHANNELS: usize = 4;
            let ends: Vec<_> = (0..CHANNELS).map(|_| unbounded::<usize>()).collect();
            let rounds = go.rounds(1_000);
            let parties: Vec<_> = (0..4)
                .map(|id| {
                    let ends = ends.clone();
                    go.spawn(move || {
                        for round in 0..rounds {
                            ends[(id + round * 3) % CHANNELS].0.send(0).unwrap();
                            if built {
                                let mut select = Select::new();
                                for (_, receiver) in &ends {
                                    select.recv(receiver);
                                }
                                let won = select.try_select().expect("there is one of mine, or of another");
                                let receiver = &ends[won.index()].1;
                                won.recv(receiver).unwrap();
                            } else {
                                select! {
                                    recv(ends[0].1) -> got => assert_eq!(got, Ok(0)),
                                    recv(ends[1].1) -> got => assert_eq!(got, Ok(0)),
                                    recv(ends[2].1) -> got => assert_eq!(got, Ok(0)),
                                    recv(ends[3].1) -> got => assert_eq!(got, Ok(0)),
                                    default => panic!("there is one of mine, or of another"),
                                }
                            }
                        }
                    })
                })
                .collect();
            parties.into_iter().for_each(|one| one.join());
            assert!(ends.iter().all(|(_, receiver)| receiver.is_empty()));
        }
    });
}

/// As above with a limit instead of `default`: time does not run out while there is something.
#[test]
fn time_does_not_run_out_while_one_is_ready() {
    everywhere(|go| {
        let (a, from_a) = bounded(1);
        let (b, from_b) = bounded(1);
        a.send(0).unwrap();
        let rounds = go.rounds(1_000);
        // Moves one value to and fro; at every moment it is in one of the two, or in the hand of who moves it.
        let mover = go.spawn(move || {
            for round in 0..rounds {
                let got = select! {
                    recv(from_a) -> got => got.unwrap(),
                    recv(from_b) -> got => got.unwrap(),
                    default(LONG) => panic!("round {round}: it is here"),
                };
                [&a, &b][round % 2].try_send(got + 1).unwrap();
            }
            from_a.try_recv().or(from_b.try_recv())
        });
        assert_eq!(mover.join(), Ok(rounds));
    });
}

// ---- stress ----

/// A sender and a receiver by select of as many channels, of which some end early.
#[test]
fn sends_and_receives_in_one_select_against_plain_calls() {
    everywhere(|go| {
        for capacity in [0, 1] {
            let rounds = go.rounds(1_000);
            let (to_here, here) = bounded(capacity);
            let (out, outside) = bounded(capacity);
            let feeding = go.spawn(move || (0..rounds).for_each(|n| to_here.send(n).unwrap()));
            let eating = go.spawn(move || (0..rounds).for_each(|n| assert_eq!(outside.recv(), Ok(n))));
            let (mut got, mut sent) = (0, 0);
            let (off_in, (off_out, _kept)) = (never(), rendezvous());
            while got + sent < 2 * rounds {
                let from = if got < rounds { &here } else { &off_in };
                let to = if sent < rounds { &out } else { &off_out };
                select! {
                    recv(from) -> value => { assert_eq!(value, Ok(got)); got += 1 }
                    send(to, sent) -> done => { done.unwrap(); sent += 1 }
                }
            }
            feeding.join();
            eating.join();
        }
    });
}

/// Limits of all lengths against a partner who comes now and then; nothing is lost or doubled.
#[test]
fn limits_race_with_partners() {
    everywhere(|go| {
        for capacity in [0, 2] {
            let rounds = go.rounds(300);
            let (a, from_a) = bounded(capacity);
            let (b, from_b) = bounded(capacity);
            let producer = go.spawn(move || {
                for n in 0..rounds {
                    let (mut done, mut tries) = (false, 0);
                    while !done {
                        // Longer each time: two that never wait would never meet.
                        let limit = Duration::from_micros(n as u64 * 7 % 40 + tries);
                        tries += 1;
                        done = select! {
                            send(a, n) -> sent => sent.is_ok(),
                            send(b, n) -> sent => sent.is_ok(),
                            default(limit) => false,
                        };
                    }
                }
            });
            let mut next_of = [None; 2];
            let mut count = 0;
            while count < rounds {
                let limit = Duration::from_micros(count as u64 * 11 % 50);
                let got = select! {
                    recv(from_a) -> got => got.ok().map(|n| (0, n)),
                    recv(from_b) -> got => got.ok().map(|n| (1, n)),
                    default(limit) => None,
                };
                if let Some((which, n)) = got {
                    assert!(next_of[which] < Some(n), "{n} came late or twice");
                    next_of[which] = Some(n);
                    count += 1;
                }
                if got.is_none() && from_a.is_closed() && from_a.is_empty() && from_b.is_empty() {
                    break;
                }
            }
            producer.join();
            assert_eq!(count, rounds);
        }
    });
}

/// A waiting select wakes for each thing that can happen to its channels.
#[test]
fn what_wakes_a_select() {
    everywhere(|go| {
        for event in 0..4 {
            let (a, from_a) = rendezvous::<u32>();
            let (b, from_b) = bounded::<u32>(1);
            b.send(0).unwrap();
            let other = go.spawn(move || {
                settle();
                match event {
                    0 => drop(a),
                    1 => a.send(7).unwrap(),
                    2 => drop((from_b.recv().unwrap(), a.clone().is_closed())),
                    _ => drop(from_b),
                }
            });
            // In events 2 and 3 `a` goes as well, but later or not noticed: only the send may win before.
            let won = select! {
                recv(from_a) -> got => (0, got.is_ok()),
                send(b, 1) -> sent => (1, sent.is_ok()),
            };
            match event {
                0 => assert_eq!(won, (0, false)),
                1 => assert_eq!(won, (0, true)),
                _ => assert!(won.0 == 1 || won == (0, false), "{won:?}"),
            }
            other.join();
        }
    });
}

/// Others wait on the same channel by plain calls while selects come and go: nobody's turn is lost.
#[test]
fn selects_that_give_up_leave_others_in_the_queue() {
    everywhere(|go| {
        for _ in 0..go.rounds(100) {
            let (sender, receiver) = rendezvous();
            let (_open, silent) = rendezvous::<u32>();
            let theirs = receiver.clone();
            let passing = go.spawn(move || {
                let mut got = 0;
                for n in 0..20 {
                    let limit = Duration::from_micros(n % 5);
                    select! {
                        recv(theirs) -> value => got += usize::from(value.is_ok()),
                        recv(silent) -> _ => unreachable!(),
                        default(limit) => {}
                    }
                }
                got
            });
            let staying = go.spawn(move || receiver.iter().count());
            (0..10).for_each(|n| sender.send(n).unwrap());
            drop(sender);
            let closed = passing.join();
            assert_eq!(staying.join() + closed, 10);
        }
    });
}

/// Selects within the code of selects.
#[test]
fn selects_within_selects() {
    everywhere(|_| {
        let (sender, receiver) = unbounded();
        select! {
            send(sender, 0) -> sent => {
                sent.unwrap();
                select! {
                    recv(receiver) -> got => {
                        assert_eq!(got, Ok(0));
                        select! {
                            send(sender, 1) -> sent => {
                                sent.unwrap();
                                select! { recv(receiver) -> got => assert_eq!(got, Ok(1)) }
                            }
                        }
                    }
                }
            }
        }
        // And built ones, with one borrowed by another's cases.
        let mut outer = Select::new();
        outer.send(&sender, 2);
        outer.select().send(&sender).unwrap();
        let mut inner = Select::new();
        inner.recv(&receiver);
        assert_eq!(inner.select().recv(&receiver), Ok(2));
        assert!(outer.try_select().is_err(), "its case is used up");
    });
}

/// Channels handed on by selects, each bringing the next.
#[test]
fn channels_through_selects() {
    type Anything = Box<dyn Any + Send>;
    everywhere(|go| {
        for capacity in [0, 1, 3] {
            let rounds = go.rounds(200);
            let (first, mut receiver) = bounded::<Anything>(capacity);
            let producer = go.spawn(move || {
                let mut sender = first;
                for _ in 0..rounds {
                    let (next_sender, next) = bounded::<Anything>(capacity);
                    select! {
                        send(sender, Box::new(Some(next))) -> sent => sent.expect("it is received"),
                        recv(never::<u8>()) -> _ => unreachable!(),
                    }
                    sender = next_sender;
                }
            });
            for _ in 0..rounds {
                let mut got = select! {
                    recv(receiver) -> got => got.unwrap(),
                    recv(after(LONG)) -> _ => panic!("nothing came"),
                };
                let next = got.downcast_mut::<Option<Receiver<Anything>>>();
                receiver = next.and_then(Option::take).expect("the next receiver");
            }
            producer.join();
        }
    });
}

/// A select that is built once and used again and again, while others try the same channels.
#[test]
fn a_built_select_used_again() {
    everywhere(|go| {
        let rounds = go.rounds(500);
        let (a, from_a) = rendezvous();
        let (b, from_b) = bounded(2);
        let producers = [a, b].map(|end| go.spawn(move || (0..rounds).for_each(|n| end.send(n).unwrap())));
        let mut select = Select::new();
        select.recv(&from_a);
        select.recv(&from_b);
        let (mut next, mut open) = ([0; 2], 2);
        while open > 0 {
            let won = select.select();
            let index = won.index();
            match won.recv([&from_a, &from_b][index]) {
                Ok(n) => {
                    assert_eq!(n, next[index]);
                    next[index] += 1;
                }
                Err(RecvError) => {
                    select.remove(index);
                    open -= 1;
                }
            }
        }
        assert_eq!(next, [rounds; 2]);
        producers.into_iter().for_each(|one| one.join());
        assert!(
            catch_unwind(AssertUnwindSafe(|| select.select().index())).is_err(),
            "without cases it would wait for ever"
        );
    });
}

// ---- what the macro evaluates ----

/// A panic in what a select evaluates: no channel was touched, nothing is locked.
#[test]
fn a_panic_in_an_expression_leaves_channels_as_they_were() {
    fn panics<T>() -> T {
        panic!("on purpose")
    }
    everywhere(|_| {
        let (sender, receiver) = bounded(2);
        sender.send(1).unwrap();
        let value = catch_unwind(AssertUnwindSafe(|| {
            select! { recv(receiver) -> _ => {}, send(sender, panics()) -> _ => {} }
        }));
        let end = catch_unwind(AssertUnwindSafe(|| {
            select! { send(sender, 2) -> _ => {}, recv(panics::<&Receiver<u8>>()) -> _ => {} }
        }));
        let other_end = catch_unwind(AssertUnwindSafe(|| {
            select! { recv(receiver) -> _ => {}, send(panics::<&Sender<u8>>(), 0) -> _ => {} }
        }));
        let limit = catch_unwind(AssertUnwindSafe(|| {
            select! { recv(receiver) -> _ => {}, default(panics()) => {} }
        }));
        assert!(value.is_err() && end.is_err() && other_end.is_err() && limit.is_err());
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
        // And one in the code of the winner: what it received is gone, the channel is not.
        sender.send(3).unwrap();
        let code = catch_unwind(AssertUnwindSafe(
            || select! { recv(receiver) -> got => { assert_eq!(got, Ok(3)); panics() } },
        ));
        assert!(code.is_err() && receiver.is_empty() && !receiver.is_closed());
    });
}

/// Code that can run once only, in every place where one of several is run.
#[test]
fn code_that_runs_once() {
    everywhere(|_| {
        let (sender, receiver) = bounded(1);
        let (once, other, last) = (Box::new(1), Box::new(2), Box::new(3));
        let used = |value: Box<i32>| *value;
        let got = select! {
            recv(receiver) -> _ => used(once),
            send(sender, Box::new(9)) -> sent => { sent.unwrap(); used(other) }
            default => used(last),
        };
        assert_eq!(got, 2);
        let give_sender = || sender;
        let give_receiver = move || receiver;
        select! { recv(give_receiver()) -> got => assert_eq!(got, Ok(Box::new(9))) }
        select! { send(give_sender(), Box::new(8)) -> sent => assert_eq!(sent, Err(SendError(Box::new(8)))) }
    });
}

/// Ends in fields, behind references, pointers and calls.
#[test]
fn ends_in_any_place() {
    struct Held {
        sender: Sender<u32>,
        inner: (Receiver<u32>, u8),
    }
    everywhere(|_| {
        let (sender, receiver) = bounded(2);
        let held = Held {
            sender,
            inner: (receiver, 0),
        };
        let (boxed, by_ref) = (Box::new(&held), &&&held);
        select! { send(held.sender, 1) -> sent => sent.unwrap() }
        select! { send(&by_ref.sender, 2) -> sent => sent.unwrap() }
        select! { recv(boxed.inner.0) -> got => assert_eq!(got, Ok(1)) }
        select! { recv([&held.inner.0][0]) -> (Ok(2) | _) => {} }
        select! {
            recv(&&&by_ref.inner.0) -> _ => panic!("empty"),
            recv(if held.inner.1 == 0 { &held.inner.0 } else { unreachable!() }) -> _ => panic!("empty"),
            default => {}
        }
    });
}

/// Selects with one case and none of their own time behave as the plain calls.
#[test]
fn a_select_of_one_is_a_plain_call() {
    everywhere(|go| {
        for capacity in [0, 3] {
            let (sender, receiver) = bounded(capacity);
            assert!(select! { recv(receiver) -> _ => false, default => true });
            let rounds = go.rounds(500);
            let other = go.spawn(move || {
                for n in 0..rounds {
                    select! { send(sender, n) -> sent => sent.unwrap() }
                }
            });
            for n in 0..rounds {
                select! { recv(receiver) -> got => assert_eq!(got, Ok(n)) }
            }
            select! { recv(receiver) -> got => assert_eq!(got, Err(RecvError)) }
            select! { recv(receiver) -> got => assert_eq!(got, Err(RecvError)), default(SHORT) => panic!() }
            other.join();
        }
    });
}

/// Sixteen and more cases, of different types, each wins once.
#[test]
fn many_cases() {
    everywhere(|go| {
        let (a, from_a) = rendezvous::<u8>();
        let (b, from_b) = bounded::<String>(0);
        let (c, from_c) = bounded::<[u64; 20]>(0);
        let senders = [
            go.spawn(move || a.send(1).is_ok()),
            go.spawn(move || b.send("two".to_owned()).is_ok()),
            go.spawn(move || c.send([3; 20]).is_ok()),
        ];
        let (mut seen, off) = ([false; 3], never::<()>());
        while seen != [true; 3] {
            select! {
                recv(off) -> _ => {}, recv(off) -> _ => {}, recv(off) -> _ => {}, recv(off) -> _ => {},
                recv(from_a) -> got => if let Ok(got) = got { seen[0] = got == 1 },
                recv(off) -> _ => {}, recv(off) -> _ => {}, recv(off) -> _ => {}, recv(off) -> _ => {},
                recv(from_b) -> got => if let Ok(got) = got { seen[1] = got == "two" },
                recv(off) -> _ => {}, recv(off) -> _ => {}, recv(off) -> _ => {}, recv(off) -> _ => {},
                recv(from_c) -> got => if let Ok(got) = got { seen[2] = got == [3; 20] },
            }
        }
        assert!(senders.into_iter().all(|one| one.join()));
        wait_for(|| [from_a.is_closed(), from_b.is_closed(), from_c.is_closed()] == [true; 3]);
    });
}
