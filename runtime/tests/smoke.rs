//! The first things a user does.

#![allow(clippy::disallowed_methods, reason = "tests read the clock as users do")]

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn with_processors<T: Send>(processors: usize, main: impl FnOnce() -> T + Send) -> T {
    // SAFETY: the tests keep no value bound to a thread across a call that can park.
    let runtime = unsafe { bast::Builder::new().processors(processors).build() };
    runtime.expect("the runtime starts").run(main)
}

#[test]
fn run_gives_the_value_and_borrows() {
    let text = String::from("borrowed");
    for processors in [1, 2, 8] {
        assert_eq!(with_processors(processors, || text.len()), 8);
    }
}

#[test]
fn spawn_and_join_many() {
    for processors in [1, 2, 8] {
        let sum = with_processors(processors, || {
            let tasks: Vec<_> = (0..10_000_usize).map(|i| bast::spawn(move || i)).collect();
            tasks.into_iter().map(|task| task.join().unwrap()).sum::<usize>()
        });
        assert_eq!(sum, 10_000 * 9_999 / 2);
    }
}

#[test]
fn yields_take_turns() {
    for processors in [1, 2] {
        with_processors(processors, || {
            let count = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let count = Arc::clone(&count);
                    bast::spawn(move || {
                        for _ in 0..1000 {
                            count.fetch_add(1, Ordering::Relaxed);
                            bast::task::yield_now();
                        }
                    })
                })
                .collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
            assert_eq!(count.load(Ordering::Relaxed), 10_000);
        });
    }
}

#[test]
fn sleepers_sleep_and_overlap() {
    with_processors(2, || {
        let start = Instant::now();
        let tasks: Vec<_> = (0..1000)
            .map(|_| bast::spawn(|| bast::time::sleep(Duration::from_millis(50))))
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert!(start.elapsed() >= Duration::from_millis(50));
        assert!(
            start.elapsed() < Duration::from_secs(25),
            "1000 sleeps in a row would take 50 s"
        );
    });
}

#[test]
fn echo_over_tcp() {
    for processors in [1, 2, 4] {
        with_processors(processors, || {
            let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = bast::spawn(move || {
                for _ in 0..50 {
                    let (mut stream, _) = listener.accept().unwrap();
                    bast::spawn(move || {
                        let mut buffer = [0; 512];
                        loop {
                            match stream.read(&mut buffer).unwrap() {
                                0 => break,
                                count => stream.write_all(&buffer[..count]).unwrap(),
                            }
                        }
                    });
                }
            });
            let clients: Vec<_> = (0..50_u8)
                .map(|i| {
                    bast::spawn(move || {
                        let mut stream = bast::net::TcpStream::connect(address).unwrap();
                        for round in 0..100_u8 {
                            let sent = [i, round, 3, 4];
                            stream.write_all(&sent).unwrap();
                            let mut got = [0; 4];
                            stream.read_exact(&mut got).unwrap();
                            assert_eq!(got, sent);
                        }
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
            server.join().unwrap();
        });
    }
}

#[test]
fn blocking_sections_leave_the_processor_to_others() {
    with_processors(1, || {
        let (tell, told) = std::sync::mpsc::channel();
        let waiting = bast::spawn(move || bast::blocking(move || told.recv().unwrap()));
        bast::task::yield_now();
        let teller = bast::spawn(move || tell.send(7).unwrap());
        teller.join().unwrap();
        assert_eq!(waiting.join().unwrap(), 7);
    });
}

#[test]
fn a_panic_stays_in_its_task() {
    with_processors(2, || {
        let error = bast::spawn(|| panic!("expected by the test")).join().unwrap_err();
        assert!(error.is_panic());
        assert_eq!(
            *error.into_panic().downcast::<&str>().unwrap(),
            "expected by the test"
        );
        assert_eq!(bast::spawn(|| 1).join().unwrap(), 1);
    });
}
