//! A small seeded generator (xorshift64*, Vigna 2016) for victim order and chaos; not for secrets.

/// The generator's state.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Any seed will do, also zero.
    pub(crate) fn new(seed: u64) -> Rng {
        // SplitMix64's finalizer: neighbouring seeds must not give neighbouring streams.
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng((z ^ (z >> 31)) | 1)
    }

    /// The next 32 bits.
    #[inline]
    pub(crate) fn next_u32(&mut self) -> u32 {
        let mut x = self.0;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// A number below `bound`, which is not zero (Lemire's multiply-and-shift, bias below 2^-32 x bound).
    #[inline]
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn below_reaches_every_value_and_no_other() {
        for seed in 0..16 {
            let mut rng = Rng::new(seed);
            let mut seen = [false; 7];
            for _ in 0..500 {
                seen[rng.below(7) as usize] = true;
            }
            assert_eq!(seen, [true; 7], "seed {seed}");
        }
    }
}
