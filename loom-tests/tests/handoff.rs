//! Models of the race for a worker's processor (`runtime/src/blocking/handoff.rs`). What each proves is in the
//! README here. Both barriers are SeqCst fences: what membarrier adds is the kernel's promise.
//!
//! `processor` stands for the processor's data, which one side at a time may touch; loom checks it.
#![cfg(bast_loom)]

use bast::protocol::handoff::{CLOSE, DETACH, Marking, Settled, WATCH, YIELD, full_barrier};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

struct World {
    marking: Marking,
    processor: UnsafeCell<usize>,
    /// The processor idles: whoever wins this holds it.
    idle: AtomicBool,
}

// SAFETY: validity: `processor` is the only part that is not `Sync`; loom checks every access to it.
//         aliasing: as above.
unsafe impl Sync for World {}
// SAFETY: validity: nothing in it belongs to a thread.
//         aliasing: as above.
unsafe impl Send for World {}

impl World {
    /// A worker with a processor, inside the runtime.
    fn new() -> Arc<Self> {
        let (processor, idle) = (UnsafeCell::new(0), AtomicBool::new(false));
        let world = Self {
            marking: Marking::new(true),
            processor,
            idle,
        };
        world.marking.regained();
        Arc::new(world)
    }

    fn touch(&self) {
        // SAFETY: validity: the cell lives as long as the execution.
        //         aliasing: who holds the processor has it alone; loom checks it.
        self.processor.with_mut(|data| unsafe { *data += 1 });
    }

    /// Worker: user code between two calls of the runtime. What the entry found, if anything was asked.
    fn call(&self) -> Option<Settled> {
        let asked = self.marking.enter();
        let settled = asked.then(|| self.marking.settle_request());
        if !matches!(settled, Some(Settled::Lost(_))) {
            self.touch();
        }
        settled
    }

    /// Worker: as `call`, but for short business that can be done otherwise (`Inside::try_enter`).
    fn try_call(&self) {
        if !self.marking.enter() {
            self.touch();
        }
        self.marking.exit();
    }

    /// Monitor: takes the processor if it can, and uses it.
    fn detach(&self) -> bool {
        let tenure = self.marking.tenure();
        let taken = tenure.is_some_and(|tenure| self.marking.try_detach(tenure, full_barrier));
        if taken {
            self.touch();
        }
        taken
    }

    fn release_idle(&self) {
        // Release: the processor's data; pairs with `acquire_idle`.
        self.idle.store(true, Ordering::Release);
    }

