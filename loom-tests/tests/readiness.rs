//! Models of the readiness word, its crowd and its deadline (`netpoll/src/readiness.rs`, `crowd.rs`), and
//! of the poller's interrupt (`interrupt.rs`). What each proves is in the text above it.
//!
//! A waiter that parks here *ends its thread* and says that it sleeps. When all threads have ended, the
//! main thread plays the rest of the story: a sleeper whose token was handed out goes on where it left, and
//! one whose token was not is asleep for good. That is a lost wake-up if there is something to be had.
#![cfg(bast_loom)]

use std::collections::VecDeque;

use bast_netpoll::protocol::{Half, Interrupts};
use bast_netpoll::{Arm, Disarm};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use loom::thread;

/// Tokens of two waiters.
const A: usize = 10;
const B: usize = 11;

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(body);
}

/// One direction of a socket: what the kernel holds, and our word for it.
struct Socket {
    half: Half,
    bytes: AtomicUsize,
    ended: AtomicBool,
}

/// How a waiter's thread ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Got(usize),
    End,
    Asleep,
    Closed,
}

impl Socket {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            half: Half::new(),
            bytes: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        })
    }

    /// A socket that was tried and found empty, with `waiters` waiting.
    fn with_waiters(waiters: &[usize]) -> Arc<Self> {
        let socket = Self::new();
        let word = socket.half.readiness();
        word.clear_blocked(word.snapshot());
        for &token in waiters {
            assert_eq!(socket.half.wait_start(token), Arm::Armed);
        }
        socket
    }

    /// Bytes come, and the poller hears of it.
    fn arrive(&self, bytes: usize, tick: u64) -> Option<usize> {
        self.bytes.fetch_add(bytes, SeqCst);
        self.half.event(tick, false)
    }

    /// The system call: at most `room` bytes. `None`: would block.
    fn call(&self, room: usize) -> Option<usize> {
        let mut held = self.bytes.load(SeqCst);
        while held > 0 {
            let taken = held.min(room);
            match self.bytes.compare_exchange(held, held - taken, SeqCst, SeqCst) {
                Ok(_) => return Some(taken),
                Err(now) => held = now,
            }
        }
        self.ended.load(SeqCst).then_some(0)
    }

    /// The runtime's loop, up to its first park. Tokens it hands on go to `woken`.
    fn read(&self, token: usize, room: usize, woken: &mut Vec<usize>) -> Outcome {
        let outcome = self.read_loop(token, room);
        if outcome != Outcome::Asleep {
            woken.extend(self.half.leave());
        }
        outcome
    }

    fn read_loop(&self, token: usize, room: usize) -> Outcome {
        let word = self.half.readiness();
        loop {
            let snapshot = word.snapshot();
            if word.may_try(snapshot) {
                match self.call(room) {
                    Some(0) => return Outcome::End,
                    Some(bytes) => {
                        if bytes < room {
                            word.clear_short(snapshot);
                        }
                        return Outcome::Got(bytes);
                    }
                    None => word.clear_blocked(snapshot),
                }
            }
            match self.half.wait_start(token) {
                Arm::Armed => return Outcome::Asleep,
                Arm::Ready => {}
                Arm::Closed => return Outcome::Closed,
            }
        }
    }

    /// Plays on: each woken sleeper reads `room` bytes once more, or sleeps again. Gives what they got.
    fn play(&self, mut woken: VecDeque<usize>, room: usize) -> usize {
        let mut got = 0;
        while let Some(token) = woken.pop_front() {
            assert_eq!(
                self.half.wait_end(token),
                Disarm::Taken,
                "a token was handed out and kept"
            );
            let mut next = Vec::new();
            if let Outcome::Got(bytes) = self.read(token, room, &mut next) {
                got += bytes;
            }
            woken.extend(next);
        }
        got
    }
}

/// Event against arm: a reader that finds nothing and goes to sleep while bytes arrive gets its token.
/// Finds `readiness_clear_without_tick`.
#[test]
fn an_event_meets_an_arming() {
    model(|| {
        let socket = Socket::new();
        let reader = {
            let socket = socket.clone();
            thread::spawn(move || socket.read(A, 1, &mut Vec::new()))
        };
        let token = socket.arrive(1, 1);
        match reader.join().unwrap() {
            Outcome::Got(1) => assert_eq!(token, None),
            Outcome::Asleep => {
                assert_eq!(token, Some(A), "asleep beside a byte");
                assert_eq!(socket.play([A].into(), 1), 1);
            }
            other => panic!("{other:?}"),
        }
    });
}

/// Clear against event: of two arrivals in a row, no short read and no "would block" swallows the edge of
/// bytes that it did not see. The reader has room for more than ever comes, so every read is short.
#[test]
fn a_clear_spares_what_came_after_the_snapshot() {
    model(|| {
        let socket = Socket::new();
        let reader = {
            let socket = socket.clone();
            thread::spawn(move || {
                let mut got = 0;
                loop {
                    match socket.read(A, 4, &mut Vec::new()) {
                        Outcome::Got(bytes) => got += bytes,
                        outcome => return (got, outcome),
                    }
                }
            })
        };
        let mut woken = VecDeque::new();
        woken.extend(socket.arrive(1, 1));
        woken.extend(socket.arrive(1, 2));
        let (mut got, outcome) = reader.join().unwrap();
        assert_eq!(outcome, Outcome::Asleep);
        // Two tokens would mean that one was handed out twice: the sleeper armed once.
        assert!(woken.len() <= 1);
        got += socket.play(woken, 4);
        assert_eq!(got, 2, "asleep beside bytes");
    });
}

