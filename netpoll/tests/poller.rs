//! The poller: events, timeouts, interrupts, errors.

mod util;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bast_netpoll::{Arm, Direction, Disarm, Poller, ReadyList};
use util::{Driver, FOR_EVER, Stream, clear, harvest, pipe, wait_for};

#[test]
fn the_api_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Poller>();
    shared::<bast_netpoll::Source>();
    shared::<ReadyList>();
}

#[test]
fn a_socket_s_event_hands_out_its_waiter_once() {
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    assert_eq!(harvest(&poller), [0; 0], "nobody waits yet");
    clear(&far.source, Direction::Read);
    assert_eq!(far.source.wait_start(Direction::Read, 41), Arm::Armed);
    (&near.socket).write_all(b"x").unwrap();
    assert_eq!(wait_for(&poller, 1), [41]);
    (&near.socket).write_all(b"x").unwrap();
    assert_eq!(harvest(&poller), [0; 0], "a token is handed out once");
    assert_eq!(far.source.wait_end(Direction::Read, 41), Disarm::Taken);
    assert_eq!(far.source.wait_start(Direction::Read, 41), Arm::Ready);
}

#[test]
fn both_directions_wait_at_once() {
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    while (&far.socket).write(&[0; 4096]).is_ok() {}
    harvest(&poller);
    for direction in Direction::BOTH {
        clear(&far.source, direction);
    }
    assert_eq!(far.source.wait_start(Direction::Read, 1), Arm::Armed);
    assert_eq!(far.source.wait_start(Direction::Write, 2), Arm::Armed);
    (&near.socket).write_all(b"x").unwrap();
    assert_eq!(wait_for(&poller, 1), [1], "there is no room to write yet");
    let mut buffer = [0; 4096];
    while (&near.socket).read(&mut buffer).is_ok() {}
    assert_eq!(wait_for(&poller, 1), [2]);
}

#[test]
fn a_full_pipe_waits_for_its_reader() {
    let poller = Poller::new().unwrap();
    let (mut reader, mut writer) = pipe();
    let sink = poller.register(writer.as_raw_fd()).unwrap();
    let spring = poller.register(reader.as_raw_fd()).unwrap();
    clear(&spring, Direction::Read);
    assert_eq!(spring.wait_start(Direction::Read, 1), Arm::Armed);
    while writer.write(&[7; 4096]).is_ok() {}
    assert_eq!(wait_for(&poller, 1), [1]);
    clear(&sink, Direction::Write);
    assert_eq!(sink.wait_start(Direction::Write, 2), Arm::Armed);
    assert_eq!(harvest(&poller), [0; 0], "the pipe is full");
    let mut buffer = [0; 4096];
    while reader.read(&mut buffer).is_ok() {}
    assert_eq!(wait_for(&poller, 1), [2]);
    // The reader goes: the writer is woken to learn of it.
    clear(&sink, Direction::Write);
    assert_eq!(sink.wait_start(Direction::Write, 3), Arm::Armed);
    drop(spring);
    drop(reader);
    assert_eq!(wait_for(&poller, 1), [3]);
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn among_many_descriptors_each_event_finds_its_waiter() {
    const PAIRS: usize = 300; // more than one chunk of the table
    let poller = Poller::new().unwrap();
    let pairs: Vec<_> = (0..PAIRS).map(|_| Stream::pair(&poller)).collect();
    assert_eq!(poller.sources(), 2 * PAIRS);
    harvest(&poller);
    for (token, (_, far)) in pairs.iter().enumerate() {
        clear(&far.source, Direction::Read);
        assert_eq!(far.source.wait_start(Direction::Read, token), Arm::Armed);
    }
    // One at a time, in a mixed order (7 and 300 share no factor).
    for step in 0..PAIRS {
        let token = step * 7 % PAIRS;
        (&pairs[token].0.socket).write_all(b"x").unwrap();
        assert_eq!(wait_for(&poller, 1), [token]);
    }
    drop(pairs);
    assert_eq!(poller.sources(), 0);
}

#[test]
fn events_that_do_not_fit_the_list_come_with_the_next_wait() {
    let poller = Poller::new().unwrap();
    let pairs: Vec<_> = (0..10).map(|_| Stream::pair(&poller)).collect();
    harvest(&poller);
    for (token, (near, far)) in pairs.iter().enumerate() {
        clear(&far.source, Direction::Read);
        assert_eq!(far.source.wait_start(Direction::Read, token), Arm::Armed);
        (&near.socket).write_all(b"x").unwrap();
    }
    let mut ready = ReadyList::with_capacity(1);
    while ready.len() < pairs.len() {
        let found = poller.try_wait(None, &mut ready).unwrap().unwrap();
        assert!(found <= 1, "a list for one event took {found}");
    }
    let mut tokens: Vec<_> = ready.drain().collect();
    tokens.sort_unstable();
    assert_eq!(tokens, Vec::from_iter(0..pairs.len()));
}

#[test]
fn a_wait_ends_by_its_timeout() {
    let poller = Poller::new().unwrap();
    let mut ready = ReadyList::new();
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(2)] {
        assert_eq!(poller.try_wait(Some(timeout), &mut ready).unwrap().unwrap(), 0);
    }
    assert!(!poller.is_waiting());
}

