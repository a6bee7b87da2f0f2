//! The poller; what is done under a lock, with how long it takes; the monitor.

use super::sim::{Cause, Id, Sim};
use super::steps::{RING, Section, Stage, Step};

/// Free headers that go to and from the common pool at once.
const HEADERS_MOVED: u64 = 256;
/// Tasks in a chain of the global queue.
const CHAIN: u64 = 32;

/// Chains that so many tasks make.
fn chains(tasks: u64) -> u64 {
    tasks.div_ceil(CHAIN)
}

/// The monitor's period.
const MONITOR_PERIOD: u64 = 1_000_000;
/// A poller nobody asked for so long is late.
const LATE_POLL: u64 = 10_000_000;
/// Events of one poll.
const POLL_EVENTS: usize = 1024;

impl Sim {
    // ---- the poller ----

    pub(crate) fn poll_now(&mut self, cpu: usize, next: Stage) {
        let domain = self.domain_of(cpu);
        self.then(cpu, Step::Search(next));
        if !self.world.has_sources || self.domains[domain].poller_busy {
            self.cpus[cpu].poll_pays = false;
            return;
        }
        self.domains[domain].poller_busy = true;
        let count = self.gather(cpu);
        self.cpus[cpu].poll_pays = count > 0;
        self.then(cpu, Step::PollDone);
    }

    /// Takes what is ready, and makes it runnable here.
    fn gather(&mut self, cpu: usize) -> usize {
        let domain = self.domain_of(cpu);
        let now = self.cpus[cpu].at;
        let it = &mut self.domains[domain];
        it.last_poll = now;
        let count = it.ready.len().min(POLL_EVENTS);
        let ready: Vec<Id> = it.ready.drain(..count).collect();
        let cost = self.costs.epoll_empty + count as u64 * self.costs.epoll_event;
        self.tally.polls += 1;
        self.tally.polled += count as u64;
        self.spend(cpu, Cause::Poll, cost);
        self.take_in(cpu, ready);
        count
    }

    pub(crate) fn poll_back(&mut self, cpu: usize) {
        self.cpus[cpu].asleep = false;
        let domain = self.domain_of(cpu);
        self.domains[domain].poller_busy = false;
        self.then(cpu, Step::Look);
        let count = self.gather(cpu);
        self.cpus[cpu].poll_pays = count > 1;
        self.then(cpu, Step::Lock(domain, Section::BackFromPoller));
    }

    // ---- under a lock ----

    pub(crate) fn under(&mut self, cpu: usize, lock: usize, section: Section) {
        self.then(cpu, Step::Unlock(lock));
        let hold = self.costs.lock_hold
            + match section {
                Section::TakeGlobal { most, otherwise } => {
                    self.take_global_locked(cpu, lock, most, otherwise)
                }
                Section::PushGlobal => self.push_global_locked(cpu, lock),
                Section::Inject(id) => {
                    self.domains[lock].global.push_back(id);
                    self.write_counts(cpu, lock);
                    self.costs.move_task
                }
                Section::WakePop => self.wake_pop(cpu, lock),
                Section::WakeHand(target) => {
                    self.before_unlock(cpu, Step::FutexWake(target));
                    self.costs.transfer_near // the sleeper's own words
                }
                Section::LieDown => self.lie_down_locked(cpu, lock),
                Section::Reclaim => self.reclaim(cpu, lock),
                Section::BackFromPoller => self.back_from_poller(cpu, lock),
                Section::Refill => {
                    self.cpus[cpu].headers += HEADERS_MOVED;
                    let pooled = self.world.pooled_headers.min(HEADERS_MOVED);
                    self.world.pooled_headers -= pooled;
                    let fetched = self.chase(cpu, pooled);
                    if self.costs.slab_batches > 0 {
                        self.before_unlock(cpu, Step::Fetch(fetched)); // a chain is taken whole, and walked later
                        0
                    } else {
                        fetched + (HEADERS_MOVED - pooled) * self.costs.move_task
                    }
                }
                Section::Spill => {
                    self.cpus[cpu].headers -= HEADERS_MOVED;
                    self.world.pooled_headers += HEADERS_MOVED;
                    if self.costs.slab_batches > 0 {
                        0
                    } else {
                        HEADERS_MOVED * self.costs.move_task
                    }
                }
                Section::ForeignHeader => {
                    let pooled = self.world.pooled_headers.min(1);
                    self.world.pooled_headers -= pooled;
                    self.chase(cpu, pooled)
                }
                #[cfg(test)]
                Section::Hold(nanos) => {
                    self.tally.messages += 1;
                    self.cpus[cpu].tick += 1;
                    nanos
                }
            };
        self.spend(cpu, Cause::Lock, hold);
    }

    /// What comes after the lock is let go.
    fn before_unlock(&mut self, cpu: usize, step: Step) {
        let place = self.cpus[cpu].todo.len() - 1;
        self.cpus[cpu].todo.insert(place, step);
    }

