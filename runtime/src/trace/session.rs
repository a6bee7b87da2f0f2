//! One trace of the process, from its start to its end: who closes generations, and where they go.
//!
//! ```text
//!   pens ──full buffers──► queue ──► closer: a whole generation ──► outbox ──► writer thread ──► the user's writer
//!                                            │                      or ring of the flight recorder
//!                                            └─ outbox full: the trace pauses
//! ```
//!
//! A generation leaves the closer whole or not at all, so whatever happens behind it cannot corrupt the trace.
//!
//! # When the writer cannot keep up
//! The closer ends the generation and with it everything that the reader knows of: all tasks are destroyed and all
//! processors stopped, in the trace alone. Then nothing is written until the outbox has room again, for whole
//! generations, which are counted. Then everything is created anew, as the start of a trace finds it, each task with its
//! names, and a log says how many generations are missing. So no task ever waits for the writer.

use super::encode::{Batch, FREQUENCY, HEADER, NONE, UNIT_NANOS, kind, number};
use super::gate::Gate;
use super::generation::{self, Generation};
use super::outbox::Sink;
use super::pen::{Details, Ink, LATE, Late, Pen, Subject};
use super::record::{NOBODY, PROC_IDLE, RUNNABLE, Record, WAITING};
use super::samples::{DRAIN, Samples};
use super::{registry, tables};
use crate::primitive::atomic::{AcqRel, Acquire, AtomicBool, AtomicU64, Relaxed, Release};
use crate::sys::event::Event;
use crate::sys::lock::{Lock, Rank};
use crate::sys::{membarrier, thread};
use crate::time::clock;
use crate::time::ticks::{self, Scale};
use std::collections::HashSet;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A generation lasts so long,
const GENERATION: Duration = Duration::from_secs(1);
/// or so long while the rate of the CPU's counter is not known,
const LEARNING: Duration = Duration::from_millis(20);
/// or until it has so many bytes.
pub(super) const GENERATION_BYTES: usize = 8 << 20;
/// Beyond so many bytes that the closer has not come for, buffers are thrown away: it does not get to run.
const QUEUE_BYTES_MAX: usize = 512 << 20;
/// The closer's thread.
const STACK_BYTES: usize = 512 << 10;
/// The task in whose name the trace speaks: below it are the numbers of the first runtime's tasks.
const OWN_TASK: u64 = (1 << 40) - 1;

pub(super) static GATE: Gate = Gate::new();
/// The first generation of the trace: in it, tasks may appear by a status.
static FIRST: AtomicU64 = AtomicU64::new(0);
/// Since when records hold: the first generation, or the first after a pause.
static BASE: AtomicU64 = AtomicU64::new(0);
/// The number of the next trace's first generation.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// A trace runs, or begins or ends.
static BUSY: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);
/// What those read the time with who write in the generation of the moment.
static SCALE: Lock<Scale> = Lock::new(Rank::Trace, Scale::KERNEL);
/// Generations asked for, and closed, of all traces.
static ASKED: AtomicU64 = AtomicU64::new(0);
static CLOSED: AtomicU64 = AtomicU64::new(0);
/// What cannot be told was met: the trace ends where it was whole.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);
static EVENT: Event = Event::new();
static QUEUE: Lock<Queue> = Lock::new(
    Rank::Trace,
    Queue {
        full: Vec::new(),
        bytes: 0,
    },
);
static OWN_RECORD: Record = Record::new();

struct Queue {
    full: Vec<Batch>,
    bytes: usize,
}

/// The first generation of the trace.
pub(super) fn first() -> u64 {
    FIRST.load(Relaxed)
}

/// The generation since which records hold.
pub(super) fn base() -> u64 {
    BASE.load(Relaxed)
}

/// What to read the time with in the generation that has begun.
pub(super) fn scale() -> Scale {
    *SCALE.lock()
}

/// A buffer is full, or its generation over.
pub(super) fn queue(batch: Batch) {
    let mut queue = QUEUE.lock();
    if queue.bytes > QUEUE_BYTES_MAX {
        drop(queue);
        return give_up("more is written than can be collected");
    }
    queue.bytes += batch.payload.len();
    queue.full.push(batch);
    let early = queue.bytes > GENERATION_BYTES;
    drop(queue);
    if early {
        EVENT.nudge();
    }
}

