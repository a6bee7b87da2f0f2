//! Where waiters stand when one direction of a source has more than one of them.
//!
//! A direction's word holds one token. When a second waiter comes, both stand in a queue here and the
//! word says so (its crowd bit); `readiness` makes every such change, this file only keeps the queues.
//! A source that never had two waiters in one direction pays for an empty `Option` and its lock.
//!
//! Rule: a queue changes only under the lock, and whoever holds the lock leaves the word's crowd bit
//! saying whether that direction's queue is empty.

use std::collections::VecDeque;
use std::fmt;

use crate::Direction;
use crate::primitive::{Guard, Lock};

/// One queue a direction, in the order of [`Direction::BOTH`].
type Queues = Option<Box<[VecDeque<usize>; 2]>>;

/// The queues of one source, allocated when the first crowd forms.
pub(crate) struct Crowd {
    queues: Lock<Queues>,
}

/// One direction's queue, not yet locked.
#[derive(Clone, Copy)]
pub(crate) struct Queue<'a> {
    crowd: &'a Crowd,
    direction: Direction,
}

/// One direction's queue, locked.
pub(crate) struct Line<'a> {
    queues: Guard<'a, Queues>,
    index: usize,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        Self {
            queues: Lock::new(None),
        }
    }

    pub(crate) fn queue(&self, direction: Direction) -> Queue<'_> {
        Queue {
            crowd: self,
            direction,
        }
    }

    /// Gives the memory of the queues back. For the sole owner of a source that nobody waits on.
    #[cfg(not(bast_loom))]
    pub(crate) fn reset(&self) {
        *self.queues.lock() = None;
    }
}

impl<'a> Queue<'a> {
    pub(crate) fn lock(self) -> Line<'a> {
        Line {
            queues: self.crowd.queues.lock(),
            index: self.direction.index(),
        }
    }
}

impl Line<'_> {
    pub(crate) fn push(&mut self, token: usize) {
        self.queues.get_or_insert_default()[self.index].push_back(token);
    }

    /// The one that waited longest.
    pub(crate) fn pop(&mut self) -> Option<usize> {
        self.queues.as_mut()?[self.index].pop_front()
    }

    /// Takes `token` out of the queue; `false` when it is not there. Looks at everybody before it: crowds are
    /// small, and leaving one early is rare.
    pub(crate) fn remove(&mut self, token: usize) -> bool {
        let Some(queues) = self.queues.as_mut() else {
            return false;
        };
        let queue = &mut queues[self.index];
        match queue.iter().position(|&waiting| waiting == token) {
            Some(at) => queue.remove(at).is_some(),
            None => false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues
            .as_ref()
            .is_none_or(|queues| queues[self.index].is_empty())
    }
}

impl fmt::Debug for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd").finish_non_exhaustive()
    }
}
