//! Priorities: the bound that `sched::priority` states, counted in turns, and that nothing is lost on the way.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::task::{self, Builder, Priority, checkpoint, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use util::{Gate, Watchdog, on_each, start, start_with};

const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
/// Picks of high priority in a row.
const HIGH_MAX: u64 = 8;
/// Rounds between two looks at the lists of low priority.
const TURN: u64 = 61;

fn with(priority: Priority) -> Builder {
    Builder::new().priority(priority)
}

/// Runs `main` with one processor that no task loses by its slice, so that every round is one of the tasks' own doing. A busy
/// machine may keep the worker off its CPU for so long that it looks blocked. Then the processor is taken from it, or, amid
/// a call into bast, the task that made the call has to yield: what was seen meanwhile does not count ([`Seized`]).
fn on_one(main: impl FnOnce(&bast::Handle) + Send) {
    let runtime = start(
        bast::Builder::new()
            .processors(1)
            .slice(Duration::from_secs(3_600)),
    );
    let handle = runtime.handle();
    let _watchdog = Watchdog::start("1 processor", Some(handle.clone()));
    runtime.run(|| main(&handle));
}

/// Processors that were taken from tasks, and yields.
struct Seized {
    detaches: u64,
    yields: u64,
}

impl Seized {
    fn now(handle: &bast::Handle) -> Seized {
        let bast::Metrics { detaches, yields, .. } = handle.metrics();
        Seized { detaches, yields }
    }

    /// Has every task kept its processor, but for `own` yields, since this?
    fn only(self, own: u64, handle: &bast::Handle) -> bool {
        let now = Seized::now(handle);
        let chaos = cfg!(bast_chaos); // it has tasks yield
        now.detaches == self.detaches && (chaos || now.yields == self.yields + own)
    }
}

/// Chaos makes rounds of its own.
fn slack(rounds: u64) -> u64 {
    if cfg!(bast_chaos) { 8 * rounds } else { rounds }
}

/// Tasks that yield until told to stop, each with `priority`, and count their turns.
struct Yielders {
    stop: AtomicBool,
    turns: AtomicU64,
}

impl Yielders {
    fn new() -> Yielders {
        Yielders {
            stop: AtomicBool::new(false),
            turns: AtomicU64::new(0),
        }
    }

    fn spawn<'scope>(&'scope self, s: &'scope task::Scope<'scope, '_>, priority: Priority, count: usize) {
        for _ in 0..count {
            let spawned = with(priority).spawn_scoped(s, || {
                while !self.stop.load(Relaxed) {
                    self.turns.fetch_add(1, Relaxed);
                    yield_now();
                }
            });
            drop(spawned.unwrap());
        }
    }

    fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    /// The most turns of these between two of the calling task, which yields so many times.
    fn worst_wait(&self, times: usize, handle: &bast::Handle) -> u64 {
        let yield_once = || {
            let seized = Seized::now(handle);
            checkpoint(); // whatever was taken or asked before that is settled
            let before = self.turns();
            yield_now();
            let waited = self.turns() - before;
            seized.only(waited + 1, handle).then_some(waited) // each turn ends with a yield
        };
        std::iter::repeat_with(yield_once)
            .flatten()
            .take(times)
            .max()
            .unwrap()
    }
}

/// Runs `count` yields of one task beside `others` and gives its worst wait.
fn worst_of(priority: Priority, others: &[(Priority, usize)]) -> u64 {
    let worst = AtomicU64::new(0);
    on_one(|handle| {
        let yielders = Yielders::new();
        bast::scope(|s| {
            others
                .iter()
                .for_each(|&(priority, count)| yielders.spawn(s, priority, count));
            let measured = with(priority).spawn_scoped(s, || {
                yield_now(); // once all are there
                yielders.worst_wait(300, handle)
            });
            worst.store(measured.unwrap().join().unwrap(), Relaxed);
            yielders.stop.store(true, Relaxed);
        });
    });
    worst.into_inner()
}

#[test]
fn high_leaves_one_round_in_nine() {
    for others in 1..4 {
        let worst = worst_of(Priority::Normal, &[(Priority::High, others)]);
        // The task that measures is alone among the ordinary ones, so the first turn that is left is its.
        assert!(
            worst <= slack(HIGH_MAX),
            "an ordinary task waited for {worst} turns"
        );
        assert!(worst >= others as u64, "high priority was not preferred: {worst}");
    }
}

#[test]
fn high_waits_for_one_round_in_nine_at_most() {
    let worst = worst_of(Priority::High, &[(Priority::Normal, 20), (Priority::Low, 20)]);
    // Never two others in a row, but for the round in which the global queue is looked at, and the main task's.
    assert!(
        worst <= slack(3),
        "a task of high priority waited for {worst} turns"
    );
}

