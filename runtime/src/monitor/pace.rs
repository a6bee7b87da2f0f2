//! How long the monitor rests between two looks: a pure decision.
//!
//! ```text
//!                    woken: somebody took a processor
//!      ┌──────┐ ─────────────────────────────────────► ┌───────┐ ◄──┐ a processor was taken, or
//!      │ doze │                                        │ alert │ ───┘ the monitor was woken
//!      └──────┘ ◄──┐                                   └───┬───┘
//!                  │ all idle for some looks               │ some looks without either
//!             ┌────┴─────┐    nothing moves or waits   ┌───▼───┐
//!             │  still   │ ◄───────────────────────────│ calm  │ doubles, up to 1 ms
//!             │  10 ms   │ ───────────────────────────►└───────┘
//!             └──────────┘  a call into bast, a task from outside
//! ```
//!
//! Go's sysmon looks every 20 us, and after 50 looks without a find ever more seldom, down to 10 ms (`runtime/proc.go`);
//! a system call that blocks then is found 10 ms late. Here the long rests are for moments in which nothing can become
//! urgent unnoticed: all who hold processors are in user code and nothing waits. Before such a rest each of them is
//! asked (`handoff::WATCH`) to wake the monitor at its next call into bast, and work that comes from outside wakes it
//! too. Otherwise a look is at most 1 ms away, and the next one close when something is suspected.

/// Rest while something needs attention.
pub(super) const ALERT_NANOS: u64 = 20_000;
/// Longest rest while rounds begin.
const CALM_NANOS: u64 = 1_000_000;
/// Longest rest while something runs but nothing happens.
const STILL_NANOS: u64 = 10_000_000;
/// Looks of an alert after what raised it.
const ALERT_LOOKS: u32 = 10;
/// Looks at an idle runtime before the monitor dozes: whoever ends the doze pays for a wake-up.
const IDLE_LOOKS: u32 = 5;

/// What a look has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sight {
    /// Nobody holds a processor.
    pub(super) all_idle: bool,
    /// A processor was taken from its holder, or the monitor was woken.
    pub(super) acted: bool,
    /// A holder stands where others wait, and it is not known whether it is blocked.
    pub(super) suspect: bool,
    /// No round began since the last look, and nothing waits.
    pub(super) still: bool,
    /// Nanoseconds until a holder's slice is over or a timer is due.
    pub(super) due_in: u64,
}

/// What to do until the next look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Sleep for so many nanoseconds.
    Short(u64),
    /// The same, but wake when somebody calls into bast or takes a processor.
    Still(u64),
    /// Sleep until somebody takes a processor.
    Doze,
}

/// How things stand.
#[derive(Debug)]
pub(super) struct Pace {
    period: u64,
    alert_looks: u32,
    idle_looks: u32,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace {
            period: ALERT_NANOS,
            alert_looks: ALERT_LOOKS,
            idle_looks: 0,
        }
    }

    /// Is every look a short one? Then it is worth to look closer.
    pub(super) fn is_alert(&self) -> bool {
        self.alert_looks > 0
    }

    /// The decision.
    pub(super) fn next(&mut self, sight: &Sight) -> Rest {
        if sight.all_idle && !sight.acted {
            self.alert_looks = 0;
            self.period = ALERT_NANOS;
            self.idle_looks += 1;
            if self.idle_looks >= IDLE_LOOKS {
                return Rest::Doze;
            }
            return Rest::Short(CALM_NANOS);
        }
        self.idle_looks = 0;
        if sight.acted {
            self.alert_looks = ALERT_LOOKS;
        }
        if self.alert_looks > 0 {
            self.alert_looks -= 1;
            self.period = ALERT_NANOS;
            return Rest::Short(ALERT_NANOS);
        }
        // One more look tells whether a suspicion was right; most are not, where CPUs are shared with others.
        if sight.suspect {
            return Rest::Short(ALERT_NANOS);
        }
        let due_in = sight.due_in.max(ALERT_NANOS);
        if sight.still {
            return Rest::Still(due_in.min(STILL_NANOS));
        }
        self.period = (2 * self.period).min(CALM_NANOS);
        Rest::Short(self.period.min(due_in))
    }
}

