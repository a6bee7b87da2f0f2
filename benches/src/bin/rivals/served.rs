//! Rows with a server in one process and the client in another.

use crate::memory::{Memory, cpu_nanos};
use crate::process::{Child, Launcher};
use crate::rows::{Metric, Row, Work};
use crate::run::Values;
use crate::system::System;

/// What is asked of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Closed loop; the server's own CPU time is read beside it.
    Echo {
        connections: usize,
        depth: usize,
    },
    AcceptClose,
    Idle,
    /// Has two stages, and all systems in both: see `tail`.
    Tail,
}

const LARGE_BUFFER_BYTES: usize = 16 << 10;
const SMALL_BUFFER_BYTES: usize = 512;
const ALL_SYSTEMS: &[System] = System::RUNTIMES_AND_CONTROL;

const ECHO_METRICS: &[Metric] = &[
    Metric::new("32b", "ns/trip"),
    Metric::new("32b_cpu", "ns/trip"),
    Metric::new("4k", "ns/trip"),
    Metric::new("4k_cpu", "ns/trip"),
];
/// The sizes that the first metric of each pair has.
const ECHO_BYTES: [usize; 2] = [32, 4096];

const fn echo(name: &'static str, about: &'static str, connections: usize) -> Row {
    Row {
        name,
        about,
        note: "_cpu: what the server's threads ran, which other load on the machine disturbs less",
        metrics: ECHO_METRICS,
        systems: ALL_SYSTEMS,
        work: Work::Served(Load::Echo {
            connections,
            depth: 1,
        }),
    }
}

pub(crate) const ECHO: [Row; 4] = [
    echo(
        "echo_1",
        "1 connection, a message of 32 B or 4 KiB there and back",
        1,
    ),
    echo("echo_100", "as echo_1 with 100 connections", 100),
    echo("echo_1000", "as echo_1 with 1000 connections", 1000),
    Row {
        name: "echo_pipelined",
        about: "10 connections with 64 messages of 32 B under way on each",
        note: "",
        metrics: &[
            Metric::new("32b", "ns/message"),
            Metric::new("32b_cpu", "ns/message"),
        ],
        systems: ALL_SYSTEMS,
        work: Work::Served(Load::Echo {
            connections: 10,
            depth: 64,
        }),
    },
];

pub(crate) const CONNECTIONS: [Row; 2] = [
    Row {
        name: "accept_close",
        about: "connect, echo 32 B, close, 32 at a time",
        note: "",
        metrics: &[Metric::higher("", "conn/s")],
        systems: ALL_SYSTEMS,
        work: Work::Served(Load::AcceptClose),
    },
    Row {
        name: "idle_connection_bytes",
        about: "9000 connections that have echoed once and are idle, 512 B buffers: memory of the server for each",
        note: "bast: 64 KiB stacks; the kernel's sockets, the same for all, are not counted",
        metrics: &[
            Metric::new("private", "B/conn"),
            Metric::new("page_tables", "B/conn"),
        ],
        systems: ALL_SYSTEMS,
        work: Work::Served(Load::Idle),
    },
];

pub(crate) const TAIL: Row = Row {
    name: "tail_under_load",
    about: "64 connections, 32 B, open loop at 50% and 90% of the rate that the slowest of bast, go and tokio reaches",
    note: "latency from the scheduled time; the rate is one for all systems",
    metrics: &[
        Metric::new("50_p50", "us"),
        Metric::new("50_p99", "us"),
        Metric::new("50_p999", "us"),
        Metric::new("90_p50", "us"),
        Metric::new("90_p99", "us"),
        Metric::new("90_p999", "us"),
    ],
    systems: ALL_SYSTEMS,
    work: Work::Served(Load::Tail),
};

const TAIL_CONNECTIONS: usize = 64;

