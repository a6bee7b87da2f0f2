//! Models of who searches and who sleeps (`runtime/src/sched/idle.rs`). What each proves is in the README here.
//!
//! `World` does what `sched::find` and `sched::shared` do around the two counts, step by step. The rings of all
//! processors are one counter, Relaxed throughout, so that nothing but the protocol's fences can make a task
//! visible; the global queue has its lock besides. A worker that was woken runs once the threads have ended.
#![cfg(bast_loom)]

use bast::protocol::idle::Idle;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

struct World {
    idle: Idle,
    rings: AtomicUsize,
    global_len: AtomicUsize,
    lists: Mutex<Lists>,
}

/// What came of a worker that wanted to sleep.
#[derive(Debug, PartialEq, Eq)]
enum Slept {
    /// It has its processor still, and is counted as before.
    AsBefore,
    /// It has a processor again and is counted as a searcher.
    Searching,
    Asleep,
}

/// Under the scheduler's lock.
#[derive(Default)]
struct Lists {
    global: usize,
    idle_processors: usize,
    /// Workers that sleep or are about to.
    sleeping: Vec<usize>,
    /// Workers under way with a processor, counted as searchers.
    woken: usize,
    /// Threads that cannot be started any more.
    refused: bool,
    /// Workers that sleep with their task. Each makes room for a thread.
    bound: usize,
}

impl World {
    /// `idle` processors that nobody holds and `searching` workers that hold one and search.
    fn new(idle: usize, searching: usize) -> Arc<Self> {
        let lists = Mutex::new(Lists {
            idle_processors: idle,
            ..Lists::default()
        });
        let world = Self {
            idle: Idle::new(idle),
            rings: AtomicUsize::new(0),
            global_len: AtomicUsize::new(0),
            lists,
        };
        for _ in 0..searching {
            world.idle.begin_search();
        }
        Arc::new(world)
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap()
    }

    /// `Inside::ready`: a task goes to the publisher's own ring.
    fn publish(&self) {
        self.rings.fetch_add(1, Relaxed);
        self.wake_one();
    }

    /// `Shared::inject`: a task comes from outside.
    fn inject(&self) {
        let mut lists = self.lock();
        lists.global += 1;
        self.global_len.store(lists.global, Relaxed);
        drop(lists);
        self.wake_one();
    }

    fn wake_one(&self) {
        if self.idle.claim_wake() {
            self.wake_claimed();
        }
    }

    fn wake_claimed(&self) {
        let mut lists = self.lock();
        if !self.pop_idle_processor(&mut lists) {
            self.idle.cancel_wake();
            return;
        }
        drop(lists);
        self.run_processor(true);
    }

    /// A sleeper, or a new thread, if one can be started.
    fn run_processor(&self, searching: bool) -> bool {
        let mut lists = self.lock();
        if lists.sleeping.pop().is_some() {
            self.wake(&mut lists, searching);
            return true;
        }
        drop(lists);
        let mut lists = self.lock(); // `worker_started`: the limit
        if lists.bound > 0 {
            lists.bound -= 1;
            self.wake(&mut lists, searching);
            return true;
        }
        if !lists.refused {
            self.wake(&mut lists, searching);
            return true;
        }
        drop(lists);
        self.leave_idle(searching)
    }

    fn wake(&self, lists: &mut Lists, searching: bool) {
        lists.woken += 1;
        if !searching {
            self.idle.begin_search(); // woken workers are counted alike here
        }
    }

    fn leave_idle(&self, searching: bool) -> bool {
        let mut lists = self.lock();
        if lists.sleeping.pop().is_some() {
            self.wake(&mut lists, searching);
            return true;
        }
        self.push_idle_processor(&mut lists); // S1
        if searching {
            self.idle.cancel_wake(); // S2
        }
        drop(lists);
        self.idle.end_unsearched(); // S3
        if self.has_any_work() && self.lock().bound > 0 {
            self.wake_one(); // S4
        }
        false
    }

    fn pop_idle_processor(&self, lists: &mut Lists) -> bool {
        if lists.idle_processors == 0 {
            return false;
        }
        lists.idle_processors -= 1;
        self.idle.processor_acquired();
        true
    }

    fn push_idle_processor(&self, lists: &mut Lists) {
        lists.idle_processors += 1;
        self.idle.processor_released();
    }

    fn has_any_work(&self) -> bool {
        self.global_len.load(Relaxed) > 0 || self.rings.load(Relaxed) > 0
    }

    /// From the global queue or from any ring.
    fn take(&self) -> bool {
        if self.global_len.load(Relaxed) > 0 {
            let mut lists = self.lock();
            if lists.global > 0 {
                lists.global -= 1;
                self.global_len.store(lists.global, Relaxed);
                return true;
            }
        }
        self.rings
            .fetch_update(Relaxed, Relaxed, |tasks| tasks.checked_sub(1))
            .is_ok()
    }

