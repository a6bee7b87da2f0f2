//! Go's small programs that test channels (`test/chan`), by their behaviour, written anew: sieves, chains, power series.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::select;
use bast::sync::channel::{Receiver, RecvError, Sender, bounded, never, rendezvous};
use chan_util::{Go, everywhere, on_each, settle};
use std::collections::HashSet;

/// No value of a sender in a four-way select arrives twice.
#[test]
fn doubleselect() {
    everywhere(|go| {
        let rounds = go.rounds(20_000);
        let (ends, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| rendezvous::<usize>()).unzip();
        let sender = go.spawn(move || {
            for n in 0..rounds {
                select! {
                    send(ends[0], n) -> sent => sent.unwrap(),
                    send(ends[1], n) -> sent => sent.unwrap(),
                    send(ends[2], n) -> sent => sent.unwrap(),
                    send(ends[3], n) -> sent => sent.unwrap(),
                }
            }
        });
        let (to_all, all) = rendezvous();
        let forwarders: Vec<_> = receivers
            .into_iter()
            .map(|receiver| {
                let to_all = to_all.clone();
                go.spawn(move || receiver.iter().for_each(|n| to_all.send(n).unwrap()))
            })
            .collect();
        drop(to_all);
        let mut seen = HashSet::new();
        all.iter().for_each(|n| assert!(seen.insert(n), "{n} came twice"));
        assert_eq!(seen.len(), rounds);
        sender.join();
        forwarders.into_iter().for_each(|forwarder| forwarder.join());
    });
}

/// Chained tasks, each of which waits for the one before it, keep the order of a channel.
#[test]
fn fifo() {
    everywhere(|go| {
        for buffered in [true, false] {
            const COUNT: usize = 10;
            let (sender, receiver) = bounded(if buffered { COUNT } else { 0 });
            if buffered {
                (0..COUNT).for_each(|n| sender.send(n).unwrap());
                (0..COUNT).for_each(|n| assert_eq!(receiver.recv(), Ok(n)));
                continue;
            }
            let (begin, mut before) = rendezvous::<()>();
            let mut all = Vec::new();
            for n in 0..COUNT {
                let (after, next) = rendezvous();
                let receiver = receiver.clone();
                let turn = std::mem::replace(&mut before, next);
                all.push(go.spawn(move || {
                    turn.recv().unwrap();
                    assert_eq!(receiver.recv(), Ok(n));
                    after.send(()).unwrap();
                }));
            }
            begin.send(()).unwrap();
            (0..COUNT).for_each(|n| sender.send(n).unwrap());
            before.recv().unwrap();
            all.into_iter().for_each(|one| one.join());
        }
    });
}

/// Ten thousand tasks in a row hand one value on.
#[test]
fn goroutines() {
    on_each(|| {
        let (first, mut end) = rendezvous();
        for _ in 0..10_000 {
            let (sender, receiver) = rendezvous();
            let from = std::mem::replace(&mut end, receiver);
            bast::spawn(move || sender.send(from.recv().unwrap() + 1_u32).unwrap());
        }
        first.send(0).unwrap();
        assert_eq!(end.recv(), Ok(10_000));
    });
}

/// A select without a ready case does not spoil the queue of a channel where several wait.
#[test]
fn select6() {
    everywhere(|go| {
        let (a, from_a) = rendezvous::<bool>();
        let (b, from_b) = rendezvous::<bool>();
        let plain = from_a.clone();
        let first = go.spawn(move || plain.recv());
        settle();
        let selecting = go.spawn(move || {
            select! {
                recv(from_a) -> got => assert!(got.is_ok()),
                recv(from_b) -> got => assert!(got.is_ok()),
            }
            from_a.recv()
        });
        settle();
        b.send(true).unwrap();
        a.send(true).unwrap();
        a.send(true).unwrap();
        assert_eq!((first.join(), selecting.join()), (Ok(true), Ok(true)));
    });
}

