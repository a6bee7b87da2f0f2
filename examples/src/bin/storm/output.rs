//! Standard output: its lock is held while tasks burn, and what arrives is counted on the other side of a pipe.

use bast_examples::stress::ledger::{self, World};
use bast_examples::stress::tools::{Ground, Rng};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What was printed: lines, and the sum of their numbers.
static LINES: AtomicU64 = AtomicU64::new(0);
static SUM: AtomicU64 = AtomicU64::new(0);
static PIPE: Mutex<Option<Pipe>> = Mutex::new(None);

/// Where standard output goes meanwhile.
#[derive(Debug)]
struct Pipe {
    /// The real one.
    saved: OwnedFd,
    reader: JoinHandle<Result<(u64, u64), String>>,
}

/// Tasks that print by `println!`, and several lines under one lock.
pub(crate) fn print(ground: Ground, rng: &mut Rng) {
    super::crowd(ground, rng, 20, |_, _, rng| {
        for _ in 0..1 + rng.below(8) {
            if rng.one_in(3) {
                print_together(rng);
            } else {
                let number = rng.below(1_000_000);
                note(number);
                println!("one {number}");
            }
        }
    });
}

fn note(number: u64) {
    LINES.fetch_add(1, Ordering::Relaxed);
    SUM.fetch_add(number, Ordering::Relaxed);
}

/// Lines that nobody's may come between.
fn print_together(rng: &mut Rng) {
    let (number, count) = (rng.below(1_000_000), 2 + rng.below(5));
    let mut output = io::stdout().lock();
    for left in (0..count).rev() {
        note(number);
        writeln!(output, "together {number} {left}").expect("somebody reads");
        if rng.one_in(16) {
            super::hogs::burn(rng.micros_below(12_000));
        }
    }
}

/// Puts a pipe in the place of standard output.
pub(crate) fn begin(world: &World) {
    let pipe = redirect().unwrap_or_else(|error| ledger::fail(world, "print", &format!("no pipe: {error}")));
    *PIPE.lock().expect("nobody panics with it") = Some(pipe);
}

fn redirect() -> io::Result<Pipe> {
    io::stdout().flush()?;
    let (reader, writer) = io::pipe()?;
    // SAFETY: validity: plain descriptors; the result is checked.
    let saved = unsafe { libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3) };
    if saved < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: validity: a descriptor that was just made. aliasing: nobody else has it.
    let saved = unsafe { OwnedFd::from_raw_fd(saved) };
    put_at_1(writer.as_raw_fd())?;
    let reader = std::thread::Builder::new()
        .name("storm-reader".to_owned())
        .spawn(move || read(BufReader::new(File::from(OwnedFd::from(reader)))))?;
    Ok(Pipe { saved, reader })
}

fn put_at_1(descriptor: i32) -> io::Result<()> {
    // SAFETY: validity: plain descriptors; the result is checked. aliasing: whoever prints goes on to print to 1.
    match unsafe { libc::dup2(descriptor, 1) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives standard output back and compares what has arrived with what was printed.
pub(crate) fn end(world: &World) {
    let pipe = PIPE
        .lock()
        .expect("nobody panics with it")
        .take()
        .expect("it began");
    let restored = io::stdout()
        .flush()
        .and_then(|()| put_at_1(pipe.saved.as_raw_fd()));
    if let Err(error) = restored {
        ledger::fail(world, "print", &format!("standard output is lost: {error}"));
    }
    let printed = (LINES.load(Ordering::Relaxed), SUM.load(Ordering::Relaxed));
    match pipe.reader.join().expect("the reader does not panic") {
        Ok(arrived) if arrived == printed => {}
        Ok(arrived) => {
            let text = format!("lines and their sum: {arrived:?} arrived, {printed:?} were printed");
            ledger::fail(world, "print", &text);
        }
        Err(text) => ledger::fail(world, "print", &text),
    }
}

/// The other side: lines and the sum of their numbers.
fn read(input: impl BufRead) -> Result<(u64, u64), String> {
    let (mut lines, mut sum) = (0, 0);
    let mut expected: Option<(u64, u64)> = None; // the rest of a bundle: its number, and what is left
    for line in input.lines() {
        let line = line.map_err(|error| format!("the pipe: {error}"))?;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| -> Result<u64, String> {
            let word = words.get(at).copied().unwrap_or_default();
            word.parse().map_err(|_| format!("a torn line: {line:?}"))
        };
        expected = match (words[0], expected) {
            ("one", None) => None,
            ("together", None) => Some((number(1)?, number(2)?)),
            ("together", Some((bundle, left))) if number(1)? == bundle && number(2)? + 1 == left => {
                Some((bundle, left - 1))
            }
            _ => return Err(format!("{line:?} came between lines of one lock: {expected:?}")),
        };
        expected = expected.filter(|(_, left)| *left > 0);
        lines += 1;
        sum += number(1)?;
    }
    Ok((lines, sum))
}