#[test]
fn one_thread_waits_and_others_are_turned_away() {
    let poller = Poller::new().unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            poller
                .try_wait(None, &mut ReadyList::new())
                .expect("alone")
                .unwrap()
        });
        while !poller.is_waiting() {
            thread::yield_now();
        }
        assert!(poller.try_wait(None, &mut ReadyList::new()).is_none());
        assert!(
            poller
                .try_wait(Some(Duration::ZERO), &mut ReadyList::new())
                .is_none()
        );
        poller.interrupt().unwrap();
        assert_eq!(waiter.join().unwrap(), 0);
    });
    assert!(!poller.is_waiting());
}

#[test]
fn an_interrupt_sent_before_the_wait_is_kept() {
    let poller = Poller::new().unwrap();
    let mut ready = ReadyList::new();
    for _ in 0..3 {
        poller.interrupt().unwrap();
        poller.interrupt().unwrap();
        // Looks that do not block leave it alone; the wait would last its minute without it.
        poller
            .try_wait(Some(Duration::ZERO), &mut ready)
            .unwrap()
            .unwrap();
        poller
            .try_wait(Some(Duration::ZERO), &mut ready)
            .unwrap()
            .unwrap();
        let start = Instant::now();
        assert_eq!(poller.try_wait(Some(FOR_EVER), &mut ready).unwrap().unwrap(), 0);
        assert!(start.elapsed() < FOR_EVER, "the interrupt was lost");
    }
}

#[test]
fn a_wait_cut_short_by_an_interrupt_brings_the_events_too() {
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    clear(&far.source, Direction::Read);
    assert_eq!(far.source.wait_start(Direction::Read, 5), Arm::Armed);
    (&near.socket).write_all(b"x").unwrap();
    poller.interrupt().unwrap();
    let mut ready = ReadyList::new();
    assert_eq!(poller.try_wait(None, &mut ready).unwrap().unwrap(), 1);
    assert_eq!(ready.tokens(), [5]);
}

#[test]
fn of_many_interrupts_none_is_lost() {
    // Each sender asks for work to be seen and waits until it was. A lost interrupt hangs the test.
    const SENDERS: usize = 4;
    const ROUNDS: usize = 2000;
    let poller = Poller::new().unwrap();
    let asked: [AtomicUsize; SENDERS] = Default::default();
    let seen: [AtomicUsize; SENDERS] = Default::default();
    thread::scope(|scope| {
        for (asked, seen) in asked.iter().zip(&seen) {
            let poller = &poller;
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    asked.store(round, SeqCst);
                    poller.interrupt().unwrap();
                    while seen.load(SeqCst) < round {
                        thread::yield_now();
                    }
                }
            });
        }
        let mut ready = ReadyList::new();
        while seen.iter().any(|seen| seen.load(SeqCst) < ROUNDS) {
            poller
                .try_wait(None, &mut ready)
                .expect("the only waiter")
                .unwrap();
            for (asked, seen) in asked.iter().zip(&seen) {
                seen.store(asked.load(SeqCst), SeqCst);
            }
        }
    });
}

