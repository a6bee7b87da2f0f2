//! The worker at home: where it looks for a task, in which order, and how it goes to sleep.

use super::inside::{GLOBAL_EVERY, Inside};
use super::local_queue;
use super::worker::Settle;
use crate::chaos::{self, Point};
use crate::primitive::atomic::{AcqRel, Acquire, Relaxed};
use crate::primitive::{spin_loop, yield_now};
use crate::task::header::TaskRef;
use crate::task::state::Unpark;
use crate::time::clock::{self, NEVER};
use crate::time::heap;
use bast_stack::switch;
use std::ptr::NonNull;

/// Rounds over all victims before a searcher gives up.
const STEAL_ROUNDS: u32 = 4;
/// Most tasks moved from the global to a local queue at once.
const GLOBAL_BATCH: usize = 128;

impl Inside {
    /// The worker's loop. Returns when the runtime closes.
    pub(crate) fn run_tasks(&mut self) {
        while let Some(task) = self.find() {
            self.trace_start(Some(task));
            let worker = self.worker();
            worker.current.set(Some(task));
            // SAFETY: validity: `home` is ours; the task was popped from a queue, so its saved registers are whole
            // and ours alone. aliasing: raw pointers, no borrow is alive across the switch.
            unsafe {
                switch(
                    worker.home.get(),
                    task.saved.get(),
                    std::ptr::from_ref(worker) as usize,
                )
            };
            // A home stack is only ever resumed on its own thread.
            self.settle();
            if self.worker().locked.get() {
                return self.retire();
            }
        }
    }

    /// The task that was locked to this thread is over, and so is the thread.
    #[cold]
    fn retire(&mut self) {
        if self.worker().processor.get().is_some() {
            let processor = self.let_go();
            self.shared().give_processor(processor);
        }
    }

    /// The next task to run, bound to a stack. None: the runtime closes.
    fn find(&mut self) -> Option<TaskRef> {
        loop {
            if self.shared().closing.load(Acquire) {
                self.close();
                return None;
            }
            if self.worker().processor.get().is_none() {
                self.sleep_until_work();
                continue;
            }
            if let Some(task) = self.worker().bound_next.take() {
                self.give_to_bound(task);
                continue;
            }
            let Some(task) = self.look() else {
                self.sleep_until_work();
                continue;
            };
            self.stop_searching();
            if task.bound_to().is_some() {
                self.give_to_bound(task);
            } else if !task.is_fresh() || self.bind_stack(task) {
                return Some(task);
            }
        }
    }

    /// One look at every source, one line a source. A poll that will find nothing is left out: the worker then goes on
    /// to wait in the poller, which tells at once if something is ready after all.
    fn look(&mut self) -> Option<TaskRef> {
        let shared = self.runtime();
        if shared.has_held() && self.lend(false) {
            return None;
        }
        // The round was drawn by whoever came home because of it; the next one begins here. If that is the turn it is taken
        // with this look: passed over, a rhythm of tasks could do so time and again.
        let processor = self.processor();
        let mut turn = processor.tick().is_multiple_of(GLOBAL_EVERY);
        if processor.next_tick().is_multiple_of(GLOBAL_EVERY) {
            turn = true;
            processor.next_tick(); // taken once
        }
        self.fire_timers();
        if turn {
            self.poll_now();
            self.raise_low();
            if let Some(task) = self.shared().take_global(self.processor(), 1) {
                return Some(task);
            }
        }
        let found = self.look_in_order();
        if found.is_none() && shared.has_held() {
            self.lend(true);
        }
        found
    }

    /// As [`Inside::look`], between the turns, for tasks that are not set apart by their priority.
    pub(super) fn look_for_normal(&mut self) -> Option<TaskRef> {
        if let Some(task) = self.pop_local() {
            return Some(task);
        }
        if let Some(task) = self.shared().take_global(self.processor(), GLOBAL_BATCH) {
            return Some(task);
        }
        if self.worker().poll_pays.get()
            && self.poll_now() > 0
            && let Some(task) = self.pop_local()
        {
            return Some(task);
        }
        self.steal()
    }

