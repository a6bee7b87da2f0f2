//! Where a `select!` draws the order of its cases from: each thing that a case can wait for has one.

use crate::primitive::atomic::{AtomicU32, Relaxed};

/// A sequence of random numbers. Two that draw at once may get the same.
///
/// Memory ordering: Relaxed; it decides nothing but an order.
pub(super) struct Turn(AtomicU32);

impl Turn {
    /// A sequence of its own for each seed, as far as 32 bits go.
    pub(super) fn new(seed: u64) -> Turn {
        // Fibonacci hashing (Knuth 6.4), and never 0, which xorshift would repeat for ever.
        let hash = (seed ^ 0x9e37_79b9).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Turn(AtomicU32::new(hash as u32 | 1))
    }

    /// The next number.
    pub(super) fn draw(&self) -> u32 {
        if cfg!(bast_loom) {
            return 0; // fairness is not what is modelled
        }
        // Xorshift32 (Marsaglia 2003).
        let mut x = self.0.load(Relaxed);
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.0.store(x, Relaxed);
        x
    }
}
