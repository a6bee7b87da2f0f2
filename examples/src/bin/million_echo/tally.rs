//! What the main process knows of its children, and what their results add up to.

use std::net::SocketAddrV4;

use crate::protocol::Span;

/// A server: one of our processes, or one that ran before us.
#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) address: Option<SocketAddrV4>,
    pub(crate) pids: Vec<u32>,
    pub(crate) alive: bool,
}

impl Server {
    /// It listens, or never will.
    pub(crate) fn is_settled(&self) -> bool {
        !self.alive || self.address.is_some()
    }
}

/// What a load process has been given and has reached.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) given: u64,
    pub(crate) alive: bool,
    /// It has answered the order of this phase, or never will.
    pub(crate) done: bool,
    pub(crate) connected: u64,
    pub(crate) failed: u64,
    pub(crate) connecting: Option<Span>,
    pub(crate) echoes: u64,
    pub(crate) lost: u64,
    pub(crate) echoing: Option<Span>,
}

/// The loads' results together.
#[derive(Debug)]
pub(crate) struct Sums {
    pub(crate) connections: u64,
    pub(crate) lost: u64,
    pub(crate) connect_per_s: Option<f64>,
    pub(crate) echoes: u64,
    pub(crate) echo_per_s: Option<f64>,
}

impl Sums {
    pub(crate) fn of(loads: &[Load]) -> Self {
        let echoes = loads.iter().map(|load| load.echoes).sum();
        let connections = loads.iter().map(|load| load.connected).sum();
        Self {
            connections,
            lost: loads.iter().map(|load| load.lost).sum(),
            connect_per_s: rate(connections, loads.iter().filter_map(|load| load.connecting)),
            echoes,
            echo_per_s: rate(echoes, loads.iter().filter_map(|load| load.echoing)),
        }
    }
}

/// Events a second, from the first start to the last end.
fn rate(count: u64, spans: impl Iterator<Item = Span>) -> Option<f64> {
    let (start, end) = spans.fold((u64::MAX, 0), |(start, end), span| {
        (start.min(span.start_ns), end.max(span.end_ns))
    });
    (end > start).then(|| (count as f64 * 1e9 / (end - start) as f64).round())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_span_from_the_first_start_to_the_last_end() {
        let span = |start_ns, end_ns| Some(Span { start_ns, end_ns });
        let load = |connected, connecting| Load {
            connected,
            connecting,
            ..Load::default()
        };
        let sums = Sums::of(&[
            load(100, span(1_000, 500_001_000)),
            load(100, span(500_001_000, 1_000_001_000)),
        ]);
        assert_eq!(
            (sums.connections, sums.connect_per_s, sums.echo_per_s),
            (200, Some(200.0), None)
        );
    }
}
