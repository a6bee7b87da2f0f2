//! Does one operation many times, for tools that count instead of measuring time.
//!
//! ```text
//! counts --list
//! counts "spawn/one, join it" 100000                  # for perf stat, or valgrind --tool=callgrind
//! counts --callgrind "spawn/one, join it" 100000      # instructions an operation: two runs under callgrind
//! ```
//!
//! Under callgrind the same operation takes the same instructions, whatever else the machine does: two versions of
//! the runtime can be told apart by less than a percent. The second run does twice as many operations as the first, and the
//! difference leaves out the start and the end of the process.

use bast::GuardMode;
use bast_benches::{How, Operation, operations, runtime};
use std::io::{Error, ErrorKind, Result};
use std::process::{Command, ExitCode, Stdio};

const USAGE: &str = "usage: counts --list | counts [--callgrind] GROUP/NAME NUMBER";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["--list"] => {
            operations()
                .iter()
                .for_each(|operation| println!("{}", full_name(operation)));
            Ok(())
        }
        ["--callgrind", name, count] => callgrind(name, count),
        [name, count] => run(name, count),
        _ => Err(invalid(USAGE.to_owned())),
    };
    if let Err(error) = done {
        eprintln!("counts: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidInput, text)
}

fn full_name(operation: &Operation) -> String {
    format!("{}/{}", operation.group, operation.name)
}

fn number(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| invalid(format!("`{text}` is not a number of operations; {USAGE}")))
}

fn find(name: &str) -> Result<Operation> {
    operations()
        .into_iter()
        .find(|operation| full_name(operation) == name)
        .ok_or_else(|| {
            invalid(format!(
                "there is no operation `{name}`; counts --list names them"
            ))
        })
}

fn run(name: &str, count: &str) -> Result<()> {
    let (operation, count) = (find(name)?, number(count)?);
    // Valgrind does not know the other way. Stacks are made once, so no operation sees the difference.
    let runtime = runtime(operation.processors, GuardMode::Protect);
    let time = match operation.how {
        How::Each(body) | How::Batch(_, body) => body(&runtime, count),
    };
    println!(
        "{name}: {count} in {time:?}, {:.1} ns each",
        time.as_nanos() as f64 / count as f64
    );
    Ok(())
}

fn callgrind(name: &str, count: &str) -> Result<()> {
    find(name)?;
    let count = number(count)?;
    let less = instructions(name, count)?;
    let more = instructions(name, 2 * count)?;
    println!(
        "{name}: {:.1} instructions each",
        (more as f64 - less as f64) / count as f64
    );
    Ok(())
}

/// All instructions of a run of this program under callgrind.
fn instructions(name: &str, count: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([name, &count.to_string()])
        .stdout(Stdio::null())
        .output()
        .map_err(|error| Error::new(error.kind(), format!("cannot run valgrind: {error}")))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, number)| number.trim().parse().ok());
    collected.ok_or_else(|| Error::other(format!("callgrind says nothing of instructions:\n{text}")))
}
