//! Where and with what it was measured.

use crate::go;
use crate::options::Work;
use serde::Serialize;
use std::fs;
use std::process::Command;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) processors: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// One minute's load when the run began: above 1 the machine had other work.
    pub(crate) load_average: String,
    pub(crate) rustc: String,
    pub(crate) go: Option<String>,
    pub(crate) tokio: String,
    pub(crate) may: String,
    pub(crate) corosensei: String,
    pub(crate) crossbeam: String,
    pub(crate) flume: String,
}

impl Machine {
    pub(crate) fn here(work: Work) -> Machine {
        let cpuinfo = file("/proc/cpuinfo");
        Machine {
            date: said_by("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            cpu: after(&cpuinfo, "model name").to_owned(),
            cpus: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            processors: work.processors,
            memory_gib: (megabytes(after(&file("/proc/meminfo"), "MemTotal")) / 102.4).round() / 10.0,
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: file("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            rustc: said_by("rustc", &["--version"]),
            go: go::version(),
            tokio: locked("tokio"),
            may: locked("may"),
            corosensei: locked("corosensei"),
            crossbeam: locked("crossbeam-channel"),
            flume: locked("flume"),
        }
    }
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn after<'a>(text: &'a str, field: &str) -> &'a str {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.split_once(':'));
    value.map_or("", |(_, value)| value.trim())
}

fn megabytes(kilobytes: &str) -> f64 {
    kilobytes.trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// The version of a crate that this was built with.
fn locked(name: &str) -> String {
    let lock = include_str!("../../../../Cargo.lock");
    let package = format!("name = \"{name}\"\nversion = \"");
    let version = lock
        .split_once(&package)
        .and_then(|(_, rest)| rest.split_once('"'));
    version.map_or("unknown", |(version, _)| version).to_owned()
}
