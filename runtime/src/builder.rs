//! `Builder`: how a runtime is set up, from code and from the environment.

use crate::preempt::signal;
use crate::runtime::Runtime;
use crate::sys::thread;
use bast_stack::{GuardMode, StackClass};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Most processors a runtime may have.
const PROCESSORS_MAX: usize = 1024;

/// Sets up a [`Runtime`]. The defaults suit a server.
///
/// The environment overrides what the code says, so that a deployed program can be tuned: `BAST_MAXPROCS`
/// (processors), `BAST_STACK_SIZE` (bytes, or with `K`/`M`), and `BAST_DEBUG` (`schedtrace=MILLISECONDS`,
/// `scheddetail=1`, `overrun=1`, `tls=1`, separated by commas). `overrun=1` reports tasks that keep their processor from
/// others ([`Metrics::overruns`](crate::Metrics::overruns)), at most once a second. `tls=1`, in builds with debug assertions, reports tasks that park while a
/// pointer into thread-local storage lies on their stack; CAVEATS.md says what that is worth.
///
/// ```
/// // SAFETY: no value bound to a thread is alive across a call that can park.
/// let runtime = unsafe { bast::Builder::new().processors(2).stack_size(64 << 10).build() }?;
/// assert_eq!(runtime.run(|| 6 * 7), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Builder {
    processors: Option<usize>,
    stack_bytes: usize,
    guard: GuardMode,
    thread_name: NameHook,
    on_worker_start: Hook,
    on_worker_stop: Hook,
    pin: bool,
    slice: Duration,
    blocked_workers_max: usize,
    worker_stack_bytes: usize,
    shutdown_grace: Duration,
    strict_parallelism: bool,
    preempt_signal: i32,
    seed: Option<u64>,
}

type Hook = Arc<dyn Fn() + Send + Sync>;
type NameHook = Arc<dyn Fn(usize) -> String + Send + Sync>;

/// What a checked builder comes to.
pub(crate) struct Config {
    pub(crate) processors: usize,
    pub(crate) stack_class: StackClass,
    pub(crate) stacks: bast_stack::Config,
    pub(crate) thread_name: NameHook,
    pub(crate) on_worker_start: Hook,
    pub(crate) on_worker_stop: Hook,
    pin_to: Vec<usize>,
    pub(crate) slice: Duration,
    pub(crate) blocked_workers_max: usize,
    pub(crate) worker_stack_bytes: usize,
    pub(crate) shutdown_grace: Duration,
    pub(crate) strict_parallelism: bool,
    pub(crate) preempt_signal: i32,
    pub(crate) seed: u64,
    pub(crate) schedtrace: Option<Duration>,
    #[cfg_attr(not(debug_assertions), expect(dead_code, reason = "refused in such builds"))]
    pub(crate) tls_check: bool,
    pub(crate) scheddetail: bool,
    pub(crate) overrun_reports: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Config")
            .field("processors", &self.processors)
            .field("stack_class", &self.stack_class)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Builder")
            .field("processors", &self.processors)
            .field("stack_bytes", &self.stack_bytes)
            .field("slice", &self.slice)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

impl Builder {
    /// The defaults: a processor a CPU the process may use, stacks of 256 KiB, slices of 10 ms.
    pub fn new() -> Builder {
        Builder {
            processors: None,
            stack_bytes: StackClass::Default256K.bytes(),
            guard: GuardMode::Auto,
            thread_name: Arc::new(|index| format!("bast-worker-{index}")),
            on_worker_start: Arc::new(|| {}),
            on_worker_stop: Arc::new(|| {}),
            pin: false,
            slice: Duration::from_millis(10),
            blocked_workers_max: 512,
            worker_stack_bytes: 256 << 10,
            shutdown_grace: Duration::from_secs(5),
            strict_parallelism: false,
            preempt_signal: libc::SIGURG,
            seed: None,
        }
    }

    /// How many tasks may run at once. By default [`std::thread::available_parallelism`], which honours cgroup
    /// quotas and affinity masks. `BAST_MAXPROCS` overrides it.
    pub fn processors(mut self, count: usize) -> Builder {
        self.processors = Some(count);
        self
    }

    /// Size of a task's stack in bytes, rounded up to a class: 64 KiB, 256 KiB (the default), 1 MiB or 8 MiB. Only
    /// the pages a task touches use memory; the size costs page tables (128 B a task at 64 KiB, 513 B at 256 KiB).
    /// `BAST_STACK_SIZE` overrides it.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_bytes = bytes;
        self
    }

    /// How stacks are guarded against overflow. For tests and unusual kernels; the default finds out.
    pub fn guard_mode(mut self, guard: GuardMode) -> Builder {
        self.guard = guard;
        self
    }

    /// Names the worker threads; the argument counts them. The default is `bast-worker-N`.
    pub fn thread_name(mut self, name: impl Fn(usize) -> String + Send + Sync + 'static) -> Builder {
        self.thread_name = Arc::new(name);
        self
    }

