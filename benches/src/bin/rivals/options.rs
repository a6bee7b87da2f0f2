//! The command line.

use crate::load::LoadOptions;
use crate::system::System;
use crate::trace_cost::CostOptions;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures bast beside Go, tokio and may, and prints who is ahead.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Only these rows; see --list
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Only these systems
    #[arg(long, value_delimiter = ',', value_name = "SYSTEM")]
    pub(crate) systems: Vec<System>,
    /// Processes a system and row; the table has their medians and spread
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) repeat: usize,
    /// Writes the result here too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Names the rows and what they measure
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) work: Work,
}

/// How much work, for the processes that measure.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Work {
    /// Processors of each runtime; default: as many as this process may use
    #[arg(long, default_value_t = available(), value_name = "N")]
    pub(crate) processors: usize,
    /// A tenth of the work, to see that everything runs
    #[arg(long)]
    pub(crate) quick: bool,
}

impl Work {
    /// As arguments of a process that this one starts.
    pub(crate) fn arguments(self) -> Vec<String> {
        let mut arguments = vec!["--processors".to_owned(), self.processors.to_string()];
        if self.quick {
            arguments.push("--quick".to_owned());
        }
        arguments
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One row for one system, in this process
    Run {
        row: String,
        system: System,
        #[command(flatten)]
        work: Work,
    },
    /// An echo server on the loopback, until standard input ends
    Serve {
        system: System,
        /// Read buffer of a connection; 512 lies on the task's stack, others on the heap
        #[arg(long, default_value_t = 16384)]
        buffer_bytes: usize,
        #[command(flatten)]
        work: Work,
    },
    /// The client of the rows that have a server
    Load(LoadOptions),
    /// What the execution trace costs an echo server, in pairs of windows
    TraceCost(CostOptions),
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
