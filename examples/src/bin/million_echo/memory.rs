//! What the connections cost, read from /proc before and after.

use std::fs;

use crate::limits::{kilobytes, meminfo};

/// How the private memory of a server is found, for the report.
pub(crate) const RSS_SOURCE: &str = "Private_Clean + Private_Dirty of /proc/PID/smaps_rollup";

/// A moment of the servers and of the kernel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// None for a process that could not be read: it is gone, or not ours.
    servers: Vec<Option<ServerMemory>>,
    /// `Slab` of /proc/meminfo: all of the kernel's small objects, sockets among them.
    slab: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ServerMemory {
    private: u64,
    page_tables: u64,
    threads: u64,
}

/// Growth from one snapshot to another, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) private: Option<i64>,
    pub(crate) page_tables: Option<i64>,
    pub(crate) slab: Option<i64>,
}

impl Snapshot {
    pub(crate) fn take(servers: &[u32]) -> Self {
        Self {
            servers: servers.iter().map(|pid| ServerMemory::of(*pid)).collect(),
            slab: meminfo("Slab"),
        }
    }

    /// Threads of all servers.
    pub(crate) fn threads(&self) -> Option<u64> {
        let known: Vec<u64> = self
            .servers
            .iter()
            .flatten()
            .map(|server| server.threads)
            .collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }

    /// What was added since `before`. A server that is in only one of the two leaves the sum unknown.
    pub(crate) fn since(&self, before: &Self) -> Growth {
        let sum = |part: fn(&ServerMemory) -> u64| -> Option<i64> {
            if self.servers.is_empty() {
                return None;
            }
            let pairs = before.servers.iter().zip(&self.servers);
            pairs
                .map(|(old, new)| Some(part(new.as_ref()?) as i64 - part(old.as_ref()?) as i64))
                .sum()
        };
        Growth {
            private: sum(|server| server.private),
            page_tables: sum(|server| server.page_tables),
            slab: self
                .slab
                .zip(before.slab)
                .map(|(new, old)| new as i64 - old as i64),
        }
    }
}

impl ServerMemory {
    fn of(pid: u32) -> Option<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"))?;
        Some(Self {
            private: kilobytes(&rollup, "Private_Clean")? + kilobytes(&rollup, "Private_Dirty")?,
            page_tables: kilobytes(&status, "VmPTE")?,
            threads: threads.trim().parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(private: &[Option<u64>]) -> Snapshot {
        let one = |private| ServerMemory {
            private,
            page_tables: 4096,
            threads: 3,
        };
        Snapshot {
            servers: private.iter().map(|bytes| bytes.map(one)).collect(),
            slab: Some(1000),
        }
    }

    #[test]
    fn growth_is_summed_over_the_servers() {
        let growth = snapshot(&[Some(500), Some(70)]).since(&snapshot(&[Some(100), Some(100)]));
        assert_eq!(
            growth,
            Growth {
                private: Some(370),
                page_tables: Some(0),
                slab: Some(0)
            }
        );
    }

    #[test]
    fn a_server_that_died_leaves_the_sum_unknown() {
        let after = snapshot(&[Some(500), None]);
        assert_eq!(after.since(&snapshot(&[Some(1), Some(1)])).private, None);
        assert_eq!(after.threads(), Some(3));
    }

    #[test]
    fn memory_of_this_process_grows_when_it_is_touched() {
        let me = [std::process::id()];
        let before = Snapshot::take(&me);
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        let growth = Snapshot::take(&me)
            .since(&before)
            .private
            .expect("own files are readable");
        assert!(growth >= 32 << 20, "{growth}");
        drop(block);
    }
}
