//! Stages with channels in between: `cargo run --release --bin pipeline -- --top 10 README.md ARCHITECTURE.md`.
//!
//! ```text
//!            batches of lines          words and counts
//!   read ───────────────────► count ───────────────────► merge ──► table
//!   (1 task)   --buffer long   (--workers tasks)           (the caller)
//! ```
//! Each stage ends when the one before it has: the last sender closes the channel. When a stage fails its receiver goes,
//! and the stages before it stop at their next send. A slow stage makes the others wait, so memory stays bounded.

use bast::sync::channel::{self, Receiver, Sender};
use clap::Parser;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Lines that go through a channel at once: a channel costs tens of nanoseconds, which a line should not pay alone.
const BATCH_LINES: usize = 256;

/// Counts the words of files, in stages that run side by side
#[derive(Debug, Parser)]
struct Options {
    /// Files to read; standard input if there are none
    files: Vec<PathBuf>,
    /// How many words to print, the most frequent first
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Tasks that count
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
    /// Batches that may wait between two stages
    #[arg(long, default_value_t = 8)]
    buffer: usize,
    /// Shorter words are not counted
    #[arg(long, default_value_t = 1)]
    letters_min: usize,
}

type Batch = Vec<String>;
type Counts = HashMap<String, u64>;

/// A file that could not be read.
#[derive(Debug)]
struct ReadError {
    name: String,
    error: io::Error,
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot read {}: {}", self.name, self.error)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    // SAFETY: nothing that belongs to a thread (a lock guard, an `Rc`, a thread-local borrow) is kept across a wait.
    let counted = unsafe { bast::run(|| count(&options)) };
    let printed = match counted {
        Ok(counts) => print(&counts, options.top),
        Err(error) => {
            eprintln!("pipeline: {error}");
            return ExitCode::FAILURE;
        }
    };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("pipeline: cannot write: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Runs all stages; the first error of any of them ends all.
fn count(options: &Options) -> Result<Counts, ReadError> {
    bast::scope(|scope| {
        let (to_count, batches) = channel::bounded(options.buffer);
        let (to_merge, partial) = channel::bounded(options.buffer);
        let reading = scope.spawn(move || read_all(&options.files, &to_count));
        for _ in 0..options.workers {
            let (batches, to_merge) = (batches.clone(), to_merge.clone());
            scope.spawn(move || count_words(&batches, &to_merge, options.letters_min));
        }
        drop((batches, to_merge)); // from here on only the workers have ends of these
        let counts = merge(&partial);
        reading.join().expect("the reading stage does not panic")?;
        Ok(counts)
    })
}

/// First stage: batches of lines, from one file after the other.
fn read_all(files: &[PathBuf], to: &Sender<Batch>) -> Result<(), ReadError> {
    if files.is_empty() {
        return read(BufReader::new(io::stdin()), "standard input", to);
    }
    files.iter().try_for_each(|path| {
        let name = path.display().to_string();
        let file = bast::blocking(|| open(path)).map_err(|error| ReadError {
            name: name.clone(),
            error,
        })?;
        read(BufReader::new(file), &name, to)
    })
}

/// As [`File::open`], but not a directory, which could be opened and not read.
fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

fn read(mut from: impl BufRead, name: &str, to: &Sender<Batch>) -> Result<(), ReadError> {
    loop {
        // Files have no readiness to wait for: the call blocks, and says so, so that the others go on meanwhile.
        let lines = from.by_ref().lines().take(BATCH_LINES);
        let batch: io::Result<Batch> = bast::blocking(|| lines.collect());
        let batch = batch.map_err(|error| ReadError {
            name: name.to_owned(),
            error,
        })?;
        if batch.is_empty() || to.send(batch).is_err() {
            return Ok(());
        }
    }
}

/// Second stage, many at once: the words of a batch and how often each is in it.
fn count_words(from: &Receiver<Batch>, to: &Sender<Counts>, letters_min: usize) {
    for batch in from {
        let mut counts = Counts::new();
        for line in &batch {
            let words = line.split(|letter: char| !letter.is_alphanumeric());
            for word in words.filter(|word| !word.is_empty() && word.chars().count() >= letters_min) {
                *counts.entry(word.to_lowercase()).or_default() += 1;
            }
        }
        if to.send(counts).is_err() {
            return;
        }
    }
}

/// Last stage: one table.
fn merge(from: &Receiver<Counts>) -> Counts {
    let mut all = Counts::new();
    for (word, count) in from.iter().flatten() {
        *all.entry(word).or_default() += count;
    }
    all
}

fn print(counts: &Counts, top: usize) -> io::Result<()> {
    let mut words: Vec<_> = counts.iter().collect();
    words.sort_unstable_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut out = io::stdout().lock();
    for (word, count) in words.iter().take(top) {
        writeln!(out, "{count:>8} {word}")?;
    }
    let total: u64 = counts.values().sum();
    writeln!(out, "{total:>8} words, {} different", counts.len())
}
