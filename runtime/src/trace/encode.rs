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
/// Room for the largest event: its kind, its time, and five arguments, numbers of ten bytes.
pub(super) const EVENT_MAX: usize = 64;

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
    /// There is no room.
    #[inline(always)]
    pub(super) fn append(batch: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Event<'_>)) {
        let room = batch.spare_capacity_mut().first_chunk_mut();
        let mut event = Event {
            room: room.expect("a batch has room for an event"),
            length: 0,
        };
        event.push(kind);
        fill(&mut event);
        let length = event.length;
        // SAFETY: validity: `push` has written these bytes one after the other, each within the capacity. aliasing: the
        // batch is borrowed by us alone.
        unsafe { batch.set_len(batch.len() + length) };
    }

    /// As the function of this name.
    #[inline(always)]
    pub(super) fn number(&mut self, value: u64) {
        if value < 0x80 {
            self.push(value as u8);
        } else if value < 1 << 28 {
            // Four groups of seven bits at once, and so many of them as there are.
            let value = value as u32;
            let groups = value & 0x7f
                | (value & (0x7f << 7)) << 1
                | (value & (0x7f << 14)) << 2
                | (value & (0x7f << 21)) << 3;
            let length = (value.ilog2() / 7 + 1) as usize;
            let more = 0x80_8080 >> (8 * (4 - length));
            let bytes = (groups | more).to_le_bytes().map(MaybeUninit::new);
            self.room[self.length..][..bytes.len()].copy_from_slice(&bytes);
            self.length += length;
        } else {
            self.length += long_number(&mut self.room[self.length..], value);
        }
    }

    #[inline(always)]
    fn push(&mut self, byte: u8) {
        self.room[self.length].write(byte);
        self.length += 1;
    }
}

/// Puts a number at the beginning of `room`; its length.
#[cold]
fn long_number(room: &mut [MaybeUninit<u8>], mut value: u64) -> usize {
    let mut length = 0;
    while value >= 0x80 {
        room[length].write(value as u8 | 0x80);
        value >>= 7;
        length += 1;
    }
    room[length].write(value as u8);
    length + 1
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
    use super::{EVENT_MAX, Event, STRING_MAX, cut, number};

    #[test]
    fn numbers_are_leb128() {
        let mut batch = vec![1, 2];
        batch.reserve(2 * EVENT_MAX);
        let edges = (1..=9).flat_map(|groups| [(1_u64 << (7 * groups)) - 1, 1 << (7 * groups)]);
        for value in edges.chain([0, 1, 300, 0x0abc_def0, u64::MAX]) {
            let mut bytes = vec![9];
            number(&mut bytes, value);
            batch.truncate(2);
            Event::append(&mut batch, 9, |event| event.number(value));
            assert_eq!(batch, [[1, 2].as_slice(), &bytes].concat(), "{value:#x}");
        }
        let mut bytes = Vec::new();
        [0, 0x7f, 0x80, 300, u64::MAX]
            .iter()
            .for_each(|&value| number(&mut bytes, value));
        let mut expected = vec![0, 0x7f, 0x80, 1, 0xac, 2];
        expected.extend([0xff; 9]);
        expected.push(1);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_largest_event_has_room() {
        let mut batch = Vec::with_capacity(EVENT_MAX);
        Event::append(&mut batch, 1, |event| {
            (0..6).for_each(|_| event.number(u64::MAX)); // the time, and five arguments
        });
        assert!(batch.len() <= EVENT_MAX);
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
