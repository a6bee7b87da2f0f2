//! `tasks`: a line a task, or a line an entry function.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::rc::Rc;

use clap::ValueEnum;
use serde::Serialize;

use crate::ledger::{Account, Books, Ledger, Region, Sink};
use crate::reader::{Event, Generation, Tables, Visitor};
use crate::text::duration;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Key {
    /// The longest from beginning to end.
    Wall,
    /// The longest on a processor.
    Running,
    /// The longest ready to run.
    Runnable,
    /// The longest waiting, the network left out.
    Waiting,
    /// The longest waiting for the network.
    Network,
    /// The longest in system calls.
    Syscall,
    /// The most starts.
    Runs,
    /// The lowest number of a task.
    Id,
    /// The name, from A on.
    Name,
}

#[derive(Debug, Serialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    name: Rc<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    label: Rc<str>,
    count: u64,
    /// As of the end of the trace; absent for a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    created: u64,
    ended: u64,
    runs: u64,
    wall_ns: i64,
    running_ns: i64,
    runnable_ns: i64,
    runnable_all_taken_ns: i64,
    waiting_ns: i64,
    network_ns: i64,
    syscall_ns: i64,
    syscall_detached_ns: i64,
    blocked_ns: BTreeMap<Rc<str>, i64>,
    #[serde(skip)]
    ledger: Ledger,
}

impl Line {
    fn new(task: &Account) -> Line {
        let mut line = Line {
            id: Some(task.id),
            name: task.name(),
            label: task.label.clone(),
            count: 1,
            state: Some(if task.ended.is_some() {
                "ended"
            } else {
                task.state.name()
            }),
            created: task.created.into(),
            ended: task.ended.is_some().into(),
            runs: task.runs,
            wall_ns: 0,
            running_ns: 0,
            runnable_ns: 0,
            runnable_all_taken_ns: 0,
            waiting_ns: 0,
            network_ns: 0,
            syscall_ns: 0,
            syscall_detached_ns: 0,
            blocked_ns: BTreeMap::new(),
            ledger: task.ledger.clone(),
        };
        line.fill();
        line
    }

    fn fill(&mut self) {
        let ledger = &self.ledger;
        self.wall_ns = ledger.wall();
        self.running_ns = ledger.running;
        self.runnable_ns = ledger.runnable();
        self.runnable_all_taken_ns = ledger.runnable_full;
        self.waiting_ns = ledger.waiting();
        self.network_ns = ledger.network();
        self.syscall_ns = ledger.syscalls();
        self.syscall_detached_ns = ledger.syscall_detached;
        self.blocked_ns = ledger
            .blocked
            .iter()
            .map(|(reason, part)| (reason.clone(), part.nanoseconds))
            .collect();
    }

    fn merge(&mut self, other: &Line) {
        self.id = None;
        self.label = Rc::default();
        self.state = None;
        self.count += other.count;
        self.created += other.created;
        self.ended += other.ended;
        self.runs += other.runs;
        self.ledger.add(&other.ledger);
        self.fill();
    }
}

impl Sink for Vec<Line> {
    fn task(&mut self, task: Account) {
        self.push(Line::new(&task));
    }

    fn region(&mut self, _region: Region) {}
}

/// Gathers what `tasks` prints. Every task of the trace is held until the end.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    books: Books,
    lines: Vec<Line>,
}

impl Visitor for Tasks {
    fn generation(&mut self, _generation: &Generation, time: i64) {
        self.books.generation(time);
    }

    fn event(&mut self, event: &Event, tables: &Tables) {
        self.books.event(event, tables, &mut self.lines);
    }

    fn end(&mut self, time: i64) {
        self.books.end(time, &mut self.lines);
    }
}

/// What to print of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) sort: Key,
    pub(crate) group: bool,
    pub(crate) name: Option<&'a str>,
    pub(crate) limit: usize,
    pub(crate) json: bool,
}

impl Tasks {
    pub(crate) fn print(mut self, view: View<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.lines
            .retain(|line| view.name.is_none_or(|name| line.name.contains(name)));
        if view.group {
            let mut groups: BTreeMap<Rc<str>, Line> = BTreeMap::new();
            for mut line in self.lines.drain(..) {
                line.id = None;
                line.state = None;
                line.label = Rc::default();
                match groups.get_mut(&line.name) {
                    Some(group) => group.merge(&line),
                    None => _ = groups.insert(line.name.clone(), line),
                }
            }
            self.lines = groups.into_values().collect();
        }
        self.lines.sort_by_key(|line| line.id);
        match view.sort {
            Key::Id => {}
            Key::Name => self.lines.sort_by(|a, b| a.name.cmp(&b.name)),
            key => self.lines.sort_by_key(|line| Reverse(figure(line, key))),
        }
        let total = self.lines.len();
        if view.limit > 0 {
            self.lines.truncate(view.limit);
        }
        if view.json {
            serde_json::to_writer_pretty(&mut *out, &self.lines)?;
            return writeln!(out);
        }
        table(&self.lines, view.group, out)?;
        if total > self.lines.len() {
            writeln!(out, "{} more, --limit 0 shows all", total - self.lines.len())?;
        }
        Ok(())
    }
}

fn figure(line: &Line, key: Key) -> i64 {
    match key {
        Key::Wall => line.wall_ns,
        Key::Running => line.running_ns,
        Key::Runnable => line.runnable_ns,
        Key::Waiting => line.waiting_ns,
        Key::Network => line.network_ns,
        Key::Syscall => line.syscall_ns,
        Key::Runs => i64::try_from(line.runs).unwrap_or(i64::MAX),
        Key::Id | Key::Name => 0,
    }
}

fn table(lines: &[Line], group: bool, out: &mut dyn Write) -> io::Result<()> {
    let (first, state) = if group {
        ("tasks", "ended")
    } else {
        ("task", "state")
    };
    write!(out, "{first:>8} {state:>8} {:>7}", "runs")?;
    for column in ["wall", "running", "runnable", "waiting", "network", "syscall"] {
        write!(out, " {column:>9}")?;
    }
    writeln!(out, "  name")?;
    for line in lines {
        let id = line.id.unwrap_or(line.count);
        let state = line.state.map_or_else(|| line.ended.to_string(), str::to_owned);
        write!(out, "{id:>8} {state:>8} {:>7}", line.runs)?;
        for nanoseconds in [
            line.wall_ns,
            line.running_ns,
            line.runnable_ns,
            line.waiting_ns,
            line.network_ns,
            line.syscall_ns,
        ] {
            write!(out, " {:>9}", duration(nanoseconds))?;
        }
        if line.label.is_empty() {
            writeln!(out, "  {}", line.name)?;
        } else {
            writeln!(out, "  {} ({})", line.name, line.label)?;
        }
    }
    Ok(())
}
