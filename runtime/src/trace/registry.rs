//! All that can appear in a trace, of all runtimes of the process: pens, processors, tables of records, and the runtimes
//! themselves, which are asked when a trace begins.

use super::pen::Pen;
use super::record::{ProcRecord, Record};
use crate::primitive::atomic::{AcqRel, Acquire, AtomicU64, Relaxed};
use crate::sys::lock::{Lock, Rank};
use crate::time::ticks;
use std::sync::{Arc, OnceLock, Weak};

/// Records of a table.
pub(crate) const TABLE_LEN: usize = 512;

/// A runtime, as the start of a trace sees it.
pub(crate) trait Source: Send + Sync {
    /// Tells what each worker does, once it is certain that the worker has seen that the trace has begun.
    fn tell_workers(&self);
    /// Tells of each task that is not told of.
    fn tell_tasks(&self);
}

/// The pen of all threads that are no workers.
pub(super) struct Outside {
    pub(super) pen: Arc<Pen>,
    /// No worker holds it: such threads spawn with it.
    pub(super) processor: &'static ProcRecord,
}

static PENS: Lock<Vec<Arc<Pen>>> = Lock::new(Rank::Trace, Vec::new());
static PROCESSORS: Lock<Vec<&'static ProcRecord>> = Lock::new(Rank::Trace, Vec::new());
static TABLES: Lock<Vec<&'static [Record; TABLE_LEN]>> = Lock::new(Rank::Trace, Vec::new());
static SOURCES: Lock<Vec<Weak<dyn Source>>> = Lock::new(Rank::Trace, Vec::new());
static OUTSIDE: OnceLock<Outside> = OnceLock::new();
static RUNTIMES: AtomicU64 = AtomicU64::new(0);

/// A runtime begins; gives its number.
pub(crate) fn add_runtime() -> u64 {
    ticks::note(); // so that a trace that begins later knows the counter's rate
    RUNTIMES.fetch_add(1, Relaxed)
}

/// The runtime can be asked now.
pub(crate) fn add_source(source: Weak<dyn Source>) {
    let mut sources = SOURCES.lock();
    sources.retain(|source| source.strong_count() > 0);
    sources.push(source);
}

pub(super) fn sources() -> Vec<Arc<dyn Source>> {
    let sources: Vec<_> = SOURCES.lock().clone();
    sources.iter().filter_map(Weak::upgrade).collect()
}

/// The record of a new processor: the lowest number that no runtime uses.
pub(crate) fn add_processor() -> &'static ProcRecord {
    let mut all = PROCESSORS.lock();
    // Acquire: pairs with the Release in `give_up`: what its last holder has set is seen.
    let free = all
        .iter()
        .find(|record| record.used.compare_exchange(false, true, AcqRel, Relaxed).is_ok());
    if let Some(&free) = free {
        return free;
    }
    let record: &'static ProcRecord = Box::leak(Box::new(ProcRecord::new(all.len() as u64)));
    all.push(record);
    record
}

pub(super) fn processors() -> Vec<&'static ProcRecord> {
    PROCESSORS.lock().clone()
}

/// How many processors run tasks.
pub(super) fn processors_used() -> u64 {
    let all = PROCESSORS.lock();
    let used = all.iter().filter(|record| record.used.load(Acquire)).count() as u64;
    used.saturating_sub(u64::from(OUTSIDE.get().is_some())).max(1)
}

/// A new table of records, never freed.
pub(crate) fn new_table() -> &'static [Record; TABLE_LEN] {
    let table: Box<[Record]> = (0..TABLE_LEN).map(|_| Record::new()).collect();
    let table: Box<[Record; TABLE_LEN]> = table.try_into().expect("of that length");
    Box::leak(table)
}

/// The table is in use from now on.
pub(crate) fn add_table(table: &'static [Record; TABLE_LEN]) {
    TABLES.lock().push(table);
}

pub(super) fn tables() -> Vec<&'static [Record; TABLE_LEN]> {
    TABLES.lock().clone()
}

/// The pen of a new worker.
pub(crate) fn add_pen() -> Arc<Pen> {
    let pen = Arc::new(Pen::of_worker(crate::sys::thread::own_number()));
    let mut pens = PENS.lock();
    if !super::session::is_busy() {
        pens.retain(in_use); // else the closer does it: it has yet to take what they wrote
    }
    pens.push(Arc::clone(&pen));
    drop(pens);
    pen
}

/// The worker ends: the reader sees it without a task and a processor.
pub(crate) fn end_pen(pen: &Pen) {
    pen.write(super::pen::Ink::strip);
}

fn in_use(pen: &Arc<Pen>) -> bool {
    Arc::strong_count(pen) > 1
}

/// Takes the pens whose workers are gone off the list. By the closer, which has closed all those that it was given.
pub(super) fn forget(closed: Vec<Arc<Pen>>) {
    let gone: Vec<_> = closed.iter().filter(|pen| Arc::strong_count(pen) == 2).collect();
    PENS.lock()
        .retain(|listed| !gone.iter().any(|pen| Arc::ptr_eq(listed, pen)));
}

pub(super) fn pens() -> Vec<Arc<Pen>> {
    PENS.lock().clone()
}

/// See [`Outside`].
pub(super) fn outside() -> &'static Outside {
    OUTSIDE.get_or_init(|| Outside {
        pen: Arc::new(Pen::of_all(u64::from(std::process::id()))),
        processor: add_processor(),
    })
}
