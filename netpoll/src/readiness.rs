//! One direction of a source: may a call succeed now, and who waits until it may.
//!
//! ```text
//!    63                                            4    3        2     1  0
//!   ┌───────────────────────────────────────────────┬─────────┬───────┬──────┐
//!   │ READY: tick, the number of the poller's event │ LASTING │ CROWD │ kind │
//!   │ ARMED: token of the one waiter                │         │       │      │
//!   └───────────────────────────────────────────────┴─────────┴───────┴──────┘
//!
//!             arm                    set_ready: token out
//!    EMPTY ─────────► ARMED(token) ──────────────────────► READY(tick) ─┐ set_ready:
//!     ▲ ▲               │     │                             │  ▲    ▲   │ new tick
//!     │ └───────────────┘     │ arm: a second waiter        │  │    └───┘
//!     │  disarm, set_deadline ▼                             │  │
//!     │                  EMPTY + CROWD                      │  │ the queue
//!     │                    │       ▲                        │  │ is empty
//!     │       set_ready:   ▼       │ clear                  │  │
//!     │       oldest out READY(tick) + CROWD ───────────────┼──┘
//!     └──── clear of the same tick ─────────────────────────┘
//!
//!    any state ── close: all tokens out ──► CLOSED ── open, for a new owner ──► READY(0)
//! ```
//!
//! With CROWD, two or more have waited and their tokens stand in the queue of `crowd`, oldest first, never
//! in the word: there is no "armed" with it. It stays until the queue is empty.
//!
//! | state | who holds the tokens | what may be done |
//! |---|---|---|
//! | EMPTY | nobody waits | arm; a call would block |
//! | READY | nobody waits, or the queue | call |
//! | ARMED | the word: the one waiter | whoever swings the word away owns the token, and its unpark |
//! | EMPTY+CROWD | the queue | as ARMED; whoever takes a token out of the queue owns it |
//! | CLOSED | nobody | nothing; in a free table entry too |
//!
//! | transition | function |
//! |---|---|
//! | EMPTY -> ARMED(token) | [`arm`](Readiness::arm) |
//! | ARMED(a) -> EMPTY+CROWD, a and the new token queued | [`arm`](Readiness::arm) |
//! | EMPTY+CROWD, one more queued | [`arm`](Readiness::arm) |
//! | ARMED(token) -> READY(tick), token handed out | [`set_ready`](Readiness::set_ready) |
//! | EMPTY, READY -> READY(tick) | [`set_ready`](Readiness::set_ready) |
//! | EMPTY+CROWD, READY+CROWD -> READY(tick), the oldest handed out | [`set_ready`](Readiness::set_ready) |
//! | READY(tick) -> EMPTY, if no event came since the snapshot | [`clear_short`](Readiness::clear_short), [`clear_blocked`](Readiness::clear_blocked) |
//! | READY+CROWD, the oldest handed out | [`hand_on`](Readiness::hand_on) |
//! | ARMED(token) -> EMPTY, or out of the queue | [`disarm`](Readiness::disarm) |
//! | ARMED(token) -> EMPTY, or the whole queue, all handed out | [`set_deadline`](Readiness::set_deadline) |
//! | any -> CLOSED, all handed out | [`close`](Readiness::close) |
//! | CLOSED -> READY(0) | [`open`](Readiness::open), by the sole owner of the table entry |
//!
//! CROWD is set when the first two queue up and taken away by whoever empties the queue, in all the
//! functions above, under the queue's lock. Nothing but a clear changes a word with CROWD without it.
//!
//! # Why no event is lost
//!
//! The descriptor is registered edge-triggered: the kernel tells once that something changed. Four
//! things could lose that edge.
//! 1. *Clearing what came later.* A call says "would block", an event comes, and only then the caller
//!    clears. Each event writes a tick of its own, and a clear compares with the word that was read
//!    *before* the call: it does nothing if any event came since.
//! 2. *Arming too late.* `arm` goes from EMPTY only; had the event come first, the word is READY and the
//!    caller tries again.
//! 3. *Leaving with the event in the hand.* Of `disarm` and `set_ready` one takes the token. If it was
//!    the event, the word is READY and stays so for the next caller.
//! 4. *Waking one of many, who then leaves.* Rule of the crowd: **who leaves the loop, having waited
//!    or not, with success or not, calls `hand_on`.** An event on a crowd hands out one token. That waiter
//!    tries; it finds nothing and clears (the word is EMPTY, the others wait for the next event by
//!    right), or it leaves while the word is READY, and `hand_on` wakes the next one. So while the word
//!    is READY and the queue is not empty, somebody is on the way who will do one of the two.
//!    Each further event hands out one more, so a storm wakes as many as it has events.
//!    Waking all at once would be simpler, but costs a useless call for each of a thousand acceptors.
//!
//! A state "arming" between EMPTY and ARMED, to be committed after the waiter has parked, is not needed:
//! the waiter's park has permits, so a token may be handed out and unparked before its owner parks.
//!
//! LASTING says that the direction has ended, hung up or failed. Bytes that came before the end share
//! its one edge, so a short read must not empty the word: the end would never be read. "Would block" does
//! empty it, since the kernel itself says that there is no end, error or byte to be had (as after a
//! datagram socket's error was fetched); otherwise the caller would spin.
//!
//! # The deadline
//!
//! A deadline belongs to its direction, not to a wait: it may change while somebody waits, and the waiter
//! must then reckon again. It is a plain number beside the word. The waiter arms *first* and reads the
//! deadline *then*; the setter writes the deadline first and then makes a read-modify-write of the word,
//! even if it leaves the word as it is. If the setter's comes after the arming, it takes the token and the
//! waiter is woken. If it comes before, the arming reads what it wrote, and sees the new deadline.
//!
//! # Memory ordering
//!
//! Once a source is open, every change of the word is a read-modify-write, so all of them form one release
//! sequence: an `Acquire` of any later value synchronises with every `Release` before it. Changes are
//! `AcqRel`. [`snapshot`](Readiness::snapshot) is `Acquire` for its own sake: it keeps the system call
//! behind it, so that the call sees at least what the event told of. No `SeqCst` anywhere.

