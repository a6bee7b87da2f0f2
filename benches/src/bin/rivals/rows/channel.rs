//! Values through channels.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, may_spawn, nanos_each};
use crate::system::System;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// Places of a channel with a buffer.
pub(super) const BUFFER: usize = 128;
const TRIPS: usize = 1_000_000;
const VALUES: usize = 4_000_000;

pub(super) const RENDEZVOUS: Row = Row {
    name: "channel_rendezvous",
    about: "two tasks, two channels without a buffer, a value to and fro, 1M round trips",
    note: "tokio: buffer 1, it has none without; may: unbounded, it has no other; crossbeam, flume: two threads, \
           100k trips",
    metrics: &[Metric::new("", "ns/trip")],
    systems: System::RUNTIMES_AND_THREADS,
    work: Work::Alone(rendezvous),
};

pub(super) const ONE_TO_ONE: Row = Row {
    name: "channel_1_1",
    about: "one task sends to another, buffer 128, 4M values",
    note: "may: unbounded, it has no other; crossbeam, flume: two threads",
    metrics: &[Metric::new("", "ns/value")],
    systems: System::RUNTIMES_AND_THREADS,
    work: Work::Alone(|run| crowd(run, 1)),
};

pub(super) const EIGHT_TO_EIGHT: Row = Row {
    name: "channel_8_8",
    about: "8 tasks send to 8 others through one channel, buffer 128, 4M values",
    note: "tokio: the receiver, of which there is one, in its Mutex; may: unbounded, it has no other; crossbeam, flume: \
           16 threads",
    metrics: &[Metric::new("", "ns/value")],
    systems: System::RUNTIMES_AND_THREADS,
    work: Work::Alone(|run| crowd(run, 8)),
};

fn rendezvous(run: &Run) -> Values {
    let trips = run.count(TRIPS);
    match run.system {
        System::Bast => run.bast(|| trips_on_bast(trips)),
        System::Tokio => run.tokio(move || trips_on_tokio(trips)),
        System::May => run.may(move || trips_on_may(trips)),
        System::Crossbeam => run.plain(|| trips_on_crossbeam(trips / 10)),
        System::Flume => run.plain(|| trips_on_flume(trips / 10)),
        system => not_for(system),
    }
}

fn crowd(run: &Run, pairs: usize) -> Values {
    let each = run.count(VALUES) / pairs;
    match run.system {
        System::Bast => run.bast(|| crowd_on_bast(pairs, each)),
        System::Tokio if pairs == 1 => run.tokio(move || one_to_one_on_tokio(each)),
        System::Tokio => run.tokio(move || crowd_on_tokio(pairs, each)),
        System::May => run.may(move || crowd_on_may(pairs, each)),
        System::Crossbeam => run.plain(|| crowd_on_crossbeam(pairs, each)),
        System::Flume => run.plain(|| crowd_on_flume(pairs, each)),
        system => not_for(system),
    }
}

/// What the receivers say must be all.
fn check(received: usize, pairs: usize, each: usize) {
    assert_eq!(received, pairs * each, "values were lost");
}

fn trips_on_bast(trips: usize) -> Values {
    let (ping, pinged) = bast::sync::channel::rendezvous();
    let (pong, ponged) = bast::sync::channel::rendezvous();
    let other = bast::spawn(move || {
        for trip in pinged {
            pong.send(trip).expect("the other side is there");
        }
    });
    let start = Instant::now();
    for trip in 0..trips {
        ping.send(trip).expect("the other side is there");
        assert_eq!(ponged.recv(), Ok(trip));
    }
    let nanos = nanos_each(start, trips);
    drop(ping);
    other.join().expect("the other side ends well");
    vec![nanos]
}

async fn trips_on_tokio(trips: usize) -> Values {
    let (ping, mut pinged) = tokio::sync::mpsc::channel(1);
    let (pong, mut ponged) = tokio::sync::mpsc::channel(1);
    let other = tokio::spawn(async move {
        while let Some(trip) = pinged.recv().await {
            pong.send(trip).await.expect("the other side is there");
        }
    });
    let start = Instant::now();
    for trip in 0..trips {
        ping.send(trip).await.expect("the other side is there");
        assert_eq!(ponged.recv().await, Some(trip));
    }
    let nanos = nanos_each(start, trips);
    drop(ping);
    other.await.expect("the other side ends well");
    vec![nanos]
}

fn trips_on_may(trips: usize) -> Values {
    let (ping, pinged) = may::sync::spsc::channel();
    let (pong, ponged) = may::sync::spsc::channel();
    let other = may_spawn(move || {
        for trip in pinged.iter() {
            pong.send(trip).expect("the other side is there");
        }
    });
    let start = Instant::now();
    for trip in 0..trips {
        ping.send(trip).expect("the other side is there");
        assert_eq!(ponged.recv(), Ok(trip));
    }
    let nanos = nanos_each(start, trips);
    drop(ping);
    other.join().expect("the other side ends well");
    vec![nanos]
}

