//! bast's scheduler, step by step: `sched/{find,shared,idle,pick}` and the monitor, with what each step costs.

use super::sim::{Cause, Id, Sim};

/// Slots of a ring.
pub(crate) const RING: usize = 256;
/// Every so many rounds the global queue comes first.
const GLOBAL_EVERY: u32 = 61;
/// Most tasks taken from the global queue at once.
const GLOBAL_BATCH: usize = 128;
/// Rounds over all victims.
const STEAL_ROUNDS: u32 = 4;
/// Picks of the next slot in a row.
const NEXT_IN_A_ROW_MAX: u32 = 16;
/// Timers taken out under one hold of their lock.
const TIMER_BATCH: usize = 32;
/// Slots on a cache line.
const SLOTS_A_LINE: u64 = 8;

/// Where a worker at home looks, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Timers { turn: bool },
    TurnPoll,
    TurnGlobal,
    Local,
    Global,
    Poll,
    LocalAgain,
    Steal,
    LocalLast,
}

/// What is done under a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    TakeGlobal {
        most: usize,
        otherwise: Option<Stage>,
    },
    PushGlobal,
    Inject(Id),
    WakePop,
    WakeHand(usize),
    LieDown,
    Reclaim,
    BackFromPoller,
    Refill,
    Spill,
    ForeignHeader,
    #[cfg(test)]
    Hold(u64),
}

/// One step of a CPU; see [`Sim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Lock(usize, Section),
    Under(usize, Section),
    Unlock(usize),
    Look,
    Search(Stage),
    StealAt {
        round: u32,
        start: usize,
        place: usize,
    },
    Recheck,
    Sleep,
    PollBack,
    PollDone,
    Expire {
        victim: usize,
    },
    PushIncoming,
    WakeOne,
    WakeAbroad,
    FutexWake(usize),
    Start(Id),
    Continue(Id),
    /// Waits so long for lines.
    Fetch(u64),
    Pick,
    Monitor,
    Doze(u64),
    Foreign,
    #[cfg(test)]
    Contend(u64),
}

impl Sim {
    pub(crate) fn then(&mut self, cpu: usize, step: Step) {
        self.cpus[cpu].todo.push(step);
    }

    pub(crate) fn step(&mut self, cpu: usize, step: Step) {
        match step {
            Step::Lock(lock, section) => {
                self.then(cpu, Step::Under(lock, section));
                self.acquire(cpu, lock);
            }
            Step::Under(lock, section) => self.under(cpu, lock, section),
            Step::Unlock(lock) => self.release(cpu, lock),
            Step::Look => self.look(cpu),
            Step::Search(stage) => self.search(cpu, stage),
            Step::StealAt { round, start, place } => self.steal_at(cpu, round, start, place),
            Step::Recheck => self.recheck(cpu),
            Step::Sleep => self.sleep(cpu),
            Step::PollBack => self.poll_back(cpu),
            Step::PollDone => {
                let domain = self.domain_of(cpu);
                self.domains[domain].poller_busy = false;
            }
            Step::Expire { victim } => self.expire(cpu, victim),
            Step::PushIncoming => self.push_incoming(cpu),
            Step::WakeOne => self.wake_one(cpu, false),
            Step::WakeAbroad => self.wake_one(cpu, true),
            Step::FutexWake(target) => self.futex_wake(cpu, target),
            Step::Start(id) => self.start(cpu, id),
            Step::Continue(id) => self.continue_task(cpu, id),
            Step::Fetch(nanos) => self.spend(cpu, Cause::Line, nanos),
            Step::Pick => self.pick(cpu),
            Step::Monitor => self.monitor(cpu),
            Step::Doze(until) => {
                self.block(cpu);
                self.alarm(cpu, until);
            }
            Step::Foreign => self.foreign(cpu),
            #[cfg(test)]
            Step::Contend(hold) => {
                self.then(cpu, Step::Contend(hold));
                self.then(cpu, Step::Lock(0, Section::Hold(hold)));
            }
        }
    }

    // ---- queues ----

