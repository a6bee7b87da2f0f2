//! Chaos: under `--cfg bast_chaos`, seeded perturbation at the protocol points; nothing otherwise.
//!
//! The seed is printed when a runtime starts, and `BAST_CHAOS_SEED` sets it. With one processor a seed replays the
//! same perturbations; with several it replays each thread's stream, and the kernel still interleaves them.
//!
//! `BAST_CHAOS_STRENGTH` makes them so many times as frequent, 1 unless it is set. With 10 a test that takes an order for
//! granted which is merely likely fails within minutes.

/// Where the schedule may be bent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// A task becomes runnable.
    Ready,
    /// A park is about to be committed.
    Commit,
    /// A worker is about to sleep.
    Sleep,
    /// A task could be switched to directly.
    GoHome,
    /// A task enters the runtime and could yield.
    Enter,
    /// A task is about to park and could return for no reason.
    Spurious,
}

#[cfg(not(bast_chaos))]
mod imp {
    use super::Point;
    pub(crate) fn start() {}
    #[inline(always)]
    pub(crate) fn point(_: Point) {}
    #[inline(always)]
    pub(crate) fn flip(_: Point) -> bool {
        false
    }
    pub(crate) fn seed_for(seed: u64) -> u64 {
        seed
    }
}

#[cfg(bast_chaos)]
mod imp {
    use super::Point;
    use crate::primitive::atomic::{AtomicU64, Relaxed};

    /// One stream for the process: a step is one atomic addition, so threads draw from it without a lock.
    static STREAM: AtomicU64 = AtomicU64::new(0);
    /// How many times as frequent everything is.
    static STRENGTH: AtomicU64 = AtomicU64::new(1);

    fn from_environment(variable: &str) -> Option<u64> {
        std::env::var(variable).ok().and_then(|text| text.parse().ok())
    }

    /// Seeds the stream, once a process, from the environment or the clock, and says so.
    pub(crate) fn start() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            let seed = from_environment("BAST_CHAOS_SEED").unwrap_or_else(crate::time::clock::now);
            let strength = from_environment("BAST_CHAOS_STRENGTH").unwrap_or(1);
            STRENGTH.store(strength.max(1), Relaxed);
            eprintln!("bast: chaos seed {seed} (BAST_CHAOS_SEED={seed} runs it again)");
            STREAM.store(seed, Relaxed);
        });
    }

    fn draw() -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014): a counter with a finalizer, hence the atomic addition.
        let mut z = STREAM.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Now and then delays the caller, by a few spins or by giving up the CPU.
    pub(crate) fn point(_: Point) {
        match draw() % 64 / STRENGTH.load(Relaxed) {
            0 => std::thread::yield_now(),
            1..8 => (0..draw() % 200).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }

    /// Now and then true.
    pub(crate) fn flip(point: Point) -> bool {
        let odds = match point {
            Point::Enter => 64,
            Point::Spurious => 32,
            _ => 16,
        };
        draw().is_multiple_of((odds / STRENGTH.load(Relaxed)).max(2)) // never always: a park must come to pass
    }

    /// A seed for what else is random: the order of victims.
    pub(crate) fn seed_for(_: u64) -> u64 {
        draw()
    }
}

pub(crate) use imp::*;
