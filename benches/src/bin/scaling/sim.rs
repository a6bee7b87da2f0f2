//! The model's machine: CPUs with clocks of their own, events in the order of time, locks, lines, and the account of
//! where each CPU's time went.
//!
//! A CPU is a stack of steps still to be done. A step is short: it uses shared things at the time of its beginning.
//! Processor, worker and CPU are one: nothing blocks here, so no processor is handed off.

use super::costs::Costs;
use super::line::{CPUS_MAX, Line, transfer};
use super::steps::Step;
use super::tasks::{Task, World};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Where a CPU's time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The tasks' own work and what one processor alone would spend on scheduling it.
    Work,
    /// Waiting for a lock, and working under it.
    Lock,
    /// Waiting for cache lines.
    Line,
    /// Looking for work and finding none.
    Steal,
    /// Waking others, and the time between being woken and running.
    Wake,
    /// In the poller without waiting.
    Poll,
    /// Asleep.
    Sleep,
}

/// Number of causes.
pub(crate) const CAUSES: usize = 7;

/// A task's number.
pub(crate) type Id = u32;

/// What belongs to one CPU.
#[derive(Debug)]
pub(crate) struct Cpu {
    pub(crate) at: u64,
    token: u64,
    pub(crate) blocked: bool,
    pub(crate) todo: Vec<Step>,
    pub(crate) spent: [u64; CAUSES],
    pub(crate) ring: VecDeque<Id>,
    pub(crate) next: Option<Id>,
    pub(crate) next_in_a_row: u32,
    pub(crate) tick: u32,
    pub(crate) seen_tick: u32,
    pub(crate) searching: bool,
    pub(crate) started: bool,
    /// Lies in the sleep of its worker.
    pub(crate) asleep: bool,
    pub(crate) in_poller: bool,
    /// Woken before it slept.
    pub(crate) handed: bool,
    pub(crate) poll_pays: bool,
    pub(crate) wait_until: u64,
    pub(crate) timers: BinaryHeap<Reverse<(u64, Id)>>,
    /// Free headers, and how many of them were last used by others.
    pub(crate) headers: u64,
    pub(crate) incoming: VecDeque<Id>,
    pub(crate) incoming_wakes: bool,
    pub(crate) overflow: Vec<Id>,
    pub(crate) running: Option<Id>,
    pub(crate) head: Line,
    pub(crate) tail: Line,
    pub(crate) due_line: Line,
    lock_since: u64,
}

impl Cpu {
    fn new(index: usize) -> Cpu {
        Cpu {
            at: 0,
            token: 0,
            blocked: true,
            todo: Vec::new(),
            spent: [0; CAUSES],
            ring: VecDeque::new(),
            next: None,
            next_in_a_row: 0,
            tick: 0,
            seen_tick: 0,
            searching: false,
            started: false,
            asleep: true,
            in_poller: false,
            handed: false,
            poll_pays: true,
            wait_until: u64::MAX,
            timers: BinaryHeap::new(),
            headers: 0,
            incoming: VecDeque::new(),
            incoming_wakes: false,
            overflow: Vec::new(),
            running: None,
            head: Line::new(index),
            tail: Line::new(index),
            due_line: Line::new(index),
            lock_since: 0,
        }
    }
}

/// A mutex as std makes it: a few spins while it is merely taken, then the kernel; whoever lets go of a contended one
/// wakes one waiter, and whoever comes first has it.
#[derive(Debug)]
pub(crate) struct Lock {
    holder: Option<usize>,
    contended: bool,
    spinners: VecDeque<(usize, bool)>,
    sleepers: VecDeque<usize>,
    line: Line,
}

impl Lock {
    fn new() -> Lock {
        Lock {
            holder: None,
            contended: false,
            spinners: VecDeque::new(),
            sleepers: VecDeque::new(),
            line: Line::new(0),
        }
    }
}

/// What one lock of the scheduler guards; bast has one, the design with domains several.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) global: VecDeque<Id>,
    /// Who idles; the last is woken first.
    pub(crate) idle: Vec<usize>,
    pub(crate) searching: usize,
    pub(crate) members: usize,
    pub(crate) poller_taken: bool,
    pub(crate) poller_busy: bool,
    pub(crate) last_poll: u64,
    /// Descriptors that are ready.
    pub(crate) ready: VecDeque<Id>,
    /// Counts of searchers and idlers, and the length of the global queue: one line in bast.
    pub(crate) counts: Line,
}

