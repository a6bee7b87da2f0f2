//! Which workers to hold (`preempt`): those that compute without a processor where that is not wanted.
//!
//! In a runtime that is not strict nobody is looked at before the limit of workers is reached.

use super::pace::Sight;
use super::retake::is_wanted;
use crate::blocking::handoff::YIELD;
use crate::preempt::hold::{ASKED, FREE, HELD};
use crate::preempt::signal;
use crate::primitive::atomic::{Acquire, AtomicBool, AtomicU64, Relaxed};
use crate::sched::processor::Processor;
use crate::sched::shared::Shared;
use crate::sched::worker::Worker;
use crate::sys::thread;
use std::ptr::NonNull;
use std::sync::Arc;

/// Two looks at a CPU clock are at least so far apart.
const LOOK_NANOS_MIN: u64 = 15_000;
/// A thread that has used less of the time between two looks than one in so many is not computing.
const COMPUTES_SHARE: u64 = 8;
/// After so long without an answer the signal is sent again: it may have come while the worker was inside.
const RESEND_NANOS: u64 = 1_000_000;

/// What the monitor has seen of a worker without a processor, and who lends it one notes when.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Its CPU time at the last look, and when that was; 0: no look yet.
    cpu: AtomicU64,
    looked: AtomicU64,
    /// Since when it has been asked, held, or on a lease.
    pub(crate) since: AtomicU64,
    /// On the list of those who are held.
    pub(crate) listed: AtomicBool,
}

/// What a worker without a processor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Compute,
    Wait,
    /// It cannot be told before the next look.
    Unknown,
}

fn does(elapsed: u64, before: u64, cpu: Option<u64>) -> Does {
    match cpu {
        Some(cpu) if elapsed >= LOOK_NANOS_MIN => {
            if cpu.saturating_sub(before) >= elapsed / COMPUTES_SHARE {
                Does::Compute
            } else {
                Does::Wait
            }
        }
        Some(_) => Does::Unknown,
        None => Does::Wait,
    }
}

impl Notes {
    fn look(&self, worker: &Worker, now: u64) -> Does {
        let cpu = thread::cpu_time(worker.cpu_clock);
        let looked = self.looked.load(Relaxed);
        let elapsed = if looked == 0 {
            0
        } else {
            now.saturating_sub(looked)
        };
        if looked != 0 && elapsed < LOOK_NANOS_MIN {
            return Does::Unknown; // the last look stays
        }
        self.looked.store(now, Relaxed);
        does(elapsed, self.cpu.swap(cpu.unwrap_or(0), Relaxed), cpu)
    }
}

/// Has the worker of a task that computes stop, its processor having been taken, if that is due. True: it was asked.
pub(super) fn hold(shared: &Shared, worker: &Worker, now: u64) -> bool {
    let asked = is_due(shared) && worker.hold.ask();
    if asked {
        worker.notes.since.store(now, Relaxed);
        shared.holds.fetch_add(1, Relaxed);
        signal::send(worker.tid, shared.config.preempt_signal);
    }
    asked
}

/// Are workers to be held?
fn is_due(shared: &Shared) -> bool {
    if shared.closing.load(Acquire) {
        return false;
    }
    if shared.config.strict_parallelism {
        return true; // its handler was installed at the start
    }
    let waits = shared.has_any_work() || shared.idle.counts().1 == 0;
    if !waits || !shared.is_at_limit() || !cfg!(target_os = "linux") {
        return false;
    }
    signal::install(shared.config.preempt_signal)
        .inspect_err(|error| shared.monitor.complain_once(error))
        .is_ok()
}

/// Looks at all workers that have no processor, if that is needed at all.
///
/// `workers` is empty, before and after: it keeps its memory, because an allocation might wait for a task that is held.
pub(super) fn look(shared: &Shared, workers: &mut Vec<Arc<Worker>>, now: u64, sight: &mut Sight) {
    if shared.closing.load(Acquire) {
        return shared.release_held();
    }
    // Who was held once may be on a lease now.
    if !shared.config.strict_parallelism && shared.holds.load(Relaxed) == 0 && !shared.is_at_limit() {
        return;
    }
    let mut lists_changed = false;
    workers.extend(shared.workers.lock().iter().cloned());
    for worker in workers.drain(..) {
        let worker = &worker;
        if worker.marking.tenure().is_none() && !worker.marking.is_inside() {
            lists_changed |= look_at(shared, worker, now, sight);
        } else {
            worker.notes.looked.store(0, Relaxed);
        }
    }
    if lists_changed {
        shared.wake_one();
    }
    if shared.has_held() {
        (sight.still, sight.all_idle) = (false, false);
        hurry(shared, now);
    }
}

