//! Where the time of a task went, to the nanosecond: the parts of a ledger add up to its wall time.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::reader::{Event, NONE, ProcessorState, Tables, TaskState, What};

/// Nanoseconds, by what a task did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) running: i64,
    /// Runnable while a processor was idle.
    pub(crate) runnable_idle: i64,
    /// Runnable while all processors were taken.
    pub(crate) runnable_full: i64,
    /// In a system call, holding the processor.
    pub(crate) syscall: i64,
    /// In a system call, the processor given to others.
    pub(crate) syscall_detached: i64,
    /// Waiting, by reason, the network among them.
    pub(crate) blocked: BTreeMap<Rc<str>, Part>,
}

/// A sum and how many times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) nanoseconds: i64,
    pub(crate) count: u64,
}

/// The reason of a wait that has none: since before the trace, or by a direct switch to another task.
const NOT_TOLD: &str = "(not told)";
pub(crate) const NETWORK: &str = "network";

impl Ledger {
    pub(crate) fn runnable(&self) -> i64 {
        self.runnable_idle.saturating_add(self.runnable_full)
    }

    pub(crate) fn network(&self) -> i64 {
        self.blocked.get(NETWORK).map_or(0, |part| part.nanoseconds)
    }

    /// Waiting for all but the network.
    pub(crate) fn waiting(&self) -> i64 {
        let others = self.blocked.iter().filter(|(reason, _)| &***reason != NETWORK);
        others.fold(0, |sum, (_, part)| sum.saturating_add(part.nanoseconds))
    }

    pub(crate) fn syscalls(&self) -> i64 {
        self.syscall.saturating_add(self.syscall_detached)
    }

    pub(crate) fn wall(&self) -> i64 {
        [
            self.running,
            self.runnable(),
            self.waiting(),
            self.network(),
            self.syscalls(),
        ]
        .into_iter()
        .fold(0, i64::saturating_add)
    }

    /// Adds `other` as often as `sign` says: 1 or -1.
    fn combine(&mut self, other: &Ledger, sign: i64) {
        for (ours, theirs) in [
            (&mut self.running, other.running),
            (&mut self.runnable_idle, other.runnable_idle),
            (&mut self.runnable_full, other.runnable_full),
            (&mut self.syscall, other.syscall),
            (&mut self.syscall_detached, other.syscall_detached),
        ] {
            *ours = ours.saturating_add(theirs.saturating_mul(sign));
        }
        for (reason, part) in &other.blocked {
            let ours = self.blocked.entry(reason.clone()).or_default();
            ours.nanoseconds = ours
                .nanoseconds
                .saturating_add(part.nanoseconds.saturating_mul(sign));
            ours.count = ours.count.saturating_add_signed(if sign < 0 {
                -part.count.cast_signed()
            } else {
                part.count.cast_signed()
            });
        }
        self.blocked.retain(|_, part| *part != Part::default());
    }

    pub(crate) fn add(&mut self, other: &Ledger) {
        self.combine(other, 1);
    }

    fn since(&self, before: &Ledger) -> Ledger {
        let mut difference = self.clone();
        difference.combine(before, -1);
        difference
    }
}

/// A user region that is open.
#[derive(Clone, Debug)]
struct Open {
    name: Rc<str>,
    begun: i64,
    before: Ledger,
}

/// A user region that has ended, or was open at an end of the trace.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) name: Rc<str>,
    pub(crate) begun: i64,
    pub(crate) ended: i64,
    pub(crate) ledger: Ledger,
    /// Both its ends lie in the trace.
    pub(crate) whole: bool,
    pub(crate) task: u64,
}

/// A task that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) id: u64,
    /// The function it began with; empty until a stack told it.
    pub(crate) name: Rc<str>,
    pub(crate) label: Rc<str>,
    /// Made within the trace; else it was there when the trace began.
    pub(crate) created: bool,
    pub(crate) begun: i64,
    pub(crate) ended: Option<i64>,
    pub(crate) state: TaskState,
    pub(crate) ledger: Ledger,
    /// How many times it was started.
    pub(crate) runs: u64,
    since: i64,
    /// What `Books::full_until` said then.
    full: i64,
    reason: Rc<str>,
    /// When its processor was taken from it, in a system call.
    detached: Option<i64>,
    regions: Vec<Open>,
}

