//! `StackError`: what refused a stack, how far the limit reaches now, and the command that raises it.

use std::fmt;
use std::fs;
use std::io;

/// Why a stack could not be made.
///
/// The text names the limit that was hit, its present value and what to do about it.
///
/// ```
/// use bast_stack::{Config, StackError, Stacks};
/// fn start() -> Result<Stacks, StackError> {
///     Stacks::new(Config::default())
/// }
/// match start() {
///     Ok(_stacks) => {}
///     Err(error) if error.is_maps_exhausted() => eprintln!("ask the administrator: {error}"),
///     Err(error) => eprintln!("{error}"),
/// }
/// ```
#[derive(Debug)]
pub struct StackError {
    kind: Kind,
    errno: Option<i32>,
}

#[derive(Debug)]
enum Kind {
    /// Guards by `mprotect` need two mappings a stack and the kernel allows no more of them.
    Maps { limit: Option<u64>, stacks: usize },
    /// `vm.overcommit_memory=2`: the kernel promises no more memory than it has.
    Overcommit {
        asked: usize,
        limit_kb: Option<u64>,
        committed_kb: Option<u64>,
    },
    /// `RLIMIT_AS` or `RLIMIT_DATA`, by name and `ulimit` letter.
    Rlimit {
        name: &'static str,
        flag: char,
        limit: u64,
        asked: usize,
    },
    /// The kernel is out of memory or address space for a reason it does not tell.
    Memory { asked: usize },
    /// `GuardMode::Install` was demanded and this kernel has it not.
    NoGuardInstall,
    /// The process runs with a shadow stack (Intel CET), which a switch would violate.
    ShadowStack,
    /// The option asks for something no machine can give.
    BadConfig(&'static str),
    /// Anything else, with the call that failed.
    Call(&'static str),
}

impl StackError {
    /// All memory mappings the kernel allows this process are in use (`vm.max_map_count`).
    pub fn is_maps_exhausted(&self) -> bool {
        matches!(self.kind, Kind::Maps { .. })
    }

    /// Memory or address space ran out, for whatever reason; the other predicates tell which.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(
            self.kind,
            Kind::Overcommit { .. } | Kind::Rlimit { .. } | Kind::Memory { .. }
        )
    }

    /// `vm.overcommit_memory=2` refused to promise the memory.
    pub fn is_overcommit_refused(&self) -> bool {
        matches!(self.kind, Kind::Overcommit { .. })
    }

    /// A resource limit of the process (`ulimit -v` or `ulimit -d`) refused the address space.
    pub fn is_rlimit(&self) -> bool {
        matches!(self.kind, Kind::Rlimit { .. })
    }

    /// [`GuardMode::Install`](crate::GuardMode::Install) was demanded and the kernel refuses it.
    pub fn is_guard_unsupported(&self) -> bool {
        matches!(self.kind, Kind::NoGuardInstall)
    }

    /// The process runs with a hardware shadow stack.
    pub fn is_shadow_stack(&self) -> bool {
        matches!(self.kind, Kind::ShadowStack)
    }

    /// The configuration asks for something impossible.
    pub fn is_bad_config(&self) -> bool {
        matches!(self.kind, Kind::BadConfig(_))
    }

    /// The number the kernel gave, if it was the kernel that refused.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.errno
    }

    pub(crate) fn no_guard_install() -> StackError {
        StackError {
            kind: Kind::NoGuardInstall,
            errno: Some(libc::EINVAL),
        }
    }

    pub(crate) fn shadow_stack() -> StackError {
        StackError {
            kind: Kind::ShadowStack,
            errno: None,
        }
    }

    pub(crate) fn bad_config(what: &'static str) -> StackError {
        StackError {
            kind: Kind::BadConfig(what),
            errno: None,
        }
    }

    /// `mprotect` of a guard failed with `stacks` guarded so far: ENOMEM there means no more mappings.
    pub(crate) fn from_guard(error: &io::Error, asked: usize, stacks: usize) -> StackError {
        let errno = error.raw_os_error();
        if errno != Some(libc::ENOMEM) {
            return StackError {
                kind: Kind::Call("guarding a stack"),
                errno,
            };
        }
        if let Some(kind) = memory_limit(asked) {
            return StackError { kind, errno };
        }
        StackError {
            kind: Kind::Maps {
                limit: read_number("/proc/sys/vm/max_map_count"),
                stacks,
            },
            errno,
        }
    }

    /// Reserving or committing `asked` bytes failed.
    pub(crate) fn from_memory(error: &io::Error, asked: usize, call: &'static str) -> StackError {
        let errno = error.raw_os_error();
        if errno != Some(libc::ENOMEM) {
            return StackError {
                kind: Kind::Call(call),
                errno,
            };
        }
        let kind = memory_limit(asked)
            .or_else(maps_limit)
            .unwrap_or(Kind::Memory { asked });
        StackError { kind, errno }
    }
}

