//! Strings, frames and stacks by number, the same for the whole trace; each generation is given all of them anew.
//!
//! A stack here is one frame or two: the place of a call, by `#[track_caller]`, above the entry function of the task; and
//! between them, if that was asked for, the frames that a walk has found (`walk`), which are named when a generation ends.
//! Numbers are looked up in the sheet's own cache first, by the addresses of what they stand for; the lock is for what a
//! sheet has not met yet.

use super::encode::{Code, cut, kind, number, table};
use super::name::{Entry, place};
use super::samples::Passing;
use super::symbols::{self, Part, Symbol};
use super::tasks::Leave;
use super::walk::FRAMES_MAX;
use crate::sys::lock::{Lock, Rank};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::OnceLock;

/// Most different strings that are kept: names are made up by programs.
const STRINGS_MAX: usize = 1 << 18;
/// Most different walks that are kept: beyond them stacks are without.
const WALKS_MAX: usize = 1 << 14;
/// Strings of one generation alone (log messages) and stacks of one (samples) have numbers from here on.
pub(super) const PASSING_FROM: u64 = 1 << 32;
/// Invented program counters: one a frame, so far apart that a tool that subtracts one stays in it.
const PC_FROM: u64 = 0x10_0000;
const PC_STEP: u64 = 16;
/// Places in a sheet's cache.
const PLACES: usize = 128;

#[derive(Debug, Default)]
struct Tables {
    strings: Numbers<Box<str>>,
    frames: Numbers<Frame>,
    stacks: Numbers<Stack>,
    walks: Numbers<Box<[usize]>>,
    /// The frames to be shown of each walk; fewer than there are walks while some have no names yet.
    named: Vec<Box<[u32]>>,
    /// The code of all closures that have one name but for their number, in the order of these.
    closures: HashMap<Box<str>, Vec<usize>>,
    /// By the name of an entry function, that of its own frame in a real stack.
    framed: HashMap<u32, u32>,
    /// Of generation, number.
    passing: Vec<(u64, u64, Box<str>)>,
    passed: u64,
}

/// Function, file, line.
type Frame = (u32, u32, u32);

/// The frame of the call, the walk below it, the frame of the entry function: each may be missing, and is 0 then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stack {
    leaf: u32,
    walk: u32,
    root: u32,
}

