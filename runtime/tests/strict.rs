//! `Builder::strict_parallelism`, and runtimes at their limit of workers: tasks that compute without a call into bast are
//! stopped with their threads and get their turns; what they hold is given back in time; whatever ends, ends.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]
#![cfg(all(target_os = "linux", not(bast_tsan)))] // ThreadSanitizer keeps signals back while a thread computes

mod util;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use util::{Watchdog, in_child, in_good_child, start, text_of, wait_for};

fn strict(processors: usize) -> bast::Runtime {
    start(
        bast::Builder::new()
            .processors(processors)
            .strict_parallelism(true),
    )
}

/// Computes until told, and counts.
fn compute(stop: &AtomicBool, rounds: &AtomicU64) {
    while !stop.load(Relaxed) {
        rounds.fetch_add(1, Relaxed);
    }
}

fn hogs(
    runtime: &bast::Runtime,
    many: usize,
) -> (Arc<AtomicBool>, Arc<Vec<AtomicU64>>, Vec<bast::JoinHandle<()>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let rounds: Arc<Vec<AtomicU64>> = Arc::new((0..many).map(|_| AtomicU64::new(0)).collect());
    let tasks = (0..many)
        .map(|i| {
            let (stop, rounds) = (stop.clone(), rounds.clone());
            runtime.spawn(move || compute(&stop, &rounds[i])).unwrap()
        })
        .collect();
    (stop, rounds, tasks)
}

#[test]
fn hogs_take_turns_and_others_run() {
    for processors in [1, 2] {
        let runtime = strict(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let (stop, rounds, tasks) = hogs(&runtime, processors + 2);
        // All are begun, and held again and again.
        wait_for(|| rounds.iter().all(|rounds| rounds.load(Relaxed) > 0));
        for turn in 1..4 {
            wait_for(|| runtime.metrics().holds >= 4 * turn);
            let before: Vec<u64> = rounds.iter().map(|rounds| rounds.load(Relaxed)).collect();
            wait_for(|| {
                rounds
                    .iter()
                    .zip(&before)
                    .all(|(now, before)| now.load(Relaxed) > *before)
            });
            // Tasks, timers and sections in between.
            runtime.run(|| {
                let task = bast::spawn(|| bast::time::sleep(Duration::from_micros(100)));
                bast::blocking(|| std::thread::sleep(Duration::from_micros(100)));
                task.join().unwrap();
            });
        }
        stop.store(true, Relaxed);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        wait_for(|| runtime.metrics().processors_idle == processors);
        assert_eq!(runtime.metrics().held, 0);
    }
}

/// The number of threads that compute, seen from inside: each notes that it is at it, and for how long it was not.
#[test]
fn a_held_task_stands_still() {
    let runtime = strict(1);
    let _watchdog = Watchdog::start("one processor", Some(runtime.handle()));
    let (stop, rounds, tasks) = hogs(&runtime, 3);
    let mut stood = 0;
    while stood < 20 {
        wait_for(|| runtime.metrics().held >= 2);
        let before: Vec<u64> = rounds.iter().map(|rounds| rounds.load(Relaxed)).collect();
        std::thread::sleep(Duration::from_micros(500));
        let moved = rounds
            .iter()
            .zip(&before)
            .filter(|(now, before)| now.load(Relaxed) != **before)
            .count();
        // A turn may have ended in between: then two have moved.
        stood += usize::from(moved <= 1);
    }
    stop.store(true, Relaxed);
    tasks.into_iter().for_each(|task| task.join().unwrap());
}

fn set_errno(value: i32) {
    // SAFETY: validity: gives the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: validity: as above. aliasing: this thread's own.
    unsafe { *errno = value };
}

/// The thread and `errno` are as before.
#[test]
fn nothing_of_the_task_changes() {
    let runtime = strict(1);
    let _watchdog = Watchdog::start("one processor", Some(runtime.handle()));
    let (stop, _, others) = hogs(&runtime, 1);
    let task = runtime.spawn(|| {
        // SAFETY: validity: takes no argument. aliasing: no memory is passed.
        let thread = || unsafe { libc::gettid() };
        let before = thread();
        let mut longest = Duration::ZERO;
        // Held: a gap in which others had the processor.
        while longest < Duration::from_millis(5) {
            set_errno(77);
            let began = Instant::now();
            std::hint::spin_loop();
            let gap = began.elapsed();
            // The clock is read without a system call.
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(77));
            longest = longest.max(gap);
        }
        assert_eq!(thread(), before);
    });
    task.unwrap().join().unwrap();
    stop.store(true, Relaxed);
    others.into_iter().for_each(|task| task.join().unwrap());
}

