//! Events that outlive what they were for: numbers of descriptors and entries of the table used again.

mod util;

use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use bast_netpoll::{Arm, Direction, Disarm, Poller};
use util::{Driver, Stream, clear, harvest, wait_for};

/// A descriptor is closed behind its source's back while a duplicate keeps the registration alive in the
/// kernel. Its events carry the address of an entry that by then belongs to another source.
#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "a kqueue registration ends with its descriptor"
)]
fn an_event_of_a_former_owner_is_dropped() {
    let poller = Poller::new().unwrap();
    let (mut peer, watched) = UnixStream::pair().unwrap();
    watched.set_nonblocking(true).unwrap();
    let duplicate = watched.try_clone().unwrap();
    let old = poller.register(watched.as_raw_fd()).unwrap();
    drop(watched); // the wrong way round: the source can no longer find its registration
    drop(old);
    assert_eq!(poller.sources(), 0);

    let (near, far) = Stream::pair(&poller); // one of them has the old one's entry
    harvest(&poller);
    for stream in [&near, &far] {
        for direction in Direction::BOTH {
            clear(&stream.source, direction);
        }
        assert_eq!(
            stream
                .source
                .wait_start(Direction::Read, stream.socket.as_raw_fd() as usize),
            Arm::Armed
        );
    }
    peer.write_all(b"for the former owner").unwrap();
    assert_eq!(harvest(&poller), [0; 0], "an event for another descriptor");
    for stream in [&near, &far] {
        let token = stream.socket.as_raw_fd() as usize;
        assert_eq!(stream.source.wait_end(Direction::Read, token), Disarm::Disarmed);
    }
    let mut buffer = [0; 64];
    assert_eq!(
        (&duplicate).read(&mut buffer).unwrap(),
        20,
        "there was something to tell"
    );
}

#[test]
fn a_used_entry_begins_anew() {
    let poller = Poller::new().unwrap();
    for round in 0..50 {
        let (near, far) = Stream::pair(&poller);
        assert_eq!(poller.sources(), 2);
        for direction in Direction::BOTH {
            let readiness = near.source.readiness(direction);
            assert!(readiness.may_try(readiness.snapshot()), "round {round}");
            assert_eq!(near.source.deadline(direction), None);
            clear(&near.source, direction);
            assert!(near.source.set_deadline(direction, Some(round)).is_empty());
        }
        // Leave it in every sort of state, with waiters that nobody will ever call.
        match round % 4 {
            0 => drop(near.source.close()),
            1 => assert_eq!(near.source.wait_start(Direction::Read, 1), Arm::Armed),
            2 => (1..=3).for_each(|token| {
                assert_eq!(near.source.wait_start(Direction::Write, token), Arm::Armed);
            }),
            _ => (&near.socket).write_all(b"x").unwrap(),
        }
        drop((near, far));
        assert_eq!(poller.sources(), 0);
        assert_eq!(harvest(&poller), [0; 0]);
    }
}

/// A number is closed and at once given to the next socket, over and over, with bytes under way: each
/// socket hears of its own bytes.
#[test]
fn a_reused_descriptor_hears_only_its_own_events() {
    let poller = Poller::new().unwrap();
    let mut numbers = std::collections::HashSet::new();
    for round in 0..200 {
        let (near, far) = Stream::pair(&poller);
        numbers.insert(far.socket.as_raw_fd());
        clear(&far.source, Direction::Read);
        assert_eq!(far.source.wait_start(Direction::Read, round), Arm::Armed);
        (&near.socket).write_all(b"x").unwrap();
        if round % 2 == 0 {
            continue; // closed with its event unharvested
        }
        assert_eq!(wait_for(&poller, 1), [round]);
    }
    assert!(numbers.len() < 200, "no number was used twice");
}

/// Threads that make, use and close connections as fast as they can, all in one poller.
#[test]
fn connections_come_and_go_under_load() {
    const THREADS: usize = 4;
    const CONNECTIONS: usize = 250;
    let driver = Driver::start();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let driver = &driver;
            scope.spawn(move || {
                for connection in 0..CONNECTIONS {
                    let (near, far) = Stream::pair(&driver.poller);
                    let message = [thread as u8, connection as u8, 0xb5];
                    thread::scope(|scope| {
                        scope.spawn(|| {
                            let mut heard = [0; 3];
                            far.read_exact(&mut heard).unwrap();
                            far.write_all(&heard).unwrap();
                        });
                        near.write_all(&message).unwrap();
                        let mut echo = [0; 3];
                        near.read_exact(&mut echo).unwrap();
                        assert_eq!(echo, message);
                    });
                    if connection % 3 == 0 {
                        // Deregistered and then dropped, or only dropped.
                        near.source.deregister(near.socket.as_raw_fd()).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(driver.poller.sources(), 0);
}

/// A source that is dropped takes its descriptor out of the poller, so that the same open file can be
/// registered again.
#[test]
fn a_dropped_source_leaves_the_selector() {
    let poller = Poller::new().unwrap();
    let (_peer, socket) = UnixStream::pair().unwrap();
    let socket: ManuallyDrop<OwnedFd> = ManuallyDrop::new(socket.into());
    let fd = socket.as_raw_fd();
    for _ in 0..10 {
        let source = poller.register(fd).expect("free again");
        drop(source);
    }
    // SAFETY: validity: the descriptor is open; `ManuallyDrop` did not close it.
    //         aliasing: its former owner is never used again.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}
