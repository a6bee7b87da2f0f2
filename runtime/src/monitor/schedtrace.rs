//! `BAST_DEBUG=schedtrace=1000,scheddetail=1`: a line a period on stderr, as Go's GODEBUG gives.

use super::first_timer_text;
use crate::builder::Config;
use crate::sched::shared::Shared;
use std::fmt::Write;

#[derive(Debug)]
pub(super) struct Schedtrace {
    period_nanos: u64,
    detail: bool,
    began: u64,
    next: u64,
}

impl Schedtrace {
    pub(super) fn new(config: &Config) -> Option<Schedtrace> {
        let now = crate::time::clock::now();
        config.schedtrace.map(|period| Schedtrace {
            period_nanos: period.as_nanos() as u64,
            detail: config.scheddetail,
            began: now,
            next: now,
        })
    }

    /// Nanoseconds until the next line.
    pub(super) fn due_in(&self, now: u64) -> u64 {
        self.next.saturating_sub(now)
    }

    pub(super) fn step(&mut self, shared: &Shared, now: u64) {
        if now >= self.next {
            self.next = now + self.period_nanos;
            eprint!("{}", self.text(shared, now));
        }
    }

    fn text(&self, shared: &Shared, now: u64) -> String {
        let metrics = shared.metrics();
        let (searching, _) = shared.idle.counts();
        let queues: Vec<String> = shared
            .processors
            .iter()
            .map(|processor| processor.queue.len().to_string())
            .collect();
        let mut text = format!(
            "bast: SCHED {}ms: processors={} idle={} workers={} searching={searching} tasks={} global={} \
             starved={} overruns={} detached={} held={} looks={} [{}]\n",
            (now - self.began) / 1_000_000,
            metrics.processors,
            metrics.processors_idle,
            metrics.workers,
            metrics.tasks_alive(),
            metrics.global_queue,
            shared.starved(),
            metrics.overruns,
            metrics.detaches,
            metrics.held,
            metrics.monitor_looks,
            queues.join(" ")
        );
        if self.detail {
            if let Some(over) = &metrics.last_overrun {
                let _ = writeln!(text, "bast:   last overrun: {over}");
            }
            for processor in &shared.processors {
                let counters = &processor.counters;
                let _ = writeln!(
                    text,
                    "bast:   processor {}: tick={} queue={} timers={} first={} parks={} unparks={} yields={} \
                     steals={} attempts={} overflows={} sleeps={} polls={} handoffs={}",
                    processor.index,
                    processor.tick(),
                    processor.queue.len(),
                    processor.timers.len(),
                    first_timer_text(processor.timers.next_due(), now),
                    counters.parks.get(),
                    counters.unparks.get(),
                    counters.yields.get(),
                    counters.steals.get(),
                    counters.steal_attempts.get(),
                    counters.overflows.get(),
                    counters.sleeps.get(),
                    counters.polls.get(),
                    counters.handoffs.get()
                );
            }
        }
        text
    }
}
