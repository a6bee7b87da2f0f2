//! Reads execution traces in Go's format, version 2: bytes to batches (`wire`), batches to generations (`generation`,
//! `tables`), the events of many threads to one row (`merge`, `order`).
//!
//! One generation is in memory at a time, about a second of the program, and what is known of the living tasks.
//! The format: Go's `internal/trace/tracev2` and the design document "Execution tracer overhaul" (go.dev/issue/60773).

mod event;
mod generation;
mod kind;
mod merge;
mod order;
mod order_processors;
mod order_tasks;
mod order_user;
mod tables;
mod wire;

use std::fmt::Write as _;
use std::io::Read;

pub(crate) use event::{Event, ProcessorState, Range, TaskState, What};
pub(crate) use generation::{Generation, NO_THREAD, Snapshot};
pub(crate) use kind::Kind;
pub(crate) use tables::Tables;
pub(crate) use wire::{Fault, NONE};

use generation::Generations;
use merge::Front;
use order::{Order, Step};

/// How many waiting threads a fault lists.
const LISTED: usize = 6;

/// How exactly a trace is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Also what Go's reader lets pass and its test validator does not.
    pub(crate) strict: bool,
    /// Every generation must stand on its own: a status for all that is alive, the number of processors.
    pub(crate) self_contained: bool,
}

/// Is told of everything in a trace, in order.
pub(crate) trait Visitor {
    /// The header is that of go 1.`minor`.
    fn header(&mut self, _minor: u8) {}

    /// A generation begins, at `time` in nanoseconds.
    fn generation(&mut self, _generation: &Generation, _time: i64) {}

    /// An event as it was written.
    fn written(&mut self, _kind: Kind) {}

    fn event(&mut self, event: &Event, tables: &Tables);

    /// The trace is over, at `time`.
    fn end(&mut self, _time: i64) {}
}

/// What was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// 22 for a header `go 1.22 trace`.
    pub(crate) minor: u8,
    pub(crate) bytes: u64,
    pub(crate) generations: u64,
}

/// Reads a whole trace. The visitor has seen everything before a fault.
pub(crate) fn read(input: impl Read, rules: Rules, visitor: &mut dyn Visitor) -> Result<Extent, Fault> {
    let mut generations = Generations::new(input, rules.strict)?;
    visitor.header(generations.minor);
    let mut player = Player {
        order: Order::new(rules.strict),
        minor: generations.minor,
        last: 0,
        rules,
    };
    let mut count = 0;
    let mut snapshot: Option<Snapshot> = None;
    while let Some(generation) = generations.next()? {
        if let Some(now) = generation.snapshot.filter(|_| rules.strict) {
            now.check(snapshot.as_ref())?;
            snapshot = Some(now);
        }
        player.play(&generation, visitor)?;
        count += 1;
    }
    visitor.end(player.later(player.last));
    Ok(Extent {
        minor: player.minor,
        bytes: generations.offset(),
        generations: count,
    })
}

struct Player {
    order: Order,
    minor: u8,
    /// The time of the last event.
    last: i64,
    rules: Rules,
}

impl Player {
    /// Time never stands still: an event that is not later than the one before comes one nanosecond after it.
    fn later(&self, time: i64) -> i64 {
        time.max(self.last.saturating_add(1))
    }

    fn play(&mut self, generation: &Generation, visitor: &mut dyn Visitor) -> Result<(), Fault> {
        self.last = self.later(generation.start());
        visitor.generation(generation, self.last);
        self.order.begin(generation.number);
        let mut front = Front::new(generation, self.minor)?;
        let mut samples: Vec<_> = generation.tables.samples.iter().collect();
        samples.sort_by_key(|sample| sample.time);
        let mut samples = samples.into_iter().peekable();
        loop {
            let first = front.sources().first().map(|source| source.event.time);
            let sample = samples.next_if(|sample| {
                let time = generation.clock.nanoseconds(sample.time);
                first.is_none_or(|first| time < first)
            });
            if let Some(sample) = sample {
                self.last = self.later(generation.clock.nanoseconds(sample.time));
                let (thread, processor, task) = (sample.thread, sample.processor, sample.task);
                let what = What::Sample;
                let event = Event {
                    time: self.last,
                    thread,
                    processor,
                    task,
                    stack: sample.stack,
                    what,
                };
                visitor.event(&event, &generation.tables);
                continue;
            }
            if first.is_none() {
                break;
            }
            let kind = self.advance(&mut front, generation)?;
            visitor.written(kind);
            while let Some(mut event) = self.order.pop() {
                self.last = self.later(event.time);
                event.time = self.last;
                visitor.event(&event, &generation.tables);
            }
        }
        match self.order.lacks() {
            Some(lack) if self.rules.self_contained => {
                let message = format!(
                    "generation {} does not stand on its own: {lack}",
                    generation.number
                );
                Err(Fault::at(generation.offset, message))
            }
            _ => Ok(()),
        }
    }

    /// Lets the earliest event happen that can.
    fn advance(&mut self, front: &mut Front, generation: &Generation) -> Result<Kind, Fault> {
        if let Some(kind) = self.try_one(front, 0, generation)? {
            return Ok(kind);
        }
        front.sort();
        for index in 1..front.sources().len() {
            if let Some(kind) = self.try_one(front, index, generation)? {
                return Ok(kind);
            }
        }
        Err(self.stuck(front, generation))
    }

    fn try_one(
        &mut self,
        front: &mut Front,
        index: usize,
        generation: &Generation,
    ) -> Result<Option<Kind>, Fault> {
        let source = &front.sources()[index];
        let event = source.event;
        match self.order.advance(&event, source.thread, &generation.tables) {
            Ok(Step::Wait(_)) => Ok(None),
            Ok(Step::Done) => {
                front.step(index, generation, self.minor)?;
                Ok(Some(event.kind))
            }
            Err(message) => {
                let name = event.kind.name();
                let message = format!("{name} in {}: {message}", place(generation, source.thread));
                Err(Fault::at(event.offset, message))
            }
        }
    }

    /// No thread can go on: says what each waits for.
    fn stuck(&mut self, front: &Front, generation: &Generation) -> Fault {
        let mut message = String::new();
        for source in front.sources().iter().take(LISTED) {
            let event = &source.event;
            let wait = match self.order.advance(event, source.thread, &generation.tables) {
                Ok(Step::Wait(missing)) => missing.to_string(),
                Ok(Step::Done) => "could go on".to_owned(),
                Err(message) => message,
            };
            if message.is_empty() {
                let place = place(generation, source.thread);
                _ = write!(
                    message,
                    "{} in {place}: {wait}; no thread can go on",
                    event.kind.name()
                );
            } else {
                let (name, offset, thread) = (event.kind.name(), event.offset, source.thread);
                _ = write!(message, "\n  at byte {offset}, thread {thread}: {name}: {wait}");
            }
        }
        let more = front.sources().len().saturating_sub(LISTED);
        if more > 0 {
            _ = write!(message, "\n  and {more} more threads");
        }
        Fault::at(
            front
                .sources()
                .first()
                .map_or(generation.offset, |source| source.event.offset),
            message,
        )
    }
}

fn place(generation: &Generation, thread: u64) -> String {
    if thread == NO_THREAD {
        return format!("generation {}, a batch of no thread", generation.number);
    }
    format!("generation {}, thread {thread}", generation.number)
}
