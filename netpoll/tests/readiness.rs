//! Readiness through real descriptors: what is skipped, who is woken, deadlines, crowds.

mod util;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use bast_netpoll::{Arm, Direction, Disarm, Poller, TOKEN_MAX, Tokens};
use util::{Driver, Stream, call, clear, harvest, my_token, park, pipe, unpark, wait_for};

fn sorted(tokens: Tokens) -> Vec<usize> {
    let mut tokens: Vec<_> = tokens.collect();
    tokens.sort_unstable();
    tokens
}

#[test]
fn a_new_source_may_be_tried() {
    let poller = Poller::new().unwrap();
    let (near, _far) = Stream::pair(&poller);
    for direction in Direction::BOTH {
        let readiness = near.source.readiness(direction);
        assert!(readiness.may_try(readiness.snapshot()), "{direction:?}");
        assert_eq!(near.source.wait_start(direction, 1), Arm::Ready);
        assert_eq!(near.source.deadline(direction), None);
    }
}

#[test]
fn an_event_between_snapshot_and_clear_stays() {
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    let readiness = far.source.readiness(Direction::Read);
    let snapshot = readiness.snapshot();
    (&near.socket).write_all(b"x").unwrap();
    harvest(&poller);
    for _ in 0..2 {
        readiness.clear_blocked(snapshot);
        readiness.clear_short(snapshot);
        assert_eq!(far.source.wait_start(Direction::Read, 1), Arm::Ready);
    }
    // The second event looks like the first but for its tick.
    let snapshot = readiness.snapshot();
    (&near.socket).write_all(b"x").unwrap();
    harvest(&poller);
    readiness.clear_blocked(snapshot);
    assert!(readiness.may_try(readiness.snapshot()));
    readiness.clear_short(readiness.snapshot());
    assert!(!readiness.may_try(readiness.snapshot()));
}

#[test]
fn a_short_read_saves_the_call_that_would_block() {
    const ROUNDS: usize = 100;
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    let readiness = far.source.readiness(Direction::Read);
    let mut buffer = [0; 64];
    for _ in 0..ROUNDS {
        (&near.socket).write_all(b"ping!").unwrap();
        harvest(&poller);
        assert_eq!(far.read(&mut buffer).unwrap(), 5);
        assert!(
            !readiness.may_try(readiness.snapshot()),
            "five of sixty-four: drained"
        );
    }
    assert_eq!(far.reads.load(SeqCst), ROUNDS, "a call that would block was made");
    // Exactly what there is: nobody knows whether there is more.
    (&near.socket).write_all(b"ping!").unwrap();
    harvest(&poller);
    assert_eq!(far.read(&mut buffer[..5]).unwrap(), 5);
    assert!(readiness.may_try(readiness.snapshot()));
}

#[test]
fn a_waiter_takes_its_token_back_once() {
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    clear(&far.source, Direction::Read);
    assert_eq!(far.source.wait_start(Direction::Read, 1), Arm::Armed);
    assert_eq!(far.source.wait_end(Direction::Read, 1), Disarm::Disarmed);
    (&near.socket).write_all(b"x").unwrap();
    assert_eq!(harvest(&poller), [0; 0], "it has left");
    assert_eq!(
        far.source.wait_start(Direction::Read, 1),
        Arm::Ready,
        "but the event is there"
    );
}

#[test]
fn the_largest_token_fits() {
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    for token in [0, TOKEN_MAX] {
        clear(&far.source, Direction::Read);
        harvest(&poller);
        clear(&far.source, Direction::Read);
        assert_eq!(far.source.wait_start(Direction::Read, token), Arm::Armed);
        (&near.socket).write_all(b"x").unwrap();
        assert_eq!(wait_for(&poller, 1), [token]);
    }
}

#[test]
#[should_panic(expected = "larger than TOKEN_MAX")]
fn a_larger_token_is_refused() {
    let poller = Poller::new().unwrap();
    let (near, _far) = Stream::pair(&poller);
    clear(&near.source, Direction::Read);
    let _ = near.source.wait_start(Direction::Read, TOKEN_MAX + 1);
}

