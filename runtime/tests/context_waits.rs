//! What waits in a context is woken when that is over, whatever it waits for; and nothing is lost by it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::context::{self, Context, ContextError, check, current, shield};
use bast::net::{TcpListener, TcpStream};
use bast::sync::channel::{RecvTimeoutError, SendTimeoutError};
use bast::sync::{Condvar, Mutex, Notify, RwLock, Semaphore, WaitGroup, channel};
use bast::time::timeout;
use chan_util::{Go, LONG, SHORT, everywhere, on_each, settle};
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

/// Runs `wait` in a context, cancels that while it waits, and gives what it says.
#[track_caller]
fn cancelled<T: Send + 'static>(go: &Go, wait: impl FnOnce() -> T + Send + 'static) -> T {
    let (context, canceller) = Context::background().with_cancel();
    let waiter = go.spawn(move || {
        let start = Instant::now();
        let said = context.enter(wait);
        assert!(start.elapsed() < LONG / 2, "woken");
        assert_eq!(check(), Ok(()), "outside it is over");
        said
    });
    settle();
    assert!(canceller.cancel());
    waiter.join()
}

/// As [`cancelled`], by a deadline; and by a context that is over when the wait begins.
fn late<T>(wait: impl Fn() -> T) -> [T; 2] {
    let start = Instant::now();
    let soon = Context::background().with_timeout(SHORT);
    let first = soon.enter(&wait);
    assert!(start.elapsed() >= SHORT && start.elapsed() < LONG / 2);
    assert_eq!(soon.error(), Some(ContextError::DeadlineExceeded));
    let (over, canceller) = Context::background().with_cancel();
    canceller.cancel();
    [first, over.enter(wait)]
}

// ---- every call that waits ----

#[test]
fn channels() {
    everywhere(|go| {
        let (sender, receiver) = channel::bounded::<u32>(1);
        let ours = receiver.clone();
        assert!(cancelled(go, move || ours.recv()).is_err());
        let ours = receiver.clone();
        assert_eq!(
            cancelled(go, move || ours.recv_timeout(LONG)),
            Err(RecvTimeoutError::Timeout)
        );
        assert!(late(|| receiver.recv()).iter().all(Result::is_err));
        sender.send(1).unwrap();
        let ours = sender.clone();
        assert_eq!(cancelled(go, move || ours.send(2)).unwrap_err().into_inner(), 2);
        let ours = sender.clone();
        assert_eq!(
            cancelled(go, move || ours.send_timeout(3, LONG)),
            Err(SendTimeoutError::Timeout(3))
        );
        assert!(late(|| sender.send(4)).iter().all(Result::is_err));
        assert!(cancelled(go, || channel::never::<u32>().recv()).is_err());
        assert!(cancelled(go, || channel::after(LONG).recv()).is_err());
        assert!(cancelled(go, || channel::tick(LONG).recv()).is_err());
        // What need not wait succeeds, also when it is over.
        let (over, canceller) = Context::background().with_cancel();
        canceller.cancel();
        assert_eq!(over.enter(|| receiver.recv()), Ok(1), "it is all still there");
        assert_eq!(over.enter(|| sender.send(5)), Ok(()));
        assert_eq!(receiver.try_recv(), Ok(5));
    });
}

#[test]
fn select() {
    everywhere(|go| {
        let (sender, receiver) = channel::rendezvous::<u32>();
        let (ours, theirs) = (sender.clone(), receiver.clone());
        let failed = cancelled(go, move || {
            bast::select! {
                recv(theirs) -> got => got.is_err(),
                send(ours, 1) -> sent => sent.is_err(),
                recv(channel::after(LONG)) -> moment => moment.is_err(),
            }
        });
        assert!(failed, "one of the cases fails");
        let theirs = receiver.clone();
        let otherwise = cancelled(go, move || {
            bast::select! {
                recv(theirs) -> _ => false,
                default(LONG) => true,
            }
        });
        assert!(otherwise);
        // The end of the context itself is a case like others.
        let done = cancelled(go, move || {
            let done = current().done();
            bast::select! {
                recv(receiver) -> got => got.is_err(),
                recv(done) -> ended => ended.is_err(),
            }
        });
        assert!(done);
        drop(sender);
    });
}

