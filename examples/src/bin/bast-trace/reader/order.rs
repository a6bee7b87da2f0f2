//! Plays the scheduler: says of an event whether it can happen now, must wait for another thread's, or never can.
//!
//! The rules are those of Go's `internal/trace/order.go`; those of its test validator come with `strict`. A task and a
//! processor have a state and a number, which starts at 0 in each generation and goes up by one with each event that
//! may have to wait. A thread holds at most one processor and one task.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use super::event::{Event, ProcessorState, Range, Raw, TaskState, What};
use super::kind::Kind;
use super::tables::Tables;
use super::wire::NONE;

/// What became of an event.
#[derive(Debug)]
pub(super) enum Step {
    Done,
    /// Other threads go first.
    Wait(Missing),
}

/// What an event waits for.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) what: &'static str,
    pub(super) id: u64,
    pub(super) now: Option<(&'static str, u64)>,
    pub(super) wants: &'static str,
    pub(super) number: Option<u64>,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "wants {} {} {}", self.what, self.id, self.wants)?;
        if let Some(number) = self.number {
            write!(out, " with {} as its last number", number.wrapping_sub(1))?;
        }
        match self.now {
            Some((state, number)) => write!(out, "; it is {state} with number {number}"),
            None => write!(out, "; nothing is known of it"),
        }
    }
}

pub(super) type Advance = Result<Step, String>;

/// A number and the generation in which it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) generation: u64,
    pub(super) number: u64,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) state: TaskState,
    pub(super) number: Number,
    pub(super) regions: Vec<(u64, Rc<str>)>,
    pub(super) ranges: Vec<Range>,
    /// The generation in which its stop of the world began.
    pub(super) stopped_in: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Running,
    Idle,
    Syscall,
    Abandoned,
}