/// Counters of the run; those that bast has too bear the same names.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Tally {
    pub(crate) spawned: u64,
    pub(crate) finished: u64,
    pub(crate) steal_attempts: u64,
    pub(crate) steals: u64,
    pub(crate) searches: u64,
    pub(crate) wakes: u64,
    pub(crate) sleeps: u64,
    pub(crate) locks: u64,
    pub(crate) lock_waits: u64,
    pub(crate) lock_sleeps: u64,
    pub(crate) polls: u64,
    pub(crate) polled: u64,
    pub(crate) overflows: u64,
    pub(crate) messages: u64,
}

/// What an event does when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Go { cpu: usize, token: u64 },
    SpinEnd { cpu: usize, token: u64, lock: usize },
    Arrival { connection: Id },
}

/// The model. Locks: one a domain, then the slab's.
#[derive(Debug)]
pub(crate) struct Sim {
    pub(crate) costs: Costs,
    pub(crate) processors: usize,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) domains: Vec<Domain>,
    locks: Vec<Lock>,
    pub(crate) ids_line: Line,
    pub(crate) tasks: Vec<Task>,
    pub(crate) world: World,
    pub(crate) tally: Tally,
    pub(crate) latencies: Vec<u64>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    serial: u64,
    pub(crate) ended_at: Option<u64>,
    random: u64,
    until: u64,
}

impl Sim {
    /// `foreign` threads beside the processors; the monitor is the last CPU.
    pub(crate) fn new(costs: Costs, processors: usize, foreign: usize, seed: u64) -> Sim {
        assert!(processors + foreign < CPUS_MAX, "at most {CPUS_MAX} CPUs");
        let domains = (costs.domains.max(1) as usize).min(processors);
        let mut sim = Sim {
            processors,
            cpus: (0..=processors + foreign).map(Cpu::new).collect(),
            domains: (0..domains)
                .map(|_| Domain {
                    global: VecDeque::new(),
                    idle: Vec::new(),
                    searching: 0,
                    members: 0,
                    poller_taken: false,
                    poller_busy: false,
                    last_poll: 0,
                    ready: VecDeque::new(),
                    counts: Line::new(0),
                })
                .collect(),
            locks: (0..=domains).map(|_| Lock::new()).collect(),
            ids_line: Line::new(0),
            costs,
            tasks: Vec::new(),
            world: World::default(),
            tally: Tally::default(),
            latencies: Vec::new(),
            events: BinaryHeap::new(),
            serial: 0,
            ended_at: None,
            random: seed ^ 0x9E37_79B9_7F4A_7C15,
            until: u64::MAX,
        };
        for cpu in (0..processors).rev() {
            let domain = sim.domain_of(cpu);
            sim.domains[domain].idle.push(cpu);
            sim.domains[domain].members += 1;
        }
        sim
    }

    pub(crate) fn domain_of(&self, cpu: usize) -> usize {
        if cpu >= self.processors {
            return cpu % self.domains.len(); // a foreign thread, or the monitor
        }
        cpu * self.domains.len() / self.processors
    }

    pub(crate) fn slab_lock(&self) -> usize {
        self.locks.len() - 1
    }

