//! The one try-then-park loop.

use crate::context::ContextError;
use crate::primitive::atomic::{AtomicU64, Relaxed};
use crate::sched::inside::Inside;
use crate::sched::park::{ThreadWaiter, thread_deadline, thread_over, wake_token};
use crate::task::bound::LIVE;
use crate::task::site::Reason;
use crate::time::clock::{self, NEVER};
use bast_netpoll::{Arm, Direction, Disarm, Source, Tokens};
use std::io;
use std::os::fd::AsRawFd;
use std::panic::Location;
use std::time::{Duration, Instant};

/// No timeout, in a field of nanoseconds.
const NO_TIMEOUT: u64 = 0;

/// A nonblocking socket and its registration. The source comes first: it is dropped before the socket closes.
#[derive(Debug)]
pub(super) struct Watched<S> {
    source: Source,
    pub(super) socket: S,
    timeouts: [AtomicU64; 2],
}

fn slot(direction: Direction) -> usize {
    match direction {
        Direction::Read => 0,
        Direction::Write => 1,
    }
}

/// What of a socket such a wait is for.
#[inline]
fn direction_of(why: Reason) -> Direction {
    match why {
        Reason::Read | Reason::Accept => Direction::Read,
        _ => Direction::Write,
    }
}

impl<S: AsRawFd> Watched<S> {
    /// Registers a nonblocking socket with the calling task's runtime.
    pub(super) fn new(socket: S) -> io::Result<Watched<S>> {
        let Some(inside) = Inside::enter() else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "bast::net: a socket is made by a task, whose runtime watches it: call this inside bast::run",
            ));
        };
        let source = inside.shared().reactor.poller().register(socket.as_raw_fd())?;
        Ok(Watched {
            source,
            socket,
            timeouts: [AtomicU64::new(NO_TIMEOUT), AtomicU64::new(NO_TIMEOUT)],
        })
    }

    /// Gives the socket back, no longer watched.
    pub(super) fn into_socket(self) -> io::Result<S> {
        self.source.deregister(self.socket.as_raw_fd())?;
        Ok(self.socket)
    }

    /// Makes `call` until it does not block, parking in between, which `why` names. `short` says that a success was less
    /// than it could have been, so that the socket is drained (or full).
    #[inline]
    pub(super) fn run<T>(
        &self,
        why: Reason,
        at: &'static Location<'static>,
        mut call: impl FnMut() -> io::Result<T>,
        short: impl FnOnce(&T) -> bool,
    ) -> io::Result<T> {
        let direction = direction_of(why);
        let own_deadline =
            Inside::enter().map_or_else(thread_deadline, |inside| inside.task().deadline.get());
        self.check_deadline(direction, own_deadline)?;
        let readiness = self.source.readiness(direction);
        let mut started = NEVER;
        let result = loop {
            let snapshot = readiness.snapshot();
            if readiness.may_try(snapshot) {
                match call() {
                    Ok(value) => {
                        if short(&value) {
                            readiness.clear_short(snapshot);
                        }
                        break Ok(value);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        readiness.clear_blocked(snapshot);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => break Err(error),
                }
            }
            if let Err(error) = self.wait(why, at, &mut started) {
                break Err(error);
            }
        };
        // An event wakes one waiter, who passes it on.
        if let Some(next) = self.source.leave(direction) {
            wake_token(next, Inside::enter().as_mut());
        }
        result
    }

    /// A deadline that has passed, or a context that is over, fails the call, whether or not it would have to wait.
    #[inline]
    fn check_deadline(&self, direction: Direction, own: u64) -> io::Result<()> {
        if own != NEVER {
            check_own()?;
        }
        let deadline = self.source.deadline(direction).unwrap_or(NEVER).min(own);
        if deadline != NEVER && deadline <= clock::now() {
            Err(timed_out())
        } else {
            Ok(())
        }
    }

    /// Waits for the direction's next event, or until a deadline. `started` is when the call began to wait.
    #[inline(never)]
    fn wait(&self, why: Reason, at: &'static Location<'static>, started: &mut u64) -> io::Result<()> {
        let direction = direction_of(why);
        let Some(mut inside) = Inside::enter() else {
            return self.wait_on_thread(direction, started);
        };
        let task = inside.task();
        if !inside.may_park() {
            inside.refuse(why, at);
        }
        let token = task.token();
        match self.source.wait_start(direction, token) {
            Arm::Armed => {}
            Arm::Ready => return Ok(()),
            Arm::Closed => return Err(closed()),
        }
        // After arming: a deadline set from now on hands our token out.
        let deadline = self.deadline(direction, task.deadline.get(), started);
        if !task.is_over(deadline) {
            inside.park_until(deadline, why, at);
        }
        let over = if deadline == NEVER { LIVE } else { task.over() };
        drop(inside);
        end_wait(self.source.wait_end(direction, token), deadline, over)
    }

    #[cold]
    fn wait_on_thread(&self, direction: Direction, started: &mut u64) -> io::Result<()> {
        let waiter = ThreadWaiter::new();
        match self.source.wait_start(direction, waiter.token()) {
            Arm::Armed => {}
            Arm::Ready => return Ok(()),
            Arm::Closed => return Err(closed()),
        }
        let deadline = self.deadline(direction, thread_deadline(), started);
        waiter.wait_until(deadline);
        let end = self.source.wait_end(direction, waiter.token());
        if end != Disarm::Disarmed {
            waiter.wait_until(NEVER); // whoever has the token touches the waiter once more
        }
        end_wait(end, deadline, thread_over())
    }

    fn deadline(&self, direction: Direction, task_deadline: u64, started: &mut u64) -> u64 {
        let own = self
            .source
            .deadline(direction)
            .unwrap_or(NEVER)
            .min(task_deadline);
        match self.timeouts[slot(direction)].load(Relaxed) {
            NO_TIMEOUT => own,
            timeout => {
                if *started == NEVER {
                    *started = clock::now();
                }
                own.min(started.saturating_add(timeout))
            }
        }
    }

    pub(super) fn set_timeout(&self, direction: Direction, timeout: Option<Duration>) -> io::Result<()> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "cannot set a timeout of zero",
            ));
        }
        let nanos = timeout.map_or(NO_TIMEOUT, |timeout| {
            u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)
        });
        self.timeouts[slot(direction)].store(nanos, Relaxed);
        Ok(())
    }

    pub(super) fn timeout(&self, direction: Direction) -> Option<Duration> {
        let nanos = self.timeouts[slot(direction)].load(Relaxed);
        (nanos != NO_TIMEOUT).then(|| Duration::from_nanos(nanos))
    }

    pub(super) fn set_deadline(&self, direction: Direction, deadline: Option<Instant>) {
        wake_all(
            self.source
                .set_deadline(direction, deadline.map(clock::from_instant)),
        );
    }

    pub(super) fn close(&self) {
        wake_all(self.source.close());
    }
}

/// An error if the caller's context is over.
#[cold]
fn check_own() -> io::Result<()> {
    let over = Inside::enter().map_or_else(thread_over, |inside| inside.task().over());
    if over == LIVE { Ok(()) } else { Err(ended(over)) }
}

fn end_wait(end: Disarm, deadline: u64, over: u8) -> io::Result<()> {
    match end {
        // Also if the context ended in the same moment: what the event tells of is delivered.
        Disarm::Taken => Ok(()),
        Disarm::Closed => Err(closed()),
        Disarm::Disarmed if over != LIVE => Err(ended(over)),
        Disarm::Disarmed if clock::has_come(deadline) => Err(timed_out()),
        Disarm::Disarmed => Ok(()),
    }
}

fn wake_all(tokens: Tokens) {
    let mut inside = Inside::enter();
    for token in tokens {
        wake_token(token, inside.as_mut());
    }
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the socket was closed by another task",
    )
}

/// The context that the call was made in is over.
#[cold]
fn ended(over: u8) -> io::Error {
    ContextError::of_word(over).map_or_else(timed_out, io::Error::from)
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the deadline has passed")
}
