//! The storm: hogs on every processor, beside all that native code does without asking the runtime.
//!
//! ```text
//! cargo run --release --bin storm -- --seconds 60 --processors 4
//! cargo run --bin storm --features jemalloc -- --only hogs,malloc
//! RUSTFLAGS="--cfg bast_chaos" cargo run --bin storm -- --seed 7     # with seeded disorder in the scheduler
//! ```
//!
//! A task may lose its processor at any instruction of code that is not the runtime's: inside the allocator, under the
//! lock of standard output or of the dynamic loader, between `fork` and `exec`, in a signal handler, while a panic
//! unwinds. None of that may stop, or lose, anybody. The frame, the books and the watchdog are those of `soak`
//! (`bast_examples::stress`); `.ci/storm` runs each kind with each allocator, profile and number of processors.

mod children;
mod hogs;
mod libraries;
mod locks;
mod memory;
mod output;
mod panics;
mod signals;
mod waiting;

use bast_examples::stress::tools::{Ground, Rng};
use bast_examples::stress::{self, Program, Round};
use std::io;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every kind of work: name, round, how many drivers run it at once.
const KINDS: &[(&str, Round, usize)] = &[
    ("hogs", hogs::hogs, 1),
    ("malloc", memory::malloc, 2),
    ("print", output::print, 2),
    ("locks", locks::locks, 2),
    ("dlopen", libraries::dlopen, 1),
    ("exec", children::exec, 1),
    ("panics", panics::panics, 2),
    ("signals", signals::signals, 1),
    ("syscalls", waiting::syscalls, 2),
];

fn main() -> io::Result<()> {
    stress::main(&Program {
        name: "storm",
        about: "Runs the bast runtime under hogs and native code and checks that nothing is lost",
        kinds: KINDS,
        begin: |world| {
            let allocator = match (cfg!(feature = "jemalloc"), cfg!(feature = "mimalloc")) {
                (true, _) => "jemalloc",
                (false, true) => "mimalloc",
                (false, false) => "the C library's malloc",
            };
            println!("storm: allocator: {allocator}");
            signals::install_handlers();
            output::begin(world);
        },
        end: |world| {
            output::end(world);
            signals::end(world);
        },
    })
}

/// Starts 1 to `most` tasks that each do `body` once, joins them, and looks at what they gave.
fn crowd(ground: Ground, rng: &mut Rng, most: u64, body: fn(Ground, u64, &mut Rng)) {
    let count = 1 + rng.below(most);
    ground.kind.start(count);
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let mut rng = rng.split();
            bast::spawn(move || {
                body(ground, number, &mut rng);
                ground.kind.finish(1);
                number
            })
        })
        .collect();
    let sum: u64 = tasks
        .into_iter()
        .map(|task| ground.must(task.join(), "join"))
        .sum();
    ground.same(sum, count * (count - 1) / 2, "sum of the tasks");
}
