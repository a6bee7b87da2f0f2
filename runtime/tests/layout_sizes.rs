//! What a task and a connection cost, as the kernel counts it. Optimised builds only: the frames of a debug build are
//! many times larger.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]
#![cfg(not(debug_assertions))]

mod util;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use util::{in_good_child, start, status, wait_for};

/// Bytes of this process: resident memory and page tables.
fn own_bytes() -> u64 {
    (status("VmRSS") + status("VmPTE")) << 10
}

/// KiB of memory that could be had now.
fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_million_parked_tasks() {
    const TASKS: usize = 1_000_000;
    /// Its frames and what it holds fit in one page of 4 KiB; the rest is the slab entry and 128 B of page table.
    const BYTES_MAX: u64 = 4_400;
    let name = "a_million_parked_tasks";
    if util::is_instrumented() || available() < 8 << 20 {
        println!("skipped: needs 8 GiB of memory and no sanitizer");
        return;
    }
    let text = in_good_child(
        name,
        |_| {},
        || {
            let runtime = start(bast::Builder::new().processors(2).stack_size(64 << 10));
            let _watchdog = util::Watchdog::start("a million parked tasks", Some(runtime.handle()));
            runtime.run(|| {
                let parked = Arc::new(AtomicUsize::new(0));
                let park = |parked: &Arc<AtomicUsize>| {
                    let parked = parked.clone();
                    bast::spawn(move || {
                        parked.fetch_add(1, AcqRel);
                        bast::task::park();
                    })
                };
                let mut tasks = Vec::with_capacity(TASKS + 1_000);
                tasks.extend((0..1_000).map(|_| park(&parked)));
                wait_for(|| parked.load(Acquire) == 1_000);
                let before = own_bytes();
                tasks.extend((0..TASKS).map(|_| park(&parked)));
                wait_for(|| parked.load(Acquire) == TASKS + 1_000);
                let bytes = own_bytes().saturating_sub(before) / TASKS as u64;
                println!("BYTES {bytes} a parked task");
                assert!(
                    bytes <= BYTES_MAX,
                    "{bytes} bytes a parked task; {BYTES_MAX} are promised"
                );
                assert!(bytes >= 1_000, "{bytes} bytes: the measurement is wrong");
                for task in tasks {
                    task.task().unpark();
                    task.join().unwrap();
                }
            });
        },
    );
    assert!(text.contains("BYTES "), "{text}");
}

/// The client's end of `count` connections: each sends a byte and waits for it, so that its server's task has run and
/// is waiting for the next. Plain sockets; holds them until its stdin closes.
fn hold_connections(address: SocketAddr, count: usize) {
    let connections: Vec<_> = (0..count)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"x").unwrap();
            let mut got = [0];
            stream.read_exact(&mut got).unwrap();
            stream
        })
        .collect();
    println!("CONNECTED {}", connections.len());
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn an_idle_connection() {
    const WARM: usize = 200;
    const CONNECTIONS: usize = 5_000;
    const BYTES_MAX: u64 = 4_500;
    let name = "an_idle_connection";
    if let Ok(address) = std::env::var("BAST_TEST_ADDRESS") {
        hold_connections(address.parse().unwrap(), WARM + CONNECTIONS);
        return;
    }
    if util::is_instrumented() {
        println!("skipped: the sanitizer's memory is not ours");
        return;
    }
    let text = in_good_child(
        name,
        |_| {},
        || {
            let runtime = start(bast::Builder::new().processors(2).stack_size(64 << 10));
            let _watchdog = util::Watchdog::start("idle connections", Some(runtime.handle()));
            let idle = Arc::new(AtomicUsize::new(0));
            let (before, after) = runtime.run(|| {
                let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap().to_string();
                let mut client = util::child_command(name)
                    .env("BAST_TEST_ADDRESS", address)
                    .stdin(std::process::Stdio::piped())
                    .spawn()
                    .expect("the client's process");
                let mut before = 0;
                for count in 0..WARM + CONNECTIONS {
                    if count == WARM {
                        wait_for(|| idle.load(Acquire) == WARM);
                        before = own_bytes();
                    }
                    let (mut stream, _) = listener.accept().expect("raise `ulimit -n` for this test");
                    let idle = idle.clone();
                    drop(bast::spawn(move || {
                        let mut buffer = [0; 512];
                        loop {
                            match stream.read(&mut buffer).unwrap_or(0) {
                                0 => break,
                                count => {
                                    idle.fetch_add(1, AcqRel);
                                    stream.write_all(&buffer[..count]).unwrap();
                                }
                            }
                        }
                        idle.fetch_sub(1, AcqRel);
                    }));
                }
                wait_for(|| idle.load(Acquire) == WARM + CONNECTIONS);
                bast::time::sleep(std::time::Duration::from_millis(20)); // the last ones are back in their reads
                let after = own_bytes();
                drop(client.stdin.take());
                bast::blocking(|| client.wait()).unwrap();
                wait_for(|| idle.load(Acquire) == 0);
                (before, after)
            });
            let bytes = after.saturating_sub(before) / CONNECTIONS as u64;
            println!("BYTES {bytes} an idle connection");
            assert!(
                bytes <= BYTES_MAX,
                "{bytes} bytes an idle connection; {BYTES_MAX} are promised"
            );
            assert!(bytes >= 1_000, "{bytes} bytes: the measurement is wrong");
        },
    );
    assert!(text.contains("BYTES "), "{text}");
}
