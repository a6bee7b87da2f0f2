//! The task header: one 128-byte slab entry, with room for a small closure and later for its result.
//!
//! # Who may touch which field
//! 1. `state`, `refs`, `join`, `id`, `site`, `spawned_at`: atomics, anybody who holds a reference or a type-stable pointer.
//! 2. `saved`, `stack`, `link`, `deadline`, the making of `extra`: the **holder**: the run queue or worker that has the task while
//!    it is `SCHEDULED`, and whoever wins `PARKED -> SCHEDULED` (see `state`).
//! 3. `storage`: the closure until the first run (the holder's), then the result: the task's until
//!    `join.complete`, then the join handle's (see `join_word`).
//!    In `extra`: the cells are the running task's.
//! 4. `vtable`, and in `extra` the name, class and context: written at spawn, read-only while a reference is held.
//!
//! Headers are type-stable for the life of the process (see `slab`): a stale pointer to a finished task may be
//! unparked, which does nothing to a free entry and is a spurious wake-up for a new tenant.

use super::Priority;
use super::bound::{Bound, LIVE};
use super::join_word::JoinWord;
use super::place::Place;
use super::site::{Reason, Site};
use super::slab;
use super::state::State;
use crate::context::Context;
use crate::error::JoinError;
use crate::primitive::atomic::{Acquire, AtomicPtr, AtomicU32, AtomicU64, Relaxed, Release};
use crate::sched::worker::Worker;
use crate::task_local::Locals;
use crate::time::clock::{self, NEVER};
use bast_stack::{Saved, Stack, StackClass};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;

/// Bytes a closure or a result may have to live in the header itself.
pub(crate) const STORAGE_BYTES: usize = 40;

/// In `id`: where the priority is; below it, the number.
const PRIORITY_SHIFT: u32 = 62;

/// In `site`: the scavenger has seen this park.
const SEEN_PARKED: u64 = 1 << 62;
/// In `site`: the scavenger has seen to this park.
const SHRUNK: u64 = 1 << 63;

/// A task's slab entry.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) state: State,
    /// The task itself counts one until it is done; handles count one each.
    refs: AtomicU32,
    /// Where the task stands while it does not run.
    pub(crate) saved: UnsafeCell<Saved>,
    /// The bound stack as a raw word; zero before the first run and after the end.
    stack: Cell<usize>,
    vtable: Cell<&'static VTable>,
    /// Next in a queue or free list.
    pub(crate) link: Cell<Option<TaskRef>>,
    pub(crate) join: JoinWord,
    /// The number, and above it the priority, zero for an ordinary one. Zero for an entry that has never been used.
    id: AtomicU64,
    pub(crate) spawned_at: Place,
    /// What few tasks have; null for most.
    extra: AtomicPtr<Extra>,
    /// No call of this task waits beyond this time (`time::timeout`).
    pub(crate) deadline: Cell<u64>,
    /// Why and where the task waits: reason and two marks in the top byte, address of a `Location` below. A park
    /// writes the whole word, which clears the marks.
    site: AtomicU64,
    pub(crate) storage: UnsafeCell<MaybeUninit<[u64; STORAGE_BYTES / 8]>>,
}

/// What a spawn may ask for beyond the ordinary.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) class: Option<StackClass>,
    /// What it runs in from the beginning. The holder's, taken at the first run.
    pub(crate) context: RefCell<Option<Context>>,
    /// The worker that alone may run the task: it parked while panicking, or is locked to its thread. Null for none.
    pub(crate) bound_to: AtomicPtr<Worker>,
    /// Task-local values. The running task's alone; before its first run the spawner's.
    pub(crate) locals: Locals,
    /// The innermost context that was entered. The running task's alone.
    pub(crate) bound: Cell<Option<NonNull<Bound>>>,
    /// Where it has said that it must not park. The running task's alone.
    pub(crate) no_park: Cell<Option<&'static Location<'static>>>,
    /// How often it was locked to its OS thread and not unlocked. The running task's alone.
    pub(crate) locks: Cell<u32>,
}