#[test]
fn sleeping_and_parking() {
    everywhere(|go| {
        cancelled(go, || bast::time::sleep(LONG));
        cancelled(go, || bast::time::sleep_until(Instant::now() + LONG));
        cancelled(go, || bast::time::sleep(Duration::MAX));
        cancelled(go, || bast::time::interval(LONG).tick());
        late(|| bast::time::sleep(LONG));
    });
    on_each(|| {
        cancelled(&Go::Tasks, bast::task::park);
        cancelled(&Go::Tasks, || bast::task::park_timeout(LONG));
        late(|| {
            while check().is_ok() {
                bast::task::park();
            }
        });
    });
}

#[test]
fn joining() {
    on_each(|| {
        let gate = Arc::new(Notify::new());
        let theirs = gate.clone();
        let sleeper = bast::spawn(move || theirs.wait());
        let handle = cancelled(&Go::Tasks, move || sleeper.join_timeout(LONG)).unwrap_err();
        let error = cancelled(&Go::Tasks, move || handle.join()).unwrap_err();
        assert!(error.is_cancelled() && !error.is_timeout() && !error.is_panic());
        assert!(error.to_string().contains("cancelled"), "{error}");
        gate.notify_one();
        let sleeper = bast::spawn(|| bast::time::sleep(LONG));
        let soon = Context::background().with_timeout(SHORT);
        assert!(soon.enter(|| sleeper.join()).unwrap_err().is_timeout());
    });
    // From a thread.
    let runtime = chan_util_runtime();
    let sleeper = runtime.spawn(|| bast::time::sleep(SHORT * 1000)).unwrap();
    let error = cancelled(&Go::Threads, move || sleeper.join()).unwrap_err();
    assert!(error.is_cancelled());
}

fn chan_util_runtime() -> bast::Runtime {
    // SAFETY: nothing bound to a thread is used.
    unsafe { bast::Builder::new().processors(2).build() }.unwrap()
}

#[test]
fn locks_with_a_limit() {
    everywhere(|go| {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let ours = mutex.clone();
        assert!(cancelled(go, move || ours.lock_timeout(LONG).is_err()));
        drop(guard);
        assert!(mutex.try_lock().is_ok(), "nobody has it");
        let lock = Arc::new(RwLock::new(0));
        let guard = lock.read().unwrap();
        let ours = lock.clone();
        assert!(cancelled(go, move || ours.write_timeout(LONG).is_err()));
        drop(guard);
        let guard = lock.write().unwrap();
        let ours = lock.clone();
        assert!(cancelled(go, move || ours.read_timeout(LONG).is_err()));
        drop(guard);
        let permits = Arc::new(Semaphore::new(0));
        let ours = permits.clone();
        assert!(cancelled(go, move || ours.acquire_timeout(LONG).is_err()));
        permits.add_permits(1);
        assert!(permits.try_acquire().is_some(), "it was not taken along");
        let group = Arc::new(WaitGroup::new());
        group.add(1);
        let ours = group.clone();
        assert!(cancelled(go, move || ours.wait_timeout(LONG).is_err()));
        let notify = Arc::new(Notify::new());
        let ours = notify.clone();
        assert!(cancelled(go, move || ours.wait_timeout(LONG).is_err()));
        notify.notify_one();
        notify.wait();
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let ours = pair.clone();
        let timed_out = cancelled(go, move || {
            let held = ours.0.lock().unwrap();
            ours.1.wait_timeout(held, LONG).unwrap().1.timed_out()
        });
        assert!(timed_out);
    });
}

