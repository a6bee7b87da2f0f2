//! The command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What the example is named for.
pub(crate) const MILLION: u64 = 1_000_000;

/// Smallest and largest stack slot that can be asked for; it is rounded up to a size class.
const STACK_SIZES: std::ops::RangeInclusive<usize> = 16 << 10..=8 << 20;

/// As many echo connections as this machine can hold, up to a million, each with a task of its own.
///
/// The program runs itself again as server and load processes, opens the connections, counts each one once a byte has come
/// back on it, runs echo rounds over all of them, and says what a connection costs. Where a limit of the system stops it,
/// it names the limit, its value and the command that raises it, and carries on with what fits.
#[derive(Debug, Parser)]
#[command(name = "million_echo", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

/// The two halves on their own.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Only the echo server; try it with `nc 127.0.0.1 PORT`
    Serve(ServeOptions),
    /// Only the load, against a server that runs already
    Load(LoadOptions),
    /// One load process, told what to do by the main process
    #[command(hide = true)]
    LoadWorker,
}

/// Server and load together, the usual way.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    /// Server processes: a number, or `auto` for as many as the file limit makes necessary
    #[arg(long, value_name = "P", default_value = "1")]
    pub(crate) server_processes: ServerProcesses,
    /// How connections are spread over the server processes
    #[arg(long, value_enum, default_value_t = Spread::Exact)]
    pub(crate) spread: Spread,
    /// Port of the servers; 0 picks a free one
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) server: ServerSettings,
    #[command(flatten)]
    pub(crate) load: LoadSettings,
}

/// `serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeOptions {
    /// Address to listen on
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    pub(crate) address: Ipv4Addr,
    /// Port to listen on (SO_REUSEPORT: several processes may share it); 0 picks a free one
    #[arg(long)]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) server: ServerSettings,
    /// Report to the main process on standard output and end when standard input does
    #[arg(long, hide = true)]
    pub(crate) controlled: bool,
}

/// `load`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadOptions {
    /// Loopback address of the server
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST, value_parser = parse_loopback)]
    pub(crate) address: Ipv4Addr,
    /// Port of the server
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Process of the server, for the memory figures; repeat it for a server of several processes
    #[arg(long)]
    pub(crate) pid: Vec<u32>,
    #[command(flatten)]
    pub(crate) load: LoadSettings,
}

/// How the server half is built.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerSettings {
    /// What the server is written on
    #[arg(long, value_enum, default_value_t = Backend::DEFAULT)]
    pub(crate) backend: Backend,
    /// Stack slot of a task, such as 64K, 256K or 1M, for the bast backend; only touched pages take memory
    #[arg(long, value_name = "BYTES", default_value = "64K", value_parser = parse_stack_size)]
    pub(crate) stack_size: usize,
    /// Processors (for the epoll backend: threads) of one server process [default: the CPUs, shared by the processes]
    #[arg(long, value_name = "N", value_parser = parse_processors)]
    pub(crate) processors: Option<usize>,
    /// Write an execution trace of the server to this file, for `go tool trace`; bast backend only
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

/// How the load half behaves.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadSettings {
    /// Connections to hold [default: as many as fit, up to 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16 * MILLION))]
    pub(crate) connections: Option<u64>,
    /// Load processes [default: as many as the file limit makes necessary, at least one for two CPUs]
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) load_processes: Option<u32>,
    /// Echo rounds over all connections once they stand
    #[arg(long, value_name = "R", default_value_t = 3)]
    pub(crate) rounds: u32,
    /// Bytes a connection sends in a round
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) payload: u32,
    /// Echoes under way at a time, over all load processes
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// Seconds without any progress after which a phase is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) patience: u32,
    /// Also write the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl LoadSettings {
    /// `--patience` as a duration.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.patience))
    }
}

/// `--server-processes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerProcesses {
    Auto,
    Count(u32),
}

impl FromStr for ServerProcesses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse() {
            Ok(count @ 1..=4096) => Ok(Self::Count(count)),
            _ => Err("give a number from 1 to 4096, or `auto`".into()),
        }
    }
}

/// `--spread`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spread {
    /// Every server process has a loopback address of its own, and the load sends each its exact share
    Exact,
    /// All share one address and port by SO_REUSEPORT and the kernel spreads by hash: some room is left for chance
    Kernel,
}

/// `--backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// A bast task with a stack of its own for each connection, in blocking code
    Bast,
    /// A state machine on raw epoll without tasks or stacks: the control that shows what the machine itself can do
    Epoll,
}

impl Backend {
    pub(crate) const DEFAULT: Self = Self::Bast;

    /// Whether each connection has a stack.
    pub(crate) fn has_stacks(self) -> bool {
        match self {
            Self::Bast => true,
            Self::Epoll => false,
        }
    }

    /// The word that selects it on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Bast => "bast",
            Self::Epoll => "epoll",
        }
    }
}

/// `64K`, `256k`, `1M`, `1G` or plain bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        other => return Err(format!("`{other}` is no unit; use K, M or G, as in 64K")),
    };
    let number: usize = digits
        .parse()
        .map_err(|_| "give a size such as 64K, 256K or 1M".to_string())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "larger than the address space".into())
}

fn parse_stack_size(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text)?;
    if STACK_SIZES.contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!(
            "must be from {}K to {}M",
            STACK_SIZES.start() >> 10,
            STACK_SIZES.end() >> 20
        ))
    }
}

fn parse_processors(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err("give a number from 1 to 1024".into()),
    }
}

fn parse_loopback(text: &str) -> Result<Ipv4Addr, String> {
    match text.parse::<Ipv4Addr>() {
        Ok(address) if address.is_loopback() => Ok(address),
        Ok(_) => Err("only loopback addresses (127.0.0.0/8): the load binds its own ends there".into()),
        Err(_) => Err("give an IPv4 address such as 127.0.0.1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_units() {
        assert_eq!(parse_bytes("64K"), Ok(65_536));
        assert_eq!(parse_bytes("256k"), Ok(262_144));
        assert_eq!(parse_bytes("1MiB"), Ok(1 << 20));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert!(parse_bytes("K").is_err());
        assert!(parse_bytes("64X").unwrap_err().contains("no unit"));
        assert!(parse_bytes("99999999999G").unwrap_err().contains("address space"));
    }

    #[test]
    fn stack_sizes_are_bounded() {
        assert_eq!(parse_stack_size("64K"), Ok(65_536));
        assert!(parse_stack_size("1K").unwrap_err().contains("must be from 16K"));
    }

    #[test]
    fn server_processes_is_a_number_or_auto() {
        assert_eq!("auto".parse(), Ok(ServerProcesses::Auto));
        assert_eq!("51".parse(), Ok(ServerProcesses::Count(51)));
        assert!("0".parse::<ServerProcesses>().is_err());
    }

    #[test]
    fn load_stays_on_loopback() {
        assert!(parse_loopback("127.1.2.3").is_ok());
        assert!(parse_loopback("10.0.0.1").unwrap_err().contains("loopback"));
    }
}
