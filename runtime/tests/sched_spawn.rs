//! Spawning: storms of it, from everywhere; closures and results are dropped exactly once.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use util::{Gate, Watchdog, on_each, run_on, start_with, wait_for};

/// Counts how many there are, and how often one was dropped.
struct Counted {
    drops: Arc<AtomicUsize>,
    alive: bool,
}

impl Counted {
    fn new(drops: &Arc<AtomicUsize>) -> Counted {
        Counted {
            drops: drops.clone(),
            alive: true,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(std::mem::replace(&mut self.alive, false), "dropped twice");
        self.drops.fetch_add(1, AcqRel);
    }
}

#[test]
fn a_storm_from_one_task() {
    on_each(|| {
        let tasks: Vec<_> = (0..20_000_usize).map(|i| bast::spawn(move || i)).collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), i);
        }
    });
}

#[test]
fn a_storm_from_many_tasks_at_once() {
    on_each(|| {
        let parents: Vec<_> = (0..16_usize)
            .map(|parent| {
                bast::spawn(move || {
                    let children: Vec<_> = (0..500).map(|i| bast::spawn(move || parent * i)).collect();
                    children
                        .into_iter()
                        .map(|child| child.join().unwrap())
                        .sum::<usize>()
                })
            })
            .collect();
        let sum: usize = parents.into_iter().map(|parent| parent.join().unwrap()).sum();
        assert_eq!(sum, (0..16).sum::<usize>() * (0..500).sum::<usize>());
    });
}

#[test]
fn a_storm_from_plain_threads() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let threads: Vec<_> = (0..4_usize)
            .map(|thread| {
                let handle = runtime.handle();
                std::thread::spawn(move || {
                    let tasks: Vec<_> = (0..2_000)
                        .map(|i| handle.spawn(move || thread * 10_000 + i).unwrap())
                        .collect();
                    for (i, task) in tasks.into_iter().enumerate() {
                        assert_eq!(task.join().unwrap(), thread * 10_000 + i);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn threads_and_tasks_spawn_at_once() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        let count = Arc::new(AtomicUsize::new(0));
        let handle = runtime.handle();
        let counted = count.clone();
        let thread = std::thread::spawn(move || {
            for _ in 0..3_000 {
                let counted = counted.clone();
                drop(handle.spawn(move || counted.fetch_add(1, AcqRel)).unwrap());
            }
        });
        runtime.run(|| {
            for _ in 0..3_000 {
                let count = count.clone();
                drop(bast::spawn(move || count.fetch_add(1, AcqRel)));
            }
            wait_for(|| count.load(Acquire) == 6_000);
        });
        thread.join().unwrap();
    }
}

fn tree(depth: usize) -> usize {
    if depth == 0 {
        return 1;
    }
    let children = [0, 1, 2].map(|_| bast::spawn(move || tree(depth - 1)));
    children.into_iter().map(|child| child.join().unwrap()).sum()
}

#[test]
fn nested_spawns() {
    on_each(|| assert_eq!(tree(7), 3_usize.pow(7)));
}

#[test]
fn a_chain_of_spawns_each_from_the_one_before() {
    fn link(left: usize, done: Arc<Gate>) {
        match left {
            0 => done.open(),
            left => drop(bast::spawn(move || link(left - 1, done))),
        }
    }
    on_each(|| {
        let done = Gate::new();
        link(10_000, done.clone());
        done.wait();
    });
}

/// Debug builds would take minutes.
#[cfg(not(debug_assertions))]
#[test]
fn a_million_spawned_and_joined() {
    for processors in [1, 2] {
        let sum = run_on(processors, || {
            (0..1_000_000_u64)
                .map(|i| bast::spawn(move || i).join().unwrap())
                .sum::<u64>()
        });
        assert_eq!(sum, 1_000_000 * 999_999 / 2);
        let sum = run_on(processors, || {
            let tasks: Vec<_> = (0..1_000_000_u64).map(|i| bast::spawn(move || i)).collect();
            tasks.into_iter().map(|task| task.join().unwrap()).sum::<u64>()
        });
        assert_eq!(sum, 1_000_000 * 999_999 / 2);
    }
}

#[test]
fn detached_tasks_run() {
    on_each(|| {
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..1_000 {
            let ran = ran.clone();
            drop(bast::spawn(move || ran.fetch_add(1, AcqRel)));
        }
        wait_for(|| ran.load(Acquire) == 1_000);
    });
}

#[test]
fn results_and_closures_of_every_size() {
    fn check<const N: usize>() {
        let sent = [7_u8; N];
        let got = bast::spawn(move || sent).join().unwrap();
        assert_eq!(got, sent);
        // A small closure with a large result, and the other way round.
        let got = bast::spawn(|| [9_u8; N]).join().unwrap();
        assert_eq!(got, [9; N]);
        let sum = bast::spawn(move || sent.iter().map(|&byte| u64::from(byte)).sum::<u64>())
            .join()
            .unwrap();
        assert_eq!(sum, 7 * N as u64);
    }
    #[repr(align(128))]
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Aligned(u8);
    on_each(|| {
        check::<0>();
        check::<1>();
        check::<8>();
        check::<40>();
        check::<64>();
        check::<100>();
        check::<4096>();
        let sent = Aligned(3);
        let got = bast::spawn(move || (std::ptr::from_ref(&sent) as usize % 128, sent))
            .join()
            .unwrap();
        assert_eq!(got, (0, Aligned(3)));
    });
}

#[test]
fn what_a_closure_holds_is_dropped_once_when_it_has_run() {
    on_each(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let held = Counted::new(&drops);
                bast::spawn(move || _ = std::hint::black_box(&held))
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(drops.load(Acquire), 200);
    });
}

#[test]
fn a_result_nobody_asks_for_is_dropped_once() {
    on_each(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let drops = drops.clone();
            drop(bast::spawn(move || Counted::new(&drops))); // the handle goes first
        }
        wait_for(|| drops.load(Acquire) == 100);
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let drops = drops.clone();
                bast::spawn(move || Counted::new(&drops))
            })
            .collect();
        wait_for(|| tasks.iter().all(bast::JoinHandle::is_finished));
        assert_eq!(
            drops.load(Acquire),
            100,
            "a result was dropped while its handle lived"
        );
        drop(tasks); // the task goes first
        assert_eq!(drops.load(Acquire), 200);
        let result = {
            let drops = drops.clone();
            bast::spawn(move || Counted::new(&drops)).join().unwrap()
        };
        assert_eq!(drops.load(Acquire), 200, "join must hand the result over whole");
        drop(result);
        assert_eq!(drops.load(Acquire), 201);
    });
}

