//! Sizes and addresses: what one slot looks like, and the numbers the rest of the crate agrees on.
//!
//! An arena is one mapping, cut into equal slots. A slot is a power of two long and aligned to its own
//! length, so the slot of any address inside it is found with a mask, without a look-up:
//!
//! ```text
//!   base + slot_bytes = top  ┌───────────────────────────┐  high addresses
//!                            │ colour (0 ..= 1024 bytes) │  start address differs from task to task
//!                            ├───────────────────────────┤ ◄ first stack pointer
//!                            │ live frames               │
//!                            ├───────────────────────────┤ ◄ saved stack pointer of a parked task
//!                            │ red zone (128 bytes)      │  x86_64: the switch record lies here
//!                            ├───────────────────────────┤
//!                            │ touched once, now dead    │  `shrink` gives these pages back
//!                            ├ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┤
//!                            │ never touched: no memory  │  the kernel adds pages as the stack grows
//!                     limit  ├───────────────────────────┤
//!                            │ guard                     │  any access is a fault: overflow
//!                      base  └───────────────────────────┘  low addresses (top of the next slot)
//! ```

use crate::primitive::statics::{AtomicUsize, Ordering::Relaxed};
use crate::region;

/// Below the stack pointer the System V x86_64 ABI (section 3.2.2) lets code keep 128 live bytes, and the
/// switch keeps its record there. Apple's arm64 ABI has the same zone; elsewhere the margin does no harm.
pub(crate) const RED_ZONE_BYTES: usize = 128;

/// The largest colour. More would push the first frames of an idle task onto a second page.
pub(crate) const COLOUR_BYTES_MAX: usize = 1024;

/// The unit of colour: a cache line on every CPU this crate supports (Apple's is 128).
pub(crate) const COLOUR_STEP_BYTES: usize = 64;

/// The smallest slot, and so the alignment that every stack's top has.
pub(crate) const SLOT_BYTES_MIN: usize = 64 << 10;

/// A guard this wide stops code that probes its stack only each 64 KiB, as GCC does on aarch64
/// (`-fstack-clash-protection`, glibc bug 26691). rustc probes every page (x86_64 since 1.21, aarch64 since 1.76).
const GUARD_BYTES_WIDE: usize = 64 << 10;

const _: () = assert!(COLOUR_BYTES_MAX.is_multiple_of(COLOUR_STEP_BYTES));
const _: () = assert!(SLOT_BYTES_MIN.is_power_of_two());

/// Guard width of a slot: one page at least, a sixteenth of the slot on x86_64 (C code without probes
/// has less chance to jump it) and a quarter on aarch64 for the 64 KiB probes, never more than 64 KiB.
pub(crate) fn guard_bytes(slot_bytes: usize) -> usize {
    let share = if cfg!(target_arch = "aarch64") {
        slot_bytes / 4
    } else {
        slot_bytes / 16
    };
    share.clamp(page_bytes(), GUARD_BYTES_WIDE.max(page_bytes()))
}

/// The page size, asked of the kernel once.
pub(crate) fn page_bytes() -> usize {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: the value is the same whoever computes it, and nothing else is published with it.
    match PAGE.load(Relaxed) {
        0 => {
            let bytes = region::page_bytes_from_kernel();
            PAGE.store(bytes, Relaxed);
            bytes
        }
        bytes => bytes,
    }
}

/// `bytes` rounded up to whole pages.
pub(crate) fn pages_up(bytes: usize) -> usize {
    bytes.next_multiple_of(page_bytes())
}

/// `address` rounded down to a page boundary.
pub(crate) fn page_floor(address: usize) -> usize {
    address & !(page_bytes() - 1)
}
