//! The echo rounds of a load process: every connection once a round, a bounded number under way at a time.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::load::{LoadWorker, TICK};
use crate::load_connection::{Outcome, Readable};
use crate::protocol::{Event, Failure, Order, Span, emit, now_ns};

/// What the phase has reached.
#[derive(Debug)]
struct Echoing {
    /// Echoes begun or skipped, over all rounds: the next is of connection `next % connections`.
    next: u64,
    /// Where to stop.
    end: u64,
    /// Connections that still stand.
    alive: usize,
    in_flight: u32,
    echoes: u64,
    failures: BTreeMap<Failure, u64>,
    latencies: Histogram<u64>,
    last_progress: Instant,
    last_report: Instant,
}

/// An empty histogram: 1 ns to two minutes, three digits. The main process adds up those of all load processes.
pub(crate) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("constant bounds")
}

/// Runs the rounds of the plan.
pub(crate) fn run(worker: &mut LoadWorker) -> io::Result<()> {
    let start_ns = now_ns();
    let now = Instant::now();
    let mut phase = Echoing {
        next: 0,
        end: u64::from(worker.plan.rounds) * worker.connections.len() as u64,
        alive: worker
            .connections
            .iter()
            .filter(|connection| !connection.is_gone())
            .count(),
        in_flight: 0,
        echoes: 0,
        failures: BTreeMap::new(),
        latencies: new_histogram(),
        last_progress: now,
        last_report: now,
    };
    for failure in std::mem::take(&mut worker.lost) {
        *phase.failures.entry(failure).or_default() += 1;
    }
    loop {
        phase.begin_more(worker);
        if phase.in_flight == 0 && phase.next == phase.end {
            break;
        }
        worker.turn(Some(TICK))?;
        for (index, readable) in std::mem::take(&mut worker.ready) {
            phase.advance(worker, index, readable);
        }
        if worker.take_order(&Order::StopEchoing) {
            phase.end = phase.next;
        }
        phase.look_at_the_clock(worker);
    }
    emit(&Event::Echoed {
        echoes: phase.echoes,
        failures: phase.failures.into_iter().collect(),
        span: Span {
            start_ns,
            end_ns: now_ns(),
        },
        latencies: phase
            .latencies
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
            .collect(),
    });
    Ok(())
}

impl Echoing {
    fn fail(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
        self.alive -= 1;
    }

    fn begin_more(&mut self, worker: &mut LoadWorker) {
        if self.alive == 0 {
            self.end = self.next;
        }
        while self.next < self.end && self.alive > 0 && self.in_flight < worker.plan.in_flight {
            let count = worker.connections.len() as u64;
            let (round, index) = (self.next / count, (self.next % count) as usize);
            let connection = &mut worker.connections[index];
            if connection.is_busy() {
                // Its echo of the round before is still under way.
                return;
            }
            self.next += 1;
            if connection.is_gone() {
                continue;
            }
            connection.begin((index as u64 * 7 + round + 1) as u8, now_ns());
            self.in_flight += 1;
            self.advance(
                worker,
                index,
                Readable {
                    data: false,
                    closed: false,
                },
            );
        }
    }

    fn advance(&mut self, worker: &mut LoadWorker, index: usize, readable: Readable) {
        let connection = &mut worker.connections[index];
        let was_busy = connection.is_busy();
        match connection.advance(readable, worker.plan.payload, &mut worker.buffers) {
            Outcome::Pending => return,
            Outcome::Echoed => {
                self.echoes += 1;
                self.latencies
                    .saturating_record(now_ns() - connection.started_ns());
            }
            Outcome::Failed(failure) => self.fail(failure),
        }
        self.in_flight -= u32::from(was_busy);
        self.last_progress = Instant::now();
    }

    /// Reports now and then, and gives up on what does not move.
    fn look_at_the_clock(&mut self, worker: &mut LoadWorker) {
        let now = Instant::now();
        if now - self.last_report >= 2 * TICK {
            self.last_report = now;
            emit(&Event::Echoing {
                echoes: self.echoes,
                lost: self.failures.values().sum(),
            });
        }
        if (now - self.last_progress).as_secs() >= u64::from(worker.plan.patience_s) {
            for connection in worker
                .connections
                .iter_mut()
                .filter(|connection| connection.is_busy())
            {
                connection.close();
                self.fail(Failure::NoProgress);
            }
            self.in_flight = 0;
            self.end = self.next;
        }
    }
}
