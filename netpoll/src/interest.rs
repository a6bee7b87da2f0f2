//! The two directions of a descriptor, and what one event says about each.

#[cfg(not(bast_loom))]
use mio::event::Event;

/// One of the two ways that bytes go through a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Bytes come in: `read`, `recv`, `accept`.
    Read,
    /// Bytes go out: `write`, `send`, and the end of a `connect`.
    Write,
}

impl Direction {
    /// Both, in the order in which tables keep them.
    pub const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

    pub(crate) fn index(self) -> usize {
        match self {
            Direction::Read => 0,
            Direction::Write => 1,
        }
    }
}

/// What one event says about one direction.
#[cfg(not(bast_loom))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// The event is not about this direction.
    Nothing,
    /// A call may succeed now.
    Ready,
    /// The direction has ended, hung up or failed: a call succeeds now, and no further edge need come
    /// after bytes that are still in the buffer. See the lasting bit in `readiness`.
    Lasting,
}

#[cfg(not(bast_loom))]
impl Interest {
    /// Reads off an event what it says about `direction`.
    pub(crate) fn of(event: &Event, direction: Direction) -> Interest {
        let (ready, ended) = match direction {
            Direction::Read => (event.is_readable(), event.is_read_closed()),
            Direction::Write => (event.is_writable(), event.is_write_closed()),
        };
        if ended || event.is_error() {
            Interest::Lasting
        } else if ready {
            Interest::Ready
        } else {
            Interest::Nothing
        }
    }
}
