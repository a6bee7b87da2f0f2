//! Waking and sleeping, as in `sched/{shared,idle,find}`.

use super::sim::{Cause, Sim};
use super::steps::{Section, Step};

impl Sim {
    /// Wakes somebody as a searcher if a processor idles and nobody searches; with several domains only at home, unless
    /// `abroad`.
    pub(super) fn wake_one(&mut self, cpu: usize, abroad: bool) {
        let own = self.domain_of(cpu);
        let domains = if abroad { self.domains.len() } else { 1 };
        for step in 0..domains {
            let domain = (own + step) % self.domains.len();
            self.read_counts(cpu, domain);
            let it = &self.domains[domain];
            if it.idle.is_empty() {
                continue;
            }
            if it.searching < self.costs.wake_width as usize {
                self.write_counts(cpu, domain);
                self.domains[domain].searching += 1;
                self.then(cpu, Step::Lock(domain, Section::WakePop));
            }
            return;
        }
    }

    pub(super) fn futex_wake(&mut self, cpu: usize, target: usize) {
        let now = self.cpus[cpu].at;
        let first = !std::mem::replace(&mut self.cpus[target].started, true);
        let (call, latency) = if first {
            (self.costs.thread_start, self.costs.thread_start)
        } else {
            (
                self.costs.futex_wake,
                self.costs.futex_wake / 2 + self.costs.wake_latency,
            )
        };
        self.tally.wakes += 1;
        self.spend(cpu, Cause::Wake, call);
        if self.cpus[target].asleep && std::mem::take(&mut self.cpus[target].handed) {
            self.cpus[target].searching = true;
            self.rouse(target, now, latency);
        }
    }

    /// The sleep of `target` ends; it runs after `latency`.
    pub(crate) fn rouse(&mut self, target: usize, now: u64, latency: u64) {
        let it = &mut self.cpus[target];
        it.asleep = false;
        it.spent[Cause::Sleep as usize] += now.saturating_sub(it.at);
        it.at = it.at.max(now);
        let time = it.at + latency;
        self.resume(target, time, Cause::Wake);
    }

    /// Looks at all queues once more.
    pub(super) fn recheck(&mut self, cpu: usize) {
        let domain = self.domain_of(cpu);
        if std::mem::take(&mut self.cpus[cpu].searching) {
            self.write_counts(cpu, domain);
            self.domains[domain].searching -= 1;
        }
        if self.look_at_all(cpu) {
            self.then(cpu, Step::Lock(domain, Section::Reclaim));
        } else {
            self.then(cpu, Step::Sleep);
        }
    }

    /// Is there work in any queue? The first one that has some ends the look.
    pub(super) fn look_at_all(&mut self, cpu: usize) -> bool {
        let (costs, now) = (self.costs.clone(), self.cpus[cpu].at);
        let (mut wait, mut looks) = (0, 0);
        let mut found = self.domains.iter().any(|domain| !domain.global.is_empty());
        for victim in 0..self.processors {
            if found {
                break;
            }
            let it = &mut self.cpus[victim];
            wait += it.head.read(&costs, cpu, now).max(it.tail.read(&costs, cpu, now));
            wait += it.due_line.read(&costs, cpu, now);
            looks += 2 * costs.look;
            found = !it.ring.is_empty();
        }
        self.spend(cpu, Cause::Steal, looks + wait / costs.overlap.max(1));
        found
    }

    pub(crate) fn first_timer(&self) -> u64 {
        let due = |cpu: &super::sim::Cpu| cpu.timers.peek().map(|timer| timer.0.0);
        self.cpus.iter().filter_map(due).min().unwrap_or(u64::MAX)
    }

    pub(super) fn sleep(&mut self, cpu: usize) {
        if std::mem::take(&mut self.cpus[cpu].handed) {
            self.cpus[cpu].searching = true;
            if self.cpus[cpu].in_poller {
                return self.then(cpu, Step::PollBack);
            }
            return self.then(cpu, Step::Look);
        }
        self.tally.sleeps += 1;
        let domain = self.domain_of(cpu);
        if self.cpus[cpu].in_poller {
            self.then(cpu, Step::PollBack);
            let first = self.first_timer();
            if !self.domains[domain].ready.is_empty() || first <= self.cpus[cpu].at {
                return;
            }
            self.domains[domain].poller_busy = true;
            self.cpus[cpu].wait_until = first;
            self.cpus[cpu].asleep = true;
            self.block(cpu);
            if first != u64::MAX {
                self.alarm(cpu, first);
            }
            return;
        }
        let first = self.first_timer();
        let waiter = (0..self.processors).find(|&it| self.cpus[it].in_poller && self.cpus[it].asleep);
        if let Some(waiter) = waiter.filter(|&it| first < self.cpus[it].wait_until) {
            let now = self.cpus[cpu].at;
            self.spend(cpu, Cause::Wake, self.costs.futex_wake);
            self.rouse(waiter, now, self.costs.wake_latency);
        }
        self.then(cpu, Step::Look);
        self.cpus[cpu].asleep = true;
        self.block(cpu);
    }
}
