//! `task::no_park`: a call that would park panics before it has changed anything, and the task stays on its thread.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests check and drive from outside"
)]

mod util;

use bast::context::Context;
use bast::net::TcpListener;
use bast::sync::{Barrier, Condvar, Mutex, Notify, Once, RwLock, Semaphore, WaitGroup, channel};
use bast::task::no_park;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};
use util::net::{LONG, pair};
use util::{Gate, on_each, wait_for};

/// Calls `f` where it must not park, and demands that it would have.
#[track_caller]
fn refused(what: &str, f: impl FnOnce()) {
    let thread = std::thread::current().id();
    let panic = catch_unwind(AssertUnwindSafe(|| no_park(f))).expect_err(what);
    assert_eq!(std::thread::current().id(), thread, "{what}: it stayed");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert!(text.contains(what), "{what}: {text}");
    assert_eq!(text.matches("no_park.rs:").count(), 2, "both places: {text}");
    assert!(text.contains("inside task::no_park of"), "{text}");
}

#[test]
fn calls_that_would_park_are_refused() {
    on_each(|| {
        refused("park", || bast::task::park());
        refused("park", || bast::task::park_timeout(LONG));
        refused("yield_now", || bast::task::yield_now());
        refused("sleep", || bast::time::sleep(LONG));
        refused("sleep", || bast::time::sleep(Duration::MAX));
        refused("sleep", || bast::time::interval(LONG).tick());
        let sleeper = bast::spawn(|| bast::time::sleep(LONG));
        refused("join", || drop(sleeper.join()));
        let (sender, receiver) = channel::bounded(1);
        refused("channel receive", || drop(receiver.recv()));
        refused("channel receive", || drop(receiver.recv_timeout(LONG)));
        // Called by std's adapters, whose lines say nothing.
        refused("channel receive", || drop(receiver.iter().collect::<Vec<_>>()));
        refused("channel receive", || {
            assert!(channel::never::<u32>().recv().is_err())
        });
        refused("channel receive", || {
            assert!(channel::after(LONG).recv().is_err())
        });
        let counted = Arc::new(());
        sender.send(counted.clone()).unwrap();
        refused("channel send", || drop(sender.send(counted.clone())));
        assert_eq!(Arc::strong_count(&counted), 2, "what was not sent is dropped");
        refused("select", || {
            bast::select! {
                send(sender, counted.clone()) -> _ => {}
                recv(channel::after(LONG)) -> _ => {}
            }
        });
        assert_eq!(Arc::strong_count(&counted), 2);
        drop(receiver.recv());
        assert_eq!(Arc::strong_count(&counted), 1);
        let (mut near, _far) = pair();
        refused("network read", || drop(near.read(&mut [0])));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        refused("network accept", || drop(listener.accept()));
        refused("network accept", || {
            listener.incoming().take(1).for_each(drop);
        });
        refused("scope", || {
            bast::scope(|scope| {
                scope.spawn(|| bast::time::sleep(Duration::from_millis(3)));
            });
        });
    });
}

