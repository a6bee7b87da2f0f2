//! Which processors to take from workers whose task has been in user code for too long: a pure decision, and its
//! execution.
//!
//! A worker blocked in the kernel is told from one that computes by its thread's CPU clock: a clock that stands still
//! for a whole look means blocked, and the processor goes at once; one that runs is given its slice. Nothing is taken
//! when nobody wants it: not while a processor idles (its worker can steal), nor while nothing waits.

use crate::blocking::handoff::Tenure;
use crate::primitive::atomic::{AcqRel, Acquire, Relaxed};
use crate::sched::processor::Processor;
use crate::sched::shared::Shared;
use crate::sched::traced;
use crate::sched::worker::Worker;
use crate::sys::{membarrier, thread};
use std::ptr::NonNull;
use std::sync::Arc;

/// A thread that has used less CPU time than this since the last look was blocked, or nearly all of the time.
const BLOCKED_CPU_NANOS_MAX: u64 = 50_000;

/// What was seen of one processor at the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) tick: u32,
    /// Since when the tick has stood.
    pub(super) since: u64,
    /// When the processor was looked at last.
    pub(super) looked: u64,
    /// CPU time of the thread that held it then.
    pub(super) cpu: u64,
}

/// What to do about a processor whose tick stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Leave,
    /// Blocked, or past its slice: take the processor, or have the worker yield if it is inside the runtime.
    Take,
}

/// The decision. `cpu` is the holder's CPU time now; None if it cannot be told.
pub(super) fn decide(seen: Seen, now: u64, cpu: Option<u64>, slice_nanos: u64, wanted: bool) -> Verdict {
    let past_slice = now.saturating_sub(seen.since) >= slice_nanos;
    // A look that came right after the last one says nothing of blocking.
    let long_look = now.saturating_sub(seen.looked) >= 4 * BLOCKED_CPU_NANOS_MAX;
    let blocked = long_look && cpu.is_some_and(|cpu| cpu.saturating_sub(seen.cpu) < BLOCKED_CPU_NANOS_MAX);
    if wanted && (past_slice || blocked) {
        Verdict::Take
    } else {
        Verdict::Leave
    }
}

/// The worker that holds `processor`, if one does, and the tenure in which it was seen to.
fn holder(shared: &Shared, processor: &Processor) -> Option<(Arc<Worker>, Tenure)> {
    let workers = shared.workers.lock();
    workers.iter().find_map(|worker| {
        let tenure = worker.marking.tenure()?; // before `holds`: see `Marking::tenure`
        std::ptr::eq(worker.holds.load(Acquire), processor).then(|| (Arc::clone(worker), tenure))
    })
}

/// Looks at a processor whose tick stands and takes it if need be. True: it is held by a worker.
pub(super) fn look(shared: &Shared, processor: &Processor, seen: &mut Seen, now: u64) -> bool {
    let Some((worker, tenure)) = holder(shared, processor) else {
        return false;
    };
    let cpu = thread::cpu_time(worker.cpu_clock);
    let wanted = shared.idle.counts().1 == 0 && is_wanted(shared, processor, now);
    let verdict = decide(*seen, now, cpu, shared.config.slice.as_nanos() as u64, wanted);
    seen.looked = now;
    seen.cpu = cpu.unwrap_or(0);
    if verdict == Verdict::Take && worker.marking.try_detach(tenure, membarrier::heavy) {
        let pointer = NonNull::from(processor);
        // Before the processor is published: a worker that comes back and holds another has written that over it.
        let _ = worker
            .holds
            .compare_exchange(pointer.as_ptr(), std::ptr::null_mut(), AcqRel, Relaxed);
        traced::taken(&worker, processor); // after it is off the worker, before it is another's
        shared.detached.fetch_add(1, Relaxed);
        shared.give_processor(pointer);
    }
    true
}

/// Does anything wait that this processor could run?
fn is_wanted(shared: &Shared, processor: &Processor, now: u64) -> bool {
    shared.has_shared()
        || !processor.queue.is_empty()
        || processor.timers.next_due() <= now
        || (shared.reactor.has_sources() && !shared.reactor.poller().is_waiting())
}

#[cfg(test)]
mod tests {
    use super::{Seen, Verdict, decide};

    const MS: u64 = 1_000_000;

    #[test]
    fn a_blocked_holder_loses_at_once_and_a_burning_one_after_its_slice() {
        let seen = Seen {
            tick: 1,
            since: 100 * MS,
            looked: 101 * MS,
            cpu: 5 * MS,
        };
        let decide = |now, cpu, wanted| decide(seen, now, cpu, 10 * MS, wanted);
        assert_eq!(decide(102 * MS, Some(5 * MS), true), Verdict::Take, "blocked");
        assert_eq!(decide(102 * MS, Some(6 * MS), true), Verdict::Leave, "burning");
        assert_eq!(
            decide(110 * MS, Some(13 * MS), true),
            Verdict::Take,
            "past its slice"
        );
        assert_eq!(
            decide(110 * MS, Some(5 * MS), false),
            Verdict::Leave,
            "nobody wants it"
        );
        assert_eq!(
            decide(101 * MS + 1000, Some(5 * MS), true),
            Verdict::Leave,
            "too short a look"
        );
        assert_eq!(
            decide(102 * MS, None, true),
            Verdict::Leave,
            "no clock, not past its slice"
        );
    }
}
