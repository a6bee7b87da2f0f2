//! The connecting phase of a load process: a bounded number of connections at a time, each counted once a byte came back.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use mio::Token;

use crate::load::{LoadWorker, TICK};
use crate::load_connection::{Connection, Outcome};
use crate::protocol::{Event, Failure, Order, Span, emit, now_ns};

/// A connection proves itself with one byte.
const FIRST_ECHO: u32 = 1;
/// Source addresses a load process has to itself.
pub(crate) const SOURCES: u32 = 256;
/// Further source addresses tried for a connection whose first one has no free port.
const SOURCE_TRIES: u32 = 8;

/// What the phase has reached.
#[derive(Debug)]
struct Connecting {
    /// Connections tried so far; also the index of the next.
    tried: usize,
    total: usize,
    /// The target of the next connection and how many it has been given.
    target: usize,
    given: u32,
    in_flight: u32,
    connected: u64,
    failures: BTreeMap<Failure, u64>,
    /// No more are to be opened, and why.
    stopped: Option<Failure>,
    last_progress: Instant,
    last_report: Instant,
}

/// Opens all connections of the plan.
pub(crate) fn run(worker: &mut LoadWorker) -> io::Result<()> {
    let start_ns = now_ns();
    let total = worker
        .plan
        .targets
        .iter()
        .map(|target| target.connections as usize)
        .sum();
    worker.connections.reserve_exact(total);
    let now = Instant::now();
    let mut phase = Connecting {
        tried: 0,
        total,
        target: 0,
        given: 0,
        in_flight: 0,
        connected: 0,
        failures: BTreeMap::new(),
        stopped: None,
        last_progress: now,
        last_report: now,
    };
    while !phase.is_over() {
        phase.open_more(worker);
        worker.turn(Some(TICK))?;
        phase.handle_events(worker);
        if worker.take_order(&Order::StopConnecting) {
            phase.stopped.get_or_insert(Failure::NotTried);
        }
        phase.look_at_the_clock(worker);
    }
    phase.count_untried();
    emit(&Event::Connected {
        connected: phase.connected,
        failures: phase.failures.into_iter().collect(),
        span: Span {
            start_ns,
            end_ns: now_ns(),
        },
    });
    Ok(())
}

impl Connecting {
    fn is_over(&self) -> bool {
        self.in_flight == 0 && (self.tried == self.total || self.stopped.is_some())
    }

    fn fail(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    fn open_more(&mut self, worker: &mut LoadWorker) {
        while self.stopped.is_none() && self.tried < self.total && self.in_flight < worker.plan.connecting {
            let (address, place) = self.next_target(worker);
            match open(worker, address, place, self.tried) {
                Ok(connection) => {
                    worker.connections.push(connection);
                    self.in_flight += 1;
                    self.tried += 1;
                }
                Err(error) => {
                    // Without a free descriptor or memory the next one would fail as well.
                    let hopeless = matches!(
                        error.raw_os_error(),
                        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
                    );
                    let failure = Failure::from(error);
                    if hopeless {
                        self.stopped = Some(failure);
                    } else {
                        worker.connections.push(Connection::gone());
                        self.tried += 1;
                        self.fail(failure);
                    }
                }
            }
        }
    }

    /// Where the next connection goes and its place among those of the same target.
    fn next_target(&mut self, worker: &LoadWorker) -> (SocketAddrV4, u32) {
        while self.given == worker.plan.targets[self.target].connections {
            self.target += 1;
            self.given = 0;
        }
        self.given += 1;
        (worker.plan.targets[self.target].address, self.given - 1)
    }

    fn handle_events(&mut self, worker: &mut LoadWorker) {
        for (index, readable) in std::mem::take(&mut worker.ready) {
            let connection = &mut worker.connections[index];
            let was_busy = connection.is_busy();
            match connection.advance(readable, FIRST_ECHO, &mut worker.buffers) {
                Outcome::Pending => continue,
                Outcome::Echoed => {
                    self.connected += 1;
                    self.in_flight -= 1;
                }
                Outcome::Failed(failure) => {
                    self.fail(failure);
                    if was_busy {
                        self.in_flight -= 1;
                    } else {
                        self.connected -= 1;
                    }
                }
            }
            self.last_progress = Instant::now();
        }
    }

    /// Reports now and then, and gives up on what does not move.
    fn look_at_the_clock(&mut self, worker: &mut LoadWorker) {
        let now = Instant::now();
        if now - self.last_report >= 2 * TICK {
            self.last_report = now;
            emit(&Event::Connecting {
                connected: self.connected,
                failed: self.failures.values().sum(),
            });
        }
        if (now - self.last_progress).as_secs() >= u64::from(worker.plan.patience_s) {
            for connection in worker
                .connections
                .iter_mut()
                .filter(|connection| connection.is_busy())
            {
                connection.close();
                *self.failures.entry(Failure::NoProgress).or_default() += 1;
            }
            self.in_flight = 0;
            self.stopped.get_or_insert(Failure::NotTried);
        }
    }

    fn count_untried(&mut self) {
        let untried = (self.total - self.tried) as u64;
        if let (Some(why), 1..) = (self.stopped, untried) {
            *self.failures.entry(why).or_default() += untried;
        }
    }
}

/// Opens the connection with `index`, the `place`-th to `address`.
fn open(worker: &mut LoadWorker, address: SocketAddrV4, place: u32, index: usize) -> io::Result<Connection> {
    let first = place / worker.plan.per_source;
    let mut tries = 0;
    loop {
        let source = source_address(worker.plan.first_source, first + tries);
        match Connection::open(address, source, index as u8, worker.poll.registry(), Token(index)) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && tries < SOURCE_TRIES => {
                tries += 1
            }
            result => return result,
        }
    }
}

/// The `number`-th source address of the process, going round when they are used up.
fn source_address(first: Ipv4Addr, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first) + number % SOURCES)
}
