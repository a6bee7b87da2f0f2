//! `Inside`: proof that the calling thread is a worker inside the runtime, holding a processor. All that touches
//! processor-local data is a method of it.
//!
//! An `Inside` never lives while user code runs: user code may be told that its processor is gone. It follows the
//! task: after a switch it names the worker that runs the task now.

use super::processor::{Own, Processor};
use super::shared::Shared;
use super::worker::{Settle, Worker};
use crate::blocking::handoff::{CLOSE, Settled, YIELD};
use crate::chaos::{self, Point};
use crate::current;
use crate::task::header::{Header, TaskRef};
use crate::task::slab;
use crate::task::state::CommitPark;
use bast_stack::switch;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Every so many rounds a worker looks at the global queue and the poller first.
pub(crate) const GLOBAL_EVERY: u32 = 61;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(super) worker: NonNull<Worker>,
    pub(super) not_send: PhantomData<*mut ()>,
}

impl Inside {
    /// Enters the runtime from user code. None: this thread is no worker. May yield, if that is asked for.
    #[inline]
    pub(crate) fn enter() -> Option<Inside> {
        let inside = Inside {
            worker: current::worker()?,
            not_send: PhantomData,
        };
        debug_assert!(!inside.worker().marking.is_inside(), "entered the runtime twice");
        // Handed over and back, not lent: lent it would lie in memory on the way that asks for nothing too.
        if inside.worker().marking.enter() {
            return Some(inside.enter_slowly());
        }
        if chaos::flip(Point::Enter) && !inside.at_home_stack() {
            let mut inside = inside;
            inside.yield_now();
            return Some(inside);
        }
        Some(inside)
    }

    /// As [`Inside::enter`], but gives up rather than yield: for short business that can be done otherwise.
    #[inline]
    pub(crate) fn try_enter() -> Option<Inside> {
        let inside = Inside {
            worker: current::worker()?,
            not_send: PhantomData,
        };
        if inside.worker().marking.enter() && !inside.answer_watch() {
            return None; // dropping `inside` leaves again
        }
        Some(inside)
    }

    /// Enters at a task's end: never yields, and goes without a processor if none is to be had at once, so that a task
    /// that has handed over its result always comes to its end.
    #[inline]
    pub(super) fn enter_to_finish() -> Inside {
        let worker = current::worker().expect("bast: a task runs on a worker");
        let mut inside = Inside {
            worker,
            not_send: PhantomData,
        };
        if inside.worker().marking.enter() {
            let settled = inside.worker().marking.settle_request();
            let (Settled::Held(asked) | Settled::Lost(asked)) = settled;
            inside.tell_monitor(asked);
            if matches!(settled, Settled::Lost(_)) {
                inside.worker().processor.set(None);
                if !inside.take_lease() {
                    inside.take_idle_processor();
                }
            }
        }
        inside
    }

    /// On the home stack of `worker`, whose thread this is.
    pub(crate) fn at_home(worker: &Worker) -> Inside {
        Inside {
            worker: NonNull::from(worker),
            not_send: PhantomData,
        }
    }

    /// The end of a worker: its `Inside` is not an exit to user code.
    pub(crate) fn leave_home(self) {
        std::mem::forget(self);
    }

    pub(super) fn at_home_stack(&self) -> bool {
        self.worker().current.get().is_none()
    }

    #[inline]
    pub(crate) fn worker(&self) -> &Worker {
        // SAFETY: validity: workers live as long as their thread, which is this one. aliasing: shared borrow; cells
        // are this thread's. The borrow ends before a switch, after which `self.worker` is set anew.
        unsafe { self.worker.as_ref() }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.worker().shared
    }

    /// As [`Inside::shared`], for use beside `&mut self`. The lifetime is the caller's to keep within the time in which
    /// its thread is a worker, which no function of this crate outlives.
    #[inline]
    pub(crate) fn runtime<'a>(&self) -> &'a Shared {
        let shared = std::ptr::from_ref(self.shared());
        // SAFETY: validity: the worker's thread holds an Arc until it ends. aliasing: shared borrow of a Sync type.
        unsafe { &*shared }
    }