/// Every way to receive against every way to send.
#[test]
fn select7() {
    type Recv = fn(&Receiver<u32>);
    type Send = fn(&Sender<u32>);
    let ways_to_receive: [Recv; 3] = [
        |receiver| assert_eq!(receiver.recv(), Ok(1)),
        |receiver| select! { recv(receiver) -> got => assert_eq!(got, Ok(1)) },
        |receiver| select! { recv(receiver) -> got => assert_eq!(got, Ok(1)), recv(never::<u32>()) -> _ => panic!() },
    ];
    let ways_to_send: [Send; 3] = [
        |sender| sender.send(1).unwrap(),
        |sender| select! { send(sender, 1) -> sent => sent.unwrap() },
        |sender| select! { send(sender, 1) -> sent => sent.unwrap(), recv(never::<u32>()) -> _ => panic!() },
    ];
    everywhere(|go| {
        for receive in ways_to_receive {
            for send in ways_to_send {
                let (sender, receiver) = rendezvous();
                let other = go.spawn(move || send(&sender));
                receive(&receiver);
                other.join();
            }
        }
    });
}

/// A break in a case leaves the loop around the select, a labelled one the outer loop.
#[test]
#[allow(clippy::never_loop, reason = "the inner loop is what the break must leave")]
fn select8() {
    everywhere(|_| {
        let (sender, receiver) = bounded(2);
        (0..2).for_each(|_| sender.send(true).unwrap());
        let mut rounds = 0;
        'outer: loop {
            loop {
                select! {
                    recv(receiver) -> got => {
                        rounds += 1;
                        if got.unwrap() && rounds == 1 {
                            break;
                        }
                        break 'outer;
                    }
                }
            }
        }
        assert_eq!(rounds, 2);
    });
}

/// Selects in a loop leave nothing behind: the memory of a million of them would show.
#[test]
fn select2() {
    everywhere(|go| {
        let rounds = go.rounds(20_000);
        let (a, from_a) = rendezvous();
        let (b, from_b) = rendezvous();
        let (end, ended) = rendezvous::<()>();
        let sender = go.spawn(move || {
            for n in 0..rounds {
                select! {
                    send(a, n) -> sent => sent.unwrap(),
                    send(b, n) -> sent => sent.unwrap(),
                }
            }
            drop(end);
        });
        let mut got = 0;
        loop {
            select! {
                recv(from_a) -> value => if value.is_ok() { got += 1 } else { break },
                recv(from_b) -> value => if value.is_ok() { got += 1 } else { break },
                recv(ended) -> _ => break,
            }
        }
        assert_eq!(got, rounds);
        sender.join();
    });
}

fn sieve(go: &Go, capacity: usize, count: usize) -> Vec<u32> {
    let (sender, mut numbers) = bounded(capacity);
    let mut all = vec![go.spawn(move || {
        (2..).take_while(|&n| sender.send(n).is_ok()).for_each(drop);
    })];
    let mut primes = Vec::new();
    for _ in 0..count {
        let prime: u32 = numbers.recv().unwrap();
        primes.push(prime);
        let (sender, receiver) = bounded(capacity);
        let from = std::mem::replace(&mut numbers, receiver);
        all.push(go.spawn(move || {
            from.iter()
                .filter(|n| n % prime != 0)
                .take_while(|&n| sender.send(n).is_ok())
                .for_each(drop);
        }));
    }
    drop(numbers); // the end runs up the chain
    all.into_iter().for_each(|one| one.join());
    primes
}

