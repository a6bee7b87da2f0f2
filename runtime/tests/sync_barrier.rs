//! The barrier: all meet, one leads, again and again.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::Barrier;
use chan_util::{everywhere, settle};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

#[test]
fn nobody_passes_before_the_last_has_come() {
    everywhere(|go| {
        let shared = Arc::new((Barrier::new(5), AtomicUsize::new(0)));
        let parties: Vec<_> = (0..4)
            .map(|_| {
                let shared = shared.clone();
                go.spawn(move || {
                    let leads = shared.0.wait().is_leader();
                    shared.1.fetch_add(1, SeqCst);
                    leads
                })
            })
            .collect();
        settle();
        assert_eq!(shared.1.load(SeqCst), 0, "four have come, and five are needed");
        let mut leaders = usize::from(shared.0.wait().is_leader());
        leaders += parties
            .into_iter()
            .map(|party| usize::from(party.join()))
            .sum::<usize>();
        assert_eq!(leaders, 1);
    });
}

/// No party is a round ahead of another by more than one, and each round has one leader.
#[test]
fn round_after_round() {
    everywhere(|go| {
        const PARTIES: usize = 4;
        let rounds = go.rounds(500);
        let shared = Arc::new((Barrier::new(PARTIES), AtomicUsize::new(0), AtomicUsize::new(0)));
        let parties: Vec<_> = (0..PARTIES)
            .map(|_| {
                let shared = shared.clone();
                go.spawn(move || {
                    for round in 0..rounds {
                        shared.1.fetch_add(1, SeqCst);
                        if shared.0.wait().is_leader() {
                            shared.2.fetch_add(1, SeqCst);
                        }
                        let come = shared.1.load(SeqCst);
                        assert!(come >= (round + 1) * PARTIES, "passed when {come} had come");
                        assert!(come < (round + 2) * PARTIES, "one was let through twice");
                    }
                })
            })
            .collect();
        parties.into_iter().for_each(|party| party.join());
        assert_eq!(shared.2.load(SeqCst), rounds);
    });
}

#[test]
fn none_and_one_do_not_wait() {
    everywhere(|_| {
        for size in [0, 1] {
            let barrier = Barrier::new(size);
            assert!(barrier.wait().is_leader());
            assert!(barrier.wait().is_leader());
        }
    });
}