#[test]
fn a_regular_file_is_refused_with_advice() {
    let poller = Poller::new().unwrap();
    let path = std::env::current_exe().unwrap();
    let file = File::open(path).unwrap();
    // kqueue takes regular files; epoll refuses them.
    if cfg!(target_os = "linux") {
        let error = poller
            .register(file.as_raw_fd())
            .expect_err("a regular file has no readiness");
        let text = error.to_string();
        assert!(
            text.contains("regular file") && text.contains("blocking section"),
            "{text}"
        );
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    assert_eq!(poller.sources(), 0, "a refused descriptor keeps no entry");
    let (near, _far) = Stream::pair(&poller);
    assert_eq!(poller.sources(), 2);
    drop(near);
}

#[test]
fn errors_of_the_caller_are_told_apart() {
    let poller = Poller::new().unwrap();
    let bad = poller.register(-1).expect_err("no such descriptor");
    assert_eq!(bad.raw_os_error(), Some(libc::EBADF));
    let (near, _far) = Stream::pair(&poller);
    let fd = near.socket.as_raw_fd();
    if cfg!(target_os = "linux") {
        let twice = poller.register(fd).expect_err("one source a descriptor");
        assert!(twice.to_string().contains("registered already"), "{twice}");
    }
    let wrong = near.source.deregister(fd + 1).expect_err("another's descriptor");
    assert_eq!(wrong.kind(), ErrorKind::InvalidInput);
    near.source.deregister(fd).unwrap();
    near.source.deregister(fd).unwrap();
    // Free for a new source although the old one is still there.
    let again = poller.register(fd).unwrap();
    assert_eq!(poller.sources(), 3);
    drop(again);
    drop(near);
    assert_eq!(poller.sources(), 1);
}

#[test]
fn a_source_outlives_its_poller() {
    let poller = Poller::new().unwrap();
    let (near, far) = Stream::pair(&poller);
    drop(poller);
    clear(&near.source, Direction::Read);
    assert_eq!(near.source.wait_start(Direction::Read, 3), Arm::Armed);
    assert_eq!(near.source.close().collect::<Vec<_>>(), [3]);
    near.source.deregister(near.socket.as_raw_fd()).unwrap();
    drop((near, far));
}

#[test]
fn the_end_of_a_stream_is_read_after_a_short_read() {
    let driver = Driver::start();
    for early in [false, true] {
        let (near, far) = UnixStream::pair().unwrap();
        let mut near = near;
        // Bytes and end in one edge, or in front of a reader that waits already.
        if early {
            near.write_all(b"abc").unwrap();
            drop(near);
            let far = Stream::new(&driver.poller, far);
            let mut buffer = [0; 16];
            assert_eq!(far.read(&mut buffer).unwrap(), 3);
            assert_eq!(far.read(&mut buffer).unwrap(), 0);
        } else {
            let far = Stream::new(&driver.poller, far);
            thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let mut buffer = [0; 16];
                    let mut got = 0;
                    loop {
                        match far.read(&mut buffer).unwrap() {
                            0 => return got,
                            bytes => got += bytes,
                        }
                    }
                });
                near.write_all(b"abc").unwrap();
                drop(near);
                assert_eq!(reader.join().unwrap(), 3);
            });
        }
    }
}

#[test]
fn a_datagram_socket_waits_again_after_an_error() {
    // Nobody listens on the port of a socket that is gone: the answer to a datagram is an error event.
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(gone).unwrap();
    socket.set_nonblocking(true).unwrap();
    let poller = Poller::new().unwrap();
    let source = poller.register(socket.as_raw_fd()).unwrap();
    clear(&source, Direction::Read);
    harvest(&poller);
    assert_eq!(source.wait_start(Direction::Read, 9), Arm::Armed);
    socket.send(b"anybody?").unwrap();
    assert_eq!(wait_for(&poller, 1), [9]);
    let mut buffer = [0; 16];
    assert_eq!(
        socket.recv(&mut buffer).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    let readiness = source.readiness(Direction::Read);
    let snapshot = readiness.snapshot();
    assert_eq!(
        socket.recv(&mut buffer).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    readiness.clear_blocked(snapshot);
    assert_eq!(source.wait_start(Direction::Read, 9), Arm::Armed, "it would spin");
}

/// The child of the test below, which lowers a limit of its whole process.
#[test]
#[ignore = "run by exhausted_descriptors_are_reported"]
fn child_without_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: validity: `limit` is a live value of the type the call fills.
    //         aliasing: nobody else has it.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit.rlim_cur = File::open("/dev/null").unwrap().as_raw_fd() as libc::rlim_t;
    // SAFETY: validity: `limit` is initialised.
    //         aliasing: read only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let error = Poller::new().expect_err("no descriptor is left");
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
}

#[test]
fn exhausted_descriptors_are_reported() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_without_descriptors"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_signal_does_not_fail_a_wait() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let mut action: libc::sigaction = {
        // SAFETY: validity: all zeroes is a valid `sigaction` (default handler, empty mask).
        //         aliasing: a new value.
        unsafe { std::mem::zeroed() }
    };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: validity: the handler does nothing, so it may run anywhere.
    //         aliasing: no other test here uses the signal.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let poller = Poller::new()?;
    let (send, id) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            // SAFETY: validity: takes nothing.
            //         aliasing: touches no memory of ours.
            send.send(unsafe { libc::pthread_self() }).unwrap();
            poller.try_wait(None, &mut ReadyList::new()).expect("alone")
        });
        let id = id.recv().unwrap();
        // Until one of them meets the system call itself. A poller that took EINTR for an error fails here.
        while !waiter.is_finished() {
            if poller.is_waiting() {
                // SAFETY: validity: the thread is not joined yet, so its id is good.
                //         aliasing: touches no memory of ours.
                assert_eq!(unsafe { libc::pthread_kill(id, libc::SIGUSR1) }, 0);
            }
            thread::yield_now();
        }
        assert_eq!(waiter.join().unwrap().expect("a signal is no error"), 0);
    });
    Ok(())
}
