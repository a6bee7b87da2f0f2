//! `attribute`: where the time of each kind of task and of each user region went.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::rc::Rc;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::ledger::{Account, Books, Ledger, NETWORK, Region, Sink};
use crate::reader::{Event, Generation, Tables, Visitor};
use crate::text::{duration, percent, share};

/// 36 years; only a damaged trace has longer times.
const LONGEST: u64 = 1 << 60;

/// Quantiles, in nanoseconds, exact to 1 in 100.
#[derive(Debug)]
struct Spread(Histogram<u64>);

impl Default for Spread {
    fn default() -> Spread {
        Spread(Histogram::new(2).expect("two digits are within what a histogram can do"))
    }
}

impl Spread {
    fn add(&mut self, nanoseconds: i64) {
        let length = u64::try_from(nanoseconds).unwrap_or(0).min(LONGEST);
        self.0.record(length).expect("it grows as far as LONGEST");
    }

    fn quantile(&self, quantile: f64) -> Option<i64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile).cast_signed())
    }
}

/// All tasks of a kind, or all regions of a name.
#[derive(Debug, Default)]
struct Group {
    count: u64,
    /// Of which both ends lie in the trace; the quantiles are over these alone.
    whole: u64,
    ledger: Ledger,
    wall: Spread,
    parts: BTreeMap<Rc<str>, Spread>,
}

impl Group {
    fn add(&mut self, ledger: &Ledger, whole: bool) {
        self.count += 1;
        self.ledger.add(ledger);
        if whole {
            self.whole += 1;
            self.wall.add(ledger.wall());
            for (name, nanoseconds, _) in parts(ledger) {
                self.parts.entry(name).or_default().add(nanoseconds);
            }
        }
    }
}

/// The parts of a ledger by name; how often, where that is known.
fn parts(ledger: &Ledger) -> Vec<(Rc<str>, i64, Option<u64>)> {
    let mut parts = vec![
        (Rc::from("running"), ledger.running, None),
        (Rc::from("runnable, a processor idle"), ledger.runnable_idle, None),
        (Rc::from("runnable, all taken"), ledger.runnable_full, None),
    ];
    for (reason, part) in &ledger.blocked {
        let name = if &**reason == NETWORK {
            Rc::clone(reason)
        } else {
            Rc::from(format!("waiting: {reason}"))
        };
        parts.push((name, part.nanoseconds, Some(part.count)));
    }
    parts.push((Rc::from("system call, processor held"), ledger.syscall, None));
    parts.push((
        Rc::from("system call, processor lost"),
        ledger.syscall_detached,
        None,
    ));
    parts.retain(|(_, nanoseconds, count)| *nanoseconds != 0 || count.is_some());
    parts
}

#[derive(Debug, Serialize)]
pub(crate) struct Layers {
    application_ns: i64,
    runtime_ns: i64,
    os_ns: i64,
    machine_ns: i64,
    waits_ns: i64,
}

impl Layers {
    pub(crate) fn of(ledger: &Ledger) -> Layers {
        Layers {
            application_ns: ledger.running,
            runtime_ns: ledger.runnable_idle,
            os_ns: ledger.network().saturating_add(ledger.syscalls()),
            machine_ns: ledger.runnable_full,
            waits_ns: ledger.waiting(),
        }
    }

    pub(crate) fn line(&self, wall: i64) -> String {
        format!(
            "application {}, runtime {}, OS {}, lost to the machine {}, waits {}",
            share(self.application_ns, wall),
            share(self.runtime_ns, wall),
            share(self.os_ns, wall),
            share(self.machine_ns, wall),
            share(self.waits_ns, wall)
        )
    }
}

#[derive(Debug, Serialize)]
struct PartReport {
    part: Rc<str>,
    total_ns: i64,
    percent_of_wall: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    p50_ns: Option<i64>,
    p99_ns: Option<i64>,
}

#[derive(Debug, Serialize)]
struct GroupReport {
    name: Rc<str>,
    count: u64,
    whole: u64,
    wall_ns: i64,
    wall_p50_ns: Option<i64>,
    wall_p99_ns: Option<i64>,
    layers: Layers,
    parts: Vec<PartReport>,
}

