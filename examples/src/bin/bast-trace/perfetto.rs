//! `to-perfetto`: Chrome's trace-event JSON, as ui.perfetto.dev and chrome://tracing open it.
//!
//! The format: "Trace Event Format", Google, 2016. Events are written as they come; only what is open is held.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::rc::Rc;

use serde_json::{Value, json};

use crate::ledger::{Account, Books, NAMELESS, Region, Sink};
use crate::reader::{Event, Generation, NONE, ProcessorState, Range, Tables, TaskState, Visitor, What};

const PROCESSORS: u64 = 1;
const TASKS: u64 = 2;
const THREADS: u64 = 3;

/// Regions and the names of tasks that ended, as the books give them out.
#[derive(Debug, Default)]
struct Ended {
    regions: Vec<Region>,
    names: HashMap<u64, Rc<str>>,
}

impl Sink for Ended {
    fn task(&mut self, task: Account) {
        self.names.insert(task.id, task.name());
    }

    fn region(&mut self, region: Region) {
        self.regions.push(region);
    }
}

/// Something that has begun on a processor.
#[derive(Debug)]
struct Slice {
    task: u64,
    begun: i64,
}

/// Writes while it is told of the events.
pub(crate) struct Perfetto<W> {
    out: Output<W>,
    books: Books,
    ended: Ended,
    running: HashMap<u64, Slice>,
    syscalls: HashMap<u64, Slice>,
    /// The arrow to each task that was woken and has not started.
    woken: HashMap<u64, u64>,
    arrows: u64,
    states: HashMap<u64, TaskState>,
    runnable: u64,
    on_processor: u64,
    tracks: HashSet<(u64, u64)>,
    user_tasks: HashMap<u64, Rc<str>>,
    mark: Option<i64>,
}

struct Output<W> {
    out: W,
    origin: i64,
    first: bool,
    /// The first failure to write; nothing is written after it.
    failed: Option<io::Error>,
}

impl<W: Write> Output<W> {
    /// Microseconds since the start of the trace.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of 100 days fit")]
    fn time(&self, nanoseconds: i64) -> f64 {
        nanoseconds.saturating_sub(self.origin) as f64 / 1e3
    }

    fn write(&mut self, value: &Value) {
        if self.failed.is_some() {
            return;
        }
        let lead = if std::mem::take(&mut self.first) {
            "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
        } else {
            ",\n"
        };
        let written = self
            .out
            .write_all(lead.as_bytes())
            .and_then(|()| Ok(serde_json::to_writer(&mut self.out, value)?));
        self.failed = written.err();
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of 100 days fit")]
    fn slice(&mut self, (process, track): (u64, u64), begun: i64, ended: i64, name: &str, details: &Value) {
        let length = ended.saturating_sub(begun) as f64 / 1e3;
        let begun = self.time(begun);
        self.write(&json!({"ph": "X", "pid": process, "tid": track, "ts": begun, "dur": length, "name": name, "args": details}));
    }

    fn named(&mut self, kind: &str, process: u64, track: u64, name: &str) {
        self.write(&json!({"ph": "M", "name": kind, "pid": process, "tid": track, "args": {"name": name}}));
    }
}

impl<W: Write> Perfetto<W> {
    pub(crate) fn new(out: W) -> Perfetto<W> {
        Perfetto {
            out: Output {
                out,
                origin: 0,
                first: true,
                failed: None,
            },
            books: Books::default(),
            ended: Ended::default(),
            running: HashMap::new(),
            syscalls: HashMap::new(),
            woken: HashMap::new(),
            arrows: 0,
            states: HashMap::new(),
            runnable: 0,
            on_processor: 0,
            tracks: HashSet::new(),
            user_tasks: HashMap::new(),
            mark: None,
        }
    }

