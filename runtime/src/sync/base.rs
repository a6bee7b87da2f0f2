//! What the primitives here stand on: a small lock, the calling task or thread, and time. From the runtime, or under
//! `--cfg bast_loom` from loom, where every waiter is a loom thread.

/// Defines a constructor that is `const`, except on loom, whose atomics and locks have no `const` constructors.
macro_rules! constructor {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(bast_loom))]
        $(#[$meta])*
        $vis const fn $($rest)*
        #[cfg(bast_loom)]
        $(#[$meta])*
        $vis fn $($rest)*
    };
}
pub(crate) use constructor;

#[cfg(not(bast_loom))]
mod imp {
    #![allow(unused_imports, dead_code, reason = "for what is built on it")]

    pub(crate) use crate::sched::wait::{Caller, Identity, Wake};
    pub(crate) use crate::sys::lock::{Guard, Lock};
    pub(crate) use crate::task::bound::{Bound, LIVE, UNTIL_CANCELLED};
    pub(crate) use crate::task::site::Reason;
    pub(crate) use crate::time::clock::{NEVER, after, has_come, now};

    /// A lock for a few instructions, under which no other is taken and nobody is woken.
    pub(crate) const fn leaf<T>(value: T) -> Lock<T> {
        Lock::new(crate::sys::lock::Rank::Leaf, value)
    }
}

