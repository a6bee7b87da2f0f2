//! CPU samples in the trace: what the workers' rings hold (`profile`), written when a generation ends. By the closer alone.

use super::encode::{UNIT_NANOS, kind, number, table};
use super::symbols::{self, Part, Symbol};
use super::tables::{self, Cache, PASSING_FROM};
use crate::primitive::atomic::{AtomicU64, Relaxed};
use crate::profile::{self, TaskSeen};
use std::collections::HashMap;
use std::time::Duration;

/// How often the rings are emptied: the fastest sampler fills a third of one meanwhile.
pub(super) const DRAIN: Duration = Duration::from_millis(80);
/// Samples that may wait for the end of a generation.
const WAITING_MAX: usize = 1 << 17;
/// Addresses whose names are remembered.
const NAMES_MAX: usize = 1 << 16;

/// Samples in the trace, and those that are not: the last trace's, until the next begins.
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many were written and lost since the trace began.
pub(super) fn counts() -> (u64, u64) {
    (WRITTEN.load(Relaxed), LOST.load(Relaxed))
}

/// A trace begins.
pub(super) fn clear_counts() {
    WRITTEN.store(0, Relaxed);
    LOST.store(0, Relaxed);
}

/// A stack that is known in one generation alone: its number, and its frames by theirs, innermost first.
pub(super) type Passing = (u64, Vec<u32>);

#[derive(Debug)]
struct Waiting {
    nanos: u64,
    thread: u64,
    processor: Option<u64>,
    task: Option<TaskSeen>,
    addresses: Box<[usize]>,
}

/// What the closer has of the workers' samples. The workers are sampled until this is dropped.
#[derive(Debug)]
pub(super) struct Samples {
    waiting: Vec<Waiting>,
    cache: Cache,
    names: HashMap<usize, Vec<Symbol>>,
    /// When the trace began, or went on after a pause.
    since: u64,
}

impl Samples {
    /// Begins to sample.
    ///
    /// # Errors
    /// As for [`profile::start`].
    pub(super) fn begin(hz: u32) -> std::io::Result<Samples> {
        profile::start(hz)?;
        Ok(Samples {
            waiting: Vec::new(),
            cache: Cache::new(),
            names: HashMap::new(),
            since: 0,
        })
    }

    /// What was seen before `since` is of no trace.
    pub(super) fn forget(&mut self, since: u64) {
        self.since = since;
        self.collect();
        self.waiting.retain(|sample| sample.nanos >= since);
    }

    /// Empties the rings.
    pub(super) fn collect(&mut self) {
        let waiting = &mut self.waiting;
        let mut no_room = 0;
        let lost = profile::drain(|thread, sample| {
            if waiting.len() >= WAITING_MAX {
                no_room += 1;
                return;
            }
            waiting.push(Waiting {
                nanos: sample.nanos,
                thread,
                processor: sample.processor,
                task: sample.task,
                addresses: sample.addresses().into(),
            });
        });
        LOST.fetch_add(lost + no_room, Relaxed);
    }

    /// Appends those of a generation that was from `began` to `ended`; gives the stacks that they need.
    pub(super) fn append_to(
        &mut self,
        to: &mut Vec<u8>,
        generation: u64,
        (began, ended): (u64, u64),
    ) -> Vec<Passing> {
        self.collect();
        let since = self.since;
        let mut own: Vec<_> = self
            .waiting
            .extract_if(.., |sample| sample.nanos < ended)
            .filter(|sample| sample.nanos >= since)
            .collect();
        if own.is_empty() {
            return Vec::new();
        }
        own.sort_by_key(|sample| sample.nanos);
        WRITTEN.fetch_add(own.len() as u64, Relaxed);
        let mut numbers = HashMap::new();
        let mut stacks: Vec<Passing> = Vec::new();
        let base = began / UNIT_NANOS;
        let own: Vec<_> = own
            .iter()
            .map(|sample| {
                // The stack of its task's entry function.
                let task = sample.task;
                let cache = &mut self.cache;
                let root = task.map_or(0, |task| cache.root((task.entry)(), task.code, task.spawned));
                let stack = *numbers.entry((root, &sample.addresses)).or_insert_with(|| {
                    let id = PASSING_FROM + stacks.len() as u64;
                    stacks.push((id, self.frames(&sample.addresses, root)));
                    id
                });
                // One that its thread was about to leave when the rings were emptied last comes late.
                (sample, (sample.nanos / UNIT_NANOS).max(base), stack)
            })
            .collect();
        table(
            to,
            (generation, base),
            kind::CPU_SAMPLES,
            own,
            |to, (sample, time, stack)| {
                to.push(kind::CPU_SAMPLE);
                let processor = sample.processor.unwrap_or(super::encode::NONE);
                let task = sample.task.map_or(0, |task| task.id);
                for word in [time, sample.thread, processor, task, stack] {
                    number(to, word);
                }
            },
        );
        stacks
    }

    /// The frames of a sample, above its task's entry function.
    fn frames(&mut self, addresses: &[usize], root: u32) -> Vec<u32> {
        if self.names.len() > NAMES_MAX {
            self.names.clear();
        }
        // Names are found by return addresses, one behind the call; the first is that of the instruction itself.
        let first = addresses.first().map(|address| address.wrapping_add(1));
        let behind: Vec<_> = first
            .into_iter()
            .chain(addresses.iter().skip(1).copied())
            .collect();
        for &address in &behind {
            let found = self.names.entry(address).or_default();
            if found.is_empty() {
                symbols::resolve(address, |symbol| found.push(symbol));
            }
        }
        let mut lines: Vec<&Symbol> = behind.iter().flat_map(|address| &self.names[address]).collect();
        // Unlike the stack of one who waits this one begins where the CPU is, be that in the runtime.
        let theirs = lines.iter().rposition(|symbol| symbol.part == Part::Program);
        if root != 0 {
            lines.truncate(theirs.map_or(1, |last| last + 1));
        }
        tables::frames_above(&lines, root)
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        profile::stop();
    }
}
