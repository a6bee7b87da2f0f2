//! Reads execution traces, of bast and of Go, and says where the time of a program's tasks went.
//!
//! `summary`, `attribute` and `tasks` print figures, `to-perfetto` converts, `check` finds what is wrong in a trace.
//! A trace is read a generation at a time, so its size does not matter, but for `tasks`, which holds a line a task.

#![expect(
    clippy::large_stack_frames,
    reason = "it all runs on the main thread, there are no tasks"
)]

mod attribute;
mod ledger;
mod perfetto;
mod reader;
mod summary;
mod tasks;
#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use reader::{Event, Extent, Fault, Kind, Rules, Tables, Visitor, read};

const WORDS: &str = "\
Words and units:
  A task is what Go calls a goroutine, a processor a licence to run tasks, a thread one of the operating system.
  Times are sums over tasks: ten tasks that sleep for a second slept for 10 s. Text shows them in ns, us, ms or s, JSON
  in nanoseconds (keys end in _ns). A wall time is the sum of its parts, to the nanosecond:
    running    on a processor, as far as the runtime knows. A trace does not tell when the operating system stopped
               the thread for the sake of others.
    runnable   ready, not on a processor; with the wait from creation to the first start. Split in two:
               \"a processor idle\": at least one was free meanwhile, so it was the scheduler that was late;
               \"all taken\": none was free, so no scheduler could have been faster.
    waiting    parked, by reason: channel, lock, sleep, ... (\"(not told)\": since before the
               trace, or by a direct switch to another task).
    network    parked with the reason \"network\".
    system call  in the kernel, its processor held or lost to others meanwhile.
  Exit status: 0 all is well, 1 the trace is not valid, 2 it could not be read or the command line is wrong.";

const LAYERS: &str = "\
Layers: whom the time belongs to, in percent of wall time, all five adding up to 100:
    application          running.
    runtime              runnable while a processor was idle: wake-ups and scheduling that came late.
    OS                   network and system calls: the kernel, the peer, the disk.
    lost to the machine  runnable while all processors were taken: the machine was too small for the work.
    waits                waiting for other tasks, locks and timers. It is no layer: what was waited for is counted where
                         it ran.";

#[derive(Debug, Parser)]
#[command(name = "bast-trace", about = "Says where the time of a program's tasks went, from its execution trace", after_help = WORDS)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Input {
    /// The trace: format of Go, header go 1.22 to go 1.26; - is standard input
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// If the trace is damaged, print the figures up to there (status 1 all the same)
    #[arg(long)]
    partial: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What the trace holds: counts of generations, events, tasks; time of all tasks together
    #[command(after_help = format!("{WORDS}\n{LAYERS}"))]
    Summary(Input),
    /// Where the time went, a block for each kind of task (entry function) and each user region
    #[command(after_help = format!(
        "In each block: total, its share of the wall time, how many times (waits), and the median and 99th percentile of\n\
         what one task or region spent so, exact to 1 in 100. Quantiles are over the whole ones alone: those that began\n\
         and ended within the trace. A region's time is that of its task between the two ends, regions within it included.\n\n{WORDS}\n{LAYERS}"
    ))]
    Attribute(Input),
    /// A line a task: state, number of starts, wall time and its parts
    #[command(after_help = WORDS)]
    Tasks {
        #[command(flatten)]
        input: Input,
        /// What comes first
        #[arg(long, value_enum, default_value = "wall")]
        sort: tasks::Key,
        /// A line an entry function instead: the sums of its tasks, how many, how many ended
        #[arg(long)]
        group: bool,
        /// Only tasks whose entry function contains this
        #[arg(long)]
        name: Option<String>,
        /// At most this many lines, 0 for all
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Convert to Chrome's trace-event JSON, for ui.perfetto.dev
    #[command(after_help = "\
Tracks: a processor each, with a slice for each run of a task (why it ended, and where) and each system call while the
processor was held; a task each that has user regions or logs; arrows from a wake-up to the start of the woken task; user
tasks as asynchronous slices; counters of running and runnable tasks, processors, heap bytes. Times are microseconds since
the start of the trace, to the nanosecond. Exit status: 0 all is well, 1 the trace is not valid, 2 reading or writing failed.")]
    ToPerfetto {
        /// The trace; - is standard input
        file: PathBuf,
        /// Where to write
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Find what is wrong in a trace: framing, tables, and the states and numbers of tasks, processors and threads
    #[command(after_help = "\
As strict as Go's reader together with its test validator. The fault names the byte of the file where the event stands, the
event, its generation and thread, and what was expected. Prints \"valid\" with the counts of generations and events.
Exit status: 0 the trace is valid, 1 it is not, 2 it could not be read.")]
    Check {
        /// The trace; - is standard input
        file: PathBuf,
        /// Print JSON: {"valid", "bytes", "generations", "events"} or {"valid", "offset", "fault"}
        #[arg(long)]
        json: bool,
        /// Also that each generation stands on its own, as a flight recorder's must: a status for every task and
        /// processor that is alive, and the number of processors
        #[arg(long)]
        self_contained: bool,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let done = run(&options.command, &mut out);
    match done.and_then(|valid| out.flush().map(|()| valid).map_err(Failure::Output)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        // Who reads the output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            _ = out.flush();
            eprintln!("bast-trace: {}", failure.message());
            ExitCode::from(failure.status())
        }
    }
}

#[derive(Debug)]
enum Failure {
    Input(PathBuf, Fault),
    Output(io::Error),
}

impl Failure {
    fn status(&self) -> u8 {
        if matches!(self, Failure::Input(_, Fault::Format { .. })) {
            1
        } else {
            2
        }
    }

    fn message(&self) -> String {
        match self {
            Failure::Input(path, fault) => format!("{}: {fault}", path.display()),
            Failure::Output(error) => format!("cannot write: {error}"),
        }
    }
}

/// False if the trace is not valid and that has been said.
fn run(command: &Command, out: &mut dyn Write) -> Result<bool, Failure> {
    match command {
        Command::Summary(input) => {
            let mut summary = summary::Summary::default();
            let (extent, valid) = analyse(input, &mut summary)?;
            summary.print(extent, input.json, out).map_err(Failure::Output)?;
            Ok(valid)
        }
        Command::Attribute(input) => {
            let mut attribute = attribute::Attribute::default();
            let (_, valid) = analyse(input, &mut attribute)?;
            attribute.print(input.json, out).map_err(Failure::Output)?;
            Ok(valid)
        }
        Command::Tasks {
            input,
            sort,
            group,
            name,
            limit,
        } => {
            let mut tasks = tasks::Tasks::default();
            let (_, valid) = analyse(input, &mut tasks)?;
            let name = name.as_deref();
            let view = tasks::View {
                sort: *sort,
                group: *group,
                name,
                limit: *limit,
                json: input.json,
            };
            tasks.print(view, out).map_err(Failure::Output)?;
            Ok(valid)
        }
        Command::ToPerfetto { file, output } => {
            let sink: Box<dyn Write + '_> = match output {
                Some(path) => Box::new(BufWriter::new(File::create(path).map_err(Failure::Output)?)),
                None => Box::new(out),
            };
            let mut perfetto = perfetto::Perfetto::new(sink);
            let read = read_file(file, Rules::default(), &mut perfetto);
            perfetto.finish().map_err(Failure::Output)?;
            read.map(|_| true)
        }
        Command::Check {
            file,
            json,
            self_contained,
        } => check(file, *json, *self_contained, out),
    }
}