#[cfg(test)]
mod tests {
    use super::{ALERT_LOOKS, ALERT_NANOS, CALM_NANOS, IDLE_LOOKS, Pace, Rest, STILL_NANOS, Sight};

    const BUSY: Sight = Sight {
        all_idle: false,
        acted: false,
        suspect: false,
        still: false,
        due_in: u64::MAX,
    };
    const IDLE: Sight = Sight {
        all_idle: true,
        ..BUSY
    };
    const SUSPECT: Sight = Sight {
        suspect: true,
        ..BUSY
    };
    const STILL: Sight = Sight { still: true, ..BUSY };

    /// Rests until `last` or the bound, and what they come to in all.
    fn rests(pace: &mut Pace, sight: Sight, last: Rest) -> (u32, u64) {
        let mut nanos = 0;
        for looks in 0..1000 {
            match pace.next(&sight) {
                rest if rest == last => return (looks, nanos),
                Rest::Short(rest) => nanos += rest,
                other => panic!("{other:?} before {last:?}"),
            }
        }
        panic!("never {last:?}");
    }

    #[test]
    fn an_alert_fades_into_looks_every_millisecond() {
        let mut pace = Pace::new();
        let (looks, nanos) = rests(&mut pace, BUSY, Rest::Short(CALM_NANOS));
        assert!(looks < ALERT_LOOKS + 8, "{looks}");
        assert!(nanos < 3 * CALM_NANOS / 2, "{nanos}");
        assert_eq!(pace.next(&BUSY), Rest::Short(CALM_NANOS), "and no more seldom");
        assert!(!pace.is_alert());
        let acted = Sight { acted: true, ..BUSY };
        assert_eq!(pace.next(&acted), Rest::Short(ALERT_NANOS));
        assert!(pace.is_alert());
        assert_eq!(pace.next(&BUSY), Rest::Short(ALERT_NANOS), "not over at once");
    }

    #[test]
    fn a_suspicion_costs_one_look() {
        let mut pace = Pace::new();
        rests(&mut pace, BUSY, Rest::Short(CALM_NANOS));
        assert_eq!(pace.next(&SUSPECT), Rest::Short(ALERT_NANOS));
        assert!(!pace.is_alert());
        assert_eq!(pace.next(&BUSY), Rest::Short(CALM_NANOS), "and it was wrong");
    }

    #[test]
    fn a_suspicion_that_stays_is_looked_after_closely() {
        let mut pace = Pace::new();
        for _ in 0..1000 {
            assert_eq!(pace.next(&SUSPECT), Rest::Short(ALERT_NANOS));
        }
    }

    #[test]
    fn an_idle_runtime_costs_nothing_after_some_milliseconds() {
        let mut pace = Pace::new();
        let (looks, nanos) = rests(&mut pace, IDLE, Rest::Doze);
        assert_eq!(looks, IDLE_LOOKS - 1);
        assert!(nanos <= u64::from(IDLE_LOOKS) * CALM_NANOS);
        assert_eq!(pace.next(&IDLE), Rest::Doze, "and goes on dozing");
        // Woken: alert.
        let woken = Sight { acted: true, ..IDLE };
        assert_eq!(pace.next(&woken), Rest::Short(ALERT_NANOS));
    }

    #[test]
    fn where_nothing_happens_it_looks_every_ten_milliseconds_or_when_something_is_due() {
        let mut pace = Pace::new();
        let (looks, _) = rests(&mut pace, STILL, Rest::Still(STILL_NANOS));
        assert_eq!(looks, ALERT_LOOKS);
        let due = Sight {
            due_in: 3_000_000,
            ..STILL
        };
        assert_eq!(pace.next(&due), Rest::Still(3_000_000));
        let now = Sight { due_in: 0, ..STILL };
        assert_eq!(pace.next(&now), Rest::Still(ALERT_NANOS));
        let slice = Sight {
            due_in: 70_000,
            ..BUSY
        };
        pace.period = CALM_NANOS;
        assert_eq!(pace.next(&slice), Rest::Short(70_000));
    }
}
