//! Memory of a process, from /proc.

use std::fs;

/// Bytes that only this process has, and bytes of its page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) private: u64,
    pub(crate) page_tables: u64,
}

impl Memory {
    /// Of the process with this id, or of `self`.
    pub(crate) fn of(process: &str) -> Result<Memory, String> {
        let rollup = read(process, "smaps_rollup")?;
        let status = read(process, "status")?;
        Ok(Memory {
            private: kilobytes(&rollup, "Private_Clean:") + kilobytes(&rollup, "Private_Dirty:"),
            page_tables: kilobytes(&status, "VmPTE:"),
        })
    }

    /// Growth since `before` divided among `count`: private bytes, page-table bytes.
    pub(crate) fn each_since(self, before: Memory, count: usize) -> [f64; 2] {
        let growth = |now: u64, then: u64| (now as f64 - then as f64) / count as f64;
        [
            growth(self.private, before.private),
            growth(self.page_tables, before.page_tables),
        ]
    }
}

/// Nanoseconds that all threads of a process have run so far. Threads that have ended do not count.
pub(crate) fn cpu_nanos(process: &str) -> Result<u64, String> {
    let path = format!("/proc/{process}/task");
    let threads = fs::read_dir(&path).map_err(|error| format!("cannot list {path}: {error}"))?;
    let mut sum = 0;
    for thread in threads.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        sum += text
            .split(' ')
            .next()
            .and_then(|ran| ran.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(sum)
}

fn read(process: &str, file: &str) -> Result<String, String> {
    let path = format!("/proc/{process}/{file}");
    fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
}

/// The number after `field` in bytes; 0 if the kernel does not tell.
fn kilobytes(text: &str, field: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |count| count * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_counted() {
        let before = Memory::of("self").unwrap();
        let block = std::hint::black_box(vec![1_u8; 16 << 20]);
        let [private, _] = Memory::of("self").unwrap().each_since(before, 1);
        assert!(private >= f64::from(16 << 20), "{private}");
        drop(block);
    }

    #[test]
    fn work_takes_cpu_time() {
        let before = cpu_nanos("self").unwrap();
        let start = std::time::Instant::now();
        // The clock's grain is a tick of the kernel, others may have the CPU, and threads that end take theirs away.
        let took = std::iter::repeat_with(|| {
            (0..100_000).for_each(|_| std::hint::spin_loop());
            cpu_nanos("self").unwrap() > before
        })
        .take_while(|_| start.elapsed().as_secs() < 60)
        .any(|took| took);
        assert!(took);
    }
}
