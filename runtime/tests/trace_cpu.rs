//! CPU samples in the execution trace: who is sampled, and what the timers' signals come in at.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::trace::{FlightRecorder, Options};
use std::hint::black_box;
use std::io::{self, ErrorKind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use util::trace_bytes::{self, Bytes, Sample};
use util::{run_on, wait_for};

/// Below it are a task's number, above it its runtime's.
const NUMBER: u64 = (1 << 40) - 1;
const NONE: u64 = u64::MAX;

/// There is one trace a process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// CPU time, in nanoseconds.
fn cpu_time(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: validity: a clock that exists. aliasing: a local.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[inline(never)]
fn computes(mut seed: u64) -> u64 {
    for _ in 0..10_000 {
        seed = black_box(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    seed
}

/// Uses so much CPU time of its thread, without a call into bast.
#[inline(never)]
fn burns(millis: u64) {
    let until = cpu_time(libc::CLOCK_THREAD_CPUTIME_ID) + millis * 1_000_000;
    while cpu_time(libc::CLOCK_THREAD_CPUTIME_ID) < until {
        black_box(computes(until));
    }
}

struct Seen {
    samples: Vec<Sample>,
    summary: bast::trace::Summary,
    burner: u64,
    /// CPU time of the process meanwhile.
    nanos: u64,
}

/// One task burns, another sleeps.
fn burner_and_sleeper(processors: usize, options: Options) -> Seen {
    run_on(processors, || {
        let bytes = Bytes::default();
        let trace = options.start(bytes.clone()).unwrap();
        let before = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID);
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let sleeper = bast::spawn(move || {
            while !seen.load(Relaxed) {
                bast::time::sleep(Duration::from_millis(20));
            }
        });
        let burner = bast::spawn(|| burns(600));
        let number = burner.task().id().as_u64();
        burner.join().unwrap();
        over.store(true, Relaxed);
        sleeper.join().unwrap();
        let nanos = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID) - before;
        let summary = trace.stop().unwrap();
        Seen {
            samples: trace_bytes::samples(&bytes.get()),
            summary,
            burner: number,
            nanos,
        }
    })
}

#[test]
fn samples_name_who_computes() {
    let _alone = alone();
    for (processors, hz) in [(1, 100), (2, 100), (4, 1000)] {
        let seen = burner_and_sleeper(processors, Options::new().cpu_samples(hz).stacks(16));
        let count = seen.samples.len() as u64;
        assert_eq!(seen.summary.cpu_samples, count);
        // What the kernel's tick allows, at least; and no more than the CPU time was worth.
        let worth = seen.nanos * u64::from(hz) / 1_000_000_000;
        assert!(count >= 10, "{count} of {worth}");
        assert!(count <= 2 * worth + 10, "{count} of {worth}");
        let of_burner: Vec<_> = seen
            .samples
            .iter()
            .filter(|sample| sample.task & NUMBER == seen.burner)
            .collect();
        assert!(of_burner.len() as u64 * 10 >= count * 8, "{:#?}", seen.samples);
        for sample in &of_burner {
            let functions = &sample.functions;
            // The place, by whatever names there are, and the entry function below it.
            assert!(functions.len() >= 2, "{functions:?}");
            assert!(
                functions.last().unwrap().contains("burner_and_sleeper"),
                "{functions:?}"
            );
        }
        let threads: Vec<_> = of_burner.iter().map(|sample| sample.thread).collect();
        assert!(
            threads.iter().all(|thread| *thread == threads[0]),
            "it made no call"
        );
        // Times are in the order of things, by worker.
        let times: Vec<_> = of_burner.iter().map(|sample| sample.time).collect();
        assert!(times.is_sorted());
    }
}

/// A burner that has lost its processor to others is sampled on, without one.
#[test]
fn one_without_a_processor_is_sampled_too() {
    let _alone = alone();
    let without = run_on(1, || {
        let bytes = Bytes::default();
        let trace = Options::new().cpu_samples(250).start(bytes.clone()).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let burner = bast::spawn(move || {
            while !seen.load(Relaxed) {
                burns(1);
            }
        });
        let number = burner.task().id().as_u64();
        let sleeps = || bast::time::sleep(Duration::from_millis(1));
        // Until the trace of a piece has one: each takes a second at most.
        wait_for(|| {
            sleeps();
            let ended = bytes.ended();
            !ended.is_empty()
                && trace_bytes::samples(&ended)
                    .iter()
                    .any(|sample| sample.task & NUMBER == number && sample.processor == NONE)
        });
        over.store(true, Relaxed);
        burner.join().unwrap();
        trace.stop().unwrap();
        trace_bytes::samples(&bytes.get())
            .iter()
            .filter(|sample| sample.processor == NONE)
            .count()
    });
    assert!(without > 0);
}

#[test]
fn none_unless_they_are_asked_for() {
    let name = "none_unless_they_are_asked_for";
    util::in_good_child(
        name,
        |_| {},
        || {
            let seen = burner_and_sleeper(2, Options::new().stacks(16));
            assert_eq!((seen.samples.len(), seen.summary.cpu_samples), (0, 0));
            assert_eq!(
                present(libc::SIGPROF),
                libc::SIG_DFL,
                "a handler was installed for nothing"
            );
            let seen = burner_and_sleeper(2, Options::new().cpu_samples(100));
            assert!(seen.summary.cpu_samples > 0);
            let seen = burner_and_sleeper(2, Options::new().cpu_samples(0));
            assert_eq!((seen.samples.len(), seen.summary.cpu_samples), (0, 0), "left on");
        },
    );
}

#[test]
fn bad_rates_are_refused() {
    let _alone = alone();
    for hz in [1001, 100_000, u32::MAX] {
        let error = Options::new().cpu_samples(hz).start(io::sink()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&hz.to_string()), "{error}");
        let error = FlightRecorder::new().cpu_samples(hz).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(!bast::trace::is_enabled());
    for hz in [1, 1000] {
        let trace = Options::new().cpu_samples(hz).start(io::sink()).unwrap();
        trace.stop().unwrap();
    }
}

#[test]
fn begun_by_the_environment() {
    let name = "begun_by_the_environment";
    let path = std::env::temp_dir().join(format!("bast-test-{}-cpu.trace", std::process::id()));
    for (hz, complains) in [
        ("", false),
        ("200", false),
        ("often", true),
        ("1001", true),
        ("-1", true),
    ] {
        let said = util::in_good_child(
            name,
            |child| {
                child.env("BAST_TRACE", &path).env("BAST_TRACE_CPU", hz);
            },
            || run_on(2, || bast::spawn(|| burns(300)).join().unwrap()),
        );
        assert_eq!(said.contains("BAST_TRACE_CPU="), complains, "{hz}: {said}");
        let samples = trace_bytes::samples(&std::fs::read(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(!samples.is_empty(), hz == "200", "{hz}: {samples:?}");
    }
}

// ---- signals ----

static PROFILED: AtomicU64 = AtomicU64::new(0);
static STORMED: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_their_profile(_: libc::c_int) {
    PROFILED.fetch_add(1, Relaxed);
}

extern "C" fn on_storm(_: libc::c_int) {
    STORMED.fetch_add(1, Relaxed);
}

/// Installs an action, by its number or its handler's address.
fn install(signal: libc::c_int, action: usize, flags: libc::c_int) {
    // SAFETY: validity: all-zero is an empty set, no flags and the default action.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    new.sa_flags = flags;
    // SAFETY: validity: a whole action whose handler touches atomics. aliasing: it is read.
    let result = unsafe { libc::sigaction(signal, &raw const new, std::ptr::null_mut()) };
    assert_eq!(result, 0, "sigaction: {}", io::Error::last_os_error());
}

/// The handler that there is.
fn present(signal: libc::c_int) -> usize {
    // SAFETY: validity: as above.
    let mut present: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: validity: asks only. aliasing: a local.
    unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut present) };
    present.sa_sigaction
}

/// The handler that was there gets what is not ours; one that comes after is not displaced, and said to be in the way.
#[test]
fn another_profiler_of_the_process() {
    let name = "another_profiler_of_the_process";
    util::in_good_child(
        name,
        |_| {},
        || {
            let theirs = on_their_profile as *const () as usize;
            install(libc::SIGPROF, theirs, libc::SA_RESTART);
            let seen = burner_and_sleeper(2, Options::new().cpu_samples(100));
            assert!(seen.summary.cpu_samples > 0);
            assert_eq!(PROFILED.load(Relaxed), 0, "it was given ours");
            // SAFETY: validity: a signal that is handled.
            unsafe { libc::raise(libc::SIGPROF) };
            assert_eq!(PROFILED.load(Relaxed), 1, "it was not given its own");
            // Another one comes after ours.
            let ours = present(libc::SIGPROF);
            assert_ne!(ours, theirs);
            install(libc::SIGPROF, theirs, libc::SA_RESTART);
            let error = Options::new().cpu_samples(100).start(io::sink()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceBusy);
            assert!(error.to_string().contains("SIGPROF"), "{error}");
            assert_eq!(present(libc::SIGPROF), theirs);
            // And is gone again.
            install(libc::SIGPROF, libc::SIG_IGN, 0);
            let seen = burner_and_sleeper(2, Options::new().cpu_samples(100));
            assert!(seen.summary.cpu_samples > 0);
            assert_eq!(present(libc::SIGPROF), ours);
        },
    );
}

/// Where the signal holds workers it is not to be had for samples.
#[test]
fn the_signal_that_holds_workers_may_be_the_same() {
    let name = "the_signal_that_holds_workers_may_be_the_same";
    util::in_good_child(
        name,
        |_| {},
        || {
            let builder = bast::Builder::new()
                .preempt_signal(libc::SIGPROF)
                .strict_parallelism(true);
            // SAFETY: nothing bound to a thread is used.
            let runtime = unsafe { builder.build() }.unwrap();
            runtime.run(|| {
                let error = Options::new().cpu_samples(100).start(io::sink()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ResourceBusy);
                assert!(error.to_string().contains("in use"), "{error}");
                assert!(!bast::trace::is_enabled());
            });
        },
    );
}

/// Samples come and go a hundred times while tasks compute, allocate, switch, block and panic, runtimes come and go, and
/// signals of others hit all threads.
#[test]
fn started_and_stopped_under_load() {
    let _alone = alone();
    install(
        libc::SIGUSR1,
        on_storm as *const () as usize,
        libc::SA_ONSTACK | libc::SA_RESTART,
    );
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    let sender = std::thread::spawn(move || util::send_to_all(libc::SIGUSR1, &told));
    let told = over.clone();
    let passing = std::thread::spawn(move || {
        while !told.load(Relaxed) {
            run_on(2, || bast::spawn(|| burns(1)).join().unwrap());
        }
    });
    // Computing tasks also lose their processors, and are held with their threads.
    let builder = bast::Builder::new().processors(3).strict_parallelism(true);
    let samples = util::start(builder).run(|| {
        let tasks: Vec<_> = (0..8)
            .map(|number: u64| {
                let over = over.clone();
                bast::spawn(move || {
                    while !over.load(Relaxed) {
                        match number % 5 {
                            0 => drop(black_box(vec![0_u8; 100 << number])),
                            1 => bast::blocking(|| burns(1)),
                            2 => burns(15),
                            3 => {
                                let failed = bast::spawn(|| bast::task::yield_now());
                                failed.join().unwrap();
                            }
                            _ => _ = bast::on_big_stack(1 << 20, || computes(number)),
                        }
                        bast::task::yield_now();
                    }
                })
            })
            .collect();
        let mut samples = 0;
        let rounds = if util::is_emulated() { 15 } else { 100 };
        for round in 0..rounds {
            let bytes = Bytes::default();
            let options = Options::new().cpu_samples(1000).stacks(round % 3 * 20);
            let trace = options.start(bytes.clone()).unwrap();
            bast::time::sleep(Duration::from_millis(2 + round as u64 % 7));
            let summary = trace.stop().unwrap();
            let seen = trace_bytes::samples(&bytes.get());
            assert_eq!(seen.len() as u64, summary.cpu_samples);
            samples += summary.cpu_samples;
        }
        over.store(true, Relaxed);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        samples
    });
    sender.join().unwrap();
    passing.join().unwrap();
    assert!(samples > 0 && STORMED.load(Relaxed) > 0);
}

/// Neither a child that only forks nor one that runs another program is ever sent our signal: its default action is to
/// end the process.
#[test]
fn children_are_not_sampled() {
    let _alone = alone();
    run_on(2, || {
        let trace = Options::new().cpu_samples(1000).start(io::sink()).unwrap();
        let task = bast::spawn(|| {
            burns(20);
            // SAFETY: validity: the child computes on its copy of the stack and leaves by `_exit`.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // With the action back that a signal would end it by.
                install(libc::SIGPROF, libc::SIG_DFL, 0);
                burns(50);
                // SAFETY: validity: ends the child.
                unsafe { libc::_exit(7) };
            }
            let mut status = 0;
            // SAFETY: validity: a child of ours. aliasing: a local.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(waited, child);
            assert!(
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7,
                "{status:#x}"
            );
            let script = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done";
            bast::blocking(|| Command::new("sh").args(["-c", script]).status().unwrap())
        });
        let status = task.join().unwrap();
        assert!(status.success(), "{status}");
        trace.stop().unwrap();
    });
}

/// A recorder has them too, each piece its own.
#[test]
fn in_the_flight_recorder() {
    let _alone = alone();
    run_on(2, || {
        let recorder = FlightRecorder::new().cpu_samples(500).start().unwrap();
        let mut last = 0;
        for _ in 0..3 {
            bast::spawn(|| burns(100)).join().unwrap();
            let mut taken = Vec::new();
            recorder.snapshot(&mut taken).unwrap();
            let samples = trace_bytes::samples(&taken);
            let newest = samples.iter().map(|sample| sample.generation).max().unwrap();
            assert!(newest > last, "none in the newest piece");
            last = newest;
        }
    });
}
