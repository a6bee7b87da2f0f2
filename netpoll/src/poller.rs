//! The poller: one thread at a time asks the kernel what is ready, and gets a list of tokens.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Poll, Registry, Token, Waker};

use crate::interest::Interest;
use crate::interrupt::Interrupt;
use crate::primitive::Lock;
use crate::table::{Address, Table};
use crate::{Direction, Source, error, fine};

/// The waker's own event. No [`Address`] packs to it.
const WAKER: Token = Token(usize::MAX);

/// Turns readiness of descriptors into the tokens of those who wait for it.
///
/// Nobody owns it and it has no thread: whoever has nothing better to do calls
/// [`try_wait`](Self::try_wait), and wakes the tokens it gets.
pub struct Poller {
    inner: Arc<Inner>,
}

/// What the poller shares with its sources.
pub(crate) struct Inner {
    /// A handle of its own, since the selector itself is borrowed by the one who waits.
    registry: Registry,
    waker: Waker,
    interrupt: Interrupt,
    table: Table,
    waiting: Lock<Waiting>,
}

/// What the one who waits has to itself.
struct Waiting {
    poll: Poll,
    /// Number of the last event: no two events of a poller share one, so a clear can tell them apart.
    tick: u64,
}

/// The list that a wait fills with the tokens to be woken; keep it and use it again.
pub struct ReadyList {
    tokens: Vec<usize>,
    events: Events,
}

impl Poller {
    /// Makes a poller.
    ///
    /// # Errors
    ///
    /// When the system refuses the three descriptors it needs (selector, a second handle on it, waker).
    pub fn new() -> io::Result<Poller> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, WAKER)?;
        let inner = Inner {
            registry,
            waker,
            interrupt: Interrupt::new(),
            table: Table::new(),
            waiting: Lock::new(Waiting { poll, tick: 0 }),
        };
        Ok(Poller {
            inner: Arc::new(inner),
        })
    }

    /// Registers a descriptor for both directions, edge-triggered. It must be in non-blocking mode, and
    /// stay open until the source has been dropped or deregistered.
    ///
    /// Both directions begin ready, "not tried yet".
    ///
    /// # Errors
    ///
    /// What the system says, with what to do about it: a regular file has no readiness and is for a
    /// blocking section, and limits are named by their sysctl.
    pub fn register(&self, fd: RawFd) -> io::Result<Source> {
        let (chunk, offset, address) = self.inner.table.take(fd, &self.inner)?;
        let source = Source::new(chunk, offset);
        let token = Token(address.pack());
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        match self.inner.registry.register(&mut SourceFd(&fd), token, both) {
            Ok(()) => Ok(source),
            Err(cause) => {
                source.forget_fd();
                Err(error::explain(fd, cause))
            }
        }
    }

    /// Waits for events and adds the tokens to be woken to `ready`; says how many. `None` if another
    /// thread is inside. Without a timeout it waits for ever, with one of zero it only looks.
    ///
    /// It may return early and with nothing: after an interrupt, a signal, or events nobody waited for.
    ///
    /// # Errors
    ///
    /// When the system refuses the wait.
    pub fn try_wait(&self, timeout: Option<Duration>, ready: &mut ReadyList) -> Option<io::Result<usize>> {
        let mut waiting = self.inner.waiting.try_lock()?;
        let waited = match timeout {
            Some(Duration::ZERO) => waiting.poll.poll(&mut ready.events, timeout),
            _ => {
                let may_block = self.inner.interrupt.begin_wait();
                let timeout = if may_block { timeout } else { Some(Duration::ZERO) };
                let waited = wait_finely(&mut waiting.poll, &mut ready.events, timeout);
                self.inner.interrupt.end_wait();
                waited
            }
        };
        Some(match waited {
            Ok(()) => Ok(self.inner.heed(&mut waiting.tick, ready)),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(cause) => Err(cause),
        })
    }

    /// Makes the thread that is blocked in a wait return, or the next one that would block. Many at once
    /// cost one system call, and none if nobody waits.
    ///
    /// # Errors
    ///
    /// When the waker cannot be written to.
    pub fn interrupt(&self) -> io::Result<()> {
        if self.inner.interrupt.request() {
            self.inner.waker.wake()
        } else {
            Ok(())
        }
    }

    /// A thread is blocked in a wait, or about to be.
    pub fn is_waiting(&self) -> bool {
        self.inner.interrupt.is_waiting()
    }

    /// How many sources there are now. Without any, only an interrupt or the timeout ends a wait.
    pub fn sources(&self) -> usize {
        self.inner.table.used()
    }
}

/// As mio's poll, to the nanosecond: mio rounds up to the milliseconds of `epoll_wait(2)`.
fn wait_finely(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    let Some(timeout) = timeout.filter(|timeout| fine::SELECTOR_IS_COARSE && !timeout.is_zero()) else {
        return poll.poll(events, timeout);
    };
    let (whole, rest) = fine::split(timeout);
    if !whole.is_zero() {
        poll.poll(events, Some(whole))?;
    }
    if rest.is_zero() || (!whole.is_zero() && !events.is_empty()) {
        return Ok(());
    }
    fine::wait_readable(poll, rest)?;
    poll.poll(events, Some(Duration::ZERO))
}

impl Inner {
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn deregister(&self, fd: RawFd) -> io::Result<()> {
        self.registry.deregister(&mut SourceFd(&fd))
    }

    /// Turns the harvested events into tokens.
    fn heed(&self, tick: &mut u64, ready: &mut ReadyList) -> usize {
        let before = ready.tokens.len();
        for event in ready.events.iter().filter(|event| event.token() != WAKER) {
            let Some(entry) = self.table.find(Address::unpack(event.token().0)) else {
                continue;
            };
            *tick += 1;
            for direction in Direction::BOTH {
                let lasting = match Interest::of(event, direction) {
                    Interest::Nothing => continue,
                    Interest::Ready => false,
                    Interest::Lasting => true,
                };
                let queue = entry.queue(direction);
                ready
                    .tokens
                    .extend(entry.readiness(direction).set_ready(*tick, lasting, queue));
            }
        }
        ready.tokens.len() - before
    }
}

impl ReadyList {
    /// A list for up to 1024 events a wait.
    pub fn new() -> Self {
        Self::with_capacity(1024)
    }

    /// A list for up to `events` events a wait; what does not fit is harvested by the next.
    pub fn with_capacity(events: usize) -> Self {
        Self {
            tokens: Vec::new(),
            events: Events::with_capacity(events.max(1)),
        }
    }

    /// Takes all tokens out.
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.tokens.drain(..)
    }

    /// The tokens, in the order of their events.
    pub fn tokens(&self) -> &[usize] {
        &self.tokens
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// There is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

impl Default for ReadyList {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("interrupt", &self.inner.interrupt)
            .field("sources", &self.sources())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ReadyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyList")
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}
