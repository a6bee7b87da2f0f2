//! How long the monitor rests between two looks: a pure decision.
//!
//! ```text
//!                    woken: somebody took a processor
//!      ┌──────┐ ─────────────────────────────────────► ┌───────┐ ◄──┐ a processor was taken, or
//!      │ doze │                                        │ alert │ ───┘ the monitor was woken
//!      └──────┘ ◄──┐                                   └───┬───┘
//!                  │ idle for some looks                   │ some looks without either
//!             ┌────┴─────┐    nothing moves or waits   ┌───▼───┐
//!             │  still   │ ◄───────────────────────────│ calm  │ doubles, up to 5 ms or half a slice;
//!             │  10 ms   │ ───────────────────────────►└───────┘ up to 250 us while wary
//!             └──────────┘  a call into bast, a task from outside
//! ```
//!
//! Go's sysmon looks every 20 us, and after 50 looks without a find ever more seldom, down to 10 ms (`runtime/proc.go`);
//! a system call that blocks then is found 10 ms late. Here the long rests are for moments in which nothing can become
//! urgent unnoticed: all who hold processors are in user code and nothing waits. Before such a rest each of them is
//! asked (`handoff::WATCH`) to wake the monitor at its next call into bast, and work that comes from outside wakes it
//! too. Where rounds begin, a look wakes a thread that takes the CPU from a worker, and the kernel need not give it back at
//! once: with a look every millisecond the 99th percentile of an echo server that shares its CPUs with its clients was one
//! to three times as long (benches/RESULTS.md). A slice that is over is seen in time by few looks, since each knows when it is due. A task that blocks is not; so who
//! has been found blocked makes the monitor **wary**: for a tenth of a second looks are close, and most programs, which
//! never block unannounced, do not pay for those that do.

/// Rest while something needs attention.
pub(super) const ALERT_NANOS: u64 = 20_000;
/// Longest rest while rounds begin, if half a slice is not shorter.
const CALM_NANOS: u64 = 5_000_000;
/// Longest such rest while wary, and for how long the monitor stays so.
const WARY_REST_NANOS: u64 = 250_000;
const WARY_NANOS: u64 = 100_000_000;
/// Rest between the looks at an idle runtime.
const IDLE_NANOS: u64 = 1_000_000;
/// Longest rest while something runs but nothing happens.
const STILL_NANOS: u64 = 10_000_000;
/// Looks of an alert after what raised it.
const ALERT_LOOKS: u32 = 10;
/// Looks at an idle runtime, between which nothing ran, before the monitor dozes.
const IDLE_LOOKS: u32 = 5;

/// What a look has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sight {
    /// Nobody holds a processor.
    pub(super) all_idle: bool,
    /// A processor was taken from its holder, or the monitor was woken.
    pub(super) acted: bool,
    /// Something was found that only a look finds: a holder that blocks, or a task kept waiting while a processor idles.
    pub(super) late: bool,
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
    calm: u64,
    period: u64,
    /// Rests left, in nanoseconds, until the monitor is no longer wary.
    wary: u64,
    alert_looks: u32,
    idle_looks: u32,
}

