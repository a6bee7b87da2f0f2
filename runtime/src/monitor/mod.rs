//! The monitor: a thread with no processor that looks after what the workers cannot see.
//!
//! | duty | when | what |
//! |---|---|---|
//! | stale next slot | a processor has not picked for a period | its next task goes to the global queue |
//! | overrun | a task has been in user code for a slice, or blocks, while others wait | its processor is taken (see `blocking::handoff`); if it is inside the runtime it yields |
//! | late timers | due, on a processor whose worker is busy, while another idles | a worker is woken to fire them |
//! | hogs | computes without a processor, in a strict runtime or one at its limit of workers | its worker is held, see `preempt` |
//! | refused threads | the system had none for a worker that work waits for | one is asked for again |
//! | late poll | nobody polled for 10 ms | polls, and injects what is ready |
//! | scavenging | about once a second | stacks of tasks parked for long, and of the pool, are given back |
//! | schedtrace | as `BAST_DEBUG` says | a line on stderr |
//!
//! How often it looks is told in [`pace`]: 20 us apart while something needs attention, up to 10 ms where nothing
//! happens, and not at all while nobody holds a processor.

mod hogs;
mod overrun;
mod pace;
mod retake;
mod scavenge;
mod schedtrace;

pub(crate) use hogs::Notes;
pub(crate) use overrun::Overruns;

use crate::blocking::handoff::WATCH;
use crate::primitive::atomic::{Acquire, AtomicBool, AtomicU64, Relaxed, Release, SeqCst, fence};
use crate::sched::idle_poller::is_watched;
use crate::sched::shared::Shared;
use crate::sched::worker::Worker;
use crate::sys::parker::Parker;
use crate::sys::{membarrier, thread};
use crate::time::clock::{self, NEVER};
use bast_netpoll::ReadyList;
use pace::{Pace, Rest, Sight};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A poller that nobody asked for so long is late.
const LATE_POLL_NANOS: u64 = 10_000_000;
/// So many rounds, one a second, the monitor of an idle runtime still makes to give memory back: of each task two that began
/// after the runtime was busy. Not so long: the process may have been stopped for a while.
const IDLE_SCAVENGES: u64 = 3;
/// Rest between two looks at an idle runtime whose timers and sockets nobody watches.
const UNWATCHED_NANOS: u64 = 1_000_000;
/// Instead of a long rest, where something has happened just before it.
const DISTURBED_NANOS: u64 = 200_000;
/// Stack of the monitor's thread.
const STACK_BYTES: usize = 256 << 10;

/// What others see of the monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    parker: OnceLock<Arc<Parker>>,
    thread: crate::sys::lock::Lock<Option<std::thread::JoinHandle<()>>>,
    /// Sleeps long, until somebody becomes busy.
    dozing: AtomicBool,
    /// How often it has looked.
    looks: AtomicU64,
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
            looks: AtomicU64::new(0),
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

    /// Work has come from outside of all processors, and was published under the scheduler's lock.
    #[inline]
    pub(crate) fn note_work(&self) {
        // Relaxed: as above.
        if self.dozing.load(Relaxed) {
            self.wake();
        }
    }

    /// The runtime closes.
    pub(crate) fn note_closing(&self) {
        self.wake();
    }

    /// A worker that was asked to (`WATCH`) has entered the runtime.
    #[cold]
    pub(crate) fn note_call(&self) {
        self.wake();
    }

    /// How often the monitor has looked.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Relaxed)
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
    pace: Pace,
    /// The scavenger's rounds when anybody held a processor last.
    busy_round: u64,
    /// Scratch, empty between two looks.
    workers: Vec<Arc<Worker>>,
    ready: ReadyList,
    scavenger: scavenge::Scavenger,
    schedtrace: Option<schedtrace::Schedtrace>,
}