#[test]
fn a_crowd_is_served_in_order_and_one_an_event() {
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    clear(&far.source, Direction::Read);
    for token in 1..=4 {
        assert_eq!(far.source.wait_start(Direction::Read, token), Arm::Armed);
    }
    // The writers' queue is another.
    harvest(&poller);
    clear(&far.source, Direction::Write);
    assert_eq!(far.source.wait_start(Direction::Write, 9), Arm::Armed);
    assert_eq!(far.source.wait_end(Direction::Read, 2), Disarm::Disarmed);
    assert_eq!(
        far.source.wait_end(Direction::Read, 2),
        Disarm::Taken,
        "no longer there"
    );

    (&near.socket).write_all(b"x").unwrap();
    let mut woken = wait_for(&poller, 1);
    woken.retain(|&token| token != 9); // the kernel says "writable" along with it
    assert_eq!(woken, [1]);
    // The first succeeds and leaves: the next may try. That one finds nothing.
    assert_eq!(far.source.leave(Direction::Read), Some(3));
    clear(&far.source, Direction::Read);
    assert_eq!(far.source.leave(Direction::Read), None, "nothing to be had");
    assert_eq!(far.source.wait_start(Direction::Read, 3), Arm::Armed);
    (&near.socket).write_all(b"x").unwrap();
    assert_eq!(wait_for(&poller, 1), [4], "who waited longest");
    assert_eq!(far.source.leave(Direction::Read), Some(3));
    assert_eq!(far.source.leave(Direction::Read), None, "the crowd has gone");
}

#[test]
fn a_deadline_hands_out_those_who_wait_under_the_old_one() {
    let poller = Poller::new().unwrap();
    let (_near, far) = Stream::pair(&poller);
    let source = &far.source;
    assert!(
        source.set_deadline(Direction::Read, Some(5)).is_empty(),
        "nobody waits"
    );
    assert_eq!(source.deadline(Direction::Read), Some(5));
    assert_eq!(source.deadline(Direction::Write), None);
    for direction in Direction::BOTH {
        clear(source, direction);
    }
    harvest(&poller);
    clear(source, Direction::Write);
    assert_eq!(source.wait_start(Direction::Read, 1), Arm::Armed);
    assert_eq!(source.wait_start(Direction::Write, 2), Arm::Armed);
    assert_eq!(sorted(source.set_deadline(Direction::Read, Some(0))), [1]);
    assert_eq!(
        source.deadline(Direction::Read),
        Some(0),
        "a deadline of zero is one"
    );
    assert_eq!(source.wait_end(Direction::Read, 1), Disarm::Taken);
    let readiness = source.readiness(Direction::Read);
    assert!(!readiness.may_try(readiness.snapshot()), "a deadline is no event");
    for token in 3..=6 {
        assert_eq!(source.wait_start(Direction::Read, token), Arm::Armed);
    }
    let tokens = source.set_deadline(Direction::Read, None);
    assert_eq!(tokens.len(), 4);
    assert_eq!(sorted(tokens), [3, 4, 5, 6]);
    assert_eq!(source.deadline(Direction::Read), None);
    assert_eq!(
        source.wait_end(Direction::Write, 2),
        Disarm::Disarmed,
        "the other direction was left alone"
    );
}

#[test]
fn eight_acceptors_share_a_listener() {
    const ACCEPTORS: usize = 8;
    const CONNECTIONS: usize = 400;
    let driver = Driver::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let source = driver.poller.register(listener.as_raw_fd()).unwrap();
    let accepted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..ACCEPTORS {
            scope.spawn(|| {
                while call(&source, Direction::Read, || listener.accept(), |_| false).is_ok() {
                    accepted.fetch_add(1, SeqCst);
                }
            });
        }
        // In bursts: the backlog holds several connections for one edge.
        for burst in 1..=CONNECTIONS / 20 {
            let _connections: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
            while accepted.load(SeqCst) < burst * 20 {
                thread::yield_now();
            }
        }
        source.close().for_each(unpark);
    });
    assert_eq!(accepted.load(SeqCst), CONNECTIONS);
}