#[test]
fn low_is_raised_every_61_rounds() {
    for ring in [1, 10, 100] {
        let worst = worst_of(Priority::Low, &[(Priority::Normal, ring)]);
        // To be raised, and then the ring before it.
        let most = TURN + ring as u64 + 1;
        assert!(
            worst <= slack(most),
            "a task of low priority waited for {worst} turns"
        );
        // Of a ring of one each turn is two rounds: one on the task's stack, one at home.
        assert!(worst >= TURN / 2, "low priority is like the others: {worst}");
    }
}

/// Runs `main` beside a task that yields, alone but for the two that it spawns every so many turns: a turn is two rounds, one
/// on its stack and one at home, or it is three, so that the 61st round may begin at the same place time and again.
fn beside_a_rhythm(main: impl Fn(&Arc<Yielders>, &bast::Handle) + Sync) {
    for period in 28..=32 {
        on_one(|handle| {
            let yielders = Arc::new(Yielders::new());
            bast::scope(|s| {
                s.spawn(|| {
                    while !yielders.stop.load(Relaxed) {
                        if yielders.turns.fetch_add(1, Relaxed).is_multiple_of(period) {
                            drop([bast::spawn(|| ()), bast::spawn(|| ())]);
                        }
                        yield_now();
                    }
                });
                let measured = with(Priority::Low).spawn_scoped(s, || {
                    yield_now(); // once it is there
                    main(&yielders, handle);
                });
                let result = measured.unwrap().join();
                yielders.stop.store(true, Relaxed);
                result.unwrap();
            });
        });
    }
}

#[test]
fn low_is_raised_wherever_the_round_begins() {
    beside_a_rhythm(|yielders, handle| {
        let worst = yielders.worst_wait(300, handle);
        assert!(
            worst <= slack(TURN + 2),
            "a task of low priority waited for {worst} turns"
        );
    });
}

/// There is what plain threads spawn.
#[test]
fn the_global_queue_is_looked_at_wherever_the_round_begins() {
    beside_a_rhythm(|yielders, handle| {
        let spawn_one = || {
            let detaches = handle.metrics().detaches;
            let own = Arc::clone(yielders);
            let spawned = handle.spawn(move || own.turns()).unwrap();
            let before = yielders.turns();
            let waited = spawned.join().unwrap().saturating_sub(before);
            (handle.metrics().detaches == detaches).then_some(waited)
        };
        let worst = || std::iter::repeat_with(spawn_one).flatten().take(100).max();
        let worst = bast::blocking(|| std::thread::scope(|s| s.spawn(worst).join()));
        let worst = worst.unwrap().unwrap();
        assert!(
            worst <= slack(TURN + 2),
            "a task in the global queue waited for {worst} turns"
        );
    });
}

#[test]
fn low_is_not_starved_by_both_others() {
    let worst = worst_of(Priority::Low, &[(Priority::High, 3), (Priority::Normal, 10)]);
    let most = TURN + (HIGH_MAX + 1) * 11;
    assert!(
        worst <= slack(most),
        "a task of low priority waited for {worst} turns"
    );
}

/// Others of low priority come first, one in 61 rounds.
#[test]
fn low_ones_come_in_order() {
    let worst = worst_of(Priority::Low, &[(Priority::Low, 5), (Priority::Normal, 1)]);
    let most = (TURN + 2) * 6;
    assert!(
        worst <= slack(most),
        "a task of low priority waited for {worst} turns"
    );
}

/// Alone, tasks of low priority run like any others.
#[test]
fn low_alone_is_not_held_back() {
    let worst = worst_of(Priority::Low, &[(Priority::Low, 5)]);
    assert!(worst <= slack(2 * 5), "waited for {worst} turns of five tasks");
}

#[test]
fn what_waits_runs_in_the_order_of_priority() {
    const EACH: usize = 24;
    on_one(|handle| {
        let order = loop {
            let seized = Seized::now(handle);
            let order = Mutex::new(Vec::new());
            bast::scope(|s| {
                for priority in [Priority::Low, Priority::Normal, Priority::High] {
                    for _ in 0..EACH {
                        drop(
                            with(priority)
                                .spawn_scoped(s, || order.lock().unwrap().push(task::current().priority())),
                        );
                    }
                }
            });
            let order = order.into_inner().unwrap();
            assert_eq!(order.len(), 3 * EACH);
            if cfg!(bast_chaos) {
                return; // it makes an order of its own
            }
            if seized.only(0, handle) {
                break order;
            }
        };
        let before_last = |first: Priority, last: Priority| {
            let end = order.iter().rposition(|&priority| priority == first).unwrap();
            order[..end].iter().filter(|&&priority| priority == last).count()
        };
        // One turn in nine; and low only by the looks of the 61st rounds, of which there are two at most.
        assert!(
            before_last(Priority::High, Priority::Normal) <= EACH / HIGH_MAX as usize,
            "{order:?}"
        );
        assert!(before_last(Priority::Normal, Priority::Low) <= 2, "{order:?}");
    });
}

