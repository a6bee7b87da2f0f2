//! The books: what each kind has started and finished, who watches them, and what is said when they are wrong.

use super::{OnStuck, Options, Plant, Program};
use bast::Handle;
use std::any::Any;
use std::fmt::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Everything the rounds share. Lives as long as the process.
#[derive(Debug)]
pub struct World {
    /// Of the program, for what is said.
    pub program: &'static str,
    /// Of all random choices.
    pub seed: u64,
    /// Processors of the first runtime.
    pub processors: usize,
    /// The accounts of the kinds that run.
    pub kinds: Vec<Kind>,
    /// The runtime whose tasks drive the rounds.
    pub first: Handle,
    /// Another one, beside it.
    pub second: Handle,
    /// Plain threads that do what they are told.
    pub(super) workshop: std::sync::OnceLock<Sender<super::tools::Job>>,
    over: AtomicBool,
    began: Instant,
}

impl World {
    pub(super) fn new(program: &Program, options: &Options, first: Handle, second: Handle) -> &'static World {
        let wanted = |name: &str| {
            let listed = |list: &[String]| list.iter().any(|listed| listed == name);
            (options.only.is_empty() || listed(&options.only)) && !listed(&options.without)
        };
        let kinds = program
            .kinds
            .iter()
            .filter(|(name, ..)| wanted(name))
            .map(|&(name, _, drivers)| Kind::new(name, drivers))
            .collect();
        Box::leak(Box::new(World {
            program: program.name,
            seed: options.seed.expect("chosen before"),
            processors: options.processors.expect("chosen before"),
            kinds,
            first,
            second,
            workshop: std::sync::OnceLock::new(),
            over: AtomicBool::new(false),
            began: Instant::now(),
        }))
    }

    /// No new rounds.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// No new rounds are to begin.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Drivers that still run rounds.
    pub fn drivers(&self) -> usize {
        self.kinds
            .iter()
            .map(|kind| kind.drivers.load(Ordering::Relaxed))
            .sum()
    }
}

/// One kind's account. A unit is whatever the kind counts: a task, a wake-up, a connection.
#[derive(Debug)]
pub struct Kind {
    /// As on the command line.
    pub name: &'static str,
    started: AtomicU64,
    finished: AtomicU64,
    rounds: AtomicU64,
    drivers: AtomicUsize,
}

impl Kind {
    fn new(name: &'static str, drivers: usize) -> Kind {
        Kind {
            name,
            started: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            drivers: AtomicUsize::new(drivers),
        }
    }

    /// By a round, before it starts the work.
    pub fn start(&self, units: u64) {
        self.started.fetch_add(units, Ordering::Relaxed);
    }

    /// By the work itself, at its end.
    pub fn finish(&self, units: u64) {
        self.finished.fetch_add(units, Ordering::Relaxed);
    }

    pub(super) fn end_round(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retire_driver(&self) {
        self.drivers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    pub(super) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// What moves as long as the kind does.
    fn progress(&self) -> (u64, u64, u64, usize) {
        let drivers = self.drivers.load(Ordering::Relaxed);
        (self.started(), self.finished(), self.rounds(), drivers)
    }
}

/// The books and the runtimes' metrics, for a person to read.
pub(super) fn text(world: &World) -> String {
    let mut text = format!(
        "{:>16} {:>12} {:>12} {:>9} drivers\n",
        "kind", "started", "finished", "rounds"
    );
    for kind in &world.kinds {
        let (started, finished, rounds, drivers) = kind.progress();
        let _ = writeln!(
            text,
            "{:>16} {started:>12} {finished:>12} {rounds:>9} {drivers}",
            kind.name
        );
    }
    let _ = writeln!(text, "first runtime:  {:?}", world.first.metrics());
    let _ = write!(text, "second runtime: {:?}", world.second.metrics());
    text
}

/// Says what is wrong, with all there is to know, and ends the process by a signal.
#[cold]
pub fn fail(world: &World, place: &str, what: &str) -> ! {
    let program = world.program;
    eprintln!(
        "{program}: FAILED in {place} after {:?}: {what}\n{program}: seed {}, process {}\n{}",
        world.began.elapsed(),
        world.seed,
        std::process::id(),
        text(world)
    );
    std::process::abort();
}

/// The payload of a panic that belongs to the plan.
#[derive(Debug)]
pub struct Planned(pub u64);

/// Planned panics are silent; any other is a failed check.
pub(super) fn install_hook(world: &'static World) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let payload: &(dyn Any + Send) = info.payload();
        if payload.is::<Planned>() {
            return;
        }
        before(info);
        fail(world, "a panic", &info.to_string());
    }));
}

