//! A million echo connections, each served by a task of its own with plain blocking code.
//!
//! `cargo run --release --bin million_echo` holds as many as this machine allows and says what one costs.
//! The server is in `serve_bast.rs`, forty lines of blocking code; everything else makes the load, looks at the limits, and measures.
//!
//! ```text
//!              main process: orchestrate.rs, session.rs, family.rs, report.rs
//!               │ orders and events, one JSON object a line (protocol.rs)
//!      ┌────────┴─────────┐
//!   P x serve          L x load-worker
//!   serve_bast.rs      load.rs: load_connect.rs, then load_echo.rs
//!      └── TCP, 127/8 ────┘
//! ```

mod family;
mod limits;
mod load;
mod load_connect;
mod load_connection;
mod load_echo;
mod memory;
mod options;
mod orchestrate;
mod plan;
mod platform;
mod progress;
mod protocol;
mod report;
mod serve;
mod serve_bast;
mod serve_epoll;
mod session;
mod share;
mod tally;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cfg!(not(target_os = "linux")) {
        eprintln!("error: this program needs Linux: it reads /proc and uses all of 127.0.0.0/8");
        return ExitCode::FAILURE;
    }
    match cli.command {
        None => orchestrate::run(&cli.run),
        Some(Command::Serve(options)) => serve::run(&options),
        Some(Command::Load(options)) => orchestrate::load(&options),
        Some(Command::LoadWorker) => load::run(),
    }
}
