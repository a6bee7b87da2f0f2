//! The monitor: a thread with no processor that looks after what the workers cannot see.
//!
//! | duty | when | what |
//! |---|---|---|
//! | stale next slot | a processor has not picked for a period | its next task goes to the global queue |
//! | overrun | a task has been in user code for a slice, or blocks, while others wait | its processor is taken (see `blocking::handoff`); if it is inside the runtime it yields |
//! | late timers | due, on a processor whose worker is busy, while another idles | a worker is woken to fire them |
//! | refused threads | the system had none for a worker that work waits for | one is asked for again |
//! | late poll | nobody polled for 10 ms | polls, and injects what is ready |
//! | scavenging | about once a second | stacks of tasks parked for long, and of the pool, are given back |
//! | schedtrace | as `BAST_DEBUG` says | a line on stderr |
//!
//! It ticks every millisecond while anything runs, and sleeps for good after a while in which nothing did; the first
//! worker that takes a processor then wakes it.

mod retake;
mod scavenge;
mod schedtrace;

use crate::primitive::atomic::{Acquire, AtomicBool, Relaxed, Release, SeqCst, fence};
use crate::sched::shared::Shared;
use crate::sys::parker::Parker;
use crate::sys::thread;
use crate::time::clock::{self, NEVER};
use bast_netpoll::ReadyList;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Time between two looks while anything runs.
const PERIOD: Duration = Duration::from_millis(1);
/// A poller that nobody asked for so long is late.
const LATE_POLL_NANOS: u64 = 10_000_000;
/// After so many looks at an idle runtime the monitor sleeps until it is woken. Longer than two scavenging rounds,
/// so that an idle server has given its memory back before.
const QUIET_LOOKS: u32 = 3_000;
/// Time between two looks of an idle runtime that has memory to give back.
const SCAVENGING_REST: Duration = Duration::from_secs(1);
/// Stack of the monitor's thread.
const STACK_BYTES: usize = 256 << 10;

/// What others see of the monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    parker: OnceLock<Arc<Parker>>,
    thread: crate::sys::lock::Lock<Option<std::thread::JoinHandle<()>>>,
    /// Sleeps until somebody is busy.
    dozing: AtomicBool,
    stopping: AtomicBool,
    complained: AtomicBool,
    /// The system refused a thread that work waits for.
    refused: AtomicBool,
}

impl Monitor {
    pub(crate) fn new() -> Monitor {
        Monitor {
            parker: OnceLock::new(),
            thread: crate::sys::lock::Lock::new(crate::sys::lock::Rank::Leaf, None),
            dozing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            complained: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }
    }

    /// The system has refused a thread that work waits for: the next look tries again.
    #[cold]
    pub(crate) fn retry_start(&self) {
        self.refused.store(true, Relaxed);
        fence(SeqCst); // pairs with the one before the monitor dozes: it sees the flag, or we see that it dozes
        if self.dozing.load(Relaxed) {
            self.wake();
        }
    }

    /// As [`Monitor::retry_start`], at once: for who must not start a thread itself.
    #[cold]
    pub(crate) fn start_worker(&self) {
        self.refused.store(true, Relaxed);
        self.wake();
    }

    /// A processor has been taken.
    #[inline]
    pub(crate) fn note_busy(&self) {
        // Relaxed: a monitor that begins to doze looks at the processors once more, under the lock that our caller
        // holds.
        if self.dozing.load(Relaxed) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.dozing.store(false, Relaxed);
        if let Some(parker) = self.parker.get() {
            parker.wake();
        }
    }

    /// Ends the thread and waits for it.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Release);
        self.wake();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Says once what has gone wrong in a place where no caller can be told.
    pub(crate) fn complain_once(&self, error: &dyn std::fmt::Display) {
        if !self.complained.swap(true, Relaxed) {
            eprintln!("bast: {error}");
        }
    }
}

/// Starts the monitor of a runtime.
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let own = Arc::clone(shared);
    let thread = thread::start("bast-monitor".to_owned(), STACK_BYTES, move || {
        let _ = own.monitor.parker.set(Arc::new(Parker::new()));
        Watch::new(&own).run();
    })?;
    *shared.monitor.thread.lock() = Some(thread);
    Ok(())
}

