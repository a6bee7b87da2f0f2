//! The task word: is a task parked, and has somebody already asked for it?
//!
//! ```text
//!                 unpark (token kept)
//!            ┌──────────────────────────┐
//!            ▼                          │
//!      ┌──────────┐   unpark      ┌─────┴─────┐
//!      │ NOTIFIED │◄──────────────│ SCHEDULED │◄── init (spawn)
//!      └────┬─────┘               └──┬─────▲──┘
//!           │ take_notification      │     │ unpark: caller must enqueue
//!           │ commit_park: Notified  │     │
//!           └──────────►SCHEDULED    │ commit_park: Parked
//!                                    ▼     │
//!        SCHEDULED ──finish──► DONE (abandon: from any state, at shutdown)
//!        (try_hold makes the same step as unpark, for the scavenger, who then commits the park again)
//!        SCHEDULED ──finish──► DONE  ┌─────┴──┐
//!        NOTIFIED  ──finish──► DONE  │ PARKED │
//!                                    └────────┘
//! ```
//!
//! | state | the task is | header fields owned by |
//! |---|---|---|
//! | `SCHEDULED` | on exactly one run queue, or running on exactly one worker | that queue or worker |
//! | `NOTIFIED` | the same, and its next park returns at once | that queue or worker |
//! | `PARKED` | on no queue; its registers are saved | whoever moves it to `SCHEDULED` |
//! | `DONE` | finished, or its slab entry is free | the slab, once the reference count is zero |
//!
//! Beside the state the word has one bit, `PERMIT`, which no transition of the picture changes: `task::park` and
//! `Task::unpark` are the user's, and everything in bast that waits parks the same task. A token only says "look again";
//! whoever takes it looks at its own condition, and a channel that takes the token of a user's unpark would leave the
//! user's next park waiting for ever. So [`State::unpark_with_permit`] leaves the bit as well, which only
//! [`State::take_permit`] takes, and `init` and `finish` clear.
//!
//! There is no separate "parking" state: a task that has published itself and not yet committed is still
//! `SCHEDULED`, so an unpark in that window leaves `NOTIFIED` behind and the commit finds it. The commit runs
//! **after** the stack switch, on the next stack, so that `PARKED` always means "registers saved": whoever wins
//! the `PARKED -> SCHEDULED` transition may run the task at once.
//!
//! Memory ordering: every transition is a read-modify-write, so the word has one modification order. `unpark` is
//! Release (what the caller wrote before it is seen by the task) and Acquire (the winner of `PARKED` sees the saved
//! registers that `commit_park` released). `take_notification` and a failed `commit_park` are Acquire: they pair
//! with the unpark that left the token. A second unpark that finds `NOTIFIED` still writes the same value back: a
//! plain load would leave its Release out of the order and the task could miss what was published before it.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

use crate::primitive::atomic::{AcqRel, Acquire, AtomicU32, Ordering, Relaxed, Release};

/// On a run queue or running.
const SCHEDULED: u32 = 0;
/// As `SCHEDULED`, and the next park must return at once.
const NOTIFIED: u32 = 1;
/// Waiting, with its registers saved.
const PARKED: u32 = 2;
/// Finished; also the state of a free slab entry, so that a stale unpark finds nothing to do.
const DONE: u32 = 3;
/// The bits of the state.
const STATE: u32 = 3;
/// The user's own unpark, which no wait of bast uses up.
const PERMIT: u32 = 4;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const COMMIT: Ordering = if cfg!(bast_plant = "state_commit_relaxed") {
    Relaxed
} else {
    Release
};
const TAKE: Ordering = if cfg!(bast_plant = "state_take_relaxed") {
    Relaxed
} else {
    Acquire
};
const HOLD: Ordering = if cfg!(bast_plant = "state_hold_relaxed") {
    Relaxed
} else {
    AcqRel
};

const TAKE_PERMIT: Ordering = if cfg!(bast_plant = "state_permit_relaxed") {
    Relaxed
} else {
    Acquire
};

const TOKEN_LEAVES: u32 = if cfg!(bast_plant = "state_token_takes_permit") {
    !(NOTIFIED | PERMIT)
} else {
    !NOTIFIED
};

/// What `commit_park` found.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum CommitPark {
    /// The task is parked: it now belongs to whoever unparks it and must not be touched.
    Parked,
    /// An unpark came first: the task is still the caller's and must be made runnable.
    Notified,
}

/// What the caller of `unpark` must do.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Unpark {
    /// The task was parked and is now the caller's: put it on a run queue.
    Enqueue,
    /// The task is not parked; its next park returns at once.
    Pending,
    /// The task is over.
    Done,
}

/// The task word. See the module's picture.
#[derive(Debug)]
pub struct State(AtomicU32);

impl State {
    /// A free slab entry.
    pub fn free() -> State {
        State(AtomicU32::new(DONE))
    }