impl Hold {
    const fn name(self) -> &'static str {
        match self {
            Hold::Running => "running",
            Hold::Idle => "idle",
            Hold::Syscall => "in a system call",
            Hold::Abandoned => "abandoned in a system call",
        }
    }

    pub(super) const fn of_status(status: u64) -> Option<Hold> {
        match status {
            1 => Some(Hold::Running),
            2 => Some(Hold::Idle),
            3 => Some(Hold::Syscall),
            4 => Some(Hold::Abandoned),
            _ => None,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[derive(Debug)]
pub(super) struct Processor {
    pub(super) hold: Hold,
    pub(super) number: Number,
    pub(super) sweeps: bool,
}

/// A thread, and what it holds. Also the place from which an event is seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) thread: u64,
    pub(super) processor: u64,
    pub(super) task: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collector {
    Unknown,
    Idle,
    Marking,
}

/// All that is known of the program at a point of the trace.
#[derive(Debug)]
pub(crate) struct Order {
    pub(super) strict: bool,
    pub(super) generation: u64,
    first_generation: Option<u64>,
    pub(super) tasks: HashMap<u64, Task>,
    pub(super) processors: HashMap<u64, Processor>,
    /// What each thread holds: processor, task.
    pub(super) threads: HashMap<u64, (u64, u64)>,
    pub(super) user_tasks: HashSet<u64>,
    pub(super) collector: (Collector, u64),
    pub(super) counted: bool,
    queue: VecDeque<Event>,
}

impl Order {
    pub(super) fn new(strict: bool) -> Order {
        Order {
            strict,
            generation: 0,
            first_generation: None,
            tasks: HashMap::new(),
            processors: HashMap::new(),
            threads: HashMap::new(),
            user_tasks: HashSet::new(),
            collector: (Collector::Unknown, 0),
            counted: false,
            queue: VecDeque::new(),
        }
    }

    pub(super) fn begin(&mut self, generation: u64) {
        self.generation = generation;
        self.first_generation.get_or_insert(generation);
        self.counted = false;
    }

    pub(super) fn is_first(&self) -> bool {
        self.first_generation == Some(self.generation)
    }

    /// What a generation lacks that has to stand on its own.
    pub(super) fn lacks(&self) -> Option<String> {
        let old = |number: &Number| number.generation != self.generation;
        let task = self
            .tasks
            .iter()
            .filter(|(_, task)| old(&task.number))
            .map(|(id, _)| id)
            .min();
        if let Some(id) = task {
            return Some(format!("no status for task {id}, which is alive"));
        }
        let processor = self
            .processors
            .iter()
            .filter(|(_, it)| old(&it.number))
            .map(|(id, _)| id)
            .min();
        if let Some(id) = processor {
            return Some(format!("no status for processor {id}"));
        }
        (!self.counted).then(|| "no number of processors (ProcsChange)".to_owned())
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    pub(super) fn fresh(&self) -> Number {
        Number {
            generation: self.generation,
            number: 0,
        }
    }

    pub(super) fn next(&self, number: u64) -> Number {
        Number {
            generation: self.generation,
            number,
        }
    }

    pub(super) fn follows(&self, wanted: u64, last: Number) -> bool {
        last.generation == self.generation && last.number.checked_add(1) == Some(wanted)
    }

    pub(super) fn emit(&mut self, raw: &Raw, place: Place, what: What) {
        let Place {
            thread,
            processor,
            task,
        } = place;
        self.queue.push_back(Event {
            time: raw.time,
            thread,
            processor,
            task,
            stack: raw.stack(),
            what,
        });
    }

    /// Tries to let an event happen.
    pub(super) fn advance(&mut self, raw: &Raw, thread: u64, tables: &Tables) -> Advance {
        let (processor, task) = match self.threads.get(&thread) {
            Some(&held) if thread != NONE => held,
            _ => (NONE, NONE),
        };
        let mut place = Place {
            thread,
            processor,
            task,
        };
        let step = self.dispatch(raw, &mut place, tables)?;
        if matches!(step, Step::Done) && thread != NONE {
            self.threads.insert(thread, (place.processor, place.task));
        }
        Ok(step)
    }

    fn dispatch(&mut self, raw: &Raw, place: &mut Place, tables: &Tables) -> Advance {
        match raw.kind {
            Kind::ProcStart => self.processor_start(raw, place),
            Kind::ProcStop => self.processor_stop(raw, place),
            Kind::ProcSteal => self.processor_steal(raw, place),
            Kind::ProcStatus => self.processor_status(raw, place),
            Kind::GoCreate | Kind::GoCreateBlocked => self.create(raw, *place),
            Kind::GoCreateSyscall => self.create_in_syscall(raw, place),
            Kind::GoStart => self.start(raw, place),
            Kind::GoDestroy | Kind::GoStop | Kind::GoBlock => self.leave(raw, place),
            Kind::GoDestroySyscall => self.destroy_in_syscall(raw, place),
            Kind::GoUnblock => self.unblock(raw, *place),
            Kind::GoSyscallBegin => self.syscall_begin(raw, *place),
            Kind::GoSyscallEnd => self.syscall_end(raw, *place),
            Kind::GoSyscallEndBlocked => self.syscall_end_blocked(raw, place),
            Kind::GoStatus | Kind::GoStatusStack => self.status(raw, place),
            Kind::GoSwitch | Kind::GoSwitchDestroy => self.switch(raw, place),
            Kind::STWBegin | Kind::GCMarkAssistBegin => self.range_begin(raw, *place),
            Kind::STWEnd | Kind::GCMarkAssistEnd => self.range_end(raw, *place),
            Kind::GCMarkAssistActive => self.mark_assist_active(raw, *place),
            Kind::GCActive | Kind::GCBegin | Kind::GCEnd => self.collector(raw, *place),
            Kind::GCSweepActive | Kind::GCSweepBegin | Kind::GCSweepEnd => self.sweep(raw, *place),
            Kind::HeapAlloc | Kind::HeapGoal => self.heap(raw, *place),
            _ => self.annotation(raw, *place, tables),
        }
    }
}

/// What a place must have for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Must,
    MustNot,
    Either,
}

impl Place {
    /// Whether there are a thread, and a processor and a task as needed.
    pub(super) fn check(self, processor: Needs, task: Needs) -> Result<(), String> {
        if self.thread == NONE {
            return Err("expected a thread, the batch belongs to none".to_owned());
        }
        for (name, held, needs) in [
            ("processor", self.processor, processor),
            ("task", self.task, task),
        ] {
            match needs {
                Needs::Must if held == NONE => {
                    return Err(format!("expected the thread to have a {name}, it has none"));
                }
                Needs::MustNot if held != NONE => {
                    return Err(format!(
                        "expected the thread to have no {name}, it has {name} {held}"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// As most events of a task need it.
    pub(super) fn check_task(self) -> Result<(), String> {
        self.check(Needs::Must, Needs::Must)
    }
}

/// How an event about a processor sees it.
pub(super) const fn seen(hold: Hold) -> ProcessorState {
    match hold {
        Hold::Running | Hold::Syscall => ProcessorState::Taken,
        Hold::Idle | Hold::Abandoned => ProcessorState::Idle,
    }
}

pub(super) fn missing_task(id: u64, task: Option<&Task>, wants: &'static str, number: u64) -> Step {
    let now = task.map(|task| (task.state.name(), task.number.number));
    Step::Wait(Missing {
        what: "task",
        id,
        now,
        wants,
        number: Some(number),
    })
}

pub(super) fn missing_processor(
    id: u64,
    it: Option<&Processor>,
    wants: &'static str,
    number: Option<u64>,
) -> Step {
    let now = it.map(|it| (it.hold.name(), it.number.number));
    Step::Wait(Missing {
        what: "processor",
        id,
        now,
        wants,
        number,
    })
}
