//! What a memory fault means for a stack: a pure function, so that every case can be tested.
//!
//! There is no third answer "grow": inside a slot the kernel adds pages by itself without a fault that we
//! would see, and beyond the slot a stack never grows in place. After a fault nothing is resumed.

use crate::registry::Bounds;

/// What to do about a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The stack with these bounds overflowed: report it and abort.
    Overflow(Bounds),
    /// Not a stack's doing: the handler that was there before decides.
    NotOurs,
}

/// Decides. `slot` is the registered slot that holds the fault's address; `stack_pointer` the faulting
/// context's, where the system tells it.
///
/// An overflow is a touch of a guard by code that runs *on that stack*. Code that probes its frames (all of
/// Rust) has its pointer in the guard or above it then. A pointer elsewhere means that something else reached
/// into the guard, for example a buffer at the top of the neighbouring stack written past its end; to call
/// that an overflow would send the reader the wrong way.
pub(crate) fn decide(fault_address: usize, stack_pointer: Option<usize>, slot: Option<Bounds>) -> Verdict {
    let Some(bounds) = slot else {
        return Verdict::NotOurs;
    };
    let in_guard = (bounds.base..bounds.limit).contains(&fault_address);
    let on_this_stack = stack_pointer.is_none_or(|pointer| (bounds.base..bounds.top).contains(&pointer));
    if in_guard && on_this_stack {
        Verdict::Overflow(bounds)
    } else {
        Verdict::NotOurs
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, decide};
    use crate::registry::Bounds;

    const SLOT: Bounds = Bounds {
        base: 0x10000,
        limit: 0x11000,
        top: 0x20000,
    };

    #[test]
    fn a_touch_of_the_guard_from_its_own_stack_is_an_overflow() {
        for (fault, pointer) in [
            (0x10ff8, Some(0x11000)), // a push at the very limit
            (0x10000, Some(0x10000)), // a probe at the guard's low end
            (0x10800, Some(0x1fff0)), // a frame so large that the pointer has not moved yet
            (0x10800, None),          // a system that does not tell the pointer
        ] {
            assert_eq!(
                decide(fault, pointer, Some(SLOT)),
                Verdict::Overflow(SLOT),
                "{fault:#x} {pointer:x?}"
            );
        }
    }

    #[test]
    fn everything_else_is_not_ours() {
        for (fault, pointer, slot) in [
            (0x10800, Some(0x10800), None),       // on no stack of ours
            (0x11000, Some(0x11800), Some(SLOT)), // above the guard: the page is missing for another reason
            (0x1ffff, Some(0x11800), Some(SLOT)),
            (0x10000, Some(0x0fff0), Some(SLOT)), // the neighbour below writes past its own top
            (0x10800, Some(0x20000), Some(SLOT)), // the neighbour above, its pointer at our top
            (0x10800, Some(0x7fff_0000), Some(SLOT)),
        ] {
            assert_eq!(
                decide(fault, pointer, slot),
                Verdict::NotOurs,
                "{fault:#x} {pointer:x?} {slot:x?}"
            );
        }
    }
}
