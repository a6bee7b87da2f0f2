//! `Saved`: the one value that crosses a switch, and the switch itself.

use crate::arch;
use crate::layout::{COLOUR_BYTES_MAX, COLOUR_STEP_BYTES};
use crate::sanitizer::{Fiber, Left};
use crate::stack::Stack;
use std::fmt;

/// Where a suspended context goes on: its stack pointer. Everything else is on its stack.
///
/// One word. Under a sanitizer it also carries that tool's idea of the stack (a fiber).
///
/// # Registers
/// A switch keeps every integer and vector register that the compiler has a live value in (they are
/// spilled by the compiler, because the switch is declared to clobber them all) and the frame pointer.
/// The floating-point *control* registers (x86_64: MXCSR and the x87 control word; aarch64: FPCR) are
/// **not** part of the context: they stay with the thread. Rust code must run with their default values
/// (`_mm_setcsr` is documented as undefined behaviour otherwise), so there is nothing to keep, and saving
/// them costs more than the rest of the switch. Code that calls a C library which changes the rounding
/// mode has to change it back before it can park.
#[repr(C)]
pub struct Saved {
    /// First field: the assembly stores and loads it through a pointer to the whole.
    stack_pointer: usize,
    fiber: Fiber,
}

impl Saved {
    /// A context to be saved into: the `from` of a first switch.
    pub const fn empty() -> Saved {
        Saved {
            stack_pointer: 0,
            fiber: Fiber::none(),
        }
    }

    /// The saved stack pointer; zero before anything was saved. Meaningless while the context runs.
    #[inline]
    pub fn stack_pointer(&self) -> usize {
        self.stack_pointer
    }

    /// Prepares a fresh stack: the first [`switch`] to it calls `entry(arg)` with the argument of that switch.
    ///
    /// `colour`, in bytes, is subtracted from the start address, so that equal frames of many stacks do not
    /// share the same sets of the CPU's first-level cache (stacks are aligned far beyond a page).
    ///
    /// # Safety
    /// Nothing on `stack` is alive, and it stays owned by the caller until the context is dead.
    ///
    /// # Panics
    /// If `colour` is not a multiple of 64, or above 1024.
    pub unsafe fn prepare(&mut self, stack: &Stack, colour: usize, entry: unsafe extern "C" fn(usize) -> !) {
        assert!(
            colour <= COLOUR_BYTES_MAX && colour.is_multiple_of(COLOUR_STEP_BYTES),
            "a colour is a multiple of {COLOUR_STEP_BYTES}, at most {COLOUR_BYTES_MAX}"
        );
        // SAFETY: validity: the start is 64-byte aligned, in the stack and far above its limit.
        //         aliasing: nothing on the stack is alive (this function's contract).
        unsafe { self.prepare_at(stack, stack.top() - colour, entry) }
    }

    /// Like [`Saved::prepare`], starting below `start`: what lies between `start` and the stack's top stays
    /// the caller's, for instance a task's closure.
    ///
    /// # Safety
    /// As `prepare`, except that things at or above `start` may be alive.
    ///
    /// # Panics
    /// If `start` is not a multiple of 16 inside the stack (or its top).
    pub unsafe fn prepare_at(
        &mut self,
        stack: &Stack,
        start: usize,
        entry: unsafe extern "C" fn(usize) -> !,
    ) {
        assert!(
            start.is_multiple_of(16) && stack.contains(start - 1) && start - stack.limit() >= 1024,
            "a stack starts at a multiple of 16, with room below"
        );
        self.fiber.prepare(stack.limit(), stack.top());
        // SAFETY: validity: the record's place below `start` is in the stack. aliasing: nothing there is alive.
        self.stack_pointer = unsafe { arch::write_first_record(start, entry as usize) };
    }

    /// For reuse in place: the stack of a finished task runs the next one without a switch. The sanitizer's
    /// fiber belongs to the stack, so it moves along; when no sanitizer is on, this does nothing.
    ///
    /// # Safety
    /// `from` belongs to the context that runs now, which is never saved to `from` again.
    #[inline(always)]
    pub unsafe fn adopt(&mut self, from: &mut Saved) {
        self.fiber.adopt(&mut from.fiber);
    }
}

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Saved({:#x})", self.stack_pointer)
    }
}