    /// Worker `me`, with a processor and counted as a searcher. It runs the first task it finds for ever.
    fn search(&self, me: usize) {
        while !self.take() {
            if self.sleep_until_work(me, true) == Slept::Asleep {
                return;
            }
        }
        // F1, F2, F3
        if self.idle.end_search_found() && self.has_any_work() {
            self.wake_one();
        }
    }

    /// Worker `me`, with a processor, runs out of tasks while too many search for it to search as well.
    fn run_out(&self, me: usize) {
        loop {
            if self.global_len.load(Relaxed) > 0 {
                let mut lists = self.lock();
                if lists.global > 0 {
                    lists.global -= 1;
                    self.global_len.store(lists.global, Relaxed);
                    return; // runs it for ever
                }
            }
            match self.sleep_until_work(me, false) {
                Slept::Searching => return self.search(me),
                Slept::AsBefore => {}
                Slept::Asleep => return,
            }
        }
    }

    fn sleep_until_work(&self, me: usize, searching: bool) -> Slept {
        let mut lists = self.lock();
        if self.global_len.load(Relaxed) > 0 {
            return Slept::AsBefore;
        }
        self.push_idle_processor(&mut lists); // S1
        self.doze_off(me, searching, lists)
    }

    fn doze_off(&self, me: usize, searching: bool, mut lists: MutexGuard<'_, Lists>) -> Slept {
        lists.sleeping.push(me);
        drop(lists);
        if searching {
            self.idle.end_search_empty(); // S2, S3
        } else {
            self.idle.end_unsearched(); // S3
        }
        if self.has_any_work() && self.reclaim(me) {
            return Slept::Searching; // S4
        }
        Slept::Asleep
    }

    fn reclaim(&self, me: usize) -> bool {
        let mut lists = self.lock();
        let Some(place) = lists.sleeping.iter().position(|&worker| worker == me) else {
            return false;
        };
        if !self.pop_idle_processor(&mut lists) {
            return false;
        }
        lists.sleeping.swap_remove(place);
        drop(lists);
        self.idle.begin_search();
        true
    }

    /// `give_processor` when there seems to be nothing to do: the worker goes into a blocking section.
    fn give_processor(&self) {
        let mut lists = self.lock();
        self.push_idle_processor(&mut lists); // S1
        drop(lists);
        self.idle.end_unsearched(); // S3
        if self.has_any_work() {
            self.wake_one(); // S4
        }
    }

    /// `take_idle_processor`: the worker comes back from a blocking section and runs its task.
    fn regain(&self) -> bool {
        self.pop_idle_processor(&mut self.lock())
    }

    /// `regain` without an idle processor: the task goes to the global queue, and the worker sleeps without one.
    fn come_back(&self, me: usize) {
        if self.regain() {
            return; // runs its task for ever
        }
        self.inject();
        if self.doze_off(me, false, self.lock()) == Slept::Searching {
            self.search(me);
        }
    }

    /// The same of a task that keeps its worker.
    fn come_back_bound(&self) {
        if self.regain() {
            return;
        }
        self.inject();
        self.lock().bound += 1;
        self.idle.end_unsearched(); // S3
        if self.has_any_work() {
            self.wake_one(); // S4
        }
    }

    /// The monitor has taken the processor of a worker and finds nobody to run it; `give_processor` when there seems to
    /// be something to do.
    fn give_in_vain(&self) {
        if self.run_processor(false) {
            return;
        }
        self.idle.end_unsearched(); // S3
        if self.has_any_work() {
            self.wake_one(); // S4
        }
    }

    /// The workers that were woken run; then no task may wait beside an idle processor.
    fn settle(&self) {
        for me in 100.. {
            let mut lists = self.lock();
            if lists.woken == 0 {
                break;
            }
            lists.woken -= 1;
            drop(lists);
            self.search(me);
        }
        let (searching, idle) = self.idle.counts();
        assert_eq!(searching, 0);
        assert_eq!(idle, self.lock().idle_processors);
        let lists = self.lock();
        let nobody = lists.refused && lists.bound == 0 && lists.sleeping.is_empty();
        assert!(
            !self.has_any_work() || idle == 0 || nobody,
            "a task waits beside an idle processor"
        );
    }
}

fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// The store-load pair: planted `idle_no_publish_fence`, `idle_no_sleep_fence`.
#[test]
fn work_published_while_the_last_searcher_gives_up() {
    loom::model(|| {
        let world = World::new(0, 1);
        let searcher = spawn(&world, |world| world.search(0));
        world.publish();
        searcher.join().unwrap();
        world.settle();
    });
}

#[test]
fn work_from_outside_while_the_last_searcher_gives_up() {
    loom::model(|| {
        let world = World::new(0, 1);
        let searcher = spawn(&world, |world| world.search(0));
        world.inject();
        searcher.join().unwrap();
        world.settle();
    });
}

/// Planted: `idle_no_successor`, `idle_no_found_fence`.
#[test]
fn a_searcher_that_finds_work_wakes_a_successor_for_the_rest() {
    loom::model(|| {
        let world = World::new(1, 1);
        let searcher = spawn(&world, |world| world.search(0));
        world.publish();
        world.publish();
        searcher.join().unwrap();
        world.settle();
    });
}

