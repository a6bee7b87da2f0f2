//! Two tasks that wake each other in turn.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, may_spawn, nanos_each};
use crate::system::System;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Instant;
use tokio::sync::Notify;

const TRIPS: usize = 1_000_000;

pub(super) const ROW: Row = Row {
    name: "park_unpark_pingpong",
    about: "two tasks park and unpark each other, 1M round trips",
    note: "go: two unbuffered channels (it has no park for users); tokio: two Notify",
    metrics: &[Metric::new("", "ns/trip")],
    systems: System::RUNTIMES,
    work: Work::Alone(measure),
};

fn measure(run: &Run) -> Values {
    let trips = run.count(TRIPS);
    match run.system {
        System::Bast => run.bast(|| on_bast(trips)),
        System::Tokio => run.tokio(move || on_tokio(trips)),
        System::May => run.may(move || on_may(trips)),
        system => not_for(system),
    }
}

/// Whose turn it is: a park may end for no reason, so both look.
type Turn = Arc<AtomicUsize>;

fn on_bast(trips: usize) -> Values {
    let turn: Turn = Turn::default();
    let mine = bast::task::current();
    let other = bast::spawn({
        let turn = Arc::clone(&turn);
        move || {
            for trip in 0..trips {
                while turn.load(Acquire) != 2 * trip + 1 {
                    bast::task::park();
                }
                turn.store(2 * trip + 2, Release);
                mine.unpark();
            }
        }
    });
    let peer = other.task();
    let start = Instant::now();
    for trip in 0..trips {
        turn.store(2 * trip + 1, Release);
        peer.unpark();
        while turn.load(Acquire) != 2 * trip + 2 {
            bast::task::park();
        }
    }
    let nanos = nanos_each(start, trips);
    other.join().expect("the other side ends well");
    vec![nanos]
}

async fn on_tokio(trips: usize) -> Values {
    let notify = Arc::new([const { Notify::const_new() }; 2]);
    let other = tokio::spawn({
        let notify = Arc::clone(&notify);
        async move {
            for _ in 0..trips {
                notify[0].notified().await;
                notify[1].notify_one();
            }
        }
    });
    let start = Instant::now();
    for _ in 0..trips {
        notify[0].notify_one();
        notify[1].notified().await;
    }
    let nanos = nanos_each(start, trips);
    other.await.expect("the other side ends well");
    vec![nanos]
}

fn on_may(trips: usize) -> Values {
    let turn: Turn = Turn::default();
    let mine = Arc::new(OnceLock::new());
    mine.get_or_init(may::coroutine::current);
    let other = may_spawn({
        let turn = Arc::clone(&turn);
        let mine = Arc::clone(&mine);
        move || {
            let peer = mine.get().expect("set before the spawn");
            for trip in 0..trips {
                while turn.load(Acquire) != 2 * trip + 1 {
                    may::coroutine::park();
                }
                turn.store(2 * trip + 2, Release);
                peer.unpark();
            }
        }
    });
    let peer = other.coroutine();
    let start = Instant::now();
    for trip in 0..trips {
        turn.store(2 * trip + 1, Release);
        peer.unpark();
        while turn.load(Acquire) != 2 * trip + 2 {
            may::coroutine::park();
        }
    }
    let nanos = nanos_each(start, trips);
    other.join().expect("the other side ends well");
    vec![nanos]
}
