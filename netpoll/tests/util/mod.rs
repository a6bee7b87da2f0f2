//! What the tests share: a thread that polls, waiters that are threads, and the loop of a call.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use bast_netpoll::{Arm, Direction, Disarm, Poller, ReadyList, Source};

/// Longer than anything here takes. Only a test that hangs comes to it, so as to fail with a reason.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(60);

/// Everybody who ever waited; a token is a place in this list.
static WAITERS: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

thread_local! {
    static TOKEN: usize = {
        let mut waiters = WAITERS.lock().unwrap();
        waiters.push(thread::current());
        waiters.len() - 1
    };
}

/// The token of the calling thread.
pub(crate) fn my_token() -> usize {
    TOKEN.with(|&token| token)
}

pub(crate) fn unpark(token: usize) {
    let waiter = WAITERS.lock().unwrap()[token].clone();
    waiter.unpark();
}

/// Parks, and fails the test if nobody calls.
pub(crate) fn park() {
    let start = Instant::now();
    thread::park_timeout(FOR_EVER);
    assert!(
        start.elapsed() < FOR_EVER,
        "parked for {FOR_EVER:?}: a wake-up was lost"
    );
}

/// A poller and a thread that waits in it and wakes whom it says.
pub(crate) struct Driver {
    pub(crate) poller: Arc<Poller>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    pub(crate) fn start() -> Self {
        let poller = Arc::new(Poller::new().expect("a poller"));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (poller, stop) = (poller.clone(), stop.clone());
            thread::spawn(move || {
                let mut ready = ReadyList::new();
                while !stop.load(SeqCst) {
                    if let Some(waited) = poller.try_wait(None, &mut ready) {
                        waited.expect("a wait");
                    }
                    ready.drain().for_each(unpark);
                }
            })
        };
        Self {
            poller,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.poller.interrupt().expect("an interrupt");
        let ended = self.thread.take().expect("started").join();
        if !thread::panicking() {
            ended.expect("the polling thread");
        }
    }
}

/// The loop of a call that may wait. `short` tells whether a success left the kernel's buffer drained.
pub(crate) fn call<R>(
    source: &Source,
    direction: Direction,
    mut syscall: impl FnMut() -> io::Result<R>,
    short: impl Fn(&R) -> bool,
) -> io::Result<R> {
    let result = call_loop(source, direction, &mut syscall, short);
    if let Some(next) = source.leave(direction) {
        unpark(next);
    }
    result
}

fn call_loop<R>(
    source: &Source,
    direction: Direction,
    syscall: &mut impl FnMut() -> io::Result<R>,
    short: impl Fn(&R) -> bool,
) -> io::Result<R> {
    let readiness = source.readiness(direction);
    loop {
        let snapshot = readiness.snapshot();
        if readiness.may_try(snapshot) {
            match syscall() {
                Ok(done) => {
                    if short(&done) {
                        readiness.clear_short(snapshot);
                    }
                    return Ok(done);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => readiness.clear_blocked(snapshot),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
        }
        let token = my_token();
        match source.wait_start(direction, token) {
            Arm::Ready => continue,
            Arm::Closed => return Err(ErrorKind::NotConnected.into()),
            Arm::Armed => {}
        }
        park();
        if source.wait_end(direction, token) == Disarm::Closed {
            return Err(ErrorKind::NotConnected.into());
        }
    }
}

/// A stream socket with its source, which goes first.
pub(crate) struct Stream {
    pub(crate) source: Source,
    pub(crate) socket: UnixStream,
    /// How often a system call was made.
    pub(crate) reads: AtomicUsize,
}

impl Stream {
    pub(crate) fn new(poller: &Poller, socket: UnixStream) -> Self {
        socket.set_nonblocking(true).expect("non-blocking mode");
        let source = poller.register(socket.as_raw_fd()).expect("a registration");
        Self {
            source,
            socket,
            reads: AtomicUsize::new(0),
        }
    }

    pub(crate) fn pair(poller: &Poller) -> (Self, Self) {
        let (near, far) = UnixStream::pair().expect("a pair");
        (Self::new(poller, near), Self::new(poller, far))
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        let syscall = || {
            self.reads.fetch_add(1, SeqCst);
            (&self.socket).read(buffer)
        };
        call(&self.source, Direction::Read, syscall, |&bytes| {
            0 < bytes && bytes < room
        })
    }

    pub(crate) fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                bytes => buffer = &mut buffer[bytes..],
            }
        }
        Ok(())
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let syscall = || (&self.socket).write(bytes);
        call(&self.source, Direction::Write, syscall, |&written| {
            0 < written && written < bytes.len()
        })
    }

    pub(crate) fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.write(bytes)?..];
        }
        Ok(())
    }
}

/// Empties the direction's word, as a call that would have blocked does.
pub(crate) fn clear(source: &Source, direction: Direction) {
    let readiness = source.readiness(direction);
    readiness.clear_blocked(readiness.snapshot());
}

/// Harvests, without blocking, until a look brings nothing; gives the tokens.
pub(crate) fn harvest(poller: &Poller) -> Vec<usize> {
    let mut ready = ReadyList::new();
    let mut tokens = Vec::new();
    loop {
        poller
            .try_wait(Some(Duration::ZERO), &mut ready)
            .expect("nobody else waits")
            .expect("a look");
        if ready.is_empty() {
            return tokens;
        }
        tokens.extend(ready.drain());
    }
}

/// Waits, blocking, until the poller has handed out `count` tokens.
pub(crate) fn wait_for(poller: &Poller, count: usize) -> Vec<usize> {
    let mut ready = ReadyList::new();
    while ready.len() < count {
        let start = Instant::now();
        poller
            .try_wait(Some(FOR_EVER), &mut ready)
            .expect("nobody else waits")
            .expect("a wait");
        assert!(start.elapsed() < FOR_EVER, "waited {FOR_EVER:?} for an event");
    }
    ready.drain().collect()
}

/// A pipe whose ends are non-blocking.
pub(crate) fn pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, writer) = io::pipe().expect("a pipe");
    for fd in [reader.as_raw_fd(), writer.as_raw_fd()] {
        set_nonblocking(fd);
    }
    (reader, writer)
}

fn set_nonblocking(fd: RawFd) {
    // SAFETY: validity: an open descriptor and a command that takes no pointer.
    //         aliasing: touches no memory.
    let set = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}
