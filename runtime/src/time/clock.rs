//! The only reader of clocks: monotonic nanoseconds since an arbitrary start (`CLOCK_MONOTONIC`).

use crate::task::bound::UNTIL_CANCELLED;
use std::time::{Duration, Instant};

/// A point in time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// Now, in nanoseconds.
#[inline]
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: validity: the clock exists on every system we build for. aliasing: `time` is a local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// `duration` from now; [`NEVER`] if that is more than 584 years away.
pub(crate) fn after(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(NEVER, |nanos| now().saturating_add(nanos))
}

/// The same moment on our scale.
#[expect(clippy::disallowed_methods, reason = "the one place that reads std's clock")]
pub(crate) fn from_instant(instant: Instant) -> u64 {
    after(instant.saturating_duration_since(Instant::now()))
}

/// The inverse of [`from_instant`], to within the time between two looks at the clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads std's clock")]
pub(crate) fn to_instant(deadline: u64) -> Instant {
    let (std, own) = (Instant::now(), now());
    match deadline.checked_sub(own) {
        Some(left) => std + Duration::from_nanos(left),
        None => std
            .checked_sub(Duration::from_nanos(own - deadline))
            .unwrap_or(std),
    }
}

/// Has this time come? Spares a look at the clock where it never will.
#[inline]
pub(crate) fn has_come(deadline: u64) -> bool {
    deadline < UNTIL_CANCELLED && now() >= deadline
}

/// Time left until `deadline`, zero if it has passed.
pub(crate) fn until(deadline: u64) -> Duration {
    Duration::from_nanos(deadline.saturating_sub(now()))
}
