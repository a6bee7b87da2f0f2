//! Closing a source from one thread while others arm, wait and are woken.

mod util;

use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use bast_netpoll::{Arm, Direction, Disarm, Poller};
use util::{Driver, Stream, clear, unpark};

#[test]
fn close_hands_out_both_directions_and_the_crowd() {
    let poller = Poller::new().unwrap();
    let (near, _far) = Stream::pair(&poller);
    let source = &near.source;
    for direction in Direction::BOTH {
        clear(source, direction);
    }
    for token in 1..=3 {
        assert_eq!(source.wait_start(Direction::Read, token), Arm::Armed);
    }
    assert_eq!(source.wait_start(Direction::Write, 4), Arm::Armed);
    let mut tokens: Vec<_> = source.close().collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 2, 3, 4]);
    assert!(source.close().is_empty(), "closed already");
    for direction in Direction::BOTH {
        assert_eq!(source.wait_end(direction, 1), Disarm::Closed);
        assert_eq!(source.wait_start(direction, 1), Arm::Closed);
        let readiness = source.readiness(direction);
        assert!(!readiness.may_try(readiness.snapshot()));
        assert!(source.set_deadline(direction, Some(1)).is_empty());
        assert_eq!(source.leave(direction), None);
    }
}

#[test]
fn an_event_after_close_changes_nothing() {
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    let _ = far.source.close();
    (&near.socket).write_all(b"x").unwrap();
    assert_eq!(util::harvest(&poller), [0; 0]);
    assert_eq!(far.source.wait_start(Direction::Read, 1), Arm::Closed);
}

/// One waiter, one closer, and bytes that may or may not come first.
#[test]
fn close_races_with_one_reader() {
    let driver = Driver::start();
    for round in 0..500 {
        let (near, far) = Stream::pair(&driver.poller);
        let start = Barrier::new(3);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                far.source.close().for_each(unpark);
            });
            scope.spawn(|| {
                start.wait();
                if round % 2 == 0 {
                    (&near.socket).write_all(b"x").unwrap();
                }
            });
            start.wait();
            // The byte or the close; asleep for ever would be neither.
            match far.read(&mut [0; 8]) {
                Ok(bytes) => assert_eq!((bytes, round % 2), (1, 0)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotConnected),
            }
        });
    }
}

/// A crowd of readers that forms, is woken and shrinks while the source is closed.
#[test]
fn close_races_with_a_crowd() {
    const READERS: usize = 5;
    let driver = Driver::start();
    let ended = AtomicUsize::new(0);
    for _ in 0..100 {
        let (near, far) = Stream::pair(&driver.poller);
        let start = Barrier::new(READERS + 2);
        thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    start.wait();
                    while let Ok(1) = far.read(&mut [0]) {}
                    ended.fetch_add(1, SeqCst);
                });
            }
            scope.spawn(|| {
                start.wait();
                for _ in 0..20 {
                    (&near.socket).write_all(b"x").unwrap();
                }
                far.source.close().for_each(unpark);
            });
            start.wait();
            // Deadlines move meanwhile.
            for deadline in 0..20 {
                far.source
                    .set_deadline(Direction::Read, Some(deadline))
                    .for_each(unpark);
            }
        });
        far.source.deregister(far.socket.as_raw_fd()).unwrap();
    }
    assert_eq!(ended.load(SeqCst), 100 * READERS);
}

/// Many closers: each waiter is handed out by exactly one of them.
#[test]
fn closers_race_with_each_other() {
    const CLOSERS: usize = 4;
    let poller = Poller::new().unwrap();
    for round in 0..300 {
        let (near, _far) = Stream::pair(&poller);
        clear(&near.source, Direction::Read);
        let waiters = round % 3;
        for token in 0..waiters {
            assert_eq!(near.source.wait_start(Direction::Read, token), Arm::Armed);
        }
        let start = Barrier::new(CLOSERS);
        let mut tokens: Vec<usize> = thread::scope(|scope| {
            let closers: Vec<_> = (0..CLOSERS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        near.source.close().collect::<Vec<_>>()
                    })
                })
                .collect();
            closers
                .into_iter()
                .flat_map(|closer| closer.join().unwrap())
                .collect()
        });
        tokens.sort_unstable();
        assert_eq!(tokens, Vec::from_iter(0..waiters));
    }
}
