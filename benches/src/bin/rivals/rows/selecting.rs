//! Waiting on several channels at once.

use super::channel::BUFFER;
use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, nanos_each};
use crate::system::System;
use std::thread;
use std::time::Instant;

const VALUES: usize = 1_000_000;
const NOTE: &str = "may: none, its select loses values of the cases that lose; crossbeam, flume: threads, flume by its Selector";

/// All but may.
const SYSTEMS: &[System] = &[
    System::Bast,
    System::Go,
    System::Tokio,
    System::Crossbeam,
    System::Flume,
];

pub(super) const TWO: Row = Row {
    name: "select_2",
    about: "one task selects among 2 channels, buffer 128, a task sends to each, 1M values in all",
    note: NOTE,
    metrics: &[Metric::new("", "ns/value")],
    systems: SYSTEMS,
    work: Work::Alone(among::<2>),
};

pub(super) const EIGHT: Row = Row {
    name: "select_8",
    about: "one task selects among 8 channels, buffer 128, a task sends to each, 1M values in all",
    note: NOTE,
    metrics: &[Metric::new("", "ns/value")],
    systems: SYSTEMS,
    work: Work::Alone(among::<8>),
};

fn among<const N: usize>(run: &Run) -> Values {
    let each = run.count(VALUES) / N;
    match run.system {
        System::Bast => run.bast(|| on_bast::<N>(each)),
        System::Tokio => run.tokio(move || on_tokio::<N>(each)),
        System::Crossbeam => run.plain(|| on_crossbeam::<N>(each)),
        System::Flume => run.plain(|| on_flume::<N>(each)),
        system => not_for(system),
    }
}

/// `select!` with the same receive from `$from[0]`, `$from[1]`, …: the macros want their cases written out.
macro_rules! receive {
    ($($select:ident)::+, $from:expr, $($n:literal)*) => {
        $($select)::+! { $(recv($from[$n]) -> got => got,)* }
    };
}

/// Senders stay until all is received, so that no channel closes under the select.
#[expect(
    clippy::large_stack_frames,
    reason = "clippy adds up the cases of both selects; it runs in the first task and on the main thread"
)]
fn on_bast<const N: usize>(each: usize) -> Values {
    let (senders, from): (Vec<_>, Vec<_>) = (0..N).map(|_| bast::sync::channel::bounded(BUFFER)).unzip();
    let start = Instant::now();
    let senders: Vec<_> = senders
        .into_iter()
        .map(|sender| {
            bast::spawn(move || {
                (0..each).for_each(|n| sender.send(n).expect("the receiver is there"));
                sender
            })
        })
        .collect();
    for _ in 0..N * each {
        let got = match N {
            2 => receive!(bast::select, from, 0 1),
            _ => receive!(bast::select, from, 0 1 2 3 4 5 6 7),
        };
        got.expect("the senders are there");
    }
    let nanos = nanos_each(start, N * each);
    for sender in senders {
        drop(sender.join().expect("it ends well"));
    }
    vec![nanos]
}

async fn on_tokio<const N: usize>(each: usize) -> Values {
    let (senders, mut from): (Vec<_>, Vec<_>) = (0..N).map(|_| tokio::sync::mpsc::channel(BUFFER)).unzip();
    let start = Instant::now();
    for sender in &senders {
        let sender = sender.clone();
        tokio::spawn(async move {
            for n in 0..each {
                sender.send(n).await.expect("the receiver is there");
            }
        });
    }
    // Each receiver is borrowed by one branch.
    for _ in 0..N * each {
        let got = match &mut from[..] {
            [a, b] => tokio::select! { got = a.recv() => got, got = b.recv() => got },
            [a, b, c, d, e, f, g, h] => tokio::select! {
                got = a.recv() => got, got = b.recv() => got, got = c.recv() => got, got = d.recv() => got,
                got = e.recv() => got, got = f.recv() => got, got = g.recv() => got, got = h.recv() => got,
            },
            _ => unreachable!("2 or 8"),
        };
        got.expect("the senders are there");
    }
    vec![nanos_each(start, N * each)]
}

#[expect(
    clippy::large_stack_frames,
    reason = "clippy adds up the cases of both selects; it runs in the first task and on the main thread"
)]
fn on_crossbeam<const N: usize>(each: usize) -> Values {
    let (senders, from): (Vec<_>, Vec<_>) = (0..N).map(|_| crossbeam_channel::bounded(BUFFER)).unzip();
    let start = Instant::now();
    for sender in &senders {
        let sender = sender.clone();
        thread::spawn(move || (0..each).for_each(|n| sender.send(n).expect("the receiver is there")));
    }
    for _ in 0..N * each {
        let got = match N {
            2 => receive!(crossbeam_channel::select, from, 0 1),
            _ => receive!(crossbeam_channel::select, from, 0 1 2 3 4 5 6 7),
        };
        got.expect("the senders are there");
    }
    vec![nanos_each(start, N * each)]
}

fn on_flume<const N: usize>(each: usize) -> Values {
    let (senders, from): (Vec<_>, Vec<_>) = (0..N).map(|_| flume::bounded(BUFFER)).unzip();
    let start = Instant::now();
    for sender in &senders {
        let sender = sender.clone();
        thread::spawn(move || (0..each).for_each(|n| sender.send(n).expect("the receiver is there")));
    }
    for _ in 0..N * each {
        let selector = from.iter().fold(flume::Selector::new(), |selector, one| {
            selector.recv(one, |got| got)
        });
        selector.wait().expect("the senders are there");
    }
    vec![nanos_each(start, N * each)]
}