    /// `DONE -> SCHEDULED`, by the spawner, before the task is published.
    ///
    /// A read-modify-write, because a stale unpark may be looking at the entry at this moment.
    pub fn init(&self) {
        let before = self.0.swap(SCHEDULED, Relaxed);
        debug_assert_eq!(before, DONE, "a slab entry in use was given out again");
    }

    /// `NOTIFIED -> SCHEDULED`, by the running task; true if the token was there.
    #[inline]
    pub fn take_notification(&self) -> bool {
        // Relaxed look first: parking tasks seldom hold a token. The exchange then acquires it.
        self.0.load(Relaxed) & STATE == NOTIFIED && {
            self.0.fetch_and(TOKEN_LEAVES, TAKE);
            true
        }
    }

    /// Takes the user's permit, and the token that came with it, by the running task; true if it was there.
    #[inline]
    pub fn take_permit(&self) -> bool {
        // Relaxed look first: a permit that it misses comes with a token, which the park then finds.
        self.0.load(Relaxed) & PERMIT != 0 && {
            self.0.fetch_and(!(PERMIT | NOTIFIED), TAKE_PERMIT);
            true
        }
    }

    /// `SCHEDULED -> PARKED`, by the worker that has just left the task's stack.
    #[inline]
    pub fn commit_park(&self) -> CommitPark {
        if cfg!(bast_plant = "state_commit_store") {
            self.0.store(PARKED, Release);
            return CommitPark::Parked;
        }
        let mut seen = SCHEDULED;
        loop {
            // Release: publishes the saved registers to the unparker. Acquire on failure: pairs with `unpark`.
            match self.0.compare_exchange(seen, seen | PARKED, COMMIT, Acquire) {
                Ok(_) => return CommitPark::Parked,
                Err(PERMIT) => seen = PERMIT, // of an unpark whose token is used up
                Err(found) => {
                    debug_assert_eq!(found & STATE, NOTIFIED, "only a scheduled task parks");
                    // A further unpark may land between the failed exchange and this one, which acquires it too.
                    self.0.fetch_and(!NOTIFIED, Acquire);
                    return CommitPark::Notified;
                }
            }
        }
    }

    /// `PARKED -> SCHEDULED` or `SCHEDULED -> NOTIFIED`, by anybody.
    #[inline]
    pub fn unpark(&self) -> Unpark {
        self.unpark_and(0)
    }

    /// The same for the user, who finds it at the next `take_permit`, whoever takes the token.
    #[inline]
    pub fn unpark_with_permit(&self) -> Unpark {
        self.unpark_and(PERMIT)
    }

    #[inline(always)]
    fn unpark_and(&self, permit: u32) -> Unpark {
        let mut seen = self.0.load(Relaxed);
        loop {
            let next = match seen & STATE {
                PARKED => SCHEDULED,
                #[cfg(bast_plant = "state_unpark_load")]
                NOTIFIED => return Unpark::Pending,
                SCHEDULED | NOTIFIED => NOTIFIED,
                _ => return Unpark::Done,
            };
            let kept = seen & PERMIT | permit;
            match self.0.compare_exchange_weak(seen, next | kept, AcqRel, Relaxed) {
                Ok(before) if before & STATE == PARKED => return Unpark::Enqueue,
                Ok(_) => return Unpark::Pending,
                Err(now) => seen = now,
            }
        }
    }

    /// `SCHEDULED | NOTIFIED -> DONE`, by the worker that ran the task to its end.
    pub fn finish(&self) {
        // A swap, not a store: a store could land between a stale unpark's load and its exchange without
        // failing the exchange only if it wrote the same value, but the single modification order is the rule.
        let before = self.0.swap(DONE, Release);
        debug_assert!(
            matches!(before & STATE, SCHEDULED | NOTIFIED),
            "a task finished while parked"
        );
    }

    /// Any state `-> DONE`, at shutdown, for a task that will never run again: nobody enqueues it any more.
    pub fn abandon(&self) {
        self.0.swap(DONE, AcqRel);
    }

    /// `PARKED -> SCHEDULED` on the scavenger's behalf: it holds the task until it parks it again by
    /// [`State::commit_park`]. False: the task is not parked.
    pub fn try_hold(&self) -> bool {
        let seen = self.0.load(Relaxed);
        // No second try: what changes the word of a parked task takes it out.
        seen & STATE == PARKED
            && self
                .0
                .compare_exchange(seen, seen & !STATE | SCHEDULED, HOLD, Relaxed)
                .is_ok()
    }

    /// A look from outside, for dumps: racy by nature.
    pub fn snapshot(&self) -> Snapshot {
        match self.0.load(Acquire) & STATE {
            SCHEDULED | NOTIFIED => Snapshot::Scheduled,
            PARKED => Snapshot::Parked,
            _ => Snapshot::Done,
        }
    }
}

/// A decoded copy of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// Queued or running.
    Scheduled,
    /// Waiting.
    Parked,
    /// Over, or never used.
    Done,
}