impl Stack {
    fn short(leaf: u32, root: u32) -> Stack {
        Stack { leaf, walk: 0, root }
    }
}

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

    /// The number of `short` with the frames of a walk.
    fn walked(&mut self, short: u32, addresses: &[usize]) -> u32 {
        let walk = match self.walks.numbers.get(addresses) {
            Some(&known) => known,
            None if self.walks.values.len() >= WALKS_MAX => return short,
            None => self.walks.of(addresses.into()),
        };
        let short = self.stacks.values[short as usize - 1];
        self.stacks.of(Stack { walk, ..short })
    }

    /// The frames of a stack, innermost first. None: its walk has no names yet.
    fn frames_of(&mut self, stack: Stack) -> Option<Vec<u32>> {
        let mut frames: Vec<_> = (stack.leaf != 0).then_some(stack.leaf).into_iter().collect();
        if stack.walk != 0 {
            frames.extend(self.named.get(stack.walk as usize - 1)?);
        }
        Some(self.rooted(frames, stack.root))
    }

    /// The frames above `root`, an entry function's or 0, with it, and no more than there may be.
    fn rooted(&mut self, mut frames: Vec<u32>, root: u32) -> Vec<u32> {
        frames.truncate(FRAMES_MAX - 1);
        if root == 0 {
            return frames;
        }
        let entry = self.frame_at(root).0;
        match frames.last_mut() {
            // It is there already, and then by the line that it has come to. Its name is what tasks are grouped by.
            Some(last) if self.framed.get(&entry) == Some(&self.frame_at(*last).0) => {
                let (_, file, line) = self.frame_at(*last);
                *last = self.frames.of((entry, file, line));
            }
            _ => frames.push(root),
        }
        frames
    }

    /// The number of what lies at an address.
    fn frame_of(&mut self, symbol: &Symbol) -> u32 {
        let frame = (
            self.string(&symbol.function),
            self.string(&symbol.file),
            symbol.line,
        );
        self.frames.of(frame)
    }

    fn frame_at(&self, number: u32) -> Frame {
        self.frames.values[number as usize - 1]
    }

    /// The frame of the entry function of a stack; 0 for none.
    fn root_frame(&self, stack: u32) -> u32 {
        match stack {
            0 => 0,
            stack => self.stacks.values[stack as usize - 1].root,
        }
    }

    /// The number of a closure among those that have its name otherwise.
    fn closure(&mut self, name: &str, code: usize) -> usize {
        let same = self.closures.entry(name.into()).or_default();
        let known = same.iter().position(|one| *one == code);
        known.unwrap_or_else(|| {
            same.push(code);
            same.len() - 1
        }) + 1
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
pub(super) fn string(text: &str) -> u32 {
    tables().lock().string(text)
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
fn root_of(entry: &str, code: usize, spawned: &Location<'static>) -> u32 {
    let entry = Entry::of(entry, spawned);
    let mut tables = tables().lock();
    let number = match entry {
        Entry::Function(_) => 1,
        Entry::Spawned(..) => tables.closure(&entry.name(1), code),
    };
    let frame = tables.frame(&entry.name(number), spawned);
    let (name, framed) = (tables.frame_at(frame).0, tables.string(&entry.frame()));
    tables.framed.insert(name, framed);
    tables.stacks.of(Stack::short(0, frame))
}

/// `root`, which may be 0 for none, with the call of `what` at a place on top.
fn stack_of(what: &str, at: &Location<'static>, root: u32) -> u32 {
    let function = format!("{what} ({})", place(at));
    let mut tables = tables().lock();
    let leaf = tables.frame(&function, at);
    let root = tables.root_frame(root);
    tables.stacks.of(Stack::short(leaf, root))
}

/// The same for what no line of the program does: it has the place of the root.
fn stack_without_place(what: &str, root: u32) -> u32 {
    let mut tables = tables().lock();
    let root = tables.root_frame(root);
    let (file, line) = match root {
        0 => (0, 1),
        root => {
            let (_, file, line) = tables.frame_at(root);
            (file, line)
        }
    };
    let function = tables.string(what);
    let leaf = tables.frames.of((function, file, line));
    tables.stacks.of(Stack::short(leaf, root))
}

/// Finds names for all walks of the generation that was closed. Without the lock, as it takes its time.
fn name_walks() {
    let (from, walks) = {
        let tables = tables().lock();
        let from = tables.named.len();
        (from, tables.walks.values[from..].to_vec())
    };
    let mut symbols: HashMap<usize, Vec<Symbol>> = HashMap::new();
    for &address in walks.iter().flatten() {
        let found = symbols.entry(address).or_default();
        if found.is_empty() {
            symbols::resolve(address, |symbol| found.push(symbol));
        }
    }
    let mut tables = tables().lock();
    if tables.named.len() != from {
        return; // another trace has begun: not while the closer of this one runs
    }
    for walk in walks {
        let lines: Vec<&Symbol> = walk.iter().flat_map(|address| &symbols[address]).collect();
        let theirs = |symbol: &&Symbol| symbol.part == Part::Program;
        let begin = lines.iter().position(theirs).unwrap_or(lines.len());
        let end = lines.iter().rposition(theirs).map_or(begin, |last| last + 1);
        let frames = lines[begin..end].iter().map(|symbol| tables.frame_of(symbol));
        let frames = frames.collect();
        tables.named.push(frames);
    }
}

/// The frames of `lines` above the entry function of the stack `root`, if that is not 0, by their numbers.
pub(super) fn frames_above(lines: &[&Symbol], root: u32) -> Vec<u32> {
    let mut tables = tables().lock();
    let frames = lines.iter().map(|symbol| tables.frame_of(symbol)).collect();
    let root = tables.root_frame(root);
    tables.rooted(frames, root)
}

/// A sheet's memory of numbers.
#[derive(Debug)]
pub(super) struct Cache(Box<[Place; PLACES]>);

/// What was looked up last of all that comes to lie here.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    words: (u64, u64),
    third: u32,
    number: u32,
    /// What stands in the events for which this was looked up; empty if nothing does that is always the same.
    code: Code,
}

/// Two words, addresses most often, and a number that tells apart what has the same.
type Key = (u64, u64, u32);

/// An odd number without a pattern: the golden ratio's.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl Cache {
    pub(super) fn new() -> Cache {
        let places = vec![Place::default(); PLACES].into_boxed_slice();
        Cache(places.try_into().expect("of that length"))
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(Place::default());
    }

    #[inline]
    fn get(&mut self, key: Key, make: impl FnOnce() -> u32) -> u32 {
        self.get_both(key, || (make(), Code::default())).0
    }

    #[inline]
    fn get_both(&mut self, key: Key, make: impl FnOnce() -> (u32, Code)) -> (u32, Code) {
        let (first, second, third) = key;
        let mixed = (first ^ second.rotate_left(20) ^ u64::from(third) << 40).wrapping_mul(MIX);
        let place = &mut self.0[(mixed >> (u64::BITS - PLACES.ilog2())) as usize];
        if place.words != (first, second) || place.third != third {
            let (number, code) = make();
            let words = (first, second);
            *place = Place {
                words,
                third,
                number,
                code,
            };
        }
        (place.number, place.code)
    }

    /// A string that is part of the program.
    pub(super) fn string(&mut self, text: &'static str) -> u32 {
        self.get((address(text), text.len() as u64, u32::MAX), || string(text))
    }

    /// The stack of an entry function alone. Its code is part of the key, as two closures may have one name.
    pub(super) fn root(
        &mut self,
        entry: &'static str,
        code: usize,
        spawned: &'static Location<'static>,
    ) -> u32 {
        let place = std::ptr::from_ref(spawned) as u64;
        self.get((address(entry), place, code as u32), || {
            root_of(entry, code, spawned)
        })
    }

    /// The stack of what happens to a task with the root `root` at no line of the program.
    #[inline]
    pub(super) fn without_place(&mut self, what: &'static str, root: u32) -> (u32, Code) {
        self.get_both((address(what), 0, root), || make_without_place(what, root))
    }

    /// The stack of a call of `what` in a task with the root `root`.
    pub(super) fn stack(&mut self, what: &'static str, at: &'static Location<'static>, root: u32) -> u32 {
        let key = (address(what), std::ptr::from_ref(at) as u64, root);
        self.get(key, || stack_of(what, at, root))
    }

    /// The stack of a task with the root `root` that leaves, and Go's reason with it. A site is no address.
    #[inline(always)]
    pub(super) fn leave(&mut self, how: Leave, root: u32) -> (u32, Code) {
        let (first, second) = match how {
            Leave::Wait(site) => (site.word(), 0),
            Leave::Stop(reason) => (address(reason), reason.len() as u64),
        };
        self.get_both((first, second, root), || make_leave(how, root))
    }

    /// The stack of an entry function, by its number; which may be none, 0.
    #[inline]
    pub(super) fn rooted(&mut self, root: u32) -> Code {
        self.get_both((u64::MAX, 0, root), || (root, code_of(root))).1
    }

    /// The stack `short` with the frames of a walk.
    pub(super) fn walked(&mut self, short: u32, addresses: &[usize]) -> u32 {
        let (first, second) = sums(addresses);
        self.get((first, second, short), || {
            tables().lock().walked(short, addresses)
        })
    }
}

