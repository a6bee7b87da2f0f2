//! The timed events of one thread, and the heap that says whose comes first.

use super::event::Raw;
use super::generation::{Clock, Generation};
use super::kind::Kind;
use super::tables::Tables;
use super::wire::{Batch, Cursor, Fault};

/// The next event of one thread.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) thread: u64,
    /// Its place in the generation's list.
    index: usize,
    batch: usize,
    position: usize,
    time: Option<i64>,
    pub(super) event: Raw,
}

impl Source {
    /// `None` if the thread has no event.
    fn new(index: usize, generation: &Generation, minor: u8) -> Result<Option<Source>, Fault> {
        let mut source = Source {
            thread: generation.threads[index].0,
            index,
            batch: 0,
            position: 0,
            time: None,
            event: Raw {
                kind: Kind::ProcStop,
                arguments: [0; 4],
                time: 0,
                offset: 0,
            },
        };
        Ok(source.step(generation, minor)?.then_some(source))
    }

    /// Reads the next event. False at the end.
    pub(super) fn step(&mut self, generation: &Generation, minor: u8) -> Result<bool, Fault> {
        let batches = &generation.threads[self.index].1;
        while batches
            .get(self.batch)
            .is_some_and(|batch| batch.payload.len() == self.position)
        {
            self.batch += 1;
            self.position = 0;
            self.time = None;
        }
        let Some(batch) = batches.get(self.batch) else {
            return Ok(false);
        };
        let base = self
            .time
            .unwrap_or_else(|| generation.clock.nanoseconds(batch.time));
        let (event, position) = decode(batch, self.position, base, generation.clock, minor)?;
        check_tables(&event, &generation.tables)?;
        self.position = position;
        self.time = Some(event.time);
        self.event = event;
        Ok(true)
    }
}

fn decode(batch: &Batch, at: usize, base: i64, clock: Clock, minor: u8) -> Result<(Raw, usize), Fault> {
    let mut cursor = Cursor::new(&batch.payload, at, batch.payload_offset);
    let offset = cursor.offset();
    let number = cursor.byte("an event")?;
    let Some(kind) = Kind::new(number).filter(|kind| kind.since() <= minor) else {
        let message =
            format!("expected an event with a time that header go 1.{minor} has, found number {number}");
        return Err(Fault::at(offset, message));
    };
    let since = cursor.varint("the time of an event")?;
    let mut arguments = [0; 4];
    for argument in arguments.iter_mut().take(kind.arguments().len()) {
        *argument = cursor.varint("an argument of an event")?;
    }
    let time = base.saturating_add(clock.nanoseconds(since));
    Ok((
        Raw {
            kind,
            arguments,
            time,
            offset,
        },
        cursor.position(),
    ))
}

fn check_tables(event: &Raw, tables: &Tables) -> Result<(), Fault> {
    for (letter, &id) in event.kind.arguments().iter().zip(&event.arguments) {
        let (what, known) = match letter {
            b's' => ("string", tables.has_string(id)),
            b'k' => ("stack", tables.has_stack(id)),
            _ => continue,
        };
        if !known {
            let name = event.kind.name();
            return Err(Fault::at(
                event.offset,
                format!("{name}: {what} ID {id} is not in the table of its generation"),
            ));
        }
    }
    Ok(())
}

/// Sources, the earliest on top. Ties go as in Go's reader, whose heap is the textbook's too.
#[derive(Debug)]
pub(super) struct Front {
    heap: Vec<Source>,
}

impl Front {
    pub(super) fn new(generation: &Generation, minor: u8) -> Result<Front, Fault> {
        let mut front = Front { heap: Vec::new() };
        for index in 0..generation.threads.len() {
            if let Some(source) = Source::new(index, generation, minor)? {
                front.heap.push(source);
                front.up(front.heap.len() - 1);
            }
        }
        Ok(front)
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.heap
    }

    pub(super) fn sort(&mut self) {
        self.heap.sort_by_key(|source| source.event.time);
    }

    /// After the event of one has happened: reads its next.
    pub(super) fn step(&mut self, index: usize, generation: &Generation, minor: u8) -> Result<(), Fault> {
        if self.heap[index].step(generation, minor)? {
            if self.up(index) == index {
                self.down(index);
            }
            return Ok(());
        }
        let mut at = index;
        while at > 0 {
            let parent = (at - 1) / 2;
            self.heap.swap(parent, at);
            at = parent;
        }
        self.heap.swap_remove(0);
        self.down(0);
        Ok(())
    }

    fn time(&self, index: usize) -> i64 {
        self.heap[index].event.time
    }

    fn up(&mut self, mut at: usize) -> usize {
        while at > 0 && self.time((at - 1) / 2) > self.time(at) {
            self.heap.swap((at - 1) / 2, at);
            at = (at - 1) / 2;
        }
        at
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.time(child) < self.time(least) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}
