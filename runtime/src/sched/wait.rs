//! Who waits and who wakes: the calling task or plain thread, seen the same way by everything in [`crate::sync`].
//!
//! # Waking is done in two steps
//! A plain thread that waits does so in a word on its own stack, and may be gone as soon as it sees there that it is
//! over. So a waker first copies what it needs ([`Wake::of`]), then publishes the outcome where the waiter looks, and
//! only then wakes ([`Wake::wake`]). A task's header never goes away (`task::header`), so a wake that comes late finds
//! a task that does not wait, for which it is a spurious wake-up, and every waiter looks at its word again.

use super::inside::Inside;
use super::park::{enqueue, is_over_for_thread, thread_deadline};
use super::worker::current_task;
use crate::current;
use crate::primitive::Arc;
use crate::task::bound::{Bound, UNTIL_CANCELLED};
use crate::task::header::TaskRef;
use crate::task::site::Reason;
use crate::task::state::Unpark;
use crate::task::waker_slot::WakerSlot;
use crate::time::clock;
use std::cell::OnceCell;
use std::panic::Location;
use std::ptr::NonNull;
use std::thread::Thread;

/// Low bit of a token that names a thread rather than a task.
const THREAD: usize = 1;

/// The calling task or plain thread. While it lives a task is inside the runtime, so no user code may run.
#[derive(Debug)]
pub(crate) struct Caller {
    /// None: a plain thread, or a waker that must not yield.
    inside: Option<Inside>,
    /// It may wait: so it must be inside again after foreign code has run, however long that takes.
    waits: bool,
    sleeper: OnceCell<Sleeper>,
}

/// What a thread's token points to. The alignment leaves the low bit free.
#[derive(Debug)]
#[repr(align(8))]
struct Sleeper(Thread);

impl Caller {
    /// For a call that may wait. A task past its slice yields here.
    #[inline]
    pub(crate) fn to_wait() -> Caller {
        Caller {
            inside: Inside::enter(),
            waits: true,
            sleeper: OnceCell::new(),
        }
    }

    /// For a call that only wakes others: never yields, so it may be made while a lock of the user's is held.
    #[inline]
    pub(crate) fn to_wake() -> Caller {
        Caller {
            inside: Inside::try_enter(),
            waits: false,
            sleeper: OnceCell::new(),
        }
    }

    /// What a waker needs to find this caller. Valid while the caller lives and is not moved.
    #[inline]
    pub(crate) fn token(&self) -> usize {
        match &self.inside {
            Some(inside) => inside.task().token(),
            None => {
                let sleeper = self.sleeper.get_or_init(|| Sleeper(std::thread::current()));
                std::ptr::from_ref(sleeper) as usize | THREAD
            }
        }
    }

    /// Until when the calling task or thread may wait at most (`time::timeout`, `context`), for calls that can say that
    /// the time is over. A wait until then also heeds that a context is cancelled.
    #[inline]
    pub(crate) fn own_deadline(&self) -> u64 {
        match &self.inside {
            Some(inside) => inside.task().deadline.get(),
            None => thread_deadline(),
        }
    }

    /// Has this time come, or is a context over that the caller has entered?
    #[inline]
    pub(crate) fn is_over(&self, deadline: u64) -> bool {
        match &self.inside {
            Some(inside) => inside.task().is_over(deadline),
            None => is_over_for_thread(deadline),
        }
    }

    /// May the caller park? To be asked before anybody can see that it waits (`task::no_park`).
    #[inline]
    pub(crate) fn may_park(&self) -> bool {
        self.inside.as_ref().is_none_or(Inside::may_park)
    }

    /// Panics, because it may not. Nobody can see it wait, and no lock is held.
    #[cold]
    pub(crate) fn refuse(&mut self, reason: Reason, at: &'static Location<'static>) -> ! {
        let inside = self.inside.take().expect("bast: a plain thread may always wait");
        inside.refuse(reason, at)
    }

    /// Waits until woken, until `deadline`, or for no reason: the caller looks at its word again.
    #[inline]
    pub(crate) fn park_until(&mut self, deadline: u64, reason: Reason, at: &'static Location<'static>) {
        match &mut self.inside {
            Some(inside) => inside.park_until(deadline, reason, at),
            None if deadline >= UNTIL_CANCELLED => std::thread::park(),
            None => std::thread::park_timeout(clock::until(deadline)),
        }
    }

