//! What users call.

use super::outbox::Outbox;
use super::session;
use crate::blocking;
use crate::primitive::atomic::Relaxed;
use crate::profile;
use crate::sys::lock::{Lock, Rank};
use crate::sys::thread;
use std::io::{self, Write};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;

/// The writer's thread.
const STACK_BYTES: usize = 256 << 10;

/// Why a trace did not begin, or could not be written.
pub(super) fn busy() -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        "a trace of this process is running already",
    )
}

/// What a trace has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Pieces of about a second each, of which the trace is made.
    pub generations: u64,
    /// Pieces that are missing, because the writer could not keep up.
    pub lost_generations: u64,
    /// Bytes written.
    pub bytes: u64,
    /// CPU samples in the trace; see [`Options::cpu_samples`].
    pub cpu_samples: u64,
    /// CPU samples that are missing, because they were taken faster than they were collected.
    pub lost_cpu_samples: u64,
}

/// A running trace; ends when dropped.
#[derive(Debug)]
#[must_use = "the trace ends when the guard is dropped"]
pub struct Guard(Option<Running>);

#[derive(Debug)]
struct Running {
    outbox: Arc<Outbox>,
    closer: JoinHandle<()>,
    writer: JoinHandle<io::Result<()>>,
}

/// How a trace is written.
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    outbox_bytes: usize,
    stacks: usize,
    samples_hz: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// As [`start`] does it.
    pub fn new() -> Options {
        Options {
            outbox_bytes: super::outbox::OUTBOX_BYTES,
            stacks: 0,
            samples_hz: 0,
        }
    }

    /// Bytes that may wait for the writer, 64 MiB unless this is called. When there are more, nothing is traced until it has
    /// caught up; see [`Summary::lost_generations`].
    pub fn outbox_bytes(mut self, bytes: usize) -> Options {
        self.outbox_bytes = bytes;
        self
    }

    /// Real stacks of the tasks that wait, spawn and wake, of so many frames; 0, as it is unless this is called: only the
    /// place of the call and the entry function. More than 126 are 126: 128 are allowed in the format, in which those two
    /// are counted.
    ///
    /// ```
    /// let trace = bast::trace::Options::new().stacks(32).start(std::io::sink())?;
    /// # trace.stop()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// The program must be built with frame pointers, and with bast's feature `symbols` to have names and lines; see [the
    /// guide](crate::guide::tracing). Built otherwise nothing breaks, and stacks are shorter or wrong.
    pub fn stacks(mut self, frames: usize) -> Options {
        self.stacks = frames;
        self
    }

    /// CPU samples: so many times in each second of CPU time of a worker, what it computes; 0, as it is unless this is called:
    /// none. At most 1000, and in truth no more than the kernel has ticks (`CONFIG_HZ`, 100 to 1000). On Linux only.
    ///
    /// ```
    /// let trace = bast::trace::Options::new().cpu_samples(100).start(std::io::sink())?;
    /// # trace.stop()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// A sample has a stack of up to 60 frames, for which holds what [`Options::stacks`] says, whether that is called or not. It
    /// is taken by `SIGPROF`: see [the guide](crate::guide::tracing) for what that means.
    ///
    /// [`Options::start`] fails with [`InvalidInput`](io::ErrorKind::InvalidInput) for more than 1000, with
    /// [`Unsupported`](io::ErrorKind::Unsupported) elsewhere than on Linux, with [`ResourceBusy`](io::ErrorKind::ResourceBusy)
    /// if another profiler has installed a handler of `SIGPROF` since bast's, and if no more timers can be had (`ulimit -i`).
    pub fn cpu_samples(mut self, hz: u32) -> Options {
        self.samples_hz = hz;
        self
    }

    /// Begins the trace; see [`start`].
    ///
    /// # Errors
    /// As for [`start`], and as [`Options::cpu_samples`] says.
    pub fn start(self, writer: impl Write + Send + 'static) -> io::Result<Guard> {
        start_with(writer, self)
    }
}