/// One worker that is outside and has no processor. True: it is on the list of those who are held now.
fn look_at(shared: &Shared, worker: &Arc<Worker>, now: u64, sight: &mut Sight) -> bool {
    let notes = &worker.notes;
    let since = notes.since.load(Relaxed);
    let state = worker.hold.state();
    if state != HELD && notes.listed.swap(false, Relaxed) {
        shared.unlist_held(worker); // it has left by itself
    }
    match state {
        FREE => {
            let does = notes.look(worker, now);
            if worker.hold.lease() != 0 {
                (sight.still, sight.all_idle) = (false, false);
                end_lease(shared, worker, does, now, sight);
            } else if is_due(shared) {
                (sight.still, sight.all_idle) = (false, false);
                // To know what it does, or to see it held.
                sight.suspect |=
                    does == Does::Unknown || (does == Does::Compute && hold(shared, worker, now));
            }
            false
        }
        ASKED => {
            (sight.still, sight.all_idle) = (false, false);
            if now.saturating_sub(since) >= RESEND_NANOS {
                notes.since.store(now, Relaxed);
                signal::send(worker.tid, shared.config.preempt_signal);
            }
            false
        }
        HELD if !notes.listed.swap(true, Relaxed) => {
            notes.since.store(now, Relaxed);
            notes.looked.store(0, Relaxed);
            shared.list_held(worker);
            true
        }
        _ => false,
    }
}

/// Takes a lease back that is over, or that a blocked worker does not need, if somebody wants the processor.
fn end_lease(shared: &Shared, worker: &Worker, does: Does, now: u64, sight: &mut Sight) {
    let slice = shared.config.slice.as_nanos() as u64;
    let left = (worker.notes.since.load(Relaxed) + slice).saturating_sub(now);
    let Some(lent) = NonNull::new(worker.hold.lease() as *mut Processor) else {
        return;
    };
    // SAFETY: validity: processors live as long as the runtime. aliasing: shared borrow.
    let wanted = shared.has_held() || is_wanted(shared, unsafe { lent.as_ref() }, now);
    sight.due_in = sight.due_in.min(left);
    if !wanted || shared.idle.counts().1 > 0 {
        return;
    }
    if does == Does::Unknown {
        sight.suspect = true;
        return;
    }
    if left > 0 && does == Does::Compute {
        return;
    }
    let Some(lent) = NonNull::new(worker.hold.take_lease() as *mut Processor) else {
        return; // it has just called into bast
    };
    if does == Does::Compute {
        hold(shared, worker, now);
    }
    sight.acted = true;
    shared.give_processor(lent);
}

/// The first who is held has rested for two slices: somebody whose task runs on is asked to come home and lend.
fn hurry(shared: &Shared, now: u64) {
    let slice = shared.config.slice.as_nanos() as u64;
    let overdue = shared
        .first_held_since()
        .is_some_and(|since| now.saturating_sub(since) >= 2 * slice);
    if overdue && shared.idle.counts().1 == 0 {
        let workers = shared.workers.lock();
        if let Some(holder) = workers.iter().find(|worker| worker.marking.tenure().is_some()) {
            holder.marking.ask(YIELD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Does, does};

    #[test]
    fn who_uses_the_cpu_computes() {
        assert_eq!(does(20_000, 500, Some(20_000)), Does::Compute);
        assert_eq!(
            does(1_000_000, 500, Some(500_500)),
            Does::Compute,
            "half the time"
        );
        assert_eq!(does(1_000_000, 500, Some(10_500)), Does::Wait);
        assert_eq!(does(20_000, 500, None), Does::Wait, "never without a clock");
        assert_eq!(does(0, 0, Some(500)), Does::Unknown);
    }
}
