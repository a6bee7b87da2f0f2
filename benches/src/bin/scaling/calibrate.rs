//! `--calibrate`: the costs that this machine can tell, each the median of several runs.

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::thread::futex;
use std::hint::spin_loop;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const RUNS: usize = 9;

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..RUNS).map(|_| measure()).collect();
    all.sort_by(f64::total_cmp);
    all[RUNS / 2]
}

/// Nanoseconds of one of `count` calls.
fn each(count: u32, mut call: impl FnMut()) -> f64 {
    let began = Instant::now();
    (0..count).for_each(|_| call());
    began.elapsed().as_nanos() as f64 / f64::from(count)
}

/// As [`each`], while another thread does the same.
fn beside(count: u32, call: impl Fn() + Sync) -> f64 {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                call();
            }
        });
        std::thread::sleep(Duration::from_millis(2));
        let time = each(count, &call);
        stop.store(true, Ordering::Relaxed);
        time
    })
}

/// One way of a word that two threads hand to and fro: a line's transfer, if both have a CPU. The shortest run, as one that
/// loses its CPU says nothing of lines.
fn hand_over() -> f64 {
    const TURNS: u64 = 500;
    let run = || {
        let word = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let turn = |mine: u64| {
                for round in 0..TURNS {
                    while word.load(Ordering::Acquire) != 2 * round + mine {
                        spin_loop();
                    }
                    word.store(2 * round + mine + 1, Ordering::Release);
                }
            };
            let began = Instant::now();
            scope.spawn(move || turn(1));
            turn(0);
            while word.load(Ordering::Acquire) != 2 * TURNS {
                spin_loop();
            }
            began.elapsed().as_nanos() as f64 / (2 * TURNS) as f64
        })
    };
    (0..300).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// The call that wakes, and from its beginning until the other thread runs.
fn futex_wake() -> (f64, f64) {
    let word = AtomicU32::new(0);
    let ran_at = AtomicU64::new(0);
    let zero = Instant::now();
    let now = || zero.elapsed().as_nanos() as u64;
    let (mut calls, mut latencies) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..200 {
                while word.load(Ordering::Acquire) == turn {
                    let _ = futex::wait(&word, futex::Flags::PRIVATE, turn, None);
                }
                ran_at.store(now(), Ordering::Release);
            }
        });
        for turn in 0..200 {
            std::thread::sleep(Duration::from_millis(1));
            ran_at.store(0, Ordering::Relaxed);
            word.store(turn + 1, Ordering::Release);
            let began = now();
            let _ = futex::wake(&word, futex::Flags::PRIVATE, 1);
            calls.push(now() - began);
            while ran_at.load(Ordering::Acquire) == 0 {
                spin_loop();
            }
            latencies.push(ran_at.load(Ordering::Acquire).saturating_sub(began));
        }
    });
    calls.sort_unstable();
    latencies.sort_unstable();
    (calls[100] as f64, latencies[100] as f64)
}

/// An empty poll, and what one ready descriptor adds.
fn epoll_costs() -> std::io::Result<(f64, f64)> {
    const READY: u64 = 64;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut events = Vec::with_capacity(2 * READY as usize);
    let mut ask = || {
        let buffer = rustix::buffer::spare_capacity(&mut events);
        let count = epoll::wait(&set, buffer, Some(&zero)).unwrap_or(0);
        events.clear();
        count
    };
    let empty = median(|| each(2_000, || assert_eq!(ask(), 0)));
    let sockets: Vec<_> = (0..READY)
        .map(|_| std::os::unix::net::UnixStream::pair())
        .collect::<Result<_, _>>()?;
    for (number, (reader, writer)) in sockets.iter().enumerate() {
        epoll::add(
            &set,
            reader,
            epoll::EventData::new_u64(number as u64),
            epoll::EventFlags::IN,
        )?;
        std::io::Write::write_all(&mut &*writer, b"x")?;
        let mut wait = [PollFd::new(reader, PollFlags::IN)];
        poll(&mut wait, None)?;
    }
    let full = median(|| each(500, || assert_eq!(ask(), READY as usize)));
    Ok((empty, (full - empty) / READY as f64))
}

fn thread_start() -> f64 {
    median(|| {
        each(20, || {
            let _ = std::thread::spawn(|| {}).join();
        })
    })
}

/// Measures and prints.
pub(crate) fn run() -> std::io::Result<()> {
    let word = AtomicU64::new(0);
    let swap = || {
        let seen = word.load(Ordering::Relaxed);
        let _ = word.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed);
    };
    let mutex = Mutex::new(0_u64);
    let count = || *mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
    let (wake, latency) = futex_wake();
    let (empty, event) = epoll_costs()?;
    let rows = [
        ("rmw", median(|| each(100_000, swap)), "CAS on a line at hand"),
        (
            "transfer_near",
            hand_over(),
            "a word handed to the other CPU; the shortest of the runs",
        ),
        (
            "-",
            median(|| beside(100_000, swap)),
            "CAS while the other CPU does the same",
        ),
        ("-", median(|| each(100_000, count)), "std Mutex, alone"),
        (
            "-",
            median(|| beside(100_000, count)),
            "std Mutex while the other CPU does the same",
        ),
        (
            "lock_spin",
            100.0 * median(|| each(100_000, spin_loop)),
            "100 pauses",
        ),
        ("futex_wake", wake, "the call, with a sleeper; median of 200"),
        (
            "wake_latency",
            latency,
            "from the call until the sleeper runs; median of 200",
        ),
        (
            "thread_start",
            thread_start(),
            "std::thread::spawn and join of an empty thread",
        ),
        ("epoll_empty", empty, "epoll_wait(0) of an empty set"),
        (
            "epoll_event",
            event,
            "what a ready socket adds to it, kernel's part only",
        ),
    ];
    for (name, nanos, what) in rows {
        println!("{name:<14} {nanos:>10.1} ns   {what}");
    }
    Ok(())
}