#[inline]
fn address(text: &'static str) -> u64 {
    text.as_ptr() as u64
}

#[cold]
fn make_without_place(what: &'static str, root: u32) -> (u32, Code) {
    let stack = stack_without_place(what, root);
    (stack, code_of(stack))
}

#[cold]
fn make_leave(how: Leave, root: u32) -> (u32, Code) {
    let stack = match how {
        Leave::Wait(site) => stack_of(site.reason().text(), site.at(), root),
        Leave::Stop(_) => root,
    };
    // Empty if both together are too long.
    let code = code_of(string(how.reason())).then(code_of(stack));
    (stack, code.unwrap_or_default())
}

fn code_of(number: u32) -> Code {
    Code::of(u64::from(number)).unwrap_or_default()
}

/// Two sums that a list of addresses is known by.
fn sums(addresses: &[usize]) -> (u64, u64) {
    let mut sums = (0_u64, addresses.len() as u64);
    for &address in addresses {
        let address = address as u64;
        sums.0 = (sums.0.rotate_left(5) ^ address).wrapping_mul(0x517c_c1b7_2722_0a95);
        sums.1 = (sums.1 ^ address.rotate_left(32)).wrapping_mul(MIX);
        sums.1 ^= sums.1 >> 29;
    }
    sums
}

/// Appends the tables as `generation`, which began at `base`, needs them, with the stacks that are its alone.
pub(super) fn append_to(to: &mut Vec<u8>, generation: u64, base: u64, own: Vec<Passing>) {
    name_walks();
    let mut tables = tables().lock();
    let passing: Vec<_> = tables
        .passing
        .extract_if(.., |(of, ..)| *of <= generation)
        .filter(|(of, ..)| *of == generation)
        .collect();
    let stacks = tables.stacks.values.clone();
    // What has no names yet is of the next generation.
    let pairs: Vec<_> = (1_u64..)
        .zip(stacks)
        .filter_map(|(id, stack)| Some((id, tables.frames_of(stack)?)))
        .chain(own)
        .collect();
    let frames = &tables.frames.values;
    table(to, (generation, base), kind::STACKS, pairs, |to, (id, of)| {
        to.push(kind::STACK);
        number(to, id);
        number(to, of.len() as u64);
        for frame in of {
            let (function, file, line) = frames[frame as usize - 1];
            number(to, PC_FROM + u64::from(frame) * PC_STEP);
            number(to, u64::from(function));
            number(to, u64::from(file));
            number(to, u64::from(line));
        }
    });
    let lasting = (1_u64..).zip(&tables.strings.values);
    let all = lasting.chain(passing.iter().map(|(_, id, text)| (*id, text)));
    table(to, (generation, base), kind::STRINGS, all, |to, (id, text)| {
        to.push(kind::STRING);
        number(to, id);
        number(to, text.len() as u64);
        to.extend_from_slice(text.as_bytes());
    });
}