#[test]
fn readers_that_share_a_stream_get_every_byte() {
    const READERS: usize = 6;
    const BYTES: usize = 40_000;
    let driver = Driver::start();
    let (near, far) = Stream::pair(&driver.poller);
    let got = AtomicUsize::new(0);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut buffer = [0; 16];
                    loop {
                        match far.read(&mut buffer).unwrap() {
                            0 => break,
                            bytes => got.fetch_add(bytes, SeqCst),
                        };
                    }
                })
            })
            .collect();
        for chunk in [1; BYTES / 5].iter().map(|_| [3; 5]) {
            near.write_all(&chunk).unwrap();
        }
        // The end wakes one; each hands it on.
        near.socket.shutdown(std::net::Shutdown::Write).unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(got.load(SeqCst), BYTES);
}

#[test]
fn writers_wait_for_room_and_lose_nothing() {
    const BYTES: usize = 3_000_000;
    let driver = Driver::start();
    let (near, far) = Stream::pair(&driver.poller);
    thread::scope(|scope| {
        scope.spawn(|| {
            let block = [9; 50_000];
            (0..BYTES / block.len()).for_each(|_| near.write_all(&block).unwrap());
            near.socket.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut buffer = [0; 7000];
        let mut got = 0;
        loop {
            match far.read(&mut buffer).unwrap() {
                0 => break,
                bytes => got += bytes,
            }
        }
        assert_eq!(got, BYTES);
    });
}

/// Of a waiter that leaves and an event, one has the token, thousands of times over.
#[test]
fn leaving_races_with_events() {
    const ROUNDS: usize = 3000;
    let poller = Poller::new().unwrap();
    let (mut reader, mut writer) = pipe();
    let source = poller.register(reader.as_raw_fd()).unwrap();
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let mut handed_out = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                start.wait();
                writer.write_all(b"x").unwrap();
                handed_out.push(harvest(&poller).len());
                start.wait();
            }
            handed_out
        });
        let mut taken = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            clear(&source, Direction::Read);
            assert_eq!(source.wait_start(Direction::Read, 1), Arm::Armed);
            start.wait();
            std::hint::spin_loop();
            taken.push(usize::from(source.wait_end(Direction::Read, 1) == Disarm::Taken));
            start.wait();
            let readiness = source.readiness(Direction::Read);
            assert!(readiness.may_try(readiness.snapshot()), "the event was lost");
            std::io::Read::read_exact(&mut reader, &mut [0]).unwrap();
        }
        assert_eq!(poller.join().unwrap(), taken);
    });
}

/// A setter moves the deadline while a waiter arms and reads it: no waiter sleeps by an old one.
#[test]
fn deadlines_race_with_waiters() {
    const LAST: u64 = 5000;
    let poller = Poller::new().unwrap();
    let (near, _far) = Stream::pair(&poller);
    let source = &near.source;
    clear(source, Direction::Read);
    thread::scope(|scope| {
        scope.spawn(|| {
            for deadline in 1..=LAST {
                source
                    .set_deadline(Direction::Read, Some(deadline))
                    .for_each(unpark);
            }
        });
        // Two waiters, so that the word and the queue both hold some.
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    assert_eq!(source.wait_start(Direction::Read, my_token()), Arm::Armed);
                    let seen = source.deadline(Direction::Read);
                    if seen != Some(LAST) {
                        park(); // for ever, if the change passed us by
                    }
                    let end = source.wait_end(Direction::Read, my_token());
                    assert_ne!(end, Disarm::Closed);
                    if seen == Some(LAST) {
                        break;
                    }
                }
            });
        }
    });
}
