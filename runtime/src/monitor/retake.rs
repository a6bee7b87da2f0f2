//! Which processors to take from workers whose task has been in user code for too long: a pure decision, and its
//! execution.
//!
//! A worker blocked in the kernel is told from one that computes by its thread's CPU clock: one that stands still from one
//! look to the next, 20 us apart when it matters, means blocked, and the processor goes at once; one that runs is given its
//! slice. The clock stands also for a thread that only waits for a CPU, on a machine with more to do than it has CPUs; so
//! the kernel is asked once more, for the thread's state, before a processor is taken for that reason. Nor is time without
//! a CPU counted towards the slice: another thread in its place would wait just the same, and the two compete when both
//! have work.
//! Nothing is taken when nobody wants it: not while a processor idles (its worker can steal), nor while nothing waits.

use super::hogs;
use super::overrun;
use super::pace::Sight;
use crate::blocking::handoff::Tenure;
use crate::primitive::atomic::{AcqRel, Acquire, Relaxed};
use crate::sched::processor::Processor;
use crate::sched::shared::Shared;
use crate::sched::traced;
use crate::sched::worker::Worker;
use crate::sys::{membarrier, thread};
use std::ptr::NonNull;
use std::sync::Arc;

/// Two looks at a CPU clock are at least so far apart, if they are to say that it stands.
const LOOK_NANOS_MIN: u64 = 15_000;
/// A thread that has used less of the time between two looks than one in so many is not computing.
const COMPUTES_SHARE: u64 = 8;
/// Who still waits for a CPU after so many slices loses its processor all the same: the kernel may never give it one.
const STARVED_SLICES: u64 = 10;

/// What was seen of one processor at the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) tick: u32,
    /// Since when the tick has stood.
    pub(super) since: u64,
    /// When the holder's CPU clock was read last.
    pub(super) looked: u64,
    /// CPU time of the thread that held it then; None: not read since the tick moved.
    pub(super) cpu: Option<u64>,
    /// The first such reading since the tick moved, and when that was.
    pub(super) first: Option<(u64, u64)>,
    /// This overrun has been counted.
    pub(super) counted: bool,
}

/// What to do about a processor whose tick stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Leave,
    /// The same; but a second look must come soon, to tell whether the holder is blocked.
    Suspect,
    /// Take the processor from a holder that is blocked.
    Blocked,
    /// Past its slice: take the processor, or have the worker yield if it is inside the runtime.
    PastSlice,
}

/// What the decision is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) now: u64,
    /// The holder's CPU time now; None if it cannot be told.
    pub(super) cpu: Option<u64>,
    pub(super) slice_nanos: u64,
    /// Others wait for the processor.
    pub(super) wanted: bool,
}

/// The decision. `has_cpu`: does the kernel say that the thread runs or waits for a CPU? None if it cannot be told.
pub(super) fn decide(seen: Seen, facts: Facts, has_cpu: impl FnOnce() -> Option<bool>) -> Verdict {
    if !facts.wanted {
        return Verdict::Leave;
    }
    let standing = facts.now.saturating_sub(seen.since);
    if standing >= facts.slice_nanos {
        let short = ran(seen, facts).is_some_and(|ran| ran < facts.slice_nanos);
        let starved =
            short && standing < facts.slice_nanos.saturating_mul(STARVED_SLICES) && has_cpu() == Some(true);
        return if starved {
            Verdict::Leave
        } else {
            Verdict::PastSlice
        };
    }
    let Some(cpu) = facts.cpu else {
        return Verdict::Leave; // only the slice counts then
    };
    let elapsed = facts.now.saturating_sub(seen.looked);
    let Some(before) = seen.cpu.filter(|_| elapsed >= LOOK_NANOS_MIN) else {
        return if has_cpu() == Some(true) {
            Verdict::Leave
        } else {
            Verdict::Suspect
        };
    };
    if cpu.saturating_sub(before) >= elapsed / COMPUTES_SHARE || has_cpu() == Some(true) {
        Verdict::Leave
    } else {
        Verdict::Blocked
    }
}

/// How much of the time since the tick moved the holder has had a CPU, at most: before the first look at its clock all of it.
fn ran(seen: Seen, facts: Facts) -> Option<u64> {
    let (looked, before) = seen.first?;
    Some(looked.saturating_sub(seen.since) + facts.cpu?.saturating_sub(before))
}

