//! The client: one thread, raw epoll, the same for all servers. Loopback only.
//!
//! It prints a line `NAME VALUE` for each number it has measured.

mod churn;
mod closed;
mod connection;
mod idle;
mod open;

use clap::{Args, ValueEnum};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Each connection sends its next message when the last one is back
    Closed,
    /// Messages are sent at times that do not depend on the answers
    Open,
    /// Connect, one message, close
    Churn,
    /// One message each, then nothing until standard input ends
    Idle,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LoadOptions {
    pub(crate) kind: Kind,
    #[arg(long)]
    pub(crate) port: u16,
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 32)]
    pub(crate) bytes: usize,
    /// Messages under way on a connection (closed)
    #[arg(long, default_value_t = 1)]
    pub(crate) depth: usize,
    /// Messages a second over all connections (open)
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
    /// Measured, after the warm-up
    #[arg(long, default_value_t = 1000)]
    pub(crate) millis: u64,
}

impl LoadOptions {
    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn measured(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    fn warm_up(&self) -> Duration {
        self.measured() / 4
    }
}

/// Runs the client until it has measured.
pub(crate) fn run(options: &LoadOptions) -> Result<(), String> {
    if options.bytes == 0 || options.connections == 0 || options.depth == 0 {
        return Err("--bytes, --connections and --depth must be at least 1".to_owned());
    }
    let done: io::Result<()> = match options.kind {
        Kind::Closed => closed::run(options),
        Kind::Open => open::run(options),
        Kind::Churn => churn::run(options),
        Kind::Idle => idle::run(options),
    };
    done.map_err(|error| format!("the {:?} load: {error}", options.kind))
}
