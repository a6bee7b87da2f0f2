//! Exhausted limits: clear errors, nothing lost, and recovery when there is room again. Each in a child process whose
//! limits are lowered.
//!
//! Left out: refused threads. `RLIMIT_NPROC` counts a user's processes and does not bind root, and a cgroup's
//! `pids.max` needs rights a test cannot count on. `blocking.rs` tests the same path through the limit of our own.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::GuardMode;
use bast::net::{TcpListener, TcpStream};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;
use util::{Gate, in_good_child, lower_limit, run_on, start, wait_for};

#[test]
fn exhausted_files() {
    const FILES: u64 = 64;
    let name = "exhausted_files";
    in_good_child(
        name,
        |_| {},
        || {
            lower_limit(libc::RLIMIT_NOFILE, FILES);
            let body = || {
                let is_exhausted = |error: &std::io::Error| {
                    error.raw_os_error() == Some(libc::EMFILE) || error.raw_os_error() == Some(libc::ENFILE)
                };
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let idle_client = TcpStream::connect(address).unwrap(); // waits in the backlog
                let mut held = Vec::new();
                let mut fill = || {
                    let before = held.len();
                    let error = loop {
                        match std::fs::File::open("/dev/null") {
                            Ok(file) => held.push(file),
                            Err(error) => break error,
                        }
                    };
                    assert!(is_exhausted(&error));
                    held.len() - before
                };
                // One of them may be the monitor's, which has a file open for a moment when it looks how a worker does. While all
                // are taken it gets no other.
                let is_the_monitors = |file: u64| {
                    let path = std::fs::read_link(format!("/proc/self/fd/{file}"));
                    path.map_or(true, |path| path.ends_with("stat")) // or it was, and is closed by now
                };
                while fill() > 0 || (0..FILES).any(is_the_monitors) {
                    bast::time::sleep(Duration::from_millis(1));
                }
                for _ in 0..3 {
                    for error in [
                        listener.accept().map(drop).unwrap_err(),
                        TcpStream::connect(address).map(drop).unwrap_err(),
                        TcpListener::bind("127.0.0.1:0").map(drop).unwrap_err(),
                        idle_client.try_clone().map(drop).unwrap_err(),
                    ] {
                        assert!(is_exhausted(&error), "{error}");
                    }
                }
                // Tasks, timers and open sockets go on.
                assert_eq!(bast::spawn(|| 1).join().unwrap(), 1);
                bast::time::sleep(Duration::from_millis(1));
                // An accept that waits while there is no descriptor for it, and one that is refused and tries again.
                held.truncate(held.len() - 2);
                let (mut accepted, _) = listener.accept().expect("the connection stayed in the backlog");
                (&idle_client).write_all(b"alive").unwrap();
                let mut got = [0; 5];
                accepted.read_exact(&mut got).unwrap();
                assert_eq!(&got, b"alive");
                drop(held);
                let again = bast::spawn(move || TcpStream::connect(address).map(drop));
                listener.accept().unwrap();
                again.join().unwrap().unwrap();
            };
            let own = util::status("Threads").max(3); // the test's, its harness's, the watchdog; a tool's
            for processors in util::PROCESSORS {
                // The threads of the runtime before may still be on their way out, with its descriptors.
                wait_for(|| util::status("Threads") <= own);
                run_on(processors, body);
            }
        },
    );
}

/// A server that runs out of descriptors now and then serves everybody in the end.
#[test]
fn a_server_short_of_files_serves_everybody_in_the_end() {
    let name = "a_server_short_of_files_serves_everybody_in_the_end";
    in_good_child(
        name,
        |_| {},
        || {
            // Twenty for the clients, a few of the runtime's, and two or three to accept with.
            lower_limit(libc::RLIMIT_NOFILE, util::open_files() as u64 + 26);
            run_on(2, || {
                let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
                let address = listener.local_addr().unwrap();
                let refused = Arc::new(AtomicUsize::new(0));
                let server = {
                    let (listener, refused) = (listener.clone(), refused.clone());
                    bast::spawn(move || {
                        let mut served = 0;
                        while served < 200 {
                            match listener.accept() {
                                Ok((mut stream, _)) => {
                                    served += 1;
                                    bast::spawn(move || {
                                        bast::time::sleep(Duration::from_millis(1));
                                        stream.write_all(b"x").unwrap();
                                    });
                                }
                                Err(error) => {
                                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                                    refused.fetch_add(1, AcqRel);
                                    bast::time::sleep(Duration::from_millis(1));
                                }
                            }
                        }
                    })
                };
                let clients: Vec<_> = (0..20)
                    .map(|_| {
                        bast::spawn(move || {
                            for _ in 0..10 {
                                let mut stream = loop {
                                    match TcpStream::connect(address) {
                                        Ok(stream) => break stream,
                                        Err(error) => {
                                            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}")
                                        }
                                    }
                                    bast::time::sleep(Duration::from_millis(1));
                                };
                                assert_eq!(stream.read(&mut [0; 2]).unwrap(), 1);
                            }
                        })
                    })
                    .collect();
                clients.into_iter().for_each(|client| client.join().unwrap());
                server.join().unwrap();
            });
        },
    );
}