/// The worker that holds `processor`, if one does, and the tenure in which it was seen to.
fn holder(shared: &Shared, processor: &Processor) -> Option<(Arc<Worker>, Tenure)> {
    let workers = shared.workers.lock();
    workers.iter().find_map(|worker| {
        let tenure = worker.marking.tenure()?; // before `holds`: see `Marking::tenure`
        std::ptr::eq(worker.holds.load(Acquire), processor).then(|| (Arc::clone(worker), tenure))
    })
}

/// Looks at a processor on which a round has begun since the last look. `closely`: its holder's clock is read, so that the
/// next look can tell whether it stands.
pub(super) fn look_at_mover(
    shared: &Shared,
    processor: &Processor,
    seen: &mut Seen,
    now: u64,
    closely: bool,
) {
    let cpu = if closely {
        holder(shared, processor).and_then(|(worker, _)| thread::cpu_time(worker.cpu_clock))
    } else {
        None
    };
    *seen = Seen {
        tick: seen.tick,
        since: now,
        looked: now,
        cpu,
        first: cpu.map(|cpu| (now, cpu)),
        counted: false,
    };
}

/// Looks at a processor whose tick stands and takes it if need be. True: it is held by a worker.
pub(super) fn look(
    shared: &Shared,
    processor: &Processor,
    seen: &mut Seen,
    now: u64,
    sight: &mut Sight,
) -> bool {
    let Some((worker, tenure)) = holder(shared, processor) else {
        return false;
    };
    let facts = Facts {
        now,
        cpu: thread::cpu_time(worker.cpu_clock),
        slice_nanos: shared.config.slice.as_nanos() as u64,
        wanted: shared.idle.counts().1 == 0 && is_wanted(shared, processor, now),
    };
    seen.first = seen.first.or(facts.cpu.map(|cpu| (now, cpu)));
    let elapsed = now.saturating_sub(seen.looked);
    let used = facts
        .cpu
        .zip(seen.cpu)
        .map(|(cpu, before)| cpu.saturating_sub(before));
    let computes = elapsed > 0 && used.is_some_and(|used| used >= elapsed / COMPUTES_SHARE);
    let verdict = decide(*seen, facts, || thread::has_cpu(worker.tid));
    (seen.looked, seen.cpu) = (now, facts.cpu);
    if facts.wanted {
        sight.still = false;
        let ran = ran(*seen, facts).unwrap_or(now.saturating_sub(seen.since));
        sight.due_in = sight.due_in.min(facts.slice_nanos.saturating_sub(ran));
    } else if let Some(due_in) = processor.timers.next_due().checked_sub(now) {
        // Then somebody wants it. Where rounds begin the holder looks after its timers itself, and those of idle
        // processors have who waits in the poller.
        sight.due_in = sight.due_in.min(due_in);
    }
    match verdict {
        Verdict::Leave => {}
        Verdict::Suspect => sight.suspect = true,
        Verdict::Blocked | Verdict::PastSlice => {
            let blocked = verdict == Verdict::Blocked;
            let over = overrun::of(&worker, blocked, now.saturating_sub(seen.since));
            let taken = take(shared, processor, &worker, tenure, |worker| {
                if !blocked && computes {
                    let _ = hogs::hold(shared, worker, now);
                }
            });
            if taken {
                sight.acted = true;
                sight.late |= blocked;
            } else if blocked && shared.has_held() {
                // Blocked inside the runtime: on `malloc`'s lock, perhaps, which somebody has who is held.
                shared.release_held();
            }
            if !std::mem::replace(&mut seen.counted, true) {
                shared.overruns.note(over, taken);
            }
        }
    }
    true
}

/// Takes the processor from its holder, unless that is inside the runtime: then it is asked to yield.
/// `before`: what to do before others run on it.
fn take(
    shared: &Shared,
    processor: &Processor,
    worker: &Worker,
    tenure: Tenure,
    before: impl FnOnce(&Worker),
) -> bool {
    if !worker.marking.try_detach(tenure, membarrier::heavy) {
        return false;
    }
    let pointer = NonNull::from(processor);
    // Before the processor is published: a worker that comes back and holds another has written that over it.
    let _ = worker
        .holds
        .compare_exchange(pointer.as_ptr(), std::ptr::null_mut(), AcqRel, Relaxed);
    traced::taken(worker, processor); // after it is off the worker, before it is another's
    shared.detached.fetch_add(1, Relaxed);
    before(worker);
    shared.give_processor(pointer);
    true
}

