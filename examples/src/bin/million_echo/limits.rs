//! What of the system limits the number of connections: the facts, read once at the start.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files a server or load process has open besides its connections, with room to spare.
pub(crate) const FILES_OF_A_PROCESS: u64 = 32;
/// Kernel memory of one end of an idle TCP connection: socket, inode, file, dentry, epoll entry and their slabs' waste.
const KERNEL_BYTES_AN_END: u64 = 4200;
/// A connection's entry in a load process.
const LOAD_BYTES: u64 = 32;
/// Threads a server process may need at a time: workers, monitor, the watcher of its parent.
const THREADS_A_PROCESS: u64 = 8;

/// The limits as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct System {
    /// Open files a process, after the soft limit was raised to the hard one.
    pub(crate) files_a_process: u64,
    /// `fs.nr_open`: what the limit above can be raised to.
    pub(crate) nr_open: u64,
    /// `fs.file-max` less the files open now; none for a user whom the kernel exempts from it.
    pub(crate) files_left: Option<u64>,
    pub(crate) file_max: u64,
    /// First and last port the kernel gives to outgoing connections.
    pub(crate) ports: (u16, u16),
    /// `MemAvailable`, or what the control group leaves if that is less.
    pub(crate) memory_left: u64,
    pub(crate) memory_total: u64,
    /// Pages all TCP buffers together may take before the kernel saves (`tcp_mem`, second value).
    pub(crate) tcp_pages: u64,
    /// Longest queue of connections waiting to be accepted.
    pub(crate) somaxconn: u64,
    /// Processes and threads that can still be started, and the limit they count against.
    pub(crate) processes_left: u64,
    pub(crate) processes: u64,
    pub(crate) cpus: u64,
}

impl System {
    /// Raises the soft limit of open files to the hard one, then reads everything.
    pub(crate) fn prepare() -> Self {
        let files = raise_open_files();
        let nr_open = number("/proc/sys/fs/nr_open", 0).unwrap_or(u64::MAX);
        let file_max = number("/proc/sys/fs/file-max", 0).unwrap_or(u64::MAX);
        let files_open = number("/proc/sys/fs/file-nr", 0).unwrap_or(0);
        let exempt = has_capability(CAP_SYS_ADMIN);
        let (processes, running) = process_limit();
        Self {
            files_a_process: files.min(nr_open),
            nr_open,
            files_left: (!exempt).then(|| file_max.saturating_sub(files_open)),
            file_max,
            ports: port_range(),
            memory_left: memory_left(),
            memory_total: meminfo("MemTotal").unwrap_or(u64::MAX),
            tcp_pages: number("/proc/sys/net/ipv4/tcp_mem", 1).unwrap_or(u64::MAX),
            somaxconn: number("/proc/sys/net/core/somaxconn", 0).unwrap_or(128),
            processes_left: processes.saturating_sub(running),
            processes,
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        }
    }

    /// Connections a process can hold by its file limit.
    pub(crate) fn connections_a_process(&self) -> u64 {
        self.files_a_process.saturating_sub(FILES_OF_A_PROCESS)
    }

    /// Ports the kernel has for one source address towards one target.
    pub(crate) fn port_count(&self) -> u64 {
        u64::from(self.ports.1.saturating_sub(self.ports.0)) + 1
    }

    /// Connections that fit into the memory that is left, with both ends on this machine.
    pub(crate) fn connections_in_memory(&self, stack_size: Option<usize>) -> u64 {
        let floor = self.memory_floor();
        self.memory_left.saturating_sub(floor) / bytes_a_connection(stack_size)
    }

    /// Memory that stays free for the rest of the machine.
    pub(crate) fn memory_floor(&self) -> u64 {
        (self.memory_total / 32).max(256 << 20)
    }

    /// Pairs of server and load processes that can still be started.
    pub(crate) fn process_pairs(&self) -> u64 {
        self.processes_left / (2 * THREADS_A_PROCESS)
    }
}

/// Memory of a connection: the server's task, if it has a stack, and both kernel ends.
pub(crate) fn bytes_a_connection(stack_size: Option<usize>) -> u64 {
    const TABLE_SPAN: u64 = 2 << 20;
    const STACK_CLASSES: [u64; 4] = [64 << 10, 256 << 10, 1 << 20, 8 << 20];
    let server = stack_size.map_or(64, |bytes| {
        // One touched page and a slab entry; a page table of 4 KiB spans 2 MiB of slots.
        let slot = STACK_CLASSES
            .into_iter()
            .find(|class| bytes as u64 <= *class)
            .unwrap_or(TABLE_SPAN);
        let tables = 4096 * slot.min(TABLE_SPAN) / TABLE_SPAN;
        4096 + 256 + tables
    });
    server + 2 * KERNEL_BYTES_AN_END + LOAD_BYTES
}

