//! The only reader of clocks: monotonic nanoseconds since an arbitrary start (`CLOCK_MONOTONIC`).

use crate::task::bound::UNTIL_CANCELLED;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A point in time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// Pairs of readings of both clocks, of which the closest counts.
const ANCHOR_TRIES: usize = 16;

/// The clock that std's `Instant` reads, so that the two scales never drift apart.
#[cfg(target_vendor = "apple")]
const CLOCK: libc::clockid_t = libc::CLOCK_UPTIME_RAW;
#[cfg(not(target_vendor = "apple"))]
const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Now, in nanoseconds.
#[inline]
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: validity: the clock exists on every system we build for. aliasing: `time` is a local.
    unsafe { libc::clock_gettime(CLOCK, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// One moment on both scales, read once: a deadline given as an `Instant` then costs no look at the clock. Our reading
/// comes second, so that translated deadlines are never early; late they are by the time between the two, so the closest
/// of some pairs is taken: the thread may lose its CPU within one.
#[expect(clippy::disallowed_methods, reason = "the one place that reads std's clock")]
fn anchor() -> (Instant, u64) {
    static ANCHOR: OnceLock<(Instant, u64)> = OnceLock::new();
    let pair = || {
        let before = now();
        let std = Instant::now();
        let own = now();
        (own - before, (std, own))
    };
    *ANCHOR.get_or_init(|| {
        let pairs = (0..ANCHOR_TRIES).map(|_| pair());
        pairs.min_by_key(|&(gap, _)| gap).expect("several tries").1
    })
}

/// `duration` from now; [`NEVER`] if that is more than 584 years away.
pub(crate) fn after(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(NEVER, |nanos| now().saturating_add(nanos))
}

/// The same moment on our scale.
pub(crate) fn from_instant(instant: Instant) -> u64 {
    let (std, own) = anchor();
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(NEVER);
    match instant.checked_duration_since(std) {
        Some(later) => own.saturating_add(nanos(later)),
        None => own.saturating_sub(nanos(std.duration_since(instant))),
    }
}

/// The inverse of [`from_instant`].
pub(crate) fn to_instant(deadline: u64) -> Instant {
    let (std, own) = anchor();
    match deadline.checked_sub(own) {
        Some(later) => std + Duration::from_nanos(later),
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

#[cfg(test)]
mod tests {
    use super::{NEVER, anchor, from_instant, to_instant};
    use std::time::Duration;

    #[test]
    fn instants_come_back_from_our_scale() {
        let (std, own) = anchor();
        for later in [0, 1, 1_000_000_007] {
            assert_eq!(from_instant(std + Duration::from_nanos(later)), own + later);
            assert_eq!(to_instant(own + later), std + Duration::from_nanos(later));
        }
        let earlier = std
            .checked_sub(Duration::from_nanos(5))
            .expect("the system has been up for longer");
        assert_eq!(from_instant(earlier), own - 5);
        assert_eq!(to_instant(own - 5), earlier);
        assert_eq!(
            from_instant(std + Duration::from_secs(1_000 * 365 * 86_400)),
            NEVER,
            "in 1,000 years"
        );
    }
}
