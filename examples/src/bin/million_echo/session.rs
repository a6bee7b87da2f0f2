//! The main process during a run: what it knows of its children, and the one loop in which it waits for them.

use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::family::{Family, Incoming, Who};
use crate::limits::{System, memory_left};
use crate::load_echo::new_histogram;
use crate::options::LoadSettings;
use crate::plan::{Kind, Plan};
use crate::progress::Progress;
use crate::protocol::{Event, Failure, LoadPlan, Order};
use crate::report::grouped;
use crate::tally::{Load, Server, Sums};

/// A child may be silent for this much longer than the patience it has itself.
const GRACE: Duration = Duration::from_secs(5);
/// After Ctrl-C: the time for children to say what they reached.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// From the first broken connection to the last sign of the server that broke it.
const OBITUARY: Duration = Duration::from_secs(1);
/// Between two looks at memory and progress.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A run under way.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) family: Family,
    pub(crate) plan: Plan,
    pub(crate) system: System,
    pub(crate) settings: LoadSettings,
    pub(crate) progress: Progress,
    pub(crate) servers: Vec<Server>,
    pub(crate) loads: Vec<Load>,
    /// The servers are not ours.
    pub(crate) external: bool,
    pub(crate) interrupted: bool,
    /// Connecting is over.
    echoing: bool,
    /// Some connection was closed from the server's side.
    broken: bool,
    /// Limits that were run into although the plan left room.
    pub(crate) limits_hit: Vec<Kind>,
    pub(crate) events: Vec<String>,
    pub(crate) latencies: Histogram<u64>,
    /// When whoever is silent is given up.
    deadline: Instant,
}

