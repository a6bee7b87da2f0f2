//! Functions that run when a context is over.
//!
//! Such a function is a task that has not begun and is parked: a header with the closure in it, without a stack. The
//! context's list of waiters has a node that names it, so the end of the context wakes it as it wakes any waiter, and so
//! does a timer for the deadline, which nobody may be there to see pass. A task may be woken for no reason, so it looks
//! whether its time has come; and whether it was stopped, by the same swap as whoever stops it: one of them wins.

use super::Context;
use super::cancel::Cancel;
use crate::primitive::atomic::{AcqRel, Acquire, AtomicBool};
use crate::sched::inside::Inside;
use crate::sched::park::wake_token;
use crate::sync::base::NEVER;
use crate::sync::waitlist::{Choice, Node};
use crate::task::erased::Birth;
use crate::task::header::TaskRef;
use crate::task::site::Reason;
use crate::task::state::CommitPark;
use crate::time::heap;
use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

/// A function that waits for the end of a context. See [`Context::after_func`].
///
/// Dropping it leaves the function waiting.
pub struct AfterFunc(Option<Arc<After>>);

/// What the handle and the task share.
struct After {
    cancel: Arc<Cancel>,
    /// By whoever wins: the task, to run the function, or the handle, so that it does not run.
    taken: AtomicBool,
    choice: Choice,
    /// Set once the task is there to be named.
    wakes: OnceLock<Wakes>,
}

struct Wakes {
    task: TaskRef,
    node: Node,
    /// The node is in the list, and the timer armed. Written before the task can run.
    queued: Cell<bool>,
    timer: Option<heap::Node>,
}

// SAFETY: the links of the node are touched under the context's lock, the place of the timer under its heap's; the rest
// is atomic, or written once before it is shared.
unsafe impl Send for After {}
// SAFETY: as for Send.
unsafe impl Sync for After {}

impl Context {
    /// Has `f` run in a task of its own when the context is over; soon, if it is over already. Of the calling task's
    /// runtime; if that ends first, `f` is dropped.
    ///
    /// As long as it waits, it costs a task's header and no stack, and keeps the context and `f`.
    ///
    /// ```
    /// use bast::context::Context;
    /// # // SAFETY: nothing bound to a thread is used.
    /// # unsafe { bast::run(|| {
    /// let (context, canceller) = Context::background().with_cancel();
    /// let (sender, receiver) = bast::sync::channel::bounded(1);
    /// let after = context.after_func(move || sender.send("cleaned up").unwrap());
    /// canceller.cancel();
    /// assert_eq!(receiver.recv(), Ok("cleaned up"));
    /// assert!(!after.stop(), "too late to stop");
    /// # }) }
    /// ```
    ///
    /// # Panics
    /// Outside a task, and as [`spawn`](crate::spawn()) does. A panic in `f` ends its task only.
    #[track_caller]
    pub fn after_func(&self, f: impl FnOnce() + Send + 'static) -> AfterFunc {
        let Some(cancel) = &self.cancel else {
            return AfterFunc(None); // never over
        };
        let after = Arc::new(After {
            cancel: Arc::clone(cancel),
            taken: AtomicBool::new(false),
            choice: Choice::new(),
            wakes: OnceLock::new(),
        });
        let pending = Pending(Arc::clone(&after));
        let body = move || pending.run(f);
        let at = Location::caller();
        let Some(mut inside) = Inside::enter() else {
            panic!("bast: Context::after_func needs a task: call it inside bast::run")
        };
        let task = inside.reserve().unwrap_or_else(|error| panic!("{error}"));
        // SAFETY: the closure is 'static and Send; the entry was reserved.
        let handle = unsafe { inside.start_held(task, body, (), Birth::at(at)) };
        if after.publish(task, &inside) && task.state.commit_park() == CommitPark::Parked {
            // From here on it is whoever's that wakes it.
        } else {
            inside.ready(task);
        }
        drop(inside);
        drop(handle);
        AfterFunc(Some(after))
    }
}

impl After {
    /// Lets the task be woken. It is ours as yet: a wake-up leaves a permit. False: the context is over.
    fn publish(&self, task: TaskRef, inside: &Inside) -> bool {
        let choice = NonNull::from(&self.choice);
        let due = self.cancel.deadline();
        let wakes = self.wakes.get_or_init(|| Wakes {
            task,
            node: Node::with_token(choice, 0, task.token(), std::ptr::null_mut()),
            queued: Cell::new(false),
            timer: (due != NEVER).then(|| heap::Node::new(task)),
        });
        // SAFETY: the node is new. It and the choice lie in the Arc, which `Pending` holds until it has withdrawn the node
        // (Rule 2 of the waitlist).
        wakes.queued.set(unsafe { self.cancel.queue(&wakes.node) });
        if let Some(timer) = wakes.timer.as_ref().filter(|_| wakes.queued.get()) {
            // SAFETY: it is new and lies in the Arc, and `Pending` cancels it before it lets go of that.
            unsafe { inside.processor().timers.arm(timer, due) };
        }
        wakes.queued.get()
    }
}

/// The task's side: part of its closure.
struct Pending(Arc<After>);

impl Pending {
    fn run(self, f: impl FnOnce()) {
        if self.wait() {
            drop(self);
            f();
        }
    }

    /// Waits for the end. False: the function was stopped.
    fn wait(&self) -> bool {
        let After { cancel, taken, .. } = &*self.0;
        while !taken.load(Acquire) {
            if cancel.is_over() {
                return !taken.swap(true, AcqRel);
            }
            if let Some(mut inside) = Inside::enter() {
                inside.park(Reason::Notify, Location::caller());
            }
        }
        false
    }
}

impl Drop for Pending {
    /// Takes back what could wake the task. Also when its runtime ends before it has begun.
    fn drop(&mut self) {
        let After { cancel, choice, .. } = &*self.0;
        let Some(wakes) = self.0.wakes.get().filter(|wakes| wakes.queued.get()) else {
            return;
        };
        // SAFETY: it was queued there, with this choice.
        unsafe { cancel.withdraw(&wakes.node, choice, Location::caller()) };
        if let Some(timer) = &wakes.timer {
            heap::cancel(timer);
        }
    }
}

impl AfterFunc {
    /// Stops the function. True: it will not run, and is dropped. False: it runs or has run, or was stopped before.
    pub fn stop(&self) -> bool {
        let Some(after) = &self.0 else {
            return false;
        };
        let stopped = !after.taken.swap(true, AcqRel);
        if let Some(wakes) = after.wakes.get().filter(|_| stopped) {
            wake_token(wakes.task.token(), None); // to drop what it holds
        }
        stopped
    }
}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("AfterFunc { .. }")
    }
}