#[derive(Debug, Serialize)]
struct Report {
    tasks: Vec<GroupReport>,
    regions: Vec<GroupReport>,
}

fn report(groups: &BTreeMap<Rc<str>, Group>) -> Vec<GroupReport> {
    let mut reports: Vec<_> = groups
        .iter()
        .map(|(name, group)| {
            let wall = group.ledger.wall();
            let quantile = |part: &str, q| group.parts.get(part).and_then(|spread| spread.quantile(q));
            let parts = parts(&group.ledger)
                .into_iter()
                .map(|(part, total_ns, count)| PartReport {
                    p50_ns: quantile(&part, 0.5),
                    p99_ns: quantile(&part, 0.99),
                    part,
                    total_ns,
                    percent_of_wall: percent(total_ns, wall),
                    count,
                });
            GroupReport {
                name: name.clone(),
                count: group.count,
                whole: group.whole,
                wall_ns: wall,
                wall_p50_ns: group.wall.quantile(0.5),
                wall_p99_ns: group.wall.quantile(0.99),
                layers: Layers::of(&group.ledger),
                parts: parts.collect(),
            }
        })
        .collect();
    reports.sort_by(|a, b| b.wall_ns.cmp(&a.wall_ns).then_with(|| a.name.cmp(&b.name)));
    reports
}

#[derive(Debug, Default)]
struct Groups {
    tasks: BTreeMap<Rc<str>, Group>,
    regions: BTreeMap<Rc<str>, Group>,
}

impl Sink for Groups {
    fn task(&mut self, task: Account) {
        let whole = task.created && task.ended.is_some();
        self.tasks
            .entry(task.name())
            .or_default()
            .add(&task.ledger, whole);
    }

    fn region(&mut self, region: Region) {
        self.regions
            .entry(region.name)
            .or_default()
            .add(&region.ledger, region.whole);
    }
}

/// Gathers what `attribute` prints.
#[derive(Debug, Default)]
pub(crate) struct Attribute {
    books: Books,
    groups: Groups,
}

impl Visitor for Attribute {
    fn generation(&mut self, _generation: &Generation, time: i64) {
        self.books.generation(time);
    }

    fn event(&mut self, event: &Event, tables: &Tables) {
        self.books.event(event, tables, &mut self.groups);
    }

    fn end(&mut self, time: i64) {
        self.books.end(time, &mut self.groups);
    }
}

impl Attribute {
    pub(crate) fn print(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        let report = Report {
            tasks: report(&self.groups.tasks),
            regions: report(&self.groups.regions),
        };
        if json {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            return writeln!(out);
        }
        section("Tasks by their entry function", "tasks", &report.tasks, out)?;
        section("User regions by name", "regions", &report.regions, out)
    }
}

fn section(title: &str, noun: &str, groups: &[GroupReport], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{title}")?;
    if groups.is_empty() {
        writeln!(out, "  none")?;
    }
    let or_dash = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), duration);
    for group in groups {
        writeln!(out)?;
        writeln!(
            out,
            "{}: {} {noun}, {} whole",
            group.name, group.count, group.whole
        )?;
        writeln!(
            out,
            "  {:<38}{:>10}{:>8}{:>8}{:>10}{:>10}",
            "", "total", "share", "times", "p50", "p99"
        )?;
        let mut line = |name: &str, total: i64, times: String, p50: Option<i64>, p99: Option<i64>| {
            let (total, share) = (duration(total), share(total, group.wall_ns));
            let (p50, p99) = (or_dash(p50), or_dash(p99));
            writeln!(
                out,
                "  {name:<38}{total:>10}{share:>8}{times:>8}{p50:>10}{p99:>10}"
            )
        };
        line(
            "wall",
            group.wall_ns,
            String::new(),
            group.wall_p50_ns,
            group.wall_p99_ns,
        )?;
        for part in &group.parts {
            let times = part.count.map_or_else(String::new, |count| count.to_string());
            line(&part.part, part.total_ns, times, part.p50_ns, part.p99_ns)?;
        }
        writeln!(out, "  layers: {}", group.layers.line(group.wall_ns))?;
    }
    writeln!(out)
}
