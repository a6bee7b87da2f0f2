//! Parking and unparking: publish, re-check, commit, in one signature, for tasks and plain threads alike.
//!
//! A waiter publishes a token where its waker will find it, looks once more whether it still has to wait, and parks.
//! Tokens are permits: an unpark that comes before the park makes the park return at once, so nothing between
//! publishing and parking can be lost, and a park may return for no reason, so every caller loops on its condition.

use super::inside::Inside;
use super::worker::Settle;
use crate::chaos::{self, Point};
use crate::current;
use crate::primitive::atomic::{Acquire, AtomicBool, Release};
use crate::task::bound::{LIVE, UNTIL_CANCELLED};
use crate::task::header::TaskRef;
use crate::task::site::Reason;
use crate::task::state::{CommitPark, Unpark};
use crate::task::waker_slot::WakerSlot;
use crate::time::clock::{self, NEVER};
use crate::time::heap::{self, Node};
use bast_stack::catch_unwind;
use std::panic::{AssertUnwindSafe, Location};
use std::sync::Arc;
use std::thread::Thread;

impl Inside {
    /// Parks the running task until it is unparked; returns at once if that has happened already.
    pub(crate) fn park(&mut self, reason: Reason, at: &'static Location<'static>) {
        let task = self.task();
        if task.state.take_notification() || chaos::flip(Point::Spurious) {
            return;
        }
        task.note_site(reason, at);
        self.processor().counters.parks.add(1);
        if std::thread::panicking() || task.is_tied() {
            self.park_on_worker(task);
        } else {
            self.leave(Settle::Park(task));
        }
    }

    /// As [`Inside::park`], until `deadline` at most.
    pub(crate) fn park_until(&mut self, deadline: u64, reason: Reason, at: &'static Location<'static>) {
        if deadline >= UNTIL_CANCELLED {
            return self.park(reason, at);
        }
        let task = self.task();
        let node = Node::new(task);
        // SAFETY: the node lies on this stack, which does not move, and `cancel` below comes before it goes.
        unsafe { self.processor().timers.arm(&node, deadline) };
        self.park(reason, at);
        heap::cancel(&node);
    }

    /// A task that panics keeps its thread: std counts panics a thread, and a migrated count would poison the wrong
    /// locks. So the worker sleeps with the task on its stack and its processor goes to another worker.
    #[cold]
    fn park_on_worker(&mut self, task: TaskRef) {
        self.trace_leave(Settle::Park(task), None);
        self.while_bound(task, |inside| {
            let processor = inside.let_go();
            inside.shared().give_processor(processor);
            if task.state.commit_park() == CommitPark::Notified {
                super::traced::unblocked_before(task);
                inside.shared().inject(task);
            }
            inside.sleep_bound();
        });
    }
}

/// The user's unpark: makes a parked task runnable, and its next `task::park` return at once. From any thread, outside
/// the runtime.
#[inline]
pub(crate) fn unpark(task: TaskRef) {
    if task.state.unpark_with_permit() == Unpark::Enqueue {
        enqueue(task, Inside::enter().as_mut());
    }
}

/// Puts a task that has just become the caller's on a run queue: the local one if this worker is of its runtime.
pub(super) fn enqueue(task: TaskRef, inside: Option<&mut Inside>) {
    super::traced::unblocked(task);
    match inside {
        Some(inside) if task.belongs_to(inside.shared()) => {
            if inside.processor_if_held().is_some() {
                inside.ready(task);
            } else {
                inside.shared().inject(task);
            }
        }
        _ => enqueue_foreign(task),
    }
}

/// On the global queue of a runtime that may end, and be freed, as soon as the task runs: so it is held meanwhile.
#[cold]
fn enqueue_foreign(task: TaskRef) {
    // None: its runtime ended between the unpark and this, and has reported the task as leaked.
    let Some(runtime) = task.runtime() else { return };
    // SAFETY: validity: the runtime lies in the Arc that `Shared::new` made; it is not freed before the task, which is
    // ours, has run or was found to be in somebody's hands at the end, and then never. aliasing: counts only.
    unsafe { Arc::increment_strong_count(runtime.as_ptr().cast_const()) };
    // SAFETY: validity: as above. aliasing: the count was just raised for this Arc.
    unsafe { Arc::from_raw(runtime.as_ptr().cast_const()) }.inject(task);
}

