//! A lock that costs one exchange a turn, not two: giving it back is a store and a load. Its users wait by sleeping, seldom.
//!
//! ```text
//!   word:      FREE ── lock: exchange ──► HELD ── unlock: store ──► FREE
//!   sleepers:  how many have said that they will sleep, and nobody has taken that away
//!   wakes:     how often somebody was woken: what one sleeps on
//!
//!   unlock:  word = FREE ─ sleepers? ── none: done
//!                                    └─ take one away ─ wakes + 1 ─ wake one
//!   sleep:   read wakes ─ sleepers + 1 ─ heavy barrier ─ try ── got it: done
//!               ▲                                            └─ sleep while wakes is as it was read
//!               └──────────────────────────────────────────────────┘
//! ```
//!
//! # Goal
//! Who sleeps is woken by the first who gives the lock back after that; and who gives it back without anybody waiting pays
//! neither an exchange nor a fence. On x86_64 the exchange at the end was a third of what a value through a channel costs.
//!
//! # Why nobody sleeps on
//! Unlocker: (U1) `word = FREE`, Release; (U2) barrier; (U3) read `sleepers`.
//! Sleeper: (S0) read `wakes`; (S1) `sleepers += 1`; (S2) heavy barrier; (S3) try to lock; (S4) sleep while `wakes` is as S0 read it.
//!
//! *It is seen*: of any unlocker either U3 sees S1, or S3 sees U1 or what came after it: the Dekker of `blocking::handoff`. S2
//! is `membarrier(2)`: a thread has done U3 before it, and then U1 is seen by all, or does it after, and sees S1. Where the
//! kernel refuses it `FENCE` stands in `sleepers` for ever, so that U3 never reads zero, and the unlocker runs a fence and reads
//! again. So if S3 fails, the one who holds the lock then has not done U3, and will see S1 unless another unlocker has taken it
//! away.
//! *Whoever takes it away wakes*: he adds to `wakes` and wakes one who sleeps. If that was meant for a thread that does not
//! sleep yet, S4 finds `wakes` changed: S0 happens before S1 (Release), which happens before the taking (Acquire; the other
//! changes in between are exchanges and carry it on), which happens before the adding. So S0 cannot have read it.
//! *Too many are no harm*: a sleeper that comes round says so again, although what it has said before may still stand. What is
//! left over is taken away by an unlock each, which wakes nobody, or somebody for no reason.
//! A thread that was woken and has not run yet costs the others nothing: what it had said was taken away with that.
//!
//! The data under the lock: U1 is Release, the exchange of `lock` Acquire.
//!
//! # Where it ends
//! U3 comes after U1, when another may have the lock already: whoever gives it back must know that it is not freed meanwhile.
//!
//! Rejected: a third state of the word for "held, and somebody sleeps" (Drepper, "Futexes are tricky"), as here before: it has to be
//! read by the exchange that frees it.

#![cfg_attr(
    not(bast_loom),
    expect(
        unreachable_pub,
        reason = "the model checker reaches these items from another package"
    )
)]

#[cfg(not(bast_loom))]
use crate::primitive::atomic::compiler_fence;
use crate::primitive::atomic::{Acquire, AtomicU32, Ordering, Relaxed, Release, SeqCst, fence};

const FREE: u32 = 0;
const HELD: u32 = 1;

/// In `sleepers`: the heavy barrier does not reach all, so unlocking runs a fence of its own.
const FENCE: u32 = 1;
/// In `sleepers`: one who will sleep.
const SLEEPER: u32 = 2;

// Planted bugs, off unless the build asks for one: the model must find each of them. More are below.
const UNLOCK: Ordering = if cfg!(bast_plant = "lock_word_unlock_relaxed") {
    Relaxed
} else {
    Release
};

/// See the module.
#[derive(Debug)]
pub struct LockWord {
    word: AtomicU32,
    sleepers: AtomicU32,
    wakes: AtomicU32,
}

impl LockWord {
    /// A free one. `fences`: the sleepers' heavy barrier does not reach all who unlock it.
    pub fn new(fences: bool) -> LockWord {
        LockWord {
            word: AtomicU32::new(FREE),
            sleepers: AtomicU32::new(if fences { FENCE } else { 0 }),
            wakes: AtomicU32::new(0),
        }
    }

    /// Takes it if it is free.
    #[inline]
    pub fn try_lock(&self) -> bool {
        // Acquire: pairs with U1.
        self.word.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
    }

