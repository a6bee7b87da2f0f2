//! How waits on TCP sockets end: timeouts, deadlines before and during a wait, closing.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::net::TcpStream;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};
use util::net::{LONG, MS, fill, listen, pair};
use util::{on_each, run_on};

// ---- timeouts and deadlines ----

#[test]
fn timeouts_set_before_a_wait() {
    on_each(|| {
        let (mut near, _far) = pair();
        assert_eq!(near.read_timeout().unwrap(), None);
        near.set_read_timeout(Some(5 * MS)).unwrap();
        assert_eq!(near.read_timeout().unwrap(), Some(5 * MS));
        for _ in 0..3 {
            let start = Instant::now();
            assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= 5 * MS, "each call has the whole of it");
        }
        assert_eq!(near.peek(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        fill(&near); // sets a write timeout, and takes it back
        assert_eq!(near.write_timeout().unwrap(), None);
        near.set_write_timeout(Some(5 * MS)).unwrap();
        let start = Instant::now();
        assert_eq!(near.write(&[0; 1 << 16]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= 5 * MS);
        for zero in [
            near.set_read_timeout(Some(Duration::ZERO)),
            near.set_write_timeout(Some(Duration::ZERO)),
        ] {
            assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        near.set_read_timeout(Some(Duration::MAX)).unwrap();
        assert!(near.read_timeout().unwrap().unwrap() > LONG);
    });
}

#[test]
fn a_timed_out_stream_goes_on() {
    on_each(|| {
        let (mut near, mut far) = pair();
        near.set_read_timeout(Some(MS)).unwrap();
        assert!(near.read(&mut [0; 8]).is_err());
        near.set_read_timeout(None).unwrap();
        far.write_all(b"late").unwrap();
        let mut got = [0; 4];
        near.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"late");
    });
}

#[test]
fn deadlines_set_before_and_during_a_wait() {
    on_each(|| {
        let (near, far) = pair();
        let near = Arc::new(near);
        // Before: also one that has long passed.
        near.set_read_deadline(Some(Instant::now() + 5 * MS));
        let start = Instant::now();
        assert_eq!(
            (&*near).read(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert!(start.elapsed() >= 4 * MS);
        let start = Instant::now();
        assert_eq!(
            (&*near).read(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::TimedOut,
            "it stays in force"
        );
        assert!(start.elapsed() < LONG / 30);
        near.set_read_deadline(None);
        // During: none to soon, far to soon, and to the past.
        for first in [None, Some(Instant::now() + LONG)] {
            for second in [Instant::now() + 5 * MS, Instant::now()] {
                near.set_read_deadline(first);
                let reader = {
                    let near = near.clone();
                    bast::spawn(move || (&*near).read(&mut [0; 8]))
                };
                bast::time::sleep(2 * MS);
                near.set_read_deadline(Some(second));
                assert_eq!(reader.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
            }
        }
        // During: soon to far, so that the reader goes on waiting, until there is data.
        near.set_read_deadline(Some(Instant::now() + LONG / 2));
        let reader = {
            let near = near.clone();
            bast::spawn(move || (&*near).read(&mut [0; 8]))
        };
        bast::time::sleep(2 * MS);
        near.set_read_deadline(Some(Instant::now() + LONG));
        near.set_read_deadline(None);
        (&far).write_all(b"abc").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 3);
        // The other direction has its own.
        fill(&near);
        let writer = {
            let near = near.clone();
            bast::spawn(move || (&*near).write(&[0; 1 << 16]))
        };
        bast::time::sleep(2 * MS);
        near.set_write_deadline(Some(Instant::now() + 2 * MS));
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// Postponing a deadline that a reader waits for keeps it waiting.
#[test]
fn a_postponed_deadline_does_not_fire() {
    on_each(|| {
        let (near, far) = pair();
        let near = Arc::new(near);
        let start = Instant::now();
        near.set_read_deadline(Some(start + 30 * MS));
        let reader = {
            let near = near.clone();
            bast::spawn(move || {
                let result = (&*near).read(&mut [0; 8]);
                (result, Instant::now())
            })
        };
        bast::time::sleep(2 * MS);
        let moved = Instant::now() < start + 30 * MS;
        near.set_read_deadline(Some(start + 100 * MS));
        let (result, ended) = reader.join().unwrap();
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(!moved || ended >= start + 100 * MS, "it fired at the old time");
        drop(far);
    });
}

/// "Reads fail from `deadline` on": also when there are bytes to read.
#[test]
fn a_deadline_in_the_past_fails_even_with_data_there() {
    on_each(|| {
        let (mut near, mut far) = pair();
        far.write_all(b"there").unwrap();
        assert_eq!(near.peek(&mut [0; 8]).unwrap(), 5);
        near.set_read_deadline(Some(Instant::now()));
        assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        near.set_write_deadline(Some(Instant::now()));
        assert_eq!(near.write(&[0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        near.set_read_deadline(None);
        near.set_write_deadline(None);
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 5, "and nothing is lost by it");
        assert_eq!(near.write(&[0; 8]).unwrap(), 8);
    });
}

/// Data and deadline come together: what was read is read, what was not stays for the next read.
#[test]
fn a_deadline_races_data() {
    on_each(|| {
        let (near, far) = pair();
        let sent = Arc::new(AtomicUsize::new(0));
        let writer = {
            let sent = sent.clone();
            bast::spawn(move || {
                for round in 0..300_u64 {
                    (&far).write_all(&[1; 3]).unwrap();
                    sent.fetch_add(3, AcqRel);
                    bast::time::sleep(Duration::from_micros(round % 70));
                }
                far
            })
        };
        let mut got = 0;
        let mut late = 0;
        while got < 900 {
            near.set_read_deadline(Some(Instant::now() + Duration::from_micros(30)));
            match (&near).read(&mut [0; 8]) {
                Ok(count) => got += count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    late += 1;
                }
            }
        }
        assert_eq!(got, 900, "after {late} deadlines");
        drop(writer.join().unwrap());
    });
}

#[test]
fn connect_timeout_to_a_listener_whose_backlog_is_full() {
    run_on(2, || {
        // A listener with the shortest backlog, which nobody accepts from: further connects get no answer.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: validity: the descriptor is open. aliasing: no memory is passed.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        let timed_out = loop {
            let start = Instant::now();
            match TcpStream::connect_timeout(&address, 50 * MS) {
                Ok(stream) => waiting.push(stream),
                Err(error) => {
                    assert!(start.elapsed() >= 50 * MS);
                    break error;
                }
            }
            assert!(waiting.len() < 100, "the backlog never fills");
        };
        assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
        let late = bast::time::timeout(5 * MS, || TcpStream::connect(address).map(drop));
        assert_eq!(
            late.unwrap_err().into_inner().unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        let zero = TcpStream::connect_timeout(&address, Duration::ZERO).unwrap_err();
        assert_eq!(zero.kind(), ErrorKind::InvalidInput);
    });
}

// ---- closing ----

#[test]
fn close_wakes_accepts_and_reads() {
    on_each(|| {
        let (listener, _) = listen();
        let listener = Arc::new(listener);
        let acceptors: Vec<_> = (0..4)
            .map(|_| {
                let listener = listener.clone();
                bast::spawn(move || listener.accept().map(drop))
            })
            .collect();
        let (near, far) = pair();
        let near = Arc::new(near);
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let near = near.clone();
                bast::spawn(move || (&*near).read(&mut [0; 8]))
            })
            .collect();
        bast::time::sleep(2 * MS);
        listener.close();
        near.close();
        for acceptor in acceptors {
            let error = acceptor.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("closed"), "{error}");
        }
        for reader in readers {
            let error = reader.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("closed"), "{error}");
        }
        // In future too, and twice does no harm.
        listener.close();
        near.close();
        assert!(listener.accept().is_err());
        assert!((&*near).read(&mut [0; 8]).is_err());
        drop(far);
    });
}

#[test]
fn an_accept_deadline_ends_all_accepts() {
    on_each(|| {
        let (listener, address) = listen();
        let listener = Arc::new(listener);
        let acceptors: Vec<_> = (0..4)
            .map(|_| {
                let listener = listener.clone();
                bast::spawn(move || listener.accept().map(drop))
            })
            .collect();
        bast::time::sleep(2 * MS);
        listener.set_accept_deadline(Some(Instant::now()));
        for acceptor in acceptors {
            assert_eq!(acceptor.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        }
        listener.set_accept_deadline(None);
        let client = bast::spawn(move || TcpStream::connect(address).map(drop));
        listener.accept().unwrap();
        client.join().unwrap().unwrap();
    });
}
