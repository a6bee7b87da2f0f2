//! Catching a panic on another thread than the one on which the catcher was called.
//!
//! std counts the panics of a thread in a thread-local: up where one starts, down where one is caught. LLVM takes the
//! address of a thread-local as constant within a function (llvm-project#98479), and with LTO std's counting is inlined
//! into the functions that catch: the address is then worked out once, before a loop or for several catches, kept
//! across the switches between them, and the count of a thread is touched that has long been left. From then on one
//! thread counts as panicking for ever. Seen on aarch64; x86_64 addresses its thread-locals relative to a register.
//!
//! So the counting has a frame of its own here: [`catch_unwind`] is not inlined into its callers, nor what may switch
//! into it, and what is left in between touches the thread-local once, after the last switch.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe, UnwindSafe};
use std::thread;

/// [`std::panic::catch_unwind`] for closures that may be suspended and go on on another thread.
///
/// std's own is sound for them only if no function that it is inlined into touches std's count of panics twice, which
/// is LLVM's to decide. A function that catches in a loop, on aarch64, with LTO, is where it goes wrong.
///
/// ```
/// let caught = bast_stack::catch_unwind(|| -> u32 { std::panic::resume_unwind(Box::new("no")) });
/// assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "no");
/// assert_eq!(bast_stack::catch_unwind(|| 6 * 7).unwrap(), 42);
/// ```
///
/// # Errors
/// What `f` panicked with.
#[inline(never)]
pub fn catch_unwind<R>(f: impl FnOnce() -> R + UnwindSafe) -> thread::Result<R> {
    panic::catch_unwind(AssertUnwindSafe(|| apart(f)))
}

/// Calls `f`, whose own uses of the count stay out of the caller's frame.
#[inline(never)]
fn apart<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// [`std::panic::resume_unwind`], likewise apart from what its callers do with the count of panics.
#[cold]
#[inline(never)]
pub fn resume_unwind(payload: Box<dyn Any + Send>) -> ! {
    panic::resume_unwind(payload)
}
