//! The rows: one file each, the same work for every system.

mod channel;
mod foreign;
mod handoff;
mod locking;
mod noisy;
mod parked;
mod pingpong;
mod selecting;
mod skynet;
mod sleep;
mod spawn;
mod spinning;
mod steal;
mod switch;
mod timer;
mod wake;
mod yielding;

use crate::options::Work as Amount;
use crate::run::{Run, Values};
use crate::served::{self, Load};
use crate::system::System;

/// One number of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// Added to the row's name with a dot; empty for a row with one number.
    pub(crate) part: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) lower_is_better: bool,
}

impl Metric {
    pub(crate) const fn new(part: &'static str, unit: &'static str) -> Metric {
        Metric {
            part,
            unit,
            lower_is_better: true,
        }
    }

    pub(crate) const fn higher(part: &'static str, unit: &'static str) -> Metric {
        Metric {
            part,
            unit,
            lower_is_better: false,
        }
    }
}

/// One comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What a reader of the table must know.
    pub(crate) note: &'static str,
    pub(crate) metrics: &'static [Metric],
    pub(crate) systems: &'static [System],
    pub(crate) work: Work,
}

/// How a row is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// In a process of its own; Go's half has the row's name.
    Alone(fn(&Run) -> Values),
    /// A server in one process and a client in another.
    Served(Load),
}

/// In order of importance.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = vec![
        spawn::ALL,
        spawn::ONE,
        yielding::TWO,
        yielding::THOUSAND,
        pingpong::ROW,
        foreign::ROW,
        sleep::ROW,
        skynet::ROW,
        parked::ROW,
        channel::RENDEZVOUS,
        channel::ONE_TO_ONE,
        channel::EIGHT_TO_EIGHT,
        selecting::TWO,
        selecting::EIGHT,
        locking::TWO,
        locking::EIGHT,
        locking::SIXTY_FOUR,
        locking::READ_MOSTLY,
    ];
    rows.extend(served::ECHO);
    rows.extend([switch::ROW, timer::RESET, timer::RESET_WAITED, steal::ROW]);
    rows.extend(served::CONNECTIONS);
    rows.extend([wake::ROW, noisy::HOGS, noisy::BLOCKERS_ROW, handoff::ROW]);
    rows.push(served::TAIL);
    rows
}

/// The child's half: measures and prints a line for each metric.
pub(crate) fn run_one(name: &str, system: System, work: Amount) -> Result<(), String> {
    let row = all()
        .into_iter()
        .find(|row| row.name == name)
        .ok_or_else(|| format!("there is no row {name}; see --list"))?;
    let Work::Alone(measure) = row.work else {
        return Err(format!("{name} needs a server and a client: use --only {name}"));
    };
    if !row.systems.contains(&system) || system == System::Go {
        return Err(format!("{name} cannot be run for {system} in this process"));
    }
    for value in measure(&Run { system, work }) {
        println!("value {value}");
    }
    Ok(())
}

/// A row for a system it does not list: `run_one` has refused that.
pub(crate) fn not_for(system: System) -> Values {
    unreachable!("no such row for {system}")
}
