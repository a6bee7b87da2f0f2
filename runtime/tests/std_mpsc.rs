//! What std's tests of `mpsc`, `sync_channel`, `mpmc` and `oneshot` pin down, beyond `chan_basic.rs` and
//! `crossbeam_channel.rs`. Written anew.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::sync::channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError, TrySendError, bounded,
    rendezvous, unbounded,
};
use chan_util::{LONG, everywhere, on_each, settle, wait_for};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

fn each_flavour<T>(test: impl Fn(Sender<T>, Receiver<T>)) {
    for (sender, receiver) in [rendezvous(), bounded(1), bounded(50), unbounded()] {
        test(sender, receiver);
    }
}

/// Ends go wherever their values may go.
#[test]
fn ends_can_be_sent_and_shared() {
    fn everywhere<T: Send + Sync + Unpin + std::panic::UnwindSafe + std::fmt::Debug>() {}
    everywhere::<Sender<std::cell::Cell<u8>>>();
    everywhere::<Receiver<std::cell::Cell<u8>>>();
    fn an_error<E: Error + Send + Sync + 'static>() {}
    an_error::<SendError<u8>>();
    an_error::<TrySendError<u8>>();
    an_error::<RecvError>();
    an_error::<TryRecvError>();
    an_error::<RecvTimeoutError>();
}

/// Without a runtime: threads alone, nothing started.
#[test]
fn without_a_runtime() {
    let _watchdog = chan_util::Watchdog::start("threads", None);
    each_flavour(|sender, receiver| {
        let other = std::thread::spawn(move || (0..100).try_for_each(|n| sender.send(Box::new(n))));
        assert!(receiver.iter().map(|n| *n).eq(0..100));
        assert_eq!(other.join().unwrap(), Ok(()));
    });
}

/// From plain threads into a runtime and out of it.
#[test]
fn into_a_runtime_and_out_of_it() {
    on_each(|| {
        each_flavour(|to_tasks, in_tasks| {
            let (to_threads, in_threads) = bounded(1);
            let task = bast::spawn(move || {
                for n in in_tasks {
                    to_threads.send(n + 1).unwrap();
                }
            });
            let thread = std::thread::spawn(move || {
                for n in 0..200 {
                    to_tasks.send(n).unwrap();
                    assert_eq!(in_threads.recv(), Ok(n + 1));
                }
            });
            bast::blocking(|| thread.join()).unwrap();
            task.join().unwrap();
        });
    });
}

/// Values in a channel that nobody receives are dropped with it, however its ends go.
#[test]
fn values_left_over_are_dropped() {
    everywhere(|go| {
        for way in 0..3 {
            for (sender, receiver) in [bounded(5), unbounded()] {
                let value = Arc::new(());
                (0..4).for_each(|_| sender.send(value.clone()).unwrap());
                assert_eq!(Arc::strong_count(&value), 5);
                match way {
                    0 => drop((sender, receiver)),
                    1 => drop((receiver, sender)),
                    _ => {
                        let there = go.spawn(move || drop(sender));
                        drop(receiver);
                        there.join();
                    }
                }
                assert_eq!(Arc::strong_count(&value), 1);
            }
        }
    });
}

/// A sender that goes while others send on, and a receiver that goes while others receive.
#[test]
fn the_receiver_goes_while_others_send() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            let senders: Vec<_> = (0..3)
                .map(|_| {
                    let sender = sender.clone();
                    go.spawn(move || (0..).take_while(|&n| sender.send(n).is_ok()).count())
                })
                .collect();
            drop(sender);
            let got: Vec<usize> = receiver.iter().take(30).collect();
            assert_eq!(got.len(), 30);
            drop(receiver);
            let sent: usize = senders.into_iter().map(|one| one.join()).sum();
            assert!(sent >= 30, "{sent}");
        });
    });
}

/// What a receiver that looks now and then sees, state by state.
#[test]
fn the_states_that_a_try_sees() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            let (go_on, told) = rendezvous::<()>();
            let (done, seen) = rendezvous::<()>();
            let other = go.spawn(move || {
                told.recv().unwrap();
                sender.send(1).unwrap();
                done.send(()).unwrap();
                told.recv().unwrap();
                drop(sender);
                done.send(()).unwrap();
            });
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            go_on.send(()).unwrap();
            wait_for(|| receiver.try_recv().map(|got| assert_eq!(got, 1)).is_ok());
            seen.recv().unwrap();
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            go_on.send(()).unwrap();
            seen.recv().unwrap();
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            other.join();
        });
    });
}