/// The end of a stream that comes with, or right after, its last bytes: a short read does not hide it.
/// Finds `readiness_short_clears_end`.
#[test]
fn the_end_behind_a_short_read_is_read() {
    model(|| {
        let socket = Socket::new();
        let reader = {
            let socket = socket.clone();
            thread::spawn(move || {
                loop {
                    match socket.read(A, 4, &mut Vec::new()) {
                        Outcome::Got(_) => {}
                        outcome => return outcome,
                    }
                }
            })
        };
        // One edge for both, as when the poller comes late.
        socket.bytes.fetch_add(1, SeqCst);
        socket.ended.store(true, SeqCst);
        let token = socket.half.event(1, true);
        match reader.join().unwrap() {
            Outcome::End => assert_eq!(token, None),
            Outcome::Asleep => {
                assert_eq!(token, Some(A), "asleep beside the end of the stream");
                assert_eq!(socket.half.wait_end(A), Disarm::Taken);
                let mut outcome = socket.read(A, 4, &mut Vec::new());
                if let Outcome::Got(_) = outcome {
                    outcome = socket.read(A, 4, &mut Vec::new());
                }
                assert_eq!(outcome, Outcome::End);
            }
            other => panic!("{other:?}"),
        }
    });
}

/// Deadline against event: the token goes to exactly one of the two, and if the waiter leaves although the
/// event has come, the event is there for the next caller.
/// Finds `readiness_disarm_drops_event`.
#[test]
fn a_deadline_meets_an_event() {
    model(|| {
        let socket = Socket::with_waiters(&[A]);
        let waiter = {
            let socket = socket.clone();
            thread::spawn(move || socket.half.wait_end(A))
        };
        let token = socket.arrive(1, 1);
        match waiter.join().unwrap() {
            Disarm::Disarmed => assert_eq!(token, None),
            Disarm::Taken => assert_eq!(token, Some(A)),
            Disarm::Closed => unreachable!(),
        }
        assert_eq!(
            socket.read(B, 1, &mut Vec::new()),
            Outcome::Got(1),
            "the event was lost"
        );
    });
}

/// Close against arm and event: whoever is armed is handed out exactly once, by one of the two, and nobody
/// arms afterwards.
/// Finds `readiness_close_by_store`.
#[test]
fn a_close_meets_an_arming_and_an_event() {
    model(|| {
        let socket = Socket::with_waiters(&[]);
        let waiter = {
            let socket = socket.clone();
            thread::spawn(move || socket.half.wait_start(A))
        };
        let closer = {
            let socket = socket.clone();
            thread::spawn(move || socket.half.close().collect::<Vec<_>>())
        };
        let token = socket.half.event(1, false);
        let armed = waiter.join().unwrap();
        let mut handed_out = closer.join().unwrap();
        handed_out.extend(token);
        match armed {
            Arm::Armed => assert_eq!(handed_out, [A], "armed and never woken, or woken twice"),
            Arm::Ready | Arm::Closed => assert!(handed_out.is_empty()),
        }
        assert_eq!(socket.half.wait_start(B), Arm::Closed);
        assert_eq!(socket.half.wait_end(A), Disarm::Closed);
    });
}

/// Close against the second waiter of a crowd: both are handed out, or the second is told.
#[test]
fn a_close_meets_a_crowd_that_forms() {
    model(|| {
        let socket = Socket::with_waiters(&[A]);
        let second = {
            let socket = socket.clone();
            thread::spawn(move || socket.half.wait_start(B))
        };
        let mut handed_out: Vec<_> = socket.half.close().collect();
        handed_out.sort_unstable();
        match second.join().unwrap() {
            Arm::Armed => assert_eq!(handed_out, [A, B]),
            Arm::Closed => assert_eq!(handed_out, [A]),
            Arm::Ready => unreachable!(),
        }
    });
}

/// Kick: a waiter that armed and then read the old deadline is handed out by whoever set the new one. Both
/// the first waiter (in the word) and the second (in the queue).
/// Finds `readiness_kick_only_looks`.
#[test]
fn a_new_deadline_reaches_every_waiter() {
    model(|| {
        let socket = Socket::with_waiters(&[]);
        let waiters: Vec<_> = [A, B]
            .into_iter()
            .map(|token| {
                let socket = socket.clone();
                thread::spawn(move || {
                    assert_eq!(socket.half.wait_start(token), Arm::Armed);
                    socket.half.deadline()
                })
            })
            .collect();
        let handed_out: Vec<_> = socket.half.set_deadline(Some(7)).collect();
        for (token, waiter) in [A, B].into_iter().zip(waiters) {
            if waiter.join().unwrap().is_none() {
                assert!(handed_out.contains(&token), "sleeps by the old deadline");
            }
        }
        let ends = [A, B].map(|token| socket.half.wait_end(token));
        for (token, end) in [A, B].into_iter().zip(ends) {
            assert_eq!(end == Disarm::Taken, handed_out.contains(&token));
        }
        let word = socket.half.readiness();
        assert!(!word.may_try(word.snapshot()), "a kick is no event");
    });
}