impl<'a> Watch<'a> {
    fn new(shared: &'a Shared) -> Watch<'a> {
        Watch {
            shared,
            seen: vec![retake::Seen::default(); shared.processors.len()],
            pace: Pace::new(shared.config.slice.as_nanos() as u64),
            busy_round: 0,
            workers: Vec::with_capacity(64),
            ready: ReadyList::with_capacity(256),
            scavenger: scavenge::Scavenger::new(),
            schedtrace: schedtrace::Schedtrace::new(&shared.config),
        }
    }

    fn run(mut self) {
        let monitor = &self.shared.monitor;
        let mut woken = false;
        while !monitor.stopping.load(Acquire) {
            let now = clock::now();
            monitor.looks.store(monitor.looks.load(Relaxed) + 1, Relaxed);
            let mut sight = self.look_at_processors(now);
            hogs::look(self.shared, &mut self.workers, now, &mut sight);
            self.poll_late(now);
            let retried = monitor.refused.swap(false, Relaxed);
            if retried {
                self.shared.wake_one();
            }
            sight.acted |= woken | retried;
            self.scavenger.step(self.shared, now);
            if let Some(trace) = &mut self.schedtrace {
                trace.step(self.shared, now);
                sight.due_in = sight.due_in.min(trace.due_in(now));
            }
            if !sight.all_idle {
                self.busy_round = self.scavenger.rounds();
            }
            woken = match self.pace.next(&sight) {
                Rest::Short(nanos) => {
                    self.sleep(nanos);
                    false
                }
                Rest::Still(nanos) => self.rest_still(nanos),
                Rest::Doze => self.doze(now),
            };
        }
    }

    fn sleep(&self, nanos: u64) -> bool {
        let parker = self
            .shared
            .monitor
            .parker
            .get()
            .expect("set before the first look");
        thread::punctually(nanos, || parker.sleep_for(Duration::from_nanos(nanos)))
    }

    /// Rests for longer, but until somebody takes a processor, work comes from outside, or a worker whose task is in user
    /// code calls into bast. True: one of these.
    ///
    /// A worker that enters either sees `WATCH`, or has stored that it is inside before our barrier, and then we see it
    /// (the Dekker of `blocking::handoff`). Who takes a processor or publishes work does so under the scheduler's lock:
    /// before we hold it, and then we see it, or after that, and then he sees `dozing`.
    fn rest_still(&mut self, nanos: u64) -> bool {
        let shared = self.shared;
        let monitor = &shared.monitor;
        for worker in shared.workers.lock().iter() {
            if worker.marking.tenure().is_some() {
                worker.marking.ask(WATCH);
            }
        }
        membarrier::heavy();
        let outside = shared
            .workers
            .lock()
            .iter()
            .all(|worker| worker.marking.tenure().is_none() || !worker.marking.is_inside());
        let idle = shared.idle.counts().1;
        monitor.dozing.store(true, SeqCst);
        fence(SeqCst);
        drop(shared.lists.lock());
        let quiet = outside
            && idle == shared.idle.counts().1
            && !shared.has_shared()
            && !monitor.refused.load(Relaxed)
            && shared
                .processors
                .iter()
                .zip(&self.seen)
                .all(|(processor, seen)| processor.tick() == seen.tick && processor.queue.is_empty());
        let woken = if quiet {
            self.sleep(nanos)
        } else {
            self.sleep(DISTURBED_NANOS);
            false
        };
        monitor.dozing.store(false, Relaxed);
        woken
    }

    /// Sleeps until somebody is busy, but for visits to memory that can be given back. True: somebody is.
    fn doze(&mut self, now: u64) -> bool {
        let shared = self.shared;
        let monitor = &shared.monitor;
        monitor.dozing.store(true, SeqCst);
        fence(SeqCst);
        // Under the lock: whoever takes a processor after this sees `dozing`.
        let all_idle = shared.lists.lock().processors.len() == shared.processors.len();
        let reactor = &shared.reactor;
        let watched = is_watched(
            reactor.poller().is_waiting(),
            reactor.has_sources(),
            shared.first_timer(),
        );
        let can_doze = all_idle && watched && !monitor.refused.load(Relaxed);
        let woken = if !can_doze {
            // Busy again; or nobody waits in the poller yet, or ever, if there are no threads to be had.
            let rest = if all_idle {
                UNWATCHED_NANOS
            } else {
                pace::ALERT_NANOS
            };
            self.sleep(rest);
            !all_idle
        } else if let Some(trace) = &self.schedtrace {
            self.sleep(trace.due_in(now));
            false
        } else if self.scavenger.rounds() < self.busy_round + IDLE_SCAVENGES || self.has_memory_to_give_back()
        {
            self.sleep(self.scavenger.due_in(now));
            false
        } else {
            let parker = monitor.parker.get().expect("set before the first look");
            parker.sleep();
            true
        };
        // Who wakes us resets it, and nobody else.
        !monitor.dozing.swap(false, Relaxed) || woken
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

    fn look_at_processors(&mut self, now: u64) -> Sight {
        let shared = self.shared;
        let idle = shared.idle.counts().1;
        let all_idle = idle == shared.processors.len();
        let mut sight = Sight {
            all_idle,
            still: true,
            due_in: u64::MAX,
            ..Sight::default()
        };
        for (processor, seen) in shared.processors.iter().zip(&mut self.seen) {
            let tick = processor.tick();
            if tick != seen.tick {
                seen.tick = tick;
                sight.still = false;
                retake::look_at_mover(shared, processor, seen, now, self.pace.is_alert() && idle == 0);
                continue;
            }
            if all_idle {
                continue;
            }
            if idle > 0 {
                if let Some(task) = processor.queue.steal_next() {
                    shared.inject(crate::task::header::TaskRef(task));
                    sight.still = false;
                    sight.late = true;
                } else if processor.queue.has_ring() || processor.timers.next_due() <= now {
                    shared.wake_one();
                    sight.still = false;
                }
            }
            retake::look(shared, processor, seen, now, &mut sight);
        }
        let reactor = &shared.reactor;
        if idle > 0 && !is_watched(reactor.poller().is_waiting(), reactor.has_sources(), NEVER) {
            shared.wake_one(); // finds nothing to run, perhaps, and then waits in the poller
        }
        sight
    }

    fn poll_late(&mut self, now: u64) {
        let reactor = &self.shared.reactor;
        let waiting = reactor.poller().is_waiting();
        if waiting || !reactor.has_sources() || now.saturating_sub(reactor.last_poll()) < LATE_POLL_NANOS {
            return;
        }
        let shared = self.shared;
        let mut woken = Vec::new();
        reactor.poll_now(shared, &mut self.ready, &mut woken);
        shared.inject_all(&mut woken);
    }
}

/// When the first timer is due, for a line of text.
fn first_timer_text(due: u64, now: u64) -> String {
    if due == NEVER {
        return "none".to_owned();
    }
    format!("{:?}", Duration::from_nanos(due.saturating_sub(now)))
}
