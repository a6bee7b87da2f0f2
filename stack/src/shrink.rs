//! Giving back the pages below a parked task's stack pointer.

use crate::layout::{RED_ZONE_BYTES, page_bytes, page_floor};
use crate::region;
use crate::stack::Stack;

/// The dead part of a parked task's stack: whole pages below everything that is alive.
fn dead_pages(stack: &Stack, saved_stack_pointer: usize) -> Option<(usize, usize)> {
    // A task parked inside `on_big_stack` has its pointer elsewhere; then nothing is known of this stack.
    if !stack.contains(saved_stack_pointer.checked_sub(1)?) {
        return None;
    }
    let end = page_floor(saved_stack_pointer - RED_ZONE_BYTES);
    (end > stack.limit()).then(|| (stack.limit(), end - stack.limit()))
}

/// How many bytes [`shrink`] would give back now: what is in memory below the saved stack pointer.
///
/// It asks the kernel (`mincore(2)`), about 1 us for a 256 KiB stack; ask once after a task has been parked
/// for a while, not at each park. A task that never went deep answers zero, or a page at a colour's edge.
pub fn shrinkable_bytes(stack: &Stack, saved_stack_pointer: usize) -> usize {
    dead_pages(stack, saved_stack_pointer).map_or(0, |(start, bytes)| region::resident_bytes(start, bytes))
}

/// Gives the pages below a parked task's stack pointer back to the kernel; returns how many bytes that were.
///
/// The stack stays as large as it was: when the task grows into those pages again, they come back zeroed.
/// Only whole pages go, and the 128 bytes below the pointer (the red zone, where the switch record lies)
/// stay. When nothing is there to give, no page table is touched.
///
/// ```
/// use bast_stack::{Config, StackClass, Stacks, shrink};
/// let stacks = Stacks::new(Config::default())?;
/// let stack = stacks.take(StackClass::Default256K)?;
/// // SAFETY: nothing is alive on this stack at all.
/// let freed = unsafe { shrink(&stack, stack.top() - 4096) };
/// assert_eq!(freed, 0, "it was never used");
/// stacks.put(stack);
/// # Ok::<(), bast_stack::StackError>(())
/// ```
///
/// # Safety
/// `saved_stack_pointer` is [`Saved::stack_pointer`](crate::Saved::stack_pointer) of the context suspended on
/// `stack` (or above it in the same frame chain's dead side), and nobody resumes it during the call.
pub unsafe fn shrink(stack: &Stack, saved_stack_pointer: usize) -> usize {
    let Some((start, bytes)) = dead_pages(stack, saved_stack_pointer) else {
        return 0;
    };
    let resident = region::resident_bytes(start, bytes);
    if resident < page_bytes() {
        return 0;
    }
    // SAFETY: validity: whole pages of a mapped stack. aliasing: the context is suspended above them
    //         (contract), so what is there is dead.
    let discarded = unsafe { region::discard(start, bytes) };
    if discarded.is_ok() { resident } else { 0 }
}
