//! Public errors.

use crate::task::TaskId;
use std::any::Any;
use std::fmt;

/// Why [`JoinHandle::join`](crate::JoinHandle::join) has no value: the task panicked, or its runtime ended first.
pub struct JoinError {
    id: TaskId,
    kind: Kind,
}

enum Kind {
    Panic(Box<dyn Any + Send + 'static>),
    Shutdown,
    TimedOut,
    Cancelled,
}

impl JoinError {
    pub(crate) fn panic(id: TaskId, payload: Box<dyn Any + Send>) -> JoinError {
        JoinError {
            id,
            kind: Kind::Panic(payload),
        }
    }

    pub(crate) fn shutdown(id: TaskId) -> JoinError {
        JoinError {
            id,
            kind: Kind::Shutdown,
        }
    }

    pub(crate) fn timed_out(id: TaskId) -> JoinError {
        JoinError {
            id,
            kind: Kind::TimedOut,
        }
    }

    pub(crate) fn cancelled(id: TaskId) -> JoinError {
        JoinError {
            id,
            kind: Kind::Cancelled,
        }
    }

    /// The task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.kind, Kind::Panic(_))
    }

    /// The runtime ended before the task did.
    pub fn is_shutdown(&self) -> bool {
        matches!(self.kind, Kind::Shutdown)
    }

    /// The deadline of a [`time::timeout`](crate::time::timeout) or a [context](crate::context) around the join passed
    /// first. The task goes on, detached; [`JoinHandle::join_timeout`](crate::JoinHandle::join_timeout) gives the handle back instead.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::TimedOut)
    }

    /// The [context](crate::context) that the join was called in was cancelled first. The task goes on, detached, as for
    /// [`JoinError::is_timeout`].
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind, Kind::Cancelled)
    }

    /// The task that failed.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The panic's payload, for [`std::panic::resume_unwind`]; as [`std::thread::Result`] carries it.
    ///
    /// # Errors
    /// Gives the error back if it is not a panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send + 'static>, JoinError> {
        match self.kind {
            Kind::Panic(payload) => Ok(payload),
            Kind::Shutdown | Kind::TimedOut | Kind::Cancelled => Err(self),
        }
    }

    /// The panic's payload.
    ///
    /// # Panics
    /// If the error is not a panic.
    pub fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        self.try_into_panic().unwrap_or_else(|error| panic!("{error}"))
    }

    fn panic_text(&self) -> Option<&str> {
        let Kind::Panic(payload) = &self.kind else {
            return None;
        };
        let text = payload.downcast_ref::<&'static str>().copied();
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, self.panic_text()) {
            (Kind::Panic(_), Some(text)) => write!(out, "task {} panicked: {text}", self.id),
            (Kind::Panic(_), None) => write!(out, "task {} panicked", self.id),
            (Kind::TimedOut, _) => write!(out, "the deadline passed before task {} ended", self.id),
            (Kind::Cancelled, _) => write!(out, "the wait for task {} was cancelled", self.id),
            (Kind::Shutdown, _) => write!(out, "the runtime ended before task {}", self.id),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}

/// Why a task could not be spawned. The closure is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SpawnError {
    kind: SpawnKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SpawnKind {
    NoRuntime,
    Closed,
    NoMemory,
    NoStack(String),
    StackTooLarge(usize),
}

impl SpawnError {
    pub(crate) const NO_RUNTIME: SpawnError = SpawnError {
        kind: SpawnKind::NoRuntime,
    };
    pub(crate) const CLOSED: SpawnError = SpawnError {
        kind: SpawnKind::Closed,
    };
    pub(crate) const NO_MEMORY: SpawnError = SpawnError {
        kind: SpawnKind::NoMemory,
    };

    pub(crate) fn no_stack(why: String) -> SpawnError {
        SpawnError {
            kind: SpawnKind::NoStack(why),
        }
    }

    pub(crate) fn stack_too_large(bytes: usize) -> SpawnError {
        SpawnError {
            kind: SpawnKind::StackTooLarge(bytes),
        }
    }

    /// The calling thread belongs to no runtime.
    pub fn is_no_runtime(&self) -> bool {
        self.kind == SpawnKind::NoRuntime
    }

    /// The runtime is shutting down.
    pub fn is_closed(&self) -> bool {
        self.kind == SpawnKind::Closed
    }

    /// Memory for the task, or a stack for it, is refused; the text says which limit to raise.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.kind, SpawnKind::NoMemory | SpawnKind::NoStack(_))
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            SpawnKind::NoRuntime => out.write_str(
                "bast::spawn was called on a thread of no runtime: call it inside bast::run, or use Handle::spawn",
            ),
            SpawnKind::Closed => out.write_str("the runtime is shutting down and takes no new tasks"),
            SpawnKind::NoMemory => out.write_str("the allocator refused memory for another task"),
            SpawnKind::NoStack(why) => {
                write!(out, "no stack is left for another task, and tasks are waiting for one: {why}")
            }
            SpawnKind::StackTooLarge(bytes) => write!(
                out,
                "a task's stack of {bytes} bytes was asked for; the largest is 8 MiB: run deep calls in \
                 bast::on_big_stack, which has no such bound"
            ),
        }
    }
}

impl fmt::Debug for SpawnError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SpawnError({self})")
    }
}

impl std::error::Error for SpawnError {}