    /// Ends the document. What failed before is told here.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if let Some(error) = self.out.failed {
            return Err(error);
        }
        let lead = if self.out.first { "{\"traceEvents\":[" } else { "" };
        writeln!(self.out.out, "{lead}\n]}}")?;
        self.out.out.flush()
    }

    fn track(&mut self, process: u64, track: u64, name: impl FnOnce() -> String) -> (u64, u64) {
        if self.tracks.insert((process, track)) {
            self.out.named("thread_name", process, track, &name());
        }
        (process, track)
    }

    fn processor(&mut self, id: u64) -> (u64, u64) {
        self.track(PROCESSORS, id, || format!("processor {id}"))
    }

    fn name(&self, task: u64) -> Rc<str> {
        let living = self.books.get(task).map(Account::name);
        living
            .or_else(|| self.ended.names.get(&task).cloned())
            .unwrap_or_else(|| Rc::from(NAMELESS))
    }

    fn close(&mut self, processor: u64, now: i64, syscall: bool, why: &str) {
        let open = if syscall {
            &mut self.syscalls
        } else {
            &mut self.running
        };
        let Some(slice) = open.remove(&processor) else {
            return;
        };
        let track = self.processor(processor);
        let task = self.name(slice.task);
        let name = if syscall {
            format!("system call of {task}")
        } else {
            task.to_string()
        };
        self.out.slice(
            track,
            slice.begun,
            now,
            &name,
            &json!({"task": slice.task, "ends": why}),
        );
    }

    fn task(&mut self, event: &Event, id: u64, from: TaskState, to: TaskState, why: &str) {
        let (now, processor) = (event.time, event.processor);
        self.count(id, to);
        if from == to {
            return;
        }
        match from {
            TaskState::Running => self.close(processor, now, false, why),
            TaskState::Syscall
                if self
                    .syscalls
                    .get(&processor)
                    .is_some_and(|slice| slice.task == id) =>
            {
                self.close(processor, now, true, why);
            }
            TaskState::Waiting if to == TaskState::Runnable => self.wake(event, id),
            _ => {}
        }
        if processor != NONE {
            let slice = Slice { task: id, begun: now };
            match to {
                TaskState::Running => _ = self.running.insert(processor, slice),
                TaskState::Syscall => _ = self.syscalls.insert(processor, slice),
                _ => {}
            }
            if to == TaskState::Running
                && let Some(arrow) = self.woken.remove(&id)
            {
                let (process, track) = self.processor(processor);
                let time = self.out.time(now);
                self.out.write(
                    &json!({"ph": "f", "bp": "e", "cat": "wake", "name": "wake", "id": arrow,
                    "pid": process, "tid": track, "ts": time}),
                );
            }
        }
        let (time, runnable, running) = (self.out.time(now), self.runnable, self.on_processor);
        self.out
            .write(&json!({"ph": "C", "pid": PROCESSORS, "name": "tasks", "ts": time,
            "args": {"running": running, "runnable": runnable}}));
    }

    fn count(&mut self, id: u64, to: TaskState) {
        let before = if to == TaskState::Absent {
            self.states.remove(&id)
        } else {
            self.states.insert(id, to)
        };
        for (state, counter) in [
            (TaskState::Runnable, &mut self.runnable),
            (TaskState::Running, &mut self.on_processor),
        ] {
            *counter = *counter + u64::from(to == state) - u64::from(before == Some(state));
        }
    }

    /// The arrow from the waker. A slice must stand at its foot: the running task, or one of no length.
    fn wake(&mut self, event: &Event, id: u64) {
        self.arrows += 1;
        self.woken.insert(id, self.arrows);
        let track = if event.processor == NONE {
            let thread = event.thread;
            self.track(THREADS, thread.min(u64::from(u32::MAX)), || {
                format!("thread {}", thread.cast_signed())
            })
        } else {
            self.processor(event.processor)
        };
        if !self.running.contains_key(&event.processor) {
            self.out.slice(
                track,
                event.time,
                event.time,
                "wakes a task",
                &json!({"task": id}),
            );
        }
        let time = self.out.time(event.time);
        self.out.write(
            &json!({"ph": "s", "cat": "wake", "name": "wake", "id": self.arrows,
            "pid": track.0, "tid": track.1, "ts": time}),
        );
    }

    fn regions(&mut self) {
        for region in std::mem::take(&mut self.ended.regions) {
            let name = self.name(region.task);
            let track = self.track(TASKS, region.task, || format!("task {}, {name}", region.task));
            let details = json!({"running_ns": region.ledger.running, "runnable_ns": region.ledger.runnable(),
                "waiting_ns": region.ledger.waiting(), "network_ns": region.ledger.network(),
                "syscall_ns": region.ledger.syscalls(), "whole": region.whole});
            self.out
                .slice(track, region.begun, region.ended, &region.name, &details);
        }
    }

    fn user_task(&mut self, phase: &str, id: u64, time: i64, name: &str) {
        let time = self.out.time(time);
        self.out.write(&json!({"ph": phase, "cat": "user task", "id": id, "pid": TASKS, "tid": 0, "ts": time, "name": name}));
    }

    fn counter(&mut self, name: &str, time: i64, value: u64) {
        let time = self.out.time(time);
        self.out.write(
            &json!({"ph": "C", "pid": PROCESSORS, "name": name, "ts": time, "args": {"value": value}}),
        );
    }
}