impl Session {
    pub(crate) fn new(
        plan: Plan,
        system: System,
        settings: LoadSettings,
        external: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            family: Family::new()?,
            plan,
            system,
            settings,
            progress: Progress::new(),
            servers: Vec::new(),
            loads: Vec::new(),
            external,
            interrupted: false,
            echoing: false,
            broken: false,
            limits_hit: Vec::new(),
            events: Vec::new(),
            latencies: new_histogram(),
            deadline: Instant::now(),
        })
    }

    /// Starts a child; where the system has no room for another process, says so.
    pub(crate) fn start(&mut self, who: Who, arguments: &[String]) -> io::Result<()> {
        let started = self.family.start(who, arguments);
        if let Err(error) = &started {
            self.note(format!("{who} could not be started: {error}"));
            if let Some(kind) = error.raw_os_error().and_then(Kind::of_errno) {
                self.hit(kind);
            }
        }
        match who {
            Who::Server(_) => self.servers.push(Server {
                address: None,
                alive: started.is_ok(),
                pids: started.into_iter().collect(),
            }),
            Who::Load(_) => {
                let alive = started.is_ok();
                self.loads.push(Load {
                    alive,
                    done: !alive,
                    ..Load::default()
                });
            }
        }
        Ok(())
    }

    /// Addresses of the servers that are up.
    pub(crate) fn listening(&self) -> Vec<SocketAddrV4> {
        self.servers
            .iter()
            .filter(|server| server.alive)
            .filter_map(|server| server.address)
            .collect()
    }

    pub(crate) fn server_pids(&self) -> Vec<u32> {
        self.servers
            .iter()
            .flat_map(|server| server.pids.iter().copied())
            .collect()
    }

    /// Starts the load processes and hands out their plans.
    pub(crate) fn start_loads(&mut self, plans: &[LoadPlan]) -> io::Result<()> {
        for (index, plan) in plans.iter().enumerate() {
            if self.interrupted {
                return Ok(());
            }
            self.start(Who::Load(index), &["load-worker".to_string()])?;
            self.loads[index].given = plan
                .targets
                .iter()
                .map(|target| u64::from(target.connections))
                .sum();
            self.family.tell(Who::Load(index), &Order::Plan(plan.clone()));
        }
        self.wait(|session| session.loads.iter().all(|load| load.done));
        Ok(())
    }

    /// Opens the connections.
    pub(crate) fn connect(&mut self) {
        let total = self
            .loads
            .iter()
            .filter(|load| load.alive)
            .map(|load| load.given)
            .sum();
        self.phase("connecting", total, &Order::Connect);
        let sums = self.sums();
        let rate = sums.connect_per_s.map_or(String::new(), |rate| {
            format!(", {} a second", grouped(rate as u64))
        });
        self.progress
            .end(&format!("connected: {} of {}{rate}", sums.connections, total));
    }

    /// Runs the echo rounds.
    pub(crate) fn echo(&mut self) {
        let connected = self.sums().connections;
        if self.interrupted || self.settings.rounds == 0 || connected == 0 {
            return;
        }
        self.echoing = true;
        let total = connected.saturating_mul(u64::from(self.settings.rounds));
        self.phase("echoing", total, &Order::Echo);
        let sums = self.sums();
        self.progress
            .end(&format!("echoed: {} of {}", sums.echoes, total));
    }

    /// Gives all loads an order and waits for their answers.
    fn phase(&mut self, name: &'static str, total: u64, order: &Order) {
        if self.interrupted {
            return;
        }
        self.progress.begin(name, total);
        for index in 0..self.loads.len() {
            self.loads[index].done = !self.loads[index].alive;
            self.family.tell(Who::Load(index), order);
        }
        self.wait(|session| session.loads.iter().all(|load| load.done));
        if self.broken && !self.external {
            self.look_for_the_dead();
        }
    }

    /// Listens to the children until `done`; ends whoever is silent for too long.
    pub(crate) fn wait(&mut self, done: fn(&Self) -> bool) {
        self.deadline = Instant::now()
            + if self.interrupted {
                LAST_WORDS
            } else {
                self.patience()
            };
        let mut look = Instant::now();
        while !done(self) {
            if let Some(incoming) = self.family.listen(look.min(self.deadline)) {
                self.take(incoming);
            }
            let now = Instant::now();
            if now >= look {
                look = now + LOOK_EVERY;
                self.look_around();
            }
            if now >= self.deadline {
                self.give_up();
                return;
            }
        }
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Said(who, event) => {
                let moved = self.hear(who, event);
                if moved && !self.interrupted {
                    self.deadline = Instant::now() + self.patience();
                }
            }
            Incoming::Gone(who) => self.bury(who),
            Incoming::Interrupted => self.interrupt(),
        }
    }

    /// After connections broke: a server that died closes them a moment before its own end can be heard.
    fn look_for_the_dead(&mut self) {
        let until = Instant::now() + OBITUARY;
        while self.servers.iter().all(|server| server.alive) {
            let Some(incoming) = self.family.listen(until) else {
                return;
            };
            self.take(incoming);
        }
    }

    fn patience(&self) -> Duration {
        self.settings.patience() + GRACE
    }

    /// Takes in what a child said; whether anything moved.
    fn hear(&mut self, who: Who, event: Event) -> bool {
        match (who, event) {
            (Who::Server(index), Event::Ready { address }) => self.servers[index].address = address,
            (Who::Server(_), Event::AcceptFailed { errno, .. }) => {
                if let Some(kind) = Kind::of_errno(errno) {
                    self.hit(kind);
                }
                return false;
            }
            (Who::Load(index), Event::Ready { .. }) => self.loads[index].done = true,
            (Who::Load(index), Event::Connecting { connected, failed }) => {
                let load = &mut self.loads[index];
                let moved = (load.connected, load.failed) != (connected, failed);
                (load.connected, load.failed) = (connected, failed);
                return moved;
            }
            (
                Who::Load(index),
                Event::Connected {
                    connected,
                    failures,
                    span,
                },
            ) => {
                let load = &mut self.loads[index];
                (load.connected, load.connecting, load.done) = (connected, Some(span), true);
                self.explain(who, "not connected", &failures);
            }
            (Who::Load(index), Event::Echoing { echoes, lost }) => {
                let load = &mut self.loads[index];
                let moved = (load.echoes, load.lost) != (echoes, lost);
                (load.echoes, load.lost) = (echoes, lost);
                return moved;
            }
            (
                Who::Load(index),
                Event::Echoed {
                    echoes,
                    failures,
                    span,
                    latencies,
                },
            ) => {
                let load = &mut self.loads[index];
                (load.echoes, load.echoing, load.done) = (echoes, Some(span), true);
                load.lost = failures.iter().map(|(_, count)| count).sum();
                for (value, count) in latencies {
                    let _ = self.latencies.record_n(value, count);
                }
                self.explain(who, "lost", &failures);
            }
            (_, Event::Trouble { what }) => self.note(format!("{who}: {what}")),
            (_, event) => self.note(format!("{who} said something out of turn: {event:?}")),
        }
        true
    }

    /// Says why connections failed, and which limit it was.
    fn explain(&mut self, who: Who, what: &str, failures: &[(Failure, u64)]) {
        for (failure, count) in failures {
            if self.interrupted && *failure == Failure::NotTried {
                // What the user asked for is no news, and each load process would say it.
                continue;
            }
            self.note(format!("{who}: {count} {what}: {failure}"));
            self.broken |= failure.is_by_the_server();
            if let Failure::Os(errno) = failure
                && let Some(kind) = Kind::of_errno(*errno)
            {
                self.hit(kind);
            }
        }
    }

    /// A child is gone that should not be: its connections are too.
    fn bury(&mut self, who: Who) {
        let how = self.family.end(who);
        self.note(how);
        match who {
            Who::Server(index) => self.servers[index].alive = false,
            Who::Load(index) => {
                let load = &mut self.loads[index];
                (load.alive, load.done) = (false, true);
                if load.connecting.is_some() {
                    load.lost = load.connected;
                } else {
                    load.connected = 0;
                }
            }
        }
    }

    /// Ctrl-C: the children stop what they are at and say what they reached.
    fn interrupt(&mut self) {
        self.interrupted = true;
        self.deadline = Instant::now() + LAST_WORDS;
        self.progress.say("interrupted: ending");
        for index in 0..self.loads.len() {
            self.family.tell(Who::Load(index), &Order::StopConnecting);
            self.family.tell(Who::Load(index), &Order::StopEchoing);
        }
    }

    /// The deadline is over: whoever has not answered is ended.
    fn give_up(&mut self) {
        let silent_servers: Vec<usize> = (0..self.servers.len())
            .filter(|index| !self.servers[*index].is_settled())
            .collect();
        let silent_loads: Vec<usize> = (0..self.loads.len())
            .filter(|index| !self.loads[*index].done)
            .collect();
        for index in silent_servers {
            self.bury(Who::Server(index));
        }
        for index in silent_loads {
            self.bury(Who::Load(index));
        }
    }

    /// Shows progress and watches the limits that can change while we run.
    fn look_around(&mut self) {
        let reached = self
            .loads
            .iter()
            .map(|load| if self.echoing { load.echoes } else { load.connected })
            .sum();
        if !self.loads.is_empty() {
            self.progress.set(reached);
        }
        if memory_left() < self.system.memory_floor() && self.hit(Kind::Memory) {
            self.note("memory is nearly used up: no more connections are opened".into());
            for index in 0..self.loads.len() {
                self.family.tell(Who::Load(index), &Order::StopConnecting);
            }
        }
        if tcp_pages() > self.system.tcp_pages {
            self.hit(Kind::TcpMemory);
        }
    }

    /// A limit was run into; says so once. Whether it was the first time.
    fn hit(&mut self, kind: Kind) -> bool {
        if self.limits_hit.contains(&kind) {
            return false;
        }
        self.limits_hit.push(kind);
        if let Some(limit) = self.plan.limits.iter().find(|limit| limit.kind == kind) {
            let line = limit.explain();
            self.note(line);
        }
        true
    }

    /// Something for the user to know, now and in the report.
    fn note(&mut self, line: String) {
        self.progress.say(&line);
        self.events.push(line);
    }

    pub(crate) fn sums(&self) -> Sums {
        Sums::of(&self.loads)
    }
}

/// Pages that all TCP buffers take now.
fn tcp_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}
