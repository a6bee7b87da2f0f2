//! What users hold of a task: its id, and a handle to unpark it.

use super::Priority;
use super::header::TaskRef;
use super::spawn::release;
use crate::sched::park;
use std::fmt;

/// A task's number, unique in its runtime and never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u64);

impl TaskId {
    pub(crate) fn of(task: TaskRef) -> TaskId {
        TaskId(task.id())
    }

    /// The number.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TaskId({})", self.0)
    }
}

/// A handle to a task, as [`std::thread::Thread`] is to a thread: to know it by, and to unpark it from anywhere.
pub struct Task(TaskRef);

impl Task {
    pub(crate) fn new(task: TaskRef) -> Task {
        task.retain();
        Task(task)
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        TaskId::of(self.0)
    }

    /// The name it was given at its spawn.
    pub fn name(&self) -> Option<&str> {
        self.0.extra().and_then(|extra| extra.name.as_deref())
    }

    /// The priority it was given at its spawn.
    pub fn priority(&self) -> Priority {
        self.0.priority()
    }

    /// Wakes the task if it is parked; otherwise its next [`park`](super::park) returns at once. From any thread.
    pub fn unpark(&self) {
        park::unpark(self.0);
    }

    /// True once the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.join.is_done()
    }
}

impl Clone for Task {
    fn clone(&self) -> Self {
        Task::new(self.0)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        release(self.0);
    }
}

impl PartialEq for Task {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Task {}

impl fmt::Debug for Task {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Task")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish()
    }
}