/// Hogs that hold std's locks, and malloc's, most of the time: whoever needs one gets it.
#[test]
fn what_a_held_task_holds_is_given_back() {
    for processors in [1, 2] {
        let runtime = strict(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let stop = Arc::new(AtomicBool::new(false));
        let lock = Arc::new(Mutex::new(0_u64));
        let tasks: Vec<_> = (0..4)
            .map(|i| {
                let (stop, lock) = (stop.clone(), lock.clone());
                runtime
                    .spawn(move || {
                        while !stop.load(Relaxed) {
                            if i % 2 == 0 {
                                let mut held = lock.lock().unwrap();
                                for _ in 0..10_000 {
                                    *held = std::hint::black_box(*held + 1);
                                }
                            } else {
                                for size in 1..200 {
                                    std::hint::black_box(vec![0_u8; 10 * size]);
                                }
                            }
                        }
                    })
                    .unwrap()
            })
            .collect();
        for _ in 0..20 {
            let lock = lock.clone();
            runtime.run(move || {
                let large = [5_u8; 100]; // does not fit into the header: allocated inside
                let tasks: Vec<_> = (0..5)
                    .map(|_| bast::spawn(move || std::hint::black_box(large).len()))
                    .collect();
                tasks
                    .into_iter()
                    .for_each(|task| assert_eq!(task.join().unwrap(), 100));
                *lock.lock().unwrap() += 1;
            });
        }
        stop.store(true, Relaxed);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert!(runtime.metrics().holds > 0);
    }
}

/// Without being strict: no thread more may be had, so hogs are held.
#[test]
fn at_the_limit_of_workers_hogs_are_held() {
    for (processors, most) in [(1, 0), (2, 1)] {
        let runtime = start(
            bast::Builder::new()
                .processors(processors)
                .blocked_workers_max(most)
                .preempt_signal(libc::SIGUSR2),
        );
        let _watchdog = Watchdog::start(format!("{processors} and {most}"), Some(runtime.handle()));
        let (stop, rounds, tasks) = hogs(&runtime, processors + most + 2);
        wait_for(|| rounds.iter().all(|rounds| rounds.load(Relaxed) > 0));
        (0..10).for_each(|i| assert_eq!(runtime.run(|| bast::spawn(move || i).join().unwrap()), i));
        assert!(runtime.metrics().holds > 0);
        stop.store(true, Relaxed);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        wait_for(|| runtime.metrics().processors_idle == processors);
    }
}

#[test]
fn a_runtime_ends_while_tasks_are_held() {
    for round in 0..10 {
        let runtime = strict(1 + round % 2);
        let _watchdog = Watchdog::start("ends", Some(runtime.handle()));
        let (stop, _, tasks) = hogs(&runtime, 4);
        wait_for(|| runtime.metrics().held > 0);
        let ends = std::thread::spawn(move || drop(runtime));
        std::thread::sleep(Duration::from_millis(u64::from(round as u32)));
        stop.store(true, Relaxed);
        ends.join().unwrap();
        for task in tasks {
            if let Err(error) = task.join() {
                assert!(error.is_shutdown(), "{error}");
            }
        }
    }
}

/// `exit` while hogs are held, with whatever locks.
#[test]
fn a_process_ends_while_tasks_are_held() {
    let name = "a_process_ends_while_tasks_are_held";
    let output = in_child(
        name,
        |_| {},
        || {
            let runtime = strict(1);
            let stop = Arc::new(AtomicBool::new(false));
            let printers: Vec<_> = (0..3)
                .map(|_| {
                    let stop = stop.clone();
                    runtime.spawn(move || {
                        while !stop.load(Relaxed) {
                            print!("."); // std's lock and buffer
                        }
                    })
                })
                .collect();
            wait_for(|| runtime.metrics().holds > 5);
            std::mem::forget((runtime, printers));
            std::process::exit(7);
        },
    );
    assert_eq!(output.status.code(), Some(7), "{}", text_of(&output));
}

/// Children by fork and exec, and by a fork that runs code first.
#[test]
fn children_are_started_while_tasks_are_held() {
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    let runtime = strict(1);
    let _watchdog = Watchdog::start("children", Some(runtime.handle()));
    let (stop, _, tasks) = hogs(&runtime, 3);
    wait_for(|| runtime.metrics().held > 0);
    runtime.run(|| {
        for i in 0..4 {
            let mut command = Command::new("true");
            if i % 2 == 1 {
                // SAFETY: the closure does nothing, so nothing that must not be done between fork and exec.
                unsafe { command.pre_exec(|| Ok(())) };
            }
            assert!(bast::blocking(|| command.status()).unwrap().success());
            assert!(Command::new("true").output().unwrap().status.success()); // and unannounced
        }
    });
    stop.store(true, Relaxed);
    tasks.into_iter().for_each(|task| task.join().unwrap());
}

static SEEN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signals(_: libc::c_int) {
    SEEN.fetch_add(1, Relaxed);
}

/// A handler that was there before gets what is not ours, and only that, and calls of the system that are interrupted go
/// on.
#[test]
fn signals_of_others_are_passed_on_and_interrupt_nothing() {
    let name = "signals_of_others_are_passed_on_and_interrupt_nothing";
    in_good_child(
        name,
        |_| {},
        || {
            // SAFETY: validity: a handler that only counts. aliasing: none.
            unsafe { libc::signal(libc::SIGURG, count_signals as *const () as usize) };
            let runtime = strict(2);
            let (stop, rounds, tasks) = hogs(&runtime, 3);
            wait_for(|| runtime.metrics().holds > 10);
            assert_eq!(SEEN.load(Relaxed), 0, "ours are not passed on");
            let sent = Arc::new(AtomicUsize::new(0));
            let over = Arc::new(AtomicBool::new(false));
            let storm = {
                let (sent, over) = (sent.clone(), over.clone());
                std::thread::spawn(move || {
                    while !over.load(Relaxed) {
                        for entry in std::fs::read_dir("/proc/self/task").unwrap() {
                            let thread: i32 = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
                            let process = std::process::id();
                            // Not the main thread: the child ends by std's `exit` on this one, which frees the main
                            // thread's alternate stack, and a signal that came late would be handled there.
                            if thread == process as i32 {
                                continue;
                            }
                            // SAFETY: validity: integers only; a thread that is gone gives an error.
                            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGURG) };
                        }
                        sent.fetch_add(1, Relaxed);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                })
            };
            runtime.run(|| {
                use std::io::{Read, Write};
                let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let peer = bast::spawn(move || {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut bytes = [0; 1024];
                    while let Ok(count @ 1..) = stream.read(&mut bytes) {
                        stream.write_all(&bytes[..count]).unwrap();
                    }
                });
                let mut stream = bast::net::TcpStream::connect(address).unwrap();
                let mut rounds = 0;
                while rounds < 50 || sent.load(Relaxed) < 50 {
                    stream.write_all(&[1; 1000]).unwrap();
                    stream.read_exact(&mut [0; 1000]).unwrap();
                    bast::time::sleep(Duration::from_micros(50));
                    bast::blocking(|| std::fs::read("/proc/self/comm")).unwrap();
                    std::thread::sleep(Duration::from_micros(50));
                    rounds += 1;
                }
                drop(stream);
                peer.join().unwrap();
            });
            assert!(
                SEEN.load(Relaxed) > 50,
                "the handler that was there sees its signals"
            );
            over.store(true, Relaxed);
            storm.join().unwrap();
            assert!(rounds.iter().all(|rounds| rounds.load(Relaxed) > 0));
            stop.store(true, Relaxed);
            tasks.into_iter().for_each(|task| task.join().unwrap());
        },
    );
}

