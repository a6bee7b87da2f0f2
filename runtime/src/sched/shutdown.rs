//! The ordered stop of a runtime.
//!
//! 1. `closing` is set under the scheduler's lock: no task is spawned from here on.
//! 2. Every worker is asked to leave its task at the next entry; sleeping workers are woken.
//! 3. Wait for the workers, and join their threads. A task in user code is waited for, up to the grace period; a worker that sleeps with a
//!    panicking task on its stack is not. Who is later gives up what it ran, and has made runnable, as it leaves.
//! 4. The monitor ends.
//! 5. Tasks that never ran are dropped, with their closures; their joiners get an error.
//! 6. Tasks that ran and have not ended are **leaked**, stack and all: locals on it may be borrowed by others or
//!    pinned, and unwinding them from outside would run their destructors in an order nobody wrote. Their joiners get
//!    an error, and a report names them.
//! 7. The slab's chunks go back to the process; the rest is freed with the last reference, unless tasks leaked.

use super::shared::{Shared, pop_idle_worker, wake_sleeper};
use crate::blocking::handoff::CLOSE;
use crate::primitive::atomic::{Acquire, Release, SeqCst};
use crate::task::header::TaskRef;
use crate::task::spawn::give_up;
use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

/// Tasks named one by one in the report.
const NAMED_MAX: usize = 8;

/// Stops the runtime; see the module. Called once.
pub(crate) fn shut_down(shared: &Arc<Shared>) {
    let mut lists = shared.lists.lock();
    shared.closing.store(true, SeqCst); // 1
    let sleeping: Vec<_> = std::iter::from_fn(|| pop_idle_worker(&mut lists)).collect();
    drop(lists);
    for worker in shared.workers.lock().iter() {
        worker.marking.ask(CLOSE); // 2
    }
    shared.monitor.note_closing(); // lets go who is held, and holds nobody from here on
    for (worker, in_poller) in sleeping {
        wake_sleeper(shared, worker, in_poller);
    }
    // As it stands: a worker that is found before it has lain down makes it wrap for a moment.
    let gone = || shared.workers_count() == shared.workers_bound_asleep.load(Acquire);
    let all_gone = shared.changed.wait(shared.config.shutdown_grace, gone); // 3
    shared.monitor.stop(); // 4
    if !all_gone {
        eprintln!(
            "bast: {} of the runtime's workers are still busy {:?} after its end and are left alone: a task \
             blocks or computes without calling bast (Builder::shutdown_grace sets how long to wait)",
            shared.workers_count(),
            shared.config.shutdown_grace
        );
        std::mem::forget(Arc::clone(shared));
        shared.abandoned.store(true, Release);
        return give_up_beside_busy_workers(shared);
    }
    if shared.workers_count() == 0 {
        // Their threads are on their way out: with them go the last borrows of descriptors and memory.
        let threads = std::mem::take(&mut *shared.threads.lock());
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
    let Sorted {
        fresh,
        leaked,
        in_hand,
    } = sort_out(shared);
    for &task in &fresh {
        // SAFETY: it was on a queue, and nobody is left to run it. It has no stack, so it never ran.
        unsafe { give_up(task, false) }; // 5
    }
    if !leaked.is_empty() {
        report(&leaked);
    }
    if in_hand || !leaked.is_empty() {
        // Arenas, processors and timers that leaked stacks point to; the queue that a waker is about to use.
        std::mem::forget(Arc::clone(shared));
    }
    for &task in &leaked {
        // SAFETY: nobody is left to run it. It has a stack, so it ran.
        unsafe { give_up(task, true) }; // 6
    }
    for processor in &shared.processors {
        // SAFETY: all workers are gone, so every processor is ours.
        let own = unsafe { processor.own() };
        own.headers.clear(&shared.slab);
        if let Some(runner) = own.runner.take() {
            shared.stacks.put(runner.stack); // its frames hold nothing
        }
        own.stacks.drain(&shared.stacks);
    }
    shared.slab.retire(); // 7
}

/// A worker leaves, and has let go of everything. If its runtime's end is over, who waits for the tasks that it had is told
/// now: it has left its processor under the lock that [`shut_down`] takes after it has set `abandoned`, so one of the two
/// sees what the other did.
pub(crate) fn worker_leaves(shared: &Shared) {
    if shared.abandoned.load(Acquire) {
        give_up_beside_busy_workers(shared);
    }
}

/// Steps 5 and 6 as far as they go while workers may still be in user code: for all tasks but those that they run. What one of
/// them makes runnable later is given up as it leaves.
fn give_up_beside_busy_workers(shared: &Shared) {
    let mut tasks = shared.take_queued();
    tasks.extend(shared.take_left_behind());
    shared.slab.for_each(|task| {
        if task.state.try_hold() {
            tasks.push(task); // ours, as if we had unparked it
        }
    });
    for task in tasks {
        // SAFETY: it was on a queue or parked and is ours now; nobody else will run it.
        unsafe { give_up(task, !task.is_fresh()) };
    }
}

/// What is left of the tasks at the end.
struct Sorted {
    /// Never ran.
    fresh: Vec<TaskRef>,
    /// Ran, and have not ended.
    leaked: Vec<TaskRef>,
    /// There is one that never ran and that a waker has taken, who comes to queue it.
    in_hand: bool,
}

/// All workers are gone.
fn sort_out(shared: &Shared) -> Sorted {
    let mut queued: HashSet<usize> = shared.take_queued().into_iter().map(TaskRef::token).collect();
    for processor in &shared.processors {
        // SAFETY: all workers are gone, so every processor is ours.
        while let Some(task) = unsafe { processor.queue.pop() } {
            queued.insert(TaskRef(task).token());
        }
    }
    let (mut fresh, mut leaked, mut in_hand) = (Vec::new(), Vec::new(), false);
    shared.slab.for_each(|task| {
        if !task.is_fresh() {
            leaked.push(task);
        } else if queued.contains(&task.token()) || task.state.try_hold() {
            fresh.push(task); // queued, or parked before it has begun
        } else {
            in_hand = true;
        }
    });
    Sorted {
        fresh,
        leaked,
        in_hand,
    }
}

fn report(leaked: &[TaskRef]) {
    let plural = if leaked.len() == 1 {
        "task has"
    } else {
        "tasks have"
    };
    let mut text = format!(
        "bast: {} {plural} outlived the runtime and will never run again; the stacks are leaked, destructors on them \
         do not run. Join tasks, or tell them to end, before `run` returns.\n",
        leaked.len()
    );
    for task in leaked.iter().take(NAMED_MAX) {
        let name = task
            .extra()
            .and_then(|extra| extra.name.as_deref())
            .map(|name| format!(" \"{name}\""));
        let _ = write!(
            text,
            "bast:   task {}{} spawned at {}",
            task.id(),
            name.unwrap_or_default(),
            task.spawned_at.get()
        );
        let _ = match task.site() {
            Some(site) => writeln!(text, ", last waited in {} at {}", site.reason().text(), site.at()),
            None => writeln!(text, ", never waited"),
        };
    }
    if leaked.len() > NAMED_MAX {
        let _ = writeln!(text, "bast:   and {} more", leaked.len() - NAMED_MAX);
    }
    eprint!("{text}");
}
