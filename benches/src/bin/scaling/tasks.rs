//! The workloads: what their tasks do, one step after the other.

use super::sim::{Cause, Id, Sim};
use super::steps::{Section, Step};

/// Children of a node of the tree.
const FAN: u32 = 10;
/// Free headers a processor keeps at most.
const HEADERS_MAX: u64 = 512;
/// How long each timer sleeps.
const SLEEP: u64 = 1_000_000;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// A tree with 10 children a node.
    Skynet,
    /// One task spawns, the others run 1 us each.
    Fanout1us,
    /// The same with 50 us each.
    Fanout50us,
    /// Pairs that wake each other, four a processor.
    Pingpong,
    /// An echo server at half of the load that its processors could carry.
    Echo50,
    /// At nine tenths.
    Echo90,
    /// Tasks that sleep 1 ms, five times each, 200 a processor.
    Timers,
    /// One thread outside for every four processors spawns tasks of 1 us.
    Foreign,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Spawns `count` children, then joins them.
    Root {
        count: u32,
    },
    Node {
        level: u32,
    },
    Work {
        nanos: u64,
    },
    Ping {
        peer: Id,
        rounds: u32,
    },
    Sleeper {
        rounds: u32,
    },
    Connection,
}

/// One task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) kind: Kind,
    phase: u32,
    children: Vec<Id>,
    joiner: Option<Id>,
    pub(crate) runs_ended: u32,
    pub(crate) parked: bool,
    permit: bool,
    pub(crate) runnable_at: u64,
    /// When the messages came that wait on the connection.
    inbox: std::collections::VecDeque<u64>,
    polled: bool,
}

/// What the workload keeps outside of tasks.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) kind: Option<Workload>,
    pub(crate) has_sources: bool,
    pub(crate) pooled_headers: u64,
    foreign_left: u64,
    foreign_total: u64,
    /// Mean time between two messages of one connection.
    gap: u64,
    pub(crate) measure_from: u64,
    pub(crate) measure_until: u64,
    pub(crate) responses: Vec<u64>,
}

impl Sim {
    /// A model that is about to run `workload`. `scale` divides the amount of work.
    pub(crate) fn of(
        costs: super::costs::Costs,
        processors: usize,
        workload: Workload,
        seed: u64,
        scale: u64,
    ) -> Sim {
        let foreign = if workload == Workload::Foreign {
            processors.div_ceil(4)
        } else {
            0
        };
        let mut sim = Sim::new(costs, processors, foreign, seed);
        sim.world.kind = Some(workload);
        let count = processors as u64;
        let amount = |tasks: u64| u32::try_from((tasks / scale).max(1)).unwrap_or(u32::MAX);
        let root = match workload {
            Workload::Skynet => Kind::Node {
                level: if scale > 1 || count <= 2 { 5 } else { 6 },
            },
            Workload::Fanout1us => Kind::Root {
                count: amount(100_000),
            },
            Workload::Fanout50us => Kind::Root {
                count: amount(20_000.max(count * 400)),
            },
            Workload::Pingpong => Kind::Root {
                count: 8 * processors as u32,
            },
            Workload::Timers => Kind::Root {
                count: amount(200 * count),
            },
            Workload::Echo50 | Workload::Echo90 => Kind::Root {
                count: 64 * processors as u32,
            },
            Workload::Foreign => Kind::Root { count: 0 },
        };
        if matches!(workload, Workload::Echo50 | Workload::Echo90) {
            let percent = if workload == Workload::Echo50 { 50 } else { 90 };
            sim.world.gap = 64 * sim.costs.echo_message * 100 / percent;
        }
        let monitor = processors + foreign;
        for cpu in 0..=monitor {
            sim.cpus[cpu].todo.push(if cpu < processors {
                Step::Look
            } else {
                Step::Foreign
            });
        }
        sim.cpus[monitor].todo = vec![Step::Monitor];
        sim.block(monitor);
        sim.alarm(monitor, 1_000_000);
        if workload == Workload::Foreign {
            sim.world.foreign_total = u64::from(amount(2_000 * count.max(50)));
            sim.world.foreign_left = sim.world.foreign_total;
            (processors..monitor).for_each(|cpu| {
                sim.cpus[cpu].blocked = false;
                sim.schedule(cpu);
            });
        } else {
            sim.begin(root);
        }
        sim
    }

    /// The root task starts on the first processor.
    pub(crate) fn begin(&mut self, root: Kind) {
        let id = self.new_task(root);
        self.tally.spawned = 1;
        let first = self.domains[0].idle.iter().position(|&cpu| cpu == 0);
        self.domains[0].idle.remove(first.expect("all idle at the start"));
        let cpu = &mut self.cpus[0];
        (cpu.started, cpu.asleep, cpu.blocked, cpu.next) = (true, false, false, Some(id));
        self.schedule(0);
    }