    /// The processor in hand, if any (a worker without one must regain it first).
    #[inline]
    pub(crate) fn processor_if_held(&self) -> Option<&Processor> {
        // SAFETY: validity: processors live as long as the runtime. aliasing: shared borrow.
        self.worker()
            .processor
            .get()
            .map(|processor| unsafe { processor.as_ref() })
    }

    /// The processor in hand.
    #[inline]
    pub(crate) fn processor(&self) -> &Processor {
        self.processor_if_held()
            .expect("bast: a worker inside the runtime holds a processor")
    }

    /// The processor's own data.
    #[inline]
    pub(crate) fn own(&mut self) -> &mut Own {
        // SAFETY: we hold the processor and are inside; `&mut self` is the exclusive borrow of its data.
        unsafe { self.processor().own() }
    }

    /// The task that runs here. Never called on a home stack.
    #[inline]
    pub(crate) fn task(&self) -> TaskRef {
        self.worker()
            .current
            .get()
            .expect("bast: a task runs on this stack")
    }

    /// Takes a processor into hand.
    pub(crate) fn hold(&mut self, processor: NonNull<Processor>) {
        let worker = self.worker();
        worker.processor.set(Some(processor));
        worker.last_processor.set(Some(processor));
        worker
            .holds
            .store(processor.as_ptr(), crate::primitive::atomic::Release);
        worker.marking.regained();
        self.trace_hold();
    }

    /// Lets go of the processor in hand, to give it to somebody.
    pub(crate) fn let_go(&mut self) -> NonNull<Processor> {
        self.trace_let_go();
        let worker = self.worker();
        let processor = worker.processor.take().expect("bast: a processor is in hand");
        worker
            .holds
            .store(std::ptr::null_mut(), crate::primitive::atomic::Release);
        worker.marking.given_up();
        processor
    }

    /// Makes `task`, which is the caller's, runnable here, to run soon.
    #[inline]
    pub(crate) fn ready(&mut self, task: TaskRef) {
        chaos::point(Point::Ready);
        let processor = self.processor();
        processor.counters.unparks.add(1);
        if !task.is_ordinary() {
            return self.set_apart(task);
        }
        // SAFETY: we hold the processor.
        let displaced = unsafe { processor.queue.replace_next(task.0) };
        // The next slot alone wakes nobody: most often the waker parks at once and this worker runs the task with a
        // warm cache. A waker that goes on computing is found by the monitor.
        if let Some(displaced) = displaced {
            self.push_back(TaskRef(displaced));
            self.shared().wake_one();
        }
    }

    /// Makes `task`, which is the caller's, runnable here, behind others.
    #[inline(always)]
    pub(crate) fn push_back(&mut self, task: TaskRef) {
        if task.is_ordinary() {
            self.push_ring(task);
        } else {
            self.set_apart(task);
        }
    }

    /// Appends `task`, which is the caller's, to the local queue; half of a full one goes to the global queue.
    #[inline(always)]
    pub(super) fn push_ring(&mut self, task: TaskRef) {
        let (shared, processor) = (self.shared(), self.processor());
        let overflow = |tasks: &[NonNull<Header>]| {
            processor.counters.overflows.add(1);
            shared.push_global(tasks);
        };
        // SAFETY: we hold the processor.
        unsafe { processor.queue.push_back(task.0, overflow) };
    }

    /// Leaves the running task as `settle` says; returns when it runs again.
    #[inline]
    pub(crate) fn leave(&mut self, settle: Settle) {
        let next = if self.worker().processor.get().is_some() {
            self.pick()
        } else {
            None
        };
        self.leave_to(settle, next);
    }

    #[inline]
    pub(super) fn leave_to(&mut self, settle: Settle, next: Option<TaskRef>) {
        #[cfg(debug_assertions)]
        self.check_thread_locals(settle);
        self.trace_leave(settle, next);
        let worker = self.worker();
        let task = self.task();
        worker.settle.set(settle);
        worker.current.set(next);
        let to = next.map_or(worker.home.get(), |next| next.saved.get());
        // SAFETY: validity: `task` is the running task, so its saved registers are ours to write; `to` was prepared
        // or saved by an earlier switch, and its task was popped from a queue, so it is ours alone. aliasing: raw
        // pointers, no borrow is alive across the switch.
        let arrived = unsafe { switch(task.saved.get(), to, self.worker.as_ptr() as usize) };
        self.arrive_at(arrived);
    }

