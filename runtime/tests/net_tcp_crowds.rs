//! Many tasks on one socket, and much data: nothing is lost, and nobody is forgotten.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::net::TcpStream;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;
use util::net::{listen, pair};
use util::{on_each, on_each_64k};

// ---- crowds ----

#[test]
fn eight_tasks_accept_on_one_listener_and_no_connection_is_lost() {
    const CONNECTIONS: usize = 400;
    on_each(|| {
        let (listener, address) = listen();
        let listener = Arc::new(listener);
        let accepted = Arc::new(AtomicUsize::new(0));
        let acceptors: Vec<_> = (0..8)
            .map(|_| {
                let (listener, accepted) = (listener.clone(), accepted.clone());
                bast::spawn(move || {
                    let mut own = 0;
                    while let Ok((mut stream, _)) = listener.accept() {
                        own += 1;
                        accepted.fetch_add(1, AcqRel);
                        bast::spawn(move || stream.write_all(b"hi").unwrap());
                    }
                    own
                })
            })
            .collect();
        let clients: Vec<_> = (0..20)
            .map(|_| {
                bast::spawn(move || {
                    for _ in 0..CONNECTIONS / 20 {
                        let mut got = Vec::new();
                        let mut stream = TcpStream::connect(address).unwrap();
                        stream.read_to_end(&mut got).unwrap(); // hangs if the connection was lost
                        assert_eq!(got, b"hi");
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(accepted.load(Acquire), CONNECTIONS);
        listener.close();
        let sum: usize = acceptors
            .into_iter()
            .map(|acceptor| acceptor.join().unwrap())
            .sum();
        assert_eq!(sum, CONNECTIONS);
    });
}

/// A burst that arrives while all eight wait: one event may stand for many connections.
#[test]
fn a_burst_of_connections_wakes_as_many_acceptors_as_it_takes() {
    on_each(|| {
        let (listener, address) = listen();
        let listener = Arc::new(listener);
        for _ in 0..10 {
            let acceptors: Vec<_> = (0..8)
                .map(|_| {
                    let listener = listener.clone();
                    bast::spawn(move || listener.accept().map(|(stream, _)| stream))
                })
                .collect();
            bast::time::sleep(Duration::from_micros(300));
            let burst: Vec<_> = (0..8)
                .map(|_| std::net::TcpStream::connect(address).unwrap())
                .collect();
            acceptors
                .into_iter()
                .for_each(|acceptor| drop(acceptor.join().unwrap().unwrap()));
            drop(burst);
        }
    });
}

#[test]
fn several_readers_of_one_stream_lose_nothing() {
    const BYTES: usize = 30_000;
    on_each(|| {
        let (near, mut far) = pair();
        let near = Arc::new(near);
        let sum = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..6)
            .map(|_| {
                let (near, sum) = (near.clone(), sum.clone());
                bast::spawn(move || {
                    let mut buffer = [0; 64];
                    let mut count = 0;
                    loop {
                        match (&*near).read(&mut buffer).unwrap() {
                            0 => return count,
                            got => {
                                count += got;
                                let part: usize = buffer[..got].iter().map(|&byte| usize::from(byte)).sum();
                                sum.fetch_add(part, AcqRel);
                            }
                        }
                    }
                })
            })
            .collect();
        let data: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
        for chunk in data.chunks(97) {
            far.write_all(chunk).unwrap();
            bast::task::yield_now();
        }
        drop(far);
        let count: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert_eq!(count, BYTES);
        assert_eq!(
            sum.load(Acquire),
            data.iter().map(|&byte| usize::from(byte)).sum::<usize>()
        );
    });
}

/// The first in line gives up (its deadline is its own task's); who waits behind it still gets the next byte.
#[test]
fn a_reader_that_gives_up_does_not_take_the_wake_up_with_it() {
    on_each(|| {
        let (near, mut far) = pair();
        let near = Arc::new(near);
        for round in 0..100_u64 {
            let quitter = {
                let near = near.clone();
                bast::spawn(move || {
                    let wait = Duration::from_micros(200 + round * 7 % 300);
                    bast::time::timeout(wait, || (&*near).read(&mut [0]))
                        .unwrap_or_else(|late| late.into_inner())
                })
            };
            let stayer = {
                let near = near.clone();
                bast::spawn(move || (&*near).read(&mut [0]))
            };
            bast::time::sleep(Duration::from_micros(300));
            far.write_all(b"1").unwrap();
            // Whoever got it, another byte brings the stayer home.
            let quitter_got = quitter.join().unwrap().is_ok();
            if quitter_got {
                far.write_all(b"2").unwrap();
            }
            assert_eq!(stayer.join().unwrap().unwrap(), 1);
        }
    });
}

#[test]
fn large_transfers_both_ways_at_once() {
    const BYTES: usize = 8 << 20;
    fn pump(stream: &TcpStream, seed: u8) -> (impl FnMut(), impl FnMut()) {
        let write = move || {
            let chunk: Vec<u8> = (0..70_001).map(|i| (i % 256) as u8 ^ seed).collect();
            let mut left = BYTES;
            while left > 0 {
                let part = left.min(chunk.len());
                (&mut &*stream).write_all(&chunk[..part]).unwrap();
                left -= part;
            }
            stream.shutdown(Shutdown::Write).unwrap();
        };
        let read = move || {
            let mut buffer = vec![0; 100_003];
            let mut total = 0;
            loop {
                match (&mut &*stream).read(&mut buffer).unwrap() {
                    0 => break,
                    count => total += count,
                }
            }
            assert_eq!(total, BYTES);
        };
        (write, read)
    }
    on_each_64k(|| {
        let (near, far) = pair();
        let tasks: Vec<_> = [(Arc::new(near), 1), (Arc::new(far), 2)]
            .into_iter()
            .flat_map(|(stream, seed)| {
                let twin = stream.clone();
                [
                    bast::spawn(move || pump(&stream, seed).0()),
                    bast::spawn(move || pump(&twin, seed).1()),
                ]
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

#[test]
fn what_is_sent_arrives_in_order_and_whole() {
    on_each(|| {
        let (mut near, mut far) = pair();
        let sent: Vec<u8> = (0..2_000_000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let expected = sent.clone();
        let writer = bast::spawn(move || {
            for chunk in sent.chunks(12_345) {
                near.write_all(chunk).unwrap();
            }
        });
        let mut got = Vec::new();
        far.read_to_end(&mut got).unwrap();
        assert!(got == expected, "{} bytes", got.len());
        writer.join().unwrap();
    });
}
