//! What the trace knows of each task and each processor: the state that a reader has arrived at, and the number of the
//! last event that moved it.
//!
//! # Who may touch what
//! A record follows its task or processor: who owns that (`task::header`, Rule 2; `sched::processor`) writes the record,
//! under the lock of the sheet that the event goes to. The walkers of a trace's start and of a generation's end only
//! read, except that a record that is **unclaimed**, untouched since the trace began, is claimed by whoever comes
//! first, under the record's own lock bit.
//!
//! Records of tasks lie beside the slab's chunks, one table a chunk, made when the first event needs it and never freed,
//! as the chunks are not. So a task that nobody traces costs nothing.

use super::encode::Code;
use crate::primitive::atomic::{AcqRel, Acquire, AtomicBool, AtomicU32, AtomicU64, Relaxed, Release};
use crate::primitive::spin_loop;
use bast_stack::fetch;

/// States of tasks, by their numbers in the format. Zero: there is no such task.
pub(super) const NOBODY: u64 = 0;
pub(super) const RUNNABLE: u64 = 1;
pub(super) const RUNNING: u64 = 2;
pub(super) const SYSCALL: u64 = 3;
pub(super) const WAITING: u64 = 4;

/// States of processors.
pub(super) const PROC_RUNNING: u64 = 1;
pub(super) const PROC_IDLE: u64 = 2;

/// In a word: state in the low bits, lock, whether the task's name was said in this generation, number, generation.
const STATE: u64 = 7;
const LOCKED: u64 = 8;
const NAMED: u64 = 16;
const SEQUENCE_SHIFT: u32 = 5;
const SEQUENCE_BITS: u32 = 31;
const GENERATION_SHIFT: u32 = SEQUENCE_SHIFT + SEQUENCE_BITS;

/// A word without its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known(u64);

impl Known {
    /// Just told, in that generation.
    #[inline]
    pub(super) fn told(generation: u64, state: u64) -> Known {
        Known(generation << GENERATION_SHIFT | state)
    }

    /// The last generation in which the state was told.
    #[inline]
    pub(super) fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    #[inline]
    pub(super) fn state(self) -> u64 {
        self.0 & STATE
    }

    #[inline]
    pub(super) fn sequence(self) -> u64 {
        (self.0 >> SEQUENCE_SHIFT) & ((1 << SEQUENCE_BITS) - 1)
    }

    /// In another state, with the same number.
    #[inline]
    pub(super) fn now(self, state: u64) -> Known {
        Known(self.0 & !STATE | state)
    }

    /// Was the task's name said in this generation, or is there nothing to be said?
    #[inline]
    pub(super) fn is_named(self) -> bool {
        self.0 & NAMED != 0
    }

    /// Its name was said.
    #[inline]
    pub(super) fn named(self) -> Known {
        Known(self.0 | NAMED)
    }

    /// With the next number.
    #[inline]
    pub(super) fn counted(self) -> Known {
        Known(self.0 + (1 << SEQUENCE_SHIFT))
    }
}

/// Of a task.
#[derive(Debug)]
pub(crate) struct Record {
    word: AtomicU64,
    id: AtomicU64,
    /// The id as it stands in events; empty if it is too long for that.
    code: AtomicU64,
    /// The stack of its entry function alone, by its number in the tables.
    root: AtomicU32,
    /// Its name, by its number in the tables. 0: it was not said in this trace.
    label: AtomicU32,
}

impl Record {
    pub(crate) const fn new() -> Record {
        Record {
            word: AtomicU64::new(0),
            id: AtomicU64::new(0),
            code: AtomicU64::new(0),
            root: AtomicU32::new(0),
            label: AtomicU32::new(0),
        }
    }

    /// An event of the task comes soon: fetches the record, which was written on another CPU if the task was woken or
    /// stolen.
    #[inline]
    pub(crate) fn fetch(&self) {
        fetch(self);
    }

    pub(super) fn id(&self) -> u64 {
        self.id.load(Relaxed)
    }

    #[inline]
    pub(super) fn code(&self) -> Code {
        Code::from_word(self.code.load(Relaxed))
    }

    pub(super) fn root(&self) -> u32 {
        self.root.load(Relaxed)
    }

    /// What is known; waits for one who claims it.
    #[inline]
    pub(super) fn known(&self) -> Known {
        loop {
            let word = self.word.load(Acquire); // pairs with `set` by an earlier owner or the claimant
            if word & LOCKED == 0 {
                return Known(word);
            }
            spin_loop();
        }
    }

    /// By the owner, or the claimant, who unlocks it by this.
    #[inline]
    pub(super) fn set(&self, known: Known) {
        self.word.store(known.0, Release);
    }

    /// Takes a record untouched since generation `base` began; [`Record::set`] must follow. False: it was touched.
    pub(super) fn claim(&self, base: u64) -> bool {
        loop {
            let word = self.word.load(Acquire);
            if word & LOCKED != 0 {
                spin_loop();
            } else if Known(word).generation() >= base {
                return false;
            } else if self
                .word
                .compare_exchange(word, word | LOCKED, AcqRel, Relaxed)
                .is_ok()
            {
                return true;
            }
        }
    }

    /// Gives a claimed record back untouched: there is no such task after all.
    pub(crate) fn unclaim(&self) {
        self.word.fetch_and(!LOCKED, AcqRel);
    }

    /// Whose record it is from now on. By the claimant or the creator.
    pub(super) fn name(&self, id: u64, root: u32) {
        self.id.store(id, Relaxed);
        self.code.store(Code::of(id).unwrap_or_default().word(), Relaxed);
        self.root.store(root, Relaxed);
        self.label.store(0, Relaxed);
    }

    /// The number of its name, for who has to say it again without knowing it. Relaxed, as all but the word: the task's
    /// hand-over orders its owners, and the lock of the thread's pen the closer, who writes for a thread that runs it.
    pub(super) fn label(&self) -> u32 {
        self.label.load(Relaxed)
    }

    /// By who says it.
    pub(super) fn set_label(&self, label: u32) {
        self.label.store(label, Relaxed);
    }

    /// Copies it, for a walker: None while it changes hands or is claimed.
    pub(super) fn look(&self) -> Option<(u64, u32, Known)> {
        let word = self.word.load(Acquire);
        if word & LOCKED != 0 {
            return None;
        }
        let (id, root) = (self.id.load(Acquire), self.root.load(Acquire));
        // A new tenant's word differs from the old one's: it is of this generation or a later one.
        (self.word.load(Relaxed) == word).then_some((id, root, Known(word)))
    }
}

/// Of a processor. Numbers are dense in the process, whichever runtime a processor belongs to; that of a runtime that
/// has ended goes to the next one.
#[derive(Debug)]
pub(crate) struct ProcRecord {
    pub(super) number: u64,
    pub(super) used: AtomicBool,
    word: AtomicU64,
}

impl ProcRecord {
    pub(super) fn new(number: u64) -> ProcRecord {
        ProcRecord {
            number,
            used: AtomicBool::new(true),
            word: AtomicU64::new(0),
        }
    }

    /// Its number in the trace. Async-signal-safe.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "nothing is sampled elsewhere")
    )]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn known(&self) -> Known {
        Known(self.word.load(Acquire)) // pairs with `set` by the last holder
    }

    pub(super) fn set(&self, known: Known) {
        self.word.store(known.0, Release);
    }

    /// Its runtime has ended.
    pub(crate) fn give_up(&self) {
        self.used.store(false, Release); // pairs with the exchange in `registry`
    }
}