/// What the monitor remembers between two looks.
struct Watch<'a> {
    shared: &'a Shared,
    /// Of each processor.
    seen: Vec<retake::Seen>,
    quiet: u32,
    ready: ReadyList,
    scavenger: scavenge::Scavenger,
    schedtrace: Option<schedtrace::Schedtrace>,
}

impl<'a> Watch<'a> {
    fn new(shared: &'a Shared) -> Watch<'a> {
        Watch {
            shared,
            seen: vec![retake::Seen::default(); shared.processors.len()],
            quiet: 0,
            ready: ReadyList::with_capacity(256),
            scavenger: scavenge::Scavenger::new(),
            schedtrace: schedtrace::Schedtrace::new(&shared.config),
        }
    }

    fn run(mut self) {
        while !self.shared.monitor.stopping.load(Acquire) {
            let now = clock::now();
            let moved = self.look_at_processors(now);
            self.poll_late(now);
            let retried = self.shared.monitor.refused.swap(false, Relaxed);
            if retried {
                self.shared.wake_one();
            }
            self.scavenger.step(self.shared, now);
            if let Some(trace) = &mut self.schedtrace {
                trace.step(self.shared, now);
            }
            self.quiet = if moved || retried { 0 } else { self.quiet + 1 };
            self.rest();
        }
    }

    /// A period, or until woken if nothing has run for long.
    fn rest(&mut self) {
        let monitor = &self.shared.monitor;
        let parker = monitor.parker.get().expect("set before the first look");
        if self.quiet < QUIET_LOOKS || self.schedtrace.is_some() {
            parker.sleep_for(PERIOD);
            return;
        }
        monitor.dozing.store(true, SeqCst);
        fence(SeqCst);
        // Under the lock: whoever takes a processor after this sees `dozing`.
        let all_idle = self.shared.lists.lock().processors.len() == self.shared.processors.len()
            && !monitor.refused.load(Relaxed);
        if all_idle && self.has_memory_to_give_back() {
            parker.sleep_for(SCAVENGING_REST);
        } else if all_idle {
            parker.sleep();
            self.quiet = 0;
        }
        monitor.dozing.store(false, Relaxed);
    }

    /// Free stacks still keep their pages: the high-water mark has not come down yet.
    fn has_memory_to_give_back(&self) -> bool {
        self.shared
            .stacks
            .stats()
            .classes
            .iter()
            .any(|class| class.warm > 0)
    }

    /// True if anything has run since the last look or runs now.
    fn look_at_processors(&mut self, now: u64) -> bool {
        let mut moved = false;
        let idle = self.shared.idle.counts().1;
        for (processor, seen) in self.shared.processors.iter().zip(&mut self.seen) {
            let tick = processor.tick();
            if tick != seen.tick {
                (seen.tick, seen.since) = (tick, now);
                moved = true;
                continue;
            }
            if idle == self.shared.processors.len() {
                continue;
            }
            if idle > 0 {
                if let Some(task) = processor.queue.steal_next() {
                    self.shared.inject(crate::task::header::TaskRef(task));
                } else if processor.queue.has_ring() || processor.timers.next_due() <= now {
                    self.shared.wake_one();
                }
            }
            moved |= retake::look(self.shared, processor, seen, now);
        }
        if idle > 0 && self.shared.reactor.has_sources() && !self.shared.reactor.poller().is_waiting() {
            self.shared.wake_one(); // finds nothing to run, perhaps, and then waits in the poller
        }
        moved
    }

    fn poll_late(&mut self, now: u64) {
        let reactor = &self.shared.reactor;
        let waiting = reactor.poller().is_waiting();
        if waiting || !reactor.has_sources() || now.saturating_sub(reactor.last_poll()) < LATE_POLL_NANOS {
            return;
        }
        let shared = self.shared;
        reactor.poll_now(shared, &mut self.ready, |task| shared.inject(task));
    }
}

/// When the first timer is due, for a line of text.
fn first_timer_text(due: u64, now: u64) -> String {
    if due == NEVER {
        return "none".to_owned();
    }
    format!("{:?}", Duration::from_nanos(due.saturating_sub(now)))
}