fn read_file(path: &Path, rules: Rules, visitor: &mut dyn Visitor) -> Result<Extent, Failure> {
    let fault = |fault| Failure::Input(path.to_owned(), fault);
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|error| fault(Fault::Io(error)))?)
    };
    read(BufReader::with_capacity(1 << 16, input), rules, visitor).map_err(fault)
}

/// Counts on the way, so that something is known of a trace that breaks off.
struct Partial<'a> {
    inner: &'a mut dyn Visitor,
    minor: u8,
    generations: u64,
    last: i64,
}

impl Visitor for Partial<'_> {
    fn header(&mut self, minor: u8) {
        self.minor = minor;
        self.inner.header(minor);
    }

    fn generation(&mut self, generation: &reader::Generation, time: i64) {
        self.generations += 1;
        self.last = time;
        self.inner.generation(generation, time);
    }

    fn written(&mut self, kind: Kind) {
        self.inner.written(kind);
    }

    fn event(&mut self, event: &Event, tables: &Tables) {
        self.last = event.time;
        self.inner.event(event, tables);
    }

    fn end(&mut self, time: i64) {
        self.inner.end(time);
    }
}

fn analyse(input: &Input, visitor: &mut dyn Visitor) -> Result<(Extent, bool), Failure> {
    let mut partial = Partial {
        inner: visitor,
        minor: 0,
        generations: 0,
        last: 0,
    };
    match read_file(&input.file, Rules::default(), &mut partial) {
        Ok(extent) => Ok((extent, true)),
        Err(Failure::Input(path, Fault::Format { offset, message }))
            if input.partial && partial.generations > 0 =>
        {
            eprintln!(
                "bast-trace: {}: at byte {offset}: {message}; the figures end there",
                path.display()
            );
            partial.inner.end(partial.last);
            let minor = partial.minor;
            Ok((
                Extent {
                    minor,
                    bytes: offset,
                    generations: partial.generations,
                },
                false,
            ))
        }
        Err(failure) => Err(failure),
    }
}

struct Count(u64);

impl Visitor for Count {
    fn written(&mut self, _kind: Kind) {
        self.0 += 1;
    }

    fn event(&mut self, _event: &Event, _tables: &Tables) {}
}

fn check(file: &Path, json: bool, self_contained: bool, out: &mut dyn Write) -> Result<bool, Failure> {
    let mut count = Count(0);
    let read = read_file(
        file,
        Rules {
            strict: true,
            self_contained,
        },
        &mut count,
    );
    let written = match &read {
        Ok(Extent {
            bytes,
            generations,
            minor,
        }) if json => {
            let events = count.0;
            writeln!(
                out,
                "{}",
                json!({"valid": true, "header": format!("go 1.{minor}"), "bytes": bytes,
                "generations": generations, "events": events})
            )
        }
        Ok(Extent {
            bytes,
            generations,
            minor,
        }) => {
            writeln!(
                out,
                "valid: go 1.{minor}, {bytes} bytes, {generations} generations, {} events",
                count.0
            )
        }
        Err(Failure::Input(_, Fault::Format { offset, message })) if json => {
            writeln!(
                out,
                "{}",
                json!({"valid": false, "offset": offset, "fault": message})
            )
        }
        Err(_) => Ok(()),
    };
    written.map_err(Failure::Output)?;
    match read {
        Ok(_) => Ok(true),
        Err(Failure::Input(_, Fault::Format { .. })) if json => Ok(false),
        Err(failure) => Err(failure),
    }
}
