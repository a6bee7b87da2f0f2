//! Who polls the netpoller, and when: a worker that looks for work polls without waiting, the last idle worker waits
//! in it, and the monitor polls if nobody did for a while. Nobody owns a reactor thread.

use super::idle_poller::{self, WaitUntil};
use super::shared::Shared;
use crate::primitive::atomic::{AtomicU64, Relaxed};
use crate::sys::thread;
use crate::task::header::TaskRef;
use crate::task::state::Unpark;
use crate::time::clock::{self, NEVER};
use bast_netpoll::{Poller, ReadyList};
use std::io;
use std::time::Duration;

const _: () = assert!(idle_poller::NEVER == NEVER);

/// The poller of a runtime and when it was last asked.
#[derive(Debug)]
pub(crate) struct Reactor {
    poller: Poller,
    wait_until: WaitUntil,
    last_poll: AtomicU64,
}

impl Reactor {
    pub(crate) fn new() -> io::Result<Reactor> {
        let poller = Poller::new()?;
        Ok(Reactor {
            poller,
            wait_until: WaitUntil::new(),
            last_poll: AtomicU64::new(0),
        })
    }

    pub(crate) fn poller(&self) -> &Poller {
        &self.poller
    }

    #[inline]
    pub(crate) fn has_sources(&self) -> bool {
        self.poller.sources() > 0
    }

    /// Nanoseconds of the last poll; for the monitor.
    pub(crate) fn last_poll(&self) -> u64 {
        self.last_poll.load(Relaxed)
    }

    pub(crate) fn interrupt(&self) {
        if let Err(error) = self.poller.interrupt() {
            // Without it a worker sleeps on with work at hand; the monitor would find it, so this is no dead end.
            eprintln!("bast: cannot interrupt the poller: {error}");
        }
    }

    /// Takes what is ready now, and adds each woken task of `owner`, which is then the caller's.
    pub(crate) fn poll_now(&self, owner: &Shared, ready: &mut ReadyList, woken: &mut Vec<TaskRef>) {
        if !self.has_sources() {
            return;
        }
        self.last_poll.store(clock::now(), Relaxed);
        let result = self.poller.try_wait(Some(Duration::ZERO), ready);
        finish(owner, result, ready, woken);
    }

    /// Waits for the first timer, an event, or an interrupt; adds tasks as [`Reactor::poll_now`] does, and says for which
    /// timer it has waited. By who has the place in the poller (`idle_poller`).
    pub(crate) fn wait(&self, owner: &Shared, ready: &mut ReadyList, woken: &mut Vec<TaskRef>) -> u64 {
        let until = self
            .wait_until
            .begin(|| owner.idle.counts().1, || owner.first_timer());
        let timeout = (until != NEVER).then(|| clock::until(until));
        let nanos = timeout.map_or(NEVER, |timeout| timeout.as_nanos() as u64);
        let result = thread::punctually(nanos, || self.poller.try_wait(timeout, ready));
        self.wait_until.end();
        self.last_poll.store(clock::now(), Relaxed);
        finish(owner, result, ready, woken);
        until
    }

    /// Whoever goes idle leaves timers behind of which the first is due at `due`: a worker that waits longer must
    /// think again.
    pub(crate) fn check_wait_until(&self, due: u64) {
        if self.wait_until.is_too_late(due) {
            self.interrupt();
        }
    }
}

fn finish(
    owner: &Shared,
    result: Option<io::Result<usize>>,
    ready: &mut ReadyList,
    woken: &mut Vec<TaskRef>,
) {
    match result {
        None => return, // another thread is inside and will hand out what comes
        Some(Err(error)) if error.kind() != io::ErrorKind::Interrupted => {
            eprintln!("bast: the poller fails: {error}");
            return;
        }
        Some(_) => {}
    }
    debug_assert!(woken.is_empty(), "tasks are left over");
    for token in ready.drain() {
        let Some(task) = super::park::task_of(token) else {
            super::park::wake_token(token, None);
            continue;
        };
        if task.state.unpark() != Unpark::Enqueue {
            continue;
        }
        if task.belongs_to(owner) {
            woken.push(task);
        } else {
            // A socket of this runtime, read by a task of another.
            super::park::enqueue(task, None);
        }
    }
    super::traced::unblocked_all(woken, owner.number);
}