impl Pace {
    pub(super) fn new(slice_nanos: u64) -> Pace {
        Pace {
            calm: CALM_NANOS.min(slice_nanos / 2).max(ALERT_NANOS),
            period: ALERT_NANOS,
            wary: 0,
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
        // Where tasks come and go between the looks it is not idle: whoever ended the doze would pay for a wake-up.
        if sight.all_idle && sight.still && !sight.acted {
            self.alert_looks = 0;
            self.idle_looks += 1;
            if self.idle_looks >= IDLE_LOOKS {
                self.period = ALERT_NANOS;
                return Rest::Doze;
            }
            let rest = if self.wary > 0 {
                WARY_REST_NANOS
            } else {
                IDLE_NANOS
            };
            self.wary = self.wary.saturating_sub(rest);
            return Rest::Short(rest);
        }
        self.idle_looks = 0;
        if sight.late {
            self.wary = WARY_NANOS;
        }
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
        let longest = if self.wary > 0 { WARY_REST_NANOS } else { self.calm };
        self.period = (2 * self.period).min(longest);
        let rest = self.period.min(due_in);
        self.wary = self.wary.saturating_sub(rest);
        Rest::Short(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ALERT_LOOKS, ALERT_NANOS, CALM_NANOS, IDLE_LOOKS, IDLE_NANOS, Pace, Rest, STILL_NANOS, Sight,
        WARY_NANOS, WARY_REST_NANOS,
    };

    const SLICE_NANOS: u64 = 10_000_000;

    const BUSY: Sight = Sight {
        all_idle: false,
        acted: false,
        late: false,
        suspect: false,
        still: false,
        due_in: u64::MAX,
    };
    const IDLE: Sight = Sight {
        all_idle: true,
        still: true,
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
    fn an_alert_fades_into_looks_every_five_milliseconds() {
        let mut pace = Pace::new(SLICE_NANOS);
        let (looks, nanos) = rests(&mut pace, BUSY, Rest::Short(CALM_NANOS));
        assert!(looks < ALERT_LOOKS + 10, "{looks}");
        assert!(nanos < 5 * CALM_NANOS / 2, "{nanos}");
        assert_eq!(pace.next(&BUSY), Rest::Short(CALM_NANOS), "and no more seldom");
        assert!(!pace.is_alert());
        let acted = Sight { acted: true, ..BUSY };
        assert_eq!(pace.next(&acted), Rest::Short(ALERT_NANOS));
        assert!(pace.is_alert());
        assert_eq!(pace.next(&BUSY), Rest::Short(ALERT_NANOS), "not over at once");
    }

    #[test]
    fn a_suspicion_costs_one_look() {
        let mut pace = Pace::new(SLICE_NANOS);
        rests(&mut pace, BUSY, Rest::Short(CALM_NANOS));
        assert_eq!(pace.next(&SUSPECT), Rest::Short(ALERT_NANOS));
        assert!(!pace.is_alert());
        assert_eq!(pace.next(&BUSY), Rest::Short(CALM_NANOS), "and it was wrong");
    }

    #[test]
    fn it_is_wary_for_a_while_of_who_was_found_blocked() {
        let mut pace = Pace::new(SLICE_NANOS);
        rests(&mut pace, BUSY, Rest::Short(CALM_NANOS));
        let late = Sight {
            acted: true,
            late: true,
            ..BUSY
        };
        pace.next(&late);
        let (_, nanos) = rests(&mut pace, BUSY, Rest::Short(WARY_REST_NANOS));
        assert!(nanos < 4 * WARY_REST_NANOS, "{nanos}");
        let (_, nanos) = rests(&mut pace, BUSY, Rest::Short(CALM_NANOS));
        assert!(nanos > WARY_NANOS / 2, "{nanos}");
        assert!(nanos < 2 * WARY_NANOS, "{nanos}");
    }

    #[test]
    fn a_short_slice_is_looked_at_twice() {
        let mut pace = Pace::new(1_000_000);
        rests(&mut pace, BUSY, Rest::Short(500_000));
        assert_eq!(pace.next(&BUSY), Rest::Short(500_000));
    }

    #[test]
    fn a_suspicion_that_stays_is_looked_after_closely() {
        let mut pace = Pace::new(SLICE_NANOS);
        for _ in 0..1000 {
            assert_eq!(pace.next(&SUSPECT), Rest::Short(ALERT_NANOS));
        }
    }

    #[test]
    fn an_idle_runtime_costs_nothing_after_some_milliseconds() {
        let mut pace = Pace::new(SLICE_NANOS);
        let (looks, nanos) = rests(&mut pace, IDLE, Rest::Doze);
        assert_eq!(looks, IDLE_LOOKS - 1);
        assert!(nanos <= u64::from(IDLE_LOOKS) * IDLE_NANOS);
        assert_eq!(pace.next(&IDLE), Rest::Doze, "and goes on dozing");
        // Woken: alert.
        let woken = Sight { acted: true, ..IDLE };
        assert_eq!(pace.next(&woken), Rest::Short(ALERT_NANOS));
    }

    #[test]
    fn where_tasks_come_and_go_it_does_not_doze() {
        let mut pace = Pace::new(SLICE_NANOS);
        let between = Sight { still: false, ..IDLE };
        rests(&mut pace, between, Rest::Short(CALM_NANOS));
        for sight in [IDLE, between, BUSY, between, IDLE, between] {
            assert!(
                matches!(pace.next(&sight), Rest::Short(CALM_NANOS | IDLE_NANOS)),
                "{sight:?}"
            );
        }
    }

    #[test]
    fn where_nothing_happens_it_looks_every_ten_milliseconds_or_when_something_is_due() {
        let mut pace = Pace::new(SLICE_NANOS);
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
