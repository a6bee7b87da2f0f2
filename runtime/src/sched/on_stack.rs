//! How a task gets a stack, begins on it, and ends: on the stack of one that ends the next may begin at once.

use super::inside::Inside;
use super::processor::Runner;
use super::worker::{Settle, Worker};
use crate::task::header::TaskRef;
use bast_stack::{Saved, StackError, switch, switch_final};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Start addresses of stacks differ by this many bytes a task, so that equal frames do not share cache sets.
const COLOUR_STEP: usize = 64;
/// Number of colours: 16 x 64 B = 1 KiB at most.
const COLOURS: u64 = 16;

impl Inside {
    /// Gives a fresh task a stack. False: there is none to be had now, and the task waits for one.
    pub(crate) fn bind_stack(&mut self, task: TaskRef) -> bool {
        let class = task.extra().and_then(|extra| extra.class);
        if class.is_none()
            && let Some(runner) = self.own().runner.take()
        {
            // SAFETY: validity: in the header. aliasing: the task is ours, so its saved registers are too (Rule 2 of
            // `task::header`).
            unsafe { *task.saved.get() = runner.saved };
            task.set_stack(runner.stack);
            return true;
        }
        let stacks = &self.runtime().stacks;
        let stack = match class {
            None => self.own().stacks.take(stacks),
            Some(class) => stacks.take(class),
        };
        match stack {
            Ok(stack) => {
                let colour = (task.id() % COLOURS) as usize * COLOUR_STEP;
                // SAFETY: validity: in the header. aliasing: the task is ours, so its saved registers are too (Rule 2
                // of `task::header`).
                let saved = unsafe { &mut *task.saved.get() };
                // SAFETY: the stack is ours and unused, and `task_entry` never returns.
                unsafe { saved.prepare(&stack, colour, task_entry) };
                task.set_stack(stack);
                true
            }
            Err(error) => {
                self.starve(task, &error);
                false
            }
        }
    }

    #[cold]
    fn starve(&mut self, task: TaskRef, error: &StackError) {
        self.shared().starve(task, error);
    }

    /// The running task is over. Runs the next on the same stack if that has none yet, and returns; else switches
    /// away for good.
    #[inline]
    pub(crate) fn finish(&mut self) {
        let task = self.task();
        self.trace_end(task);
        task.state.finish();
        let locked = self.worker().locked.get();
        let Some(processor) = self.processor_if_held() else {
            self.shared()
                .finished_foreign
                .fetch_add(1, crate::primitive::atomic::Relaxed);
            self.end_on(task, None)
        };
        processor.counters.finished.add(1);
        if locked {
            self.end_on(task, None)
        }
        let mut next = self.pick_unbound();
        if let Some(fresh) = next.filter(|next| next.is_fresh()) {
            if self.reuse_stack(task, fresh) {
                return;
            }
            if !self.bind_stack(fresh) {
                next = self.pick();
            }
        }
        let Some(from) = self.become_runner(task) else {
            self.end_on(task, next)
        };
        self.trace_start(next);
        let worker = self.worker();
        worker.current.set(next);
        let to = next.map_or(worker.home.get(), |next| next.saved.get());
        // SAFETY: as in `Inside::leave_to`; `from` lies in the processor's own data, which outlives the switch.
        let arrived = unsafe { switch(from, to, self.worker.as_ptr() as usize) };
        self.arrive_at(arrived); // a fresh task was given this stack
    }

    /// Makes the stack we stand on, whose task is over, the processor's runner: suspended in `task_entry`'s loop, it
    /// begins the next fresh task by being resumed, with nothing to prepare. Gives where to save it.
    #[inline]
    fn become_runner(&mut self, dead: TaskRef) -> Option<*mut Saved> {
        if self.own().runner.is_some() || self.shared().starved() > 0 {
            return None;
        }
        let class = self.shared().config.stack_class;
        let stack = dead.take_stack()?;
        if stack.class() != class {
            dead.set_stack(stack);
            return None;
        }
        let mut saved = Saved::empty();
        // SAFETY: validity: in the header. aliasing: the dead task runs here, so it is ours.
        let running = unsafe { &mut *dead.saved.get() };
        // SAFETY: `running` is the context we stand on, and its task is over.
        unsafe { saved.adopt(running) };
        self.release(dead);
        let runner = self.own().runner.insert(Runner { stack, saved });
        Some(&raw mut runner.saved)
    }

    /// Leaves the dead `task` for `next` or for home; the stack we stand on is recycled there.
    fn end_on(&mut self, task: TaskRef, next: Option<TaskRef>) -> ! {
        self.trace_start(next);
        let worker = self.worker();
        worker.settle.set(Settle::Dead(task));
        worker.current.set(next);
        let to = next.map_or(worker.home.get(), |next| next.saved.get());
        // SAFETY: as in `Inside::leave_to`; the dead task keeps its reference until `settle`, on the other stack.
        unsafe { switch_final(task.saved.get(), to, self.worker.as_ptr() as usize) }
    }

    /// Gives the stack of `dead`, on which we stand, to `fresh`.
    #[inline]
    fn reuse_stack(&mut self, dead: TaskRef, fresh: TaskRef) -> bool {
        let wanted = fresh
            .extra()
            .and_then(|extra| extra.class)
            .unwrap_or(self.shared().config.stack_class);
        let Some(stack) = dead.take_stack() else {
            return false;
        };
        if stack.class() != wanted {
            dead.set_stack(stack);
            return false;
        }
        fresh.set_stack(stack);
        // SAFETY: validity: in the header. aliasing: `fresh` was popped, so it is ours, and is not `dead`.
        let to = unsafe { &mut *fresh.saved.get() };
        // SAFETY: validity: in the header. aliasing: `dead` runs here, so it is ours.
        let from = unsafe { &mut *dead.saved.get() };
        // SAFETY: `from` is the context we stand on, and its task is over.
        unsafe { to.adopt(from) };
        self.processor().counters.stacks_reused.add(1);
        self.trace_start(Some(fresh));
        self.worker().current.set(Some(fresh));
        self.release(dead);
        true
    }
}

/// First function on every stack.
unsafe extern "C" fn task_entry(arrived: usize) -> ! {
    // SAFETY: validity: every switch passes the address of its own worker.
    let worker = unsafe { NonNull::new_unchecked(arrived as *mut Worker) };
    let mut inside = Inside {
        worker,
        not_send: PhantomData,
    };
    inside.settle();
    loop {
        inside = run_current(inside);
        inside.finish();
    }
}

/// Runs the current task's closure and hands over its result.
fn run_current(inside: Inside) -> Inside {
    let task = inside.task();
    inside.processor().counters.switches.add(1);
    drop(inside);
    let table = task.vtable();
    // SAFETY: the task is running for the first time, so the closure is in its storage, and ours (Rule 3).
    let waiter = unsafe { (table.run)(task) };
    // SAFETY: the join word gave the token to us.
    let waiter = waiter.filter(|&token| !unsafe { super::park::wake_future(token) });
    let mut inside = Inside::enter_to_finish();
    if let Some(token) = waiter {
        super::park::wake_token(token, Some(&mut inside));
    }
    inside
}