/// What the header must know of the erased closure.
#[derive(Debug)]
pub(crate) struct VTable {
    /// Moves the closure out, calls it, stores the result, completes the join word and drops the `Ending`. Gives who
    /// waits for the result. Never unwinds.
    pub(crate) run: unsafe fn(TaskRef) -> Option<usize>,
    /// Drops the closure that never ran, and ends with the error as `run` with its result.
    pub(crate) abandon: unsafe fn(TaskRef, JoinError) -> Option<usize>,
    /// Stores the error for a task that ran and will never end.
    pub(crate) fail: unsafe fn(TaskRef, JoinError),
    /// Drops the result.
    pub(crate) drop_result: unsafe fn(TaskRef),
    /// The type of the closure.
    pub(crate) entry: fn() -> &'static str,
}

/// Pointer to a header: `Copy`, one word, no count of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskRef(pub(crate) NonNull<Header>);

// SAFETY: a pointer to an atomic-and-rules structure; the rules above say who may touch what from where.
unsafe impl Send for TaskRef {}
// SAFETY: as for Send.
unsafe impl Sync for TaskRef {}

impl std::ops::Deref for TaskRef {
    type Target = Header;
    #[inline]
    fn deref(&self) -> &Header {
        // SAFETY: validity: headers are type-stable and never unmapped. aliasing: shared borrow; every field that
        // changes is an atomic or a cell whose holder is given by the rules above.
        unsafe { self.0.as_ref() }
    }
}

impl TaskRef {
    /// For tests of structures that store tasks and never look into them.
    #[cfg(test)]
    pub(crate) fn dangling() -> TaskRef {
        TaskRef(NonNull::dangling())
    }

    /// As a token for the poller or a join word.
    #[inline]
    pub(crate) fn token(self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Is it a task of this runtime?
    #[inline]
    pub(crate) fn belongs_to(self, runtime: &crate::sched::shared::Shared) -> bool {
        self.runtime()
            .is_some_and(|own| std::ptr::eq(own.as_ptr(), runtime))
    }

    /// The inverse of [`TaskRef::token`].
    ///
    /// # Safety
    /// `token` came from `token()`.
    #[inline]
    pub(crate) unsafe fn from_token(token: usize) -> TaskRef {
        // SAFETY: validity: not null, by the caller's promise. aliasing: no access here.
        TaskRef(unsafe { NonNull::new_unchecked(token as *mut Header) })
    }

    /// One more reference.
    #[inline]
    pub(crate) fn retain(self) {
        // Relaxed: the caller holds one already, so the entry cannot be freed meanwhile.
        let before = self.refs.fetch_add(1, Relaxed);
        if before == u32::MAX {
            std::process::abort(); // as Arc does: leaked handles must not wrap the count
        }
    }

    /// One reference less; true: it was the last, and the caller must give the entry back to the slab.
    #[inline]
    #[must_use]
    pub(crate) fn release(self) -> bool {
        // The only reference is ours, and a new one is only ever made from one that exists. Acquire: everybody
        // else's use happens before our reuse.
        if self.refs.load(Acquire) == 1 {
            return true;
        }
        // Release: our use of the entry happens before its reuse; Acquire on the last: so does everybody else's.
        if self.refs.fetch_sub(1, Release) != 1 {
            return false;
        }
        self.refs.load(Acquire);
        true
    }
}

impl Header {
    /// A free entry of a new slab chunk.
    pub(crate) fn free() -> Header {
        Header {
            state: State::free(),
            refs: AtomicU32::new(0),
            saved: UnsafeCell::new(Saved::empty()),
            stack: Cell::new(0),
            vtable: Cell::new(&NO_TASK),
            link: Cell::new(None),
            join: JoinWord::new(),
            id: AtomicU64::new(0),
            spawned_at: Place::new(Location::caller()),
            extra: AtomicPtr::new(std::ptr::null_mut()),
            deadline: Cell::new(NEVER),
            site: AtomicU64::new(0),
            storage: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Makes a free entry a task: two references, one for the task and one for its handle.
    #[inline]
    pub(crate) fn init(
        &self,
        id: u64,
        priority: Priority,
        vtable: &'static VTable,
        spawned_at: &'static Location<'static>,
        extra: Option<Box<Extra>>,
    ) {
        self.refs.store(2, Relaxed);
        self.vtable.set(vtable);
        self.link.set(None);
        self.join.reset();
        self.spawned_at.set(spawned_at);
        self.extra
            .store(extra.map_or(std::ptr::null_mut(), Box::into_raw), Relaxed);
        self.deadline.set(NEVER);
        self.site.store(0, Relaxed);
        debug_assert!(id >> PRIORITY_SHIFT == 0, "2^62 tasks are never spawned");
        let id = id | (priority_bits(priority) << PRIORITY_SHIFT);
        self.id.store(id, Release); // a dump that sees the id sees the fields of Rule 4
        self.state.init();
    }

    #[inline]
    pub(crate) fn vtable(&self) -> &'static VTable {
        self.vtable.get()
    }

    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.id.load(Acquire) & ((1 << PRIORITY_SHIFT) - 1)
    }

