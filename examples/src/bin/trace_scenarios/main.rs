//! Runs a named load with the execution trace on: `trace_scenarios NAME FILE`. Each load makes another part of the
//! runtime write; CI feeds the files to Go's tools.
//!
//! `trace_scenarios` alone prints the names.

mod cpu;
mod loads;
mod marks;
mod names;
mod stacks;
mod truth;

use bast::trace::CountedHeap;
use std::alloc::System;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// So every trace has the heap in it.
#[global_allocator]
static HEAP: CountedHeap<System> = CountedHeap::new(System);

/// A load: its name, and what runs as the main task or, for those that start runtimes themselves, on the main thread.
struct Load {
    name: &'static str,
    run: fn(&Path) -> io::Result<()>,
}

const LOADS: &[Load] = &[
    Load {
        name: "echo",
        run: |file| traced(file, 2, loads::echo),
    },
    Load {
        name: "channels",
        run: |file| traced(file, 2, loads::channels),
    },
    Load {
        name: "timers",
        run: |file| traced(file, 2, loads::timers),
    },
    Load {
        name: "locks",
        run: |file| traced(file, 4, loads::locks),
    },
    Load {
        name: "blocking",
        run: |file| traced(file, 2, loads::blocking),
    },
    Load {
        name: "hogs",
        run: |file| traced(file, 2, loads::hogs),
    },
    Load {
        name: "panics",
        run: |file| traced(file, 2, loads::panics),
    },
    Load {
        name: "one-processor",
        run: |file| traced(file, 1, loads::everything),
    },
    Load {
        name: "eight-processors",
        run: |file| traced(file, 8, loads::everything),
    },
    Load {
        name: "marks",
        run: |file| traced(file, 2, marks::all),
    },
    Load {
        name: "names",
        run: |file| traced(file, 2, names::all),
    },
    Load {
        name: "heap",
        run: |file| traced(file, 2, loads::heap),
    },
    Load {
        name: "stacks",
        run: stacks::all,
    },
    Load {
        name: "cpu",
        run: cpu::all,
    },
    Load {
        name: "start-stop",
        run: loads::start_stop,
    },
    Load {
        name: "middle",
        run: loads::middle,
    },
    Load {
        name: "several-runtimes",
        run: loads::several_runtimes,
    },
    Load {
        name: "slow-writer",
        run: loads::slow_writer,
    },
    Load {
        name: "soak",
        run: |file| traced(file, 3, || loads::soak(5)),
    },
    Load {
        name: "flight",
        run: loads::flight,
    },
    Load {
        name: "truth",
        run: truth::all,
    },
];

/// Runs `load` on a runtime of `processors`, traced from before its start until after its end.
fn traced(file: &Path, processors: usize, load: fn()) -> io::Result<()> {
    let trace = bast::trace::start(BufWriter::new(File::create(file)?))?;
    on_runtime(processors, load)?;
    let summary = trace.stop()?;
    println!("{summary:?}");
    Ok(())
}

/// Runs `load` as the main task of a runtime.
fn on_runtime<T: Send>(processors: usize, load: impl FnOnce() -> T + Send) -> io::Result<T> {
    // SAFETY: no value bound to a thread is alive across a call that can park.
    let runtime = unsafe { bast::Builder::new().processors(processors).build() }?;
    Ok(runtime.run(load))
}

/// Computes for `time` at least; gives the nanoseconds it took.
fn burn(time: Duration) -> u64 {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
    nanos(start)
}

fn nanos(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

/// The file next to `file` whose name has `end` added.
fn beside(file: &Path, end: &str) -> OsString {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [name, file] = arguments.as_slice() else {
        LOADS.iter().for_each(|load| println!("{}", load.name));
        return ExitCode::SUCCESS;
    };
    let Some(load) = LOADS.iter().find(|load| load.name == name) else {
        eprintln!("trace_scenarios: no load is called {name}");
        return ExitCode::FAILURE;
    };
    match (load.run)(Path::new(file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trace_scenarios: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}
