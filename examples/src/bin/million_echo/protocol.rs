//! What the main process and its children say to each other: one JSON object a line, orders on the child's standard input,
//! events on its standard output.

use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

/// From the main process to a load process. End of input means: end at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    /// What this process is to do; answered by [`Event::Ready`].
    Plan(LoadPlan),
    /// Open the connections; answered by [`Event::Connecting`] now and then, and [`Event::Connected`] at the end.
    Connect,
    /// Open no more: hold what there is.
    StopConnecting,
    /// Run the echo rounds; answered by [`Event::Echoing`] now and then, and [`Event::Echoed`] at the end.
    Echo,
    /// Start no more echoes: end the rounds with what was measured.
    StopEchoing,
}

/// The share of one load process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadPlan {
    pub(crate) targets: Vec<Target>,
    /// The first of the addresses this process may bind its ends to.
    pub(crate) first_source: Ipv4Addr,
    /// Connections from one source address to one target, so that its ephemeral ports never run short.
    pub(crate) per_source: u32,
    /// Connections being opened at a time.
    pub(crate) connecting: u32,
    /// Echoes under way at a time.
    pub(crate) in_flight: u32,
    pub(crate) rounds: u32,
    pub(crate) payload: u32,
    pub(crate) patience_s: u32,
}

/// A server and how many connections it gets from one load process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) address: SocketAddrV4,
    pub(crate) connections: u32,
}

/// From a child to the main process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A server listens, or a load process has its plan.
    Ready { address: Option<SocketAddrV4> },
    /// A server could not accept: it waits and tries again.
    AcceptFailed { errno: i32, times: u64 },
    /// So many stand by now, so many did not come about.
    Connecting { connected: u64, failed: u64 },
    /// All that could be opened stand.
    Connected {
        connected: u64,
        failures: Vec<(Failure, u64)>,
        span: Span,
    },
    /// So many echoes are done.
    Echoing { echoes: u64, lost: u64 },
    /// The rounds are over. Latencies are pairs of nanoseconds and count.
    Echoed {
        echoes: u64,
        failures: Vec<(Failure, u64)>,
        span: Span,
        latencies: Vec<(u64, u64)>,
    },
    /// The child cannot do its work and is about to end.
    Trouble { what: String },
}

/// Start and end of a phase on the monotonic clock, which all processes of the machine share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

/// Why a connection did not come about, or broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    /// The system refused, with this errno.
    Os(i32),
    /// The server closed it.
    Closed,
    /// Other bytes came back than were sent.
    WrongBytes,
    /// Nothing moved for as long as the patience lasts.
    NoProgress,
    /// It was not tried any more: the run was told to stop first.
    NotTried,
}

impl Failure {
    /// Whether the other side closed or refused it, as it does when it dies.
    pub(crate) fn is_by_the_server(self) -> bool {
        match self {
            Self::Os(errno) => matches!(errno, libc::ECONNRESET | libc::ECONNREFUSED | libc::EPIPE),
            Self::Closed => true,
            Self::WrongBytes | Self::NoProgress | Self::NotTried => false,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or(Self::Closed, Self::Os)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(errno) => io::Error::from_raw_os_error(*errno).fmt(f),
            Self::Closed => f.write_str("closed by the server"),
            Self::WrongBytes => f.write_str("other bytes came back than were sent"),
            Self::NoProgress => f.write_str("no progress within the patience"),
            Self::NotTried => f.write_str("not tried any more"),
        }
    }
}

/// Says `event` to the main process. Where nobody listens any more, this process has no purpose left and ends.
pub(crate) fn emit(event: &Event) {
    let mut line = serde_json::to_vec(event).expect("events are plain data");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Nanoseconds on the monotonic clock.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_pipe() {
        let span = Span {
            start_ns: 1,
            end_ns: 2,
        };
        let failures = vec![(Failure::Os(24), 3), (Failure::NoProgress, 1)];
        for event in [
            Event::Ready {
                address: Some("127.0.0.1:80".parse().unwrap()),
            },
            Event::Connected {
                connected: 7,
                failures: failures.clone(),
                span,
            },
            Event::Echoed {
                echoes: 9,
                failures,
                span,
                latencies: vec![(1000, 2)],
            },
        ] {
            let line = serde_json::to_string(&event).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }
}