const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

/// Raises the soft limit of open files to the hard one and returns what holds then.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = if setrlimit(Resource::Nofile, wanted).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    now.unwrap_or(u64::MAX)
}

/// The limit of processes that applies, and how many count against it now.
fn process_limit() -> (u64, u64) {
    let system = number("/proc/sys/kernel/pid_max", 0)
        .unwrap_or(u64::MAX)
        .min(number("/proc/sys/kernel/threads-max", 0).unwrap_or(u64::MAX));
    let user = getrlimit(Resource::Nproc)
        .current
        .filter(|_| !has_capability(CAP_SYS_RESOURCE));
    // The fourth word of loadavg is "running/all", and counts threads.
    let running = fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok());
    (system.min(user.unwrap_or(u64::MAX)), running.unwrap_or(0))
}

fn has_capability(bit: u32) -> bool {
    let effective = fs::read_to_string("/proc/self/status").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    effective.is_some_and(|set| set >> bit & 1 == 1)
}

fn port_range() -> (u16, u16) {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let bound = |place| number(path, place).and_then(|port| u16::try_from(port).ok());
    (bound(0).unwrap_or(32_768), bound(1).unwrap_or(60_999))
}

/// What can still be taken without harm: the machine's view, and the control group's where there is one.
pub(crate) fn memory_left() -> u64 {
    // MemAvailable counts half of the reclaimable slabs as free, but the inodes and entries of open sockets, which are in
    // those, are not to be had. So no more than what is free or holds file pages.
    let pages = ["MemFree", "Cached", "Buffers"]
        .iter()
        .filter_map(|key| meminfo(key))
        .sum();
    let machine = meminfo("MemAvailable").map_or(u64::MAX, |available| available.min(pages));
    machine.min(group_memory_left().unwrap_or(u64::MAX))
}

fn group_memory_left() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut left = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (limit, used) = match controllers {
            "" => (
                format!("/sys/fs/cgroup{path}/memory.max"),
                format!("/sys/fs/cgroup{path}/memory.current"),
            ),
            "memory" => {
                let folder = format!("/sys/fs/cgroup/memory{path}");
                (
                    format!("{folder}/memory.limit_in_bytes"),
                    format!("{folder}/memory.usage_in_bytes"),
                )
            }
            _ => continue,
        };
        if let (Some(limit), Some(used)) = (number(&limit, 0), number(&used, 0)) {
            let here = limit.saturating_sub(used);
            left = Some(left.map_or(here, |other: u64| other.min(here)));
        }
    }
    left
}

/// The `place`-th number of a file such as those below /proc/sys.
pub(crate) fn number(path: &str, place: usize) -> Option<u64> {
    fs::read_to_string(path)
        .ok()?
        .split_whitespace()
        .nth(place)?
        .parse()
        .ok()
}

/// A line of /proc/meminfo, in bytes.
pub(crate) fn meminfo(key: &str) -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, key)
}

/// The value of the line `key: N kB`, in bytes.
pub(crate) fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|value| value * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let text = "MemFree:  5 kB\nMem:  7 kB\nSlab: 9 kB\n";
        assert_eq!(kilobytes(text, "Mem"), Some(7 * 1024));
        assert_eq!(kilobytes(text, "Slab"), Some(9 * 1024));
        assert_eq!(kilobytes(text, "Missing"), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let system = System::prepare();
        assert!(system.files_a_process > FILES_OF_A_PROCESS);
        assert!(system.memory_left > 0 && system.memory_left <= system.memory_total);
        assert!(system.port_count() > 1);
        assert!(system.cpus > 0);
    }

    #[test]
    fn a_bigger_slot_costs_page_tables_up_to_one_a_task() {
        let with = |bytes| bytes_a_connection(Some(bytes));
        assert_eq!(with(256 << 10) - with(64 << 10), 512 - 128);
        assert_eq!(with(8 << 20), with(2 << 20));
        assert!(bytes_a_connection(None) < with(64 << 10));
    }
}