/// Does anything wait that this processor could run?
pub(super) fn is_wanted(shared: &Shared, processor: &Processor, now: u64) -> bool {
    shared.has_shared()
        || shared.has_held()
        || !processor.queue.is_empty()
        || processor.timers.next_due() <= now
        || (shared.reactor.has_sources() && !shared.reactor.poller().is_waiting())
}

#[cfg(test)]
mod tests {
    use super::{Facts, Seen, Verdict, decide};

    const MS: u64 = 1_000_000;
    const US: u64 = 1_000;

    const SEEN: Seen = Seen {
        tick: 1,
        since: 100 * MS,
        looked: 101 * MS,
        cpu: Some(5 * MS),
        first: Some((101 * MS, 5 * MS)),
        counted: false,
    };

    fn at(now: u64, cpu: Option<u64>) -> Facts {
        Facts {
            now,
            cpu,
            slice_nanos: 10 * MS,
            wanted: true,
        }
    }

    #[test]
    fn a_blocked_holder_loses_at_once_and_a_burning_one_after_its_slice() {
        let decide = |facts| decide(SEEN, facts, || Some(false));
        let soon = 101 * MS + 20 * US;
        assert_eq!(decide(at(soon, Some(5 * MS))), Verdict::Blocked);
        assert_eq!(
            decide(at(soon, Some(5 * MS + 2 * US))),
            Verdict::Blocked,
            "nearly all of it"
        );
        assert_eq!(
            decide(at(soon, Some(5 * MS + 15 * US))),
            Verdict::Leave,
            "computes"
        );
        assert_eq!(decide(at(110 * MS, Some(14 * MS))), Verdict::PastSlice);
        assert_eq!(
            decide(at(101 * MS + US, Some(5 * MS))),
            Verdict::Suspect,
            "too short a look"
        );
        assert_eq!(
            decide(at(102 * MS, None)),
            Verdict::Leave,
            "no clock, not past its slice"
        );
        assert_eq!(decide(at(110 * MS, None)), Verdict::PastSlice, "no clock");
        let unwanted = Facts {
            wanted: false,
            ..at(120 * MS, Some(5 * MS))
        };
        assert_eq!(decide(unwanted), Verdict::Leave, "nobody wants it");
    }

    #[test]
    fn the_first_look_at_a_clock_says_nothing() {
        let fresh = Seen { cpu: None, ..SEEN };
        assert_eq!(
            decide(fresh, at(102 * MS, Some(5 * MS)), || None),
            Verdict::Suspect
        );
    }

    #[test]
    fn who_waits_for_a_cpu_is_not_blocked() {
        let facts = at(102 * MS, Some(5 * MS));
        assert_eq!(decide(SEEN, facts, || Some(true)), Verdict::Leave);
        assert_eq!(
            decide(SEEN, facts, || None),
            Verdict::Blocked,
            "the clock alone must do"
        );
        let first = Seen { cpu: None, ..SEEN };
        assert_eq!(
            decide(first, facts, || Some(true)),
            Verdict::Leave,
            "seen at the first look"
        );
    }

    #[test]
    fn who_waits_for_a_cpu_has_not_had_its_slice() {
        let late = at(115 * MS, Some(5 * MS + 8 * MS)); // and one before the first look
        assert_eq!(decide(SEEN, late, || Some(true)), Verdict::Leave);
        assert_eq!(
            decide(SEEN, late, || Some(false)),
            Verdict::PastSlice,
            "it is blocked"
        );
        assert_eq!(
            decide(SEEN, late, || None),
            Verdict::PastSlice,
            "it cannot be told"
        );
        let ran = at(115 * MS, Some(5 * MS + 9 * MS));
        assert_eq!(decide(SEEN, ran, || Some(true)), Verdict::PastSlice, "had it");
        let unseen = Seen { first: None, ..SEEN };
        assert_eq!(
            decide(unseen, late, || Some(true)),
            Verdict::PastSlice,
            "no first look"
        );
        let much_later = at(200 * MS, Some(5 * MS));
        assert_eq!(
            decide(SEEN, much_later, || Some(true)),
            Verdict::PastSlice,
            "starves for good"
        );
    }
}
