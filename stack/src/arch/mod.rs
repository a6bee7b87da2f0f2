//! What a CPU architecture must supply; the only place that chooses one.
//!
//! | function | contract |
//! |---|---|
//! | `switch(from, to, arg) -> (arg', resumer)` | saves the context, stores its stack pointer in `*from`, goes on at `*to`; returns when resumed, with the resumer's `arg` and `from` |
//! | `switch_final(to, arg) -> !` | the same without saving; `resumer` is null on the other side |
//! | `write_first_record(start, entry) -> sp` | makes a fresh stack look suspended, so that a switch to `sp` runs [`entry::begin`](crate::entry::begin) |
//! | `call_on(data, function, top)` | calls `function(data)` on another stack and comes back |
//! | `stack_pointer()` | the present stack pointer |
//! | `frame_pointer()` | what is in the register for frame pointers, which may be anything |
//! | `read_word(address)` | loads a word behind the compiler's back |
//! | `fetch(address)` | fetches a line of the cache that will be written |
//! | `counter()` | the CPU's own counter of ticks |
//! | `has_shadow_stack()` | whether the CPU checks return addresses against a second stack |
//! | `valgrind_request(..)` | a client request of Valgrind; 0 when not under it |
//!
//! `x86_64.rs` is the reference, with pictures; the others comment where they differ. A saved stack pointer
//! is a multiple of 16. Addresses at and above it are live, and on x86_64 the 128 bytes below it as well.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::*;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
compile_error!("bast-stack has a switch for x86_64 and aarch64 only");
#[cfg(not(unix))]
compile_error!("bast-stack needs a Unix: Linux is tested, macOS and the BSDs are type-checked");