/// Calls that cannot say that they failed wait on.
#[test]
fn locks_without_a_limit_wait_on() {
    everywhere(|go| {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let (context, canceller) = Context::background().with_cancel();
        let ours = mutex.clone();
        let waiter = go.spawn(move || context.enter(|| *ours.lock().unwrap() += 1));
        settle();
        canceller.cancel();
        settle();
        assert_eq!(*guard, 0);
        drop(guard);
        waiter.join();
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn io() {
    on_each(|| {
        let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        for go in [Go::Tasks, Go::Threads] {
            let ours = listener.clone();
            let error = cancelled(&go, move || ours.accept().map(drop)).unwrap_err();
            assert_eq!(ContextError::of_io(&error), Some(ContextError::Cancelled));
            assert_eq!(error.kind(), ErrorKind::Other);
            let near = Arc::new(TcpStream::connect(address).unwrap());
            let (mut far, _) = listener.accept().unwrap();
            let ours = near.clone();
            let error = cancelled(&go, move || (&mut &*ours).read_exact(&mut [0; 8])).unwrap_err();
            assert_eq!(ContextError::of_io(&error), Some(ContextError::Cancelled));
            let ours = near.clone();
            let error = cancelled(&go, move || (&mut &*ours).write_all(&vec![0; 64 << 20])).unwrap_err();
            assert_eq!(ContextError::of_io(&error), Some(ContextError::Cancelled));
            // A context that is over fails a call at once, as a deadline does; the socket is as it was.
            far.write_all(b"here").unwrap();
            let (over, canceller) = Context::background().with_cancel();
            canceller.cancel();
            assert!(over.enter(|| (&mut &*near).read(&mut [0; 8])).is_err());
            let mut got = [0; 4];
            (&mut &*near).read_exact(&mut got).unwrap();
            assert_eq!(&got, b"here");
            let soon = Context::background().with_timeout(SHORT);
            let error = soon.enter(|| (&mut &*near).read(&mut got)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
    });
}

// ---- nesting ----

#[test]
fn bounds_nest() {
    everywhere(|go| {
        let (outer, cancel_outer) = Context::background().with_cancel();
        let waiter = go.spawn(move || {
            let (inner, _) = Context::background().with_cancel();
            outer.enter(|| {
                inner.enter(|| bast::time::sleep(LONG));
                assert_eq!(check(), Err(ContextError::Cancelled));
                assert!(current().is_cancelled());
                shield(|| {
                    assert_eq!(check(), Ok(()));
                    assert!(!current().is_cancelled());
                    let start = Instant::now();
                    bast::time::sleep(SHORT);
                    assert!(start.elapsed() >= SHORT, "free of what is around");
                    let soon = Context::background().with_timeout(SHORT);
                    soon.enter(|| bast::time::sleep(LONG));
                    assert_eq!(soon.error(), Some(ContextError::DeadlineExceeded));
                });
                assert_eq!(check(), Err(ContextError::Cancelled));
            });
            assert_eq!(inner.error(), None);
        });
        settle();
        cancel_outer.cancel();
        waiter.join();
    });
}

#[test]
fn timeouts_and_contexts() {
    on_each(|| {
        let (context, canceller) = Context::background().with_cancel();
        let start = Instant::now();
        // The timeout holds in the context...
        let late = timeout(SHORT, || context.enter(|| bast::time::sleep(LONG)));
        assert!(late.is_err());
        // ... the context's deadline in a longer timeout, and the current context knows of the shorter one.
        let soon = context.with_timeout(SHORT);
        assert!(timeout(LONG, || soon.enter(|| bast::time::sleep(LONG))).is_ok());
        context.enter(|| {
            assert_eq!(current().deadline(), None);
            let known = timeout(LONG, || current().deadline()).unwrap();
            assert!(known.is_some_and(|known| known <= Instant::now() + LONG));
            assert_eq!(timeout(SHORT, || shield(|| current().deadline())).unwrap(), None);
        });
        assert!(start.elapsed() < LONG / 2);
        // A cancellation is no timeout.
        canceller.cancel();
        assert!(timeout(LONG, || context.enter(|| bast::time::sleep(LONG))).is_ok());
    });
}

#[test]
fn left_by_a_panic() {
    everywhere(|_| {
        let (context, canceller) = Context::background().with_cancel();
        let entered = context.clone();
        let unwound = std::panic::catch_unwind(move || {
            entered.enter(|| {
                assert!(!current().is_cancelled());
                panic!("on purpose");
            })
        });
        assert!(unwound.is_err());
        canceller.cancel();
        assert_eq!(check(), Ok(()), "left");
    });
}

#[test]
fn a_context_is_handed_on_by_choice() {
    on_each(|| {
        let (context, canceller) = Context::background().with_cancel();
        context.enter(|| {
            let in_none = bast::spawn(|| (check(), current().with_cancel().0.error()));
            let in_ours = bast::task::Builder::new()
                .name("child")
                .context(current())
                .spawn(|| {
                    bast::time::sleep(LONG);
                    check()
                })
                .unwrap();
            settle();
            canceller.cancel();
            assert_eq!(shield(|| in_none.join()).unwrap(), (Ok(()), None));
            assert_eq!(shield(|| in_ours.join()).unwrap(), Err(ContextError::Cancelled));
        });
    });
}

/// Whoever has joined a task may end the runtime: the task waits nowhere any more, and its context is gone.
#[test]
fn a_task_has_left_its_context_when_it_is_joined() {
    static VALUE: context::Key<Slow> = context::Key::new("slow");

    struct Slow(Arc<AtomicUsize>);

    impl Drop for Slow {
        fn drop(&mut self) {
            bast::time::sleep(SHORT);
            self.0.fetch_add(1, AcqRel);
        }
    }

    on_each(|| {
        for panics in [false, true] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let context = Context::background().with_value(&VALUE, Slow(dropped.clone()));
            let task = bast::task::Builder::new().context(context).spawn(move || {
                assert!(!panics, "on purpose");
            });
            let task = task.unwrap();
            // One who is there before the end is told of it only when all is over.
            while !task.is_finished() {
                bast::task::yield_now();
            }
            assert_eq!(dropped.load(Acquire), 1, "the context's value");
            assert_eq!(task.join().is_err(), panics);
        }
    });
}

// ---- nothing is lost ----

/// Receivers come and are cancelled at any moment: every value arrives once, or lies in the channel.
#[test]
fn no_value_is_lost() {
    everywhere(|go| {
        for capacity in [Some(0), Some(1), None] {
            let (sender, receiver) = match capacity {
                Some(capacity) => channel::bounded(capacity),
                None => channel::unbounded(),
            };
            let each = go.rounds(400);
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let sender = sender.clone();
                    go.spawn(move || {
                        (0..each)
                            .map(|_| usize::from(sender.send(1).is_ok()))
                            .sum::<usize>()
                    })
                })
                .collect();
            drop(sender);
            let receivers: Vec<_> = (0..2)
                .map(|_| {
                    let receiver = receiver.clone();
                    go.spawn(move || {
                        let mut got = 0;
                        loop {
                            let (context, canceller) = Context::background().with_cancel();
                            let ends = std::thread::spawn(move || canceller.cancel());
                            let mut closed = false;
                            context.enter(|| {
                                loop {
                                    match receiver.recv() {
                                        Ok(value) => got += value,
                                        Err(_) => break closed = check().is_ok(),
                                    }
                                }
                            });
                            ends.join().unwrap();
                            if closed || (receiver.is_closed() && receiver.is_empty()) {
                                return got;
                            }
                        }
                    })
                })
                .collect();
            let sent: usize = senders.into_iter().map(|sender| sender.join()).sum();
            let got: usize = receivers.into_iter().map(|receiver| receiver.join()).sum();
            assert_eq!((sent, got), (2 * each, 2 * each));
        }
    });
}

/// Permits and locks that are granted to one who is cancelled are passed on.
#[test]
fn no_permit_is_lost() {
    everywhere(|go| {
        let permits = Arc::new(Semaphore::new(2));
        let inside = Arc::new(AtomicUsize::new(0));
        let mutex = Arc::new(Mutex::new(0));
        let each = go.rounds(100);
        let users: Vec<_> = (0..4)
            .map(|_| {
                let (permits, inside, mutex) = (permits.clone(), inside.clone(), mutex.clone());
                go.spawn(move || {
                    let mut had = 0;
                    for round in 0..each {
                        let (context, canceller) = Context::background().with_cancel();
                        let ends = bast_or_thread(round, move || canceller.cancel());
                        context.enter(|| {
                            while let Ok(_permit) = permits.acquire_timeout(LONG) {
                                assert!(inside.fetch_add(1, AcqRel) < 2);
                                bast::task::yield_now();
                                if let Ok(mut count) = mutex.lock_timeout(LONG) {
                                    *count += 1;
                                    had += 1;
                                }
                                inside.fetch_sub(1, AcqRel);
                                if check().is_err() {
                                    break;
                                }
                            }
                        });
                        ends();
                    }
                    had
                })
            })
            .collect();
        let had: usize = users.into_iter().map(|user| user.join()).sum();
        assert_eq!(*mutex.lock().unwrap(), had);
        assert_eq!(permits.available_permits(), 2);
        let both = permits.try_acquire_many(2);
        assert!(both.is_some());
    });
}

/// Runs `f` beside the caller; what it gives waits for that.
fn bast_or_thread<T: Send + 'static>(round: usize, f: impl FnOnce() -> T + Send + 'static) -> impl FnOnce() {
    let task = round
        .is_multiple_of(2)
        .then(bast::task::try_current)
        .flatten()
        .map(|_| ());
    let (task, thread) = match task {
        Some(()) => (Some(bast::spawn(f)), None),
        None => (None, Some(std::thread::spawn(f))),
    };
    move || {
        task.map(|task| task.join().unwrap());
        thread.map(|thread| thread.join().unwrap());
    }
}

/// Entering and leaving against the end: whoever is in is woken, and nobody is touched who has left.
#[test]
fn coming_and_going() {
    everywhere(|go| {
        for _ in 0..go.rounds(100) {
            let (context, canceller) = Context::background().with_cancel();
            let users: Vec<_> = (0..4)
                .map(|user| {
                    let context = context.clone();
                    go.spawn(move || {
                        while !context.is_cancelled() {
                            context.enter(|| {
                                if user % 2 == 0 {
                                    bast::task::yield_now();
                                } else {
                                    bast::time::sleep(LONG);
                                    assert!(context::check().is_err());
                                }
                            });
                        }
                    })
                })
                .collect();
            if go.rounds(100) % 3 == 0 {
                settle();
            }
            canceller.cancel();
            users.into_iter().for_each(|user| user.join());
        }
    });
}

/// The last of a context may be a task's: its values are dropped where their destructors may call bast, and a destructor
/// that panics costs nothing.
#[test]
fn a_tasks_context_is_dropped_outside_the_runtime() {
    struct Calls(bool);
    static KEY: context::Key<Calls> = context::Key::new("calls");
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    impl Drop for Calls {
        fn drop(&mut self) {
            bast::task::yield_now();
            DROPPED.fetch_add(1, Relaxed);
            assert!(!self.0, "on purpose");
        }
    }
    on_each(|| {
        DROPPED.store(0, Relaxed);
        for i in 0..20 {
            let context = Context::background().with_value(&KEY, Calls(i % 5 == 0));
            let task = bast::task::Builder::new()
                .context(context)
                .spawn(|| current().value(&KEY).is_some());
            match i % 2 {
                0 => assert!(task.unwrap().join().unwrap()),
                _ => drop(task),
            }
        }
        chan_util::wait_for(|| DROPPED.load(Relaxed) == 20);
    });
}