use std::fmt;

use crate::crowd::{Line, Queue};
use crate::primitive::{
    AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use crate::tokens::Tokens;

/// The two bits that tell the states apart.
const KIND: u64 = 0b11;
/// Nothing to be had since the last try, and nobody waits in the word.
const EMPTY: u64 = 0;
/// An event came, or nobody has tried yet: try.
const READY: u64 = 1;
/// One waiter; its token is in the upper bits.
const ARMED: u64 = 2;
/// Closed by the owner: every wait fails.
const CLOSED: u64 = 3;
/// Waiters stand in the queue. With EMPTY and READY only.
const CROWD: u64 = 1 << 2;
/// The last event told of an end or an error. With READY only.
const LASTING: u64 = 1 << 3;
/// The picture is checked at each step: in debug builds, and in models, which run optimised.
const CHECKED: bool = cfg!(any(debug_assertions, bast_loom));
/// Where the tick or the token begins.
const SHIFT: u32 = 4;
/// No deadline.
const NEVER: u64 = u64::MAX;

/// The largest token: four bits of the word say what it means. Every address of user space fits.
pub const TOKEN_MAX: usize = usize::MAX >> SHIFT;

/// One direction of a [`Source`](crate::Source): its state word and its deadline.
///
/// The methods that are public here are the fast path around a system call; waiting goes through the
/// source.
pub struct Readiness {
    word: AtomicU64,
    deadline: AtomicU64,
}

/// The state of one direction at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Snapshot(u64);

/// What came of the wish to wait.
#[must_use = "only `Armed` may park"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The token will be handed out at the next event. Park, then end the wait.
    Armed,
    /// An event came meanwhile: make the call again.
    Ready,
    /// The source is closed.
    Closed,
}

/// How a wait ended.
#[must_use = "a closed source must not be tried again"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disarm {
    /// Nobody took the token, and now nobody will: the waiter came back on its own.
    Disarmed,
    /// The token was handed out, by an event or a changed deadline. Its unpark has come or is to come.
    Taken,
    /// The source is closed. The token was handed out.
    Closed,
}

