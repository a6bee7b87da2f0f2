//! Strings, frames and stacks by number, the same for the whole trace; each generation is given all of them anew.
//!
//! A stack here is one frame or two: the place of a call, by `#[track_caller]`, above the entry function of the task.
//! So there is nothing to unwind. Numbers are looked up in the sheet's own cache first, by the addresses of what they
//! stand for; the lock is for what a sheet has not met yet.

use super::encode::{cut, kind, number, table};
use crate::sys::lock::{Lock, Rank};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::OnceLock;

/// Most different strings that are kept: names are made up by programs.
const STRINGS_MAX: usize = 1 << 18;
/// Strings of one generation alone (log messages) have numbers from here on.
const PASSING_FROM: u64 = 1 << 32;
/// Invented program counters: one a frame, so far apart that a tool that subtracts one stays in it.
const PC_FROM: u64 = 0x10_0000;
const PC_STEP: u64 = 16;
/// Places in a sheet's cache.
const PLACES: usize = 128;

#[derive(Debug, Default)]
struct Tables {
    strings: Numbers<Box<str>>,
    frames: Numbers<Frame>,
    stacks: Numbers<(u32, u32)>,
    /// Of generation, number.
    passing: Vec<(u64, u64, Box<str>)>,
    passed: u64,
}

/// Function, file, line.
type Frame = (u32, u32, u32);

/// Values by number from 1 on, and back.
#[derive(Debug)]
struct Numbers<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Numbers<T> {
        Numbers {
            values: Vec::new(),
            numbers: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Numbers<T> {
    fn of(&mut self, value: T) -> u32 {
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            self.values.len() as u32
        })
    }
}

impl Tables {
    fn string(&mut self, text: &str) -> u32 {
        let text = cut(text);
        if text.is_empty() {
            return 0;
        }
        if let Some(&known) = self.strings.numbers.get(text) {
            return known;
        }
        if self.strings.values.len() >= STRINGS_MAX {
            return self.strings.of("(too many different names)".into());
        }
        self.strings.of(text.into())
    }

    fn frame(&mut self, function: &str, at: &Location<'_>) -> u32 {
        let frame = (self.string(function), self.string(at.file()), at.line().max(1));
        self.frames.of(frame)
    }
}

static TABLES: OnceLock<Lock<Tables>> = OnceLock::new();

fn tables() -> &'static Lock<Tables> {
    TABLES.get_or_init(|| Lock::new(Rank::Trace, Tables::default()))
}

/// A trace begins: numbers start anew.
pub(super) fn clear() {
    *tables().lock() = Tables::default();
}

/// The number of a string.
pub(super) fn string(text: &str) -> u64 {
    u64::from(tables().lock().string(text))
}

/// The number of a string that is needed in `generation` alone.
pub(super) fn passing(generation: u64, text: &str) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let text = cut(text).into();
    let mut tables = tables().lock();
    tables.passed += 1;
    let number = PASSING_FROM + tables.passed;
    tables.passing.push((generation, number, text));
    number
}

/// The stack of an entry function alone.
fn root_of(entry: &str, spawned: &Location<'static>) -> u32 {
    let mut name = super::name::readable(entry);
    if name.contains("fn(") {
        name = format!("{name} ({}:{})", file_name(spawned), spawned.line()).into(); // all that is known of a pointer
    }
    let mut tables = tables().lock();
    let frame = tables.frame(&name, spawned);
    tables.stacks.of((0, frame))
}

/// The file without its directories.
fn file_name<'a>(at: &Location<'a>) -> &'a str {
    at.file().rsplit(['/', '\\']).next().unwrap_or_default()
}

/// `root`, which may be 0 for none, with the call of `what` at a place on top.
fn stack_of(what: &str, at: &Location<'static>, root: u32) -> u32 {
    let function = format!("{what} ({}:{})", file_name(at), at.line());
    let mut tables = tables().lock();
    let leaf = tables.frame(&function, at);
    let root = match root {
        0 => 0,
        root => tables.stacks.values[root as usize - 1].1,
    };
    tables.stacks.of(if root == 0 { (0, leaf) } else { (leaf, root) })
}

/// A sheet's memory of numbers.
#[derive(Debug)]
pub(super) struct Cache(Box<[(Key, u32)]>);

/// Two addresses, and a number that tells apart what has the same.
type Key = (usize, usize, u32);

impl Cache {
    pub(super) fn new() -> Cache {
        Cache(vec![((0, 0, 0), 0); PLACES].into())
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(((0, 0, 0), 0));
    }

    #[inline]
    fn get(&mut self, key: Key, make: impl FnOnce() -> u32) -> u32 {
        let mixed = key.0 ^ key.1.rotate_left(7) ^ (key.2 as usize).wrapping_mul(0x9e37);
        let place = &mut self.0[(mixed ^ mixed >> 7 ^ mixed >> 14) % PLACES];
        if place.0 != key {
            *place = (key, make());
        }
        place.1
    }

    /// A string that is part of the program.
    pub(super) fn string(&mut self, text: &'static str) -> u32 {
        self.get((text.as_ptr() as usize, text.len(), u32::MAX), || {
            string(text) as u32
        })
    }

    /// The stack of an entry function alone.
    pub(super) fn root(&mut self, entry: &'static str, spawned: &'static Location<'static>) -> u32 {
        let key = (entry.as_ptr() as usize, std::ptr::from_ref(spawned) as usize, 0);
        self.get(key, || root_of(entry, spawned))
    }

    /// The stack of a call of `what` in a task with the root `root`.
    pub(super) fn stack(&mut self, what: &'static str, at: &'static Location<'static>, root: u32) -> u32 {
        let key = (what.as_ptr() as usize, std::ptr::from_ref(at) as usize, root);
        self.get(key, || stack_of(what, at, root))
    }
}

/// Appends the tables as `generation`, which began at `base`, needs them.
pub(super) fn append_to(to: &mut Vec<u8>, generation: u64, base: u64) {
    let mut tables = tables().lock();
    let passing: Vec<_> = tables
        .passing
        .extract_if(.., |(of, ..)| *of <= generation)
        .filter(|(of, ..)| *of == generation)
        .collect();
    let frames = &tables.frames.values;
    let pairs = (1_u64..).zip(&tables.stacks.values);
    table(
        to,
        (generation, base),
        kind::STACKS,
        pairs,
        |to, (id, &(leaf, root))| {
            to.push(kind::STACK);
            number(to, id);
            number(to, if leaf == 0 { 1 } else { 2 });
            for frame in [leaf, root].into_iter().filter(|&frame| frame != 0) {
                let (function, file, line) = frames[frame as usize - 1];
                number(to, PC_FROM + u64::from(frame) * PC_STEP);
                number(to, u64::from(function));
                number(to, u64::from(file));
                number(to, u64::from(line));
            }
        },
    );
    let lasting = (1_u64..).zip(&tables.strings.values);
    let all = lasting.chain(passing.iter().map(|(_, id, text)| (*id, text)));
    table(to, (generation, base), kind::STRINGS, all, |to, (id, text)| {
        to.push(kind::STRING);
        number(to, id);
        number(to, text.len() as u64);
        to.extend_from_slice(text.as_bytes());
    });
}
