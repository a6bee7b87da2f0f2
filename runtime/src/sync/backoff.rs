//! How long to look away from a word that somebody else holds, before the next look.
//!
//! A cache line that two CPUs want costs each of them some 100 ns to get, several times what is done under such a lock. Who
//! looks again at once makes the holder pay that for its next use too, and so do both, turn by turn: a channel that cost
//! 28 ns a value on one CPU cost 270 on two. Who looks away for the time of many uses lets the holder do them at its own
//! price, and pays one transfer for all. So the first look away is already much longer than a hold. As with all renting
//! before buying (Karlin et al., 1991), not by more than a small multiple of what is to be saved.
//!
//! By the clock, not in pauses: one takes 5 to 50 ns, as the CPU pleases.

use super::base::now;
use crate::primitive::spin_loop;

/// The first time, in nanoseconds: some ten transfers of a cache line.
const FIRST: u64 = 1_000;
/// And at most, which bounds what a free lock may wait for.
const MOST: u64 = 2_000;
/// Pauses between two looks at the clock, which costs more than they do.
const PAUSES: u32 = 8;

/// See the module.
pub(crate) struct Backoff(u64);

impl Backoff {
    #[inline]
    pub(crate) fn new() -> Backoff {
        Backoff(FIRST)
    }

    /// Looks away, longer than the last time.
    pub(crate) fn wait(&mut self) {
        if cfg!(bast_loom) {
            return spin_loop(); // a model has no time
        }
        let end = now() + self.0;
        loop {
            (0..PAUSES).for_each(|_| spin_loop());
            if now() >= end {
                break;
            }
        }
        self.0 = (self.0 * 2).min(MOST);
    }
}