#[test]
fn signals_that_cannot_be_used_are_refused() {
    for signal in [libc::SIGKILL, libc::SIGSEGV, 0, -1, 1000] {
        // SAFETY: nothing runs on it.
        let refused = unsafe { bast::Builder::new().preempt_signal(signal).build() };
        assert!(
            refused.unwrap_err().to_string().contains("cannot be used"),
            "{signal}"
        );
    }
}

/// On one processor: tasks that call into bast get a good part of it, however many hogs there are. The bound is a wide one,
/// for loaded machines.
#[test]
fn others_get_their_share_beside_many_hogs() {
    let runtime = strict(1);
    let _watchdog = Watchdog::start("shares", Some(runtime.handle()));
    let (stop, _, tasks) = hogs(&runtime, 4);
    wait_for(|| runtime.metrics().held >= 3);
    let (holds, yields) = (runtime.metrics().holds, runtime.metrics().yields);
    let over = stop.clone();
    let others: Vec<_> = (0..2)
        .map(|_| {
            let over = over.clone();
            runtime.spawn(move || {
                while !over.load(Relaxed) {
                    util::burn(Duration::from_micros(20));
                    bast::task::yield_now();
                }
            })
        })
        .collect();
    wait_for(|| runtime.metrics().holds >= holds + 20);
    let turns = (runtime.metrics().yields - yields) / (runtime.metrics().holds - holds);
    stop.store(true, Relaxed);
    others.into_iter().for_each(|task| task.unwrap().join().unwrap());
    tasks.into_iter().for_each(|task| task.join().unwrap());
    // A slice of 10 ms has room for 500; without the rest it was 15 at most.
    assert!(turns > 40, "{turns} turns between two slices of hogs");
}
