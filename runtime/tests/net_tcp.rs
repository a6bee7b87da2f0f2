//! TCP as std's behaves, with waits that park: connecting, reading, writing, closing halves; plain threads and std's types.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::net::{TcpListener, TcpStream};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv6Addr, Shutdown};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Instant;
use util::net::{LONG, MS, fill, listen, pair};
use util::{Gate, on_each, run_on, wait_for};

#[test]
fn connecting_to_a_closed_port_is_refused() {
    on_each(|| {
        let (listener, address) = listen();
        drop(listener);
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        let error = TcpStream::connect_timeout(&address, LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn connect_tries_every_address() {
    run_on(2, || {
        let (closed, nobody) = listen();
        drop(closed);
        let (listener, address) = listen();
        let stream = TcpStream::connect(&[nobody, address][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        listener.accept().unwrap();
        let error = TcpStream::connect(&[][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(TcpStream::connect("no such host is here:1").is_err());
        assert!(TcpListener::bind("127.0.0.1").is_err(), "no port");
    });
}

#[test]
fn binding_a_port_in_use_is_refused() {
    run_on(1, || {
        let (_listener, address) = listen();
        assert_eq!(
            TcpListener::bind(address).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
    });
}

#[test]
fn peek_takes_nothing() {
    on_each(|| {
        let (mut near, mut far) = pair();
        let writer = bast::spawn(move || {
            bast::time::sleep(MS);
            near.write_all(b"peek").unwrap();
            near
        });
        let mut buffer = [0; 8];
        assert_eq!(far.peek(&mut buffer).unwrap(), 4);
        assert_eq!(far.peek(&mut buffer[..2]).unwrap(), 2);
        assert_eq!(far.read(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"peek");
        drop(writer.join().unwrap());
        assert_eq!(far.peek(&mut buffer).unwrap(), 0, "the end can be peeked at");
        assert_eq!(far.read(&mut buffer).unwrap(), 0);
        assert_eq!(far.read(&mut buffer).unwrap(), 0, "and read again and again");
    });
}

#[test]
fn vectored_reads_and_writes() {
    on_each(|| {
        let (mut near, mut far) = pair();
        let sent = near
            .write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")])
            .unwrap();
        assert_eq!(sent, 5);
        let (mut first, mut second) = ([0; 3], [0; 8]);
        let mut got = 0;
        while got < 5 {
            // On loopback the five bytes come together.
            got += far
                .read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)])
                .unwrap();
        }
        assert_eq!((&first, &second[..2]), (b"abc", &b"de"[..]));
        assert_eq!(far.write_vectored(&[]).unwrap(), 0);
    });
}

#[test]
fn an_empty_write_does_not_wait() {
    on_each(|| {
        let (mut near, _far) = pair();
        fill(&near);
        assert_eq!(near.write(&[]).unwrap(), 0);
    });
}

#[test]
fn clones_are_the_same_connection() {
    on_each(|| {
        let (near, mut far) = pair();
        let mut other = near.try_clone().unwrap();
        let reader = bast::spawn(move || {
            let mut got = [0; 3];
            other.read_exact(&mut got).unwrap();
            got
        });
        far.write_all(b"xyz").unwrap();
        assert_eq!(&reader.join().unwrap(), b"xyz");
        drop(near); // the last handle
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        let (listener, address) = listen();
        let twin = listener.try_clone().unwrap();
        let accepts = bast::spawn(move || twin.accept().map(drop));
        TcpStream::connect(address).unwrap();
        accepts.join().unwrap().unwrap();
    });
}

/// Two handles of one socket wait at once, one a direction and both in the same.
#[test]
fn clones_wait_side_by_side() {
    on_each(|| {
        let (near, mut far) = pair();
        let total = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (mut stream, total) = (near.try_clone().unwrap(), total.clone());
                bast::spawn(move || {
                    let mut byte = [0];
                    while stream.read(&mut byte).unwrap() > 0 {
                        total.fetch_add(1, AcqRel);
                    }
                })
            })
            .collect();
        for _ in 0..100 {
            far.write_all(b"x").unwrap();
            bast::task::yield_now();
        }
        wait_for(|| total.load(Acquire) == 100);
        drop(far);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn shutdown_wakes_readers_and_writers() {
    on_each(|| {
        let (near, far) = pair();
        let near = Arc::new(near);
        let reader = {
            let near = near.clone();
            bast::spawn(move || (&*near).read(&mut [0; 8]))
        };
        bast::time::sleep(2 * MS);
        near.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 0);
        fill(&near);
        let writer = {
            let near = near.clone();
            bast::spawn(move || (&*near).write(&[0; 1 << 16]))
        };
        bast::time::sleep(2 * MS);
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
        drop(far);
    });
}

#[test]
fn half_close() {
    on_each(|| {
        let (mut near, mut far) = pair();
        let server = bast::spawn(move || {
            let mut got = Vec::new();
            far.read_to_end(&mut got).unwrap();
            far.write_all(&got).unwrap(); // the other half is still open
        });
        near.write_all(b"to the end").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let mut back = String::new();
        near.read_to_string(&mut back).unwrap();
        assert_eq!(back, "to the end");
        server.join().unwrap();
    });
}

#[test]
fn a_reset_is_an_error_on_both_sides_of_a_wait() {
    fn reset(stream: TcpStream) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // SAFETY: validity: the descriptor is open, the size is that of the local. aliasing: only read.
        let result = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            )
        };
        assert_eq!(result, 0);
        drop(stream);
    }
    on_each(|| {
        // While the other side waits.
        let (mut near, far) = pair();
        let reader = bast::spawn(move || near.read(&mut [0; 8]));
        bast::time::sleep(2 * MS);
        reset(far);
        assert_eq!(
            reader.join().unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        // Before it looks.
        let (mut near, far) = pair();
        reset(far);
        assert_eq!(
            near.read(&mut [0; 8]).unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        assert!(near.take_error().unwrap().is_none(), "the read took it");
        // While it writes.
        let (near, far) = pair();
        fill(&near);
        let writer = bast::spawn(move || (&near).write(&[0; 1 << 16]));
        bast::time::sleep(2 * MS);
        reset(far);
        assert_eq!(
            writer.join().unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    });
}

// ---- other threads, other owners ----

#[test]
fn plain_threads_may_use_the_sockets() {
    run_on(2, || {
        let (mut near, mut far) = pair();
        let thread = std::thread::spawn(move || {
            let mut got = [0; 5];
            far.read_exact(&mut got).unwrap(); // blocks the thread
            far.write_all(&got).unwrap();
            far.set_read_timeout(Some(5 * MS)).unwrap();
            let start = Instant::now();
            assert_eq!(far.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= 5 * MS);
            far.set_read_timeout(None).unwrap();
            assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
            // New ones are made inside a runtime only, and it says so.
            let error = TcpListener::bind("127.0.0.1:0").unwrap_err();
            assert!(error.to_string().contains("bast::run"), "{error}");
            let error = far.try_clone().unwrap_err();
            assert!(error.to_string().contains("bast::run"), "{error}");
        });
        bast::time::sleep(2 * MS);
        near.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        near.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        bast::time::sleep(20 * MS);
        drop(near);
        wait_for(|| thread.is_finished());
        thread.join().unwrap();
    });
}

/// "Ends all waits on this handle, now and in future": on plain threads too.
#[test]
fn close_reaches_plain_threads() {
    run_on(2, || {
        let (near, far) = pair();
        let near = Arc::new(near);
        near.close();
        let seen = near.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || tell.send((&*seen).read(&mut [0; 8])));
        wait_for(|| thread.is_finished());
        thread.join().unwrap().unwrap();
        assert!(told.recv().unwrap().is_err(), "a read after the close");
        drop(far);
    });
}

#[test]
fn to_and_from_std() {
    on_each(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let client = bast::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            bast::time::sleep(MS);
            stream.write_all(b"one").unwrap();
            // Back to std: blocking again, and out of the poller's hands.
            let mut stream = stream.into_std().unwrap();
            stream.write_all(b"two").unwrap();
            let mut stream = TcpStream::from_std(stream).unwrap();
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).unwrap(); // watched anew
            assert_eq!(&answer, b"ok");
            OwnedFd::try_from(stream).unwrap()
        });
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = [0; 6];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"onetwo");
        stream.write_all(b"ok").unwrap();
        let fd = client.join().unwrap();
        assert!(fd.as_fd().as_raw_fd() >= 0);
        drop(fd);
        assert_eq!(stream.read(&mut got).unwrap(), 0);
        let listener = listener.into_std().unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
    });
}

#[test]
fn options_are_stds() {
    run_on(1, || {
        let (near, _far) = pair();
        near.set_nodelay(true).unwrap();
        assert!(near.nodelay().unwrap());
        near.set_ttl(99).unwrap();
        assert_eq!(near.ttl().unwrap(), 99);
        assert!(near.take_error().unwrap().is_none());
        assert!(format!("{near:?}").starts_with("TcpStream"));
        let (listener, _) = listen();
        listener.set_ttl(98).unwrap();
        assert_eq!(listener.ttl().unwrap(), 98);
        assert!(listener.take_error().unwrap().is_none());
        assert!(format!("{listener:?}").starts_with("TcpListener"));
    });
}

#[test]
fn ipv6() {
    if let Err(error) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        println!("skipped: there is no ::1 here: {error}");
        return;
    }
    on_each(|| {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut near = TcpStream::connect(address).unwrap();
        let (mut far, peer) = listener.accept().unwrap();
        assert_eq!(peer, near.local_addr().unwrap());
        assert!(peer.is_ipv6());
        near.write_all(b"six").unwrap();
        let mut got = [0; 3];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"six");
    });
}

