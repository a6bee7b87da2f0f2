//! The table of sources: type-stable memory, found by index, guarded by generations.
//!
//! ```text
//!  levels (fixed)      slots of a level         chunk                   entry, 64 bytes
//!  ┌───┐               ┌───┐                    ┌─────────────┐         ┌─────────────────────────┐
//!  │ 0 │──────────────►│ 0 │───────────────────►│ 256 entries │────────►│ read, write: word +     │
//!  │ 1 │──► 2 slots    └───┘                    └─────────────┘         │ deadline; crowd;        │
//!  │ 2 │──► 4 slots                                                     │ generation; descriptor  │
//!  └───┘                                                                └─────────────────────────┘
//! ```
//!
//! Levels double, so that a table of a million entries never moves one and never allocates more than a
//! chunk (16 KiB) and a short array at once. Chunks are given back when the poller and its last source
//! are gone.
//!
//! An event carries an index and the generation of the entry at registration. Freeing an entry adds one to
//! its generation, so an event that was harvested before and is looked at after finds another number and
//! is dropped. Between the look and the use there is a window, and it is harmless: readiness is a hint. The
//! new owner makes one call that would block, or one of its waiters wakes for nothing.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, OnceLock, Weak};

use crate::Direction;
use crate::crowd::{Crowd, Queue};
use crate::poller::Inner;
use crate::primitive::{
    AtomicI32, AtomicU32, AtomicUsize, Lock, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};
use crate::readiness::Readiness;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("bast-netpoll packs an index and a generation into a 64-bit event token");

/// Entries of a chunk: four pages.
const CHUNK: u32 = 256;
/// Enough levels for every 32-bit index: 2^25 - 1 chunks of 2^8 entries.
const LEVELS: usize = 25;
/// The index that no entry has: with it, an event cannot look like the waker's.
const INDEX_MAX: u32 = u32::MAX - 1;
/// The descriptor of an entry that is not registered.
const NO_FD: RawFd = -1;

/// What a source is made of. One cache line, so that sources do not disturb each other.
#[repr(align(64))]
pub(crate) struct Entry {
    readiness: [Readiness; 2],
    crowd: Crowd,
    /// Even: free. Odd: in use. Wraps after 2^31 owners, all within one batch of events.
    generation: AtomicU32,
    fd: AtomicI32,
}

/// Neighbouring entries, and the way from an entry to its poller.
pub(crate) struct Chunk {
    entries: Box<[Entry]>,
    first_index: u32,
    /// Weak, since the poller's table holds the chunk.
    inner: Weak<Inner>,
}

type Slots = Box<[OnceLock<Arc<Chunk>>]>;

/// All entries of one poller.
pub(crate) struct Table {
    levels: [OnceLock<Slots>; LEVELS],
    vacant: Lock<Vacant>,
    used: AtomicUsize,
}

/// Which entries nobody owns.
struct Vacant {
    /// Freed ones; the last freed is the first to go, its line is warm.
    freed: Vec<u32>,
    /// Every index from here on was never used.
    fresh: u32,
}

/// An entry's address: where it is, and which of its lives is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Entry {
    fn new() -> Self {
        Self {
            readiness: [Readiness::new(), Readiness::new()],
            crowd: Crowd::new(),
            generation: AtomicU32::new(0),
            fd: AtomicI32::new(NO_FD),
        }
    }

    pub(crate) fn readiness(&self, direction: Direction) -> &Readiness {
        &self.readiness[direction.index()]
    }

    pub(crate) fn queue(&self, direction: Direction) -> Queue<'_> {
        self.crowd.queue(direction)
    }

    pub(crate) fn generation(&self) -> u32 {
        // Acquire: pairs with the Release in `open`; an event of this life finds the words opened.
        self.generation.load(Acquire)
    }

    /// Begins a life: for the one that got the entry from `take`.
    fn open(&self, fd: RawFd) -> u32 {
        self.fd.store(fd, Relaxed);
        for direction in Direction::BOTH {
            self.readiness(direction).open();
        }
        // Release: publishes the opened words to the poller, which looks at the generation first.
        self.generation.fetch_add(1, Release) + 1
    }

    /// Ends a life: nobody waits any more, and no event of it will be heeded.
    fn shut(&self) {
        // AcqRel: a poller that still sees the old number finds the words as they were or closed.
        self.generation.fetch_add(1, AcqRel);
        let mut tokens = crate::Tokens::default();
        for direction in Direction::BOTH {
            self.readiness(direction)
                .close(self.queue(direction), &mut tokens);
        }
        self.crowd.reset();
    }

    /// The descriptor if it is registered; for one caller only, who takes it out of the selector.
    pub(crate) fn take_fd(&self) -> Option<RawFd> {
        Some(self.fd.swap(NO_FD, AcqRel)).filter(|&fd| fd != NO_FD)
    }

    pub(crate) fn fd(&self) -> Option<RawFd> {
        Some(self.fd.load(Relaxed)).filter(|&fd| fd != NO_FD)
    }
}

