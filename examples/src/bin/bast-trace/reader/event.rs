//! What a trace says happened, once its events are in order.

use super::kind::Kind;

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TaskState {
    /// Not yet made, or ended.
    Absent,
    /// It is there when the trace begins and was not mentioned yet.
    Unknown,
    Runnable,
    Running,
    Syscall,
    Waiting,
}

impl TaskState {
    pub(crate) const fn of_status(status: u64) -> Option<TaskState> {
        match status {
            1 => Some(TaskState::Runnable),
            2 => Some(TaskState::Running),
            3 => Some(TaskState::Syscall),
            4 => Some(TaskState::Waiting),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            TaskState::Absent => "absent",
            TaskState::Unknown => "unknown",
            TaskState::Runnable => "runnable",
            TaskState::Running => "running",
            TaskState::Syscall => "syscall",
            TaskState::Waiting => "waiting",
        }
    }
}

/// Whether a processor is with a thread; it is in a system call too, until it is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessorState {
    Unknown,
    Taken,
    Idle,
}

/// A stretch of time with a name that is not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Range {
    StopTheWorld,
    Mark,
    Sweep,
    MarkAssist,
}

/// What happened. Strings and stacks are identifiers of the generation's tables; 0 is the empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A task changed its state. `named` is a stack whose root is the entry of the task, or 0. From and to are the same
    /// where a generation only repeats what was known.
    Task {
        id: u64,
        from: TaskState,
        to: TaskState,
        reason: u64,
        named: u64,
    },
    Processor {
        id: u64,
        from: ProcessorState,
        to: ProcessorState,
    },
    Processors {
        count: u64,
    },
    Heap {
        goal: bool,
        bytes: u64,
    },
    Label {
        text: u64,
    },
    UserTaskBegin {
        id: u64,
        parent: u64,
        name: u64,
    },
    UserTaskEnd {
        id: u64,
    },
    RegionBegin {
        user_task: u64,
        name: u64,
    },
    RegionEnd {
        user_task: u64,
        name: u64,
    },
    Log {
        user_task: u64,
        key: u64,
        value: u64,
    },
    RangeBegin {
        range: Range,
    },
    RangeEnd {
        range: Range,
    },
    Sample,
    /// Known, and of no use here.
    Other,
}

/// An event in its order. Thread, processor and task are those before it; `NONE` where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// Nanoseconds; grows by at least one with each event.
    pub(crate) time: i64,
    pub(crate) thread: u64,
    pub(crate) processor: u64,
    pub(crate) task: u64,
    pub(crate) stack: u64,
    pub(crate) what: What,
}

/// An event as it stood in a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    pub(crate) kind: Kind,
    pub(crate) arguments: [u64; super::kind::ARGUMENTS_MAX],
    pub(crate) time: i64,
    pub(crate) offset: u64,
}

impl Raw {
    /// The stack of the place where it was written, or 0.
    pub(crate) fn stack(&self) -> u64 {
        let last = self.kind.arguments().iter().rposition(|&letter| letter == b'k');
        last.map_or(0, |index| self.arguments[index])
    }
}