    /// Makes the tasks whose timers are due runnable here.
    fn fire_timers(&mut self) -> bool {
        if self.processor().timers.next_due() == NEVER {
            return false;
        }
        let index = self.processor().index;
        self.fire_timers_of(index)
    }

    /// One batch, and more as long as the ring has room, the rest when these have run: what overflows goes behind all that is
    /// in the global queue, and a task that has a stack is better ended than one more begun.
    fn fire_timers_of(&mut self, index: usize) -> bool {
        let now = clock::now();
        let mut any = false;
        loop {
            let timers = &self.runtime().processors[index].timers;
            let mut fired = 0;
            let more = timers.expire(now, |task| {
                fired += 1;
                if task.state.unpark() == Unpark::Enqueue {
                    super::traced::unblocked(task);
                    self.push_back(task);
                }
            });
            self.processor().counters.timers_fired.add(fired);
            any |= fired > 0;
            if !more || self.processor().queue.len() + heap::BATCH > local_queue::CAPACITY {
                break;
            }
        }
        if any && self.processor().queue.len() > 1 {
            self.shared().wake_one();
        }
        any
    }

    /// Polls without waiting; ready tasks go to the local queue.
    fn poll_now(&mut self) -> usize {
        if !self.shared().reactor.has_sources() {
            return 0;
        }
        let mut ready = self.worker().ready.take().expect("put back below");
        let mut woken = self.worker().woken.take();
        let shared = self.runtime();
        shared.reactor.poll_now(shared, &mut ready, &mut woken);
        let count = woken.len();
        woken.drain(..).for_each(|task| self.push_back(task));
        self.worker().ready.set(Some(ready));
        self.worker().woken.set(woken);
        self.worker().poll_pays.set(count > 0);
        self.worker().give_way.note_woken(count);
        let counters = &self.processor().counters;
        counters.polls.add(1);
        counters.polled.add(count as u64);
        if count > 1 {
            self.shared().wake_one();
        }
        count
    }

    /// Takes half of somebody else's queue, or his due timers.
    fn steal(&mut self) -> Option<TaskRef> {
        let total = self.shared().processors.len();
        if total == 1 {
            return None;
        }
        if !self.worker().searching.get() {
            if !self.shared().idle.try_begin_search(total) {
                return None;
            }
            self.worker().searching.set(true);
        }
        let mine = self.processor().index;
        let shared = self.runtime();
        // With tasks of low priority at hand one look at the others is enough.
        let rounds = if shared.has_low() { 1 } else { STEAL_ROUNDS };
        self.processor().counters.searches.add(1);
        for round in 0..rounds {
            let last = round + 1 == rounds;
            let start = self.own().rng.below(total as u32) as usize;
            for victim in (0..total)
                .map(|step| (start + step) % total)
                .filter(|&victim| victim != mine)
            {
                if shared.closing.load(Relaxed) || shared.has_global() || shared.has_high() {
                    return shared.take_global(self.processor(), GLOBAL_BATCH);
                }
                let theirs = &self.shared().processors[victim];
                if last && theirs.timers.next_due() != NEVER && theirs.timers.next_due() <= clock::now() {
                    self.fire_timers_of(victim);
                    if let Some(task) = self.pop_local() {
                        return Some(task);
                    }
                }
                let theirs = &self.shared().processors[victim];
                self.processor().counters.steal_attempts.add(1);
                // SAFETY: we hold our processor; the victim's queue may be stolen from by anybody.
                let stolen = unsafe { self.processor().queue.steal_from(&theirs.queue, false) };
                if let Some(task) = stolen {
                    self.processor().counters.steals.add(1);
                    return Some(TaskRef(task));
                }
            }
            spin_loop();
        }
        None
    }

