//! A pool of tasks that do jobs: `cargo run --release --bin worker_pool -- 600851475143 1000000007 97`.
//!
//! The pool is what a program would copy: a bounded queue (so whoever brings jobs faster than they are done waits), a fixed
//! number of workers, a ticket for each job that gives its result, jobs that panic without taking their worker along,
//! and an end that finishes what was accepted. Tasks are cheap enough to spawn one a job; a pool is for a limit: on
//! memory, on connections to a database, on work at one time.

use bast::sync::channel::{self, Receiver, RecvTimeoutError, Sender};
use clap::Parser;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

/// Splits numbers into prime factors, in a pool of tasks
#[derive(Debug, Parser)]
struct Options {
    /// Numbers from 1 to 2^63; 0 makes its job panic, to show what happens
    #[arg(required = true)]
    numbers: Vec<String>,
    /// Tasks that work
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
    /// Jobs that may wait for a worker
    #[arg(long, default_value_t = 16)]
    queue: usize,
    /// How long to wait for the result of a job, in milliseconds
    #[arg(long, default_value_t = 60_000)]
    patience: u64,
}

type Job = Box<dyn FnOnce() + Send>;

/// Tasks that do the jobs they are given.
#[derive(Debug)]
struct Pool {
    jobs: Sender<Job>,
    workers: Vec<bast::JoinHandle<u64>>,
}

/// What a job will have come to.
#[derive(Debug)]
struct Ticket<T>(Receiver<Result<T, String>>);

/// Why a job has no result.
#[derive(Debug)]
enum Failure {
    /// It panicked, with this message.
    Panicked(String),
    /// It is not done yet.
    TooSlow,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Panicked(message) => write!(out, "the job panicked: {message}"),
            Failure::TooSlow => out.write_str("not done in time"),
        }
    }
}

impl Pool {
    fn new(workers: usize, queue: usize) -> Pool {
        let (jobs, to_do) = channel::bounded::<Job>(queue);
        let workers = (0..workers)
            .map(|_| {
                let to_do = to_do.clone();
                bast::spawn(move || {
                    // Until the pool's sender is gone and the queue is empty.
                    to_do.iter().map(|job| job()).count() as u64
                })
            })
            .collect();
        Pool { jobs, workers }
    }

    /// Accepts a job; waits while the queue is full.
    fn submit<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Ticket<T> {
        let (say, said) = channel::bounded(1);
        let job = move || {
            // A panic is the job's result, not the worker's end. The job owns all that it touches.
            let result = catch_unwind(AssertUnwindSafe(job)).map_err(|panic| {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                text.or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "no message".to_owned())
            });
            let _ = say.send(result); // an error only if the ticket was thrown away
        };
        let accepted = self.jobs.send(Box::new(job));
        accepted.expect("the workers live as long as the pool");
        Ticket(said)
    }

    /// Lets the workers finish what was accepted; the number of jobs each has done.
    fn finish(self) -> Vec<u64> {
        drop(self.jobs);
        let ends = self.workers.into_iter().map(|worker| worker.join());
        ends.map(|end| end.expect("a worker does not panic")).collect()
    }
}

impl<T> Ticket<T> {
    /// Waits for the result, for at most so long.
    fn wait(self, patience: Duration) -> Result<T, Failure> {
        match self.0.recv_timeout(patience) {
            Ok(result) => result.map_err(Failure::Panicked),
            Err(RecvTimeoutError::Timeout) => Err(Failure::TooSlow),
            Err(RecvTimeoutError::Disconnected) => unreachable!("a job says how it ended"),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    // SAFETY: nothing that belongs to a thread (a lock guard, an `Rc`, a thread-local borrow) is kept across a wait.
    unsafe { bast::run(|| work(&options)) }
}

fn work(options: &Options) -> ExitCode {
    let pool = Pool::new(options.workers.into(), options.queue);
    let mut failed = 0;
    let tickets: Vec<_> = options
        .numbers
        .iter()
        .map(|text| {
            let number = text.parse::<u64>().ok().filter(|&number| number <= 1 << 63);
            (text, number.map(|number| pool.submit(move || factors(number))))
        })
        .collect();
    // In the order in which they were given, whoever finished first.
    for (text, ticket) in tickets {
        let outcome = match ticket {
            None => Err("not a number from 0 to 2^63".to_owned()),
            Some(ticket) => ticket
                .wait(Duration::from_millis(options.patience))
                .map_err(|failure| failure.to_string()),
        };
        match outcome {
            Ok(factors) => println!("{text}: {}", factors.join(" ")),
            Err(error) => {
                failed += 1;
                eprintln!("{text}: {error}");
            }
        }
    }
    let done = pool.finish();
    println!(
        "{} jobs by {} workers: {done:?}",
        done.iter().sum::<u64>(),
        done.len()
    );
    if failed > 0 {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The prime factors in order, by trial: slow enough to be a job.
fn factors(mut number: u64) -> Vec<String> {
    assert!(number != 0, "zero has no prime factors");
    let mut found = Vec::new();
    let mut divisor = 2;
    while divisor <= number / divisor {
        if number.is_multiple_of(divisor) {
            found.push(divisor.to_string());
            number /= divisor;
        } else {
            divisor += if divisor == 2 { 1 } else { 2 };
        }
    }
    if number > 1 || found.is_empty() {
        found.push(number.to_string());
    }
    found
}