impl Readiness {
    /// A closed direction; [`open`](Self::open) gives it to an owner.
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(CLOSED),
            deadline: AtomicU64::new(NEVER),
        }
    }

    /// Makes the direction ready with tick 0, "not tried yet". For the sole owner of a closed one.
    pub(crate) fn open(&self) {
        debug_assert_eq!(self.word.load(Relaxed), CLOSED, "the entry still has an owner");
        self.deadline.store(NEVER, Relaxed);
        // Release: a late event for the entry's former life may read this word; nothing else can.
        self.word.store(READY, Release);
    }

    /// The state now. Take it *before* the system call, and give it to the clear after it.
    #[inline]
    pub fn snapshot(&self) -> Snapshot {
        // Acquire: keeps the system call behind this load; pairs with the event's AcqRel.
        Snapshot(self.word.load(Acquire))
    }

    /// Whether a call is worth its price. If not, it would say "would block", and waiting is next; a
    /// closed direction says so there.
    #[inline]
    pub fn may_try(&self, snapshot: Snapshot) -> bool {
        snapshot.0 & KIND == READY
    }

    /// After a call on a byte stream that moved some bytes, but fewer than it was given room for: the buffer in the
    /// kernel is drained (or full), so the next call is skipped, unless an event came since `snapshot` or
    /// the end of the stream is still to be read.
    ///
    /// For byte streams only: a short datagram says nothing. Nor does a short read say it where the kernel
    /// stops at a mark: TCP urgent data, descriptors passed along a Unix stream, packet-mode pipes.
    #[inline]
    pub fn clear_short(&self, snapshot: Snapshot) {
        if snapshot.0 & LASTING == 0 || cfg!(bast_plant = "readiness_short_clears_end") {
            self.clear_blocked(snapshot);
        }
    }

    /// After a call that would have blocked: nothing to be had, unless an event came since `snapshot`.
    #[inline]
    pub fn clear_blocked(&self, snapshot: Snapshot) {
        let mut seen = snapshot.0;
        if seen & KIND != READY {
            return;
        }
        if cfg!(bast_plant = "readiness_clear_without_tick") {
            seen = self.word.load(Acquire);
            if seen & KIND != READY {
                return;
            }
        }
        // A failure is an event, another caller's clear, or a crowd that broke up: the word is newer than we
        // know, and at worst one more call says "would block".
        let _ = self.swing(seen, EMPTY | (seen & CROWD));
    }

    /// Wants to wait: publishes `token`. The caller parks only if this says [`Arm::Armed`].
    pub(crate) fn arm(&self, token: usize, queue: Queue<'_>) -> Arm {
        assert!(
            token <= TOKEN_MAX,
            "token {token:#x} is larger than TOKEN_MAX ({TOKEN_MAX:#x})"
        );
        let armed = ARMED | ((token as u64) << SHIFT);
        let mut seen = self.word.load(Acquire);
        loop {
            match seen & (KIND | CROWD) {
                EMPTY => match self.swing(seen, armed) {
                    Ok(()) => return Arm::Armed,
                    Err(now) => seen = now,
                },
                CLOSED => return Arm::Closed,
                READY | READY_CROWD => return Arm::Ready,
                _ => match self.join(token, queue) {
                    Some(arm) => return arm,
                    None => seen = self.word.load(Acquire),
                },
            }
        }
    }

    /// The second waiter, or a later one: stands in the queue. `None`: there is room in the word again.
    #[cold]
    fn join(&self, token: usize, queue: Queue<'_>) -> Option<Arm> {
        let mut line = queue.lock();
        let mut seen = self.word.load(Acquire);
        loop {
            match seen & (KIND | CROWD) {
                // Ours until we unlock: an event, a close or a kick wants the lock, and a clear wants READY.
                EMPTY_CROWD => {
                    line.push(token);
                    return Some(Arm::Armed);
                }
                ARMED => match self.swing(seen, EMPTY_CROWD) {
                    Ok(()) => {
                        line.push(token_of(seen));
                        line.push(token);
                        return Some(Arm::Armed);
                    }
                    Err(now) => seen = now,
                },
                EMPTY => return None,
                CLOSED => return Some(Arm::Closed),
                _ => return Some(Arm::Ready),
            }
        }
    }

    /// An event: a call may succeed. `tick` differs from that of every other event of this poller;
    /// `lasting` when it tells of an end or an error. Hands out the waiter to be woken: the one that waits,
    /// or the oldest of a crowd.
    #[must_use = "the waiter sleeps until its token is unparked"]
    pub(crate) fn set_ready(&self, tick: u64, lasting: bool, queue: Queue<'_>) -> Option<usize> {
        let news = READY | (tick << SHIFT) | if lasting { LASTING } else { 0 };
        let mut seen = self.word.load(Acquire);
        loop {
            let next = match seen & (KIND | CROWD) {
                CLOSED => return None,
                READY => news | (seen & LASTING),
                EMPTY | ARMED => news,
                _ => match self.locked_crowd(queue) {
                    Some(mut line) => {
                        let token = line.pop();
                        self.change_crowd(&line, |seen| match seen & KIND {
                            READY => news | (seen & LASTING),
                            _ => news,
                        });
                        return token;
                    }
                    None => {
                        seen = self.word.load(Acquire);
                        continue;
                    }
                },
            };
            match self.swing(seen, next) {
                Ok(()) => return (seen & KIND == ARMED).then(|| token_of(seen)),
                Err(now) => seen = now,
            }
        }
    }

    /// The caller leaves its loop, for whatever reason. If there may be more to be had and others wait for
    /// it, the next of them is handed out.
    #[inline]
    #[must_use = "the waiter sleeps until its token is unparked"]
    pub(crate) fn hand_on(&self, queue: Queue<'_>) -> Option<usize> {
        // Relaxed: whoever must hand on was itself woken by the event, and so sees READY+CROWD here or
        // something newer. The lock settles the rest.
        if self.word.load(Relaxed) & (KIND | CROWD) != READY_CROWD {
            return None;
        }
        self.hand_on_crowd(queue)
    }

    #[cold]
    fn hand_on_crowd(&self, queue: Queue<'_>) -> Option<usize> {
        if cfg!(bast_plant = "readiness_leaves_without_handing_on") {
            return None;
        }
        let mut line = self.locked_crowd(queue)?;
        if self.word.load(Acquire) & KIND != READY {
            return None;
        }
        let token = line.pop();
        // A clear may have come since the look above: then the one we wake finds nothing and waits again.
        self.change_crowd(&line, |seen| seen & !CROWD);
        token
    }

    /// The waiter is back from its park, or leaves without it: takes the token back if it can.
    pub(crate) fn disarm(&self, token: usize, queue: Queue<'_>) -> Disarm {
        let armed = ARMED | ((token as u64) << SHIFT);
        if cfg!(bast_plant = "readiness_disarm_drops_event") {
            let seen = self.word.swap(EMPTY, AcqRel);
            return if seen == armed {
                Disarm::Disarmed
            } else {
                Disarm::Taken
            };
        }
        let mut seen = self.word.load(Acquire);
        loop {
            if seen == armed {
                match self.swing(seen, EMPTY) {
                    Ok(()) => return Disarm::Disarmed,
                    Err(now) => seen = now,
                }
            } else if seen & KIND == CLOSED {
                return Disarm::Closed;
            } else if seen & CROWD == 0 {
                return Disarm::Taken;
            } else if let Some(mut line) = self.locked_crowd(queue) {
                if !line.remove(token) {
                    return Disarm::Taken;
                }
                self.change_crowd(&line, |seen| seen & !CROWD);
                return Disarm::Disarmed;
            } else {
                seen = self.word.load(Acquire);
            }
        }
    }

    /// Closes for good and hands out everybody.
    pub(crate) fn close(&self, queue: Queue<'_>, tokens: &mut Tokens) {
        let mut seen = self.word.load(Acquire);
        if cfg!(bast_plant = "readiness_close_by_store") && seen & (CROWD | KIND) != ARMED {
            return self.word.store(CLOSED, Release);
        }
        loop {
            if seen & CROWD == 0 {
                match self.swing(seen, CLOSED) {
                    Ok(()) if seen & KIND == ARMED => return tokens.push(token_of(seen)),
                    Ok(()) => return,
                    Err(now) => seen = now,
                }
            } else if let Some(mut line) = self.locked_crowd(queue) {
                std::iter::from_fn(|| line.pop()).for_each(|token| tokens.push(token));
                self.change_crowd(&line, |_| CLOSED);
                return;
            } else {
                seen = self.word.load(Acquire);
            }
        }
    }

    /// The moment at which waits in this direction end, in the caller's nanoseconds. Read it after arming.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<u64> {
        // Relaxed: the order is that of the word, see "The deadline" above.
        Some(self.deadline.load(Relaxed)).filter(|&deadline| deadline != NEVER)
    }

    /// Sets the deadline and hands out everybody who waits under the old one, without an event.
    pub(crate) fn set_deadline(&self, deadline: Option<u64>, queue: Queue<'_>, tokens: &mut Tokens) {
        self.deadline.store(deadline.unwrap_or(NEVER), Relaxed);
        let mut seen = self.word.load(if cfg!(bast_plant = "readiness_kick_only_looks") {
            Relaxed
        } else {
            Acquire
        });
        loop {
            if seen & CROWD != 0 {
                let Some(mut line) = self.locked_crowd(queue) else {
                    seen = self.word.load(Acquire);
                    continue;
                };
                std::iter::from_fn(|| line.pop()).for_each(|token| tokens.push(token));
                return self.change_crowd(&line, |seen| seen & !CROWD);
            }
            if cfg!(bast_plant = "readiness_kick_only_looks") && seen & KIND != ARMED {
                return;
            }
            // Also where nothing changes: an arming that comes after this must see the deadline.
            let next = if seen & KIND == ARMED { EMPTY } else { seen };
            match self.swing(seen, next) {
                Ok(()) if seen & KIND == ARMED => return tokens.push(token_of(seen)),
                Ok(()) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Locks the queue if the crowd is still there. While it is held, only a clear changes the word.
    fn locked_crowd<'a>(&self, queue: Queue<'a>) -> Option<Line<'a>> {
        let line = queue.lock();
        let crowd = self.word.load(Acquire) & CROWD != 0;
        if CHECKED {
            assert_eq!(
                crowd,
                !line.is_empty(),
                "the crowd bit does not tell what the queue holds"
            );
        }
        crowd.then_some(line)
    }

    /// Under the lock: makes the word `next` of what it is, and CROWD what the queue is.
    fn change_crowd(&self, line: &Line<'_>, next: impl Fn(u64) -> u64) {
        let crowd = if line.is_empty() { 0 } else { CROWD };
        let mut seen = self.word.load(Acquire);
        while let Err(now) = self.swing(seen, next(seen) | crowd) {
            seen = now;
        }
    }

    /// One step of the word. AcqRel: every change continues the one release sequence.
    #[inline]
    fn swing(&self, seen: u64, next: u64) -> Result<(), u64> {
        assert_valid(next);
        self.word.compare_exchange(seen, next, AcqRel, Acquire).map(drop)
    }
}

