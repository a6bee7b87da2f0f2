//! The same work for bast, Go, tokio and may, and where they apply crossbeam-channel and flume, side by side in one run.
//!
//! `cargo run --release -p bast-benches --bin rivals -- [--only NAME[,NAME]] [--repeat N] [--json FILE]`
//!
//! Every measurement runs in a process of its own: this binary runs itself as `rivals run ROW SYSTEM`, and Go's half
//! is built from `benches/rivals/go` if `go` is on PATH. Systems take turns within a row, with the same number of
//! processors. Rows that need a server start it as `rivals serve SYSTEM` and load it with `rivals load`, one raw epoll
//! client for all, so that only the server differs.

mod go;
mod load;
mod machine;
mod memory;
mod options;
mod orchestrate;
mod process;
mod report;
mod rows;
mod run;
mod serve;
mod served;
mod stats;
mod system;
mod table;
mod trace_cost;

use clap::Parser;
use options::{Command, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.command {
        None => orchestrate::all(&options),
        Some(Command::Run { row, system, work }) => rows::run_one(row, *system, *work),
        Some(Command::Serve {
            system,
            buffer_bytes,
            work,
        }) => serve::serve(*system, *buffer_bytes, *work),
        Some(Command::Load(load)) => load::run(load),
        Some(Command::TraceCost(cost)) => trace_cost::run(cost),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}