/// The name of a task whose stack was never seen.
pub(crate) const NAMELESS: &str = "(no stack seen)";

impl Account {
    pub(crate) fn name(&self) -> Rc<str> {
        if self.name.is_empty() {
            Rc::from(NAMELESS)
        } else {
            self.name.clone()
        }
    }

    /// What was spent until `now`, the present state included.
    fn until(&self, now: i64, full: i64) -> Ledger {
        let mut ledger = self.ledger.clone();
        let spent = now.saturating_sub(self.since);
        match self.state {
            TaskState::Running => ledger.running = ledger.running.saturating_add(spent),
            TaskState::Runnable => {
                let full = full.saturating_sub(self.full).clamp(0, spent.max(0));
                ledger.runnable_full = ledger.runnable_full.saturating_add(full);
                ledger.runnable_idle = ledger.runnable_idle.saturating_add(spent.saturating_sub(full));
            }
            TaskState::Syscall => {
                let attached = self.detached.map_or(spent, |at| at.saturating_sub(self.since));
                ledger.syscall = ledger.syscall.saturating_add(attached);
                ledger.syscall_detached = ledger
                    .syscall_detached
                    .saturating_add(spent.saturating_sub(attached));
            }
            TaskState::Waiting => {
                let part = ledger.blocked.entry(self.reason.clone()).or_default();
                part.nanoseconds = part.nanoseconds.saturating_add(spent);
                part.count += 1;
            }
            TaskState::Absent | TaskState::Unknown => {}
        }
        ledger
    }
}

/// Told of what is finished.
pub(crate) trait Sink {
    fn task(&mut self, task: Account);
    fn region(&mut self, region: Region);
}

/// The accounts of all living tasks, and of the processors.
#[derive(Debug, Default)]
pub(crate) struct Books {
    tasks: HashMap<u64, Account>,
    /// The task that is in a system call with a processor.
    syscalls: HashMap<u64, u64>,
    taken: HashMap<u64, bool>,
    taken_count: u64,
    processors: u64,
    /// Time during which all processors were taken, until `full_at`.
    full: i64,
    full_at: i64,
    /// When the generation began, and what `full` was then.
    generation: (i64, i64),
    pub(crate) began: Option<i64>,
}

