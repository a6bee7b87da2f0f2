//! The soak test: everything the runtime offers, at once, for as long as one likes, with exact books.
//!
//! ```text
//! cargo run --release --bin soak -- --seconds 60 --processors 4
//! RUSTFLAGS="--cfg bast_chaos" cargo run --bin soak -- --seed 7     # with seeded disorder in the scheduler
//! ```
//!
//! Each *kind* of work runs rounds of random size. What a round starts it counts, what it starts counts itself when
//! it ends, and sums are compared at the end of the round and of the run: work that is lost, done twice or never
//! woken is noticed. A watchdog stops the program when a kind stands still, and prints the seed, the books and the
//! runtime's metrics; with `--on-stuck wait` the process stays for a debugger. A seed repeats the same rounds; the
//! order in which threads run stays the kernel's.

mod clocks;
mod depth;
mod runtimes;
mod streams;
mod tasks;
mod tcp;
mod unwinding;
mod waking;

use bast_examples::stress::{self, Program, Round};
use std::io;

/// Every kind of work: name, round, how many drivers run it at once.
const KINDS: &[(&str, Round, usize)] = &[
    ("storm", tasks::storm, 2),
    ("nested", tasks::nested, 1),
    ("yields", tasks::yields, 1),
    ("hogs", tasks::hogs, 1),
    ("park", waking::ping_pong, 2),
    ("ring", waking::ring, 1),
    ("crowd", waking::crowd, 1),
    ("threads", waking::threads, 2),
    ("timers", clocks::timers, 2),
    ("timeouts", clocks::timeouts, 1),
    ("intervals", clocks::intervals, 1),
    ("blocking", unwinding::blocking, 2),
    ("panics", unwinding::panics, 1),
    ("unwinding", unwinding::parks_while_unwinding, 1),
    ("deep", depth::deep_stacks, 1),
    ("deep_unwinding", depth::deep_unwinding, 1),
    ("second", runtimes::second, 1),
    ("short_lived", runtimes::short_lived, 1),
    ("echo", tcp::echo, 2),
    ("reset", tcp::reset, 1),
    ("listener", tcp::listener_close, 1),
    ("close", streams::close, 1),
    ("deadline", streams::deadline, 1),
    ("shared", streams::shared, 1),
];

fn main() -> io::Result<()> {
    stress::main(&Program {
        name: "soak",
        about: "Runs the bast runtime hard and checks that nothing is lost",
        kinds: KINDS,
        begin: |_| (),
        end: |_| (),
    })
}