/// The race of a task's end with its handle's drop.
#[test]
fn handles_dropped_while_their_tasks_end() {
    on_each(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        for round in 0..2_000_usize {
            let own = drops.clone();
            let task = bast::spawn(move || Counted::new(&own));
            if round % 3 == 0 {
                bast::task::yield_now();
            }
            drop(task);
        }
        wait_for(|| drops.load(Acquire) == 2_000);
    });
}

#[test]
fn a_closure_that_never_ran_is_dropped_at_the_end() {
    for processors in util::PROCESSORS {
        let drops = Arc::new(AtomicUsize::new(0));
        let mut handles = Vec::new();
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        runtime.run(|| {
            // Main does not wait: what has not run when it returns never does.
            for _ in 0..500 {
                let held = Counted::new(&drops);
                handles.push(bast::spawn(move || drop(held)));
            }
        });
        drop(runtime);
        assert_eq!(drops.load(Acquire), 500);
        for handle in handles {
            if let Err(error) = handle.join() {
                assert!(error.is_shutdown(), "{error}");
            }
        }
        assert_eq!(drops.load(Acquire), 500);
    }
}

#[test]
fn a_refused_spawn_drops_the_closure() {
    let drops = Arc::new(AtomicUsize::new(0));
    let held = Counted::new(&drops);
    let error = bast::try_spawn(move || drop(held)).unwrap_err();
    assert!(error.is_no_runtime());
    assert!(error.to_string().contains("Handle::spawn"), "{error}");
    assert_eq!(drops.load(Acquire), 1);

    let runtime = start_with(1);
    let handle = runtime.handle();
    drop(runtime);
    let held = Counted::new(&drops);
    let error = handle.spawn(move || drop(held)).unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert_eq!(drops.load(Acquire), 2);

    run_on(1, || {
        let held = Counted::new(&drops);
        let error = bast::task::Builder::new()
            .stack_size(9 << 20)
            .spawn(move || drop(held))
            .unwrap_err();
        assert!(error.to_string().contains("on_big_stack"), "{error}");
        assert_eq!(drops.load(Acquire), 3);
    });
}