#[test]
fn the_incoming_iterator() {
    on_each(|| {
        let (listener, address) = listen();
        let clients: Vec<_> = (0..5)
            .map(|_| bast::spawn(move || drop(TcpStream::connect(address).unwrap())))
            .collect();
        assert_eq!(listener.incoming().take(5).filter(Result::is_ok).count(), 5);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

/// Descriptors come back, with their numbers used again at once by others: no event reaches the wrong task.
#[test]
fn descriptors_used_again_at_once() {
    on_each(|| {
        let (listener, address) = listen();
        let stop = Gate::new();
        let server = {
            let stop = stop.clone();
            bast::spawn(move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    if stop.is_open() {
                        break;
                    }
                    bast::spawn(move || {
                        let mut number = [0; 8];
                        if stream.read_exact(&mut number).is_ok() {
                            let _ = stream.write_all(&number);
                        }
                    });
                }
            })
        };
        let clients: Vec<_> = (0..10_u64)
            .map(|client| {
                bast::spawn(move || {
                    for round in 0..50_u64 {
                        let mut stream = TcpStream::connect(address).unwrap();
                        if round % 5 == 4 {
                            continue; // closes without a word
                        }
                        let sent = (client << 32 | round).to_le_bytes();
                        stream.write_all(&sent).unwrap();
                        let mut got = [0; 8];
                        stream.read_exact(&mut got).unwrap();
                        assert_eq!(got, sent);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        stop.open();
        // Refused if a late connection has ended the server already.
        let _ = TcpStream::connect(address);
        server.join().unwrap();
    });
}
