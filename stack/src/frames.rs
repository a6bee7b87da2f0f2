//! Who called? The return addresses on the stack, by the chain of frame pointers: a handful of loads, without unwind
//! tables, for code that is built with `-Cforce-frame-pointers=yes`.
//!
//! ```text
//!   a frame that has one:   caller's frame pointer   ◄─ frame pointer      the same on x86_64 (RBP)
//!                           return address                                 and aarch64 (X29)
//! ```
//!
//! Code built without them leaves anything in the register. So nothing is believed: each record must lie between the
//! stack pointer and the top of the stack that we stand on, above the one before, and be aligned; else the chain ends.
//! What is read there may be no record all the same, and then what comes out is an address that nobody returns to;
//! it is only ever named, never followed. The words are loaded by assembly, because to the compiler they may be
//! uninitialised, or somebody else's, if there is no record.
//!
//! A task's chain ends at its entry, whose frame pointer is zero. On a stack of [`on_big_stack`](crate::on_big_stack)
//! it ends where that stack does.

use crate::{arch, bounds, registry, signal};
use std::ffi::c_void;
use std::ops::Range;

const WORD: usize = size_of::<usize>();
/// Frame pointer and return address.
const RECORD_BYTES: usize = 2 * WORD;

/// Fills `addresses` with return addresses, of the caller's own frame first, and says how many there are: as many as there
/// is room for, or as the chain has. For tasks and plain threads.
///
/// None of them need be right if some of the code on the stack was built without frame pointers.
///
/// ```
/// let mut addresses = [0; 16];
/// let count = bast_stack::frames(&mut addresses);
/// assert!(count <= addresses.len());
/// ```
///
/// Takes no lock. Takes memory at the first call on a plain thread, whose bounds must be asked for.
#[inline(never)]
pub fn frames(addresses: &mut [usize]) -> usize {
    let low = arch::stack_pointer();
    let Some(top) = bounds::top_of(low) else {
        return 0;
    };
    // SAFETY: validity: `walk` asks for words between the stack pointer and the top of the stack that we stand on, which
    // are mapped and readable. aliasing: the load is the processor's, not the language's.
    let read = |address| unsafe { arch::read_word(address) };
    walk(arch::frame_pointer(), low, top, addresses, read)
}

/// As [`frames`], of the code that a signal has interrupted: the address of the instruction first, then return addresses. For
/// signal handlers: takes no lock and no memory.
///
/// The chain is followed on stacks of this crate, and within `thread`, which is the interrupted thread's own
/// ([`thread_stack`](crate::thread_stack)); elsewhere, and where the handler came in the middle of a switch between two stacks,
/// there is only the instruction. Zero where the layout of `context` is not known: outside of Linux.
///
/// # Safety
/// `context` is the third argument of the handler that runs, and `thread` is empty or the stack of its thread.
pub unsafe fn frames_at(context: *const c_void, thread: &Range<usize>, addresses: &mut [usize]) -> usize {
    // SAFETY: validity: as our caller says.
    let Some(at) = (unsafe { signal::registers(context) }) else {
        return 0;
    };
    let Some((first, rest)) = addresses.split_first_mut() else {
        return 0;
    };
    *first = at.instruction;
    // Between the making of a frame and its first touch the pointer may be in the guard, which cannot be read.
    let (low, top) = match registry::find(at.stack) {
        Some(stack) => (at.stack.max(stack.limit), stack.top),
        None if thread.contains(&at.stack) => (at.stack, thread.end),
        None => return 1,
    };
    // SAFETY: validity: as in `frames`: between the interrupted code's stack pointer and the top of its stack, which
    // stays while its thread is in the handler. aliasing: the load is the processor's, not the language's.
    let read = |address| unsafe { arch::read_word(address) };
    1 + walk(at.frame, low, top, rest, read)
}

/// Follows the chain from `frame`, by `read` of aligned addresses in `low..top` only.
fn walk(
    mut frame: usize,
    mut low: usize,
    top: usize,
    addresses: &mut [usize],
    read: impl Fn(usize) -> usize,
) -> usize {
    let last = top.saturating_sub(RECORD_BYTES);
    let mut count = 0;
    for address in addresses {
        if frame < low || frame > last || !frame.is_multiple_of(WORD) {
            break;
        }
        *address = read(frame + WORD);
        if *address == 0 {
            break;
        }
        count += 1;
        low = frame + RECORD_BYTES; // so that it ends
        frame = read(frame);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::{WORD, walk};

    const LOW: usize = 0x1000;

    /// Walks `words`, which lie at `LOW`.
    fn walked(words: &[usize], frame: usize, room: usize) -> Vec<usize> {
        let top = LOW + words.len() * WORD;
        let mut addresses = vec![0; room];
        let count = walk(frame, LOW, top, &mut addresses, |address| {
            assert!(address >= LOW && address.is_multiple_of(WORD), "{address:#x}");
            words[(address - LOW) / WORD] // or it is beyond the top
        });
        addresses[..count].to_vec()
    }

    #[test]
    fn a_chain_is_followed_to_its_end() {
        let words = [0, LOW + 4 * WORD, 11, 0, LOW + 6 * WORD, 22, 0, 33];
        let first = LOW + WORD;
        assert_eq!(walked(&words, first, 9), [11, 22, 33]);
        assert_eq!(walked(&words, first, 2), [11, 22]);
        assert_eq!(walked(&words, first, 0), [0; 0]);
    }

    #[test]
    fn garbage_ends_it() {
        let words = [0, 11, 0, 22];
        for frame in [
            0,
            LOW - WORD,
            LOW + 1,
            LOW + 3 * WORD,
            LOW + 4 * WORD,
            usize::MAX - 7,
            usize::MAX,
        ] {
            assert_eq!(walked(&words, frame, 9), [0; 0], "{frame:#x}");
        }
        // To itself, back, half a record on, to the edge.
        for next in [LOW, LOW - WORD, LOW + WORD, LOW + 3 * WORD, LOW + 4 * WORD] {
            assert_eq!(walked(&[next, 11, 0, 22], LOW, 9), [11], "{next:#x}");
        }
        assert_eq!(
            walked(&[LOW + 2 * WORD, 0, 0, 22], LOW, 9),
            [0; 0],
            "nobody returns to 0"
        );
    }

    #[test]
    fn whatever_lies_on_it_the_walk_stays_within_a_stack() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..10_000 {
            let words: Vec<usize> = (0..16)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    LOW - 4 * WORD + (seed >> 33) as usize % (26 * WORD)
                })
                .collect();
            assert!(walked(&words, words[0], 99).len() <= 8);
        }
    }
}
