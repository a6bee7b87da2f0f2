//! Counts tasks that keep their processors from others, remembers the last, and with `BAST_DEBUG=overrun=1` says so: when
//! it is noticed, and once more when the task makes its next call into bast, which is known precisely then.

use crate::metrics::Overrun;
use crate::primitive::atomic::{AtomicU64, Relaxed};
use crate::sched::inside::Inside;
use crate::sched::worker::Worker;
use crate::sys::lock::{Lock, Rank};
use crate::time::clock;
use std::backtrace::Backtrace;
use std::time::Duration;

/// A report of each kind at most so often.
const REPORT_NANOS: u64 = 1_000_000_000;
/// For the backtrace, whose making is deep.
const REPORT_STACK_BYTES: usize = 1 << 20;

/// Lets one pass in so many nanoseconds, and counts the rest.
#[derive(Debug)]
struct Valve {
    opens: AtomicU64,
    held_back: AtomicU64,
}

impl Valve {
    const fn new() -> Valve {
        Valve {
            opens: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }
    }

    /// Some: pass, and so many have not since the last one.
    fn pass(&self, now: u64) -> Option<u64> {
        let opens = self.opens.load(Relaxed);
        let free = now >= opens
            && self
                .opens
                .compare_exchange(opens, now + REPORT_NANOS, Relaxed, Relaxed)
                .is_ok();
        if !free {
            self.held_back.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.held_back.swap(0, Relaxed))
    }
}

/// The overruns of one runtime.
#[derive(Debug)]
pub(crate) struct Overruns {
    count: AtomicU64,
    last: Lock<Option<Overrun>>,
    reports: bool,
    noticed: Valve,
    returned: Valve,
}

impl Overruns {
    pub(crate) fn new(reports: bool) -> Overruns {
        Overruns {
            count: AtomicU64::new(0),
            last: Lock::new(Rank::Leaf, None),
            reports,
            noticed: Valve::new(),
            returned: Valve::new(),
        }
    }

    /// Does it report?
    pub(crate) fn reports(&self) -> bool {
        self.reports
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub(crate) fn last(&self) -> Option<Overrun> {
        self.last.lock().clone()
    }

    /// By the monitor. `taken`: the processor was taken, else the task will yield at its next call.
    pub(super) fn note(&self, over: Option<Overrun>, taken: bool) {
        if let Some(over) = over {
            self.name(over, taken);
        }
        self.count.fetch_add(1, Relaxed);
    }

    fn name(&self, over: Overrun, taken: bool) {
        if self.reports
            && let Some(others) = self.noticed.pass(clock::now())
        {
            let then = if taken {
                "others run on its processor"
            } else {
                "it yields at its next call into bast"
            };
            eprintln!("bast: BAST_DEBUG=overrun: {over}; {then}{}", others_text(others));
        }
        *self.last.lock() = Some(over);
    }
}

fn others_text(others: u64) -> String {
    match others {
        0 => String::new(),
        others => format!(" ({others} more reports were held back)"),
    }
}

/// What is known of the task that `worker` runs, which goes on running. None: it has changed meanwhile, or there is none.
pub(super) fn of(worker: &Worker, blocked: bool, nanos: u64) -> Option<Overrun> {
    let task = worker.current.get()?;
    // A task's entry never goes away; if it is another task's by now, that says so.
    let id = task.id();
    let spawned_at = task.spawned_at.get();
    let last_wait = task.site().map(|site| (site.reason().text(), site.at()));
    (task.id() == id && worker.current.get() == Some(task)).then_some(Overrun {
        task: id,
        spawned_at,
        last_wait,
        blocked,
        after: Duration::from_nanos(nanos),
    })
}

impl Inside {
    /// At the first call into bast after the processor was taken: says where that is.
    #[cold]
    pub(crate) fn report_return(&mut self) {
        let Some(others) = self.shared().overruns.returned.pass(clock::now()) else {
            return;
        };
        let task = self.task();
        // What a detached task holds, the lock of stderr say, must not be waited for inside.
        self.step_out(|| {
            bast_stack::on_big_stack(REPORT_STACK_BYTES, || {
                let name = task.extra().and_then(|extra| extra.name.as_deref()).unwrap_or("");
                eprintln!(
                    "bast: BAST_DEBUG=overrun: task {} {name:?}, spawned at {}, had kept its processor from others, and \
                     makes its next call into bast here{}:\n{}",
                    task.id(),
                    task.spawned_at.get(),
                    others_text(others),
                    Backtrace::force_capture()
                );
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{REPORT_NANOS, Valve};

    #[test]
    fn one_report_a_second_and_the_rest_is_counted() {
        let valve = Valve::new();
        assert_eq!(valve.pass(5), Some(0));
        assert_eq!(valve.pass(6), None);
        assert_eq!(valve.pass(4 + REPORT_NANOS), None);
        assert_eq!(valve.pass(5 + REPORT_NANOS), Some(2));
        assert_eq!(valve.pass(6 + REPORT_NANOS), None);
    }
}
