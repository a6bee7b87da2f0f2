//! Batches to generations: the largest piece that is held in memory.

use std::collections::HashMap;
use std::io::Read;

use super::tables::Tables;
use super::wire::{Batch, Cursor, Fault, NONE, Piece, Pieces};

const STACKS: u8 = 2;
const STRINGS: u8 = 4;
const CPU_SAMPLES: u8 = 6;
const FREQUENCY: u8 = 8;
const SYNC: u8 = 50;
const CLOCK_SNAPSHOT: u8 = 51;

/// One moment on three clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    offset: u64,
    trace: u64,
    monotonic: u64,
    pub(crate) seconds: u64,
    pub(crate) nanoseconds: u64,
}

/// One generation of a trace.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) offset: u64,
    pub(crate) number: u64,
    pub(crate) tables: Tables,
    /// The batches of each thread, in their order; threads in the order of their first.
    pub(crate) threads: Vec<(u64, Vec<Batch>)>,
    by_thread: HashMap<u64, usize>,
    pub(crate) clock: Clock,
    pub(crate) snapshot: Option<Snapshot>,
    /// The earliest time of a batch, in units.
    start: u64,
}

/// The length of a unit of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    units_a_second: u64,
    nanoseconds_a_unit: f64,
}

impl Clock {
    fn new(units_a_second: u64) -> Clock {
        #[expect(
            clippy::cast_precision_loss,
            reason = "Go's reader converts so, and the times are to be the same"
        )]
        let nanoseconds_a_unit = 1.0 / (units_a_second as f64 / 1e9);
        Clock {
            units_a_second,
            nanoseconds_a_unit,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "as Go's reader converts"
    )]
    pub(crate) fn nanoseconds(self, units: u64) -> i64 {
        (units as f64 * self.nanoseconds_a_unit) as i64
    }
}

impl Generation {
    fn new(batch: &Batch) -> Generation {
        Generation {
            offset: batch.offset,
            number: batch.generation,
            tables: Tables::default(),
            threads: Vec::new(),
            by_thread: HashMap::new(),
            clock: Clock {
                units_a_second: 0,
                nanoseconds_a_unit: 0.0,
            },
            snapshot: None,
            start: batch.time,
        }
    }

    /// When it begins, in nanoseconds.
    pub(crate) fn start(&self) -> i64 {
        self.clock.nanoseconds(self.start)
    }

    fn add(&mut self, batch: Batch, minor: u8) -> Result<(), Fault> {
        if self.start == 0 || batch.time < self.start {
            self.start = batch.time;
        }
        match batch.payload.first() {
            _ if batch.experiment.is_some() => return experiment(&batch),
            Some(&STRINGS) => return self.tables.add_strings(&batch),
            Some(&STACKS) => return self.tables.add_stacks(&batch),
            Some(&CPU_SAMPLES) => return self.tables.add_samples(&batch),
            Some(&FREQUENCY) if minor < 25 => return self.sync(&batch, 0, minor),
            Some(&SYNC) if minor >= 25 => return self.sync(&batch, 1, minor),
            _ => {}
        }
        let next = self.threads.len();
        let index = *self.by_thread.entry(batch.thread).or_insert(next);
        if index == next {
            self.threads.push((batch.thread, Vec::new()));
        }
        self.threads[index].1.push(batch);
        Ok(())
    }

    fn sync(&mut self, batch: &Batch, at: usize, minor: u8) -> Result<(), Fault> {
        let mut cursor = Cursor::new(&batch.payload, at, batch.payload_offset);
        let offset = cursor.offset();
        if cursor.byte("the frequency")? != FREQUENCY {
            return Err(Fault::at(
                offset,
                format!("expected the frequency (byte {FREQUENCY}) of the generation"),
            ));
        }
        let frequency = cursor.varint("the frequency")?;
        if self.clock.units_a_second != 0 {
            return Err(Fault::at(offset, "a second frequency in one generation"));
        }
        if frequency == 0 {
            return Err(Fault::at(offset, "the frequency is 0, times cannot be told"));
        }
        self.clock = Clock::new(frequency);
        if minor < 25 {
            return Ok(());
        }
        if cursor.is_empty() {
            return Err(Fault::at(
                cursor.offset(),
                "no clock snapshot behind the frequency",
            ));
        }
        let offset = cursor.offset();
        if cursor.byte("a clock snapshot")? != CLOCK_SNAPSHOT {
            return Err(Fault::at(
                offset,
                format!("expected a clock snapshot (byte {CLOCK_SNAPSHOT})"),
            ));
        }
        self.snapshot = Some(Snapshot {
            offset,
            trace: batch
                .time
                .saturating_add(cursor.varint("the time of the clock snapshot")?),
            monotonic: cursor.varint("the monotonic clock")?,
            seconds: cursor.varint("the seconds of the wall clock")?,
            nanoseconds: cursor.varint("the nanoseconds of the wall clock")?,
        });
        Ok(())
    }