/// Something was met that cannot be told: a defect of ours, or no memory left. What was written before it is whole.
#[cold]
pub(super) fn give_up(why: &str) {
    if !GIVEN_UP.swap(true, AcqRel) {
        eprintln!("bast: the execution trace ends here: {why}");
        debug_assert!(why.starts_with("more"), "{why}");
    }
}

/// What there is to say of [`OWN_TASK`].
struct OwnTask;

impl Details for OwnTask {
    fn entry(&self) -> &'static str {
        "bast::trace"
    }

    fn code(&self) -> usize {
        0
    }

    fn spawned(&self) -> &'static Location<'static> {
        Location::caller()
    }

    fn label(&self) -> Option<&str> {
        None
    }
}

fn own_task() -> Subject<'static> {
    Subject {
        record: &OWN_RECORD,
        id: OWN_TASK,
        details: &OwnTask,
    }
}

/// Takes the right to begin a trace.
pub(super) fn reserve() -> bool {
    !BUSY.swap(true, AcqRel)
}

/// Does a trace run, begin or end?
pub(super) fn is_busy() -> bool {
    BUSY.load(Acquire)
}

/// It did not come to that, or it is over.
pub(super) fn unreserve() {
    BUSY.store(false, Release);
}

/// Begins a trace into `sink`, with so many frames of real stacks and, unless that is zero, so many CPU samples a second. The
/// caller has reserved it. Gives the closer's thread.
pub(super) fn begin(
    sink: Arc<dyn Sink>,
    frames: usize,
    samples_hz: u32,
) -> io::Result<std::thread::JoinHandle<()>> {
    super::samples::clear_counts();
    let samples = match samples_hz {
        0 => None,
        hz => Some(Samples::begin(hz)?),
    };
    STOP.store(false, Relaxed);
    GIVEN_UP.store(false, Relaxed);
    ASKED.store(CLOSED.load(Relaxed), Relaxed);
    tables::clear();
    super::walk::set_depth(frames);
    super::heap::begin();
    let generation = NEXT.load(Relaxed);
    FIRST.store(generation, Relaxed);
    let mut closer = Closer {
        sink,
        generation,
        opening: Vec::new(),
        since: clock::now(),
        learns: false,
        lost: 0,
        samples,
    };
    closer.open_all();
    thread::start("bast-trace".to_owned(), STACK_BYTES, move || closer.run()).inspect_err(|_| {
        GATE.set(0);
        NEXT.store(generation + 1, Relaxed);
        LATE.lock().clear();
        QUEUE.lock().full.clear();
    })
}

/// Ends the trace; its thread ends soon after.
pub(super) fn end() {
    STOP.store(true, Release);
    EVENT.notify();
}

/// Closes the generation of the moment, and waits until that is done.
pub(super) fn close_now() {
    let asked = CLOSED.load(Acquire) + 1;
    ASKED.fetch_max(asked, AcqRel);
    EVENT.notify();
    while CLOSED.load(Acquire) < asked && GATE.is_open() && !STOP.load(Acquire) {
        EVENT.wait(Duration::from_millis(100), || CLOSED.load(Acquire) >= asked);
    }
}

/// The thread that closes generations.
struct Closer {
    sink: Arc<dyn Sink>,
    generation: u64,
    /// The batch with which the generation of the moment begins.
    opening: Vec<u8>,
    since: u64,
    /// The rate of the CPU's counter is not known yet.
    learns: bool,
    /// Generations in a row that were not written.
    lost: u64,
    /// None: not asked for.
    samples: Option<Samples>,
}

impl Closer {
    fn run(mut self) {
        loop {
            self.wait();
            let stop = STOP.load(Acquire);
            if GATE.is_open() {
                self.close(stop);
            } else if !stop {
                self.lost += 1;
                self.sink.lost();
                self.since = clock::now();
                if self.sink.has_room() {
                    self.open_all();
                }
            }
            CLOSED.fetch_add(1, AcqRel);
            EVENT.notify();
            if stop {
                return generation::forget_spare();
            }
        }
    }