/// Which limit `asked` more bytes would break, if it can be told.
fn memory_limit(asked: usize) -> Option<Kind> {
    let used = |field| field_kb("/proc/self/status", field).map_or(0, |kb| kb << 10);
    for (resource, name, flag, field) in [
        (libc::RLIMIT_AS, "RLIMIT_AS", 'v', "VmSize:"),
        (libc::RLIMIT_DATA, "RLIMIT_DATA", 'd', "VmData:"),
    ] {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: validity: `limit` is a writable rlimit. aliasing: it is ours alone.
        let code = unsafe { libc::getrlimit(resource, &raw mut limit) };
        let unlimited = limit.rlim_cur == libc::RLIM_INFINITY;
        // Signed on FreeBSD.
        let Some(bound) = number(limit.rlim_cur) else {
            continue;
        };
        if code == 0 && !unlimited && used(field).saturating_add(asked as u64) > bound {
            return Some(Kind::Rlimit {
                name,
                flag,
                limit: bound,
                asked,
            });
        }
    }
    if asked > 0 && read_number("/proc/sys/vm/overcommit_memory") == Some(2) {
        let limit_kb = field_kb("/proc/meminfo", "CommitLimit:");
        let committed_kb = field_kb("/proc/meminfo", "Committed_AS:");
        return Some(Kind::Overcommit {
            asked,
            limit_kb,
            committed_kb,
        });
    }
    None
}

/// A resource limit, whatever type the system gives it.
fn number(limit: impl TryInto<u64>) -> Option<u64> {
    limit.try_into().ok()
}

/// Whether the process stands at `vm.max_map_count`, which also answers ENOMEM.
fn maps_limit() -> Option<Kind> {
    let limit = read_number("/proc/sys/vm/max_map_count")?;
    let maps = fs::read("/proc/self/maps")
        .ok()?
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count() as u64;
    (maps + 4 >= limit).then_some(Kind::Maps {
        limit: Some(limit),
        stacks: 0,
    })
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number of kibibytes in the line of `path` that starts with `field`.
fn field_kb(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(field))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// A number that may be unknown.
struct Known(Option<u64>);

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Maps { limit, stacks } => write!(
                f,
                "no more memory mappings for stacks: vm.max_map_count is {}, and on this kernel each guarded stack \
                 takes two mappings ({stacks} stacks so far); allow 2 for each stack and some to spare, for a million \
                 stacks `sysctl -w vm.max_map_count=2100000`, or use Linux 6.13 or newer, where guards take none",
                Known(limit)
            ),
            Kind::Overcommit { asked, limit_kb, committed_kb } => write!(
                f,
                "the kernel refused to promise {} KiB for stacks: vm.overcommit_memory is 2 (CommitLimit {} kB, \
                 Committed_AS {} kB); `sysctl -w vm.overcommit_memory=0`, or raise vm.overcommit_ratio or \
                 vm.overcommit_kbytes, or use a smaller stack class",
                asked >> 10,
                Known(limit_kb),
                Known(committed_kb)
            ),
            Kind::Rlimit { name, flag, limit, asked } => write!(
                f,
                "{} KiB of address space for stacks would pass {name}, which is {} KiB; raise it with \
                 `ulimit -{flag} unlimited` (LimitAS= or LimitDATA= in a systemd unit) or use a smaller stack class",
                asked >> 10,
                limit >> 10
            ),
            Kind::Memory { asked } => write!(
                f,
                "the kernel has no {} KiB of address space left for stacks (no limit of the process explains it; see \
                 `dmesg` and the memory limit of the container)",
                asked >> 10
            ),
            Kind::NoGuardInstall => f.write_str(
                "this kernel refuses madvise(MADV_GUARD_INSTALL), which GuardMode::Install demands: it needs Linux \
                 6.13 and memory that is not locked (mlockall); GuardMode::Auto falls back to mprotect",
            ),
            Kind::ShadowStack => f.write_str(
                "the process runs with a hardware shadow stack (CET), which switching stacks would violate; start it \
                 with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
            ),
            Kind::BadConfig(what) => f.write_str(what),
            Kind::Call(call) => {
                let reason = self.errno.map(io::Error::from_raw_os_error);
                write!(f, "{call} failed: {}", reason.map_or_else(String::new, |error| error.to_string()))
            }
        }
    }
}

impl std::error::Error for StackError {}

impl From<StackError> for io::Error {
    fn from(error: StackError) -> io::Error {
        let kind = if error.is_out_of_memory() || error.is_maps_exhausted() {
            io::ErrorKind::OutOfMemory
        } else if error.is_bad_config() {
            io::ErrorKind::InvalidInput
        } else {
            io::ErrorKind::Unsupported
        };
        io::Error::new(kind, error)
    }
}
