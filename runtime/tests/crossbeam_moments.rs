//! What crossbeam-channel's tests (`after`, `tick`, `never`) and Go's of timers as channels pin down for receivers of
//! moments. Time decides no test: what is asserted is that nothing comes early, in what order, and how often.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::select;
use bast::sync::channel::{Receiver, RecvTimeoutError, TryRecvError, after, at, bounded, never, tick};
use bast::sync::select::Select;
use chan_util::{LONG, SHORT, everywhere, wait_for};
use std::collections::HashSet;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_moment_comes_once_and_not_early() {
    everywhere(|_| {
        let start = Instant::now();
        let receiver = after(SHORT);
        let at_once = receiver.try_recv();
        assert!(at_once == Err(TryRecvError::Empty) || start.elapsed() >= SHORT);
        let moment = at_once.or_else(|_| receiver.recv()).unwrap();
        assert!(moment >= start + SHORT && Instant::now() >= moment);
        assert_eq!(
            receiver.try_recv(),
            Err(TryRecvError::Empty),
            "there is no second"
        );
        assert_eq!(receiver.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
        assert!(!receiver.is_closed() && !receiver.close());
    });
}

/// What is received is when it was due, however late it is received.
#[test]
fn a_moment_is_when_it_was_due() {
    everywhere(|_| {
        let deadline = Instant::now() + SHORT;
        let receiver = at(deadline);
        bast::time::sleep(2 * SHORT);
        assert_eq!(receiver.recv(), Ok(deadline));
        let past = Instant::now() - 20 * MS;
        assert_eq!(at(past).recv(), Ok(past));
        assert!(after(Duration::ZERO).try_recv().is_ok());
    });
}

#[test]
fn length_and_capacity_of_moments() {
    everywhere(|_| {
        for receiver in [after(SHORT), tick(SHORT), at(Instant::now() + SHORT)] {
            assert_eq!(receiver.capacity(), Some(1));
            wait_for(|| !receiver.is_empty());
            assert_eq!((receiver.len(), receiver.is_full()), (1, true));
            receiver.recv().unwrap();
        }
        let once = after(MS);
        once.recv().unwrap();
        assert_eq!((once.len(), once.is_full(), once.is_empty()), (0, false, true));
        let nothing = never::<u32>();
        assert_eq!((nothing.len(), nothing.capacity()), (0, Some(0)));
        assert!(nothing.is_empty() && nothing.is_full());
    });
}

/// Clones share the moment: one of many who wait has it, whichever way they wait.
#[test]
fn one_of_many_has_the_moment() {
    everywhere(|go| {
        for _ in 0..5 {
            let receiver = after(SHORT);
            let waiters: Vec<_> = (0..6)
                .map(|way| {
                    let receiver = receiver.clone();
                    go.spawn(move || match way % 3 {
                        0 => receiver.recv_timeout(10 * SHORT).is_ok(),
                        1 => {
                            let over = Instant::now() + 10 * SHORT;
                            receiver.recv_deadline(over).is_ok()
                        }
                        _ => select! { recv(receiver) -> got => got.is_ok(), default(10 * SHORT) => false },
                    })
                })
                .collect();
            let had = waiters.into_iter().map(|one| one.join());
            assert!(had.map(usize::from).sum::<usize>() <= 1, "more than one had it");
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "nobody had it");
        }
    });
}

/// No time limit is long enough to be sure that somebody had it; so here all wait as long as it takes, and the ones
/// left over are told to go.
#[test]
fn many_moments_for_many() {
    everywhere(|go| {
        let (stop, stopped) = bounded::<()>(0);
        let count = go.rounds(100);
        let moments: Vec<Receiver<Instant>> = (0..count)
            .map(|n| after(Duration::from_micros(n as u64 * 17 % 3000)))
            .collect();
        let (say, said) = bounded(count);
        let waiters: Vec<_> = moments
            .iter()
            .chain(&moments)
            .map(|moment| {
                let (moment, stopped, say) = (moment.clone(), stopped.clone(), say.clone());
                go.spawn(move || {
                    select! {
                        recv(moment) -> got => say.send(got.unwrap()).unwrap(),
                        recv(stopped) -> _ => {}
                    }
                })
            })
            .collect();
        let got: Vec<_> = said.iter().take(count).collect();
        drop(stop);
        waiters.into_iter().for_each(|one| one.join());
        assert_eq!(got.len(), count);
        assert!(said.try_recv().is_err(), "two had one moment");
        assert!(moments.iter().all(|moment| moment.try_recv().is_err()));
    });
}

#[test]
fn moments_in_a_select() {
    everywhere(|_| {
        // The nearest wins, whatever stands first.
        for _ in 0..5 {
            select! {
                recv(after(LONG)) -> _ => panic!("a long time"),
                recv(after(MS)) -> got => assert!(got.unwrap() <= Instant::now()),
                recv(never::<u8>()) -> _ => panic!("never"),
            }
        }
        // One that is due is ready at once.
        let due = after(Duration::ZERO);
        select! { recv(due) -> got => assert!(got.is_ok()), default => panic!("it is due") }
        select! { recv(due) -> _ => panic!("there is one"), default => {} }
        // The limit of the select itself.
        select! { recv(after(LONG)) -> _ => panic!("a long time"), default(MS) => {} }
        let (long, short) = (after(LONG), after(MS));
        let mut select = Select::new();
        select.recv(&long);
        let wanted = select.recv(&short);
        let won = select.select();
        assert_eq!(won.index(), wanted);
        won.recv(&short).unwrap();
        assert!(select.try_select().is_err());
    });
}

