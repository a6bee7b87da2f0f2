//! Gives memory back: pages below the stack pointer of tasks that have been parked for long, and pooled stacks above
//! the high-water mark.
//!
//! A parked task is seen twice, a round apart, in the same park before its stack is shrunk (two marks in the header,
//! cleared by the next park). For the time of the system call the scavenger holds the task: it takes it out of
//! `PARKED` as an unparker would and commits the park again, so an unpark meanwhile is kept, not lost.

use crate::sched::shared::Shared;
use crate::task::header::TaskRef;
use crate::task::state::CommitPark;
use crate::time::clock;
use bast_stack::{Stack, shrink};
use std::mem::ManuallyDrop;
use std::time::Duration;

/// A round over all tasks begins at most this often.
const ROUND_NANOS: u64 = 1_000_000_000;
/// Slab chunks (511 tasks each) looked at in one step.
const CHUNKS_A_STEP: usize = 4;
/// Two steps are so far apart at least.
const STEP_NANOS: u64 = 1_000_000;
/// A step that took so long is followed by a rest of so many times that: the monitor must not use up a CPU that tasks
/// want, and has more of it when nothing runs.
const REST_BUSY: u64 = 30;
const REST_IDLE: u64 = 2;

#[derive(Debug)]
pub(super) struct Scavenger {
    chunk: usize,
    round_began: u64,
    rests_until: u64,
    /// Over.
    rounds: u64,
}

impl Scavenger {
    pub(super) fn new() -> Scavenger {
        Scavenger {
            chunk: 0,
            round_began: 0,
            rests_until: 0,
            rounds: 0,
        }
    }

    /// How many rounds are over.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Nanoseconds until there is something to do, while nothing runs.
    pub(super) fn due_in(&self, now: u64) -> u64 {
        let next = if self.chunk > 0 {
            self.rests_until
        } else {
            self.round_began + ROUND_NANOS
        };
        next.saturating_sub(now).max(STEP_NANOS)
    }

    pub(super) fn step(&mut self, shared: &Shared, now: u64) {
        if now < self.rests_until {
            return;
        }
        if self.chunk == 0 {
            if now.saturating_sub(self.round_began) < ROUND_NANOS {
                return;
            }
            self.round_began = now;
            shared.stacks.trim(Duration::from_nanos(now));
        }
        for _ in 0..CHUNKS_A_STEP {
            if !shared.slab.for_each_in(self.chunk, |task| look(shared, task)) {
                self.chunk = 0;
                self.rounds += 1;
                return;
            }
            self.chunk += 1;
        }
        let all_idle = shared.idle.counts().1 == shared.processors.len();
        let rest = if all_idle { REST_IDLE } else { REST_BUSY };
        let end = clock::now();
        self.rests_until = end + rest * end.saturating_sub(now);
    }
}

fn look(shared: &Shared, task: TaskRef) {
    if task.state.snapshot() != crate::task::state::Snapshot::Parked
        || !task.mark_parked_for_long()
        || !task.state.try_hold()
    {
        return;
    }
    // The task is ours now, as if we had unparked it. One that is bound to a worker parks without a switch, so its
    // saved registers are those of an earlier one.
    if task.bound_to().is_none()
        && let Some(word) = task.stack_word()
    {
        // SAFETY: validity: the word of a bound stack; the task holds it, and ManuallyDrop keeps it so. aliasing: we
        // hold the task.
        let stack = ManuallyDrop::new(unsafe { Stack::from_raw(word) });
        // SAFETY: validity: the task is ours, so its saved registers are whole. aliasing: read only.
        let pointer = unsafe { (*task.saved.get()).stack_pointer() };
        // SAFETY: the saved pointer is of the context suspended on the stack, and we hold the task.
        unsafe { shrink(&stack, pointer) };
    }
    if task.state.commit_park() == CommitPark::Notified {
        shared.inject(task);
    }
}