    /// Until it is time to close the generation.
    fn wait(&mut self) {
        let due = || {
            STOP.load(Acquire)
                || ASKED.load(Acquire) > CLOSED.load(Acquire)
                || QUEUE.lock().bytes > GENERATION_BYTES
        };
        loop {
            let lasts = if self.learns { LEARNING } else { GENERATION };
            let left = (self.since + lasts.as_nanos() as u64).saturating_sub(clock::now());
            let left = Duration::from_nanos(left);
            let Some(samples) = &mut self.samples else {
                EVENT.wait(left, due);
                return;
            };
            let over = EVENT.wait(left.min(DRAIN), due) || left <= DRAIN;
            samples.collect();
            if over {
                return;
            }
        }
    }

    /// The first generation, or the first after a pause: everything that there is is told.
    fn open_all(&mut self) {
        BASE.store(self.generation, Relaxed);
        self.opening = sync_batch(self.generation);
        self.since = clock::now();
        self.set_scale();
        GATE.set(self.generation);
        membarrier::heavy();
        let lost = std::mem::take(&mut self.lost);
        open(lost);
        for source in registry::sources() {
            source.tell_workers();
            source.tell_tasks();
        }
        if let Some(samples) = &mut self.samples {
            samples.forget(self.since);
        }
    }

    /// For the generation that is about to begin.
    fn set_scale(&mut self) {
        let scale = ticks::scale();
        self.learns = scale.is_kernel() && ticks::is_unknown_yet();
        *SCALE.lock() = scale;
    }

    /// Ends the generation and gives it away; opens the next one, unless that was the last.
    fn close(&mut self, stop: bool) {
        let closed = self.generation;
        self.generation += 1;
        NEXT.store(self.generation, Relaxed);
        let pause = !stop && !self.sink.has_room();
        let next = if stop || pause { 0 } else { self.generation };
        let mut whole = Generation::default();
        whole.push(std::mem::replace(&mut self.opening, sync_batch(self.generation)));
        self.set_scale();
        GATE.set(next);
        let began = std::mem::replace(&mut self.since, clock::now());
        if next != 0 {
            open(0);
        }
        let pens = registry::pens();
        if pause {
            end_all(closed, &pens);
        } else {
            pens.iter().for_each(|pen| pen.close(closed, next));
            registry::outside().pen.close(closed, next);
        }
        registry::forget(pens);
        collect(closed, &mut whole);
        let mut bytes = Vec::new();
        tell_rest(closed, &mut bytes);
        let samples = self.samples.as_mut();
        let stacks = samples.map(|samples| samples.append_to(&mut bytes, closed, (began, self.since)));
        tables::append_to(&mut bytes, closed, began / UNIT_NANOS, stacks.unwrap_or_default());
        bytes.push(kind::END_OF_GENERATION);
        whole.push(bytes);
        if GIVEN_UP.load(Acquire) {
            self.sink.lost();
        } else {
            self.sink.take(whole);
        }
    }
}

/// The first words of a generation.
fn open(lost: u64) {
    let outside = registry::outside();
    let task = own_task();
    outside.pen.write(|ink| {
        ink.processors_are(registry::processors_used(), task, outside.processor, lost);
    });
}

/// The trace pauses: everything that the reader knows of ends.
fn end_all(closed: u64, pens: &[Arc<Pen>]) {
    for pen in pens {
        pen.end(closed, Ink::strip);
    }
    let outside = registry::outside();
    outside.pen.end(closed, |ink| {
        ink.hold(Some(outside.processor));
        let tables = registry::tables();
        let all = tables.iter().flat_map(|table| table.iter());
        for record in all.chain([&OWN_RECORD]) {
            if record.known().generation() >= base() {
                ink.bury(record);
            }
        }
        ink.strip();
    });
}

/// Appends the buffers of a generation, those of one thread in their order.
fn collect(generation: u64, whole: &mut Generation) {
    let mut queue = QUEUE.lock();
    let full = std::mem::take(&mut queue.full);
    let (old, new): (Vec<_>, Vec<_>) = full.into_iter().partition(|batch| batch.generation <= generation);
    queue.full = new;
    queue.bytes = queue.full.iter().map(|batch| batch.payload.len()).sum();
    drop(queue);
    let of_it = old.into_iter().filter(|batch| batch.generation == generation);
    of_it.for_each(|batch| whole.push_batch(batch));
}