impl<W: Write> Visitor for Perfetto<W> {
    fn generation(&mut self, _generation: &Generation, time: i64) {
        if self.books.began.is_none() {
            self.out.origin = time;
            for (process, name) in [
                (PROCESSORS, "Processors"),
                (TASKS, "Tasks"),
                (THREADS, "Threads without a processor"),
            ] {
                self.out.named("process_name", process, 0, name);
            }
        }
        self.books.generation(time);
    }

    fn event(&mut self, event: &Event, tables: &Tables) {
        let text = |id| tables.string(id).unwrap_or_default();
        // Before the books change: a task that ends has its name there.
        if let What::Task {
            id, from, to, reason, ..
        } = event.what
        {
            let why = if from == TaskState::Running && matches!(to, TaskState::Runnable | TaskState::Waiting)
            {
                let place = tables
                    .leaf(event.stack)
                    .map_or_else(String::new, |leaf| format!(" at {leaf}"));
                format!("{}{place}", text(reason))
            } else {
                to.name().to_owned()
            };
            self.task(event, id, from, to, &why);
        }
        self.books.event(event, tables, &mut self.ended);
        match event.what {
            What::Processor {
                id,
                to: ProcessorState::Idle,
                ..
            } => self.close(id, event.time, true, "processor lost"),
            What::Processors { count } => self.counter("processors", event.time, count),
            What::Heap { goal, bytes } => {
                self.counter(if goal { "heap goal" } else { "heap bytes" }, event.time, bytes);
            }
            What::UserTaskBegin { id, name, .. } => {
                let name = text(name);
                self.user_task("b", id, event.time, &name);
                self.user_tasks.insert(id, name);
            }
            What::UserTaskEnd { id } => {
                if let Some(name) = self.user_tasks.remove(&id) {
                    self.user_task("e", id, event.time, &name);
                }
            }
            What::Log { key, value, .. } => {
                let task = event.task;
                let name = self.name(task);
                let (process, track) = self.track(TASKS, task, || format!("task {task}, {name}"));
                let time = self.out.time(event.time);
                let name = format!("{}: {}", text(key), text(value));
                self.out.write(
                    &json!({"ph": "i", "s": "t", "pid": process, "tid": track, "ts": time, "name": name}),
                );
            }
            What::RangeBegin { range: Range::Mark } => self.mark = Some(event.time),
            What::RangeEnd { range: Range::Mark } => {
                if let Some(begun) = self.mark.take() {
                    self.out.slice(
                        (PROCESSORS, u64::from(u32::MAX)),
                        begun,
                        event.time,
                        "mark phase",
                        &json!({}),
                    );
                }
            }
            _ => {}
        }
        self.regions();
    }

    fn end(&mut self, time: i64) {
        for (syscall, open) in [(false, &self.running), (true, &self.syscalls)]
            .map(|(s, open)| (s, open.keys().copied().collect::<Vec<_>>()))
        {
            for processor in open {
                self.close(processor, time, syscall, "the trace");
            }
        }
        self.books.end(time, &mut self.ended);
        self.regions();
    }
}