/// READY with waiters in the queue.
const READY_CROWD: u64 = READY | CROWD;
/// EMPTY with waiters in the queue.
const EMPTY_CROWD: u64 = EMPTY | CROWD;

fn token_of(word: u64) -> usize {
    debug_assert_eq!(word & KIND, ARMED);
    (word >> SHIFT) as usize
}

/// The picture at the top, as a check of every word that is about to be written.
#[inline]
fn assert_valid(word: u64) {
    let valid = match word & KIND {
        EMPTY => word & !CROWD == EMPTY,
        READY => true,
        ARMED => word & (CROWD | LASTING) == 0,
        _ => word == CLOSED,
    };
    if CHECKED {
        assert!(valid, "no such state: {:?}", Snapshot(word));
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = self.0 >> SHIFT;
        match self.0 & KIND {
            EMPTY => write!(f, "Empty")?,
            READY => write!(f, "Ready({payload})")?,
            ARMED => write!(f, "Armed({payload:#x})")?,
            _ => write!(f, "Closed")?,
        }
        if self.0 & CROWD != 0 {
            write!(f, " + crowd")?;
        }
        if self.0 & LASTING != 0 {
            write!(f, " + lasting")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("state", &self.snapshot())
            .field("deadline", &self.deadline())
            .finish()
    }
}