    /// Is it an ordinary task, of no special priority? By the holder.
    #[inline]
    pub(crate) fn is_ordinary(&self) -> bool {
        self.id.load(Relaxed) >> PRIORITY_SHIFT == 0
    }

    /// The task's priority.
    pub(crate) fn priority(&self) -> Priority {
        match self.id.load(Relaxed) >> PRIORITY_SHIFT {
            0 => Priority::Normal,
            1 => Priority::High,
            _ => Priority::Low,
        }
    }

    /// True until the first run.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        self.stack.get() == 0
    }

    /// Binds a stack. By the holder.
    #[inline]
    pub(crate) fn set_stack(&self, stack: Stack) {
        debug_assert!(self.is_fresh(), "a task is bound to one stack");
        self.stack.set(stack.into_raw().get());
    }

    /// Takes the stack off the task. By the holder, at the end.
    #[inline]
    pub(crate) fn take_stack(&self) -> Option<Stack> {
        // SAFETY: validity: the word came from `into_raw` in `set_stack`. aliasing: taken out, so owned once.
        NonZeroUsize::new(self.stack.replace(0)).map(|raw| unsafe { Stack::from_raw(raw) })
    }

    /// The stack's raw word, for a look that does not own it; racy unless by the holder.
    pub(crate) fn stack_word(&self) -> Option<NonZeroUsize> {
        NonZeroUsize::new(self.stack.get())
    }

    /// What few tasks have. By whoever holds a reference.
    #[inline]
    pub(crate) fn extra(&self) -> Option<&Extra> {
        // Acquire: pairs with the Release in `bind_to`, which may make it at any time.
        // SAFETY: validity: the box lives until `drop_extra`, at the last reference. aliasing: shared borrows only;
        // what changes in it is atomic.
        unsafe { self.extra.load(Acquire).as_ref() }
    }

    /// Ties the task to a worker, or unties it. By the holder.
    #[cold]
    pub(crate) fn bind_to(&self, worker: Option<NonNull<Worker>>) {
        let worker = worker.map_or(std::ptr::null_mut(), NonNull::as_ptr);
        self.extra_or_new().bound_to.store(worker, Release);
    }

    /// As [`Header::extra`], made if there is none. By the holder.
    #[cold]
    pub(crate) fn extra_or_new(&self) -> &Extra {
        if self.extra().is_none() {
            let extra = Box::into_raw(Box::<Extra>::default());
            self.extra.store(extra, Release); // pairs with `extra`
        }
        self.extra().expect("there is one now")
    }

    /// Why a context that the task has entered is over; [`LIVE`] if none is. By the running task.
    #[inline]
    pub(crate) fn over(&self) -> u8 {
        match self.extra().and_then(|extra| extra.bound.get()) {
            // SAFETY: validity: it lies on the stack of a call that has entered and not left. aliasing: shared borrow.
            Some(bound) => unsafe { bound.as_ref() }.over(),
            None => LIVE,
        }
    }