/// The last searcher sees no processor idle while one is being left, whose worker looks for itself.
#[test]
fn a_searcher_that_finds_work_while_a_processor_comes_to_idle() {
    loom::model(|| {
        let world = World::new(0, 1);
        let searcher = spawn(&world, |world| world.search(0));
        let blocking = spawn(&world, World::give_processor);
        world.publish();
        world.publish();
        searcher.join().unwrap();
        blocking.join().unwrap();
        world.settle();
    });
}

#[test]
fn two_publishers_and_an_idle_pair() {
    loom::model(|| {
        let world = World::new(2, 0);
        let other = spawn(&world, World::publish);
        world.inject();
        other.join().unwrap();
        world.settle();
    });
}

#[test]
fn two_publishers_while_the_last_searcher_gives_up() {
    loom::model(|| {
        let world = World::new(0, 1);
        let searcher = spawn(&world, |world| world.search(0));
        let other = spawn(&world, World::inject);
        world.publish();
        searcher.join().unwrap();
        other.join().unwrap();
        world.settle();
    });
}

#[test]
fn two_searchers_give_up_at_once() {
    loom::model(|| {
        let world = World::new(0, 2);
        let searchers = [0, 1].map(|me| spawn(&world, move |world| world.search(me)));
        world.publish();
        for searcher in searchers {
            searcher.join().unwrap();
        }
        world.settle();
    });
}

/// Two searchers leave a third worker none to search for; both find work, and more is left.
#[test]
fn a_worker_that_may_not_search_looks_before_it_sleeps() {
    loom::model(|| {
        let world = World::new(0, 2);
        // Of four processors: a publisher's, two searchers', and ours.
        assert!(!world.idle.try_begin_search(4), "half of them search");
        let searchers = [0, 1].map(|me| spawn(&world, move |world| world.search(me)));
        for _ in 0..3 {
            world.publish();
        }
        world.run_out(2);
        for searcher in searchers {
            searcher.join().unwrap();
        }
        world.settle();
    });
}

#[test]
fn a_worker_that_may_not_search_meets_the_last_searcher() {
    loom::model(|| {
        let world = World::new(0, 1);
        let searcher = spawn(&world, |world| world.search(0));
        let other = spawn(&world, |world| world.run_out(1));
        world.publish();
        world.publish();
        searcher.join().unwrap();
        other.join().unwrap();
        world.settle();
    });
}

#[test]
fn work_from_outside_while_a_worker_that_may_not_search_sleeps() {
    loom::model(|| {
        let world = World::new(0, 0);
        let other = spawn(&world, |world| world.run_out(1));
        world.inject();
        other.join().unwrap();
        world.settle();
    });
}

/// Planted: `idle_no_unsearched_fence`.
#[test]
fn work_published_while_a_worker_goes_to_block() {
    loom::model(|| {
        let world = World::new(0, 0);
        let blocking = spawn(&world, World::give_processor);
        world.publish();
        blocking.join().unwrap();
        world.settle();
    });
}

/// A publisher that claims the wake-up finds the processor gone, while another relied on its claim.
#[test]
fn a_processor_comes_and_goes_under_two_publishers() {
    loom::model(|| {
        let world = World::new(1, 0);
        let blocking = spawn(&world, |world| {
            if world.regain() {
                world.give_processor();
            }
        });
        let other = spawn(&world, World::publish);
        world.publish();
        blocking.join().unwrap();
        other.join().unwrap();
        world.settle();
    });
}

/// No thread can be started for a processor that the monitor took; meanwhile its worker comes back without one.
#[test]
fn a_worker_comes_back_while_nobody_can_run_its_processor() {
    loom::model(|| {
        let world = World::new(0, 0);
        world.lock().refused = true;
        world.publish(); // what the monitor takes the processor for
        let worker = spawn(&world, |world| world.come_back(0));
        world.give_in_vain();
        worker.join().unwrap();
        world.settle();
    });
}

/// The same with work from a third, who relies on a claim that comes to nothing.
#[test]
fn work_from_outside_while_nobody_can_run_a_processor() {
    loom::model(|| {
        let world = World::new(0, 0);
        world.lock().refused = true;
        world.publish();
        let worker = spawn(&world, |world| world.come_back(0));
        let other = spawn(&world, World::inject);
        world.give_in_vain();
        worker.join().unwrap();
        other.join().unwrap();
        world.settle();
    });
}

/// A worker that sleeps with its task makes room for one more thread.
#[test]
fn a_bound_worker_comes_back_while_nobody_can_run_its_processor() {
    loom::model(|| {
        let world = World::new(0, 0);
        world.lock().refused = true;
        world.publish();
        let worker = spawn(&world, |world| world.come_back_bound());
        world.give_in_vain();
        worker.join().unwrap();
        world.settle();
    });
}
