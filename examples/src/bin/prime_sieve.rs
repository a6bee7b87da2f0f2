//! A sieve of tasks: `cargo run --release --bin prime_sieve -- 20`.
//!
//! Every prime found becomes a task that lets through what it does not divide, so a number passes as many tasks as there
//! are smaller primes. It is no way to find primes; it is a chain of thousands of tasks that do nothing but pass values
//! on, which shows what a channel and a switch cost.

use bast::sync::WaitGroup;
use bast::sync::channel::{self, Receiver, Sender};
use clap::Parser;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Finds the first primes with a chain of tasks, one a prime
#[derive(Debug, Parser)]
struct Options {
    /// How many primes
    #[arg(default_value_t = 100)]
    count: usize,
    /// Values that each channel between two tasks can hold; 0 hands them from task to task
    #[arg(long, default_value_t = 16)]
    buffer: usize,
    /// Processors of the runtime; by default one a CPU
    #[arg(long)]
    processors: Option<usize>,
    /// Only the last prime and the time it took
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut builder = bast::Builder::new();
    if let Some(processors) = options.processors {
        builder = builder.processors(processors);
    }
    // SAFETY: nothing that belongs to a thread (a lock guard, an `Rc`, a thread-local borrow) is kept across a wait.
    let found = unsafe { builder.build() }.and_then(|runtime| runtime.run(|| find(&options)));
    match found {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough: `prime_sieve 100000 | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prime_sieve: {error}");
            ExitCode::FAILURE
        }
    }
}

fn find(options: &Options) -> io::Result<()> {
    let start = Instant::now();
    let mut out = BufWriter::new(io::stdout());
    let mut last = None;
    for prime in Sieve::new(options.buffer).take(options.count) {
        last = Some(prime);
        if !options.quiet {
            writeln!(out, "{prime}")?;
        }
    }
    match last {
        Some(prime) if options.quiet => writeln!(
            out,
            "prime {} is {prime}, after {:.3} s and {} tasks",
            options.count,
            start.elapsed().as_secs_f64(),
            options.count + 1
        )?,
        _ => {}
    }
    out.flush()
}

/// Primes in order, from a chain of tasks that grows by one with each.
#[derive(Debug)]
struct Sieve {
    /// What all tasks so far have let through.
    numbers: Receiver<u64>,
    buffer: usize,
    tasks: Arc<WaitGroup>,
}

impl Sieve {
    fn new(buffer: usize) -> Sieve {
        let (sender, numbers) = channel::bounded(buffer);
        let tasks = Arc::new(WaitGroup::new());
        let sieve = Sieve {
            numbers,
            buffer,
            tasks,
        };
        sieve.spawn(move || count_from(2, &sender));
        sieve
    }

    fn spawn(&self, task: impl FnOnce() + Send + 'static) {
        let member = self.tasks.member();
        bast::spawn(move || {
            task();
            drop(member);
        });
    }
}

impl Iterator for Sieve {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let prime = self.numbers.recv().ok()?;
        let (sender, passed) = channel::bounded(self.buffer);
        let numbers = std::mem::replace(&mut self.numbers, passed);
        self.spawn(move || filter(prime, &numbers, &sender));
        Some(prime)
    }
}

impl Drop for Sieve {
    /// Ends the tasks: the receiver goes, so the last one's send fails, it ends, and so on up the chain.
    fn drop(&mut self) {
        self.numbers = channel::never();
        self.tasks.wait();
    }
}

/// 2, 3, 4, … until nobody listens.
fn count_from(first: u64, to: &Sender<u64>) {
    for number in first.. {
        if to.send(number).is_err() {
            return;
        }
    }
}

/// Lets through what `prime` does not divide, until nobody listens.
fn filter(prime: u64, from: &Receiver<u64>, to: &Sender<u64>) {
    for number in from {
        if !number.is_multiple_of(prime) && to.send(number).is_err() {
            return;
        }
    }
}