#[test]
fn sieve1_and_sieve2() {
    everywhere(|go| {
        let count = go.rounds(60).max(10);
        for capacity in [0, 1, 16] {
            let primes = sieve(go, capacity, count);
            assert_eq!(primes[..10], [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
            assert!(primes.is_sorted() && primes.iter().all(|p| (2..*p).all(|d| p % d != 0)));
        }
    });
}

#[test]
fn zerosize() {
    everywhere(|go| {
        for capacity in [0, 1, 8] {
            let (sender, receiver) = bounded::<[u64; 0]>(capacity);
            let other = go.spawn(move || (0..50).for_each(|_| sender.send([]).unwrap()));
            assert_eq!(receiver.iter().count(), 50);
            other.join();
        }
    });
}

// ---- powser1: power series as channels of coefficients, produced on demand ----

/// A series: a demand is sent, a coefficient comes back.
struct Series {
    demand: Sender<()>,
    coefficients: Receiver<i64>,
}

impl Series {
    /// `f(i)` is the coefficient of the i-th power, computed when it is asked for.
    fn new(mut f: impl FnMut(usize) -> Option<i64> + Send + 'static) -> Series {
        let (demand, demanded) = rendezvous();
        let (sender, coefficients) = rendezvous();
        bast::spawn(move || {
            for (power, ()) in demanded.iter().enumerate() {
                let Some(coefficient) = f(power) else { return };
                if sender.send(coefficient).is_err() {
                    return;
                }
            }
        });
        Series { demand, coefficients }
    }

    fn get(&self) -> Result<i64, RecvError> {
        self.demand.send(()).map_err(|_| RecvError)?;
        self.coefficients.recv()
    }

    fn first(self, count: usize) -> Vec<i64> {
        (0..count).map_while(|_| self.get().ok()).collect()
    }
}

fn ones() -> Series {
    Series::new(|_| Some(1))
}

fn add(a: Series, b: Series) -> Series {
    Series::new(move |_| Some(a.get().ok()? + b.get().ok()?))
}

fn times_x(a: Series) -> Series {
    Series::new(move |power| if power == 0 { Some(0) } else { a.get().ok() })
}

/// Two readers of one series, each at its own pace: whoever asks first for a coefficient has it fetched.
fn split(a: Series) -> (Series, Series) {
    let (ask_one, one_asked) = rendezvous();
    let (ask_two, two_asked) = rendezvous();
    let (one, from_one) = rendezvous();
    let (two, from_two) = rendezvous();
    bast::spawn(move || {
        let (mut one_asked, mut two_asked) = (one_asked, two_asked);
        let (mut known, mut places, mut open) = (Vec::new(), [0, 0], 2);
        while open > 0 {
            let (who, asked) = select! {
                recv(one_asked) -> asked => (0, asked),
                recv(two_asked) -> asked => (1, asked),
            };
            if asked.is_err() {
                *[&mut one_asked, &mut two_asked][who] = never();
                open -= 1;
                continue;
            }
            if places[who] == known.len() {
                let Ok(coefficient) = a.get() else { return };
                known.push(coefficient);
            }
            let _ = [&one, &two][who].send(known[places[who]]);
            places[who] += 1;
        }
    });
    let first = Series {
        demand: ask_one,
        coefficients: from_one,
    };
    let second = Series {
        demand: ask_two,
        coefficients: from_two,
    };
    (first, second)
}

/// By recursion: `(a0 + x A)(b0 + x B) = a0 b0 + x (a0 B + b0 A + x A B)`, a tree of tasks that grows with the power.
fn multiply(a: Series, b: Series) -> Series {
    let mut rest: Option<Series> = None;
    let mut ends = Some((a, b));
    Series::new(move |_| {
        if let Some((a, b)) = ends.take() {
            let (a0, b0) = (a.get().ok()?, b.get().ok()?);
            let (a1, a2) = split(a);
            let (b1, b2) = split(b);
            let outer = add(
                Series::new(move |_| Some(a0 * b1.get().ok()?)),
                Series::new(move |_| Some(b0 * a1.get().ok()?)),
            );
            // The inner product is made when its first coefficient is asked for, or there would be no end to it.
            let mut inner = Some((a2, b2));
            let mut product = None;
            let lazy = Series::new(move |_| {
                if let Some((a, b)) = inner.take() {
                    product = Some(multiply(a, b));
                }
                product.as_ref()?.get().ok()
            });
            rest = Some(add(outer, times_x(lazy)));
            return Some(a0 * b0);
        }
        rest.as_ref()?.get().ok()
    })
}

#[test]
fn powser1() {
    on_each(|| {
        assert_eq!(ones().first(5), [1, 1, 1, 1, 1]);
        assert_eq!(add(ones(), times_x(ones())).first(5), [1, 2, 2, 2, 2]);
        let (one, two) = split(ones());
        assert_eq!(two.first(7), [1; 7]);
        assert_eq!(one.first(3), [1; 3]);
        // 1/(1-x) squared, and cubed.
        assert_eq!(multiply(ones(), ones()).first(8), [1, 2, 3, 4, 5, 6, 7, 8]);
        let cube = multiply(multiply(ones(), ones()), ones());
        assert_eq!(cube.first(6), [1, 3, 6, 10, 15, 21]);
    });
}
