//! From the wish and the limits to what will be run: a pure function, so that it can be tested on machines we do not have.

use serde::Serialize;

use crate::limits::{FILES_OF_A_PROCESS, System};
use crate::load_connect::SOURCES;
use crate::options::{MILLION, ServerProcesses, Spread};

/// Ports of one source address are used only to a quarter, so that the kernel finds a free one at once.
const PORT_SHARE: u64 = 4;
/// Connections being opened at a time, over all load processes, when the listen queues are long enough.
const CONNECTING: u64 = 1024;

/// The limits that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    OpenFiles,
    SystemFiles,
    Ports,
    Memory,
    TcpMemory,
    ListenQueue,
    Processes,
}

impl Kind {
    /// The limit that an errno of a socket call speaks of.
    pub(crate) fn of_errno(errno: i32) -> Option<Self> {
        Some(match errno {
            libc::EMFILE => Self::OpenFiles,
            libc::ENFILE => Self::SystemFiles,
            libc::EADDRNOTAVAIL => Self::Ports,
            libc::ENOMEM | libc::ENOBUFS => Self::Memory,
            libc::ETIMEDOUT => Self::ListenQueue,
            libc::EAGAIN => Self::Processes,
            _ => return None,
        })
    }

    /// Its name here, and the kernel's.
    fn name(self) -> &'static str {
        match self {
            Self::OpenFiles => "open files a process (RLIMIT_NOFILE)",
            Self::SystemFiles => "open files of the system (fs.file-max)",
            Self::Ports => "ephemeral ports (net.ipv4.ip_local_port_range)",
            Self::Memory => "memory (MemAvailable)",
            Self::TcpMemory => "buffers of all TCP connections (net.ipv4.tcp_mem)",
            Self::ListenQueue => "connections waiting to be accepted (net.core.somaxconn)",
            Self::Processes => "processes and threads (kernel.pid_max, kernel.threads-max, RLIMIT_NPROC)",
        }
    }
}

/// A limit that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Limit {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    pub(crate) value: u64,
    pub(crate) unit: &'static str,
    /// Connections it leaves room for; none where it slows instead of stopping.
    pub(crate) allows: Option<u64>,
    /// Whether it kept the run below what was asked for.
    pub(crate) stopped: bool,
    /// The command that raises it.
    pub(crate) raise: String,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) connections: Option<u64>,
    pub(crate) server_processes: ServerProcesses,
    pub(crate) load_processes: Option<u32>,
    pub(crate) spread: Spread,
    /// Stack slot of a server task; none where tasks have no stack, or the server is not ours.
    pub(crate) stack_size: Option<usize>,
    /// Whether the servers run already (`load`).
    pub(crate) external: bool,
}

/// What will be run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What would be run without limits.
    pub(crate) requested: u64,
    pub(crate) connections: u64,
    pub(crate) spread: Spread,
    pub(crate) servers: u64,
    pub(crate) loads: u64,
    /// Connections being opened at a time by one load process.
    pub(crate) connecting: u64,
    /// Connections from one source address to one target.
    pub(crate) per_source: u64,
    pub(crate) limits: Vec<Limit>,
}

impl Limit {
    /// What it is, what it lets through, and how to raise it.
    pub(crate) fn explain(&self) -> String {
        let room = self
            .allows
            .map_or(String::new(), |allows| format!(", room for {allows} connections"));
        format!(
            "limit: {} = {} {}{room}; to raise it: {}",
            self.name, self.value, self.unit, self.raise
        )
    }
}