impl Chunk {
    fn new(first_index: u32, inner: Weak<Inner>) -> Self {
        // Collected straight into the heap: a chunk must not pass over a task's small stack.
        let entries = (0..CHUNK).map(|_| Entry::new()).collect();
        Self {
            entries,
            first_index,
            inner,
        }
    }

    pub(crate) fn entry(&self, offset: u32) -> &Entry {
        &self.entries[offset as usize]
    }

    pub(crate) fn inner(&self) -> Option<Arc<Inner>> {
        self.inner.upgrade()
    }
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            levels: [const { OnceLock::new() }; LEVELS],
            vacant: Lock::new(Vacant {
                freed: Vec::new(),
                fresh: 0,
            }),
            used: AtomicUsize::new(0),
        }
    }

    /// Entries in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Gives an entry to a new owner: its chunk, its place there, its address.
    pub(crate) fn take(&self, fd: RawFd, inner: &Arc<Inner>) -> io::Result<(Arc<Chunk>, u32, Address)> {
        let index = self.vacant.lock().take()?;
        let (level, slot) = place(index / CHUNK);
        let slots =
            self.levels[level].get_or_init(|| (0..1_usize << level).map(|_| OnceLock::new()).collect());
        let chunk = slots[slot]
            .get_or_init(|| Arc::new(Chunk::new(index - index % CHUNK, Arc::downgrade(inner))))
            .clone();
        let offset = index % CHUNK;
        let generation = chunk.entry(offset).open(fd);
        self.used.fetch_add(1, Relaxed);
        Ok((chunk, offset, Address { index, generation }))
    }

    /// Takes an entry back from its owner, who must not use it again.
    pub(crate) fn give_back(&self, chunk: &Chunk, offset: u32) {
        chunk.entry(offset).shut();
        self.used.fetch_sub(1, Relaxed);
        self.vacant.lock().freed.push(chunk.first_index + offset);
    }

    /// The entry an event is for; nothing if that life of it is over.
    pub(crate) fn find(&self, address: Address) -> Option<&Entry> {
        let (level, slot) = place(address.index / CHUNK);
        let chunk = self.levels.get(level)?.get()?.get(slot)?.get()?;
        let entry = chunk.entry(address.index % CHUNK);
        (entry.generation() == address.generation).then_some(entry)
    }
}

impl Vacant {
    fn take(&mut self) -> io::Result<u32> {
        if let Some(index) = self.freed.pop() {
            return Ok(index);
        }
        if self.fresh > INDEX_MAX {
            return Err(io::Error::other(
                "2^32 descriptors are registered with one poller: use another poller",
            ));
        }
        self.fresh += 1;
        Ok(self.fresh - 1)
    }
}

/// The level of a chunk and its slot there: level `n` holds the `2^n` chunks from `2^n - 1` on.
fn place(chunk: u32) -> (usize, usize) {
    let number = chunk as usize + 1;
    let level = number.ilog2() as usize;
    (level, number - (1 << level))
}

impl Address {
    /// As the selector carries it.
    pub(crate) fn pack(self) -> usize {
        (self.generation as usize) << 32 | self.index as usize
    }

    pub(crate) fn unpack(packed: usize) -> Self {
        Self {
            index: packed as u32,
            generation: (packed >> 32) as u32,
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("fd", &self.fd())
            .field("read", &self.readiness(Direction::Read))
            .field("write", &self.readiness(Direction::Write))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// std's mutex is a word on Linux and the BSDs; macOS has a larger one, and an entry two lines.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_entry_is_one_cache_line() {
        assert_eq!(size_of::<Entry>(), 64);
    }

    #[test]
    fn places_are_dense_and_within_the_levels() {
        let mut next = (0, 0);
        for chunk in 0..10_000 {
            assert_eq!(place(chunk), next);
            next = if next.1 + 1 == 1 << next.0 {
                (next.0 + 1, 0)
            } else {
                (next.0, next.1 + 1)
            };
        }
        let (level, slot) = place(INDEX_MAX / CHUNK);
        assert!(level < LEVELS, "level {level} slot {slot}");
    }

    #[test]
    fn an_address_survives_the_selector() {
        for address in [
            Address {
                index: 0,
                generation: 1,
            },
            Address {
                index: INDEX_MAX,
                generation: u32::MAX,
            },
            Address {
                index: 77,
                generation: 0x8000_0001,
            },
        ] {
            assert_eq!(Address::unpack(address.pack()), address);
            assert_ne!(address.pack(), usize::MAX, "the waker's token");
        }
    }
}
