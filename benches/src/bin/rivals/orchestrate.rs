//! The whole comparison: every system in turn, row by row.

use crate::go;
use crate::machine::Machine;
use crate::options::Options;
use crate::process::Launcher;
use crate::report::{Measured, Report};
use crate::rows::{self, Row, Work};
use crate::run::Values;
use crate::served::{self, Load};
use crate::system::System;
use crate::table;
use std::fs;

/// Does what the command line asks.
pub(crate) fn all(options: &Options) -> Result<(), String> {
    let rows = chosen(options)?;
    if options.list {
        rows.iter().for_each(table::print_row_name);
        return Ok(());
    }
    if options.repeat == 0 || options.work.processors == 0 {
        return Err("--repeat and --processors must be at least 1".to_owned());
    }
    let mut launcher = Launcher::new(options.work)?;
    launcher.go = go::build(launcher.myself.parent().expect("a program is in a directory"))?;
    let mut report = Report::new(Machine::here(options.work));
    for row in &rows {
        let systems = turns(row, options, &launcher);
        let mut measured = Measured::new(row);
        for turn in 0..options.repeat {
            eprintln!("{} {}/{}", row.name, turn + 1, options.repeat);
            measure_once(&launcher, row, &rotated(&systems, turn), &mut measured);
        }
        report.add(&measured);
        table::print_new_rows(&report, row);
    }
    println!();
    table::print(&report);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn chosen(options: &Options) -> Result<Vec<Row>, String> {
    let rows = rows::all();
    if let Some(unknown) = options
        .only
        .iter()
        .find(|name| rows.iter().all(|row| row.name != **name))
    {
        return Err(format!("there is no row {unknown}; see --list"));
    }
    let wanted = |row: &Row| options.only.is_empty() || options.only.iter().any(|name| name == row.name);
    Ok(rows.into_iter().filter(wanted).collect())
}

/// The systems of a row that are here and asked for.
fn turns(row: &Row, options: &Options, launcher: &Launcher) -> Vec<System> {
    let here = |system: System| system != System::Go || launcher.go.is_some();
    let asked = |system| options.systems.is_empty() || options.systems.contains(&system);
    row.systems
        .iter()
        .copied()
        .filter(|&system| here(system) && asked(system))
        .collect()
}

/// Another system begins each time.
fn rotated(systems: &[System], turn: usize) -> Vec<System> {
    let mut systems = systems.to_vec();
    let first = turn % systems.len().max(1);
    systems.rotate_left(first);
    systems
}

fn measure_once(launcher: &Launcher, row: &Row, systems: &[System], measured: &mut Measured<'_>) {
    match row.work {
        Work::Alone(_) => {
            for &system in systems {
                measured.note(system, launcher.run_row(row.name, system));
            }
        }
        Work::Served(Load::Tail) => measure_tail(launcher, systems, measured),
        Work::Served(load) => {
            for &system in systems {
                let values = served::measure(launcher, load, system, row.metrics.len());
                measured.note(system, values);
            }
        }
    }
}

/// First what each system can do at most, then all of them at parts of what the slowest can.
fn measure_tail(launcher: &Launcher, systems: &[System], measured: &mut Measured<'_>) {
    let mut slowest = f64::INFINITY;
    for &system in systems {
        match served::saturation(launcher, system) {
            Ok(rate) if !matches!(system, System::May | System::Control) => slowest = slowest.min(rate),
            Ok(_) => {}
            Err(error) => eprintln!("rivals: saturation of {system}: {error}"),
        }
    }
    if slowest.is_infinite() {
        measured.remark("no system was saturated, so there is no rate".to_owned());
        return;
    }
    measured.remark(format!("100% is {:.0} messages/s", slowest));
    for &system in systems {
        let values: Result<Values, String> = served::tail(launcher, system, [0.5 * slowest, 0.9 * slowest]);
        measured.note(system, values);
    }
}