    /// Just after a switch: whoever switched here tells which worker this is now.
    #[inline]
    pub(super) fn arrive_at(&mut self, arrived: usize) {
        // SAFETY: validity: every switch passes the address of its own worker. aliasing: as in `worker`.
        self.worker = unsafe { NonNull::new_unchecked(arrived as *mut Worker) };
        self.settle();
    }

    /// Does what the stack that was left behind asked for.
    #[inline]
    pub(crate) fn settle(&mut self) {
        match self.worker().settle.replace(Settle::None) {
            Settle::None => {}
            Settle::Park(task) => {
                chaos::point(Point::Commit);
                if task.state.commit_park() == CommitPark::Notified {
                    super::traced::unblocked_before(task);
                    self.requeue(task);
                }
            }
            Settle::Yield(task) | Settle::Preempted(task) => self.requeue(task),
            Settle::Global(task) => self.shared().inject(task),
            Settle::Dead(task) => {
                if let Some(stack) = task.take_stack() {
                    self.put_stack(stack);
                }
                self.release(task);
            }
        }
    }

    /// Puts a task that was left runnable behind the others, and lets an idle processor know.
    #[inline(always)]
    fn requeue(&mut self, task: TaskRef) {
        self.push_back(task);
        // A look without a fence: this worker goes on with the queue in any case, and looks again at its next yield.
        if self.shared().idle.counts().1 > 0 {
            self.shared().wake_one();
        }
    }

    #[inline]
    fn put_stack(&mut self, stack: bast_stack::Stack) {
        let shared = self.runtime();
        if stack.class() == shared.config.stack_class && self.processor_if_held().is_some() {
            self.own().stacks.put(&shared.stacks, stack);
        } else {
            shared.stacks.put(stack);
        }
        shared.feed_starved();
    }

    /// Drops one reference to `task`.
    #[inline]
    pub(crate) fn release(&mut self, task: TaskRef) {
        if task.release() {
            task.drop_extra();
            if self.processor_if_held().is_some() {
                self.give_header(task);
            } else {
                slab::give_foreign(task);
            }
        }
    }

    /// Gives a free entry of this runtime back.
    #[inline]
    pub(crate) fn give_header(&mut self, task: TaskRef) {
        let pool = &self.runtime().slab;
        self.own().headers.give(task, pool);
    }

    /// Lets others run; returns at once if nobody wants to. False: the task must not leave its thread, and yielding is
    /// only a courtesy.
    pub(crate) fn yield_now(&mut self) -> bool {
        self.yield_as(Settle::Yield)
    }

    /// As [`Inside::yield_now`], for the reason that `settle` tells.
    #[inline(always)]
    pub(super) fn yield_as(&mut self, settle: impl FnOnce(TaskRef) -> Settle) -> bool {
        if std::thread::panicking() {
            return false;
        }
        let task = self.task();
        let extra = task.extra();
        if extra.is_some_and(|extra| extra.no_park.get().is_some()) {
            return false;
        }
        self.worker().marking.answered(YIELD);
        if extra.is_some() && self.worker().locked.get() {
            self.yield_locked(); // who is locked has an extra
            return true;
        }
        let next = self.pick();
        if next.is_some() || self.has_business_at_home() {
            self.processor().counters.yields.add(1);
            self.leave_to(settle(task), next);
        }
        true
    }

    /// Has the worker been told that the runtime closes?
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.worker().marking.requested() & CLOSE != 0
    }

    /// After a pick that found nothing: is there more to do at home than to come back? Always inlined: `yield_as` is
    /// there twice, and a call out of it costs a yield that finds nobody 10 instructions of 176.
    #[inline(always)]
    fn has_business_at_home(&self) -> bool {
        let worker = self.worker();
        worker.bound_next.get().is_some()
            || self.is_closing()
            || !self.processor().queue.is_empty()
            || self.shared().has_shared()
            || self.shared().has_held()
            || self.processor().timers.next_due() != crate::time::clock::NEVER
            || self.shared().reactor.has_sources()
    }
}

impl Drop for Inside {
    /// Back to user code.
    #[inline]
    fn drop(&mut self) {
        self.worker().marking.exit();
    }
}
