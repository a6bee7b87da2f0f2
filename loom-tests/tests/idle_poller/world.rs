//! `World` does what `sched::find`, `sched::shared` and `monitor` do around the place in the poller, step by step, on the
//! real `idle`, `idle_poller` and netpoll's `interrupt`. All queues are one counter and all accesses to it and to the
//! timers are Relaxed, so that nothing but the protocols' fences and the scheduler's lock can make them visible.
//!
//! A thread that has nothing to do rests, and whoever comes to rest last looks at what has become of the world.

use bast::protocol::idle::Idle;
use bast::protocol::idle_poller::{NEVER, Place, WaitUntil, is_watched, who_goes_on};
use bast_netpoll::protocol::Interrupts;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Workers 0 and 1, and a thread that is started when a processor wants one.
pub(crate) const SPARE: usize = 2;
const MONITOR: usize = 3;
const ACTORS: usize = 4;
/// Looks that the monitor takes after all others have come to rest.
const LATE_LOOKS: usize = 3;
/// When the timer is due that a scenario arms.
pub(crate) const DUE: u64 = 5;

pub(crate) struct World {
    idle: Idle,
    /// On all queues.
    pub(crate) tasks: AtomicUsize,
    /// When the first timer of each processor is due.
    pub(crate) timers: Vec<AtomicU64>,
    until: WaitUntil,
    interrupts: Interrupts,
    dozing: AtomicBool,
    lists: Mutex<Lists>,
    system: Mutex<System>,
    wakes: [Condvar; ACTORS],
    /// Who takes a task runs it for ever.
    endless: bool,
}

/// Under the scheduler's lock.
pub(crate) struct Lists {
    processors: Vec<usize>,
    /// Workers that sleep or are about to, and whether in the poller.
    workers: Vec<(usize, bool)>,
    poller: Place,
    pub(crate) handed: [Option<Hand>; ACTORS],
    /// A thread can be started.
    pub(crate) spare: bool,
    /// So often the system has none, before it has one.
    pub(crate) refusals: usize,
}

/// What the system knows: who rests, and what wakes it.
struct System {
    running: usize,
    rests: [Option<Rest>; ACTORS],
    permits: [bool; ACTORS],
    /// A worker is inside the poller, which lets nobody else in.
    inside: bool,
    /// The poller's waker has been written to.
    waker: bool,
    events: usize,
    late_looks: usize,
    over: bool,
}

/// Why a thread rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// In its parker.
    Sleeps,
    /// In the poller, until then.
    Waits(u64),
    /// In an endless task, with a processor.
    Computes,
    /// The monitor, until its next look.
    Looks,
    /// The monitor, until somebody is busy.
    Dozes,
}

/// What a worker has in hand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hand {
    processor: Option<usize>,
    searching: bool,
}

/// All threads rest, and the world has been looked at.
pub(crate) struct Over;

