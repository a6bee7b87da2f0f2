//! What was measured, and who is ahead.

use crate::machine::Machine;
use crate::rows::{Metric, Row};
use crate::run::Values;
use crate::stats::{median, spread_percent};
use crate::system::System;
use serde::Serialize;
use std::collections::BTreeMap;

/// Within this much of the best rival, two are level.
const LEVEL: f64 = 0.03;

/// All values of one row so far.
#[derive(Debug)]
pub(crate) struct Measured<'a> {
    row: &'a Row,
    values: BTreeMap<System, Vec<Values>>,
    remarks: Vec<String>,
}

impl<'a> Measured<'a> {
    pub(crate) fn new(row: &'a Row) -> Measured<'a> {
        Measured {
            row,
            values: BTreeMap::new(),
            remarks: Vec::new(),
        }
    }

    /// What one process came to.
    pub(crate) fn note(&mut self, system: System, values: Result<Values, String>) {
        let wanted = self.row.metrics.len();
        match values {
            Ok(values) if values.len() == wanted => self.values.entry(system).or_default().push(values),
            Ok(values) => self.remark(format!("{system}: {} values instead of {wanted}", values.len())),
            Err(error) => self.remark(format!("{system}: {error}")),
        }
    }

    pub(crate) fn remark(&mut self, text: String) {
        eprintln!("rivals: {}: {text}", self.row.name);
        self.remarks.push(text);
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Line>,
    /// By row: what must be known, what went wrong.
    pub(crate) notes: BTreeMap<String, Vec<String>>,
}

/// One metric of one row: medians.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) lower_is_better: bool,
    pub(crate) bast: Option<f64>,
    pub(crate) go: Option<f64>,
    pub(crate) tokio: Option<f64>,
    pub(crate) may: Option<f64>,
    pub(crate) crossbeam: Option<f64>,
    pub(crate) flume: Option<f64>,
    pub(crate) control: Option<f64>,
    /// bast divided by the best of all others but the control.
    pub(crate) ratio_to_best: Option<f64>,
    pub(crate) best_rival: Option<System>,
    /// bast divided by the control.
    pub(crate) ratio_to_control: Option<f64>,
    /// Half of each system's range over the repeats, in percent of its median.
    pub(crate) spread_percent: BTreeMap<&'static str, f64>,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ahead,
    Level,
    Behind,
    /// bast or all rivals are missing.
    Open,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Report {
        Report {
            machine,
            rows: Vec::new(),
            notes: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, measured: &Measured<'_>) {
        let row = measured.row;
        for (column, metric) in row.metrics.iter().enumerate() {
            let values: BTreeMap<System, Vec<f64>> = measured
                .values
                .iter()
                .map(|(system, runs)| (*system, runs.iter().map(|values| values[column]).collect()))
                .collect();
            self.rows.push(Line::new(row.name, metric, &values));
        }
        let note = Some(row.note.to_owned()).filter(|note| !note.is_empty());
        let notes: Vec<String> = note.into_iter().chain(measured.remarks.iter().cloned()).collect();
        if !notes.is_empty() {
            self.notes.insert(row.name.to_owned(), notes);
        }
    }
}

impl Line {
    fn new(row: &str, metric: &Metric, values: &BTreeMap<System, Vec<f64>>) -> Line {
        let of = |system: System| values.get(&system).map(|values| median(values));
        let better = |a: f64, b: f64| if metric.lower_is_better { a < b } else { a > b };
        let best = values
            .keys()
            .filter(|system| system.is_rival())
            .map(|&system| (system, median(&values[&system])))
            .reduce(|best, next| if better(next.1, best.1) { next } else { best });
        let bast = of(System::Bast);
        let ratio_to_best = bast.zip(best).map(|(bast, (_, best))| bast / best);
        let name = match metric.part {
            "" => row.to_owned(),
            part => format!("{row}.{part}"),
        };
        Line {
            name,
            unit: metric.unit,
            lower_is_better: metric.lower_is_better,
            bast,
            go: of(System::Go),
            tokio: of(System::Tokio),
            may: of(System::May),
            crossbeam: of(System::Crossbeam),
            flume: of(System::Flume),
            control: of(System::Control),
            ratio_to_best,
            best_rival: best.map(|(system, _)| system),
            ratio_to_control: bast
                .zip(of(System::Control))
                .map(|(bast, control)| bast / control),
            spread_percent: values
                .iter()
                .map(|(system, values)| (system.name(), spread_percent(values)))
                .collect(),
            verdict: ratio_to_best.map_or(Verdict::Open, |ratio| verdict(ratio, metric.lower_is_better)),
        }
    }

    pub(crate) fn of(&self, system: System) -> Option<f64> {
        match system {
            System::Bast => self.bast,
            System::Go => self.go,
            System::Tokio => self.tokio,
            System::May => self.may,
            System::Crossbeam => self.crossbeam,
            System::Flume => self.flume,
            System::Control => self.control,
        }
    }
}

fn verdict(ratio: f64, lower_is_better: bool) -> Verdict {
    let worse = if lower_is_better { ratio } else { 1.0 / ratio };
    if worse > 1.0 + LEVEL {
        Verdict::Behind
    } else if worse < 1.0 - LEVEL {
        Verdict::Ahead
    } else {
        Verdict::Level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_better_unless_it_says_otherwise() {
        assert_eq!(verdict(0.5, true), Verdict::Ahead);
        assert_eq!(verdict(0.5, false), Verdict::Behind);
        assert_eq!(verdict(1.02, true), Verdict::Level);
        assert_eq!(verdict(1.5, true), Verdict::Behind);
        assert_eq!(verdict(1.5, false), Verdict::Ahead);
    }

    #[test]
    fn the_best_rival_is_no_control() {
        let values = BTreeMap::from([
            (System::Bast, vec![20.0, 10.0, 30.0]),
            (System::Go, vec![40.0]),
            (System::Tokio, vec![25.0]),
            (System::Control, vec![5.0]),
        ]);
        let line = Line::new("row", &Metric::new("p50", "ns"), &values);
        assert_eq!(line.name, "row.p50");
        assert_eq!(line.best_rival, Some(System::Tokio));
        assert_eq!(line.ratio_to_best, Some(0.8));
        assert_eq!(line.ratio_to_control, Some(4.0));
        assert_eq!(line.verdict, Verdict::Ahead);
        assert_eq!(line.spread_percent["bast"], 50.0);
    }

    #[test]
    fn without_a_rival_there_is_no_verdict() {
        let line = Line::new(
            "row",
            &Metric::new("", "ns"),
            &BTreeMap::from([(System::Bast, vec![1.0])]),
        );
        assert_eq!(line.verdict, Verdict::Open);
    }
}
