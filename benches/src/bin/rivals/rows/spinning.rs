//! Work that only computes, the same number of instructions in every language.

use std::hint::black_box;

/// Steps of [`spin`] that take about a microsecond at 2.5 GHz: six operations, each of which waits for the one before.
pub(super) const STEPS_A_MICROSECOND: u32 = 400;

/// A chain of `steps` xorshifts, which no compiler can shorten (two steps of a linear generator it folds into one).
#[inline(never)]
pub(super) fn spin(steps: u32) {
    let mut state = black_box(1_u64);
    for _ in 0..steps {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
}
