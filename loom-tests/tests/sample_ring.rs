//! Models of the ring between a signal handler and whoever drains it (`runtime/src/profile/ring.rs`). What each proves is in
//! the README here. The handler is a thread of its own: what it has interrupted touches nothing of the ring.
//!
//! Loom guards the slots; a value that was written in two halves would show by its second word.
#![cfg(bast_loom)]

use bast::protocol::sample_ring::{Ring, SLOTS};
use loom::sync::Arc;
use loom::thread;

type Value = (u64, u64);

fn value(number: u64) -> Value {
    (number, !number)
}

/// Pushes these; gives those that were not lost.
fn push(ring: &Ring<Value>, numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers
        // SAFETY: one writer: the caller.
        .filter(|&number| unsafe { ring.push(&value(number)) })
        .collect()
}

fn pop(ring: &Ring<Value>) -> Option<u64> {
    // SAFETY: one reader: the caller.
    let (number, check) = unsafe { ring.pop() }?;
    assert_eq!(check, !number, "half a value");
    Some(number)
}

/// What was not lost comes out once, in order, whatever the reader does meanwhile.
#[test]
fn what_is_not_lost_comes_out_in_order() {
    loom::model(|| {
        let ring = Arc::new(Ring::new());
        let own = ring.clone();
        let handler = thread::spawn(move || push(&own, 0..SLOTS + 2));
        let mut seen: Vec<_> = (0..2).filter_map(|_| pop(&ring)).collect();
        let kept = handler.join().unwrap();
        seen.extend(std::iter::from_fn(|| pop(&ring)));
        assert_eq!(seen, kept);
        assert_eq!(ring.take_lost() as usize + kept.len(), SLOTS as usize + 2);
        assert_eq!(ring.take_lost(), 0);
    });
}

/// A full ring keeps what it has; room that the reader has made is used again.
#[test]
fn a_full_ring_has_room_again() {
    loom::model(|| {
        let ring = Arc::new(Ring::new());
        assert_eq!(push(&ring, 0..SLOTS + 1).len() as u64, SLOTS);
        let own = ring.clone();
        let reader = thread::spawn(move || (pop(&own), pop(&own)));
        let kept = push(&ring, 10..11);
        assert_eq!(reader.join().unwrap(), (Some(0), Some(1)));
        assert_eq!(pop(&ring), kept.first().copied());
        assert_eq!(pop(&ring), None);
        assert_eq!(ring.take_lost(), 2 - kept.len() as u64);
    });
}