    fn new_task(&mut self, kind: Kind) -> Id {
        self.tasks.push(Task {
            kind,
            phase: 0,
            children: Vec::new(),
            joiner: None,
            runs_ended: 0,
            parked: false,
            permit: false,
            runnable_at: 0,
            inbox: std::collections::VecDeque::new(),
            polled: false,
        });
        self.tasks.len() as Id - 1
    }

    fn child_of(&self, parent: Id, number: u32) -> Kind {
        match (self.tasks[parent as usize].kind, self.world.kind) {
            (Kind::Node { level }, _) => Kind::Node { level: level - 1 },
            (_, Some(Workload::Fanout50us)) => Kind::Work { nanos: 50_000 },
            (_, Some(Workload::Pingpong)) => {
                let peer = self.tasks.len() as Id;
                let peer = if number.is_multiple_of(2) {
                    peer + 1
                } else {
                    peer - 1
                };
                Kind::Ping { peer, rounds: 2_000 }
            }
            (_, Some(Workload::Timers)) => Kind::Sleeper { rounds: 5 },
            (_, Some(Workload::Echo50 | Workload::Echo90)) => Kind::Connection,
            _ => Kind::Work { nanos: 1_000 },
        }
    }

    /// One step of the running task.
    pub(crate) fn continue_task(&mut self, cpu: usize, id: Id) {
        let task = &self.tasks[id as usize];
        let phase = task.phase;
        match task.kind {
            Kind::Root { count } => self.tree(cpu, id, count),
            Kind::Node { level: 0 } => self.end(cpu, id),
            Kind::Node { .. } => self.tree(cpu, id, FAN),
            Kind::Work { .. } if phase == 1 => self.end(cpu, id),
            Kind::Work { nanos } => {
                self.tasks[id as usize].phase = 1;
                self.spend(cpu, Cause::Work, nanos);
                self.then(cpu, Step::Continue(id));
            }
            Kind::Ping { rounds, .. } if phase >= rounds => self.end(cpu, id),
            Kind::Ping { peer, .. } => {
                self.tasks[id as usize].phase += 1;
                self.spend(cpu, Cause::Work, self.costs.unpark);
                self.park(cpu, id);
                if (peer as usize) < self.tasks.len() {
                    self.unpark(cpu, peer);
                }
            }
            Kind::Sleeper { rounds } if phase >= rounds => self.end(cpu, id),
            Kind::Sleeper { .. } => {
                self.tasks[id as usize].phase += 1;
                self.spend(cpu, Cause::Work, self.costs.timer_arm);
                let due = self.cpus[cpu].at + SLEEP;
                self.cpus[cpu].timers.push(std::cmp::Reverse((due, id)));
                self.tasks[id as usize].runnable_at = due;
                self.park(cpu, id);
            }
            Kind::Connection => self.serve(cpu, id),
        }
    }

    /// Spawns `count` children one by one, then joins them in order.
    fn tree(&mut self, cpu: usize, id: Id, count: u32) {
        let phase = self.tasks[id as usize].phase;
        if phase < count {
            if self.cpus[cpu].headers == 0 {
                self.then(cpu, Step::Continue(id));
                let slab = self.slab_lock();
                return self.then(cpu, Step::Lock(slab, Section::Refill));
            }
            self.cpus[cpu].headers -= 1;
            self.tasks[id as usize].phase += 1;
            let kind = self.child_of(id, phase);
            let child = self.new_task(kind);
            self.tasks[id as usize].children.push(child);
            self.tally.spawned += 1;
            self.spend(cpu, Cause::Work, self.costs.spawn);
            self.then(cpu, Step::Continue(id));
            return self.ready(cpu, child);
        }
        if self.world.gap > 0 && phase == count {
            self.open(cpu);
        }
        let Some(&child) = self.tasks[id as usize].children.get((phase - count) as usize) else {
            return self.end(cpu, id);
        };
        if self.tasks[child as usize].runs_ended > 0 {
            self.tasks[id as usize].phase += 1;
            self.spend(cpu, Cause::Work, self.costs.join);
            return self.then(cpu, Step::Continue(id));
        }
        self.tasks[child as usize].joiner = Some(id);
        self.park(cpu, id);
    }

    /// The connections are there: messages begin to come.
    fn open(&mut self, cpu: usize) {
        self.world.has_sources = true;
        let now = self.cpus[cpu].at;
        self.world.measure_from = now + 5_000_000;
        self.world.measure_until = now + 20_000_000;
        for id in 0..self.tasks.len() as Id {
            if self.tasks[id as usize].kind == Kind::Connection {
                let first = now + self.exponential(self.world.gap);
                self.arrival(first, id);
            }
        }
    }

