//! The CPU's own counter, on the scale of [`clock`]: for whoever reads the time so often that the kernel's way to it, some
//! 20 ns and the cache lines of its page, would be most of what he does.
//!
//! # When it is used
//! Where the kernel's clock goes by the same counter (`/sys/devices/system/clocksource`): the kernel has seen then that it
//! runs at one rate and alike on all CPUs, and says something else there when that ends. Elsewhere, and until the
//! counter's rate is known, a [`Scale`] asks the kernel.
//!
//! # How far it can be off
//! A scale says how the two clocks stood at one moment, and goes on at the rate that they had to each other since the
//! moment before. Both moments are known to some 20 ns. Whoever reads it takes a new one each second or so: the trace, one a
//! generation. If a rate is another one than before, the machine has slept or been moved: then the kernel is asked from
//! there on.

use super::clock;
use crate::sys::lock::{Lock, Rank};
use bast_stack::counter;

/// Moments closer than this say nothing of the rate.
const APART_NANOS: u64 = 10_000_000;
/// Pairs of readings for a moment, of which the closest counts.
const TRIES: usize = 8;
/// Rates are nanoseconds a tick, times two to the power of this.
const RATE_SHIFT: u32 = 32;
/// A rate may differ from the one before by this part of it: `CLOCK_MONOTONIC` is slewed by 500 in a million at most.
const RATE_TOLERANCE: u64 = 500;

/// How the counter stood to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    ticks: u64,
    nanos: u64,
}

/// Turns the counter into nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    since: Moment,
    /// Zero: the kernel is asked.
    rate: u64,
}

impl Scale {
    /// The kernel is asked.
    pub(crate) const KERNEL: Scale = Scale {
        since: Moment { ticks: 0, nanos: 0 },
        rate: 0,
    };

    /// Now, in nanoseconds, as [`clock::now`] has them.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        if self.rate == 0 {
            return kernel_now();
        }
        self.nanos_at(counter())
    }

    #[inline(always)]
    fn nanos_at(&self, ticks: u64) -> u64 {
        // A counter may be some ticks behind that of the CPU where the moment was taken.
        let since = ticks.wrapping_sub(self.since.ticks).cast_signed().max(0);
        let nanos = (u128::from(since.cast_unsigned()) * u128::from(self.rate)) >> RATE_SHIFT;
        self.since.nanos.wrapping_add(nanos as u64)
    }

    pub(crate) fn is_kernel(&self) -> bool {
        self.rate == 0
    }
}

/// Once in the program: whoever has a counter does without.
#[cold]
#[inline(never)]
fn kernel_now() -> u64 {
    clock::now()
}

/// What is known of the counter.
#[derive(Debug)]
struct Known {
    last: Option<Moment>,
    /// Zero: not yet.
    rate: u64,
    /// It was another one at some time.
    broken: bool,
}

static KNOWN: Lock<Known> = Lock::new(
    Rank::Trace,
    Known {
        last: None,
        rate: 0,
        broken: false,
    },
);

impl Known {
    /// Takes note of a moment.
    fn learn(&mut self, now: Moment) -> Scale {
        let Some(last) = self.last else {
            self.last = Some(now);
            return Scale::KERNEL;
        };
        let nanos = now.nanos.saturating_sub(last.nanos);
        if nanos >= APART_NANOS {
            self.last = Some(now);
            let ticks = u128::from(now.ticks.wrapping_sub(last.ticks).max(1));
            let rate = u64::try_from((u128::from(nanos) << RATE_SHIFT) / ticks).unwrap_or(0);
            let differs = rate.abs_diff(self.rate) > self.rate / RATE_TOLERANCE;
            self.broken |= rate == 0 || self.rate != 0 && differs;
            self.rate = rate;
        }
        match self.broken {
            true => Scale::KERNEL,
            false => Scale {
                since: now,
                rate: self.rate,
            },
        }
    }
}

/// A moment is noted, from which the rate can be told later. Cheap.
pub(crate) fn note() {
    if counter_exists() {
        let mut known = KNOWN.lock();
        if known.last.is_none() {
            known.last = Some(moment());
        }
    }
}

/// The scale to go by from now on.
pub(crate) fn scale() -> Scale {
    if !counter_exists() || !is_kernels_clock() {
        return Scale::KERNEL;
    }
    let now = moment();
    KNOWN.lock().learn(now)
}