impl World {
    /// The first `held` of `processors` are in the hands of workers, not as searchers. `running` threads, and the caller.
    pub(crate) fn new(processors: usize, held: usize, running: usize, endless: bool) -> Arc<Self> {
        let idle: Vec<_> = (held..processors).collect();
        Arc::new(Self {
            idle: Idle::new(idle.len()),
            tasks: AtomicUsize::new(0),
            timers: (0..processors).map(|_| AtomicU64::new(NEVER)).collect(),
            until: WaitUntil::new(),
            interrupts: Interrupts::new(),
            dozing: AtomicBool::new(false),
            lists: Mutex::new(Lists {
                processors: idle,
                workers: Vec::new(),
                poller: Place::default(),
                handed: [None; ACTORS],
                spare: false,
                refusals: 0,
            }),
            system: Mutex::new(System {
                running: running + 1,
                rests: [None; ACTORS],
                permits: [false; ACTORS],
                inside: false,
                waker: false,
                events: 0,
                late_looks: 0,
                over: false,
            }),
            wakes: std::array::from_fn(|_| Condvar::new()),
            endless,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap()
    }

    // ---- the system ----

    /// Sleeps until there is a permit or, in the poller, an event or a write to the waker; gives the number of events.
    pub(crate) fn rest(&self, me: usize, why: Rest) -> Result<usize, Over> {
        let mut system = self.system.lock().unwrap();
        loop {
            let waits = matches!(why, Rest::Waits(_));
            if waits && (system.waker || system.events > 0) {
                return Ok(system.harvest());
            }
            if !waits && std::mem::take(&mut system.permits[me]) {
                return Ok(0);
            }
            if system.rests[me].is_none() && !system.over {
                system.rests[me] = Some(why);
                self.end_run(&mut system);
                continue;
            }
            if system.over {
                return Err(Over);
            }
            system = self.wakes[me].wait(system).unwrap();
        }
    }

    /// One thread fewer runs.
    fn end_run(&self, system: &mut System) {
        system.running -= 1;
        if system.running == 0 {
            self.look_at_all(system);
        }
    }

    /// The calling thread, whose `rests` is `None`, has ended.
    pub(crate) fn end(&self) {
        self.end_run(&mut self.system.lock().unwrap());
    }

    fn resume(&self, system: &mut System, who: usize) {
        if system.rests[who].take().is_some() {
            system.running += 1;
            self.wakes[who].notify_one();
        }
    }

    fn resume_waiter(&self, system: &mut System) {
        let waits = |rest: &Option<Rest>| matches!(rest, Some(Rest::Waits(_)));
        if let Some(who) = system.rests.iter().position(waits) {
            self.resume(system, who);
        }
    }

    /// The parker's wake-up.
    fn wake(&self, who: usize) {
        let mut system = self.system.lock().unwrap();
        system.permits[who] = true;
        self.resume(&mut system, who);
    }

    fn interrupt(&self) {
        if self.interrupts.request() {
            let mut system = self.system.lock().unwrap();
            system.waker = true;
            self.resume_waiter(&mut system);
        }
    }

    /// A socket becomes ready.
    pub(crate) fn event(&self) {
        let mut system = self.system.lock().unwrap();
        system.events += 1;
        self.resume_waiter(&mut system);
    }

    /// Nobody runs. Who is in the poller, and does everything that matters come to somebody's notice?
    fn look_at_all(&self, system: &mut System) {
        let lists = self.lock();
        let all_idle = lists.processors.len() == self.timers.len();
        let watched = || {
            let waits = |rest: &Option<Rest>| match rest {
                Some(Rest::Waits(until)) => Some(*until),
                _ => None,
            };
            let until = system.rests.iter().find_map(waits);
            until.expect("nobody waits in the poller") <= self.first_timer()
        };
        if all_idle {
            // Without the monitor's help, unless the system has refused the thread.
            let helpless = lists.workers.is_empty();
            assert!(helpless || watched(), "a timer is due before the wait is over");
        }
        if system.rests[MONITOR] == Some(Rest::Looks) && system.late_looks < LATE_LOOKS {
            system.late_looks += 1;
            drop(lists);
            return self.resume_with_permit(system, MONITOR);
        }
        assert_eq!(self.idle.counts(), (0, lists.processors.len()));
        if !lists.processors.is_empty() {
            assert!(watched(), "a timer is due before the wait is over");
            assert_eq!(
                self.tasks.load(Relaxed),
                0,
                "a task waits beside an idle processor"
            );
        }
        assert_eq!(system.events, 0, "nobody has taken the event");
        if system.rests[MONITOR] == Some(Rest::Dozes) {
            assert!(all_idle, "the monitor dozes beside a busy worker");
        }
        drop(lists);
        system.over = true;
        self.wakes.iter().for_each(Condvar::notify_one);
    }

    fn resume_with_permit(&self, system: &mut System, who: usize) {
        system.permits[who] = true;
        self.resume(system, who);
    }

    // ---- `sched::shared` ----

    fn wake_one(&self) {
        if !self.idle.claim_wake() {
            return;
        }
        let popped = self.pop_idle_processor(&mut self.lock());
        match popped {
            Some(processor) => {
                self.run_processor(processor, true);
                self.note_busy();
            }
            None => self.idle.cancel_wake(),
        }
    }

    fn inject(&self, tasks: usize) {
        if tasks == 0 {
            return;
        }
        let lists = self.lock();
        self.tasks.fetch_add(tasks, Relaxed);
        drop(lists);
        self.note_busy();
        self.wake_one();
    }

    /// `note_busy` follows, without the lock.
    pub(crate) fn pop_idle_processor(&self, lists: &mut Lists) -> Option<usize> {
        let processor = lists.processors.pop()?;
        self.idle.processor_acquired();
        Some(processor)
    }

    fn push_idle_processor(&self, lists: &mut Lists, processor: usize) {
        lists.processors.push(processor);
        self.idle.processor_released();
    }

    fn run_processor(&self, processor: usize, searching: bool) -> bool {
        if self.hand_to_sleeper(&mut self.lock(), processor, searching) {
            return true;
        }
        let mut lists = self.lock(); // `worker::start`
        if lists.refusals > 0 {
            lists.refusals -= 1;
        } else if std::mem::take(&mut lists.spare) {
            lists.handed[SPARE] = Some(Hand {
                processor: Some(processor),
                searching,
            });
            drop(lists);
            self.wake(SPARE);
            return true;
        }
        drop(lists);
        self.leave_idle(processor, searching)
    }

    fn leave_idle(&self, processor: usize, searching: bool) -> bool {
        let mut lists = self.lock();
        if self.hand_to_sleeper(&mut lists, processor, searching) {
            return true;
        }
        self.push_idle_processor(&mut lists, processor); // S1
        if searching {
            self.idle.cancel_wake(); // S2
        }
        drop(lists);
        self.idle.end_unsearched(); // S3; S4: the monitor is asked to try again, which it does at each look here
        false
    }

    fn hand_to_sleeper(&self, lists: &mut Lists, processor: usize, searching: bool) -> bool {
        let in_poller = |place: usize| lists.workers[place].1;
        let Some(place) = who_goes_on(lists.workers.len(), lists.processors.len(), in_poller) else {
            return false;
        };
        let (worker, in_poller) = lists.workers.swap_remove(place);
        lists.handed[worker] = Some(Hand {
            processor: Some(processor),
            searching,
        });
        if in_poller {
            self.interrupt();
        } else {
            self.wake(worker);
        }
        true
    }

    pub(crate) fn give_processor(&self, processor: usize) {
        let mut lists = self.lock();
        if self.has_work() || lists.poller.is_needed() {
            drop(lists);
            if self.run_processor(processor, false) {
                return;
            }
        } else {
            self.push_idle_processor(&mut lists, processor);
            drop(lists);
        }
        self.idle.end_unsearched();
        if self.has_work() {
            self.wake_one();
        }
        self.check_wait_until();
    }

    fn check_wait_until(&self) {
        if self.until.is_too_late(self.first_timer()) {
            self.interrupt();
        }
    }

    fn first_timer(&self) -> u64 {
        let due = |timer: &AtomicU64| timer.load(Relaxed);
        self.timers.iter().map(due).min().unwrap_or(NEVER)
    }

    fn has_work(&self) -> bool {
        self.tasks.load(Relaxed) > 0
    }

    // ---- `sched::find` ----

    /// A worker, until all rest.
    pub(crate) fn work(&self, me: usize, hand: Hand) {
        let mut hand = hand;
        while self.step(me, &mut hand).is_ok() {}
    }

    fn step(&self, me: usize, hand: &mut Hand) -> Result<(), Over> {
        if hand.processor.is_none() {
            return self.sleep_until_work(me, hand);
        }
        if !hand.searching {
            hand.searching = self.idle.try_begin_search(self.timers.len());
        }
        let less = |tasks: usize| tasks.checked_sub(1);
        if self.tasks.fetch_update(Relaxed, Relaxed, less).is_err() {
            return self.sleep_until_work(me, hand);
        }
        let wanted = || {
            let waited = self.interrupts.is_waiting();
            self.tasks.load(Relaxed) > 0 || !is_watched(waited, true, self.first_timer())
        };
        if std::mem::take(&mut hand.searching) && self.idle.end_search_found() && wanted() {
            self.wake_one();
        }
        if self.endless {
            self.rest(me, Rest::Computes)?;
        }
        Ok(())
    }

    fn sleep_until_work(&self, me: usize, hand: &mut Hand) -> Result<(), Over> {
        let mut lists = self.lock();
        if let Some(processor) = hand.processor.take() {
            self.push_idle_processor(&mut lists, processor); // S1
        }
        let idle = lists.processors.len();
        let poll = lists.poller.try_take(idle);
        lists.workers.push((me, poll));
        drop(lists);
        if std::mem::take(&mut hand.searching) {
            self.idle.end_search_empty(); // S2, S3
        } else {
            self.idle.end_unsearched(); // S3
        }
        if self.has_work() && self.reclaim(me, hand) {
            return Ok(()); // S4
        }
        if poll {
            return self.wait_in_poller(me, hand);
        }
        self.check_wait_until();
        self.rest(me, Rest::Sleeps)?;
        *hand = self.lock().handed[me].take().expect("woken with a processor");
        Ok(())
    }

    fn reclaim(&self, me: usize, hand: &mut Hand) -> bool {
        let mut lists = self.lock();
        let Some(place) = lists.workers.iter().position(|&(worker, _)| worker == me) else {
            return false;
        };
        let Some(processor) = self.pop_idle_processor(&mut lists) else {
            return false;
        };
        if lists.workers.swap_remove(place).1 {
            lists.poller.leave();
        }
        drop(lists);
        self.note_busy();
        self.idle.begin_search();
        *hand = Hand {
            processor: Some(processor),
            searching: true,
        };
        true
    }

    fn wait_in_poller(&self, me: usize, hand: &mut Hand) -> Result<(), Over> {
        let until = self.until.begin(|| self.idle.counts().1, || self.first_timer());
        self.system.lock().unwrap().inside = true;
        let events = if self.interrupts.begin_wait() {
            self.rest(me, Rest::Waits(until))?
        } else {
            self.system.lock().unwrap().harvest()
        };
        self.interrupts.end_wait();
        self.system.lock().unwrap().inside = false;
        self.until.end();
        *hand = self.back_from_poller(me, events > 0);
        if hand.processor.is_none() {
            self.inject(events);
        } else {
            self.tasks.fetch_add(events, Relaxed);
        }
        Ok(())
    }

    fn back_from_poller(&self, me: usize, has_work: bool) -> Hand {
        let mut lists = self.lock();
        lists.poller.leave();
        let Some(place) = lists.workers.iter().position(|&(worker, _)| worker == me) else {
            return lists.handed[me]
                .take()
                .expect("taken off the list with a processor");
        };
        lists.workers.swap_remove(place);
        let processor = has_work.then(|| self.pop_idle_processor(&mut lists)).flatten();
        drop(lists);
        if processor.is_some() {
            self.note_busy();
        }
        Hand {
            processor,
            searching: false,
        }
    }

    // ---- `monitor` ----

    pub(crate) fn note_busy(&self) {
        if self.dozing.load(Relaxed) {
            self.dozing.store(false, Relaxed);
            self.wake(MONITOR);
        }
    }

    /// A look that does not wait.
    fn poll(&self) -> usize {
        let mut system = self.system.lock().unwrap();
        if system.inside { 0 } else { system.harvest() }
    }

    /// The monitor, after the others have come to rest for the first time: that saves the model most of its executions.
    pub(crate) fn late_monitor(&self) {
        if self.rest(MONITOR, Rest::Looks).is_ok() {
            self.monitor();
        }
    }

    /// The monitor, until all rest. It would doze after each look, and may.
    pub(crate) fn monitor(&self) {
        loop {
            if self.idle.counts().1 > 0 && !is_watched(self.interrupts.is_waiting(), true, NEVER) {
                self.wake_one();
            }
            if !self.interrupts.is_waiting() {
                self.inject(self.poll());
            }
            self.dozing.store(true, SeqCst);
            fence(SeqCst);
            let all_idle = self.lock().processors.len() == self.timers.len();
            let watched = is_watched(self.interrupts.is_waiting(), true, self.first_timer());
            let why = if all_idle && watched {
                Rest::Dozes
            } else {
                Rest::Looks
            };
            if self.rest(MONITOR, why).is_err() {
                return;
            }
            self.dozing.store(false, Relaxed);
        }
    }
}

impl System {
    fn harvest(&mut self) -> usize {
        self.waker = false;
        std::mem::take(&mut self.events)
    }
}

pub(crate) fn hand(processor: usize) -> Hand {
    Hand {
        processor: Some(processor),
        searching: false,
    }
}