    fn exponential(&mut self, mean: u64) -> u64 {
        let uniform = ((self.random() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        (-uniform.ln() * mean as f64) as u64
    }

    /// A message comes in.
    pub(crate) fn arrive(&mut self, id: Id, time: u64) {
        if time >= self.world.measure_until {
            self.ended_at = Some(self.world.measure_until);
            return;
        }
        let next = time + self.exponential(self.world.gap);
        self.arrival(next, id);
        let task = &mut self.tasks[id as usize];
        task.inbox.push_back(time);
        if !task.parked || std::mem::replace(&mut task.polled, true) {
            return;
        }
        let domain = id as usize % self.domains.len();
        self.domains[domain].ready.push_back(id);
        let waits = |&cpu: &usize| self.cpus[cpu].in_poller && self.cpus[cpu].asleep;
        let waiter = self.domains[domain].idle.iter().copied().find(waits);
        if let Some(waiter) = waiter {
            self.rouse(waiter, time, self.costs.wake_latency);
        }
    }

    fn serve(&mut self, cpu: usize, id: Id) {
        self.tasks[id as usize].polled = false;
        if self.tasks[id as usize].phase == 1 {
            // The message that was being handled is answered.
            self.tasks[id as usize].phase = 0;
            let now = self.cpus[cpu].at;
            let came = self.tasks[id as usize]
                .inbox
                .pop_front()
                .expect("one was handled");
            if (self.world.measure_from..self.world.measure_until).contains(&now) {
                self.tally.messages += 1;
                self.world.responses.push(now - came);
            }
        }
        if self.tasks[id as usize]
            .inbox
            .front()
            .is_some_and(|&came| came <= self.cpus[cpu].at)
        {
            self.tasks[id as usize].phase = 1;
            self.spend(cpu, Cause::Work, self.costs.echo_message);
            self.then(cpu, Step::Continue(id));
        } else {
            self.park(cpu, id);
        }
    }

    fn park(&mut self, cpu: usize, id: Id) {
        let task = &mut self.tasks[id as usize];
        if std::mem::take(&mut task.permit) {
            return self.then(cpu, Step::Continue(id));
        }
        task.parked = true;
        self.spend(cpu, Cause::Work, self.costs.park);
        self.then(cpu, Step::Pick);
    }

    fn unpark(&mut self, cpu: usize, id: Id) {
        let task = &mut self.tasks[id as usize];
        if std::mem::take(&mut task.parked) {
            self.ready(cpu, id);
        } else {
            task.permit = true;
        }
    }

    fn end(&mut self, cpu: usize, id: Id) {
        let task = &mut self.tasks[id as usize];
        task.runs_ended += 1;
        let joiner = task.joiner;
        self.tally.finished += 1;
        self.spend(cpu, Cause::Work, self.costs.finish);
        let all = match self.world.kind {
            Some(Workload::Foreign) => self.tally.finished == self.world.foreign_total,
            _ => id == 0,
        };
        if all {
            self.ended_at = Some(self.cpus[cpu].at);
            return;
        }
        self.then(cpu, Step::Pick);
        self.cpus[cpu].headers += 1;
        if self.cpus[cpu].headers >= HEADERS_MAX {
            let slab = self.slab_lock();
            self.then(cpu, Step::Lock(slab, Section::Spill));
        }
        if let Some(joiner) = joiner {
            self.unpark(cpu, joiner);
        }
    }

    /// A thread outside spawns: a header from the pool, an id, the global queue.
    pub(crate) fn foreign(&mut self, cpu: usize) {
        if self.world.foreign_left == 0 {
            return self.block(cpu);
        }
        self.world.foreign_left -= 1;
        let id = self.new_task(Kind::Work { nanos: 1_000 });
        self.tasks[id as usize].runnable_at = self.cpus[cpu].at;
        self.tally.spawned += 1;
        self.spend(cpu, Cause::Work, self.costs.spawn);
        let wait = self.ids_line.write(&self.costs, cpu, self.cpus[cpu].at) + self.costs.rmw;
        self.spend(cpu, Cause::Line, wait);
        let (domain, slab) = (self.domain_of(cpu), self.slab_lock());
        self.then(cpu, Step::Foreign);
        self.then(cpu, Step::WakeOne);
        self.then(cpu, Step::Lock(domain, Section::Inject(id)));
        self.then(cpu, Step::Lock(slab, Section::ForeignHeader));
    }
}