#[cfg(bast_loom)]
mod imp {
    #![allow(
        missing_docs,
        dead_code,
        missing_debug_implementations,
        clippy::new_without_default,
        reason = "documented at the originals in `sched::wait`; a model uses its own subset"
    )]

    use crate::primitive::atomic::{AtomicU64, Relaxed};
    use crate::primitive::{Arc, UnsafeCell};
    pub use crate::protocol::bound::{Bound, LIVE, UNTIL_CANCELLED};
    use crate::protocol::waker_slot::WakerSlot;
    use loom::sync::{Condvar, Mutex, MutexGuard};
    use std::cell::RefCell;
    use std::panic::Location;
    use std::ptr::NonNull;
    use std::time::Duration;

    pub const NEVER: u64 = u64::MAX;

    /// No time passes in a model: a deadline may be over at any moment, and is when it is looked at.
    pub fn after(_: Duration) -> u64 {
        0
    }

    /// As `time::clock::has_come`.
    pub fn has_come(deadline: u64) -> bool {
        deadline < UNTIL_CANCELLED && now() >= deadline
    }

    /// Half a millisecond passes between two looks at the clock, so that some have waited long and some have not.
    pub fn now() -> u64 {
        CLOCK.fetch_add(500_000, Relaxed)
    }

    loom::lazy_static! {
        static ref CLOCK: AtomicU64 = AtomicU64::new(0);
    }

    #[derive(Debug)]
    pub struct Lock<T>(Mutex<T>);
    pub type Guard<'a, T> = MutexGuard<'a, T>;

    pub fn leaf<T>(value: T) -> Lock<T> {
        Lock(Mutex::new(value))
    }

    impl<T> Lock<T> {
        pub fn lock(&self) -> Guard<'_, T> {
            self.0.lock().expect("a model that panicked goes no further")
        }
    }

    #[derive(Clone, Copy, Debug)]
    pub enum Reason {
        Mutex,
        RwLock,
        Condvar,
        Semaphore,
        Barrier,
        WaitGroup,
        Once,
        Notify,
        Send,
        Recv,
        Select,
    }

    /// What a waiting thread sleeps on.
    #[derive(Debug)]
    pub struct Sleeper {
        woken: Mutex<bool>,
        changed: Condvar,
    }

    #[repr(align(8))]
    pub struct Caller {
        sleeper: Arc<Sleeper>,
        /// Written when the caller goes: loom reports a waker that comes to it later.
        here: UnsafeCell<bool>,
    }

    /// A thread that has entered a context: its waits sleep where the end of the context finds it.
    #[derive(Clone)]
    struct Entered {
        sleeper: Arc<Sleeper>,
        bound: Option<NonNull<Bound>>,
        deadline: u64,
    }

    loom::thread_local! {
        static ENTERED: RefCell<Option<Entered>> = RefCell::new(None);
    }

    fn entered() -> Option<Entered> {
        ENTERED.with(|entered| entered.borrow().clone())
    }

    /// The calling thread, for longer than one call.
    pub struct Identity(Caller);

    impl Identity {
        pub fn new() -> Identity {
            Identity(Caller::to_wait())
        }

        pub fn token(&self) -> usize {
            self.0.token()
        }

        pub fn bound(&self) -> (Option<NonNull<Bound>>, u64) {
            entered().map_or((None, NEVER), |entered| (entered.bound, entered.deadline))
        }

        pub fn set_bound(&self, bound: Option<NonNull<Bound>>, deadline: u64) {
            let sleeper = self.0.sleeper.clone();
            let now = bound.map(|bound| Entered {
                sleeper,
                bound: Some(bound),
                deadline,
            });
            ENTERED.with(|entered| *entered.borrow_mut() = now);
        }
    }

    impl Caller {
        pub fn to_wait() -> Caller {
            let new = || {
                Arc::new(Sleeper {
                    woken: Mutex::new(false),
                    changed: Condvar::new(),
                })
            };
            Caller {
                sleeper: entered().map_or_else(new, |entered| entered.sleeper),
                here: UnsafeCell::new(true),
            }
        }

        pub fn to_wake() -> Caller {
            Caller::to_wait()
        }

        pub fn token(&self) -> usize {
            std::ptr::from_ref(self) as usize
        }

        pub fn may_park(&self) -> bool {
            true
        }

        pub fn refuse(&mut self, _: Reason, _: &'static Location<'static>) -> ! {
            unreachable!("every waiter of a model may wait")
        }

        pub fn own_deadline(&self) -> u64 {
            entered().map_or(NEVER, |entered| entered.deadline)
        }

        pub fn is_over(&self, deadline: u64) -> bool {
            match deadline {
                NEVER => false,
                UNTIL_CANCELLED => entered().and_then(|entered| entered.bound).is_some_and(|bound| {
                    // SAFETY: validity: it lies on the stack of a call of this thread that has entered and not left.
                    // aliasing: shared borrow.
                    unsafe { bound.as_ref() }.over() != LIVE
                }),
                _ => true,
            }
        }

        pub fn park_until(&mut self, _: u64, _: Reason, _: &'static Location<'static>) {
            let mut woken = self.sleeper.woken.lock().unwrap();
            while !*woken {
                woken = self.sleeper.changed.wait(woken).unwrap();
            }
            *woken = false;
        }

        pub fn may_spin(&self) -> bool {
            false
        }
    }

    impl Drop for Caller {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                // SAFETY: validity: ours. aliasing: nobody else may look any more, which loom checks.
                self.here.with_mut(|here| unsafe { *here = false });
            }
        }
    }

    #[must_use]
    pub enum Wake {
        Caller(Arc<Sleeper>),
        Future(Arc<WakerSlot>),
    }

    impl Wake {
        /// # Safety
        /// The token came from [`Caller::token`], and that caller is still there; or from [`WakerSlot::token`], and is
        /// used up by this.
        pub unsafe fn of(token: usize) -> Wake {
            if WakerSlot::is_token(token) {
                // SAFETY: as our caller says.
                return Wake::Future(unsafe { WakerSlot::from_token(token) });
            }
            // SAFETY: validity: the caller says that it is there. aliasing: shared borrow.
            let caller = unsafe { &*(token as *const Caller) };
            // SAFETY: validity: as above. aliasing: written only when the caller goes, which loom checks.
            assert!(caller.here.with(|here| unsafe { *here }), "the waiter has gone");
            Wake::Caller(caller.sleeper.clone())
        }

        pub fn wake(self, _: &mut Caller) {
            match self {
                Wake::Caller(sleeper) => {
                    *sleeper.woken.lock().unwrap() = true;
                    sleeper.changed.notify_one();
                }
                Wake::Future(slot) => slot.wake(),
            }
        }

        pub fn is_foreign(&self) -> bool {
            matches!(self, Wake::Future(_))
        }
    }
}

#[cfg(not(bast_loom))]
pub(crate) use imp::*;
#[cfg(bast_loom)]
pub use imp::*;