/// Millions in a row through every kind of block and ring: nothing runs full.
#[test]
fn many_values_in_a_row() {
    everywhere(|go| {
        let count = go.rounds(30_000);
        let (sender, receiver) = unbounded();
        for round in 0..3 {
            (0..count).for_each(|n| sender.send(n + round).unwrap());
            assert_eq!(receiver.len(), count);
            assert!(receiver.try_iter().eq(round..count + round));
        }
        let (sender, receiver) = bounded(3);
        for n in 0..count {
            sender.try_send(n).unwrap();
            assert_eq!(receiver.try_recv(), Ok(n));
        }
    });
}

/// Receivers with a limit against many senders: all values, and then the end.
#[test]
fn limits_against_a_crowd_of_senders() {
    everywhere(|go| {
        each_flavour(|sender, receiver| {
            let each = go.rounds(100);
            let crowd: Vec<_> = (0..8_u64)
                .map(|id| {
                    let sender = sender.clone();
                    go.spawn(move || {
                        for n in 0..each as u64 {
                            if n % 16 == id {
                                bast::time::sleep(Duration::from_micros(50));
                            }
                            sender.send(n).unwrap();
                        }
                    })
                })
                .collect();
            drop(sender);
            let mut got = 0;
            loop {
                match receiver.recv_timeout(Duration::from_micros(100)) {
                    Ok(_) => got += 1,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            assert_eq!(got, 8 * each);
            crowd.into_iter().for_each(|one| one.join());
        });
    });
}

/// A clone of an end made after others have gone, and a drop of the last while another waits.
#[test]
fn an_end_made_late_counts() {
    everywhere(|go| {
        each_flavour(|first: Sender<u8>, receiver| {
            let second = first.clone();
            drop(first);
            let third = second.clone();
            drop(second);
            let waiter = go.spawn(move || receiver.recv());
            settle();
            third.send(9).unwrap();
            assert_eq!(waiter.join(), Ok(9));
        });
    });
}

/// Each of two sides waits for the other's end to go, with a limit that does not matter.
#[test]
fn an_end_that_goes_while_the_other_is_timed() {
    everywhere(|go| {
        for _ in 0..go.rounds(50) {
            each_flavour(|sender: Sender<u8>, receiver| {
                let other = go.spawn(move || receiver.recv_timeout(LONG));
                drop(sender);
                assert_eq!(other.join(), Err(RecvTimeoutError::Disconnected));
            });
        }
    });
}

/// A full channel whose waiting sender is let in by a receiver that does not wait, or by one that goes.
#[test]
fn a_waiting_sender_is_let_in() {
    everywhere(|go| {
        let (sender, receiver) = bounded(1);
        sender.send(1).unwrap();
        let ours = sender.clone();
        let waiting = go.spawn(move || ours.send(2));
        settle();
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(waiting.join(), Ok(()));
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        let waiting = go.spawn(move || sender.send(4));
        settle();
        drop(receiver);
        assert_eq!(waiting.join(), Err(SendError(4)));
    });
}

/// Dropped within its own value: the channel lives in a value that lies in the channel.
#[test]
fn a_channel_that_holds_its_own_ends() {
    struct Holds {
        _ends: (Sender<Holds>, Receiver<Holds>),
        dropped: Arc<AtomicUsize>,
    }
    impl Drop for Holds {
        fn drop(&mut self) {
            self.dropped.fetch_add(1, SeqCst);
        }
    }
    everywhere(|_| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = bounded(2);
        let held = Holds {
            _ends: (sender.clone(), receiver.clone()),
            dropped: dropped.clone(),
        };
        assert!(sender.send(held).is_ok());
        drop(sender);
        // The value keeps its channel open: it must be taken out.
        assert!(!receiver.is_closed());
        drop(receiver.recv().ok());
        assert_eq!(dropped.load(SeqCst), 1);
        assert!(receiver.recv().is_err(), "its last sender went with the value");
    });
}