/// Saves the present context in `*from` and resumes `*to`, where `arg` arrives; returns the argument given
/// by whoever resumes `from`. It may return **on another OS thread**: nothing bound to a thread may be
/// alive across it, and a thread-local's address must not be used on both sides within one function.
///
/// ```
/// use bast_stack::{Config, Saved, StackClass, Stacks, switch, switch_final};
///
/// struct Pair { home: Saved, task: Saved }
///
/// unsafe extern "C" fn entry(pair: usize) -> ! {
///     let pair = pair as *mut Pair;
///     let mut value = 1;
///     loop {
///         // SAFETY: the pair outlives the task, and home is suspended whenever the task runs.
///         let add = unsafe { switch(&raw mut (*pair).task, &raw mut (*pair).home, value) };
///         if add == 0 {
///             // SAFETY: as above; the task never runs again.
///             unsafe { switch_final(&raw mut (*pair).task, &raw mut (*pair).home, 0) }
///         }
///         value += add;
///     }
/// }
///
/// let stacks = Stacks::new(Config::default())?;
/// let stack = stacks.take(StackClass::Default256K)?;
/// let mut pair = Pair { home: Saved::empty(), task: Saved::empty() };
/// let pair = &raw mut pair;
/// // SAFETY: the stack is fresh and given back only after the task has ended.
/// unsafe {
///     (*pair).task.prepare(&stack, 0, entry);
///     let resume = |arg| switch(&raw mut (*pair).home, &raw mut (*pair).task, arg);
///     assert_eq!(resume(pair as usize), 1);
///     assert_eq!(resume(41), 42);
///     resume(0);
/// }
/// stacks.put(stack);
/// # Ok::<(), bast_stack::StackError>(())
/// ```
///
/// # Safety
/// * `*to` was saved by a `switch` or prepared, and has not been resumed since; its stack is intact.
/// * Nobody else resumes it meanwhile, and nobody resumes `*from` before the other side runs.
/// * `*to` stays at its address until the other side runs, and `*from` too; after that a suspended context may be
///   resumed through another place that its `Saved` was moved to.
/// * [`std::thread::panicking`] is false, or the context comes back on the same thread.
#[inline(always)]
pub unsafe fn switch(from: *mut Saved, to: *mut Saved, arg: usize) -> usize {
    // SAFETY: validity: both point to contexts (contract). aliasing: no reference to them is held by others.
    let left = unsafe { Fiber::leave(fiber_of(from), fiber_of(to)) };
    // SAFETY: validity: `to` holds a saved stack pointer as its first field. aliasing: it is resumed once.
    let (value, resumer) = unsafe { arch::switch(from.cast(), to.cast(), arg) };
    // SAFETY: validity: `left` is this context's own; `resumer` is the `from` of the switch that came here.
    unsafe { arrive(left, resumer.cast()) };
    value
}

/// Like [`switch`], but the present context is dead: it is never resumed, and its stack may be reused the
/// moment the other side runs.
///
/// # Safety
/// As [`switch`]; and nothing on the present stack is needed again, its destructors have run.
#[inline(always)]
pub unsafe fn switch_final(from: *mut Saved, to: *mut Saved, arg: usize) -> ! {
    let _ = from;
    // SAFETY: validity: as in `switch`. aliasing: as there.
    unsafe { Fiber::leave_for_ever(fiber_of(to)) };
    // SAFETY: validity: `to` holds a saved stack pointer as its first field. aliasing: it is resumed once.
    unsafe { arch::switch_final(to.cast(), arg) }
}

/// Tells the sanitizer that the context which `left` runs again (or has just begun), and that `resumer` (null: a
/// dead one) made it.
///
/// # Safety
/// `left` is the running context's; `resumer` is null or suspended in the switch that came here.
#[inline(always)]
pub(crate) unsafe fn arrive(left: Left, resumer: *mut Saved) {
    // SAFETY: validity: null, or points to a context. aliasing: it belongs to this switch alone.
    unsafe { Fiber::arrive(left, fiber_of(resumer)) };
}

/// The address of its fiber; null stays null.
#[inline(always)]
fn fiber_of(saved: *mut Saved) -> *mut Fiber {
    if saved.is_null() {
        return std::ptr::null_mut();
    }
    saved.wrapping_byte_add(std::mem::offset_of!(Saved, fiber)).cast()
}