    fn finish(self, minor: u8, strict: bool) -> Result<Generation, Fault> {
        if self.clock.units_a_second == 0 {
            return Err(Fault::at(
                self.offset,
                format!("generation {} has no frequency", self.number),
            ));
        }
        if minor >= 25 && self.snapshot.is_none() {
            return Err(Fault::at(
                self.offset,
                format!("generation {} has no clock snapshot", self.number),
            ));
        }
        self.tables.finish(strict)?;
        Ok(self)
    }
}

impl Snapshot {
    /// Whether all three clocks stand and went on since the generation before.
    pub(crate) fn check(&self, before: Option<&Snapshot>) -> Result<(), Fault> {
        if self.trace == 0 || self.monotonic == 0 || (self.seconds, self.nanoseconds) == (0, 0) {
            return Err(Fault::at(
                self.offset,
                "the clock snapshot has a clock that stands at 0",
            ));
        }
        let Some(before) = before else { return Ok(()) };
        let wall = (self.seconds, self.nanoseconds) > (before.seconds, before.nanoseconds);
        if !wall || self.trace <= before.trace || self.monotonic <= before.monotonic {
            let message = "the clock snapshot has a clock that did not go on since the generation before";
            return Err(Fault::at(self.offset, message));
        }
        Ok(())
    }
}

fn experiment(batch: &Batch) -> Result<(), Fault> {
    match batch.experiment {
        Some(1) | None => Ok(()),
        Some(other) => {
            let message = format!("experimental batch number {other}, only 1 (allocations) is known");
            Err(Fault::at(batch.offset, message))
        }
    }
}

/// Reads one generation after the other.
#[derive(Debug)]
pub(crate) struct Generations<R> {
    pieces: Pieces<R>,
    pub(crate) minor: u8,
    strict: bool,
    last: u64,
    /// Before header 1.26 only the first batch of the next generation shows that one has ended.
    next_batch: Option<Batch>,
}

impl<R: Read> Generations<R> {
    pub(crate) fn new(input: R, strict: bool) -> Result<Generations<R>, Fault> {
        let (pieces, minor) = Pieces::new(input)?;
        Ok(Generations {
            pieces,
            minor,
            strict,
            last: 0,
            next_batch: None,
        })
    }

    /// Bytes read until now.
    pub(crate) const fn offset(&self) -> u64 {
        self.pieces.offset()
    }

    pub(crate) fn next(&mut self) -> Result<Option<Generation>, Fault> {
        let mut generation: Option<Generation> = None;
        loop {
            let piece = match self.next_batch.take() {
                Some(batch) => Piece::Batch(batch),
                None => self.pieces.next()?,
            };
            match piece {
                Piece::EndOfFile(offset) => return self.end_of_file(generation, offset),
                Piece::EndOfGeneration(offset) => {
                    let Some(generation) = generation.filter(|_| self.minor >= 26) else {
                        let message = "the end of a generation (byte 52) where none can be, expected a batch";
                        return Err(Fault::at(offset, message));
                    };
                    return self.finish(generation);
                }
                Piece::Batch(batch) => {
                    if let Some(current) = &generation
                        && batch.generation == current.number.wrapping_add(1)
                        && self.minor < 26
                    {
                        self.next_batch = Some(batch);
                        return generation
                            .map(|generation| self.finish(generation))
                            .transpose()
                            .map(Option::flatten);
                    }
                    self.admit(&batch, generation.as_ref())?;
                    generation
                        .get_or_insert_with(|| Generation::new(&batch))
                        .add(batch, self.minor)?;
                }
            }
        }
    }

    /// Whether a batch may stand here.
    fn admit(&self, batch: &Batch, current: Option<&Generation>) -> Result<(), Fault> {
        let number = batch.generation;
        if number == 0 {
            return Err(Fault::at(
                batch.offset,
                "a batch of generation 0, which is not a number of one",
            ));
        }
        if batch.experiment.is_some() && self.minor < 23 {
            return Err(Fault::at(
                batch.offset,
                "an experimental batch, which this header version does not have",
            ));
        }
        match current {
            Some(current) if current.number != number => {
                let ours = current.number;
                let message = format!(
                    "a batch of generation {number} within generation {ours}: the end of {ours} is missing, or they are mixed"
                );
                Err(Fault::at(batch.offset, message))
            }
            None if self.last != 0 && number != self.last.wrapping_add(1) => {
                let message = format!("generation {number} follows generation {}", self.last);
                Err(Fault::at(batch.offset, message))
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, generation: Generation) -> Result<Option<Generation>, Fault> {
        self.last = generation.number;
        generation.finish(self.minor, self.strict).map(Some)
    }

    fn end_of_file(
        &mut self,
        generation: Option<Generation>,
        offset: u64,
    ) -> Result<Option<Generation>, Fault> {
        match generation {
            None if self.last == 0 => Err(Fault::at(
                offset,
                "the file ends after its header, expected a generation",
            )),
            None => Ok(None),
            Some(current) if self.minor >= 26 => {
                let number = current.number;
                let message =
                    format!("the file ends within generation {number}, before its end (byte 52): truncated?");
                Err(Fault::at(offset, message))
            }
            Some(current) => self.finish(current),
        }
    }
}

/// The thread of batches that belong to none.
pub(crate) const NO_THREAD: u64 = NONE;