impl Books {
    pub(crate) fn generation(&mut self, time: i64) {
        if self.began.is_none() {
            self.began = Some(time);
            self.full_at = time;
        }
        self.generation = (time, self.full_until(time));
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Account> {
        self.tasks.get(&id)
    }

    pub(crate) fn processors(&self) -> u64 {
        self.processors
    }

    pub(crate) fn event(&mut self, event: &Event, tables: &Tables, sink: &mut dyn Sink) {
        match event.what {
            What::Task {
                id,
                from,
                to,
                reason,
                named,
            } => {
                let reason = if from == TaskState::Running {
                    tables.string(reason)
                } else {
                    None
                };
                self.name(id, named, tables);
                if from != to {
                    self.task(event, id, from, to, reason, sink);
                    self.name(id, named, tables);
                }
            }
            What::Processor { id, from, to } => self.processor(event.time, id, from, to),
            What::Processors { count } => {
                self.full_until(event.time);
                self.processors = count;
            }
            What::Label { text } => {
                if let (Some(task), Some(text)) = (self.tasks.get_mut(&event.task), tables.string(text)) {
                    task.label = text;
                }
            }
            What::RegionBegin { name, .. } => {
                let full = self.full_until(event.time);
                let name = tables.string(name).unwrap_or_default();
                if let Some(task) = self.tasks.get_mut(&event.task) {
                    let before = task.until(event.time, full);
                    task.regions.push(Open {
                        name,
                        begun: event.time,
                        before,
                    });
                }
            }
            What::RegionEnd { name, .. } => {
                self.region_end(event, &tables.string(name).unwrap_or_default(), sink)
            }
            _ => {}
        }
    }

    /// The first stack seen of a task names it.
    pub(crate) fn name(&mut self, id: u64, stack: u64, tables: &Tables) {
        if let Some(task) = self.tasks.get_mut(&id)
            && task.name.is_empty()
            && let Some(name) = tables.root(stack)
        {
            task.name = name;
        }
    }

    /// The time during which all processors were taken, from the start of the trace to `now`.
    fn full_until(&mut self, now: i64) -> i64 {
        let all = if self.processors == 0 {
            self.taken.len() as u64
        } else {
            self.processors
        };
        if self.taken_count >= all.max(1) {
            self.full = self.full.saturating_add(now.saturating_sub(self.full_at));
        }
        self.full_at = now;
        self.full
    }

    fn processor(&mut self, now: i64, id: u64, from: ProcessorState, to: ProcessorState) {
        self.full_until(now);
        let taken = to == ProcessorState::Taken;
        if self.taken.insert(id, taken).unwrap_or(false) != taken {
            self.taken_count = if taken {
                self.taken_count + 1
            } else {
                self.taken_count.saturating_sub(1)
            };
        }
        if from != to
            && !taken
            && let Some(id) = self.syscalls.remove(&id)
            && let Some(task) = self.tasks.get_mut(&id)
        {
            task.detached = Some(now);
        }
    }

    fn task(
        &mut self,
        event: &Event,
        id: u64,
        from: TaskState,
        to: TaskState,
        reason: Option<Rc<str>>,
        sink: &mut dyn Sink,
    ) {
        let now = event.time;
        let full = self.full_until(now);
        let task = self.tasks.entry(id).or_insert_with(|| Account {
            id,
            name: Rc::default(),
            label: Rc::default(),
            created: from == TaskState::Absent,
            begun: now,
            ended: None,
            state: from,
            ledger: Ledger::default(),
            runs: 0,
            since: now,
            full,
            reason: Rc::default(),
            detached: None,
            regions: Vec::new(),
        });
        if from == TaskState::Unknown {
            // It has been in this state since the generation began.
            (task.since, task.full) = self.generation;
            task.begun = task.since;
        } else {
            task.ledger = task.until(now, full);
            task.since = now;
            task.full = full;
        }
        if from == TaskState::Syscall {
            self.syscalls.retain(|_, other| *other != id);
        }
        task.detached = None;
        task.state = to;
        let told = reason.filter(|reason| !reason.is_empty());
        task.reason = told.unwrap_or_else(|| Rc::from(NOT_TOLD));
        match to {
            TaskState::Running => task.runs += 1,
            TaskState::Syscall if event.processor == NONE => task.detached = Some(task.since),
            TaskState::Syscall => _ = self.syscalls.insert(event.processor, id),
            TaskState::Absent => self.close(id, now, true, sink),
            _ => {}
        }
    }

    fn region_end(&mut self, event: &Event, name: &Rc<str>, sink: &mut dyn Sink) {
        let full = self.full_until(event.time);
        let Some(task) = self.tasks.get_mut(&event.task) else {
            return;
        };
        let spent = task.until(event.time, full);
        let (ended, id) = (event.time, task.id);
        let region = match task.regions.pop() {
            Some(Open { name, begun, before }) => Region {
                name,
                begun,
                ended,
                ledger: spent.since(&before),
                whole: true,
                task: id,
            },
            // It began before the trace.
            None => Region {
                name: name.clone(),
                begun: task.begun,
                ended,
                ledger: spent,
                whole: false,
                task: id,
            },
        };
        sink.region(region);
    }

    fn close(&mut self, id: u64, now: i64, ended: bool, sink: &mut dyn Sink) {
        let full = self.full_until(now);
        let Some(mut task) = self.tasks.remove(&id) else {
            return;
        };
        task.ledger = task.until(now, full);
        task.ended = ended.then_some(now);
        while let Some(Open { name, begun, before }) = task.regions.pop() {
            let ledger = task.ledger.since(&before);
            sink.region(Region {
                name,
                begun,
                ended: now,
                ledger,
                whole: false,
                task: id,
            });
        }
        sink.task(task);
    }

    /// The trace is over: everything still open is closed, the tasks in the order of their numbers.
    pub(crate) fn end(&mut self, now: i64, sink: &mut dyn Sink) {
        let mut ids: Vec<_> = self.tasks.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.close(id, now, false, sink);
        }
    }
}
