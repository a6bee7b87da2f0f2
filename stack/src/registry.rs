//! Which stack is an address on? A process-wide table of arenas and single large stacks.
//!
//! Readers take no lock and no memory, so that a signal handler and every `maybe_grow` can ask.
//! Writers (an arena more, a large stack more) are rare and take a lock among themselves.
//!
//! ```text
//!  FIRST ──► [entry; 64] ──next──► [entry; 64] ──► null     blocks are added, never freed
//!             low  high  shape                              low == 0: free entry
//! ```
//!
//! Transitions of an entry, all in [`Registration`]: `add` writes `shape`, `high`, then `low` (Release);
//! `leak` lowers `high`; `drop` writes 0 to `low`. A reader loads `low` (Acquire), then the rest, then `low` again: if it has
//! not changed, the three belong together, unless the entry was freed and given the same `low` meanwhile;
//! then the range was unmapped and mapped anew under the reader's feet, which cannot happen to the stack
//! it stands on, and for any other address the answer is as good as a moment earlier or later.

use crate::primitive::statics::{
    AtomicPtr, AtomicUsize, Mutex,
    Ordering::{Acquire, Relaxed, Release},
    fence, lock,
};
use std::ptr;

const ENTRIES_A_BLOCK: usize = 64;

/// The bounds of one stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    /// Where its guard begins.
    pub(crate) base: usize,
    /// Its lowest usable byte.
    pub(crate) limit: usize,
    /// One past its highest byte.
    pub(crate) top: usize,
}

struct Entry {
    low: AtomicUsize,
    high: AtomicUsize,
    /// `guard_bytes | slot_shift`: a guard is whole pages, so its low bits are free. Shift 0: one stack.
    shape: AtomicUsize,
}

impl Entry {
    const fn free() -> Entry {
        Entry {
            low: AtomicUsize::new(0),
            high: AtomicUsize::new(0),
            shape: AtomicUsize::new(0),
        }
    }
}

struct Block {
    entries: [Entry; ENTRIES_A_BLOCK],
    /// Entries at and beyond this index have never been used.
    used: AtomicUsize,
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Block {
        Block {
            entries: [const { Entry::free() }; ENTRIES_A_BLOCK],
            used: AtomicUsize::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn next(&self) -> Option<&'static Block> {
        // Acquire: pairs with the Release in `add`, so that the block's entries are seen initialised.
        let next = self.next.load(Acquire);
        // SAFETY: validity: a block is leaked before it is linked, so the pointer is null or good for ever.
        //         aliasing: only shared references to blocks exist.
        unsafe { next.as_ref() }
    }
}

static FIRST: Block = Block::new();
static WRITERS: Mutex<()> = Mutex::new(());

/// An entry in the table; taken out when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    low: usize,
}

impl Registration {
    /// Enters the range `[low, high)`, cut into slots of `1 << slot_shift` bytes (0: not cut), each of which
    /// begins with a guard of `guard_bytes`.
    pub(crate) fn add(low: usize, high: usize, slot_shift: u32, guard_bytes: usize) -> Registration {
        let _writer = lock(&WRITERS);
        let mut block = &FIRST;
        loop {
            // Relaxed: only writers free entries, and we hold their lock.
            let free = block
                .entries
                .iter()
                .position(|entry| entry.low.load(Relaxed) == 0);
            if let Some(index) = free {
                let entry = &block.entries[index];
                // Release: a reader of the old registration that sees any of this also sees `low == 0`.
                entry.high.store(high, Release);
                entry.shape.store(guard_bytes | slot_shift as usize, Release);
                // Release: publishes the two stores above; pairs with the first Acquire in `find`.
                entry.low.store(low, Release);
                if index >= block.used.load(Relaxed) {
                    // Release: publishes the entry; pairs with the Acquire of `used` in `find`.
                    block.used.store(index + 1, Release);
                }
                return Registration { low };
            }
            block = block.next().unwrap_or_else(|| {
                let fresh: &'static Block = Box::leak(Box::new(Block::new()));
                // Release: publishes the block; pairs with the Acquire in `Block::next`.
                block.next.store(ptr::from_ref(fresh).cast_mut(), Release);
                fresh
            });
        }
    }

    /// Leaves the entry's first `bytes` in the table for ever.
    pub(crate) fn leak(self, bytes: usize) {
        let _writer = lock(&WRITERS);
        if let Some(entry) = self.entry() {
            // Release: whoever knows an address of what is mapped there next was told of it after this.
            entry.high.store(self.low + bytes, Release);
        }
        std::mem::forget(self);
    }

    /// Its entry, which only a writer may ask for.
    fn entry(&self) -> Option<&'static Entry> {
        let mut blocks = std::iter::successors(Some(&FIRST), |block| block.next());
        // Relaxed: only writers change it, and the caller holds their lock.
        let is_it = |entry: &&Entry| entry.low.load(Relaxed) == self.low;
        blocks.find_map(|block| block.entries.iter().find(is_it))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _writer = lock(&WRITERS);
        if let Some(entry) = self.entry() {
            entry.low.store(0, Release);
        }
    }
}

/// The stack whose slot holds `address`, guard included.
pub(crate) fn find(address: usize) -> Option<Bounds> {
    let mut block = &FIRST;
    loop {
        // Acquire: pairs with the Release in `add`. An address on a registered stack is only known to code that
        // was told of it after `add` returned, so it finds the entry counted.
        let used = block.used.load(Acquire);
        for entry in &block.entries[..used.min(ENTRIES_A_BLOCK)] {
            // Acquire: pairs with the Release of `low` in `add`; `high` and `shape` are at least as new.
            let low = entry.low.load(Acquire);
            if low == 0 || address < low {
                continue;
            }
            let high = entry.high.load(Acquire);
            let shape = entry.shape.load(Acquire);
            fence(Acquire);
            if address < high && entry.low.load(Relaxed) == low {
                return Some(bounds_in(address, low, high, shape));
            }
        }
        block = block.next()?;
    }
}

fn bounds_in(address: usize, low: usize, high: usize, shape: usize) -> Bounds {
    const SHIFT_MASK: usize = 63;
    let guard_bytes = shape & !SHIFT_MASK;
    let (base, top) = match shape & SHIFT_MASK {
        0 => (low, high),
        shift => {
            let base = address >> shift << shift;
            (base, base + (1 << shift))
        }
    };
    Bounds {
        base,
        limit: base + guard_bytes,
        top,
    }
}