/// Of several moments that are due each is chosen about equally often, also where no channel is among the cases.
#[test]
fn moments_that_are_due_are_chosen_fairly() {
    everywhere(|_| {
        let rounds = 1_000;
        let mut hits = [0; 2];
        for _ in 0..rounds {
            let (one, two) = (after(Duration::ZERO), after(Duration::ZERO));
            select! {
                recv(one) -> _ => hits[0] += 1,
                recv(two) -> _ => hits[1] += 1,
            }
        }
        assert!(hits.iter().all(|&hits| hits >= rounds / 4), "moments: {hits:?}");
        // Two beats so fast that both are always due.
        let (one, two) = (tick(Duration::from_nanos(1)), tick(Duration::from_nanos(1)));
        let mut hits = [0; 3];
        for _ in 0..rounds {
            select! {
                recv(never::<u8>()) -> _ => hits[2] += 1,
                recv(one) -> _ => hits[0] += 1,
                recv(two) -> _ => hits[1] += 1,
            }
        }
        assert!(
            hits[..2].iter().all(|&hits| hits >= rounds / 4),
            "ticks: {hits:?}"
        );
    });
}

#[test]
fn ticks_keep_their_beat() {
    everywhere(|_| {
        let start = Instant::now();
        let ticks = tick(2 * MS);
        let moments: Vec<_> = (0..5).map(|_| ticks.recv().unwrap()).collect();
        assert!(moments[0] >= start + 2 * MS);
        for pair in moments.windows(2) {
            let apart = pair[1] - pair[0];
            assert!(apart >= 2 * MS, "{apart:?}");
            assert_eq!(apart.as_nanos() % (2 * MS).as_nanos(), 0, "on the beat");
        }
        // What nobody received in time is left out, but for one.
        bast::time::sleep(20 * MS);
        let woke = Instant::now();
        let late = ticks.recv().unwrap();
        assert!(late > *moments.last().unwrap() && late <= Instant::now());
        assert!(ticks.recv().unwrap() > woke, "those in between are left out");
        assert!(!ticks.is_closed() && !ticks.close());
    });
}

/// Ticks by iteration, and among other cases.
#[test]
fn ticks_go_on() {
    everywhere(|_| {
        let ticks = tick(MS);
        assert_eq!(ticks.iter().take(5).count(), 5);
        let (mut seen, over) = (0, after(LONG));
        while seen < 5 {
            select! {
                recv(ticks) -> got => { got.unwrap(); seen += 1 }
                recv(over) -> _ => panic!("no ticks"),
            }
        }
    });
}

/// Every tick goes to one of those who wait for them.
#[test]
fn ticks_are_shared_out() {
    everywhere(|go| {
        let ticks = tick(Duration::from_micros(200));
        let waiters: Vec<_> = (0..4)
            .map(|way| {
                let ticks = ticks.clone();
                go.spawn(move || {
                    let one = || match way % 2 {
                        0 => ticks.recv().unwrap(),
                        _ => select! { recv(ticks) -> got => got.unwrap() },
                    };
                    (0..5).map(|_| one()).collect::<Vec<_>>()
                })
            })
            .collect();
        let got: Vec<_> = waiters.into_iter().flat_map(|one| one.join()).collect();
        let different: HashSet<_> = got.iter().collect();
        assert_eq!(different.len(), 20, "a tick came twice");
    });
}

#[test]
fn never_in_every_way() {
    everywhere(|_| {
        let nothing = never::<u32>();
        assert_eq!(nothing.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(nothing.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
        assert_eq!(
            nothing.recv_deadline(Instant::now()),
            Err(RecvTimeoutError::Timeout)
        );
        assert_eq!(nothing.try_iter().next(), None);
        assert!(!nothing.is_closed() && !nothing.close());
        select! { recv(nothing) -> _ => panic!("never"), default => {} }
        select! { recv(nothing) -> _ => panic!("never"), default(MS) => {} }
        select! { recv(nothing.clone()) -> _ => panic!("never"), recv(after(MS)) -> _ => {} }
        // A case that is there or not: what it is for.
        let (sender, receiver) = bounded(1);
        sender.send(1).unwrap();
        for wanted in [false, true] {
            let maybe = if wanted { receiver.clone() } else { never() };
            select! {
                recv(maybe) -> got => assert_eq!((got, wanted), (Ok(1), true)),
                default => assert!(!wanted),
            }
        }
    });
}

/// A time that is too long to come does not wrap round, nor keep others from coming.
#[test]
fn moments_that_never_come() {
    everywhere(|_| {
        let far = [
            after(Duration::MAX),
            after(Duration::from_secs(u64::MAX)),
            tick(Duration::MAX),
        ];
        for receiver in &far {
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(receiver.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
        }
        select! {
            recv(far[0]) -> _ => panic!("584 years"),
            recv(far[2]) -> _ => panic!("584 years"),
            recv(after(MS)) -> _ => {}
        }
    });
}

#[test]
#[should_panic(expected = "must not be zero")]
fn a_tick_without_a_period() {
    let _ = tick(Duration::ZERO);
}

/// Many who wait for moments while all processors are busy with others.
#[test]
fn moments_come_to_busy_processors() {
    everywhere(|go| {
        let (stop, stopped) = bounded::<()>(0);
        let busy: Vec<_> = (0..4)
            .map(|_| {
                let stopped = stopped.clone();
                go.spawn(move || {
                    while stopped.try_recv() == Err(TryRecvError::Empty) {
                        bast::task::yield_now();
                    }
                })
            })
            .collect();
        let waiters: Vec<_> = (0..20)
            .map(|n| go.spawn(move || after(Duration::from_micros(n * 100)).recv().is_ok()))
            .collect();
        assert!(waiters.into_iter().all(|one| one.join()));
        drop(stop);
        busy.into_iter().for_each(|one| one.join());
    });
}
