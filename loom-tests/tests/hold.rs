//! Models of holding a worker that computes without a processor (`runtime/src/preempt/hold.rs`). What each proves is in
//! the README here. A signal handler runs on its thread, between two steps of the worker; when it runs is chosen by the
//! interleaving of the others with the places at which the model lets it run.
//!
//! `processor` stands for the processor's data, which one side at a time may touch; loom checks it.
#![cfg(bast_loom)]

use bast::protocol::handoff::{Marking, Settled};
use bast::protocol::hold::{FREE, HELD, Hold};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

/// What a lease names.
const PROCESSOR: usize = 8;

struct World {
    hold: Hold,
    marking: Marking,
    processor: UnsafeCell<usize>,
    /// The signal is pending.
    sent: AtomicBool,
    /// What whoever lets go has written before.
    news: AtomicUsize,
}

// SAFETY: validity: `processor` is the only part that is not `Sync`; loom checks every access to it.
//         aliasing: as above.
unsafe impl Sync for World {}
// SAFETY: validity: nothing in it belongs to a thread.
//         aliasing: as above.
unsafe impl Send for World {}

impl World {
    /// A worker in user code whose processor has been taken.
    fn new() -> Arc<World> {
        let marking = Marking::new(true);
        marking.regained();
        marking.given_up();
        marking.exit();
        Arc::new(World {
            hold: Hold::new(),
            marking,
            processor: UnsafeCell::new(0),
            sent: AtomicBool::new(false),
            news: AtomicUsize::new(0),
        })
    }

    fn touch(&self) {
        // SAFETY: validity: the cell lives as long as the execution.
        //         aliasing: who holds the processor has it alone; loom checks it.
        self.processor.with_mut(|data| unsafe { *data += 1 });
    }

    /// Monitor: `hogs::hold`.
    fn ask(&self) {
        if self.hold.ask() {
            self.sent.store(true, Ordering::Release);
        }
    }

    /// Worker: a place at which the signal may be delivered. `patient`: it waits until it is let go.
    fn interruption(&self, patient: bool) {
        if self.sent.swap(false, Ordering::AcqRel) {
            self.hold.park(self.marking.is_inside(), |_| {
                assert!(!self.marking.is_inside(), "held inside the runtime");
                thread::yield_now();
                patient
            });
        }
    }

    /// Worker: a call into the runtime. True: with a processor.
    fn call(&self, patient: bool) -> bool {
        let asked = self.marking.enter();
        self.interruption(patient);
        let Some(Settled::Lost(_)) = asked.then(|| self.marking.settle_request()) else {
            panic!("the worker was not told that it holds nothing");
        };
        self.hold.withdraw();
        let leased = self.hold.take_lease() == PROCESSOR;
        if leased {
            self.marking.regained();
            self.touch();
        }
        leased
    }

    /// Who lends: true if the processor is the worker's now.
    fn lend(&self) -> bool {
        self.touch();
        self.news.store(1, Ordering::Relaxed);
        self.hold.release(PROCESSOR)
    }
}

fn spawn<R: 'static>(world: &Arc<World>, f: impl FnOnce(&World) -> R + 'static) -> thread::JoinHandle<R> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// Planted: `hold_release_relaxed`, `hold_late_lease`.
#[test]
fn who_is_held_goes_on_with_the_lease() {
    loom::model(|| {
        let world = World::new();
        let lender = spawn(&world, |world| {
            world.ask();
            // The list of those who are held: only then is anything lent.
            if world.hold.state() != HELD {
                thread::yield_now();
            }
            let lent = world.lend();
            if !lent {
                // It has entered meanwhile, or the signal comes later and then nobody is to let it go.
                world.touch();
                world.hold.withdraw();
                while world.hold.state() == HELD && !world.hold.release(0) {}
            }
            lent
        });
        world.interruption(true);
        let leased = world.call(true);
        let lent = lender.join().unwrap();
        assert_eq!(lent, leased, "let go without its lease");
        assert!(!leased || world.news.load(Ordering::Relaxed) == 1);
    });
}

/// The handler has waited long enough in the moment in which somebody lends (planted: `hold_patience_store`).
#[test]
fn who_leaves_by_itself_is_lent_nothing() {
    loom::model(|| {
        let world = World::new();
        world.ask();
        let lender = spawn(&world, |world| {
            let lent = world.lend();
            if !lent {
                world.touch(); // still the lender's
            }
            lent
        });
        world.interruption(false);
        let leased = world.call(false);
        let lent = lender.join().unwrap();
        assert_eq!(
            lent,
            leased | (world.hold.take_lease() == PROCESSOR),
            "a processor is lost"
        );
        assert_eq!(world.hold.state(), FREE);
    });
}

/// Two who would let it go, as a worker at home and the monitor of a runtime that closes: one does.
#[test]
fn it_is_let_go_once() {
    loom::model(|| {
        let world = World::new();
        world.ask();
        let lender = spawn(&world, World::lend);
        let closer = spawn(&world, |world| {
            world.hold.withdraw();
            world.hold.release(0)
        });
        world.interruption(false);
        let leased = world.call(false);
        let (lent, closed) = (lender.join().unwrap(), closer.join().unwrap());
        assert!(!(lent && closed), "let go twice");
        assert_eq!(lent, leased);
    });
}

/// The signal arrives at any moment of two calls (planted: `hold_inside`). Nobody would let it go.
#[test]
fn nobody_is_held_inside_the_runtime() {
    loom::model(|| {
        let world = World::new();
        let monitor = spawn(&world, World::ask);
        for _ in 0..2 {
            let asked = world.marking.enter();
            world.interruption(false);
            assert!(asked, "it has no processor");
            world.hold.withdraw();
            world.marking.exit();
        }
        monitor.join().unwrap();
    });
}

/// The lease is over in the moment of the call, or before the handler has seen that there was one: the worker has it, or
/// the monitor (planted: `hold_asked_anew`).
#[test]
fn a_lease_has_one_end() {
    loom::model(|| {
        let world = World::new();
        world.ask();
        let lender = spawn(&world, |world| {
            let lent = world.lend();
            let mut back = false;
            if lent {
                back = world.hold.take_lease() == PROCESSOR;
                if back {
                    world.touch();
                    world.ask();
                }
            }
            (lent, back)
        });
        world.interruption(false);
        let leased = world.call(false);
        let (lent, back) = lender.join().unwrap();
        assert_eq!(lent, leased ^ back);
        assert!(!(leased && back), "one processor, two holders");
    });
}