/// A plain thread that waits, on its own stack.
#[derive(Debug)]
#[repr(align(8))]
pub(crate) struct ThreadWaiter {
    thread: Thread,
    woken: AtomicBool,
}

/// Low bit of a token that names a [`ThreadWaiter`] rather than a task.
const THREAD: usize = 1;

impl ThreadWaiter {
    /// For the calling thread.
    pub(crate) fn new() -> ThreadWaiter {
        ThreadWaiter {
            thread: std::thread::current(),
            woken: AtomicBool::new(false),
        }
    }

    /// The token to publish. The waiter must stay until it was woken, or until the token has been withdrawn.
    pub(crate) fn token(&self) -> usize {
        std::ptr::from_ref(self) as usize | THREAD
    }

    /// Sleeps until woken or, with a deadline, until then or until a context is over that was entered; true: woken.
    pub(crate) fn wait_until(&self, deadline: u64) -> bool {
        // Acquire: pairs with the Release in `wake_token`; after it the waker does not touch us again.
        while !self.woken.load(Acquire) {
            if deadline == NEVER {
                std::thread::park();
            } else if is_over_for_thread(deadline) {
                return false;
            } else if deadline == UNTIL_CANCELLED {
                std::thread::park();
            } else {
                std::thread::park_timeout(clock::until(deadline));
            }
        }
        true
    }
}

/// Until when the calling plain thread may wait at most.
pub(crate) fn thread_deadline() -> u64 {
    current::thread_bound().map_or(NEVER, |bound| {
        // SAFETY: validity: it lies on the stack of a call of this thread that has entered and not left. aliasing: shared
        // borrow.
        unsafe { bound.as_ref() }.deadline
    })
}

/// Why a context that the calling plain thread has entered is over; [`LIVE`] if none is.
pub(crate) fn thread_over() -> u8 {
    // SAFETY: as in `thread_deadline`.
    current::thread_bound().map_or(LIVE, |bound| unsafe { bound.as_ref() }.over())
}

/// As [`Header::is_over`](crate::task::header::Header::is_over), for the calling plain thread.
pub(crate) fn is_over_for_thread(deadline: u64) -> bool {
    deadline != NEVER && (clock::has_come(deadline) || thread_over() != LIVE)
}

/// The task a token names, unless it names a thread or a future.
#[inline]
pub(super) fn task_of(token: usize) -> Option<TaskRef> {
    // SAFETY: the token is neither a thread's nor a slot's, so it came from `TaskRef::token`.
    (token & THREAD == 0 && !WakerSlot::is_token(token)).then(|| unsafe { TaskRef::from_token(token) })
}

/// Wakes whoever a join word's token names, if that runs foreign code. Outside of the runtime. False: it does not, and
/// [`wake_token`] is to be called, which may be done inside.
///
/// # Safety
/// The token is the caller's (Rule 1 of [`WakerSlot`]), and used up by this if it says true.
pub(crate) unsafe fn wake_future(token: usize) -> bool {
    if !WakerSlot::is_token(token) {
        return false;
    }
    // SAFETY: as our caller says.
    let slot = unsafe { WakerSlot::from_token(token) };
    // Its panic would be one of a task that is over, or of nobody's: the panic hook has reported it.
    let _ = catch_unwind(AssertUnwindSafe(move || {
        slot.wake();
        drop(slot);
    }));
    true
}

/// Wakes whoever a token names, task or thread. `inside` if the caller is inside the runtime already.
pub(crate) fn wake_token(token: usize, inside: Option<&mut Inside>) {
    if let Some(task) = task_of(token) {
        if task.state.unpark() == Unpark::Enqueue {
            match inside {
                Some(inside) => enqueue(task, Some(inside)),
                None => enqueue(task, Inside::enter().as_mut()),
            }
        }
        return;
    }
    // SAFETY: validity: the waiter stays until it sees `woken`. aliasing: shared borrow.
    let waiter = unsafe { &*((token & !THREAD) as *const ThreadWaiter) };
    let thread = waiter.thread.clone();
    waiter.woken.store(true, Release); // the waiter may be gone from here on
    thread.unpark();
}