    /// Found something: the last searcher wakes a successor if there is more to do.
    pub(super) fn stop_searching(&mut self) {
        let shared = self.shared();
        if self.worker().searching.replace(false)
            && shared.idle.end_search_found()
            && shared.wants_successor()
        {
            shared.wake_one();
        }
    }

    /// Gives our processor to the worker that alone may run `task`.
    fn give_to_bound(&mut self, task: TaskRef) {
        self.stop_searching();
        let owner = task.bound_to().expect("bast: the task is bound to a worker");
        let processor = self.let_go();
        // SAFETY: validity: the worker sleeps with the task on its stack, so its thread is alive. aliasing: shared.
        let owner = unsafe { owner.as_ref() };
        // Here, and not by the owner when it wakes: shutdown would take it for asleep until then.
        self.shared().workers_bound_asleep.fetch_sub(1, AcqRel);
        owner.hand(processor, false);
        owner.wake();
    }

    /// Leaves the processor idle, sleeps, and comes back with one (or because the runtime closes).
    fn sleep_until_work(&mut self) {
        let shared = self.runtime();
        let mut lists = shared.lists.lock();
        if shared.closing.load(Acquire) {
            return;
        }
        if self.worker().processor.get().is_some() {
            if shared.has_shared() {
                return; // came while we looked elsewhere
            }
            self.processor().counters.sleeps.add(1);
            let processor = self.let_go();
            shared.push_idle_processor(&mut lists, processor); // S1
        }
        // While every processor is held their holders poll: one more would only take events from under them, a few at a
        // time, and could run nothing. Whoever lets go of a processor sees to it that somebody waits: see `idle_poller`.
        let idle = lists.processors.len();
        let poll = lists.poller.try_take(idle);
        self.worker().in_poller.store(poll, Relaxed);
        lists.workers.push(NonNull::from(self.worker()));
        drop(lists);
        chaos::point(Point::Sleep);
        if self.worker().searching.replace(false) {
            shared.idle.end_search_empty(); // S2, S3
        } else {
            shared.idle.end_unsearched(); // S3
        }
        if shared.has_any_work() && self.reclaim() {
            return; // S4, also without a processor: one may have come to idle since we looked for one
        }
        if poll {
            self.wait_in_poller();
        } else {
            shared.reactor.check_wait_until(shared.first_timer());
            self.worker().sleep();
            self.take_handed();
        }
    }

    /// S4 saw work: takes a processor again and searches on. False: somebody else has them all, or has woken us.
    fn reclaim(&mut self) -> bool {
        let shared = self.runtime();
        let me = NonNull::from(self.worker());
        let mut lists = shared.lists.lock();
        let Some(place) = lists.workers.iter().position(|&worker| worker == me) else {
            return false;
        };
        let Some(processor) = shared.pop_idle_processor(&mut lists, self.worker().last_processor.get())
        else {
            return false;
        };
        lists.workers.swap_remove(place);
        if self.worker().in_poller.swap(false, AcqRel) {
            lists.poller.leave();
        }
        drop(lists);
        shared.monitor.note_busy();
        self.hold(processor);
        shared.idle.begin_search();
        self.worker().searching.set(true);
        true
    }

    /// Takes the processor that a waker handed over, if one did.
    fn take_handed(&mut self) -> bool {
        let Some((processor, searching)) = self.worker().take_handed() else {
            return false;
        };
        self.hold(processor);
        self.worker().searching.set(searching);
        true
    }

