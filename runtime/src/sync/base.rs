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

    pub(crate) use crate::sched::wait::{Caller, Wake};
    pub(crate) use crate::sys::lock::{Guard, Lock};
    pub(crate) use crate::task::header::Reason;
    pub(crate) use crate::time::clock::{NEVER, after, now};

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
        reason = "documented at the originals in `sched::wait`; a model uses its own subset"
    )]

    use crate::primitive::UnsafeCell;
    use crate::primitive::atomic::{AtomicU64, Relaxed};
    use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
    use std::panic::Location;
    use std::time::Duration;

    pub const NEVER: u64 = u64::MAX;

    /// No time passes in a model: a deadline may be over at any moment, and is when it is looked at.
    pub fn after(_: Duration) -> u64 {
        0
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
    struct Sleeper {
        woken: Mutex<bool>,
        changed: Condvar,
    }

    pub struct Caller {
        sleeper: Arc<Sleeper>,
        /// Written when the caller goes: loom reports a waker that comes to it later.
        here: UnsafeCell<bool>,
    }

    impl Caller {
        pub fn to_wait() -> Caller {
            Caller {
                sleeper: Arc::new(Sleeper {
                    woken: Mutex::new(false),
                    changed: Condvar::new(),
                }),
                here: UnsafeCell::new(true),
            }
        }

        pub fn to_wake() -> Caller {
            Caller::to_wait()
        }

        pub fn token(&self) -> usize {
            std::ptr::from_ref(self) as usize
        }

        pub fn own_deadline(&self) -> u64 {
            NEVER
        }

        pub fn is_over(&self, deadline: u64) -> bool {
            deadline != NEVER
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
    pub struct Wake(Arc<Sleeper>);

    impl Wake {
        /// # Safety
        /// The token came from [`Caller::token`], and that caller is still there.
        pub unsafe fn of(token: usize) -> Wake {
            // SAFETY: validity: the caller says that it is there. aliasing: shared borrow.
            let caller = unsafe { &*(token as *const Caller) };
            // SAFETY: validity: as above. aliasing: written only when the caller goes, which loom checks.
            assert!(caller.here.with(|here| unsafe { *here }), "the waiter has gone");
            Wake(caller.sleeper.clone())
        }

        pub fn wake(self, _: &mut Caller) {
            *self.0.woken.lock().unwrap() = true;
            self.0.changed.notify_one();
        }
    }
}

#[cfg(not(bast_loom))]
pub(crate) use imp::*;
#[cfg(bast_loom)]
pub use imp::*;