/// Will [`scale`] be one that goes by the counter, a little later?
pub(crate) fn is_unknown_yet() -> bool {
    counter_exists() && is_kernels_clock() && {
        let known = KNOWN.lock();
        known.rate == 0 && !known.broken
    }
}

fn moment() -> Moment {
    let pair = || {
        let before = counter();
        let nanos = clock::now();
        let after = counter();
        let gap = after.wrapping_sub(before);
        let ticks = before.wrapping_add(gap / 2);
        (gap, Moment { ticks, nanos })
    };
    let pairs = (0..TRIES).map(|_| pair());
    pairs.min_by_key(|&(gap, _)| gap).expect("several tries").1
}

/// What the kernel calls the counter.
#[cfg(target_arch = "x86_64")]
const NAME: &str = "tsc";
#[cfg(not(target_arch = "x86_64"))]
const NAME: &str = "arch_sys_counter";

/// Elsewhere nobody says whether the kernel goes by it.
const fn counter_exists() -> bool {
    cfg!(target_os = "linux")
}

/// Asked each time, as the kernel may find out that the counter is no good.
fn is_kernels_clock() -> bool {
    let name = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    name.is_ok_and(|name| name.trim_end() == NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unlearned() -> Known {
        Known {
            last: None,
            rate: 0,
            broken: false,
        }
    }

    /// A counter of `hz` that began a minute before the clock.
    fn at(nanos: u64, hz: u64) -> Moment {
        let ticks = u128::from(nanos + 60_000_000_000) * u128::from(hz) / 1_000_000_000;
        Moment {
            ticks: ticks as u64,
            nanos,
        }
    }

    #[test]
    fn a_rate_is_learned_from_two_moments() {
        const HZ: u64 = 2_100_000_000;
        let mut known = unlearned();
        assert!(known.learn(at(5_000, HZ)).is_kernel());
        assert!(known.learn(at(1_000_000, HZ)).is_kernel(), "too early");
        let scale = known.learn(at(20_000_000, HZ));
        assert!(!scale.is_kernel());
        for later in [0, 1_000, 1_000_000_000, 3_600_000_000_000] {
            let seen = scale.nanos_at(at(20_000_000 + later, HZ).ticks);
            let off = seen.abs_diff(20_000_000 + later);
            assert!(off <= 2 + later / 10_000_000, "{off} ns after {later}");
        }
        // The counter of another CPU, a little behind.
        assert_eq!(scale.nanos_at(at(20_000_000, HZ).ticks - 9), 20_000_000);
    }

    #[test]
    fn a_close_moment_keeps_the_rate() {
        let mut known = unlearned();
        known.learn(at(0, 1_000_000_000));
        let first = known.learn(at(APART_NANOS, 1_000_000_000));
        let second = known.learn(at(APART_NANOS + 5, 1_000_000_000));
        assert_eq!(first.rate, second.rate);
        assert_eq!(second.since.nanos, APART_NANOS + 5);
    }

    #[test]
    fn after_a_sleep_of_the_machine_the_kernel_is_asked() {
        let second = 1_000_000_000;
        let mut known = unlearned();
        known.learn(at(0, second));
        assert!(!known.learn(at(second, second)).is_kernel());
        // Slewed as much as the kernel ever does.
        let slewed = Moment {
            ticks: at(2 * second, second).ticks + second / 2_000,
            nanos: 2 * second,
        };
        assert!(!known.learn(slewed).is_kernel());
        // The counter has gone on while the clock stood.
        let mut woken = at(3 * second, second);
        woken.ticks += 3_600 * second;
        assert!(known.learn(woken).is_kernel());
        assert!(known.learn(at(60 * second, second)).is_kernel(), "for good");
        // And one that was set back.
        let mut known = unlearned();
        known.learn(at(0, second));
        known.learn(at(second, second));
        let reset = Moment {
            ticks: 7,
            nanos: 2 * second,
        };
        assert!(known.learn(reset).is_kernel());
    }

    #[test]
    fn the_real_counter_keeps_to_the_clock() {
        note();
        while is_unknown_yet() {
            std::thread::park_timeout(std::time::Duration::from_millis(2));
            scale();
        }
        let scale = scale();
        let since = clock::now();
        for _ in 0..1_000 {
            let (before, seen, after) = (clock::now(), scale.now(), clock::now());
            let slack = 10_000 + (after - since) / 1_000; // the rate is known from a few milliseconds
            assert!(
                before - slack <= seen && seen <= after + slack,
                "{before} {seen} {after}"
            );
        }
    }
}