    /// To the back of the own ring; the half that does not fit goes to the global queue.
    fn push_ring(&mut self, cpu: usize, id: Id) {
        let costs = self.costs.clone();
        let it = &mut self.cpus[cpu];
        let mut wait = it.head.read(&costs, cpu, it.at);
        wait += it.tail.write(&costs, cpu, it.at + wait);
        if it.ring.len() < RING {
            it.ring.push_back(id);
        } else {
            wait += it.head.write(&costs, cpu, it.at + wait);
            it.overflow.extend(it.ring.drain(..RING / 2));
            it.overflow.push(id);
            self.tally.overflows += 1;
            let domain = self.domain_of(cpu);
            self.then(cpu, Step::Lock(domain, Section::PushGlobal));
        }
        self.spend(cpu, Cause::Line, wait);
    }

    /// Into the next slot; who is displaced goes to the ring, and somebody is woken.
    pub(crate) fn ready(&mut self, cpu: usize, id: Id) {
        self.tasks[id as usize].runnable_at = self.cpus[cpu].at;
        let costs = self.costs.clone();
        let it = &mut self.cpus[cpu];
        let wait = it.tail.write(&costs, cpu, it.at);
        let displaced = it.next.replace(id);
        self.spend(cpu, Cause::Line, wait);
        if let Some(displaced) = displaced {
            self.then(cpu, Step::WakeOne);
            self.push_ring(cpu, displaced);
        }
    }

    fn pop_local(&mut self, cpu: usize) -> Option<Id> {
        let costs = self.costs.clone();
        let it = &mut self.cpus[cpu];
        let from_next = it.next.is_some() && (it.next_in_a_row < NEXT_IN_A_ROW_MAX || it.ring.is_empty());
        it.next_in_a_row = if from_next && it.next_in_a_row < NEXT_IN_A_ROW_MAX {
            it.next_in_a_row + 1
        } else {
            0
        };
        let (task, wait) = if from_next {
            (it.next.take(), it.tail.write(&costs, cpu, it.at))
        } else if it.ring.is_empty() {
            (None, 0)
        } else {
            (it.ring.pop_front(), it.head.write(&costs, cpu, it.at))
        };
        self.spend(cpu, Cause::Line, wait);
        task
    }

    // ---- looking for work ----

    /// A task has left the processor: the next of the local queue, or home.
    fn pick(&mut self, cpu: usize) {
        let it = &mut self.cpus[cpu];
        it.running = None;
        it.tick = it.tick.wrapping_add(1);
        let due = it.timers.peek().is_some_and(|timer| timer.0.0 <= it.at);
        if it.tick.is_multiple_of(GLOBAL_EVERY) || due {
            return self.then(cpu, Step::Look);
        }
        match self.pop_local(cpu) {
            Some(task) => self.then(cpu, Step::Start(task)),
            None => self.then(cpu, Step::Look),
        }
    }

    fn look(&mut self, cpu: usize) {
        let it = &mut self.cpus[cpu];
        it.running = None;
        let turn = it.tick.is_multiple_of(GLOBAL_EVERY);
        it.tick = it.tick.wrapping_add(1);
        self.then(cpu, Step::Search(Stage::Timers { turn }));
    }

    fn search(&mut self, cpu: usize, stage: Stage) {
        let domain = self.domain_of(cpu);
        let next = match stage {
            Stage::Timers { turn } => {
                let next = if turn { Stage::TurnPoll } else { Stage::Local };
                self.then(cpu, Step::Search(next));
                let it = &self.cpus[cpu];
                if it.timers.peek().is_some_and(|timer| timer.0.0 <= it.at) {
                    self.then(cpu, Step::Expire { victim: cpu });
                }
                return;
            }
            Stage::TurnPoll => return self.poll_now(cpu, Stage::TurnGlobal),
            Stage::TurnGlobal if self.domains.len() > 1 && !self.cpus[cpu].ring.is_empty() => {
                self.take_global(cpu, domain, 1, Some(Stage::Local));
                return self.then(cpu, Step::WakeAbroad);
            }
            Stage::TurnGlobal => return self.take_global(cpu, domain, 1, Some(Stage::Local)),
            Stage::Local => Stage::Global,
            Stage::Global => return self.take_global(cpu, domain, GLOBAL_BATCH, Some(Stage::Poll)),
            Stage::Poll if self.cpus[cpu].poll_pays => return self.poll_now(cpu, Stage::LocalAgain),
            Stage::Poll => Stage::Steal,
            Stage::LocalAgain => Stage::Steal,
            Stage::Steal => return self.begin_steal(cpu),
            Stage::LocalLast => {
                match self.pop_local(cpu) {
                    Some(task) => self.then(cpu, Step::Start(task)),
                    None => self.lie_down(cpu),
                }
                return;
            }
        };
        if stage == Stage::Poll {
            return self.then(cpu, Step::Search(next));
        }
        match self.pop_local(cpu) {
            Some(task) => self.then(cpu, Step::Start(task)),
            None => self.then(cpu, Step::Search(next)),
        }
    }