    /// splitmix64.
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// Runs until the workload ends or, at the latest, at `until`; gives the time.
    pub(crate) fn run(&mut self, until: u64) -> u64 {
        self.until = until;
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            if self.ended_at.is_some() || time > until {
                break;
            }
            match event {
                Event::Arrival { connection } => self.arrive(connection, time),
                Event::Go { cpu, token } if self.cpus[cpu].token == token => self.go(cpu, time),
                Event::SpinEnd { cpu, token, lock } if self.cpus[cpu].token == token => {
                    self.end_spin(cpu, lock, time);
                }
                Event::Go { .. } | Event::SpinEnd { .. } => {} // overtaken by another
            }
        }
        let end = self.ended_at.unwrap_or(until);
        for cpu in 0..self.processors {
            self.close_account(cpu, end);
        }
        end
    }

    /// Books the time up to the end, and takes back what was booked beyond.
    fn close_account(&mut self, cpu: usize, end: u64) {
        let cpu = &mut self.cpus[cpu];
        let cause = if cpu.asleep { Cause::Sleep } else { Cause::Lock };
        if cpu.at < end {
            let cause = if cpu.blocked { cause } else { Cause::Work };
            cpu.spent[cause as usize] += end - cpu.at;
        } else {
            let mut beyond = cpu.at - end;
            let mut order = [Cause::Work as usize, 1, 2, 3, 4, 5, 6];
            order.sort_by_key(|&cause| Reverse(cpu.spent[cause]));
            for cause in order {
                let back = beyond.min(cpu.spent[cause]);
                cpu.spent[cause] -= back;
                beyond -= back;
            }
        }
        cpu.at = end;
    }

    fn push(&mut self, time: u64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((time, self.serial, event)));
    }

    pub(crate) fn arrival(&mut self, time: u64, connection: Id) {
        self.push(time, Event::Arrival { connection });
    }

    /// `cpu` goes on at its own time.
    pub(crate) fn schedule(&mut self, cpu: usize) {
        let token = self.cpus[cpu].token;
        let time = self.cpus[cpu].at;
        self.push(time, Event::Go { cpu, token });
    }

    /// A sleeping CPU's own alarm.
    pub(crate) fn alarm(&mut self, cpu: usize, time: u64) {
        let token = self.cpus[cpu].token;
        self.push(time, Event::Go { cpu, token });
    }

    fn go(&mut self, cpu: usize, time: u64) {
        if self.cpus[cpu].blocked {
            self.resume(cpu, time, Cause::Sleep); // an alarm
            return;
        }
        // Steps follow one another here as long as nothing else happens before.
        loop {
            let Some(step) = self.cpus[cpu].todo.pop() else {
                return;
            };
            self.step(cpu, step);
            if self.cpus[cpu].blocked || self.ended_at.is_some() {
                return;
            }
            let next = self.events.peek().map_or(self.until, |event| event.0.0);
            if self.cpus[cpu].at >= next {
                return self.schedule(cpu);
            }
        }
    }

    /// Nothing happens on `cpu` until somebody resumes it.
    pub(crate) fn block(&mut self, cpu: usize) {
        self.cpus[cpu].blocked = true;
        self.cpus[cpu].token += 1;
    }

    /// `cpu` goes on at `time`; the time since it blocked is booked under `cause`.
    pub(crate) fn resume(&mut self, cpu: usize, time: u64, cause: Cause) {
        let it = &mut self.cpus[cpu];
        debug_assert!(it.blocked, "only who waits is resumed");
        it.spent[cause as usize] += time.saturating_sub(it.at);
        it.at = it.at.max(time);
        it.blocked = false;
        it.token += 1;
        self.schedule(cpu);
    }

    /// Time passes on `cpu`.
    pub(crate) fn spend(&mut self, cpu: usize, cause: Cause, nanos: u64) {
        let cpu = &mut self.cpus[cpu];
        cpu.at += nanos;
        cpu.spent[cause as usize] += nanos;
    }

    /// Brings a list of headers that others used last to `cpu`: a chain, so nothing overlaps.
    pub(crate) fn chase(&self, cpu: usize, entries: u64) -> u64 {
        let from = (cpu + self.processors / 2) % self.processors.max(1);
        entries * (self.costs.move_task + transfer(&self.costs, from, cpu))
    }

    /// Reads the counts of a domain.
    pub(crate) fn read_counts(&mut self, cpu: usize, domain: usize) {
        let wait = self.domains[domain]
            .counts
            .read(&self.costs, cpu, self.cpus[cpu].at);
        self.spend(cpu, Cause::Line, wait);
    }

    /// A read-modify-write of the counts of a domain.
    pub(crate) fn write_counts(&mut self, cpu: usize, domain: usize) {
        let wait = self.domains[domain]
            .counts
            .write(&self.costs, cpu, self.cpus[cpu].at);
        self.spend(cpu, Cause::Line, wait);
    }

    // ---- locks ----

    /// Takes the lock for `cpu`; false: it waits, and goes on with its next step once it has it.
    pub(crate) fn acquire(&mut self, cpu: usize, lock: usize) -> bool {
        self.tally.locks += 1;
        let now = self.cpus[cpu].at;
        let wait = self.locks[lock].line.write(&self.costs, cpu, now) + self.costs.rmw;
        self.spend(cpu, Cause::Lock, wait);
        self.cpus[cpu].lock_since = self.cpus[cpu].at;
        let it = &mut self.locks[lock];
        if it.holder.is_none() && it.spinners.is_empty() {
            it.holder = Some(cpu);
            it.contended = false;
            return true;
        }
        self.tally.lock_waits += 1;
        self.block(cpu);
        self.wait(cpu, lock, false);
        false
    }

    /// `woken`: the kernel has woken it, and others may still sleep.
    fn wait(&mut self, cpu: usize, lock: usize, woken: bool) {
        let contended = self.locks[lock].contended && self.costs.lock_spins_on == 0;
        if contended {
            self.tally.lock_sleeps += 1;
            self.locks[lock].sleepers.push_back(cpu);
            return;
        }
        self.locks[lock].spinners.push_back((cpu, woken));
        if self.costs.lock_spins_on == 0 {
            let token = self.cpus[cpu].token;
            let end = self.cpus[cpu].at.max(self.cpus[cpu].lock_since) + self.costs.lock_spin;
            self.push(end, Event::SpinEnd { cpu, token, lock });
        }
    }

    fn end_spin(&mut self, cpu: usize, lock: usize, time: u64) {
        let it = &mut self.locks[lock];
        if it.holder.is_none() && !it.spinners.iter().any(|spinner| spinner.0 == cpu) {
            // Just woken, and nobody has it.
            it.holder = Some(cpu);
            it.contended = true;
            return self.resume(cpu, time, Cause::Lock);
        }
        self.book_wait(cpu, time);
        let it = &mut self.locks[lock];
        if !it.spinners.iter().any(|spinner| spinner.0 == cpu) {
            return self.wait(cpu, lock, true); // just woken, and somebody was faster
        }
        // The spin was in vain: the word says *contended* now, which sends all spinners to sleep.
        it.contended = true;
        let spinners: Vec<usize> = it.spinners.drain(..).map(|spinner| spinner.0).collect();
        self.tally.lock_sleeps += spinners.len() as u64;
        for spinner in spinners {
            self.book_wait(spinner, time);
            self.cpus[spinner].token += 1; // no spin to end any more
            self.locks[lock].sleepers.push_back(spinner);
        }
    }

    fn book_wait(&mut self, cpu: usize, time: u64) {
        let it = &mut self.cpus[cpu];
        it.spent[Cause::Lock as usize] += time.saturating_sub(it.at);
        it.at = it.at.max(time);
        it.lock_since = it.at;
    }

    /// Lets go of the lock: to a spinner, which fetches its line, or to whom comes; and wakes a sleeper.
    pub(crate) fn release(&mut self, cpu: usize, lock: usize) {
        let now = self.cpus[cpu].at;
        let costs = self.costs.clone();
        let it = &mut self.locks[lock];
        assert_eq!(it.holder, Some(cpu), "only its holder lets go of a lock");
        let was_contended = std::mem::replace(&mut it.contended, false);
        it.holder = None;
        if let Some((spinner, woken)) = it.spinners.pop_front() {
            it.holder = Some(spinner);
            it.contended = woken;
            // The other spinners' reads and failed attempts delay the winner a little each.
            let crowd = it.spinners.len() as u64 * costs.read_occupancy;
            let handed = now + it.line.write(&costs, spinner, now) + crowd;
            if woken {
                // *Contended* sends the others to sleep.
                let rest: Vec<usize> = it.spinners.drain(..).map(|spinner| spinner.0).collect();
                it.sleepers.extend(&rest);
                rest.iter().for_each(|&cpu| self.cpus[cpu].token += 1);
            }
            self.resume(spinner, handed, Cause::Lock);
        }
        if was_contended {
            self.spend(cpu, Cause::Lock, costs.futex_wake);
            if let Some(sleeper) = self.locks[lock].sleepers.pop_front() {
                self.cpus[sleeper].token += 1;
                let token = self.cpus[sleeper].token;
                let time = now + costs.futex_wake / 2 + costs.wake_latency;
                self.push(
                    time,
                    Event::SpinEnd {
                        cpu: sleeper,
                        token,
                        lock,
                    },
                );
            }
        }
    }
}