    /// Called on each worker thread before it runs tasks. Must not call into bast.
    pub fn on_worker_start(mut self, hook: impl Fn() + Send + Sync + 'static) -> Builder {
        self.on_worker_start = Arc::new(hook);
        self
    }

    /// Called on each worker thread when it ends. Must not call into bast.
    pub fn on_worker_stop(mut self, hook: impl Fn() + Send + Sync + 'static) -> Builder {
        self.on_worker_stop = Arc::new(hook);
        self
    }

    /// Pins worker N to the N-th CPU the process may use, round and round. Off by default: the kernel knows more
    /// about the machine's other load. Linux only.
    pub fn pin_workers(mut self, pin: bool) -> Builder {
        self.pin = pin;
        self
    }

    /// How long a task may run before it has to let others run at its next call into bast, or loses its processor to
    /// them if it makes none ([what blocks what](crate::guide::blocking)). 10 ms by default.
    pub fn slice(mut self, slice: Duration) -> Builder {
        self.slice = slice;
        self
    }

    /// How many workers may be blocked, or compute without a processor, at once beside one a processor; those that sleep
    /// with a locked task do not count. 512 by default. At the limit processors stay without a thread until one comes
    /// back, and tasks that compute are stopped ([`Builder::strict_parallelism`]).
    pub fn blocked_workers_max(mut self, count: usize) -> Builder {
        self.blocked_workers_max = count;
        self
    }

    /// Stack size of the worker threads themselves; tasks do not run on it. 256 KiB by default.
    pub fn worker_stack_size(mut self, bytes: usize) -> Builder {
        self.worker_stack_bytes = bytes;
        self
    }

    /// How long the end of a runtime waits for tasks that are running (not parked) to make a call into bast. 5 s by
    /// default. Workers that are still busy then are left alone, and reported.
    pub fn shutdown_grace(mut self, grace: Duration) -> Builder {
        self.shutdown_grace = grace;
        self
    }

    /// Lets no more tasks compute at once than there are processors, also those that make no call into bast. Off by
    /// default. Linux only.
    ///
    /// By default a task that computes past its slice loses its processor to others that wait, and goes on beside them
    /// on its own thread: nothing is interrupted, and the kernel shares the CPUs between more threads. In a strict runtime
    /// its thread is stopped by a signal until it is its turn again, and it gets a slice at a time. [What blocks what](crate::guide::blocking)
    /// says what signals mean for system calls, debuggers and foreign code.
    ///
    /// A task is stopped for 200 ms at most, however many others there are: it may hold a lock that somebody needs.
    pub fn strict_parallelism(mut self, strict: bool) -> Builder {
        self.strict_parallelism = strict;
        self
    }

    /// The signal that stops threads ([`Builder::strict_parallelism`], and any runtime at the limit of
    /// [`Builder::blocked_workers_max`]). `SIGURG` by default, as in Go: debuggers pass it on, libraries hardly use it, and by
    /// default it is ignored.
    ///
    /// Its handler is installed when it is needed first, and passes signals that are not bast's to the one that it found.
    /// Whoever installs one later must do the same; else bast cannot stop threads.
    pub fn preempt_signal(mut self, signal: i32) -> Builder {
        self.preempt_signal = signal;
        self
    }

    /// Seeds the order in which workers look for victims. For tests.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Starts the runtime.
    ///
    /// # Safety
    /// The one contract of bast, for all code that tasks of this runtime run: **no value bound to a thread is alive
    /// across a call that can park.** Such values are borrows from `thread_local!`, guards of std's locks
    /// (`MutexGuard`, `StdoutLock`), `Rc` and other `!Send` values also reachable from a thread-local, and
    /// thread-affine handles of foreign code. Every call into bast can park. `CAVEATS.md` has each case with what to
    /// use instead.
    ///
    /// # Errors
    /// If a setting is out of range, or the system refuses memory, threads or descriptors; the text says what to
    /// change.
    pub unsafe fn build(self) -> io::Result<Runtime> {
        Runtime::start(self.check()?)
    }