    fn take_global_locked(
        &mut self,
        cpu: usize,
        domain: usize,
        most: usize,
        otherwise: Option<Stage>,
    ) -> u64 {
        let it = &mut self.domains[domain];
        let share = (it.global.len() / it.members + 1).min(most);
        let Some(first) = it.global.pop_front() else {
            let own = self.domain_of(cpu);
            let step = otherwise.map_or(Step::Lock(own, Section::LieDown), Step::Search);
            self.before_unlock(cpu, step);
            return 0;
        };
        let mut count = 1;
        while count < share && self.cpus[cpu].ring.len() < RING {
            let Some(id) = self.domains[domain].global.pop_front() else {
                break;
            };
            self.cpus[cpu].ring.push_back(id);
            count += 1;
        }
        self.write_counts(cpu, domain);
        self.before_unlock(cpu, Step::Start(first));
        let fetched = self.chase(cpu, count as u64);
        if self.costs.global_batches == 0 {
            return fetched;
        }
        if count > 1 {
            self.before_unlock(cpu, Step::WakeOne);
        }
        self.before_unlock(cpu, Step::Fetch(fetched)); // chains are taken whole, and walked later
        chains(count as u64) * self.costs.move_task
    }

    fn push_global_locked(&mut self, cpu: usize, domain: usize) -> u64 {
        let tasks = std::mem::take(&mut self.cpus[cpu].overflow);
        let count = tasks.len() as u64;
        self.domains[domain].global.extend(tasks);
        self.write_counts(cpu, domain);
        if self.costs.global_batches > 0 {
            let linked = count * self.costs.move_task; // before the lock; here it is spent after it
            self.before_unlock(cpu, Step::Fetch(linked));
            return chains(count) * self.costs.move_task;
        }
        count * self.costs.move_task
    }

    fn wake_pop(&mut self, cpu: usize, domain: usize) -> u64 {
        let place = {
            let idle = &self.domains[domain].idle;
            let last = idle.len().checked_sub(1);
            (0..idle.len())
                .rev()
                .find(|&place| !self.cpus[idle[place]].in_poller)
                .or(last)
        };
        self.write_counts(cpu, domain);
        match place {
            None => self.domains[domain].searching -= 1,
            Some(place) => {
                let target = self.domains[domain].idle.remove(place);
                self.cpus[target].handed = true;
                self.before_unlock(cpu, Step::Lock(domain, Section::WakeHand(target)));
            }
        }
        0
    }

    fn lie_down_locked(&mut self, cpu: usize, domain: usize) -> u64 {
        if !self.domains[domain].global.is_empty() {
            self.before_unlock(cpu, Step::Look);
            return 0;
        }
        let it = &mut self.domains[domain];
        it.idle.push(cpu);
        self.cpus[cpu].in_poller = !std::mem::replace(&mut it.poller_taken, true);
        self.write_counts(cpu, domain);
        self.before_unlock(cpu, Step::Recheck);
        0
    }

    fn reclaim(&mut self, cpu: usize, domain: usize) -> u64 {
        let looked = self.domains[domain].idle.len() as u64 * self.costs.look;
        let Some(place) = self.domains[domain].idle.iter().position(|&idle| idle == cpu) else {
            self.before_unlock(cpu, Step::Sleep); // where the waker's word is found
            return looked;
        };
        self.domains[domain].idle.remove(place);
        if std::mem::take(&mut self.cpus[cpu].in_poller) {
            self.domains[domain].poller_taken = false;
        }
        self.begin_search(cpu);
        self.before_unlock(cpu, Step::Look);
        looked
    }

    fn back_from_poller(&mut self, cpu: usize, domain: usize) -> u64 {
        self.domains[domain].poller_taken = false;
        self.cpus[cpu].in_poller = false;
        let looked = self.domains[domain].idle.len() as u64 * self.costs.look;
        self.write_counts(cpu, domain);
        if let Some(place) = self.domains[domain].idle.iter().position(|&idle| idle == cpu) {
            self.domains[domain].idle.remove(place);
        } else {
            self.cpus[cpu].handed = false; // it came with a place among the searching
            self.cpus[cpu].searching = true;
        }
        looked
    }

    // ---- the monitor ----

    pub(crate) fn monitor(&mut self, cpu: usize) {
        let now = self.cpus[cpu].at;
        self.then(cpu, Step::Monitor);
        self.then(cpu, Step::Doze(now + MONITOR_PERIOD));
        let idle: usize = self.domains.iter().map(|domain| domain.idle.len()).sum();
        let mut stale = 0;
        for processor in 0..self.processors {
            let it = &mut self.cpus[processor];
            if std::mem::replace(&mut it.seen_tick, it.tick) != it.tick || idle == self.processors {
                continue;
            }
            stale += 1;
            if idle == 0 {
                continue;
            }
            if let Some(task) = it.next.take() {
                let domain = self.domain_of(processor);
                self.then(cpu, Step::WakeOne);
                self.then(cpu, Step::Lock(domain, Section::Inject(task)));
            } else if !it.ring.is_empty() || it.timers.peek().is_some_and(|timer| timer.0.0 <= now) {
                self.then(cpu, Step::WakeOne);
            }
        }
        for domain in 0..self.domains.len() {
            let it = &mut self.domains[domain];
            let waited = it.idle.iter().any(|&idle| self.cpus[idle].in_poller);
            if self.world.has_sources && !waited && now.saturating_sub(it.last_poll) >= LATE_POLL {
                it.last_poll = now;
                let ready: Vec<Id> = it.ready.drain(..).collect();
                for id in ready {
                    self.tasks[id as usize].parked = false;
                    self.then(cpu, Step::WakeOne);
                    self.then(cpu, Step::Lock(domain, Section::Inject(id)));
                }
            }
        }
        // For each processor whose round stands it looks through all workers for the holder.
        let looks = (self.processors * (1 + stale)) as u64 * self.costs.look;
        self.spend(cpu, Cause::Work, looks);
    }
}
