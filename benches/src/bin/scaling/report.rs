//! What a run came to, as a line of a table and as JSON.

use super::costs::Costs;
use super::sim::{CAUSES, Cause, Sim, Tally};
use super::tasks::Workload;

/// No run is longer, in the model's time.
const LONGEST: u64 = 20_000_000_000;

/// One run.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Outcome {
    pub(crate) workload: String,
    pub(crate) processors: usize,
    /// The model's time, in nanoseconds.
    pub(crate) nanos: u64,
    /// Tasks, wake-ups or messages a second, by workload.
    pub(crate) rate: f64,
    pub(crate) unit: &'static str,
    /// Share of what the same work would reach with no losses; see SCALING.md.
    pub(crate) efficiency: f64,
    /// Share of the processors' time that was work.
    pub(crate) utilisation: f64,
    /// From runnable to running, or for the echo server from the message to its answer.
    pub(crate) latency_p50: u64,
    pub(crate) latency_p99: u64,
    /// Share of the processors' time by cause: work, lock, line, steal, wake, poll, sleep.
    pub(crate) shares: [f64; CAUSES],
    pub(crate) tally: Tally,
}

fn quantile(sorted: &[u64], percent: usize) -> u64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}

/// Runs `workload` to its end.
pub(crate) fn outcome(
    costs: &Costs,
    processors: usize,
    workload: Workload,
    seed: u64,
    scale: u64,
) -> Outcome {
    let mut sim = Sim::of(costs.clone(), processors, workload, seed, scale);
    let nanos = sim.run(LONGEST).max(1);
    let total = (nanos * processors as u64) as f64;
    let mut shares = [0.0; CAUSES];
    for cpu in &sim.cpus[..processors] {
        for (share, &spent) in shares.iter_mut().zip(&cpu.spent) {
            *share += spent as f64 / total;
        }
    }
    let is_echo = matches!(workload, Workload::Echo50 | Workload::Echo90);
    let (done, unit, window) = match workload {
        Workload::Pingpong => (2_000 * 8 * processors as u64, "wake/s", nanos),
        Workload::Timers => (5 * sim.tally.spawned, "timer/s", nanos),
        _ if is_echo => (
            sim.tally.messages,
            "msg/s",
            sim.world.measure_until - sim.world.measure_from,
        ),
        _ => (sim.tally.finished, "task/s", nanos),
    };
    let rate = done as f64 * 1e9 / window.max(1) as f64;
    let utilisation = shares[Cause::Work as usize];
    let efficiency = match workload {
        Workload::Echo50 => rate / (0.5 * 1e9 * processors as f64 / costs.echo_message as f64),
        Workload::Echo90 => rate / (0.9 * 1e9 * processors as f64 / costs.echo_message as f64),
        // Five sleeps cannot take less.
        Workload::Timers => 5e6 / nanos as f64,
        Workload::Fanout1us | Workload::Fanout50us => {
            // The producer cannot be faster than it is.
            let alone = sim.tally.spawned as f64 * (costs.spawn + costs.join) as f64;
            (utilisation * nanos as f64).max(alone) / nanos as f64
        }
        _ => utilisation,
    };
    let mut latencies = if is_echo {
        sim.world.responses
    } else {
        sim.latencies
    };
    latencies.sort_unstable();
    Outcome {
        workload: format!("{workload:?}").to_lowercase(),
        processors,
        nanos,
        rate,
        unit,
        efficiency,
        utilisation,
        latency_p50: quantile(&latencies, 50),
        latency_p99: quantile(&latencies, 99),
        shares,
        tally: sim.tally,
    }
}

/// The head of the table.
pub(crate) const HEAD: &str = "| workload | processors | rate | efficiency | work | lock | line | steal | wake | poll | asleep | p50 us | p99 us |\n\
                               |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

/// A line of it.
pub(crate) fn line(outcome: &Outcome) -> String {
    let mut text = format!(
        "| {} | {} | {} {} | {:.0}% |",
        outcome.workload,
        outcome.processors,
        short(outcome.rate),
        outcome.unit,
        100.0 * outcome.efficiency
    );
    for share in outcome.shares {
        text.push_str(&format!(" {:.0}% |", 100.0 * share));
    }
    let micros = |nanos: u64| nanos as f64 / 1e3;
    text.push_str(&format!(
        " {:.1} | {:.1} |",
        micros(outcome.latency_p50),
        micros(outcome.latency_p99)
    ));
    text
}

fn short(rate: f64) -> String {
    if rate >= 1e6 {
        format!("{:.1}M", rate / 1e6)
    } else {
        format!("{:.0}k", rate / 1e3)
    }
}
