//! The first function on a new stack.

use crate::sanitizer::Left;
use crate::saved::{self, Saved};

/// Called by the architecture's trampoline with what the first switch delivered: who resumed us, the
/// entry that `prepare` was given, and the argument.
///
/// This is where every stack's backtrace ends, and where a panic would: a task's entry catches panics
/// itself, and one that got past it stops here, because `extern "C"` aborts with a message instead of
/// letting it into the trampoline, below which there is no frame to unwind to.
pub(crate) unsafe extern "C" fn begin(
    resumer: *mut Saved,
    entry: unsafe extern "C" fn(usize) -> !,
    argument: usize,
) -> ! {
    // SAFETY: validity: the trampoline passes on what the switch that came here gave.
    //         aliasing: that context is suspended.
    unsafe { saved::arrive(Left::nothing(), resumer) };
    // SAFETY: validity: `prepare` was given this function for this stack. aliasing: it starts once.
    unsafe { entry(argument) }
}