/// Waits until every task has ended, and compares the books. After the drivers, on the main thread.
pub(super) fn settle(world: &World, plant: Option<Plant>) {
    // A task's result comes a little before its end.
    let began = Instant::now();
    for (name, handle) in [
        ("the first runtime", &world.first),
        ("the second runtime", &world.second),
    ] {
        while handle.metrics().tasks_alive() > 0 {
            let patience = Duration::from_secs(if plant.is_some() { 1 } else { 20 });
            if began.elapsed() > patience {
                fail(world, name, "tasks are left that nobody waits for");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for kind in &world.kinds {
        if kind.started() != kind.finished() {
            fail(world, kind.name, "started and finished differ at the end");
        }
        if kind.rounds() == 0 {
            fail(world, kind.name, "not one round came to its end");
        }
    }
}

/// A plain thread that looks at every kind's progress.
#[derive(Debug)]
pub(super) struct Watchdog {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    pub(super) fn start(world: &'static World, options: &Options) -> Watchdog {
        let (stop, stopped) = mpsc::channel();
        let options = options.clone();
        let thread = std::thread::spawn(move || {
            let mut seen: Vec<_> = world
                .kinds
                .iter()
                .map(|kind| (kind.progress(), Instant::now()))
                .collect();
            let mut reported = Instant::now();
            while stopped.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                for (kind, (progress, since)) in world.kinds.iter().zip(&mut seen) {
                    let now = kind.progress();
                    if now != *progress || kind.drivers.load(Ordering::Relaxed) == 0 {
                        (*progress, *since) = (now, Instant::now());
                    } else if since.elapsed() >= Duration::from_secs(options.stuck_seconds) {
                        stuck(world, kind, &options);
                    }
                }
                if options.report > 0 && reported.elapsed() >= Duration::from_secs(options.report) {
                    reported = Instant::now();
                    eprintln!("{}", text(world));
                }
            }
        });
        Watchdog { stop, thread }
    }

    pub(super) fn stop(self) {
        drop(self.stop);
        self.thread.join().expect("the watchdog does not panic");
    }
}

/// Each thread's name, state and time on a CPU, as the kernel says: does it sleep or burn? Asking wakes none of them.
fn threads() -> String {
    let Ok(entries) = std::fs::read_dir("/proc/self/task") else {
        return "not to be had on this system".to_owned();
    };
    let mut lines: Vec<String> = entries
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter_map(|stat| {
            let (name, rest) = stat.rsplit_once(") ")?;
            let fields: Vec<&str> = rest.split(' ').collect();
            Some(format!(
                "  {name}) {} user {} kernel {} ticks",
                fields.first()?,
                fields.get(11)?,
                fields.get(12)?
            ))
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

/// What every thread is doing, by gdb.
fn all_stacks() {
    let _ = std::process::Command::new("gdb")
        .args(["-batch", "-ex", "thread apply all bt", "-p"])
        .arg(std::process::id().to_string())
        .stdout(std::io::stderr())
        .status();
}

fn stuck(world: &World, kind: &Kind, options: &Options) -> ! {
    let what = format!("STUCK: no progress for {} s", options.stuck_seconds);
    let program = world.program;
    eprintln!("{program}: threads now:\n{}", threads());
    std::thread::sleep(Duration::from_secs(1));
    eprintln!("{program}: threads a second later:\n{}", threads());
    if std::env::var_os("BAST_TEST_GDB").is_some() {
        all_stacks();
    }
    if options.on_stuck == OnStuck::Abort {
        fail(world, kind.name, &what);
    }
    eprintln!(
        "{program}: {} is {what}\n{program}: seed {}; process {} stays for a debugger: gdb -p {}\n{}",
        kind.name,
        world.seed,
        std::process::id(),
        std::process::id(),
        text(world)
    );
    loop {
        std::thread::park();
    }
}
