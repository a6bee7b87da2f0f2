//! Ticks at a fixed pace.

use super::clock;
use super::sleep::sleep_to;
use std::panic::Location;
use std::time::Duration;

/// What an [`Interval`] does about ticks that were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// Gives them one after the other without waiting, until it has caught up.
    #[default]
    Burst,
    /// Leaves them out and keeps to the original beat.
    Skip,
    /// Begins the beat anew from now.
    Delay,
}

/// Ticks every `period`; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    period_nanos: u64,
    next: u64,
    missed: Missed,
}

/// An interval whose first tick comes after one `period`.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let mut ticks = bast::time::interval(Duration::from_millis(2));
/// let start = Instant::now();
/// (0..3).for_each(|_| ticks.tick());
/// assert!(start.elapsed() >= Duration::from_millis(6));
/// # }) }
/// ```
///
/// # Panics
/// If `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval's period must not be zero");
    let period_nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    Interval {
        period_nanos,
        next: clock::now().saturating_add(period_nanos),
        missed: Missed::default(),
    }
}

impl Interval {
    /// Sets what happens to missed ticks.
    #[must_use]
    pub fn missed(mut self, missed: Missed) -> Interval {
        self.missed = missed;
        self
    }

    /// Waits for the next tick.
    #[track_caller]
    pub fn tick(&mut self) {
        let due = self.next;
        sleep_to(due, Location::caller());
        let now = clock::now();
        let next = due.saturating_add(self.period_nanos);
        self.next = match self.missed {
            _ if next > now => next,
            Missed::Burst => next,
            Missed::Skip => {
                next.saturating_add((now - next) / self.period_nanos * self.period_nanos + self.period_nanos)
            }
            Missed::Delay => now.saturating_add(self.period_nanos),
        };
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        Duration::from_nanos(self.period_nanos)
    }
}
