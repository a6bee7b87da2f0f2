//! A reader of execution traces, for tests: just enough to find events by kind. Whether a trace is right is for Go's tools.
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

pub(crate) const HEAP_ALLOC: u8 = 37;
pub(crate) const GO_STOP: u8 = 19;
pub(crate) const GO_LABEL: u8 = 39;
pub(crate) const USER_LOG: u8 = 44;

/// A writer whose bytes can be looked at.
#[derive(Clone, Default)]
pub(crate) struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Bytes {
    pub(crate) fn get(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// The generations that have been written whole, while the trace goes on.
    pub(crate) fn ended(&self) -> Vec<u8> {
        let mut trace = self.get();
        let mut rest = trace.get(HEADER..).unwrap_or_default();
        let mut ended = 0;
        while let Some(part) = next_part(&mut rest) {
            if matches!(part, Part::End) {
                ended = trace.len() - rest.len();
            }
        }
        trace.truncate(ended);
        trace
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event, or a record of strings as one: `words` has its numbers after the time.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) generation: u64,
    pub(crate) time: u64,
    pub(crate) kind: u8,
    pub(crate) words: Vec<u64>,
}

/// Bytes before the first generation.
const HEADER: usize = 16;

/// None: it is cut off.
fn try_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(value)
}

fn number(bytes: &mut &[u8]) -> u64 {
    try_number(bytes).expect("the trace goes on")
}

/// What a trace consists of.
enum Part<'a> {
    Batch {
        generation: u64,
        time: u64,
        payload: &'a [u8],
    },
    /// Of a generation.
    End,
}

/// None: nothing is left, or what is left is cut off.
fn next_part<'a>(rest: &mut &'a [u8]) -> Option<Part<'a>> {
    let (&first, mut after) = rest.split_first()?;
    let part = if first == 52 {
        Part::End
    } else {
        assert_eq!(first, 1, "a batch");
        let [generation, _thread, time, size] = [(); 4].map(|()| try_number(&mut after));
        let payload;
        (payload, after) = after.split_at_checked(size? as usize)?;
        Part::Batch {
            generation: generation?,
            time: time?,
            payload,
        }
    };
    *rest = after;
    Some(part)
}

/// The generation, the first time and the payload of every batch of a trace that is whole.
fn batches(trace: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let mut rest = &trace[HEADER..];
    let parts = std::iter::from_fn(|| next_part(&mut rest));
    let batches = parts
        .filter_map(|part| match part {
            Part::Batch {
                generation,
                time,
                payload,
            } => Some((generation, time, payload)),
            Part::End => None,
        })
        .collect();
    assert!(rest.is_empty(), "the trace is cut off");
    batches
}

/// How many numbers follow an event's time.
fn words_of(kind: u8) -> usize {
    match kind {
        11 | 17 | 18 | 23 | 24 => 0,
        15 | 37 | 39 => 1,
        9 | 10 | 13 | 16 | 19 | 20 | 22 | 41 => 2,
        12 | 14 | 21 | 42 | 43 | 47 => 3,
        40 | 44 | 48 => 4,
        _ => panic!("an event of kind {kind}"),
    }
}

/// All events, by time, and the strings of each generation.
pub(crate) fn read(trace: &[u8]) -> (Vec<Event>, HashMap<(u64, u64), String>) {
    let (mut events, mut strings) = (Vec::new(), HashMap::new());
    for (generation, mut time, mut payload) in batches(trace) {
        match payload.first() {
            None | Some(2 | 6 | 50) => {} // stacks, samples, clocks
            Some(4) => {
                payload = &payload[1..];
                while let Some((5, after)) = payload.split_first() {
                    payload = after;
                    let [id, size] = [(); 2].map(|()| number(&mut payload));
                    let (text, after) = payload.split_at(size as usize);
                    payload = after;
                    strings.insert((generation, id), String::from_utf8_lossy(text).into_owned());
                }
            }
            Some(_) => {
                while let Some((&kind, after)) = payload.split_first() {
                    payload = after;
                    time += number(&mut payload);
                    let words = (0..words_of(kind)).map(|_| number(&mut payload)).collect();
                    events.push(Event {
                        generation,
                        time,
                        kind,
                        words,
                    });
                }
            }
        }
    }
    events.sort_by_key(|event| event.time);
    (events, strings)
}

/// The generations and texts of all events of `kind`, whose word at `place` is a string.
pub(crate) fn texts(trace: &[u8], kind: u8, place: usize) -> Vec<(u64, String)> {
    let (events, strings) = read(trace);
    let those = events.into_iter().filter(|event| event.kind == kind);
    those
        .map(|event| {
            (
                event.generation,
                strings[&(event.generation, event.words[place])].clone(),
            )
        })
        .collect()
}

/// A CPU sample, with the names of the functions on its stack, the innermost first.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) generation: u64,
    pub(crate) time: u64,
    pub(crate) thread: u64,
    pub(crate) processor: u64,
    pub(crate) task: u64,
    pub(crate) functions: Vec<String>,
}

/// All CPU samples. Each must have its stack.
pub(crate) fn samples(trace: &[u8]) -> Vec<Sample> {
    let (_, strings) = read(trace);
    let (mut samples, mut stacks) = (Vec::new(), HashMap::new());
    for (generation, _, mut payload) in batches(trace) {
        let Some((&kind, after)) = payload.split_first() else {
            continue;
        };
        payload = after;
        while matches!(kind, 2 | 6) && !payload.is_empty() {
            assert_eq!(payload[0], kind + 1, "records of one kind");
            payload = &payload[1..];
            if kind == 2 {
                let [id, frames] = [(); 2].map(|()| number(&mut payload));
                let frames = (0..frames).map(|_| [(); 4].map(|()| number(&mut payload))[1]);
                stacks.insert((generation, id), frames.collect::<Vec<_>>());
            } else {
                samples.push((generation, [(); 5].map(|()| number(&mut payload))));
            }
        }
    }
    let name = |generation, frame: &u64| strings[&(generation, *frame)].clone();
    samples
        .into_iter()
        .map(|(generation, [time, thread, processor, task, stack])| Sample {
            generation,
            time,
            thread,
            processor,
            task,
            functions: stacks[&(generation, stack)]
                .iter()
                .map(|frame| name(generation, frame))
                .collect(),
        })
        .collect()
}