    fn acquire_idle(&self) -> bool {
        self.idle
            .compare_exchange(true, false, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

fn spawn<R: 'static>(world: &Arc<World>, f: impl FnOnce(&World) -> R + 'static) -> thread::JoinHandle<R> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// Planted: `handoff_ignore_inside`, and `handoff_exit_relaxed` hides from the monitor what the worker wrote.
#[test]
fn worker_and_monitor_never_both_hold_the_processor() {
    loom::model(|| {
        let world = World::new();
        let monitor = spawn(&world, World::detach);
        world.touch();
        world.marking.exit();
        let settled = world.call();
        let detached = monitor.join().unwrap();
        match settled {
            Some(Settled::Lost(_)) => assert!(detached, "lost to nobody"),
            Some(Settled::Held(asked)) => {
                assert!(!detached);
                assert_ne!(asked & (DETACH | YIELD), 0, "asked for nothing");
            }
            // Not asked before: the request stands and the next entry answers it.
            None => assert!(!detached && world.marking.requested() & YIELD != 0),
        }
    });
}

/// The monitor reads, is overtaken by a whole answer, and then exchanges (planted: `handoff_no_epoch`).
#[test]
fn an_answered_request_is_not_acted_upon() {
    loom::model(|| {
        let world = World::new();
        let monitor = spawn(&world, World::detach);
        world.marking.exit();
        let mut lost = matches!(world.call(), Some(Settled::Lost(_)));
        if !lost {
            world.marking.exit();
            lost = matches!(world.call(), Some(Settled::Lost(_)));
        }
        assert_eq!(
            monitor.join().unwrap(),
            lost,
            "the monitor took a processor that the worker uses"
        );
    });
}

#[test]
fn a_processor_given_up_is_not_detached_as_well() {
    loom::model(|| {
        let world = World::new();
        let monitor = spawn(&world, World::detach);
        let other = spawn(&world, |world| {
            if world.acquire_idle() {
                world.touch();
                world.release_idle();
            }
        });
        // A blocking section: hands the processor off, waits outside, wants it back.
        world.touch();
        world.marking.given_up();
        world.release_idle();
        world.marking.exit();
        assert!(
            matches!(world.call(), Some(Settled::Lost(_))),
            "nobody told the worker that it holds nothing"
        );
        if world.acquire_idle() {
            world.marking.regained();
            world.touch();
        }
        other.join().unwrap();
        assert!(
            !monitor.join().unwrap(),
            "the worker was inside whenever it held the processor"
        );
    });
}

#[test]
fn a_lost_processor_can_be_regained() {
    loom::model(|| {
        let world = World::new();
        let monitor = spawn(&world, |world| {
            let taken = world.detach();
            if taken {
                world.release_idle();
            }
            taken
        });
        world.marking.exit();
        if let Some(Settled::Lost(_)) = world.call() {
            if world.acquire_idle() {
                world.marking.regained();
                world.touch();
                world.marking.exit();
                // The monitor is done: nothing but leftovers may be asked.
                assert!(
                    !matches!(world.call(), Some(Settled::Lost(_))),
                    "lost twice to one detach"
                );
            }
            assert!(monitor.join().unwrap());
        }
    });
}

/// The monitor's last word comes late, when the worker holds another processor already.
#[test]
fn a_late_request_to_regain_takes_nothing() {
    loom::model(|| {
        let world = World::new();
        let monitor = spawn(&world, World::detach);
        world.marking.exit();
        if let Some(Settled::Lost(_)) = world.call() {
            world.marking.regained();
            world.marking.exit();
            let asked = world.marking.enter().then(|| world.marking.settle_request());
            assert!(
                !matches!(asked, Some(Settled::Lost(_))),
                "lost a processor that nobody took"
            );
        }
        monitor.join().unwrap();
    });
}

/// Every way in and out, three times, against a monitor that comes twice: one that lost its processor is told at
/// the next entry, also if it turned away at an entry in between.
#[test]
fn three_calls_against_two_detaches() {
    loom::model(|| {
        let world = World::new();
        let monitor = spawn(&world, |world| {
            let taken = [(); 2].map(|()| {
                let taken = world.detach();
                if taken {
                    world.release_idle();
                }
                taken
            });
            taken.iter().filter(|taken| **taken).count()
        });
        world.marking.exit();
        world.try_call();
        let mut losses = 0;
        for _ in 0..2 {
            if let Some(Settled::Lost(_)) = world.call() {
                losses += 1;
                if !world.acquire_idle() {
                    // Sleeps inside, without a processor: nothing can be taken from it any more.
                    assert_eq!(monitor.join().unwrap(), losses);
                    return;
                }
                world.marking.regained();
                world.touch();
            }
            world.marking.exit();
        }
        // Outside: the monitor may have won once more, and then the next entry says so.
        let taken = monitor.join().unwrap();
        if matches!(world.call(), Some(Settled::Lost(_))) {
            losses += 1;
        }
        assert_eq!(taken, losses);
    });
}

/// A blocking section ends before the monitor has acted on what it read before: the processor in hand is another
/// than the one it looked at (planted: `handoff_regain_no_epoch`).
#[test]
fn a_request_from_before_a_blocking_section_takes_nothing() {
    loom::model(|| {
        let world = World::new();
        let monitor = spawn(&world, World::detach);
        world.marking.given_up();
        world.marking.regained();
        world.marking.exit();
        let lost = matches!(world.call(), Some(Settled::Lost(_)));
        assert_eq!(
            monitor.join().unwrap(),
            lost,
            "the monitor took a processor that the worker uses"
        );
    });
}

/// The worker changes processors while the monitor looks: it loses the one that the monitor meant, or none (planted:
/// `handoff_any_tenure`).
#[test]
fn the_monitor_takes_the_processor_it_looked_at() {
    const NONE: usize = 9;
    loom::model(|| {
        let world = World::new();
        let holds = Arc::new(AtomicUsize::new(0));
        let seen = holds.clone();
        let monitor = spawn(&world, move |world| {
            // `monitor::retake`: the tenure first.
            let tenure = world.marking.tenure();
            let meant = tenure.filter(|_| seen.load(Ordering::Acquire) == 0);
            meant.is_some_and(|tenure| world.marking.try_detach(tenure, full_barrier))
        });
        // `Inside::let_go`, then `Inside::hold`: another processor.
        holds.store(NONE, Ordering::Release);
        world.marking.given_up();
        holds.store(1, Ordering::Release);
        world.marking.regained();
        world.marking.exit();
        let lost = matches!(world.call(), Some(Settled::Lost(_)));
        assert!(!lost, "the monitor took processor 1 and gives away processor 0");
        assert!(!monitor.join().unwrap());
    });
}

/// A request to end may come at any time, and is never withdrawn: not by an answer, not with a lost processor.
#[test]
fn a_request_to_close_stands() {
    loom::model(|| {
        let world = World::new();
        let monitor = spawn(&world, World::detach);
        let closer = spawn(&world, |world| world.marking.ask(CLOSE));
        world.marking.exit();
        if let Some(Settled::Lost(_)) = world.call() {
            world.marking.regained();
        }
        world.marking.answered(YIELD);
        world.marking.exit();
        closer.join().unwrap();
        let asked = world.marking.enter().then(|| world.marking.settle_request());
        let (Some(Settled::Held(asked)) | Some(Settled::Lost(asked))) = asked else {
            panic!("the worker does not hear that the runtime closes");
        };
        assert_ne!(
            asked & CLOSE,
            0,
            "the worker does not hear that the runtime closes"
        );
        monitor.join().unwrap();
    });
}

/// The monitor rests for long only if every call that comes wakes it (planted: `handoff_enter_late`). As
/// `Watch::rest_still` and `Inside::tell_monitor`.
#[test]
fn a_call_wakes_the_monitor_that_rests() {
    loom::model(|| {
        let world = World::new();
        world.marking.exit();
        let monitor = spawn(&world, |world| {
            world.marking.ask(WATCH);
            full_barrier();
            !world.marking.is_inside()
        });
        // A call: it makes a task runnable, say, which only the monitor would see.
        let told = world.marking.enter()
            && matches!(world.marking.settle_request(), Settled::Held(asked) if asked & WATCH != 0);
        let rests = monitor.join().unwrap();
        assert!(
            told || !rests,
            "the monitor sleeps beside a worker that it believes outside"
        );
    });
}

/// A worker hands its processor to another one as its task parks with it, while the monitor looks at both: the monitor
/// takes it from the one who holds it, once, or not at all (`Inside::park_on_worker`, `Inside::give_to_bound`).
#[test]
fn a_processor_that_changes_hands_is_taken_from_its_holder() {
    loom::model(|| {
        let first = World::new();
        let second = Arc::new(Marking::new(true));
        let (monitors, theirs) = (first.clone(), second.clone());
        let monitor = thread::spawn(move || {
            let one = monitors.detach();
            let tenure = theirs.tenure();
            let two = tenure.is_some_and(|tenure| theirs.try_detach(tenure, full_barrier));
            if two {
                monitors.touch();
            }
            (one, two)
        });
        // The first is inside: it parks with its task and gives the processor to the second, who runs user code.
        first.touch();
        first.marking.given_up();
        second.regained();
        first.touch(); // the second, inside
        second.exit();
        let lost = second.enter() && matches!(second.settle_request(), Settled::Lost(_));
        if !lost {
            first.touch();
        }
        let (one, two) = monitor.join().unwrap();
        assert!(!one, "taken from a worker inside");
        assert_eq!(two, lost);
    });
}
