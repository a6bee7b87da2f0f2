//! What is said at the end: a table for people and JSON with the same keys for programs.

use std::fmt::Write as _;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::plan::Limit;

/// The result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Held at the end of connecting, each with at least one byte echoed.
    pub(crate) connections: u64,
    /// Planned and not reached.
    pub(crate) failed: u64,
    /// Broken after connecting was over.
    pub(crate) lost: u64,
    pub(crate) requested: u64,
    pub(crate) ended: Ended,
    pub(crate) connect_per_s: Option<f64>,
    pub(crate) echoes: u64,
    pub(crate) echo_per_s: Option<f64>,
    pub(crate) latency_us: Option<Latency>,
    pub(crate) server_rss_bytes_per_connection: Option<f64>,
    pub(crate) server_rss_source: &'static str,
    pub(crate) server_page_table_bytes_per_connection: Option<f64>,
    /// Both ends of each connection, when both are on this machine, as they are here.
    pub(crate) kernel_slab_bytes_per_connection: Option<f64>,
    pub(crate) worker_threads: Option<u64>,
    pub(crate) server_processes: usize,
    pub(crate) load_processes: usize,
    pub(crate) backend: &'static str,
    pub(crate) stack_size: Option<usize>,
    pub(crate) rounds: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) in_flight: u32,
    pub(crate) limits: Vec<Limit>,
    /// What went otherwise than planned, in the order it was noticed.
    pub(crate) events: Vec<String>,
}

/// How the run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    Complete,
    Interrupted,
}

/// Of one echo, from the first byte sent to the last received.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: us(histogram.max()),
        })
    }
}

impl Report {
    /// Whether all that was planned was reached.
    pub(crate) fn is_clean(&self) -> bool {
        self.failed == 0 && self.lost == 0 && self.ended == Ended::Complete
    }

    pub(crate) fn write_json(&self, path: &Path) -> std::io::Result<()> {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        std::fs::write(path, text)
    }

    /// The table, keys as in the JSON.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        for (key, value) in self
            .rates()
            .into_iter()
            .chain(self.costs())
            .chain(self.reached_limits())
        {
            let _ = writeln!(table, "{key:<40}{value}");
        }
        if self.ended == Ended::Interrupted {
            table.push_str("interrupted: the figures are what was reached until then\n");
        }
        table
    }

    fn rates(&self) -> Vec<(&'static str, String)> {
        let latency = self.latency_us.map_or("-".into(), |latency| {
            let Latency { p50, p99, p999, max } = latency;
            format!(
                "p50 {p50}, p99 {p99}, p999 {p999}, max {max} ({} in flight)",
                self.in_flight
            )
        });
        let echoes = format!("({} echoes of {} B)", grouped(self.echoes), self.payload_bytes);
        vec![
            (
                "connections",
                format!(
                    "{} (of {} requested)",
                    grouped(self.connections),
                    grouped(self.requested)
                ),
            ),
            ("failed", grouped(self.failed)),
            ("lost", grouped(self.lost)),
            ("connect_per_s", whole(self.connect_per_s)),
            ("echo_per_s", format!("{} {echoes}", whole(self.echo_per_s))),
            ("latency_us", latency),
        ]
    }

    fn costs(&self) -> Vec<(&'static str, String)> {
        let rss = whole(self.server_rss_bytes_per_connection);
        let slab = whole(self.kernel_slab_bytes_per_connection);
        let processes = |count: usize, what: &str| {
            format!("{count} {what} process{}", if count == 1 { "" } else { "es" })
        };
        let threads = format!(
            "{} in {}, backend {}; {}",
            self.worker_threads.map_or("-".into(), grouped),
            processes(self.server_processes, "server"),
            self.backend,
            processes(self.load_processes, "load"),
        );
        vec![
            (
                "server_rss_bytes_per_connection",
                format!("{rss} ({})", self.server_rss_source),
            ),
            (
                "server_page_table_bytes_per_connection",
                whole(self.server_page_table_bytes_per_connection),
            ),
            ("kernel_slab_bytes_per_connection", format!("{slab} (both ends)")),
            ("worker_threads", threads),
        ]
    }

    fn reached_limits(&self) -> Vec<(&'static str, String)> {
        let stopped = self.limits.iter().filter(|limit| limit.stopped);
        let mut rows: Vec<_> = stopped.map(|limit| ("", limit.explain())).collect();
        match rows.first_mut() {
            Some(first) => first.0 = "limits",
            None => rows.push(("limits", "none reached".into())),
        }
        rows
    }
}

fn whole(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{}", grouped(value.abs().round() as u64))
    })
}

/// Thousands apart: 1,000,000.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }

    #[test]
    fn latency_is_in_microseconds() {
        let mut histogram = crate::load_echo::new_histogram();
        assert_eq!(Latency::of(&histogram), None);
        histogram.record_n(50_000, 99).unwrap();
        histogram.record(2_000_000).unwrap();
        let latency = Latency::of(&histogram).unwrap();
        assert!(
            (latency.p50 - 50.0).abs() < 0.1 && (latency.max - 2000.0).abs() < 2.0,
            "{latency:?}"
        );
    }
}