    fn check(self) -> io::Result<Config> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let processors = match environment("BAST_MAXPROCS") {
            Some(text) => text
                .parse()
                .map_err(|_| invalid(format!("BAST_MAXPROCS={text} is not a number of processors")))?,
            None => match self.processors {
                Some(count) => count,
                None => std::thread::available_parallelism().map_or(1, |count| count.get()),
            },
        };
        if processors == 0 || processors > PROCESSORS_MAX {
            return Err(invalid(format!(
                "{processors} processors: it must be between 1 and {PROCESSORS_MAX}"
            )));
        }
        let stack_bytes = match environment("BAST_STACK_SIZE") {
            Some(text) => parse_bytes(&text)
                .ok_or_else(|| invalid(format!("BAST_STACK_SIZE={text} is not a size such as 64K or 1M")))?,
            None => self.stack_bytes,
        };
        let stack_class = StackClass::for_bytes(stack_bytes).ok_or_else(|| {
            invalid(format!(
                "stacks of {stack_bytes} bytes: the largest class is 8 MiB; run deep calls in bast::on_big_stack"
            ))
        })?;
        if self.slice.is_zero() {
            return Err(invalid("a slice of zero: a task could never run".to_owned()));
        }
        signal::check(self.preempt_signal).or_else(|text| {
            if self.strict_parallelism || cfg!(target_os = "linux") {
                Err(invalid(text))
            } else {
                Ok(())
            }
        })?;
        let debug = Debug::parse(&environment("BAST_DEBUG").unwrap_or_default()).map_err(invalid)?;
        Ok(Config {
            processors,
            stack_class,
            stacks: bast_stack::Config {
                guard: self.guard,
                ..bast_stack::Config::default()
            },
            thread_name: self.thread_name,
            on_worker_start: self.on_worker_start,
            on_worker_stop: self.on_worker_stop,
            pin_to: if self.pin {
                thread::allowed_cpus()
            } else {
                Vec::new()
            },
            slice: self.slice,
            blocked_workers_max: self.blocked_workers_max,
            worker_stack_bytes: self.worker_stack_bytes,
            shutdown_grace: self.shutdown_grace,
            strict_parallelism: self.strict_parallelism,
            preempt_signal: self.preempt_signal,
            seed: self.seed.unwrap_or_else(crate::time::clock::now),
            schedtrace: debug.schedtrace,
            tls_check: debug.tls,
            scheddetail: debug.scheddetail,
            overrun_reports: debug.overrun,
        })
    }
}

impl Config {
    /// Pins the calling worker, if that was asked for.
    pub(crate) fn pin_worker(&self, index: usize) {
        if let Some(&cpu) = self.pin_to.get(index % self.pin_to.len().max(1))
            && let Err(error) = thread::pin_to(cpu)
        {
            eprintln!("bast: worker {index} cannot be pinned to CPU {cpu}: {error}");
        }
    }
}

/// A variable that is set and not empty.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// `65536`, `64K`, `1M`, `64KiB`.
fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "k" | "KiB" | "KB" => 1 << 10,
        "M" | "m" | "MiB" | "MB" => 1 << 20,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

/// `BAST_DEBUG`.
#[derive(Default, Debug, PartialEq, Eq)]
struct Debug {
    schedtrace: Option<Duration>,
    scheddetail: bool,
    tls: bool,
    overrun: bool,
}

impl Debug {
    fn parse(text: &str) -> Result<Debug, String> {
        let mut debug = Debug::default();
        for setting in text.split(',').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("schedtrace", millis)) if millis.parse::<u64>().is_ok_and(|millis| millis > 0) => {
                    debug.schedtrace = millis.parse().ok().map(Duration::from_millis);
                }
                Some(("scheddetail", "0" | "1")) => debug.scheddetail = setting.ends_with('1'),
                Some(("tls", "1")) if !cfg!(debug_assertions) => {
                    return Err("BAST_DEBUG: tls=1 needs a build with debug assertions".to_owned());
                }
                Some(("overrun", "0" | "1")) => debug.overrun = setting.ends_with('1'),
                Some(("tls", "0" | "1")) => debug.tls = setting.ends_with('1'),
                _ => {
                    return Err(format!(
                        "BAST_DEBUG: `{setting}` is none of schedtrace=MILLISECONDS, scheddetail=0|1, overrun=0|1, tls=0|1"
                    ));
                }
            }
        }
        Ok(debug)
    }
}

#[cfg(test)]
mod tests {
    use super::{Builder, Debug, parse_bytes};
    use std::time::Duration;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_bytes("65536"), Some(65536));
        assert_eq!(parse_bytes("64K"), Some(64 << 10));
        assert_eq!(parse_bytes("1MiB"), Some(1 << 20));
        assert_eq!(parse_bytes("64Q"), None);
        assert_eq!(parse_bytes("K"), None);
    }

    #[test]
    fn debug_settings_are_read() {
        let read = Debug::parse("schedtrace=1000,scheddetail=1").unwrap();
        assert_eq!(
            read,
            Debug {
                schedtrace: Some(Duration::from_secs(1)),
                scheddetail: true,
                tls: false,
                overrun: false,
            }
        );
        assert_eq!(
            Debug::parse("tls=1").is_ok_and(|read| read.tls),
            cfg!(debug_assertions)
        );
        assert!(Debug::parse("overrun=1").unwrap().overrun);
        assert!(Debug::parse("schedtrace=0").unwrap_err().contains("schedtrace"));
        assert!(Debug::parse("nonsense").is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let error = Builder::new().processors(0).check().unwrap_err();
        assert!(error.to_string().contains("between 1 and"), "{error}");
        let error = Builder::new().stack_size(9 << 20).check().unwrap_err();
        assert!(error.to_string().contains("on_big_stack"), "{error}");
        assert!(Builder::new().slice(Duration::ZERO).check().is_err());
    }
}
