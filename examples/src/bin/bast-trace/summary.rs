//! `summary`: what a trace holds, and where the time of all tasks together went.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::rc::Rc;

use serde::Serialize;

use crate::attribute::Layers;
use crate::ledger::{Account, Books, Ledger, Region, Sink};
use crate::reader::{Event, Extent, Generation, Kind, NONE, Tables, TaskState, Visitor, What};
use crate::text::{duration, share};

#[derive(Debug, Default)]
struct Totals {
    ledger: Ledger,
    seen: u64,
    created: u64,
    ended: u64,
    regions: u64,
}

impl Sink for Totals {
    fn task(&mut self, task: Account) {
        self.ledger.add(&task.ledger);
        self.seen += 1;
        self.created += u64::from(task.created);
        self.ended += u64::from(task.ended.is_some());
    }

    fn region(&mut self, _region: Region) {
        self.regions += 1;
    }
}

/// Gathers what `summary` prints.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    books: Books,
    totals: Totals,
    written: BTreeMap<&'static str, u64>,
    moves: BTreeMap<(TaskState, TaskState), u64>,
    threads: HashSet<u64>,
    processors: HashSet<u64>,
    user_tasks: u64,
    logs: u64,
    samples: u64,
    seconds: Option<u64>,
    ended: i64,
}

impl Visitor for Summary {
    fn generation(&mut self, generation: &Generation, time: i64) {
        self.books.generation(time);
        if let Some(snapshot) = generation.snapshot {
            self.seconds.get_or_insert(snapshot.seconds);
        }
    }

    fn written(&mut self, kind: Kind) {
        *self.written.entry(kind.name()).or_default() += 1;
    }

    fn event(&mut self, event: &Event, tables: &Tables) {
        if event.thread != NONE {
            self.threads.insert(event.thread);
        }
        match event.what {
            What::Task { from, to, .. } if from != to => *self.moves.entry((from, to)).or_default() += 1,
            What::Processor { id, .. } => _ = self.processors.insert(id),
            What::UserTaskBegin { .. } => self.user_tasks += 1,
            What::Log { .. } => self.logs += 1,
            What::Sample => self.samples += 1,
            _ => {}
        }
        self.books.event(event, tables, &mut self.totals);
    }

    fn end(&mut self, time: i64) {
        self.ended = time;
        self.books.end(time, &mut self.totals);
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    header: String,
    bytes: u64,
    generations: u64,
    events: u64,
    span_ns: i64,
    /// Wall clock of the first generation, seconds since 1970; headers before 1.25 do not tell it.
    began_unix_s: Option<u64>,
    processors: usize,
    processors_last: u64,
    threads: usize,
    tasks_seen: u64,
    tasks_created: u64,
    tasks_ended: u64,
    user_tasks: u64,
    regions: u64,
    logs: u64,
    samples: u64,
    wall_ns: i64,
    running_ns: i64,
    runnable_ns: i64,
    syscall_ns: i64,
    syscall_detached_ns: i64,
    blocked_ns: BTreeMap<Rc<str>, i64>,
    blocked_count: BTreeMap<Rc<str>, u64>,
    layers: Layers,
    transitions: BTreeMap<String, u64>,
    events_by_kind: &'a BTreeMap<&'static str, u64>,
}

impl Summary {
    pub(crate) fn print(&self, extent: Extent, json: bool, out: &mut dyn Write) -> io::Result<()> {
        let report = self.report(extent);
        if json {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            return writeln!(out);
        }
        text(&report, &self.totals.ledger, out)
    }

    fn report(&self, extent: Extent) -> Report<'_> {
        let (totals, ledger) = (&self.totals, &self.totals.ledger);
        let moves = self.moves.iter();
        Report {
            header: format!("go 1.{}", extent.minor),
            bytes: extent.bytes,
            generations: extent.generations,
            events: self.written.values().sum(),
            span_ns: self.ended.saturating_sub(self.books.began.unwrap_or(self.ended)),
            began_unix_s: self.seconds,
            processors: self.processors.len(),
            processors_last: self.books.processors(),
            threads: self.threads.len(),
            tasks_seen: totals.seen,
            tasks_created: totals.created,
            tasks_ended: totals.ended,
            user_tasks: self.user_tasks,
            regions: totals.regions,
            logs: self.logs,
            samples: self.samples,
            wall_ns: ledger.wall(),
            running_ns: ledger.running,
            runnable_ns: ledger.runnable(),
            syscall_ns: ledger.syscall,
            syscall_detached_ns: ledger.syscall_detached,
            blocked_ns: ledger
                .blocked
                .iter()
                .map(|(reason, part)| (reason.clone(), part.nanoseconds))
                .collect(),
            blocked_count: ledger
                .blocked
                .iter()
                .map(|(reason, part)| (reason.clone(), part.count))
                .collect(),
            layers: Layers::of(ledger),
            transitions: moves
                .map(|((from, to), n)| (format!("{} -> {}", from.name(), to.name()), *n))
                .collect(),
            events_by_kind: &self.written,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
fn text(report: &Report<'_>, ledger: &Ledger, out: &mut dyn Write) -> io::Result<()> {
    let per_event = report.bytes as f64 / (report.events.max(1) as f64);
    writeln!(
        out,
        "header       {}, {} generations",
        report.header, report.generations
    )?;
    writeln!(
        out,
        "size         {} bytes, {} events, {per_event:.1} bytes an event",
        report.bytes, report.events
    )?;
    writeln!(out, "span         {}", duration(report.span_ns))?;
    writeln!(
        out,
        "processors   {} seen, {} at the end",
        report.processors, report.processors_last
    )?;
    writeln!(out, "threads      {}", report.threads)?;
    let (seen, created, ended) = (report.tasks_seen, report.tasks_created, report.tasks_ended);
    writeln!(
        out,
        "tasks        {seen} seen: {} there at the start, {created} created",
        seen - created
    )?;
    writeln!(
        out,
        "             {ended} ended, {} alive at the end",
        seen - ended
    )?;
    let (user_tasks, regions, logs) = (report.user_tasks, report.regions, report.logs);
    writeln!(
        out,
        "annotations  {user_tasks} user tasks, {regions} regions, {logs} logs"
    )?;
    writeln!(out, "CPU samples  {}", report.samples)?;
    let wall = report.wall_ns;
    writeln!(out, "\nTime of all tasks together: {}", duration(wall))?;
    let mut line = |name: &str, nanoseconds: i64, times: &str| {
        writeln!(
            out,
            "  {name:<38}{:>10}{:>8}{times:>9}",
            duration(nanoseconds),
            share(nanoseconds, wall)
        )
    };
    line("running", ledger.running, "")?;
    line("runnable, a processor idle", ledger.runnable_idle, "")?;
    line("runnable, all taken", ledger.runnable_full, "")?;
    for (reason, part) in &ledger.blocked {
        line(
            &format!("blocked: {reason}"),
            part.nanoseconds,
            &part.count.to_string(),
        )?;
    }
    line("system call, processor held", ledger.syscall, "")?;
    line("system call, processor lost", ledger.syscall_detached, "")?;
    writeln!(out, "  layers: {}", report.layers.line(wall))?;
    writeln!(out, "\nTransitions of tasks")?;
    for (name, count) in &report.transitions {
        writeln!(out, "  {name:<38}{count:>10}")?;
    }
    writeln!(out, "\nEvents")?;
    for (name, count) in report.events_by_kind {
        writeln!(out, "  {name:<38}{count:>10}")?;
    }
    Ok(())
}