    /// Runs what is not ours to know: outside of the runtime.
    fn outside(&mut self, foreign: impl FnOnce()) {
        let was_inside = self.inside.take().is_some();
        foreign();
        if was_inside {
            self.inside = if self.waits {
                Inside::enter()
            } else {
                Inside::try_enter()
            };
        }
    }

    /// Is it worth looking again and again for a moment? Not if this processor has other work, nor if nobody else
    /// runs who could change what is looked at.
    #[inline]
    pub(crate) fn may_spin(&self) -> bool {
        match &self.inside {
            Some(inside) => {
                inside.shared().processors.len() > 1
                    && inside.processor_if_held().is_some_and(|own| own.queue.is_empty())
            }
            None => true,
        }
    }
}

/// The calling task or thread, for longer than one call. User code may run while it lives.
#[derive(Debug)]
pub(crate) struct Identity {
    task: Option<TaskRef>,
    sleeper: OnceCell<Sleeper>,
}

impl Identity {
    pub(crate) fn new() -> Identity {
        Identity {
            task: current_task(),
            sleeper: OnceCell::new(),
        }
    }

    /// As [`Caller::token`]: valid while the identity lives and is not moved.
    pub(crate) fn token(&self) -> usize {
        match self.task {
            Some(task) => task.token(),
            None => {
                let sleeper = self.sleeper.get_or_init(|| Sleeper(std::thread::current()));
                std::ptr::from_ref(sleeper) as usize | THREAD
            }
        }
    }

    /// What bounds all waits now, and until when they may last.
    pub(crate) fn bound(&self) -> (Option<NonNull<Bound>>, u64) {
        match self.task {
            Some(task) => (
                task.extra().and_then(|extra| extra.bound.get()),
                task.deadline.get(),
            ),
            None => (current::thread_bound(), thread_deadline()),
        }
    }

    /// Changes it. By the task or thread itself, which sees to it that the bound stays where it is.
    pub(crate) fn set_bound(&self, bound: Option<NonNull<Bound>>, deadline: u64) {
        match self.task {
            Some(task) => {
                task.extra_or_new().bound.set(bound);
                task.deadline.set(deadline);
            }
            None => current::set_thread_bound(bound),
        }
    }
}

/// Who is to be woken, copied from the waiter's side so that the waiter may go.
#[derive(Clone, Debug)]
#[must_use = "the waiter sleeps until it is woken"]
pub(crate) enum Wake {
    /// A task.
    Task(TaskRef),
    /// A plain thread.
    Thread(Thread),
    /// A future.
    Future(Arc<WakerSlot>),
}

impl Wake {
    /// For whoever calls, task or thread.
    pub(crate) fn of_caller() -> Wake {
        match Inside::enter() {
            Some(inside) => Wake::Task(inside.task()),
            None => Wake::Thread(std::thread::current()),
        }
    }

    /// Copies what is behind a token.
    ///
    /// # Safety
    /// The token came from [`Caller::token`], and that caller is still there; or from [`WakerSlot::token`], and is used
    /// up by this.
    #[inline]
    pub(crate) unsafe fn of(token: usize) -> Wake {
        if WakerSlot::is_token(token) {
            // SAFETY: as our caller says.
            Wake::Future(unsafe { WakerSlot::from_token(token) })
        } else if token & THREAD == 0 {
            // SAFETY: the token is neither a slot's nor a thread's, so it came from `TaskRef::token`.
            Wake::Task(unsafe { TaskRef::from_token(token) })
        } else {
            // SAFETY: validity: the caller says that the sleeper is there. aliasing: shared borrow.
            let sleeper = unsafe { &*((token & !THREAD) as *const Sleeper) };
            Wake::Thread(sleeper.0.clone())
        }
    }

    /// Wakes. What it was woken for has been published before.
    #[inline]
    pub(crate) fn wake(self, caller: &mut Caller) {
        match self {
            Wake::Task(task) => {
                if task.state.unpark() == Unpark::Enqueue {
                    enqueue(task, caller.inside.as_mut());
                }
            }
            Wake::Thread(thread) => thread.unpark(),
            Wake::Future(slot) => caller.outside(|| {
                slot.wake();
                drop(slot); // perhaps with a waker in it
            }),
        }
    }

    /// Does [`Wake::wake`] run foreign code?
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self, Wake::Future(_))
    }
}