/// One system's turn at a row that is not the tail.
pub(crate) fn measure(
    launcher: &Launcher,
    load: Load,
    system: System,
    metrics: usize,
) -> Result<Values, String> {
    match load {
        Load::Echo { connections, depth } => {
            let mut values = Values::new();
            for bytes in &ECHO_BYTES[..metrics / 2] {
                values.extend(echo_values(launcher, system, connections, depth, *bytes)?);
            }
            Ok(values)
        }
        Load::AcceptClose => {
            let server = Server::start(launcher, system, LARGE_BUFFER_BYTES)?;
            let out = launcher.load("churn", &server.load_arguments(32, 32, 1))?;
            server.stop()?;
            Ok(vec![number(&out, "connections_a_second")?])
        }
        Load::Idle => idle(launcher, system),
        Load::Tail => Err("the tail is measured for all systems together".to_owned()),
    }
}

fn echo_values(
    launcher: &Launcher,
    system: System,
    connections: usize,
    depth: usize,
    bytes: usize,
) -> Result<[f64; 2], String> {
    let server = Server::start(launcher, system, LARGE_BUFFER_BYTES)?;
    let before = cpu_nanos(&server.child.id())?;
    let out = launcher.load("closed", &server.load_arguments(connections, bytes, depth))?;
    let cpu = cpu_nanos(&server.child.id())? - before;
    server.stop()?;
    Ok([
        number(&out, "nanos_each")?,
        cpu as f64 / number(&out, "messages")?,
    ])
}

fn idle(launcher: &Launcher, system: System) -> Result<Values, String> {
    let few = 100;
    let many = if launcher.work.quick { 900 } else { 9000 };
    let server = Server::start(launcher, system, SMALL_BUFFER_BYTES)?;
    let mut first = launcher.start_load("idle", &server.load_arguments(few, 32, 1))?;
    first.line("open ")?;
    let before = Memory::of(&server.child.id())?;
    let mut second = launcher.start_load("idle", &server.load_arguments(many, 32, 1))?;
    second.line("open ")?;
    let after = Memory::of(&server.child.id())?;
    first.stop()?;
    second.stop()?;
    server.stop()?;
    Ok(after.each_since(before, many).to_vec())
}

/// Messages a second that a system answers when it is never idle.
pub(crate) fn saturation(launcher: &Launcher, system: System) -> Result<f64, String> {
    let [nanos, _] = echo_values(launcher, system, TAIL_CONNECTIONS, 1, 32)?;
    Ok(1e9 / nanos)
}

/// One system's tail at these rates.
pub(crate) fn tail(launcher: &Launcher, system: System, rates: [f64; 2]) -> Result<Values, String> {
    let mut values = Values::new();
    for rate in rates {
        let server = Server::start(launcher, system, LARGE_BUFFER_BYTES)?;
        let mut arguments = server.load_arguments(TAIL_CONNECTIONS, 32, 1);
        arguments.extend(["--rate".to_owned(), rate.to_string()]);
        let out = launcher.load("open", &arguments)?;
        server.stop()?;
        for quantile in ["p50", "p99", "p999"] {
            values.push(number(&out, quantile)?);
        }
    }
    Ok(values)
}

struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start(launcher: &Launcher, system: System, buffer_bytes: usize) -> Result<Server, String> {
        let mut child = launcher.start_server(system, buffer_bytes)?;
        let port = child.line("listening ")?;
        Ok(Server { child, port })
    }

    fn load_arguments(&self, connections: usize, bytes: usize, depth: usize) -> Vec<String> {
        load_arguments(&self.port, connections, bytes, depth)
    }

    fn stop(self) -> Result<(), String> {
        self.child.stop()
    }
}

/// For a client of the server at `port`.
pub(crate) fn load_arguments(port: &str, connections: usize, bytes: usize, depth: usize) -> Vec<String> {
    let pairs = [
        ("--port", port.to_owned()),
        ("--connections", connections.to_string()),
        ("--bytes", bytes.to_string()),
        ("--depth", depth.to_string()),
    ];
    pairs
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
}

/// The number after `name` in what a client printed.
fn number(out: &str, name: &str) -> Result<f64, String> {
    out.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        .ok_or_else(|| format!("the client did not print {name}"))
}