/// Decides how many connections fit, and on how many processes.
pub(crate) fn decide(wish: &Wish, system: &System) -> Plan {
    let requested = wish.connections.unwrap_or(MILLION);
    let mut limits = examine(wish, system);
    let fits = limits
        .iter()
        .filter_map(|limit| limit.allows)
        .min()
        .unwrap_or(requested);
    let connections = requested.min(fits);
    for limit in &mut limits {
        limit.stopped = limit.allows.is_some_and(|allows| allows < requested);
    }
    limits.sort_by_key(|limit| limit.allows.unwrap_or(u64::MAX));
    let a_process = system.connections_a_process().max(1);
    let servers = match wish.server_processes {
        ServerProcesses::Count(count) => u64::from(count),
        ServerProcesses::Auto => (1..)
            .find(|count| server_room(*count, a_process, wish.spread) >= connections)
            .expect("room grows with the count"),
    };
    let loads_needed = connections.div_ceil(a_process).max(1);
    let loads = wish
        .load_processes
        .map_or(system.cpus / 2, u64::from)
        .clamp(1, connections.max(1))
        .max(loads_needed);
    let queue_room = servers.max(1) * system.somaxconn / 2;
    let connecting = (CONNECTING.min(queue_room) / loads).max(1);
    Plan {
        requested,
        connections,
        spread: wish.spread,
        servers,
        loads,
        connecting,
        per_source: (system.port_count() / PORT_SHARE).max(1),
        limits,
    }
}

/// Connections that `servers` processes can take. Where the kernel spreads them by hash, shares differ: five standard
/// deviations of the fullest process's share are left free.
fn server_room(servers: u64, a_process: u64, spread: Spread) -> u64 {
    match spread {
        _ if servers == 1 => a_process,
        Spread::Exact => servers * a_process,
        Spread::Kernel => {
            servers * (a_process - (5.0 * (a_process as f64).sqrt()).min(a_process as f64) as u64)
        }
    }
}

/// All limits that apply, with the room each leaves.
fn examine(wish: &Wish, system: &System) -> Vec<Limit> {
    let pairs = system.process_pairs();
    let a_process = system.connections_a_process();
    let servers = match wish.server_processes {
        ServerProcesses::Count(count) => u64::from(count),
        ServerProcesses::Auto => pairs,
    };
    let requested = wish.connections.unwrap_or(MILLION);
    let sources = u64::from(SOURCES) * servers.max(1);
    let in_memory = system.connections_in_memory(wish.stack_size);
    let mut found = vec![
        (
            Kind::Processes,
            system.processes,
            "processes",
            Some(pairs.saturating_mul(a_process)),
        ),
        (Kind::Memory, system.memory_left, "bytes", Some(in_memory)),
        (
            Kind::Ports,
            system.port_count(),
            "ports an address",
            Some(system.port_count().saturating_mul(sources)),
        ),
        (Kind::TcpMemory, system.tcp_pages, "pages", None),
        (Kind::ListenQueue, system.somaxconn, "connections", None),
    ];
    if !wish.external {
        let room = server_room(servers, a_process, wish.spread);
        found.push((Kind::OpenFiles, system.files_a_process, "files", Some(room)));
    }
    if let Some(left) = system.files_left {
        found.push((
            Kind::SystemFiles,
            system.file_max,
            "files",
            Some(left.saturating_sub(1000) / 2),
        ));
    }
    found
        .into_iter()
        .map(|(kind, value, unit, allows)| Limit {
            kind,
            name: kind.name(),
            value,
            unit,
            allows,
            stopped: false,
            raise: raise(kind, requested, servers, system),
        })
        .collect()
}

