//! A task's choice of its successor: from the local queue, without the home stack.

use super::inside::{GLOBAL_EVERY, Inside};
use crate::blocking::handoff::CLOSE;
use crate::chaos::{self, Point};
use crate::task::header::TaskRef;
use crate::time::clock::{self, NEVER};

/// After this many picks of the next slot in a row the ring gets a turn, so that two tasks that wake each other
/// cannot starve the rest.
const NEXT_IN_A_ROW_MAX: u32 = 16;

impl Inside {
    /// The next task of the local queue, bound to a stack. None: go home and look further.
    #[inline]
    pub(super) fn pick(&mut self) -> Option<TaskRef> {
        loop {
            let task = self.pick_unbound()?;
            if !task.is_fresh() || self.bind_stack(task) {
                return Some(task);
            }
        }
    }

    /// As [`Inside::pick`]; the task may have no stack yet.
    #[inline]
    pub(super) fn pick_unbound(&mut self) -> Option<TaskRef> {
        let processor = self.processor();
        let due = processor.timers.next_due();
        if processor.next_tick().is_multiple_of(GLOBAL_EVERY)
            || self.worker().marking.requested() & CLOSE != 0
            || (due != NEVER && due <= clock::now())
            || chaos::flip(Point::GoHome)
        {
            return None; // the home stack does what is due: this stack stays shallow
        }
        if self.shared().has_high() {
            return self.pick_beside_high();
        }
        let task = self.pop_local()?;
        self.unless_bound(task)
    }

    /// A task that was picked, unless it may run on another worker only: the home stack gives it to that one.
    #[inline]
    pub(super) fn unless_bound(&self, task: TaskRef) -> Option<TaskRef> {
        if task.bound_to().is_some() {
            self.worker().bound_next.set(Some(task));
            return None;
        }
        Some(task)
    }

    /// The front of the local queue, fair between the next slot and the ring.
    #[inline]
    pub(crate) fn pop_local(&mut self) -> Option<TaskRef> {
        let processor = self.processor();
        let queue = &processor.queue;
        // SAFETY: we hold the processor and are inside; `&mut self` is the exclusive borrow of its data, and the queue
        // is not part of that.
        let own = unsafe { processor.own() };
        if !queue.has_next() {
            own.next_in_a_row = 0;
            // SAFETY: we hold the processor.
            return unsafe { queue.pop_ring() }.map(TaskRef);
        }
        let tired = own.next_in_a_row >= NEXT_IN_A_ROW_MAX;
        own.next_in_a_row = if tired { 0 } else { own.next_in_a_row + 1 };
        if tired {
            // SAFETY: we hold the processor.
            let from_ring = unsafe { queue.pop_ring() };
            if from_ring.is_some() {
                return from_ring.map(TaskRef);
            }
        }
        // SAFETY: we hold the processor.
        unsafe { queue.pop() }.map(TaskRef)
    }
}
