//! Stacks for green threads, and the switch between them: registers and memory, and no notion of a task.
//!
//! # Goal
//! A million suspended functions in one process, each on a stack that really grows, each guarded, each as
//! cheap as the one page it has touched; and a switch between two of them that costs a few instructions.
//!
//! # The life of a stack
//! 1. [`Stacks`] reserves an *arena*: one inaccessible mapping of equal, aligned slots ([`StackClass`]). Slots are
//!    carved from it in order, each with a guard at its low end ([`GuardMode`]).
//! 2. A processor takes a [`Stack`] from its [`HotCache`], without lock or system call when one is there.
//! 3. [`Saved::prepare`] makes it look suspended; the first [`switch`] to it runs its entry. The kernel adds pages
//!    as frames touch them. What does not fit goes to another stack for a while: [`maybe_grow`], [`on_big_stack`].
//! 4. A task parks by [`switch`]; after some time [`shrink()`] gives back the pages it does not use any more.
//! 5. The task ends by [`switch_final`], or its stack runs the next task in place ([`Saved::adopt`]).
//! 6. The stack goes back, last in first out. [`Stacks::trim`] gives the memory of surplus ones to the kernel.
//!
//! ```
//! use bast_stack::{Config, Saved, StackClass, Stacks, switch, switch_final};
//!
//! struct Task { home: Saved, own: Saved }
//!
//! unsafe extern "C" fn entry(task: usize) -> ! {
//!     let task = task as *mut Task;
//!     // Sound: home waits in `switch` below; nothing of this stack is needed afterwards.
//!     unsafe { switch_final(&raw mut (*task).own, &raw mut (*task).home, 6 * 7) }
//! }
//!
//! let stacks = Stacks::new(Config::default())?;
//! let stack = stacks.take(StackClass::Default256K)?;
//! let task = &raw mut *Box::leak(Box::new(Task { home: Saved::empty(), own: Saved::empty() }));
//! // Sound: the stack is fresh and ours until the task has ended, which it has when `switch` returns.
//! let answer = unsafe {
//!     (*task).own.prepare(&stack, 0, entry);
//!     switch(&raw mut (*task).home, &raw mut (*task).own, task as usize)
//! };
//! assert_eq!(answer, 42);
//! stacks.put(stack);
//! # Ok::<(), bast_stack::StackError>(())
//! ```
//!
//! # What holds
//! * **Stacks never move, and a suspended one is unwound or leaked**, never freed under its frames: other tasks
//!   may hold borrows of them, and pinned values rely on being dropped. Dropping a [`Stack`] therefore leaks it.
//! * **Overflow is a report and an abort** ([`fault`]), never memory corruption and never resumed. Rust code
//!   probes each page of its frames, so it cannot step over a guard; C code compiled without probes can,
//!   and belongs on [`on_big_stack`].
//! * **Backtraces end at the entry**, in `std`, gdb and perf: the outermost frame's return address is declared
//!   undefined and its frame pointer is zero. A panic cannot leave a stack: entries are `extern "C"`, which
//!   aborts with a message.
//! * **A switch keeps** every general and vector register with a live value in it. It does *not* keep the
//!   floating-point control registers (MXCSR, x87 control word, FPCR): they belong to the thread. See [`Saved`].
//! * **A switch may return on another thread.** Nothing here uses `thread_local!`; callers must not keep the
//!   address of a thread-local across one. The compiler does that with std's count of panics, unless they are caught
//!   by [`catch_unwind`].
//! * **Limits are errors** ([`StackError`]) that name the limit, its value and the command that raises it.
//!
//! # Ways not taken
//! * *One mapping a stack, guarded by `mprotect`*: two kernel mappings each, and `vm.max_map_count` ends it at
//!   about 32,700. It is the fallback where `MADV_GUARD_INSTALL` (Linux 6.13) is missing.
//! * *Growing by copying* (Go): Rust has no map of what points into a stack. *Segments linked in prologues*:
//!   given up by Go and Rust for its cost at a boundary; [`maybe_grow`] links them only where it is asked to.
//! * *Copying idle stacks out* (libco): borrows into them would dangle.
//! * *A fixed frame of callee-saved registers* (Boost's fcontext): the compiler knows better what is alive.
//!
//! # Sources
//! System V ABI for x86_64 (3.2.2 red zone, 6.2 unwinding), AAPCS64; madvise(2) and the `MADV_GUARD_INSTALL`
//! patch series (Stoakes 2024); PhotonLibOS, "Stackful coroutine made fast" (2024) for switches that spill live
//! registers only and for colours; zio's decaying high-water mark; sanitizer_common's `common_interface_defs.h`
//! and `tsan_interface.h`; valgrind.h.
//!
//! # Systems
//! Linux on x86_64 and aarch64 is tested (aarch64 in an emulator). macOS and the BSDs are type-checked only.

mod arch;
mod arena;
mod big;
mod bounds;
mod cpu;
mod depot;
mod entry;
mod error;
pub mod fault;
mod fork;
mod frames;
mod growth;
mod hot;
mod layout;
mod pool;
mod primitive;
mod region;
mod registry;
mod sanitizer;
mod saved;
mod shrink;
pub mod signal;
mod stack;
mod unwind;

pub use big::{maybe_grow, on_big_stack, try_on_big_stack};
pub use bounds::{remaining, thread_stack};
pub use cpu::{counter, fetch};
pub use error::StackError;
pub use frames::{frames, frames_at};
pub use hot::HotCache;
pub use pool::{ClassStats, Config, GuardMode, StackStats, Stacks};
pub use saved::{Saved, switch, switch_final};
pub use shrink::{shrink, shrinkable_bytes};
pub use stack::{Stack, StackClass};
pub use unwind::{catch_unwind, resume_unwind};

/// Where the sources of this crate lay when it was compiled: its frames on a stack are known by it.
#[doc(hidden)]
pub const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");

/// The shared free list, for the loom model of it.
#[cfg(bast_loom)]
#[doc(hidden)]
pub mod protocol {
    pub use crate::depot::{Depot, DepotCounts};
}
