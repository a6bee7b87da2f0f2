//! Two instructions that the language has no name for, as the assembly is in this crate.

use crate::arch;

/// The line of the cache at `place` will be written soon: fetches it for this CPU alone, from another one's cache too. A hint:
/// nothing is read or written, and any address will do.
///
/// ```
/// let word = 0_u64;
/// bast_stack::fetch(&raw const word);
/// ```
#[inline(always)]
pub fn fetch<T>(place: *const T) {
    arch::fetch(place.cast());
}

/// The CPU's own counter (x86_64: TSC, aarch64: CNTVCT), in ticks of which the system knows the rate. It is not ordered with
/// what stands around it. Whether it runs evenly, and alike on all CPUs, the kernel knows: ask it first.
///
/// ```
/// let (before, after) = (bast_stack::counter(), bast_stack::counter());
/// # let _ = (before, after);
/// ```
#[inline(always)]
pub fn counter() -> u64 {
    arch::counter()
}
