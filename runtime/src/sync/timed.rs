//! Receivers of moments: `after`, `at`, `tick`. Nothing runs and nothing is queued for them: whoever waits for one waits
//! until its time has come, and whoever moves the time on first has the moment.

use super::base::{Caller, NEVER, Reason};
use super::channel::{Receiver, Source};
use super::channel_core::{Limit, Stop};
use super::turn::Turn;
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicU64, Relaxed};
use crate::time::clock;
use std::panic::Location;
use std::time::{Duration, Instant};

/// See the module.
pub(crate) struct Timed<T> {
    /// When the next moment is due; [`NEVER`] when there is none any more. Relaxed: it guards nothing but itself.
    due: AtomicU64,
    /// Nanoseconds from moment to moment; None: there is one.
    period: Option<u64>,
    /// Where `select!` draws its order from.
    turn: Turn,
    /// A moment on both clocks.
    base: (u64, Instant),
    /// The identity: `T` is [`Instant`], which the type of [`Receiver`] cannot say.
    make: fn(Instant) -> T,
}

/// A receiver that gets one value, the moment it was due, after `duration`; never, if that is more than 584 years.
///
/// ```
/// use bast::sync::channel;
/// use std::time::Duration;
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let (_sender, receiver) = channel::rendezvous::<u32>();
/// bast::select! {
///     recv(receiver) -> value => panic!("nobody sent {value:?}"),
///     recv(channel::after(Duration::from_millis(1))) -> _ => {}
/// }
/// # }) }
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    let base = now();
    let due = u64::try_from(duration.as_nanos()).map_or(NEVER, |nanos| base.0.saturating_add(nanos));
    timed(due, None, base)
}

/// A receiver that gets one value, `deadline`, when that has come.
pub fn at(deadline: Instant) -> Receiver<Instant> {
    let due = clock::from_instant(deadline);
    timed(due, None, (due, deadline))
}

/// A receiver that gets a value every `period`, the first after one period: the moment it was due. It keeps its beat;
/// moments that nobody received in time are left out, but for the last.
///
/// # Panics
/// If `period` is zero.
pub fn tick(period: Duration) -> Receiver<Instant> {
    assert!(!period.is_zero(), "bast: the period of a tick must not be zero");
    let base = now();
    let period = u64::try_from(period.as_nanos()).unwrap_or(NEVER);
    timed(base.0.saturating_add(period), Some(period), base)
}

fn timed(due: u64, period: Option<u64>, base: (u64, Instant)) -> Receiver<Instant> {
    let timed = Timed {
        due: AtomicU64::new(due),
        period,
        turn: Turn::new(base.0),
        base,
        make: |moment| moment,
    };
    Receiver {
        source: Source::Timed(Arc::new(timed)),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the moment is handed to the user, who has std's clock"
)]
fn now() -> (u64, Instant) {
    (clock::now(), Instant::now())
}

impl<T> Timed<T> {
    /// When the next moment is due.
    pub(crate) fn due(&self) -> u64 {
        self.due.load(Relaxed)
    }

    /// Is there a moment to receive?
    pub(crate) fn is_due(&self) -> bool {
        let due = self.due();
        due != NEVER && due <= clock::now()
    }

    /// A random number.
    pub(crate) fn draw(&self) -> u32 {
        self.turn.draw()
    }

    /// Takes the moment, if it has come.
    pub(crate) fn take(&self) -> Option<T> {
        let mut due = self.due();
        loop {
            if due == NEVER {
                return None;
            }
            let now = clock::now();
            if now < due {
                return None;
            }
            let next = match self.period {
                None => NEVER,
                // On the beat, and later than now.
                Some(period) => due.saturating_add(period.saturating_mul((now - due) / period + 1)),
            };
            match self.due.compare_exchange(due, next, Relaxed, Relaxed) {
                Ok(_) => return Some((self.make)(self.moment(due))),
                Err(other) => due = other,
            }
        }
    }

    fn moment(&self, nanos: u64) -> Instant {
        let (base_nanos, base) = self.base;
        base + Duration::from_nanos(nanos.saturating_sub(base_nanos))
    }

    pub(crate) fn recv(&self, limit: Limit, at: &'static Location<'static>) -> Result<T, Stop> {
        let mut caller = Caller::to_wait();
        let deadline = limit.deadline().min(caller.own_deadline());
        loop {
            if let Some(moment) = self.take() {
                return Ok(moment);
            }
            if limit == Limit::Now {
                return Err(Stop::WouldWait);
            }
            if caller.is_over(deadline) {
                return Err(Stop::TimedOut);
            }
            if !caller.may_park() {
                caller.refuse(Reason::Recv, at);
            }
            caller.park_until(deadline.min(self.due()), Reason::Recv, at);
        }
    }
}