    /// Is this time over for the running task, or a context that it has entered? A wait without any bound has the
    /// deadline [`NEVER`] and heeds neither.
    #[inline]
    pub(crate) fn is_over(&self, deadline: u64) -> bool {
        deadline != NEVER && (clock::has_come(deadline) || self.over() != LIVE)
    }

    /// Must the task stay on its worker, also while it waits? By the holder.
    #[inline]
    pub(crate) fn is_tied(&self) -> bool {
        self.extra()
            .is_some_and(|extra| !extra.bound_to.load(Acquire).is_null() || extra.no_park.get().is_some())
    }

    /// The worker that alone may run the task, if any. By the holder.
    #[inline]
    pub(crate) fn bound_to(&self) -> Option<NonNull<Worker>> {
        self.extra()
            .and_then(|extra| NonNull::new(extra.bound_to.load(Acquire)))
    }

    /// Frees the extra, at the last reference.
    pub(crate) fn drop_extra(&self) {
        let extra = self.extra.swap(std::ptr::null_mut(), Acquire);
        if !extra.is_null() {
            // SAFETY: validity: it came from `Box::into_raw`, and was taken out of the word. aliasing: the last
            // reference is ours.
            drop(unsafe { Box::from_raw(extra) });
        }
    }

    /// Notes why and where the task is about to wait.
    #[inline]
    pub(crate) fn note_site(&self, reason: Reason, at: &'static Location<'static>) {
        self.site.store(Site::new(reason, at).word(), Relaxed);
    }

    /// Why and where the task waits or last waited.
    #[inline]
    pub(crate) fn site(&self) -> Option<Site> {
        let word = self.site.load(Relaxed) & !(SEEN_PARKED | SHRUNK);
        // SAFETY: validity: zero, or a word stored by `note_site`, and two bits that `mark_parked_for_long` sets in it.
        unsafe { Site::from_word(word) }
    }

    /// One look of the scavenger at a parked task: what it should do. The same park must be seen twice before its
    /// stack is worth a system call, and once it has been seen to it is left alone.
    pub(crate) fn mark_parked_for_long(&self) -> bool {
        let before = self.site.load(Relaxed);
        let (mark, worth) = if before & SEEN_PARKED == 0 {
            (SEEN_PARKED, false)
        } else {
            (SHRUNK, true)
        };
        if before & SHRUNK != 0 {
            return false;
        }
        // Failure: the task parked anew meanwhile.
        self.site
            .compare_exchange(before, before | mark, Relaxed, Relaxed)
            .is_ok()
            && worth
    }

    /// The slab's way back from an entry to the chunk it lies in.
    pub(crate) fn runtime(&self) -> Option<NonNull<crate::sched::shared::Shared>> {
        slab::runtime_of(NonNull::from(self))
    }
}

/// The two bits of the priority in the id.
const fn priority_bits(priority: Priority) -> u64 {
    match priority {
        Priority::Normal => 0,
        Priority::High => 1,
        Priority::Low => 2,
    }
}

/// The table of an entry that was never a task.
static NO_TASK: VTable = {
    unsafe fn run(_: TaskRef) -> Option<usize> {
        unreachable!("a free slab entry has nothing to run")
    }
    unsafe fn abandon(_: TaskRef, _: JoinError) -> Option<usize> {
        unreachable!("a free slab entry has nothing to abandon")
    }
    unsafe fn fail(_: TaskRef, _: JoinError) {
        unreachable!("a free slab entry waits for nothing")
    }
    unsafe fn drop_result(_: TaskRef) {
        unreachable!("a free slab entry has no result")
    }
    VTable {
        run,
        abandon,
        fail,
        drop_result,
        entry: || "",
    }
};

#[cfg(all(test, not(any(bast_asan, bast_tsan))))]
mod tests {
    use super::Header;

    #[test]
    fn a_header_is_two_cache_lines() {
        assert_eq!(size_of::<Header>(), 128);
    }
}