    /// Is it worth trying? Reads only.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.word.load(Relaxed) == FREE
    }

    /// Takes it, and sleeps until that can be done. `sleep` is told a word and what it was: it returns when the word is
    /// different, after a wake, or for no reason.
    #[cold]
    pub fn lock_asleep(&self, heavy_barrier: impl Fn(), sleep: impl Fn(&AtomicU32, u32)) {
        loop {
            #[cfg(not(bast_plant = "lock_word_look_late"))]
            let seen = self.wakes.load(Relaxed); // S0
            self.sleepers.fetch_add(SLEEPER, Release); // S1; pairs with the taking away
            #[cfg(not(bast_plant = "lock_word_no_heavy_barrier"))]
            heavy_barrier(); // S2; pairs with U2
            #[cfg(bast_plant = "lock_word_look_late")]
            let seen = self.wakes.load(Relaxed);
            if self.try_lock() {
                return; // S3
            }
            sleep(&self.wakes, seen); // S4
            #[cfg(bast_plant = "lock_word_said_once")]
            loop {
                let seen = self.wakes.load(Relaxed);
                if self.try_lock() {
                    return;
                }
                sleep(&self.wakes, seen);
            }
        }
    }

    /// Gives it back; `wake` wakes one who sleeps on a word.
    ///
    /// # Safety
    /// The caller has it, and knows that it is not freed before this returns.
    #[inline]
    pub unsafe fn unlock(&self, wake: impl FnOnce(&AtomicU32)) {
        self.word.store(FREE, UNLOCK); // U1
        #[cfg(not(bast_loom))]
        compiler_fence(SeqCst); // U2; pairs with S2
        // Relaxed: what is found is read again.
        if self.sleepers.load(Relaxed) != 0 {
            self.unlock_slowly(wake); // U3, or that in there
        }
    }

    #[cold]
    fn unlock_slowly(&self, wake: impl FnOnce(&AtomicU32)) {
        #[cfg(not(bast_plant = "lock_word_no_fence"))]
        fence(SeqCst); // U2, where `FENCE` stands
        // Acquire: pairs with S1.
        let taken_away = self
            .sleepers
            .fetch_update(Acquire, Relaxed, |sleepers| sleepers.checked_sub(SLEEPER))
            .is_ok();
        if taken_away {
            #[cfg(not(bast_plant = "lock_word_no_wakes"))]
            self.wakes.fetch_add(1, Relaxed);
            wake(&self.wakes);
        }
    }
}

#[cfg(all(test, not(bast_loom)))]
mod tests {
    use super::LockWord;
    use crate::sync::channel_lock::{sleep_while, wake_one};
    use crate::sys::membarrier;
    use std::cell::UnsafeCell;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    struct Guarded(LockWord, UnsafeCell<u64>);
    // SAFETY: the cell is touched under the lock only.
    unsafe impl Sync for Guarded {}

    /// More threads than CPUs, and holders that give up the CPU: most of them sleep, and none sleeps on.
    fn crowd(fences: bool) {
        const THREADS: u64 = 8;
        const TURNS: u64 = 5_000;
        let guarded = Arc::new(Guarded(LockWord::new(fences), UnsafeCell::new(0)));
        let (done, all_done) = channel();
        for thread in 0..THREADS {
            let (guarded, done) = (Arc::clone(&guarded), done.clone());
            #[expect(
                clippy::disallowed_methods,
                reason = "a test of the lock below all of the runtime"
            )]
            std::thread::spawn(move || {
                for turn in 0..TURNS {
                    if !guarded.0.try_lock() {
                        guarded.0.lock_asleep(membarrier::heavy, sleep_while);
                    }
                    // SAFETY: validity: ours. aliasing: we have the lock.
                    let count = unsafe { &mut *guarded.1.get() };
                    *count += 1;
                    if (turn + thread) % 8 == 0 {
                        std::thread::yield_now();
                    }
                    // SAFETY: we have it, and an `Arc` of it.
                    unsafe { guarded.0.unlock(wake_one) };
                }
                done.send(()).unwrap();
            });
        }
        for _ in 0..THREADS {
            all_done
                .recv_timeout(Duration::from_secs(60))
                .expect("a thread sleeps on");
        }
        assert!(guarded.0.try_lock());
        // SAFETY: validity: ours. aliasing: we have the lock.
        assert_eq!(unsafe { *guarded.1.get() }, THREADS * TURNS);
    }

    #[test]
    fn nobody_sleeps_on() {
        membarrier::register();
        crowd(!membarrier::reaches_all());
    }

    #[test]
    fn nobody_sleeps_on_where_all_run_fences() {
        crowd(true);
    }
}