/// Begins a trace of the whole process, all its runtimes in one, until the guard is stopped or dropped. May be called at
/// any time, from tasks and plain threads.
///
/// The writer is called on a thread of its own, with pieces of a second or some megabytes: buffering it gains nothing.
///
/// ```
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| -> std::io::Result<()> {
/// let trace = bast::trace::start(std::io::sink())?;
/// bast::spawn(|| bast::task::yield_now()).join().unwrap();
/// let summary = trace.stop()?;
/// assert!(summary.bytes > 0);
/// # Ok(()) }) }?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// [`ResourceBusy`](io::ErrorKind::ResourceBusy) if a trace runs or a flight recorder does, and if no thread can be had.
pub fn start(writer: impl Write + Send + 'static) -> io::Result<Guard> {
    Options::new().start(writer)
}

/// Ends a trace and waits until it is written: [`Guard::stop`].
///
/// # Errors
/// The first one of the writer.
pub fn stop(trace: Guard) -> io::Result<Summary> {
    trace.stop()
}

/// The trace that `BAST_TRACE` asked for, until the process ends.
static FROM_ENVIRONMENT: Lock<Option<Guard>> = Lock::new(Rank::Trace, None);

/// Begins the trace that `BAST_TRACE=file` asks for, once, when the first runtime starts, with `BAST_TRACE_STACKS=frames`
/// of stacks and `BAST_TRACE_CPU=hz` CPU samples. It ends with the process, by `exit(3)`: one that is killed leaves a trace without its last second.
pub(crate) fn start_from_environment() {
    static ONCE: Once = Once::new();
    extern "C" fn at_exit() {
        let trace = FROM_ENVIRONMENT.lock().take();
        drop(trace);
    }
    ONCE.call_once(|| {
        let Some(path) = std::env::var_os("BAST_TRACE").filter(|path| !path.is_empty()) else {
            return;
        };
        let any = |_: &usize| true;
        let possible = |hz: &u32| *hz <= profile::HZ_MAX;
        let options = Options::new()
            .stacks(number_of_environment(
                "BAST_TRACE_STACKS",
                "no number of frames",
                any,
            ))
            .cpu_samples(number_of_environment(
                "BAST_TRACE_CPU",
                "no number of samples a second up to 1000",
                possible,
            ));
        match std::fs::File::create(&path).and_then(|file| options.start(file)) {
            Ok(trace) => {
                *FROM_ENVIRONMENT.lock() = Some(trace);
                // SAFETY: validity: the function may be called at any time, also twice.
                unsafe { libc::atexit(at_exit) };
            }
            Err(error) => eprintln!("bast: BAST_TRACE={}: {error}", path.display()),
        }
    });
}

/// What a variable says; zero if it is not set, or is `no_number`, which is reported.
fn number_of_environment<T: std::str::FromStr + Default>(
    variable: &str,
    no_number: &str,
    possible: impl Fn(&T) -> bool,
) -> T {
    let Some(text) = std::env::var_os(variable).filter(|text| !text.is_empty()) else {
        return T::default();
    };
    text.to_str()
        .and_then(|number| number.parse().ok())
        .filter(possible)
        .unwrap_or_else(|| {
            eprintln!("bast: {variable}={}: {no_number}", text.display());
            T::default()
        })
}

fn start_with(writer: impl Write + Send + 'static, options: Options) -> io::Result<Guard> {
    if !session::reserve() {
        return Err(busy());
    }
    let begin = || -> io::Result<Running> {
        let outbox = Arc::new(Outbox::new(options.outbox_bytes));
        let own = Arc::clone(&outbox);
        let writer = thread::start_with_result("bast-trace-out".to_owned(), STACK_BYTES, move || {
            own.write_to(writer)
        })?;
        let closer = session::begin(Arc::clone(&outbox) as _, options.stacks, options.samples_hz)
            .inspect_err(|_| outbox.close())?;
        Ok(Running {
            outbox,
            closer,
            writer,
        })
    };
    let running = blocking(begin);
    if running.is_err() {
        session::unreserve();
    }
    Ok(Guard(Some(running?)))
}

impl Guard {
    /// Ends the trace and waits until it is written.
    ///
    /// # Errors
    /// The first one of the writer; what it was given after that is lost.
    pub fn stop(mut self) -> io::Result<Summary> {
        self.0.take().map_or(Ok(Summary::default()), Running::stop)
    }
}

impl Running {
    fn stop(self) -> io::Result<Summary> {
        blocking(|| {
            session::end();
            let _ = self.closer.join();
            let (cpu_samples, lost_cpu_samples) = super::samples::counts();
            session::unreserve();
            self.outbox.close();
            let written = self.writer.join();
            written.unwrap_or_else(|_| Err(io::Error::other("the writer of the trace panicked")))?;
            Ok(Summary {
                generations: self.outbox.generations.load(Relaxed),
                lost_generations: self.outbox.lost.load(Relaxed),
                bytes: self.outbox.written.load(Relaxed),
                cpu_samples,
                lost_cpu_samples,
            })
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(running) = self.0.take()
            && let Err(error) = running.stop()
        {
            eprintln!("bast: the execution trace was not written to its end: {error}");
        }
    }
}

/// Does a trace run now?
pub fn is_enabled() -> bool {
    super::on()
}
