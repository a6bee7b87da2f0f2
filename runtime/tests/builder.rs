//! What the builder and the environment set, seen from outside.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use util::{in_child, in_good_child, start, text_of, wait_for};

/// Runs `body` in a child with variables set.
#[track_caller]
fn with_environment(name: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> String {
    in_good_child(name, |command| _ = command.envs(variables.iter().copied()), body)
}

#[test]
fn the_environment_sets_the_processors() {
    let name = "the_environment_sets_the_processors";
    with_environment(name, &[("BAST_MAXPROCS", "3")], || {
        assert_eq!(start(bast::Builder::new().processors(7)).metrics().processors, 3);
        assert_eq!(start(bast::Builder::new()).metrics().processors, 3);
    });
}

#[test]
fn by_default_a_processor_a_cpu() {
    let name = "by_default_a_processor_a_cpu";
    with_environment(name, &[("BAST_MAXPROCS", "")], || {
        let cpus = std::thread::available_parallelism().unwrap().get();
        assert_eq!(start(bast::Builder::new()).metrics().processors, cpus);
    });
}

#[test]
fn the_environment_sets_the_stack_size() {
    #[inline(never)]
    fn depth(base: usize) -> usize {
        let frame = std::hint::black_box([1_u8; 256]);
        let here = std::ptr::from_ref(&frame) as usize;
        let used = base.saturating_sub(here);
        if used > 600 << 10 {
            used
        } else {
            depth(base.max(here)) + usize::from(std::hint::black_box(frame)[0]) - 1
        }
    }
    let name = "the_environment_sets_the_stack_size";
    with_environment(name, &[("BAST_STACK_SIZE", "1M")], || {
        let runtime = start(bast::Builder::new().processors(1).stack_size(64 << 10));
        assert!(runtime.run(|| depth(0)) > 600 << 10); // would overflow 64 KiB, and the default of 256 KiB
    });
}

#[test]
fn nonsense_in_the_environment_is_refused_with_the_variables_name() {
    let name = "nonsense_in_the_environment_is_refused_with_the_variables_name";
    if util::is_child(name) {
        // SAFETY: no value bound to a thread is used.
        let error = unsafe { bast::Builder::new().build() }.unwrap_err();
        println!("REFUSED: {error}");
        return;
    }
    for (variable, value, expected) in [
        ("BAST_MAXPROCS", "many", "BAST_MAXPROCS=many is not a number"),
        ("BAST_MAXPROCS", "0", "between 1 and"),
        ("BAST_MAXPROCS", "99999", "between 1 and"),
        ("BAST_MAXPROCS", "-1", "BAST_MAXPROCS=-1"),
        ("BAST_STACK_SIZE", "64Q", "64K or 1M"),
        ("BAST_STACK_SIZE", "1G", "64K or 1M"),
        ("BAST_STACK_SIZE", "1024M", "on_big_stack"),
        ("BAST_DEBUG", "schedtrace", "schedtrace=MILLISECONDS"),
        ("BAST_DEBUG", "schedtrace=0", "schedtrace=MILLISECONDS"),
    ] {
        let output = in_child(name, |command| _ = command.env(variable, value), || ());
        let text = text_of(&output);
        assert!(text.contains("REFUSED: "), "{variable}={value}:\n{text}");
        assert!(
            text.contains(expected),
            "{variable}={value}: {expected:?} is missing:\n{text}"
        );
    }
}

#[test]
fn schedtrace_prints_lines() {
    let name = "schedtrace_prints_lines";
    let text = with_environment(name, &[("BAST_DEBUG", "schedtrace=5,scheddetail=1")], || {
        let runtime = start(bast::Builder::new().processors(2));
        runtime.run(|| {
            let tasks: Vec<_> = (0..5)
                .map(|_| bast::spawn(|| bast::time::sleep(Duration::from_millis(50))))
                .collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
    });
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("bast: SCHED "))
        .collect();
    assert!(lines.len() >= 2, "a line every 5 ms for 50 ms:\n{text}");
    assert!(lines[0].contains("processors=2"), "{}", lines[0]);
    assert!(lines.iter().any(|line| line.contains("tasks=6")), "{text}");
    assert!(text.contains("bast:   processor 1: tick="), "{text}");
}

fn own_thread_name() -> String {
    std::fs::read_to_string("/proc/thread-self/comm")
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn worker_names() {
    let runtime = start(bast::Builder::new().processors(1));
    assert!(runtime.run(own_thread_name).starts_with("bast-worker-"));
    let runtime = start(
        bast::Builder::new()
            .processors(1)
            .thread_name(|index| format!("mine-{index}")),
    );
    assert_eq!(runtime.run(own_thread_name), "mine-0");
    let named = runtime.run(|| std::thread::current().name().map(str::to_owned));
    assert_eq!(named.as_deref(), Some("mine-0"));
}

#[test]
fn hooks_run_on_every_worker_once() {
    for processors in util::PROCESSORS {
        let started = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(Mutex::new(Vec::new()));
        let (began, ended) = (started.clone(), stopped.clone());
        let runtime = start(
            bast::Builder::new()
                .processors(processors)
                .on_worker_start(move || began.lock().unwrap().push(std::thread::current().id()))
                .on_worker_stop(move || ended.lock().unwrap().push(std::thread::current().id())),
        );
        // More workers than processors, by blocking sections.
        let inside = Arc::new(AtomicUsize::new(0));
        let ran_on = runtime.run(|| {
            let tasks: Vec<_> = (0..5)
                .map(|_| {
                    let inside = inside.clone();
                    bast::spawn(move || {
                        bast::blocking(|| {
                            inside.fetch_add(1, AcqRel);
                            while inside.load(Acquire) < 5 {
                                std::thread::sleep(Duration::from_micros(100));
                            }
                            std::thread::current().id()
                        })
                    })
                })
                .collect();
            tasks
                .into_iter()
                .map(|task| task.join().unwrap())
                .collect::<HashSet<_>>()
        });
        drop(runtime);
        assert_eq!(ran_on.len(), 5, "five sections at once are on five threads");
        let (started, mut stopped) = (started.lock().unwrap().clone(), stopped.lock().unwrap().clone());
        assert_eq!(
            started.len(),
            started.iter().collect::<HashSet<_>>().len(),
            "twice on one thread"
        );
        assert!(
            ran_on.iter().all(|id| started.contains(id)),
            "a task ran on a worker without the hook"
        );
        let mut sorted = started;
        sorted.sort_by_key(|id| format!("{id:?}"));
        stopped.sort_by_key(|id| format!("{id:?}"));
        assert_eq!(sorted, stopped, "start and stop hooks belong together");
    }
}

#[test]
fn pinned_workers_may_run_on_one_cpu_only() {
    fn own_cpus() -> Vec<usize> {
        // SAFETY: validity: an all-zero cpu_set_t is the empty set. aliasing: a local.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: validity: 0 names the calling thread, the size is that of the set. aliasing: a local.
        let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
        assert_eq!(result, 0);
        // SAFETY: validity: the index is below CPU_SETSIZE. aliasing: only read.
        (0..libc::CPU_SETSIZE as usize)
            .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
            .collect()
    }
    let all = own_cpus();
    for processors in [1, 2, 8] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        let runtime = start(
            bast::Builder::new()
                .processors(processors)
                .pin_workers(true)
                .on_worker_start(move || told.lock().unwrap().push(own_cpus())),
        );
        runtime.run(|| {
            let tasks: Vec<_> = (0..100).map(|_| bast::spawn(own_cpus)).collect();
            for task in tasks {
                let cpus = task.join().unwrap();
                assert_eq!(cpus.len(), 1, "{cpus:?}");
                assert!(all.contains(&cpus[0]));
            }
        });
        drop(runtime);
        let seen = seen.lock().unwrap();
        let used: HashSet<_> = seen.iter().flatten().copied().collect();
        assert_eq!(
            used.len(),
            seen.len().min(all.len()),
            "workers go round the CPUs: {seen:?}"
        );
        assert_eq!(
            own_cpus(),
            all,
            "the thread that builds the runtime is not pinned"
        );
    }
    let runtime = start(bast::Builder::new().processors(2));
    assert_eq!(runtime.run(own_cpus), all, "not pinned unless asked for");
}

/// A slice shorter than the default makes a task that never waits give way sooner: more often in the same time.
#[test]
fn the_slice_is_an_option() {
    let runtime = start(
        bast::Builder::new()
            .processors(1)
            .slice(Duration::from_micros(500)),
    );
    let _watchdog = util::Watchdog::start("1 processor", Some(runtime.handle()));
    runtime.run(|| {
        let stop = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let stop = stop.clone();
                bast::spawn(move || {
                    while stop.load(Acquire) == 0 {
                        bast::task::checkpoint();
                    }
                })
            })
            .collect();
        bast::time::sleep(Duration::from_millis(20));
        stop.store(1, Release);
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
    // SAFETY: no value bound to a thread is used.
    let error = unsafe { bast::Builder::new().slice(Duration::ZERO).build() }.unwrap_err();
    assert!(error.to_string().contains("slice"), "{error}");
}

#[test]
fn a_builder_can_be_used_again_and_printed() {
    let builder = bast::Builder::new()
        .processors(2)
        .stack_size(64 << 10)
        .seed(7)
        .worker_stack_size(512 << 10);
    assert!(format!("{builder:?}").contains("processors: Some(2)"));
    for _ in 0..3 {
        let runtime = start(builder.clone());
        assert_eq!(runtime.run(|| bast::spawn(|| 1).join().unwrap()), 1);
        assert!(!format!("{runtime:?}").is_empty());
    }
}

#[test]
fn metrics_name_what_happened() {
    let runtime = start(bast::Builder::new().processors(2));
    let _watchdog = util::Watchdog::start("metrics", Some(runtime.handle()));
    runtime.run(|| {
        (0..100).for_each(|_| bast::spawn(bast::task::yield_now).join().unwrap());
        bast::time::sleep(Duration::from_millis(1));
    });
    // What is counted may be seen just before its count: a result, or a task that a timer woke on another worker.
    wait_for(|| runtime.metrics().finished == 101 && runtime.metrics().timers_fired >= 1);
    let metrics = runtime.metrics();
    assert_eq!(metrics.processors, 2);
    assert_eq!((metrics.spawned, metrics.finished), (101, 101));
    assert!(metrics.switches >= 101 && metrics.parks >= 1, "{metrics:#?}");
    wait_for(|| runtime.metrics().processors_idle == 2);
    assert_eq!(runtime.metrics().global_queue, 0);
}
