//! A model of bast's scheduler on machines larger than this one.
//!
//! ```text
//! scaling                                     # all workloads at 2, 16, 64 and 256 processors
//! scaling --workload echo90 --processors 64 --set domains=8
//! scaling --calibrate                         # measures the costs that this machine can tell
//! scaling --costs                             # the costs in use, and where they are from
//! ```
//!
//! Each processor runs the scheduler's own protocol, step by step; locks, cache lines, the poller and wake-ups cost what
//! was measured or assumed. SCALING.md says what is modelled, what is not, and what came out.

mod calibrate;
mod costs;
mod line;
mod report;
mod sim;
mod sleep;
mod steps;
mod tasks;
#[cfg(test)]
mod tests;
mod under;

use clap::{Parser, ValueEnum};
use costs::Costs;
use std::process::ExitCode;
use tasks::Workload;

/// A model of bast's scheduler at many processors.
#[derive(Debug, Parser)]
struct Options {
    /// Processors, one run each.
    #[arg(long, value_delimiter = ',', default_value = "2,16,64,256")]
    processors: Vec<usize>,
    /// Only these workloads.
    #[arg(long, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// The order of victims and the times of messages follow from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Does so many times less work.
    #[arg(long, default_value_t = 1)]
    scale: u64,
    /// Sets a cost or a setting: NAME=VALUE, in nanoseconds.
    #[arg(long, value_parser = setting)]
    set: Vec<(String, u64)>,
    /// Also writes all outcomes, counters included.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
    /// Measures this machine's costs instead.
    #[arg(long)]
    calibrate: bool,
    /// Lists the costs instead.
    #[arg(long)]
    costs: bool,
}

fn setting(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    let value = value.parse().map_err(|_| format!("`{value}` is not a number"))?;
    if !Costs::default().set(name, value) {
        return Err(format!("there is no cost `{name}`; --costs lists them"));
    }
    Ok((name.to_owned(), value))
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scaling: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    if options.calibrate {
        return Ok(calibrate::run()?);
    }
    let mut costs = Costs::default();
    for (name, value) in &options.set {
        costs.set(name, *value);
    }
    if options.costs {
        println!("| cost | ns | source |\n|---|--:|---|");
        costs
            .rows()
            .iter()
            .for_each(|(name, value, source)| println!("| `{name}` | {value} | {source} |"));
        return Ok(());
    }
    let workloads = if options.workload.is_empty() {
        Workload::value_variants()
    } else {
        &options.workload
    };
    let most = line::CPUS_MAX / 2;
    if options.scale == 0 || options.processors.iter().any(|&count| count == 0 || count > most) {
        return Err(format!("1 to {most} processors, and a scale of at least 1").into());
    }
    println!("{}", report::HEAD);
    let mut outcomes = Vec::new();
    for &workload in workloads {
        for &processors in &options.processors {
            let outcome = report::outcome(&costs, processors, workload, options.seed, options.scale);
            println!("{}", report::line(&outcome));
            outcomes.push(outcome);
        }
    }
    if let Some(path) = &options.json {
        let all = serde_json::json!({"costs": costs, "seed": options.seed, "outcomes": outcomes});
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}