#[test]
fn spawn_outside_a_runtime_panics_with_what_to_do() {
    let panic = std::panic::catch_unwind(|| bast::spawn(|| ())).unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    assert!(text.contains("bast::run"), "{text}");
}

/// Panics when dropped.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, AcqRel);
        resume_unwind(Box::new("a bomb went off")); // without the hook's noise
    }
}

#[test]
fn a_destructor_that_panics_harms_nobody_else() {
    on_each(|| {
        let went_off = Arc::new(AtomicUsize::new(0));
        for _ in 0..50 {
            // Among the closure's captures: it is the task's panic.
            let bomb = Bomb(went_off.clone());
            let task = bast::spawn(move || _ = std::hint::black_box(&bomb));
            assert_eq!(
                *task.join().unwrap_err().into_panic().downcast::<&str>().unwrap(),
                "a bomb went off"
            );
        }
        assert_eq!(went_off.load(Acquire), 50);
        // The result of a detached task: nobody's panic, or the dropper's if the task was faster.
        for _ in 0..50 {
            let went_off = went_off.clone();
            let task = bast::spawn(move || Bomb(went_off));
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(task)));
        }
        wait_for(|| went_off.load(Acquire) == 100);
        // The result of a finished task whose handle is dropped: the dropper's panic, or nobody's.
        for _ in 0..50 {
            let own = went_off.clone();
            let task = bast::spawn(move || Bomb(own));
            wait_for(|| task.is_finished());
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(task)));
        }
        assert_eq!(went_off.load(Acquire), 150);
        assert_eq!(bast::spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn a_closure_that_never_ran_and_panics_in_its_drop() {
    let went_off = Arc::new(AtomicUsize::new(0));
    let runtime = start_with(1);
    let _watchdog = Watchdog::start("1 processor", Some(runtime.handle()));
    let own = went_off.clone();
    let task = runtime.run(move || {
        let bomb = Bomb(own);
        bast::spawn(move || _ = std::hint::black_box(&bomb))
    });
    drop(runtime);
    assert_eq!(went_off.load(Acquire), 1);
    let error = task.join().unwrap_err();
    assert!(error.is_shutdown() || error.is_panic(), "{error}");
}

#[test]
fn ids_are_unique_and_never_used_again() {
    on_each(|| {
        let mut ids: Vec<u64> = Vec::new();
        for _ in 0..10 {
            let tasks: Vec<_> = (0..300)
                .map(|_| bast::spawn(|| bast::task::current().id()))
                .collect();
            for task in tasks {
                let id = task.id();
                assert_eq!(task.join().unwrap(), id);
                ids.push(id.as_u64());
            }
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    });
}

#[test]
fn names_and_stack_sizes_of_single_tasks() {
    on_each(|| {
        let named = bast::task::Builder::new().name("parser").spawn(|| {
            bast::task::yield_now();
            bast::task::current().name().map(str::to_owned)
        });
        assert_eq!(named.unwrap().join().unwrap().as_deref(), Some("parser"));
        assert_eq!(bast::task::current().name(), None);
        for size in [1, 64 << 10, 100 << 10, 1 << 20, 8 << 20] {
            let used = bast::task::Builder::new()
                .stack_size(size)
                .spawn(move || use_stack(size / 2, 0))
                .unwrap();
            assert!(used.join().unwrap() >= size / 2);
        }
    });
}

/// Uses at least so much stack below `base`, by recursion.
#[inline(never)]
fn use_stack(bytes: usize, base: usize) -> usize {
    let frame = std::hint::black_box([1_u8; 512]);
    let here = std::ptr::from_ref(&frame) as usize;
    let used = base.saturating_sub(here);
    let deepest = if used >= bytes {
        used
    } else {
        use_stack(bytes, base.max(here))
    };
    deepest + usize::from(std::hint::black_box(frame)[0]) - 1
}

#[test]
fn counts_add_up() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        runtime.run(|| {
            let tasks: Vec<_> = (0..1_000).map(|_| bast::spawn(bast::task::yield_now)).collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
        let handle = runtime.handle();
        drop(runtime);
        let metrics = handle.metrics();
        assert_eq!(metrics.spawned, 1_001, "{metrics:#?}");
        assert_eq!(metrics.finished, 1_001, "{metrics:#?}");
        assert_eq!(metrics.tasks_alive(), 0);
        assert_eq!(metrics.workers, 0);
    }
}
