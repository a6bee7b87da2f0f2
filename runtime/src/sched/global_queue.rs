//! The queue that all processors share: overflow, foreign wake-ups, tasks that yielded for fairness. A list through
//! the headers, under the scheduler's lock; its length is also an atomic, so that an empty one costs a load.

use crate::primitive::atomic::{AtomicUsize, Relaxed, Release};
use crate::task::header::TaskRef;

/// The list. Lives under the scheduler's lock.
#[derive(Debug, Default)]
pub(crate) struct GlobalQueue {
    first: Option<TaskRef>,
    last: Option<TaskRef>,
    len: usize,
}

impl GlobalQueue {
    /// Appends; `mirror` is the atomic length.
    pub(crate) fn push(&mut self, task: TaskRef, mirror: &AtomicUsize) {
        task.link.set(None);
        match self.last.replace(task) {
            Some(last) => last.link.set(Some(task)),
            None => self.first = Some(task),
        }
        self.len += 1;
        mirror.store(self.len, Release);
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self, mirror: &AtomicUsize) -> Option<TaskRef> {
        let task = self.first?;
        self.first = task.link.replace(None);
        if self.first.is_none() {
            self.last = None;
        }
        self.len -= 1;
        mirror.store(self.len, Relaxed);
        Some(task)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::GlobalQueue;
    use crate::primitive::atomic::{AtomicUsize, Relaxed};
    use crate::task::header::{Header, TaskRef};
    use std::ptr::NonNull;

    #[test]
    fn is_first_in_first_out() {
        let headers: Vec<Header> = (0..5).map(|_| Header::free()).collect();
        let tasks: Vec<TaskRef> = headers
            .iter()
            .map(|header| TaskRef(NonNull::from(header)))
            .collect();
        let len = AtomicUsize::new(0);
        let mut queue = GlobalQueue::default();
        for round in 0..3 {
            tasks.iter().for_each(|&task| queue.push(task, &len));
            assert_eq!(len.load(Relaxed), 5, "round {round}");
            for &task in &tasks {
                assert_eq!(queue.pop(&len), Some(task));
            }
            assert_eq!(queue.pop(&len), None);
            assert_eq!((queue.len(), len.load(Relaxed)), (0, 0));
        }
    }
}