fn trips_on_crossbeam(trips: usize) -> Values {
    let (ping, pinged) = crossbeam_channel::bounded(0);
    let (pong, ponged) = crossbeam_channel::bounded(0);
    let other = thread::spawn(move || {
        for trip in pinged {
            pong.send(trip).expect("the other side is there");
        }
    });
    let start = Instant::now();
    for trip in 0..trips {
        ping.send(trip).expect("the other side is there");
        assert_eq!(ponged.recv(), Ok(trip));
    }
    let nanos = nanos_each(start, trips);
    drop(ping);
    other.join().expect("the other side ends well");
    vec![nanos]
}

fn trips_on_flume(trips: usize) -> Values {
    let (ping, pinged) = flume::bounded(0);
    let (pong, ponged) = flume::bounded(0);
    let other = thread::spawn(move || {
        for trip in pinged {
            pong.send(trip).expect("the other side is there");
        }
    });
    let start = Instant::now();
    for trip in 0..trips {
        ping.send(trip).expect("the other side is there");
        assert_eq!(ponged.recv(), Ok(trip));
    }
    let nanos = nanos_each(start, trips);
    drop(ping);
    other.join().expect("the other side ends well");
    vec![nanos]
}

fn crowd_on_bast(pairs: usize, each: usize) -> Values {
    let (sender, receiver) = bast::sync::channel::bounded(BUFFER);
    let start = Instant::now();
    for _ in 0..pairs {
        let sender = sender.clone();
        bast::spawn(move || (0..each).for_each(|n| sender.send(n).expect("the receivers are there")));
    }
    drop(sender);
    let receivers: Vec<_> = (0..pairs)
        .map(|_| {
            let receiver = receiver.clone();
            bast::spawn(move || receiver.iter().count())
        })
        .collect();
    let received = receivers.into_iter().map(|one| one.join().expect("it ends well"));
    check(received.sum(), pairs, each);
    vec![nanos_each(start, pairs * each)]
}

async fn one_to_one_on_tokio(each: usize) -> Values {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(BUFFER);
    let start = Instant::now();
    tokio::spawn(async move {
        for n in 0..each {
            sender.send(n).await.expect("the receiver is there");
        }
    });
    let receiver = tokio::spawn(async move {
        let mut received = 0;
        while receiver.recv().await.is_some() {
            received += 1;
        }
        received
    });
    check(receiver.await.expect("it ends well"), 1, each);
    vec![nanos_each(start, each)]
}

async fn crowd_on_tokio(pairs: usize, each: usize) -> Values {
    let (sender, receiver) = tokio::sync::mpsc::channel(BUFFER);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let start = Instant::now();
    for _ in 0..pairs {
        let sender = sender.clone();
        tokio::spawn(async move {
            for n in 0..each {
                sender.send(n).await.expect("the receivers are there");
            }
        });
    }
    drop(sender);
    let receivers: Vec<_> = (0..pairs)
        .map(|_| {
            let receiver = Arc::clone(&receiver);
            tokio::spawn(async move {
                let mut received = 0;
                while receiver.lock().await.recv().await.is_some() {
                    received += 1;
                }
                received
            })
        })
        .collect();
    let mut received = 0;
    for receiver in receivers {
        received += receiver.await.expect("it ends well");
    }
    check(received, pairs, each);
    vec![nanos_each(start, pairs * each)]
}

fn crowd_on_may(pairs: usize, each: usize) -> Values {
    let (sender, receiver) = may::sync::mpmc::channel();
    let start = Instant::now();
    for _ in 0..pairs {
        let sender = sender.clone();
        may_spawn(move || (0..each).for_each(|n| sender.send(n).expect("the receivers are there")));
    }
    drop(sender);
    let receivers: Vec<_> = (0..pairs)
        .map(|_| {
            let receiver = receiver.clone();
            may_spawn(move || receiver.iter().count())
        })
        .collect();
    let received = receivers.into_iter().map(|one| one.join().expect("it ends well"));
    check(received.sum(), pairs, each);
    vec![nanos_each(start, pairs * each)]
}

fn crowd_on_crossbeam(pairs: usize, each: usize) -> Values {
    let (sender, receiver) = crossbeam_channel::bounded(BUFFER);
    let start = Instant::now();
    for _ in 0..pairs {
        let sender = sender.clone();
        thread::spawn(move || (0..each).for_each(|n| sender.send(n).expect("the receivers are there")));
    }
    drop(sender);
    let receivers: Vec<_> = (0..pairs)
        .map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.iter().count())
        })
        .collect();
    let received = receivers.into_iter().map(|one| one.join().expect("it ends well"));
    check(received.sum(), pairs, each);
    vec![nanos_each(start, pairs * each)]
}

fn crowd_on_flume(pairs: usize, each: usize) -> Values {
    let (sender, receiver) = flume::bounded(BUFFER);
    let start = Instant::now();
    for _ in 0..pairs {
        let sender = sender.clone();
        thread::spawn(move || (0..each).for_each(|n| sender.send(n).expect("the receivers are there")));
    }
    drop(sender);
    let receivers: Vec<_> = (0..pairs)
        .map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.iter().count())
        })
        .collect();
    let received = receivers.into_iter().map(|one| one.join().expect("it ends well"));
    check(received.sum(), pairs, each);
    vec![nanos_each(start, pairs * each)]
}
