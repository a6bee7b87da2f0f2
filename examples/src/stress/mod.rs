//! What the programs that run the runtime hard have in common: the command line, the books, and the frame around
//! their rounds.
//!
//! Each *kind* of work runs rounds of random size. What a round starts it counts, what it starts counts itself when
//! it ends, and sums are compared at the end of the round and of the run: work that is lost, done twice or never
//! woken is noticed. A watchdog stops the program when a kind stands still, and prints the seed, the books and the
//! runtime's metrics; with `--on-stuck wait` the process stays for a debugger, with `BAST_TEST_GDB=1` gdb prints all
//! stacks. A seed repeats the same rounds; the order in which threads run stays the kernel's.

pub mod ledger;
pub mod tools;

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use ledger::{Kind, World};
use std::io;
use std::time::{Duration, Instant};
use tools::{Ground, Rng};

/// A program of this kind.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// How it calls itself.
    pub name: &'static str,
    /// For `--help`.
    pub about: &'static str,
    /// Every kind of work: name, round, how many drivers run it at once.
    pub kinds: &'static [(&'static str, Round, usize)],
    /// Called before the first round.
    pub begin: fn(&'static World),
    /// Called after the last, before the books are compared.
    pub end: fn(&'static World),
}

/// One round of a kind.
pub type Round = fn(Ground, &mut Rng);

/// The command line.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// How long new rounds begin
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Seed of all random choices; BAST_CHAOS_SEED if that is set, else from the clock
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Processors of the runtime; by default one a CPU
    #[arg(long)]
    pub(crate) processors: Option<usize>,
    /// Only these kinds, by name; --list names them
    #[arg(long, value_delimiter = ',', conflicts_with = "without")]
    pub(crate) only: Vec<String>,
    /// All kinds but these
    #[arg(long, value_delimiter = ',')]
    pub(crate) without: Vec<String>,
    /// Name the kinds and end
    #[arg(long)]
    pub(crate) list: bool,
    /// A kind that makes no progress for so many seconds is stuck
    #[arg(long, default_value_t = 20)]
    pub(crate) stuck_seconds: u64,
    /// What to do then
    #[arg(long, value_enum, default_value_t = OnStuck::Abort)]
    pub(crate) on_stuck: OnStuck,
    /// Print the books every so many seconds; 0 for never
    #[arg(long, default_value_t = 0)]
    pub(crate) report: u64,
    /// Break the books on purpose, to see that it is noticed
    #[arg(long, value_enum, hide = true)]
    pub(crate) plant: Option<Plant>,
}

/// What the watchdog does about a kind that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnStuck {
    /// End the process by a signal, with a core if the system writes one
    Abort,
    /// Stay, so that a debugger can attach
    Wait,
}

/// A fault of the program's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// A unit of work never ends
    LostUnit,
    /// A unit of work is counted twice
    CountTwice,
    /// A task is never joined and never ends
    Forgotten,
    /// A driver waits for a wake-up that nobody sends
    LostWake,
    /// A task panics
    Panic,
}

/// Runs the program as its command line says.
///
/// # Errors
/// A kind that does not exist, or what the system says when a runtime cannot start. Books that are wrong end the
/// process by a signal instead.
pub fn main(program: &Program) -> io::Result<()> {
    let matches = Options::command()
        .name(program.name)
        .about(program.about)
        .get_matches();
    let mut options = Options::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if options.list {
        program.kinds.iter().for_each(|(name, ..)| println!("{name}"));
        return Ok(());
    }
    let unknown = options.only.iter().chain(&options.without);
    if let Some(name) = unknown
        .into_iter()
        .find(|name| program.kinds.iter().all(|(kind, ..)| kind != name))
    {
        let text = format!("there is no kind `{name}`; --list names them");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let seed = *options
        .seed
        .get_or_insert_with(|| match std::env::var("BAST_CHAOS_SEED") {
            Ok(text) => text.parse().unwrap_or_else(|_| tools::seed_from_clock()),
            Err(_) => tools::seed_from_clock(),
        });
    // SAFETY: the process has one thread as yet, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var("BAST_CHAOS_SEED", seed.to_string()) };
    let processors = options
        .processors
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get()));
    options.processors = Some(processors);
    println!(
        "{}: seed {seed}, {processors} processors, {} s, {}, {}, process {}",
        program.name,
        options.seconds,
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        if cfg!(bast_chaos) { "chaos" } else { "no chaos" },
        std::process::id()
    );
    run(program, &options, seed, processors)
}

fn run(program: &Program, options: &Options, seed: u64, processors: usize) -> io::Result<()> {
    let began = Instant::now();
    let make = |processors: usize| {
        let builder = bast::Builder::new().processors(processors).seed(seed);
        // SAFETY: nothing bound to a thread is kept across a wait in any file of the programs built on this.
        unsafe { builder.build() }
    };
    let first = make(processors)?;
    let second = make(2)?;
    let files_before = tools::open_files(); // the handles below keep the runtimes' own open
    let world = World::new(program, options, first.handle(), second.handle());
    ledger::install_hook(world);
    let threads = tools::Threads::start(world, 3);
    let watchdog = ledger::Watchdog::start(world, options);
    (program.begin)(world);
    first.run(move || drive(program, world, options, began));
    (program.end)(world);
    // Every task of either runtime has ended, or the books are wrong.
    ledger::settle(world, options.plant);
    watchdog.stop();
    threads.stop();
    first.shutdown();
    second.shutdown();
    tools::expect_files(world, files_before);
    println!("{}", ledger::text(world));
    println!(
        "{}: {} seconds, seed {seed}, {processors} processors, {} units in {} rounds of {} kinds, ok",
        program.name,
        began.elapsed().as_secs(),
        world.kinds.iter().map(Kind::finished).sum::<u64>(),
        world.kinds.iter().map(Kind::rounds).sum::<u64>(),
        world.kinds.len()
    );
    Ok(())
}

/// The main task: a driver or two a kind, until the time is over.
fn drive(program: &Program, world: &'static World, options: &Options, began: Instant) {
    let mut drivers = Vec::new();
    for kind in &world.kinds {
        let ground = Ground { world, kind };
        let &(_, round, count) = program
            .kinds
            .iter()
            .find(|(name, ..)| *name == kind.name)
            .expect("kinds come from this list");
        for number in 0..count {
            let mut rng = Rng::new(world.seed ^ tools::hash(kind.name) ^ number as u64);
            let body = move || {
                while !world.is_over() {
                    round(ground, &mut rng);
                    kind.end_round();
                }
            };
            drivers.push((kind, bast::spawn(body)));
        }
    }
    match options.plant {
        Some(Plant::LostUnit) => world.kinds[0].start(1),
        Some(Plant::CountTwice) => world.kinds[0].finish(1),
        Some(Plant::Forgotten) => drop(bast::spawn(park_for_ever)),
        Some(Plant::LostWake) => drivers = vec![(&world.kinds[0], bast::spawn(park_for_ever))],
        Some(Plant::Panic) => drop(bast::spawn(|| panic!("planted"))),
        None => {}
    }
    let time = Duration::from_secs(options.seconds).saturating_sub(began.elapsed());
    bast::time::sleep(time);
    world.end();
    for (kind, driver) in drivers {
        if let Err(error) = driver.join() {
            ledger::fail(world, kind.name, &format!("its driver ended: {error}"));
        }
        kind.retire_driver();
    }
}

fn park_for_ever() {
    loop {
        bast::task::park();
    }
}
