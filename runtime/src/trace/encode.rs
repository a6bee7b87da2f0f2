//! The bytes of Go's format, version 1.26: numbers, events, batches. Source: `internal/trace/tracev2` of Go 1.27.

use std::mem::MaybeUninit;

/// What a file begins with.
pub(super) const HEADER: [u8; 16] = *b"go 1.26 trace\0\0\0";
/// A unit of time in nanoseconds: most steps fit one byte, and it divides exactly.
pub(super) const UNIT_NANOS: u64 = 8;
/// Units a second.
pub(super) const FREQUENCY: u64 = 1_000_000_000 / UNIT_NANOS;
/// No thread, no processor.
pub(super) const NONE: u64 = u64::MAX;
/// Most bytes of a batch's payload.
pub(super) const BATCH_MAX: usize = 65_536;
/// Most bytes of a string.
pub(super) const STRING_MAX: usize = 1024;
/// Room for the largest event, its kind, its time, and five arguments, numbers of ten bytes, and for what is written behind.
pub(super) const EVENT_MAX: usize = 72;

/// Kinds of batches, records and events.
#[expect(dead_code, reason = "the whole list is the reference for the next kind")]
pub(super) mod kind {
    pub(crate) const BATCH: u8 = 1;
    pub(crate) const STACKS: u8 = 2;
    pub(crate) const STACK: u8 = 3;
    pub(crate) const STRINGS: u8 = 4;
    pub(crate) const STRING: u8 = 5;
    pub(crate) const CPU_SAMPLES: u8 = 6;
    pub(crate) const CPU_SAMPLE: u8 = 7;
    pub(crate) const FREQUENCY: u8 = 8;
    pub(crate) const PROCS_CHANGE: u8 = 9;
    pub(crate) const PROC_START: u8 = 10;
    pub(crate) const PROC_STOP: u8 = 11;
    pub(crate) const PROC_STEAL: u8 = 12;
    pub(crate) const PROC_STATUS: u8 = 13;
    pub(crate) const GO_CREATE: u8 = 14;
    pub(crate) const GO_CREATE_SYSCALL: u8 = 15;
    pub(crate) const GO_START: u8 = 16;
    pub(crate) const GO_DESTROY: u8 = 17;
    pub(crate) const GO_DESTROY_SYSCALL: u8 = 18;
    pub(crate) const GO_STOP: u8 = 19;
    pub(crate) const GO_BLOCK: u8 = 20;
    pub(crate) const GO_UNBLOCK: u8 = 21;
    pub(crate) const GO_SYSCALL_BEGIN: u8 = 22;
    pub(crate) const GO_SYSCALL_END: u8 = 23;
    pub(crate) const GO_SYSCALL_END_BLOCKED: u8 = 24;
    pub(crate) const HEAP_ALLOC: u8 = 37;
    pub(crate) const GO_LABEL: u8 = 39;
    pub(crate) const USER_TASK_BEGIN: u8 = 40;
    pub(crate) const USER_TASK_END: u8 = 41;
    pub(crate) const USER_REGION_BEGIN: u8 = 42;
    pub(crate) const USER_REGION_END: u8 = 43;
    pub(crate) const USER_LOG: u8 = 44;
    pub(crate) const GO_CREATE_BLOCKED: u8 = 47;
    pub(crate) const GO_STATUS_STACK: u8 = 48;
    pub(crate) const SYNC: u8 = 50;
    pub(crate) const CLOCK_SNAPSHOT: u8 = 51;
    pub(crate) const END_OF_GENERATION: u8 = 52;
}

