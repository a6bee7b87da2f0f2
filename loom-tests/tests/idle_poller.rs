//! Models of who waits in the poller (`runtime/src/sched/idle_poller.rs`). What each proves is in the README here.
#![cfg(bast_loom)]

#[path = "idle_poller/world.rs"]
mod world;

use bast::protocol::idle_poller::{NEVER, WaitUntil};
use bast_netpoll::protocol::Interrupts;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use world::{DUE, Hand, Rest, SPARE, World, hand};

fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// The main thread's part is over, and then all others'.
fn finish<const N: usize>(world: &World, threads: [thread::JoinHandle<()>; N]) {
    world.end();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The store-load pair alone, after a short wait that an event has ended: who reads its end for that of the next believes
/// the timer waited for. Planted: `idle_poller_no_begin_fence`, `idle_poller_no_leave_fence`,
/// `idle_poller_undecided_is_early`.
#[test]
fn a_timer_is_left_behind_as_a_wait_begins() {
    loom::model(|| {
        let shared = Arc::new((WaitUntil::new(), Interrupts::new(), AtomicU64::new(NEVER)));
        let own = shared.clone();
        let leaver = thread::spawn(move || {
            let (until, interrupts, timer) = &*own;
            timer.store(DUE, Relaxed);
            if until.is_too_late(DUE) {
                let _ = interrupts.request();
            }
        });
        let (until, interrupts, timer) = &*shared;
        until.begin(|| 1, || DUE - 1);
        let _ = interrupts.begin_wait();
        interrupts.end_wait();
        until.end();
        let waits_until = until.begin(|| 1, || timer.load(Relaxed));
        let may_block = interrupts.begin_wait();
        leaver.join().unwrap();
        let interrupted = interrupts.end_wait() || !may_block;
        assert!(waits_until <= DUE || interrupted, "waits beyond the timer");
    });
}

/// Planted: `idle_poller_last_not_counted`.
#[test]
fn a_worker_without_a_processor_lies_down_beside_the_last_holder() {
    loom::model(|| {
        let world = World::new(1, 1, 2, false);
        let threads = [
            spawn(&world, |world| {
                world.timers[0].store(DUE, Relaxed);
                world.work(0, hand(0));
            }),
            spawn(&world, |world| world.work(1, Hand::default())),
        ];
        world.event();
        finish(&world, threads);
    });
}

#[test]
fn the_last_two_holders_go_to_sleep() {
    loom::model(|| {
        let world = World::new(2, 2, 2, false);
        let threads = [
            spawn(&world, |world| {
                world.timers[0].store(DUE, Relaxed);
                world.work(0, hand(0));
            }),
            spawn(&world, |world| world.work(1, hand(1))),
        ];
        world.event();
        finish(&world, threads);
    });
}

/// Planted: `idle_poller_given_to_nobody`.
#[test]
fn the_last_holder_goes_to_block_beside_a_worker_without_a_processor() {
    loom::model(|| {
        let world = World::new(1, 1, 2, false);
        let threads = [
            spawn(&world, |world| {
                world.timers[0].store(DUE, Relaxed);
                world.give_processor(0);
                world.work(0, Hand::default()); // it comes back and has nothing to do any more
            }),
            spawn(&world, |world| world.work(1, Hand::default())),
        ];
        world.event();
        finish(&world, threads);
    });
}

/// While the one in the poller waits for events only, the processor is taken and given back with a timer.
#[test]
fn a_processor_comes_and_goes_beside_the_one_that_waits() {
    loom::model(|| {
        let world = World::new(1, 0, 2, false);
        let threads = [
            spawn(&world, |world| {
                let regained = world.pop_idle_processor(&mut world.lock());
                if let Some(processor) = regained {
                    world.note_busy();
                    world.timers[processor].store(DUE, Relaxed);
                    world.give_processor(processor);
                }
                world.end();
            }),
            spawn(&world, |world| world.work(1, Hand::default())),
        ];
        world.event();
        finish(&world, threads);
    });
}

/// Who comes out of the poller runs a task for ever, and another processor idles. Planted: `idle_poller_never_left`.
#[test]
fn the_monitor_finds_the_place_vacant() {
    loom::model(|| {
        let world = World::new(2, 0, 3, true);
        let threads = [
            spawn(&world, |world| world.work(0, Hand::default())),
            spawn(&world, |world| world.work(1, Hand::default())),
            spawn(&world, World::late_monitor),
        ];
        world.event();
        finish(&world, threads);
    });
}

#[test]
fn the_monitor_dozes_as_the_last_holder_goes_to_sleep() {
    loom::model(|| {
        let world = World::new(1, 1, 2, false);
        let threads = [
            spawn(&world, |world| world.work(0, hand(0))),
            spawn(&world, World::monitor),
        ];
        world.event();
        finish(&world, threads);
    });
}

/// Nobody is left for the last processor but a thread that the system refuses at first. Planted:
/// `idle_poller_unwatched_doze`.
#[test]
fn the_last_holder_goes_to_block_and_no_thread_can_be_had() {
    loom::model(|| {
        let world = World::new(1, 1, 3, false);
        let mut lists = world.lock();
        (lists.spare, lists.refusals) = (true, 1);
        drop(lists);
        let threads = [
            spawn(&world, |world| {
                world.give_processor(0);
                world.end();
            }),
            spawn(&world, |world| {
                if world.rest(SPARE, Rest::Sleeps).is_ok() {
                    let hand = world.lock().handed[SPARE].take();
                    world.work(SPARE, hand.expect("started with a processor"));
                }
            }),
            spawn(&world, World::monitor),
        ];
        world.event();
        finish(&world, threads);
    });
}

/// Who is in the poller is handed a processor with work, while another lies down and takes the place for taken.
#[test]
fn the_one_that_waits_is_handed_work_as_another_lies_down() {
    loom::model(|| {
        let world = World::new(2, 2, 3, true);
        let threads = [
            spawn(&world, |world| world.work(0, hand(0))),
            spawn(&world, |world| {
                world.tasks.fetch_add(1, Relaxed); // on its own queue, as it goes to block
                world.give_processor(1);
                world.work(1, Hand::default());
            }),
            spawn(&world, World::late_monitor),
        ];
        finish(&world, threads);
    });
}
