//! `Depot`: the free stacks that processors share, as a protocol that knows nothing of memory.
//!
//! Goal: a processor whose own cache runs dry or over moves a whole batch with one lock; a trimmer gives
//! the memory of surplus stacks back to the kernel while processors go on taking and putting.
//!
//! ```text
//!                take                       begin_trim
//!        out  ◄──────── warm (has pages) ───────────────► trimming ─┐
//!   (processors  ────────►                  (trimmer's alone)       │ end_trim
//!    and tasks)   put                                               ▼
//!         ▲                    take, when none is warm        cold (no pages)
//!         └───────────────────────────────────────────────────────┘
//!         ▲ enter: a slot carved from an arena is born `out`
//! ```
//!
//! Rejected: a lock-free list of batches. It needs a link word a slot, tags against ABA, and a trimmer
//! that empties the list for a moment, in which takers carve slots they would not have needed. The lock is
//! taken once a batch (32 stacks by default), for a few moves of words.
//!
//! Rule 1. A stack is in exactly one of: out, warm, trimming, cold. Moving it is one critical section.
//! Rule 2. Only the owner touches a stack's pages: the taker while it is out, the trimmer between
//!         `begin_trim` and `end_trim`. `warm` and `cold` stacks are touched by nobody.
//! Rule 3. `mark` is the high-water mark of `out`. It rises at once, and each period loses half of its
//!         distance to `out`. Warm stacks beyond `mark - out` are surplus.
//! Rule 4. The lock is never held across a system call.
//!
//! Memory ordering: all of it is the lock's. What a task wrote to a stack before `put` is visible to
//! whoever takes it next, because both sections lock the same mutex.
//!
//! Proof sketch: by Rule 1 two takers never get one stack, since removal from `warm` or `cold` happens
//! under the lock; by Rules 1 and 2 a trimmer never discards pages of a stack in use, since it removed the
//! stack from `warm` in the section that chose it. The model `stack_cache` checks both with a cell a stack.

#![cfg_attr(
    not(bast_loom),
    expect(unreachable_pub, reason = "public for the loom model only")
)]

use crate::primitive::{Mutex, lock};
use std::collections::VecDeque;
use std::fmt;

/// The shared free list of one class. `T` is the name of a stack, and whoever was given it owns the stack.
pub struct Depot<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Free, pages still there. The back is the warmest: it was put last.
    warm: VecDeque<T>,
    /// Free, pages given back.
    cold: Vec<T>,
    /// With tasks, in the processors' caches, or leaked.
    out: usize,
    /// With the trimmer.
    trimming: usize,
    /// High-water mark of `out` (Rule 3).
    mark: usize,
}

/// Counts of a [`Depot`] at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DepotCounts {
    /// Handed out: in use, in a processor's cache, or leaked.
    pub out: usize,
    /// Free with their pages, the trimmer's included.
    pub warm: usize,
    /// Free without pages.
    pub cold: usize,
    /// The decaying high-water mark of `out`.
    pub mark: usize,
}

impl<T: Copy> Default for Depot<T> {
    fn default() -> Self {
        Depot::new()
    }
}

impl<T: Copy> Depot<T> {
    /// An empty depot.
    pub fn new() -> Depot<T> {
        let state = State {
            warm: VecDeque::new(),
            cold: Vec::new(),
            out: 0,
            trimming: 0,
            mark: 0,
        };
        Depot {
            state: Mutex::new(state),
        }
    }

    /// Moves up to `count` free stacks to `into`, warm ones first, and says how many.
    pub fn take(&self, count: usize, into: &mut Vec<T>) -> usize {
        let mut state = lock(&self.state);
        let mut taken = 0;
        while taken < count {
            let Some(stack) = state.warm.pop_back().or_else(|| state.cold.pop()) else {
                break;
            };
            into.push(stack);
            taken += 1;
        }
        state.count_out(taken);
        taken
    }

    /// Counts `count` newly made stacks as out: they are the caller's.
    pub fn enter(&self, count: usize) {
        lock(&self.state).count_out(count);
    }

    /// Takes stacks back. They are free for anyone from here on.
    pub fn put(&self, stacks: impl Iterator<Item = T>) {
        let mut state = lock(&self.state);
        for stack in stacks {
            state.warm.push_back(stack);
            state.out -= 1;
        }
    }

    /// Takes the surplus away from the takers, coldest first, and lets the mark decay if a period ended.
    /// The caller owns the stacks returned until it hands them to [`Depot::end_trim`].
    #[must_use = "the stacks are lost unless end_trim gets them"]
    pub fn begin_trim(&self, period_over: bool) -> Vec<T> {
        let mut state = lock(&self.state);
        if period_over {
            state.mark = state.out + (state.mark - state.out) / 2;
        }
        let keep = state.mark - state.out;
        let surplus = state.warm.len().saturating_sub(keep);
        // The planted bug: choose the surplus but leave it where takers find it.
        if cfg!(bast_plant = "stack_cache") {
            return state.warm.iter().take(surplus).copied().collect();
        }
        state.trimming += surplus;
        state.warm.drain(..surplus).collect()
    }

    /// Gives back what [`Depot::begin_trim`] gave, its pages now gone.
    pub fn end_trim(&self, stacks: Vec<T>) {
        if cfg!(bast_plant = "stack_cache") {
            return;
        }
        let mut state = lock(&self.state);
        state.trimming -= stacks.len();
        state.cold.extend(stacks);
    }

    /// The counts now.
    pub fn counts(&self) -> DepotCounts {
        let state = lock(&self.state);
        DepotCounts {
            out: state.out,
            warm: state.warm.len() + state.trimming,
            cold: state.cold.len(),
            mark: state.mark,
        }
    }
}

impl<T> State<T> {
    fn count_out(&mut self, count: usize) {
        self.out += count;
        self.mark = self.mark.max(self.out);
    }
}

impl<T> fmt::Debug for Depot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Depot").finish_non_exhaustive()
    }
}