/// A crowd of two forms while one event brings enough for both: each gets its share.
/// Finds `readiness_leaves_without_handing_on`.
#[test]
fn one_event_serves_a_crowd_of_two() {
    model(|| {
        let socket = Socket::with_waiters(&[]);
        let readers: Vec<_> = [A, B]
            .into_iter()
            .map(|token| {
                let socket = socket.clone();
                thread::spawn(move || {
                    let mut woken = Vec::new();
                    (socket.read(token, 1, &mut woken), woken)
                })
            })
            .collect();
        let mut woken: VecDeque<_> = socket.arrive(2, 1).into_iter().collect();
        let mut got = 0;
        for reader in readers {
            let (outcome, handed_on) = reader.join().unwrap();
            got += usize::from(outcome == Outcome::Got(1));
            woken.extend(handed_on);
        }
        got += socket.play(woken, 1);
        assert_eq!(got, 2, "one of the crowd sleeps beside a byte");
    });
}

/// The one whom an event woke leaves for its deadline: the chance goes to the other, whichever came first.
/// Also finds `readiness_leaves_without_handing_on`.
#[test]
fn who_leaves_a_crowd_passes_the_event_on() {
    model(|| {
        let socket = Socket::with_waiters(&[A, B]);
        let leaver = {
            let socket = socket.clone();
            thread::spawn(move || (socket.half.wait_end(A), socket.half.leave()))
        };
        let token = socket.arrive(1, 1);
        let (end, handed_on) = leaver.join().unwrap();
        match end {
            Disarm::Disarmed => assert_eq!((token, handed_on), (Some(B), None)),
            Disarm::Taken => assert_eq!((token, handed_on), (Some(A), Some(B))),
            Disarm::Closed => unreachable!(),
        }
        assert_eq!(socket.play([B].into(), 1), 1);
    });
}

/// A third reader that never waited takes bytes and clears beside a crowd, while two events come: nobody
/// of the crowd sleeps beside a byte.
#[test]
fn a_passing_reader_does_not_strand_a_crowd() {
    model(|| {
        let socket = Socket::with_waiters(&[A, B]);
        let passing = {
            let socket = socket.clone();
            thread::spawn(move || {
                let word = socket.half.readiness();
                let snapshot = word.snapshot();
                let mut got = 0;
                if word.may_try(snapshot) {
                    match socket.call(2) {
                        Some(bytes) => {
                            got = bytes;
                            if bytes < 2 {
                                word.clear_short(snapshot);
                            }
                        }
                        None => word.clear_blocked(snapshot),
                    }
                }
                (got, socket.half.leave())
            })
        };
        let mut woken = VecDeque::new();
        woken.extend(socket.arrive(1, 1));
        woken.extend(socket.arrive(1, 2));
        let (mut got, handed_on) = passing.join().unwrap();
        woken.extend(handed_on);
        got += socket.play(woken, 1);
        assert_eq!(got, 2, "one of the crowd sleeps beside a byte");
    });
}

/// Interrupt coalescing: two interrupts and a thread that begins a blocking wait. If it may block, exactly
/// one of the two writes to the waker; if not, nobody needs to.
/// Finds `interrupt_only_while_waiting` and `interrupt_not_coalesced`.
#[test]
fn many_interrupts_end_a_wait_with_one_write() {
    model(|| {
        let interrupts = Arc::new(Interrupts::new());
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let interrupts = interrupts.clone();
                thread::spawn(move || usize::from(interrupts.request()))
            })
            .collect();
        let blocks = interrupts.begin_wait();
        let writes: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        assert_eq!(writes, usize::from(blocks), "blocked for ever, or woken twice");
        assert!(interrupts.end_wait());
        assert!(interrupts.begin_wait(), "an interrupt was served twice");
    });
}

/// An interrupt against a wait that ends for another reason: the wait has swallowed it, and then sees the
/// work it announces, or the next blocking wait does not block.
/// Finds `interrupt_only_while_waiting` and `interrupt_forgets_work`.
#[test]
fn an_interrupt_meets_the_end_of_a_wait() {
    model(|| {
        let interrupts = Arc::new(Interrupts::new());
        let work = Arc::new(AtomicBool::new(false));
        let sender = {
            let (interrupts, work) = (interrupts.clone(), work.clone());
            thread::spawn(move || {
                work.store(true, Relaxed);
                let _write = interrupts.request();
            })
        };
        let _blocks = interrupts.begin_wait();
        let swallowed = interrupts.end_wait();
        if swallowed {
            assert!(work.load(Relaxed), "woken without seeing what for");
        }
        sender.join().unwrap();
        assert_eq!(interrupts.begin_wait(), swallowed, "lost, or served twice");
    });
}