/// The locks are whole afterwards: whoever holds one can free it, and the next can have it.
#[test]
fn locks_that_would_park_are_refused() {
    on_each(|| {
        let mutex = Mutex::new(0);
        let guard = mutex.lock().unwrap();
        refused("mutex", || drop(mutex.lock()));
        refused("mutex", || drop(mutex.lock_timeout(LONG)));
        drop(guard);
        drop(mutex.lock().unwrap());
        let lock = RwLock::new(0);
        let guard = lock.read().unwrap();
        refused("rwlock", || drop(lock.write()));
        drop(guard);
        let guard = lock.write().unwrap();
        refused("rwlock", || drop(lock.read()));
        refused("rwlock", || drop(lock.write()));
        drop(guard);
        drop(lock.write().unwrap());
        drop(lock.read().unwrap());
        let permits = Semaphore::new(1);
        refused("semaphore", || drop(permits.acquire_many(2)));
        permits.add_permits(1);
        drop(permits.acquire_many(2));
        let condvar = Condvar::new();
        refused("condition variable", || {
            drop(condvar.wait(Mutex::new(()).lock().unwrap()));
        });
        condvar.notify_all();
        let barrier = Arc::new(Barrier::new(2));
        refused("barrier", || assert!(barrier.wait().is_leader()));
        let ours = barrier.clone();
        let other = bast::spawn(move || ours.wait().is_leader());
        let leads = barrier.wait().is_leader();
        assert_ne!(leads, other.join().unwrap(), "who was refused was not counted");
        let group = WaitGroup::new();
        group.add(1);
        refused("wait group", || group.wait());
        group.done();
        group.wait();
        let notify = Notify::new();
        refused("notify", || notify.wait());
        notify.notify_one();
        notify.wait();
        let (once, inside, open) = (Arc::new(Once::new()), Gate::new(), Gate::new());
        let (theirs, began, end) = (once.clone(), inside.clone(), open.clone());
        let first = bast::spawn(move || {
            theirs.call_once(|| {
                began.open();
                end.wait();
            });
        });
        inside.wait();
        refused("once", || once.call_once(|| panic!("it is called once")));
        open.open();
        first.join().unwrap();
        once.call_once(|| panic!("it is called once"));
    });
}

#[test]
fn calls_that_need_not_wait_work() {
    on_each(|| {
        let value = no_park(|| {
            let (sender, receiver) = channel::bounded(1);
            sender.send(1).unwrap();
            let mutex = Mutex::new(receiver.recv().unwrap());
            *mutex.lock().unwrap() += 1;
            let task = bast::spawn(|| 3);
            drop(task);
            bast::task::checkpoint();
            let (context, canceller) = Context::background().with_cancel();
            canceller.cancel();
            context.enter(|| bast::time::sleep(LONG)); // over already
            assert!(bast::blocking(|| true));
            mutex.into_inner().unwrap()
        });
        assert_eq!(value, 2);
        bast::task::yield_now();
    });
    // A plain thread has no other to go to.
    assert_eq!(
        no_park(|| {
            bast::time::sleep(Duration::from_millis(1));
            5
        }),
        5
    );
}

#[test]
fn it_nests_and_ends() {
    on_each(|| {
        no_park(|| {
            no_park(|| ());
            let inner = catch_unwind(|| no_park(|| panic!("on purpose")));
            assert!(inner.is_err());
            let still = catch_unwind(bast::task::park);
            assert!(still.is_err(), "the outer one goes on to hold");
        });
        bast::time::sleep(Duration::from_micros(10));
        // Tasks that are spawned in it are free.
        let child = no_park(|| bast::spawn(|| bast::time::sleep(Duration::from_micros(10))));
        child.join().unwrap();
    });
}

/// The slice of a task ends in it, again and again, and the monitor takes its processor; it stays on its thread, and a
/// borrow of a thread-local is whole.
#[test]
fn the_task_stays_on_its_thread() {
    thread_local! {
        static COUNT: AtomicUsize = const { AtomicUsize::new(0) };
    }
    on_each(|| {
        let stop = Gate::new();
        let others: Vec<_> = (0..4)
            .map(|_| {
                let stop = stop.clone();
                bast::spawn(move || {
                    while !stop.is_open() {
                        bast::task::yield_now();
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            no_park(|| {
                COUNT.with(|count| {
                    let thread = std::thread::current().id();
                    let before = count.load(Relaxed);
                    let start = Instant::now();
                    let mut calls = 0;
                    while start.elapsed() < Duration::from_millis(25) {
                        count.fetch_add(1, Relaxed);
                        bast::task::checkpoint();
                        drop(bast::spawn(|| ()));
                        calls += 1;
                    }
                    assert_eq!(std::thread::current().id(), thread);
                    let now = COUNT.with(|count| count.load(Relaxed));
                    assert_eq!(now - before, calls);
                });
            });
            bast::task::yield_now();
        }
        stop.open();
        others.into_iter().for_each(|other| other.join().unwrap());
        wait_for(|| true);
    });
}