/// Appends an unsigned LEB128 number.
#[inline]
pub(super) fn number(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Numbers below this take up to two bytes.
pub(super) const TWO_BYTES: u64 = 1 << 14;
/// Numbers below this take up to three bytes.
pub(super) const THREE_BYTES: u64 = 1 << 21;
/// Numbers below this have a [`Code`].
const CODED: u64 = 1 << 49;

/// Numbers as they stand in a trace, one behind the other, made ready for many events: seven bytes, and how many of them
/// there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Code(u64);

/// Where the length stands.
const CODE_LENGTH: u32 = 56;

impl Code {
    /// None: it would have more than seven bytes.
    pub(super) fn of(value: u64) -> Option<Code> {
        if value >= CODED {
            return None;
        }
        let (mut bytes, mut rest, mut length) = (0, value, 0);
        loop {
            let more = u64::from(rest >= 0x80) << 7;
            bytes |= (rest & 0x7f | more) << (8 * length);
            (rest, length) = (rest >> 7, length + 1);
            if more == 0 {
                return Some(Code(bytes | length << CODE_LENGTH));
            }
        }
    }

    /// Both. None: as [`Code::of`].
    pub(super) fn then(self, other: Code) -> Option<Code> {
        let length = self.length() + other.length();
        let bytes = |code: Code| code.0 & ((1 << CODE_LENGTH) - 1);
        (length <= 7)
            .then(|| Code(bytes(self) | bytes(other) << (8 * self.length()) | (length as u64) << CODE_LENGTH))
    }

    /// As one word, of which zero is no number's.
    #[inline(always)]
    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// Back from [`Code::word`].
    #[inline(always)]
    pub(super) fn from_word(word: u64) -> Code {
        Code(word)
    }

    /// There is no number in it.
    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    fn length(self) -> usize {
        (self.0 >> CODE_LENGTH & 7) as usize
    }
}

/// An event while it is made, at the end of a batch: in room that suffices for any, so that its bytes need not ask for
/// theirs one by one. Not elsewhere first, and then copied: a wide load just behind byte stores waits until these are in the
/// cache, which cost as much as all else.
#[derive(Debug)]
pub(super) struct Event<'a> {
    room: &'a mut [MaybeUninit<u8>; EVENT_MAX],
    length: usize,
}

impl Event<'_> {
    /// Appends one to a batch whose capacity leaves room for any; `fill` adds its time and its arguments.
    ///
    /// # Panics
    /// There is no room, or too much is added.
    #[inline(always)]
    pub(super) fn append(batch: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Event<'_>)) {
        let room = batch.spare_capacity_mut().first_chunk_mut();
        let mut event = Event {
            room: room.expect("a batch has room for an event"),
            length: 0,
        };
        event.store(u64::from(kind), 1);
        fill(&mut event);
        let length = event.length;
        // SAFETY: validity: `store` has written these bytes one after the other, each within the capacity. aliasing: the
        // batch is borrowed by us alone.
        unsafe { batch.set_len(batch.len() + length) };
    }

    /// Writes the bytes of `word`, of which the first `length` are of the event. All eight always: the compiler sees then
    /// that they are within the room, and asks nothing.
    #[inline(always)]
    fn store(&mut self, word: u64, length: usize) {
        let place = self.room[self.length..].first_chunk_mut::<8>();
        *place.expect("an event is no longer than the room") = word.to_le_bytes().map(MaybeUninit::new);
        self.length += length;
    }

    /// Adds a number below [`TWO_BYTES`], without a branch.
    #[inline(always)]
    pub(super) fn number_of_two(&mut self, value: u64) {
        debug_assert!(value < TWO_BYTES);
        let two = u64::from(value >= 1 << 7);
        let groups = value & 0x7f | (value & (0x7f << 7)) << 1;
        self.store(groups | two << 7, 1 + two as usize);
    }

    /// Adds a number below [`THREE_BYTES`], without a branch.
    #[inline(always)]
    pub(super) fn number_of_three(&mut self, value: u64) {
        debug_assert!(value < THREE_BYTES);
        let (two, three) = (u64::from(value >= 1 << 7), u64::from(value >= 1 << 14));
        let groups = value & 0x7f | (value & (0x7f << 7)) << 1 | (value & (0x7f << 14)) << 2;
        self.store(groups | two << 7 | three << 15, (1 + two + three) as usize);
    }

    /// Adds numbers.
    #[inline(always)]
    pub(super) fn code(&mut self, code: Code) {
        self.store(code.0, code.length());
    }

    /// Adds any number.
    #[inline]
    pub(super) fn number(&mut self, value: u64) {
        let mut rest = value;
        if rest < 1 << 28 {
            // Four groups of seven bits at once, and so many of them as there are.
            let groups = rest & 0x7f
                | (rest & (0x7f << 7)) << 1
                | (rest & (0x7f << 14)) << 2
                | (rest & (0x7f << 21)) << 3;
            let length = ((rest | 1).ilog2() / 7 + 1) as usize;
            let more = 0x80_8080 >> (8 * (4 - length));
            return self.store(groups | more, length);
        }
        while rest >= 0x80 {
            self.store(rest & 0x7f | 0x80, 1);
            rest >>= 7;
        }
        self.store(rest, 1);
    }
}