/// The command that makes room for `requested` connections.
fn raise(kind: Kind, requested: u64, servers: u64, system: &System) -> String {
    match kind {
        Kind::OpenFiles => {
            let needed = requested.div_ceil(servers.max(1)) + FILES_OF_A_PROCESS;
            let nr_open = system.nr_open;
            let first = if needed > nr_open {
                format!("sysctl -w fs.nr_open={needed}; ")
            } else {
                String::new()
            };
            format!(
                "{first}ulimit -n {needed} (as root, or `nofile` in limits.conf); \
                 or use more processes: --server-processes auto"
            )
        }
        Kind::SystemFiles => format!("sysctl -w fs.file-max={}", 2 * requested + 100_000),
        Kind::Ports => "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"".into(),
        Kind::Memory => "free or add memory (swap does not help: most of it is the kernel's)".into(),
        Kind::TcpMemory => "sysctl -w net.ipv4.tcp_mem=\"2097152 3145728 4194304\"".into(),
        Kind::ListenQueue => "sysctl -w net.core.somaxconn=65535".into(),
        Kind::Processes => {
            "sysctl -w kernel.pid_max=4194304 kernel.threads-max=1000000; ulimit -u 1000000".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> System {
        System {
            files_a_process: 20_000,
            nr_open: 1 << 20,
            files_left: None,
            file_max: 2_466_193,
            ports: (32_768, 60_999),
            memory_left: 23 << 30,
            memory_total: 24 << 30,
            tcp_pages: 383_869,
            somaxconn: 4096,
            processes_left: 32_000,
            processes: 32_768,
            cpus: 2,
        }
    }

    fn wish() -> Wish {
        Wish {
            connections: None,
            server_processes: ServerProcesses::Count(1),
            load_processes: None,
            spread: Spread::Exact,
            stack_size: Some(64 << 10),
            external: false,
        }
    }

    fn stopper(plan: &Plan) -> &Limit {
        plan.limits
            .iter()
            .find(|limit| limit.stopped)
            .expect("a limit stopped it")
    }

    #[test]
    fn one_process_fills_its_file_limit() {
        let plan = decide(&wish(), &machine());
        assert_eq!((plan.connections, plan.servers, plan.loads), (19_968, 1, 1));
        assert!(stopper(&plan).kind == Kind::OpenFiles);
        assert!(stopper(&plan).raise.contains("ulimit -n 1000032"));
    }

    #[test]
    fn auto_takes_as_many_processes_as_a_million_needs() {
        let plan = decide(
            &Wish {
                server_processes: ServerProcesses::Auto,
                ..wish()
            },
            &machine(),
        );
        assert_eq!((plan.connections, plan.servers, plan.loads), (MILLION, 51, 51));
        assert!(plan.limits.iter().all(|limit| !limit.stopped));
        assert!(plan.connecting * plan.loads <= CONNECTING);
    }

    #[test]
    fn a_spread_by_hash_leaves_room_for_chance() {
        let wish = Wish {
            server_processes: ServerProcesses::Auto,
            spread: Spread::Kernel,
            ..wish()
        };
        let plan = decide(&wish, &machine());
        assert_eq!(plan.connections, MILLION);
        let share = MILLION / plan.servers;
        let room = machine().connections_a_process() - share;
        assert!(
            room as f64 >= 5.0 * (share as f64).sqrt(),
            "share {share}, room {room}"
        );
    }

    #[test]
    fn memory_stops_a_small_machine() {
        let small = System {
            memory_left: 4 << 30,
            memory_total: 4 << 30,
            ..machine()
        };
        let plan = decide(
            &Wish {
                server_processes: ServerProcesses::Auto,
                ..wish()
            },
            &small,
        );
        assert!(
            plan.connections < 400_000 && plan.connections > 200_000,
            "{}",
            plan.connections
        );
        assert!(stopper(&plan).kind == Kind::Memory);
    }

    #[test]
    fn the_smallest_limit_comes_first() {
        let narrow = System {
            files_left: Some(11_000),
            ..machine()
        };
        let plan = decide(&wish(), &narrow);
        assert_eq!(plan.connections, 5_000);
        assert!(stopper(&plan).kind == Kind::SystemFiles);
        assert!(stopper(&plan).raise.contains("sysctl -w fs.file-max="));
    }

    #[test]
    fn a_limit_above_nr_open_needs_that_raised_first() {
        let low = System {
            nr_open: 65_536,
            ..machine()
        };
        assert!(
            stopper(&decide(&wish(), &low))
                .raise
                .starts_with("sysctl -w fs.nr_open=1000032; ulimit")
        );
    }

    #[test]
    fn few_ports_mean_more_sources_not_fewer_connections() {
        let few = System {
            ports: (50_000, 50_399),
            ..machine()
        };
        let plan = decide(&wish(), &few);
        assert_eq!((plan.connections, plan.per_source), (19_968, 100));
        let fewer = System {
            ports: (50_000, 50_009),
            ..machine()
        };
        assert!(stopper(&decide(&wish(), &fewer)).kind == Kind::Ports);
    }
}