    fn lie_down(&mut self, cpu: usize) {
        let domain = self.domain_of(cpu);
        self.then(cpu, Step::Lock(domain, Section::LieDown));
    }

    fn go_on(&mut self, cpu: usize, stage: Option<Stage>) {
        match stage {
            Some(stage) => self.then(cpu, Step::Search(stage)),
            None => self.lie_down(cpu),
        }
    }

    fn take_global(&mut self, cpu: usize, domain: usize, most: usize, otherwise: Option<Stage>) {
        self.read_counts(cpu, domain);
        if self.domains[domain].global.is_empty() {
            return self.go_on(cpu, otherwise);
        }
        self.then(cpu, Step::Lock(domain, Section::TakeGlobal { most, otherwise }));
    }

    fn begin_steal(&mut self, cpu: usize) {
        let domain = self.domain_of(cpu);
        if self.processors == 1 {
            return self.lie_down(cpu);
        }
        if !self.cpus[cpu].searching {
            self.read_counts(cpu, domain);
            let it = &self.domains[domain];
            if 2 * it.searching >= it.members - it.idle.len() {
                return self.lie_down(cpu);
            }
            self.begin_search(cpu);
        }
        let start = self.random() as usize % self.processors;
        self.then(
            cpu,
            Step::StealAt {
                round: 0,
                start,
                place: 0,
            },
        );
    }

    pub(crate) fn begin_search(&mut self, cpu: usize) {
        let domain = self.domain_of(cpu);
        self.write_counts(cpu, domain);
        self.domains[domain].searching += 1;
        self.cpus[cpu].searching = true;
        self.tally.searches += 1;
    }

    /// The victim of an attempt, if there is one: with domains, two rounds stay at home.
    fn victim(&self, cpu: usize, round: u32, start: usize, place: usize) -> Option<usize> {
        let domains = self.domains.len();
        if domains > 1 && round < STEAL_ROUNDS / 2 {
            let domain = self.domain_of(cpu);
            let members = self.domains[domain].members;
            let first = (domain * self.processors).div_ceil(domains);
            return (place < members).then(|| first + (start + place) % members);
        }
        (place < self.processors).then(|| (start + place) % self.processors)
    }

    fn steal_at(&mut self, cpu: usize, round: u32, start: usize, place: usize) {
        let domain = self.domain_of(cpu);
        let last = round + 1 == STEAL_ROUNDS;
        let Some(victim) = self.victim(cpu, round, start, place) else {
            if last {
                return self.lie_down(cpu);
            }
            let start = self.random() as usize % self.processors;
            return self.then(
                cpu,
                Step::StealAt {
                    round: round + 1,
                    start,
                    place: 0,
                },
            );
        };
        self.read_counts(cpu, domain);
        if !self.domains[domain].global.is_empty() {
            return self.take_global(cpu, domain, GLOBAL_BATCH, None);
        }
        if last && place == 0 {
            let other = (0..self.domains.len()).find(|&other| !self.domains[other].global.is_empty());
            if let Some(other) = other {
                return self.take_global(cpu, other, GLOBAL_BATCH, None);
            }
        }
        self.then(
            cpu,
            Step::StealAt {
                round,
                start,
                place: place + 1,
            },
        );
        if victim == cpu {
            return;
        }
        self.tally.steal_attempts += 1;
        let (costs, now) = (self.costs.clone(), self.cpus[cpu].at);
        let it = &mut self.cpus[victim];
        let mut wait = costs.look + it.head.read(&costs, cpu, now).max(it.tail.read(&costs, cpu, now));
        if last {
            wait += it.due_line.read(&costs, cpu, now);
        }
        let due = last && it.timers.peek().is_some_and(|timer| timer.0.0 <= now);
        self.spend(cpu, Cause::Steal, wait);
        if due {
            self.cpus[cpu].todo.pop();
            self.then(cpu, Step::Search(Stage::LocalLast));
            self.then(cpu, Step::Expire { victim });
        } else if !self.cpus[victim].ring.is_empty() {
            self.cpus[cpu].todo.pop();
            self.rob(cpu, victim);
        }
    }