    /// Waits for readiness, the first timer, or a waker, on behalf of all.
    fn wait_in_poller(&mut self) {
        let shared = self.runtime();
        let mut ready = self.worker().ready.take().expect("put back below");
        let mut woken = self.worker().woken.take();
        self.worker().give_way.before_wait(clock::now, yield_now);
        let first = shared.reactor.wait(shared, &mut ready, &mut woken);
        self.worker().ready.set(Some(ready));
        let due = first != NEVER && shared.first_timer() <= clock::now();
        let got = self.back_from_poller(shared, due || !woken.is_empty());
        let count = woken.len();
        self.worker().give_way.note_woken(count);
        // Several at once: the sockets are busy, and more will be ready when these tasks have run.
        self.worker().poll_pays.set(count > 1);
        if got {
            let counters = &self.processor().counters;
            counters.polls.add(1);
            counters.polled.add(count as u64);
            woken.drain(..).for_each(|task| self.push_back(task));
            if count > 1 {
                shared.wake_one();
            }
        } else {
            shared.inject_all(&mut woken);
        }
        self.worker().woken.set(woken);
    }

    /// Gives up the place in the poller; takes the handed processor, or an idle one if there is work for it.
    fn back_from_poller(&mut self, shared: &super::shared::Shared, has_work: bool) -> bool {
        let me = NonNull::from(self.worker());
        let mut lists = shared.lists.lock();
        lists.poller.leave();
        self.worker().in_poller.store(false, Relaxed);
        match lists.workers.iter().position(|&worker| worker == me) {
            Some(place) => lists.workers.swap_remove(place),
            None => {
                // Somebody took us off the list, under this lock, with a processor for us.
                drop(lists);
                return self.take_handed();
            }
        };
        if !has_work {
            return false;
        }
        let Some(processor) = shared.pop_idle_processor(&mut lists, self.worker().last_processor.get())
        else {
            return false;
        };
        drop(lists);
        shared.monitor.note_busy();
        self.hold(processor);
        true
    }

    /// Sleeps on the stack of a task that may run on this worker only, until somebody who found it hands over a
    /// processor.
    pub(crate) fn sleep_bound(&mut self) {
        self.shared().workers_bound_asleep.fetch_add(1, AcqRel);
        self.shared().changed.notify();
        // There is room for one more thread now: as after S1 of `idle`.
        self.shared().idle.end_unsearched(); // S3
        if self.shared().has_any_work() {
            self.shared().wake_one(); // S4
        }
        loop {
            self.worker().sleep();
            if self.take_handed() {
                return; // and who handed it has counted us awake
            }
        }
    }

    /// Takes an idle processor, the one held last if it can be.
    pub(crate) fn take_idle_processor(&mut self) -> bool {
        let shared = self.shared();
        let wanted = self.worker().last_processor.get();
        let taken = shared.pop_idle_processor(&mut shared.lists.lock(), wanted);
        let Some(processor) = taken else { return false };
        shared.monitor.note_busy();
        self.hold(processor);
        true
    }

    /// Takes an idle processor, or puts the task on the global queue and comes back with one.
    #[cold]
    pub(crate) fn regain(&mut self) {
        let shared = self.runtime();
        if !shared.closing.load(Acquire) && self.take_idle_processor() {
            return;
        }
        let task = self.task();
        if std::thread::panicking() || task.is_tied() {
            self.trace_leave(Settle::Global(task), None);
            self.while_bound(task, |inside| {
                shared.inject(task);
                inside.sleep_bound();
            });
        } else {
            self.leave(Settle::Global(task));
        }
    }

    /// Ties `task` to this worker for the time of `body`, in which the worker sleeps on the task's stack.
    pub(crate) fn while_bound(&mut self, task: TaskRef, body: impl FnOnce(&mut Inside)) {
        let before = task.bound_to();
        let worker = NonNull::from(self.worker());
        task.bind_to(Some(worker));
        body(self);
        task.bind_to(before);
    }

    /// The runtime closes: the worker lets go of everything, for `shutdown` to find.
    fn close(&mut self) {
        if self.worker().searching.replace(false) {
            self.shared().idle.end_search_empty();
        }
        if let Some(task) = self.worker().bound_next.take() {
            self.push_back(task);
        }
        if self.worker().processor.get().is_some() {
            let processor = self.let_go();
            self.shared()
                .push_idle_processor(&mut self.shared().lists.lock(), processor);
        }
    }
}
