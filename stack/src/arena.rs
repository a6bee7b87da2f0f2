//! One reservation of address space, cut into equal slots that are carved in address order.

use crate::error::StackError;
use crate::layout::guard_bytes;
use crate::pool::GuardMode;
use crate::region::Region;
use crate::registry::Registration;
use crate::sanitizer::Announced;
use crate::stack::{Stack, StackClass};

/// Slots made accessible by one `mprotect`. More would charge more at once where the kernel counts.
const SLOTS_A_COMMIT: usize = 64;

/// Where the system refuses what is asked for, an arena takes one part in so many of what it grants: the rest is for
/// other arenas, large stacks, threads and the heap.
const SHARE_WHEN_SCARCE: usize = 8;

/// No arena is smaller: below this, the machine has no address space for stacks.
const SLOTS_MIN: usize = 16;

/// An arena, unmapped when dropped. Its owner drops it only when every slot is back.
#[derive(Debug)]
pub(crate) struct Arena {
    // Before the region: fields are dropped in order, and nobody may find an address that is unmapped.
    registration: Registration,
    announced: Announced,
    region: Region,
    class: StackClass,
    guard: GuardMode,
    /// Slots carved so far; the next one's index.
    carved: usize,
    /// Slots accessible so far (`GuardMode::Install` only).
    committed: usize,
}

impl Arena {
    /// Reserves `slots` slots, or a share of as many as the system grants by halving.
    pub(crate) fn reserve(class: StackClass, guard: GuardMode, slots: usize) -> Result<Arena, StackError> {
        let slot = class.bytes();
        let mut slots = slots;
        let mut scarce = false;
        loop {
            // Slots up to 2 MiB never straddle a page table, so that guard and top page share one.
            let align = slot.max(2 << 20);
            let asked = slots.saturating_mul(slot);
            match Region::reserve(asked, align) {
                Ok(region) if scarce => {
                    drop(region);
                    scarce = false;
                    slots = (slots / SHARE_WHEN_SCARCE).max(SLOTS_MIN);
                }
                Ok(region) => {
                    let (low, high) = (region.base(), region.base() + region.bytes());
                    let registration = Registration::add(low, high, slot.trailing_zeros(), guard_bytes(slot));
                    return Ok(Arena {
                        region,
                        registration,
                        announced: Announced::default(),
                        class,
                        guard,
                        carved: 0,
                        committed: 0,
                    });
                }
                Err(_) if slots > SLOTS_MIN => {
                    slots = (slots / 2).max(SLOTS_MIN);
                    scarce = true;
                }
                Err(error) => {
                    return Err(StackError::from_memory(
                        &error,
                        asked.saturating_add(align),
                        "reserving stacks (mmap)",
                    ));
                }
            }
        }
    }

    pub(crate) fn slots(&self) -> usize {
        self.region.bytes() / self.class.bytes()
    }

    pub(crate) fn carved(&self) -> usize {
        self.carved
    }

    /// The next fresh stack, guarded; `None` when the arena is used up. On an error nothing is used up.
    pub(crate) fn carve(&mut self) -> Result<Option<Stack>, StackError> {
        if self.carved == self.slots() {
            return Ok(None);
        }
        let slot = self.class.bytes();
        let guard = guard_bytes(slot);
        let offset = self.carved * slot;
        match self.guard {
            GuardMode::Install => {
                self.commit_through(self.carved)?;
                let installed = self.region.install_guard(offset, guard);
                installed
                    .map_err(|error| StackError::from_memory(&error, guard, "madvise(MADV_GUARD_INSTALL)"))?;
            }
            // The guard stays as it was reserved, inaccessible; the stack above it becomes a mapping of its own.
            GuardMode::Protect | GuardMode::Auto => {
                let committed = self.region.commit(offset + guard, slot - guard);
                committed.map_err(|error| StackError::from_guard(&error, slot, self.carved))?;
            }
        }
        self.carved += 1;
        let stack = Stack::new(self.region.base() + offset + slot, self.class);
        self.announced.add(stack.limit(), stack.top());
        Ok(Some(stack))
    }

    /// Makes the slot at `index` accessible, and some after it.
    fn commit_through(&mut self, index: usize) -> Result<(), StackError> {
        if index < self.committed {
            return Ok(());
        }
        let slot = self.class.bytes();
        let count = SLOTS_A_COMMIT.min(self.slots() - self.committed);
        // One alone if the kernel counts and refuses a batch.
        for count in [count, 1] {
            match self.region.commit(self.committed * slot, count * slot) {
                Ok(()) => {
                    self.committed += count;
                    return Ok(());
                }
                Err(error) if count == 1 => {
                    return Err(StackError::from_memory(
                        &error,
                        slot,
                        "committing a stack (mprotect)",
                    ));
                }
                Err(_) => {}
            }
        }
        unreachable!("a count of 1 returns either way")
    }

    /// Keeps every slot that was ever in use for ever, because a stack was leaked, and gives the rest back: a
    /// process that leaks a task of each of its many runtimes must not run out of address space by it.
    pub(crate) fn leak(self) {
        let used = self.carved * self.class.bytes();
        if used > 0 {
            // First the registration: nobody may find an address that is unmapped.
            self.registration.leak(used);
            self.region.leak(used);
            self.announced.leak();
        }
    }
}