    /// Takes half of a ring.
    fn rob(&mut self, cpu: usize, victim: usize) {
        let (costs, now) = (self.costs.clone(), self.cpus[cpu].at);
        let room = RING - self.cpus[cpu].ring.len() + 1;
        let it = &mut self.cpus[victim];
        let count = it.ring.len().div_ceil(2).min(RING / 2).min(room);
        let mut stolen: Vec<Id> = it.ring.drain(..count).collect();
        let lines = (count as u64).div_ceil(SLOTS_A_LINE);
        let slots = (lines * super::line::transfer(&costs, victim, cpu)).div_ceil(costs.overlap.max(1));
        let wait = slots + it.head.write(&costs, cpu, now + slots) + costs.rmw;
        self.spend(cpu, Cause::Line, wait);
        let first = stolen.remove(0);
        let it = &mut self.cpus[cpu];
        if !stolen.is_empty() {
            let wait = it.tail.write(&costs, cpu, it.at);
            it.ring.extend(stolen);
            self.spend(cpu, Cause::Line, wait);
        }
        self.tally.steals += 1;
        self.then(cpu, Step::Start(first));
    }

    fn expire(&mut self, cpu: usize, victim: usize) {
        let (costs, now) = (self.costs.clone(), self.cpus[cpu].at);
        let wait = self.cpus[victim].due_line.write(&costs, cpu, now);
        let mut fired = Vec::new();
        while fired.len() < TIMER_BATCH && self.cpus[victim].timers.peek().is_some_and(|t| t.0.0 <= now) {
            fired.extend(self.cpus[victim].timers.pop().map(|timer| timer.0.1));
        }
        self.spend(cpu, Cause::Line, wait);
        self.spend(cpu, Cause::Work, fired.len() as u64 * costs.timer_fire);
        if fired.len() == TIMER_BATCH {
            self.then(cpu, Step::Expire { victim });
        }
        self.take_in(cpu, fired);
    }

    /// Woken tasks come into the own ring, and if they are several somebody is woken.
    pub(crate) fn take_in(&mut self, cpu: usize, tasks: Vec<Id>) {
        if tasks.is_empty() {
            return;
        }
        for &id in &tasks {
            self.tasks[id as usize].runnable_at = self.tasks[id as usize].runnable_at.max(self.cpus[cpu].at);
            self.tasks[id as usize].parked = false;
        }
        let it = &mut self.cpus[cpu];
        it.incoming_wakes |= tasks.len() > 1;
        it.incoming.extend(tasks);
        self.then(cpu, Step::PushIncoming);
    }

    fn push_incoming(&mut self, cpu: usize) {
        while let Some(id) = self.cpus[cpu].incoming.pop_front() {
            if self.cpus[cpu].ring.len() == RING {
                self.then(cpu, Step::PushIncoming);
                return self.push_ring(cpu, id);
            }
            self.push_ring(cpu, id);
        }
        if std::mem::take(&mut self.cpus[cpu].incoming_wakes) {
            self.then(cpu, Step::WakeOne);
        }
    }

    fn start(&mut self, cpu: usize, id: Id) {
        self.cpus[cpu].running = Some(id);
        self.then(cpu, Step::Continue(id));
        if std::mem::take(&mut self.cpus[cpu].searching) {
            let domain = self.domain_of(cpu);
            self.write_counts(cpu, domain);
            self.domains[domain].searching -= 1;
            let idles = self.domains.iter().any(|domain| !domain.idle.is_empty());
            if self.domains[domain].searching == 0
                && idles
                && (self.look_at_all(cpu) || !self.domains[domain].poller_busy)
            {
                self.then(cpu, Step::WakeAbroad);
            }
        }
        let since = self.tasks[id as usize].runnable_at;
        let latency = self.cpus[cpu].at.saturating_sub(since);
        self.latencies.push(latency);
    }
}
