//! The flight recorder: a trace that is always on and kept in memory, of which the last seconds can be had when something
//! has gone wrong.

use super::generation::Generation;
use super::outbox::Sink;
use super::{session, user};
use crate::blocking;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Relaxed};
use crate::sys::lock::{Lock, Rank};
use crate::time::clock;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The last whole generations.
#[derive(Debug)]
struct Ring {
    kept: Lock<Kept>,
    age: Duration,
    bytes_max: usize,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    /// When each ended, and its bytes.
    generations: VecDeque<(u64, Arc<Generation>)>,
    bytes: usize,
}

impl Sink for Ring {
    fn take(&self, generation: Generation) {
        let now = clock::now();
        let age = u64::try_from(self.age.as_nanos()).unwrap_or(u64::MAX);
        let mut all_gone = Vec::new();
        let mut kept = self.kept.lock();
        kept.bytes += generation.len();
        kept.generations.push_back((now, Arc::new(generation)));
        while kept.generations.len() > 1 {
            // The first may go if what comes after it spans the age, or is too much.
            let (ended, _) = kept.generations[0];
            if kept.bytes <= self.bytes_max && now.saturating_sub(ended) < age {
                break;
            }
            let (_, gone) = kept.generations.pop_front().expect("more than one");
            kept.bytes -= gone.len();
            all_gone.push(gone);
        }
        drop(kept);
        drop(all_gone); // which takes another lock
    }

    fn has_room(&self) -> bool {
        true
    }

    fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }
}

/// Keeps the last seconds of a trace in memory. Go's `runtime/trace.FlightRecorder`.
///
/// ```
/// use bast::trace::FlightRecorder;
/// use std::time::Duration;
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| -> std::io::Result<()> {
/// let recorder = FlightRecorder::new().age(Duration::from_secs(5)).bytes(4 << 20).start()?;
/// bast::spawn(|| bast::task::yield_now()).join().unwrap();
/// let mut trace = Vec::new();
/// recorder.snapshot(&mut trace)?; // a whole trace, to be opened by `go tool trace`
/// assert!(trace.starts_with(b"go 1.26 trace"));
/// # Ok(()) }) }?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct FlightRecorder {
    age: Duration,
    bytes: usize,
    stacks: usize,
    samples_hz: u32,
}

impl Default for FlightRecorder {
    fn default() -> FlightRecorder {
        FlightRecorder::new()
    }
}

impl FlightRecorder {
    /// Keeps 10 seconds, or 10 MiB if that is less.
    pub fn new() -> FlightRecorder {
        FlightRecorder {
            age: Duration::from_secs(10),
            bytes: 10 << 20,
            stacks: 0,
            samples_hz: 0,
        }
    }

    /// How far back a snapshot reaches at least, if the bytes suffice.
    pub fn age(mut self, age: Duration) -> FlightRecorder {
        self.age = age;
        self
    }

    /// Most bytes that are kept. The newest piece, of a second or 8 MiB, is kept however large it is.
    pub fn bytes(mut self, bytes: usize) -> FlightRecorder {
        self.bytes = bytes;
        self
    }

    /// As [`Options::stacks`](super::Options::stacks).
    pub fn stacks(mut self, frames: usize) -> FlightRecorder {
        self.stacks = frames;
        self
    }

    /// As [`Options::cpu_samples`](super::Options::cpu_samples).
    pub fn cpu_samples(mut self, hz: u32) -> FlightRecorder {
        self.samples_hz = hz;
        self
    }

    /// Begins to record.
    ///
    /// # Errors
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) if a trace or another recorder runs, if no thread can be had, and as
    /// [`Options::cpu_samples`](super::Options::cpu_samples) says.
    pub fn start(self) -> io::Result<Recording> {
        if !session::reserve() {
            return Err(user::busy());
        }
        let ring = Arc::new(Ring {
            kept: Lock::new(Rank::Trace, Kept::default()),
            age: self.age,
            bytes_max: self.bytes,
            lost: AtomicU64::new(0),
        });
        let sink = Arc::clone(&ring);
        let closer = blocking(|| session::begin(sink as _, self.stacks, self.samples_hz))
            .inspect_err(|_| session::unreserve())?;
        Ok(Recording {
            inner: Arc::new(Inner {
                ring,
                written: AtomicBool::new(false),
            }),
            closer: Some(closer),
        })
    }
}

#[derive(Debug)]
struct Inner {
    ring: Arc<Ring>,
    /// A snapshot was written for somebody who wants one only.
    written: AtomicBool,
}

/// A running [`FlightRecorder`]; ends when dropped.
#[derive(Debug)]
#[must_use = "the recorder ends when this is dropped"]
pub struct Recording {
    inner: Arc<Inner>,
    closer: Option<JoinHandle<()>>,
}

impl Recording {
    /// Writes a trace of what is kept, up to now. Gives its bytes. May be called any number of times.
    ///
    /// # Errors
    /// The writer's.
    pub fn snapshot(&self, writer: impl Write) -> io::Result<u64> {
        self.inner.snapshot(writer)
    }

    /// Writes a snapshot to `path` if `took` is longer than `bound`, the first time that this happens. True: it did now.
    ///
    /// ```no_run
    /// # use std::time::{Duration, Instant};
    /// # let recorder = bast::trace::FlightRecorder::new().start()?;
    /// let start = Instant::now();
    /// // ... serve a request ...
    /// recorder.snapshot_if_late(start.elapsed(), Duration::from_millis(50), "late.trace")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the file cannot be written; then the next call that is late tries again.
    pub fn snapshot_if_late(
        &self,
        took: Duration,
        bound: Duration,
        path: impl AsRef<Path>,
    ) -> io::Result<bool> {
        if took <= bound || self.inner.written.swap(true, Relaxed) {
            return Ok(false);
        }
        let written = blocking(|| self.inner.snapshot(File::create(path)?));
        written.inspect_err(|_| self.inner.written.store(false, Relaxed))?;
        Ok(true)
    }

    /// Writes a snapshot to `path` at the first panic of the process from now on, while the recorder runs: by a panic hook,
    /// which calls the one that there was.
    pub fn snapshot_on_panic(&self, path: impl Into<PathBuf>) {
        let inner = Arc::downgrade(&self.inner);
        let path = path.into();
        let once = AtomicBool::new(false);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(inner) = inner.upgrade()
                && !once.swap(true, Relaxed)
                && let Err(error) = File::create(&path).and_then(|file| inner.snapshot(file))
            {
                eprintln!("bast: no trace of the panic in {}: {error}", path.display());
            }
            before(info);
        }));
    }
}

impl Inner {
    fn snapshot(&self, mut writer: impl Write) -> io::Result<u64> {
        session::close_now();
        let kept: Vec<_> = {
            let kept = self.ring.kept.lock();
            kept.generations
                .iter()
                .map(|(_, generation)| Arc::clone(generation))
                .collect()
        };
        let header = session::header();
        writer.write_all(&header)?;
        let mut bytes = header.len();
        for generation in kept {
            generation.write_to(&mut writer)?;
            bytes += generation.len();
        }
        writer.flush()?;
        Ok(bytes as u64)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        session::end();
        if let Some(closer) = self.closer.take() {
            let _ = blocking(|| closer.join());
        }
        session::unreserve();
    }
}