/// Statuses of all that nothing happened to in a generation that is closed: so it is now as it was all the time.
fn tell_rest(generation: u64, bytes: &mut Vec<u8>) {
    let holds = |known: super::record::Known| known.generation() >= base() && known.generation() < generation;
    let mut rest = Vec::new();
    for table in registry::tables() {
        rest.extend(table.iter().filter_map(Record::look));
    }
    rest.extend(OWN_RECORD.look());
    rest.retain(|(_, _, known)| holds(*known) && matches!(known.state(), RUNNABLE | WAITING));
    let idle: Vec<_> = registry::processors()
        .iter()
        .filter(|processor| {
            let known = processor.known();
            known.generation() >= first() && known.generation() < generation && known.state() == PROC_IDLE
        })
        .map(|processor| processor.number)
        .collect();
    // Taken last: who was not seen above because something happened to it just now has left its status here before.
    let mut late = std::mem::take(&mut *LATE.lock());
    let newer: Vec<_> = late.extract_if(.., |(of, _)| *of > generation).collect();
    LATE.lock().splice(0..0, newer);
    late.retain(|(of, _)| *of == generation);
    let mut told = Told::new(generation, bytes);
    for &(_, late) in &late {
        match late {
            Late::Task { id, root, state } => told.task(id, root, state),
            Late::Processor(number) => told.processor(number),
        }
    }
    for (id, root, known) in rest {
        debug_assert_ne!(known.state(), NOBODY);
        told.task(id, root, known.state());
    }
    idle.into_iter().for_each(|number| told.processor(number));
    told.flush();
}

/// Statuses being written, each once.
struct Told<'a> {
    batch: Batch,
    bytes: &'a mut Vec<u8>,
    tasks: HashSet<u64>,
    processors: HashSet<u64>,
}

impl<'a> Told<'a> {
    fn new(generation: u64, bytes: &'a mut Vec<u8>) -> Told<'a> {
        Told {
            batch: Batch {
                generation,
                thread: NONE,
                base: clock::now() / UNIT_NANOS,
                payload: Vec::new(),
            },
            bytes,
            tasks: HashSet::new(),
            processors: HashSet::new(),
        }
    }

    fn put(&mut self, kind: u8, arguments: &[u64]) {
        let payload = &mut self.batch.payload;
        payload.extend([kind, 0]); // no time has passed
        for &argument in arguments {
            number(payload, argument);
        }
        if payload.len() + super::encode::EVENT_MAX > super::encode::BATCH_MAX {
            self.flush();
        }
    }

    fn task(&mut self, id: u64, root: u32, state: u64) {
        if self.tasks.insert(id) {
            self.put(kind::GO_STATUS_STACK, &[id, NONE, state, u64::from(root)]);
        }
    }

    fn processor(&mut self, number: u64) {
        if self.processors.insert(number) {
            self.put(kind::PROC_STATUS, &[number, PROC_IDLE]);
        }
    }

    fn flush(&mut self) {
        if !self.batch.payload.is_empty() {
            self.batch.append_to(self.bytes);
            self.batch.payload.clear();
        }
    }
}

/// What a generation begins with: frequency, and one moment on all clocks.
fn sync_batch(generation: u64) -> Vec<u8> {
    let now = clock::now();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut payload = vec![kind::SYNC, kind::FREQUENCY];
    number(&mut payload, FREQUENCY);
    payload.extend([kind::CLOCK_SNAPSHOT, 0]);
    number(&mut payload, now);
    number(&mut payload, wall.as_secs());
    number(&mut payload, u64::from(wall.subsec_nanos()));
    let batch = Batch {
        generation,
        thread: NONE,
        base: now / UNIT_NANOS,
        payload,
    };
    let mut bytes = Vec::new();
    batch.append_to(&mut bytes);
    bytes
}

/// What a file begins with.
pub(super) fn header() -> Vec<u8> {
    HEADER.to_vec()
}