/// Parks tasks until a spawn is refused; `most` is more than there can be.
fn park_until_refused(gate: &Arc<Gate>, most: usize) -> (Vec<bast::JoinHandle<()>>, bast::SpawnError) {
    let mut tasks = Vec::new();
    loop {
        let gate = gate.clone();
        let spawned = bast::try_spawn(move || {
            while !gate.is_open() {
                bast::task::park();
            }
        });
        match spawned {
            Ok(task) => tasks.push(task),
            Err(error) => return (tasks, error),
        }
        if tasks.len() % 100 == 0 {
            bast::task::yield_now();
        }
        assert!(
            tasks.len() <= most,
            "two mappings a stack, and no end at {}",
            tasks.len()
        );
    }
}

/// With guards that cost mappings, `vm.max_map_count` bounds the stacks: the error names it, tasks that found no
/// stack wait for one, and all of them run when others end.
#[test]
fn exhausted_mappings() {
    if util::is_instrumented() {
        return; // the tool ends the process when it gets no mapping itself
    }
    let name = "exhausted_mappings";
    let text = in_good_child(
        name,
        |_| {},
        || {
            let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
            let most: usize = most.trim().parse().unwrap();
            if most > 1_000_000 {
                println!(
                    "skipped: vm.max_map_count is {most} here, and a task a mapping would take too much memory"
                );
                return;
            }
            for processors in [1, 2] {
                let builder = bast::Builder::new().processors(processors).stack_size(64 << 10);
                let runtime = start(builder.guard_mode(GuardMode::Protect));
                let _watchdog = util::Watchdog::start("exhausted mappings", Some(runtime.handle()));
                runtime.run(|| {
                    let gate = Gate::new();
                    let (tasks, error) = park_until_refused(&gate, most);
                    assert!(error.is_out_of_memory(), "{error}");
                    assert!(!error.is_closed() && !error.is_no_runtime());
                    let text = error.to_string();
                    assert!(text.contains("vm.max_map_count"), "{text}");
                    assert!(text.contains("sysctl -w"), "it says what to do: {text}");
                    // Who has a stack goes on; who waits for one gets it when others end.
                    bast::time::sleep(Duration::from_millis(1));
                    gate.open();
                    for task in tasks {
                        task.task().unpark();
                        task.join().unwrap();
                    }
                    // And there is room again.
                    assert_eq!(bast::try_spawn(|| 3).unwrap().join().unwrap(), 3);
                });
            }
        },
    );
    assert!(
        text.contains("waits for a stack until another task ends") || text.contains("skipped"),
        "{text}"
    );
}

/// Address space for no more stacks.
#[test]
fn refused_address_space() {
    let name = "refused_address_space";
    if util::is_instrumented() {
        println!("skipped: the sanitizer needs more address space than the limit leaves");
        return;
    }
    let text = in_good_child(
        name,
        |command| _ = command.env("MALLOC_ARENA_MAX", "1"), // or the allocator takes what is left
        || {
            // What a runtime with its arenas maps, and a little more.
            let room = {
                let runtime = start(bast::Builder::new().processors(2).stack_size(64 << 10));
                runtime.run(|| bast::spawn(|| ()).join().unwrap());
                util::status("VmSize") << 10
            };
            let runtime = start(bast::Builder::new().processors(2).stack_size(64 << 10));
            let _watchdog = util::Watchdog::start("refused address space", Some(runtime.handle()));
            runtime.run(|| bast::spawn(|| ()).join().unwrap());
            lower_limit(libc::RLIMIT_AS, room + (96 << 20));
            runtime.run(|| {
                let gate = Gate::new();
                let mut tasks = Vec::new();
                let refused = loop {
                    let gate = gate.clone();
                    // A stack of 8 MiB: another arena.
                    let spawned = bast::task::Builder::new().stack_size(8 << 20).spawn(move || {
                        while !gate.is_open() {
                            bast::task::park();
                        }
                    });
                    match spawned {
                        Ok(task) => tasks.push(task),
                        Err(error) => break Some(error),
                    }
                    bast::task::yield_now();
                    if tasks.len() > 10_000 {
                        break None;
                    }
                };
                if let Some(error) = refused {
                    assert!(error.is_out_of_memory(), "{error}");
                    let text = error.to_string();
                    assert!(text.contains("RLIMIT_AS") && text.contains("ulimit -v"), "{text}");
                    println!("REFUSED AFTER {}: {text}", tasks.len());
                }
                // Ordinary tasks have their arena already.
                gate.open();
                for task in tasks {
                    task.task().unpark();
                    if task.join_timeout(Duration::from_millis(200)).is_err() {
                        println!("STILL WAITING"); // for a stack that will never come
                        break;
                    }
                }
            });
        },
    );
    assert!(text.contains("REFUSED AFTER"), "the limit was never met:\n{text}");
}

/// A runtime that cannot even start says why.
#[test]
fn a_runtime_without_room_to_start() {
    let name = "a_runtime_without_room_to_start";
    if util::is_instrumented() {
        println!("skipped: the sanitizer needs more address space than the limit leaves");
        return;
    }
    in_good_child(
        name,
        |_| {},
        || {
            lower_limit(libc::RLIMIT_NOFILE, util::open_files() as u64);
            // SAFETY: no value bound to a thread is used.
            let error = unsafe { bast::Builder::new().processors(1).build() }.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        },
    );
}