#[test]
fn the_priority_is_the_tasks_own() {
    on_each(|| {
        assert_eq!(task::current().priority(), Priority::Normal);
        for priority in ALL {
            let spawned = with(priority).name("named").spawn(move || {
                assert_eq!(task::current().priority(), priority);
                assert_eq!(
                    bast::spawn(|| task::current().priority()).join().unwrap(),
                    Priority::Normal
                );
            });
            let spawned = spawned.unwrap();
            let (handle, id) = (spawned.task(), spawned.id().as_u64());
            spawned.join().unwrap();
            assert_eq!((handle.priority(), handle.name()), (priority, Some("named")));
            assert!(id < 1 << 40, "the number of a task shows no priority: {id}");
        }
    });
}

/// Every way of becoming runnable, with every priority at once.
#[test]
fn nothing_is_lost() {
    on_each(|| {
        let done = AtomicUsize::new(0);
        let (sender, receiver) = bast::sync::channel::bounded(2);
        bast::scope(|s| {
            for i in 0..150_usize {
                let (done, sender, receiver) = (&done, sender.clone(), receiver.clone());
                let spawned = with(ALL[i % 3]).spawn_scoped(s, move || {
                    for round in 0..10 {
                        match (i + round) % 5 {
                            0 => yield_now(),
                            1 => bast::time::sleep(Duration::from_micros(20)),
                            2 | 3 => {
                                sender.send(i).unwrap();
                                receiver.recv().unwrap();
                            }
                            _ => {
                                let me = task::current();
                                let waker = with(ALL[round % 3]).spawn(move || me.unpark());
                                task::park();
                                waker.unwrap().join().unwrap();
                            }
                        }
                    }
                    done.fetch_add(1, Relaxed);
                });
                drop(spawned);
            }
        });
        assert_eq!(done.load(Relaxed), 150);
    });
}

/// Sleeping workers are woken for them, also by plain threads.
#[test]
fn an_idle_runtime_wakes_up() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        for round in 0..60 {
            let ran = AtomicUsize::new(0);
            runtime.scope(|s| {
                for i in 0..3 {
                    drop(with(ALL[(i + round) % 3]).spawn_scoped(s, || ran.fetch_add(1, Relaxed)));
                }
            });
            assert_eq!(ran.load(Relaxed), 3);
            if round % 10 == 0 {
                std::thread::sleep(Duration::from_millis(2)); // so that all workers sleep
            }
        }
    }
}

/// On several processors: ordinary and low tasks come to their end beside high ones that never wait.
#[test]
fn none_starves_on_several_processors() {
    for processors in util::PROCESSORS {
        let runtime = start_with(processors);
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        runtime.run(|| {
            let yielders = Yielders::new();
            bast::scope(|s| {
                yielders.spawn(s, Priority::High, 2 * processors);
                let others: Vec<_> = [Priority::Normal, Priority::Low]
                    .into_iter()
                    .cycle()
                    .take(4 * processors)
                    .map(|priority| {
                        with(priority)
                            .spawn_scoped(s, || (0..50).for_each(|_| yield_now()))
                            .unwrap()
                    })
                    .collect();
                others.into_iter().for_each(|task| task.join().unwrap());
                yielders.stop.store(true, Relaxed);
            });
        });
    }
}

/// A task that parks while it panics comes back to its own worker, whatever its priority.
#[test]
fn a_panicking_task_of_any_priority_may_wait() {
    struct Sleeps<'a>(&'a AtomicUsize);
    impl Drop for Sleeps<'_> {
        fn drop(&mut self) {
            let me = std::thread::current().id();
            bast::time::sleep(Duration::from_micros(200));
            assert_eq!(std::thread::current().id(), me);
            self.0.fetch_add(1, Relaxed);
        }
    }
    on_each(|| {
        let slept = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            bast::scope(|s| {
                for i in 0..12 {
                    let slept = &slept;
                    let spawned = with(ALL[i % 3]).spawn_scoped(s, move || {
                        let _sleeps = Sleeps(slept);
                        panic!("on purpose");
                    });
                    drop(spawned);
                }
            });
        }));
        assert!(result.is_err());
        assert_eq!(slept.load(Relaxed), 12);
    });
}

/// What is in the lists when the runtime ends is dropped, as what is in the queues.
#[test]
fn the_end_finds_them() {
    struct Counts(std::sync::Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let dropped = std::sync::Arc::new(AtomicUsize::new(0));
    let busy = Gate::new();
    let runtime = start(
        bast::Builder::new()
            .processors(1)
            .slice(Duration::from_secs(3_600)),
    );
    runtime.run(|| {
        for i in 0..90 {
            let counts = Counts(dropped.clone());
            let busy = busy.clone();
            let task = with(ALL[i % 3]).spawn(move || {
                let _counts = counts;
                busy.open();
            });
            drop(task);
        }
    });
    drop(runtime);
    assert_eq!(dropped.load(Relaxed), 90);
}