/// Part of a generation, written by one thread.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) generation: u64,
    pub(super) thread: u64,
    /// Time of the first event, in units.
    pub(super) base: u64,
    pub(super) payload: Vec<u8>,
}

impl Batch {
    /// What stands before the payload in a file.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(EVENT_MAX);
        header.push(kind::BATCH);
        number(&mut header, self.generation);
        number(&mut header, self.thread);
        number(&mut header, self.base);
        number(&mut header, self.payload.len() as u64);
        header
    }

    /// Appends it as it stands in a file.
    pub(super) fn append_to(&self, to: &mut Vec<u8>) {
        to.extend(self.header());
        to.extend_from_slice(&self.payload);
    }
}

/// Appends records of a table in as many batches as they need.
pub(super) fn table<T>(
    to: &mut Vec<u8>,
    (generation, base): (u64, u64),
    kind: u8,
    records: impl IntoIterator<Item = T>,
    mut append: impl FnMut(&mut Vec<u8>, T),
) {
    let mut batch = Batch {
        generation,
        thread: NONE,
        base,
        payload: vec![kind],
    };
    for record in records {
        append(&mut batch.payload, record);
        if batch.payload.len() > BATCH_MAX - 2 * STRING_MAX {
            batch.append_to(to);
            batch.payload.truncate(1);
        }
    }
    batch.append_to(to);
}

/// As much of `text` as a string may have.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(STRING_MAX)]
}

#[cfg(test)]
mod tests {
    use super::{Code, EVENT_MAX, Event, STRING_MAX, THREE_BYTES, TWO_BYTES, cut, number};

    fn leb128(values: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        values.iter().for_each(|&value| number(&mut bytes, value));
        bytes
    }

    /// The bytes of an event of kind 9, behind others.
    fn event(fill: impl FnOnce(&mut Event<'_>)) -> Vec<u8> {
        let mut batch = vec![1, 2];
        batch.reserve(EVENT_MAX);
        Event::append(&mut batch, 9, fill);
        assert_eq!(batch[..3], [1, 2, 9]);
        batch.split_off(3)
    }

    #[test]
    fn numbers_are_leb128() {
        let expected = [0, 0x7f, 0x80, 1, 0xac, 2].into_iter();
        let expected = expected.chain([0xff; 9]).chain([1]);
        assert_eq!(
            leb128(&[0, 0x7f, 0x80, 300, u64::MAX]),
            expected.collect::<Vec<_>>()
        );
    }

    #[test]
    fn events_have_the_same_numbers() {
        let edges = (1..=9).flat_map(|groups| [(1_u64 << (7 * groups)) - 1, 1 << (7 * groups)]);
        for value in edges.chain([0, 1, 300, 0x0abc_def0, u64::MAX]) {
            let bytes = leb128(&[value]);
            assert_eq!(event(|event| event.number(value)), bytes, "{value:#x}");
            if value < TWO_BYTES {
                assert_eq!(event(|event| event.number_of_two(value)), bytes, "{value:#x}");
            }
            if value < THREE_BYTES {
                assert_eq!(event(|event| event.number_of_three(value)), bytes, "{value:#x}");
            }
            assert_eq!(Code::of(value).is_some(), bytes.len() <= 7, "{value:#x}");
            if let Some(code) = Code::of(value) {
                assert!(!code.is_empty());
                assert_eq!(event(|event| event.code(code)), bytes, "{value:#x}");
            }
        }
    }

    #[test]
    fn codes_are_joined_while_they_fit() {
        let code = |value| Code::of(value).expect("it is short");
        for (one, other) in [(0, 0), (1, 300), (300, 1), (1 << 20, 1 << 27), (0x7f, 1 << 41)] {
            let both = code(one).then(code(other)).expect("they fit");
            assert_eq!(event(|event| event.code(both)), leb128(&[one, other]));
        }
        assert_eq!(code(1 << 27).then(code(1 << 27)), None);
        assert!(Code::default().is_empty());
    }

    #[test]
    fn the_largest_event_has_room() {
        let largest = event(|event| {
            (0..6).for_each(|_| event.number(u64::MAX));
        });
        assert!(1 + largest.len() + 8 <= EVENT_MAX);
    }

    #[test]
    fn strings_are_cut_between_characters() {
        let long = "ä".repeat(STRING_MAX);
        assert_eq!(cut(&long).len(), STRING_MAX);
        let odd = format!("x{long}");
        assert_eq!(cut(&odd).len(), STRING_MAX - 1);
        assert_eq!(cut("short"), "short");
    }
}
