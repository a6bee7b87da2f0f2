//! Models of the place where a future leaves its waker (`runtime/src/task/waker_slot.rs`). What each proves is in the README
//! here.
//!
//! What is waited for is a cell that loom guards: it reports a future that is told to look and is not ordered after what
//! it looks at. The waker is another, in the slot. A slot whose token is not used up is a leak, which loom reports too.
#![cfg(bast_loom)]

use bast::protocol::waker_slot::WakerSlot;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;
use std::task::{Wake, Waker};

/// Counts how often it is woken.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn count() -> std::sync::Arc<Count> {
    std::sync::Arc::new(Count(AtomicUsize::new(0)))
}

struct Event(UnsafeCell<u32>);

// SAFETY: validity: nothing in it belongs to a thread. aliasing: loom checks every access.
unsafe impl Send for Event {}
// SAFETY: as for Send.
unsafe impl Sync for Event {}

impl Event {
    fn happens(&self) {
        // SAFETY: validity: a live cell. aliasing: nobody looks before it is woken; loom checks it.
        self.0.with_mut(|event| unsafe { *event = 7 });
    }

    fn has_happened(&self) -> bool {
        // SAFETY: validity: a live cell. aliasing: written before the wake; loom checks it.
        self.0.with(|event| unsafe { *event }) == 7
    }
}

/// Polls with a new waker each time, `polls` times. The waker of the last poll that said "wait" is woken; if a poll says
/// "woken", the event is there.
fn poll_against_wake(polls: usize) {
    loom::model(move || {
        let event = Arc::new(Event(UnsafeCell::new(0)));
        let counts: Vec<_> = (0..=polls).map(|_| count()).collect();
        let slot = WakerSlot::new(Waker::from(counts[0].clone()));
        let token = WakerSlot::token(&slot);
        let waking = event.clone();
        let waking = thread::spawn(move || {
            waking.happens();
            // SAFETY: the token is this thread's, and used once.
            unsafe { WakerSlot::from_token(token) }.wake();
        });
        let mut last = Some(0);
        for (poll, count) in counts.iter().enumerate().skip(1) {
            last = slot.register(&Waker::from(count.clone())).then_some(poll);
            if last.is_none() {
                assert!(event.has_happened());
                break;
            }
        }
        waking.join().unwrap();
        if let Some(last) = last {
            assert_eq!(counts[last].0.load(Relaxed), 1, "it waits, and nobody wakes it");
        }
        let woken: usize = counts.iter().map(|count| count.0.load(Relaxed)).sum();
        assert!(woken <= 1, "one wait is woken once");
        assert!(event.has_happened());
    });
}

/// Planted: `waker_slot_wake_acquire` hides the event, `waker_slot_wake_release` races for the waker,
/// `waker_slot_register_store` forgets that it was woken.
#[test]
fn a_poll_meets_a_wake() {
    poll_against_wake(1);
}

#[test]
fn two_polls_meet_a_wake() {
    poll_against_wake(2);
}

/// A token that nobody took is withdrawn.
#[test]
fn a_token_is_withdrawn() {
    loom::model(|| {
        let count = count();
        let slot = WakerSlot::new(Waker::from(count.clone()));
        let token = WakerSlot::token(&slot);
        // SAFETY: nobody else has it, and it is used once.
        drop(unsafe { WakerSlot::from_token(token) });
        drop(slot);
        assert_eq!(std::sync::Arc::strong_count(&count), 1, "the waker is gone");
        assert_eq!(count.0.load(Relaxed), 0);
    });
}
