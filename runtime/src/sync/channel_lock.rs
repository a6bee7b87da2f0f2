//! The lock of a channel: held for a few instructions, by calls that come from tasks and plain threads at once. Not a
//! guard but two calls, because a `select!` holds the locks of channels of several types in one array.
//!
//! ```text
//!   FREE ── lock ──► HELD ── somebody sleeps ──► CONTENDED
//!     ▲               │                              │
//!     └─── unlock ────┴────── unlock, wake one ──────┘
//! ```
//! A thread that finds it held looks again a few times, far apart (`backoff`), and then sleeps on a futex (elsewhere than on Linux it gives up
//! the CPU): its holder may have been put aside by the kernel.
//!
//! Lock order: nothing of the runtime is held when a channel's lock is taken, and nothing else is taken under it, but
//! for other channels' locks at higher addresses (`select`). Debug builds check the former.
//!
//! Memory ordering: Acquire and Release on the word, as for any lock.

#[cfg(not(bast_loom))]
pub(crate) use imp::RawLock;
#[cfg(bast_loom)]
pub(crate) use model::RawLock;

#[cfg(not(bast_loom))]
mod imp {
    use super::super::backoff::Backoff;
    use crate::primitive::atomic::{Acquire, AtomicU32, Relaxed, Release};

    const FREE: u32 = 0;
    const HELD: u32 = 1;
    /// Held, and somebody sleeps until it is not.
    const CONTENDED: u32 = 2;
    /// How often one looks before one sleeps: longer than any hold that the kernel does not interrupt.
    const LOOKS: u32 = 8;

    /// See the module.
    #[derive(Debug)]
    pub(crate) struct RawLock(AtomicU32);

    impl RawLock {
        pub(crate) const fn new() -> RawLock {
            RawLock(AtomicU32::new(FREE))
        }

        /// Where it is: what a `select!` orders locks by.
        pub(crate) fn address(&self) -> usize {
            std::ptr::from_ref(self) as usize
        }

        /// Waits for the lock.
        #[inline]
        pub(crate) fn lock(&self) {
            #[cfg(debug_assertions)]
            assert_eq!(
                crate::current::held_ranks(),
                0,
                "bast: a channel's lock comes before all others"
            );
            if self.0.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
                self.lock_slowly();
            }
        }

        #[cold]
        fn lock_slowly(&self) {
            let mut backoff = Backoff::new();
            for _ in 0..LOOKS {
                backoff.wait();
                match self.0.load(Relaxed) {
                    FREE if self.0.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok() => return,
                    CONTENDED => break,
                    _ => {}
                }
            }
            // Whoever has slept takes it as CONTENDED: there may be others asleep that nobody counts.
            while self.0.swap(CONTENDED, Acquire) != FREE {
                sleep_while(&self.0, CONTENDED);
            }
        }

        /// Gives the lock back.
        ///
        /// # Safety
        /// The caller has it.
        #[inline]
        pub(crate) unsafe fn unlock(&self) {
            if self.0.swap(FREE, Release) == CONTENDED {
                wake_one(&self.0);
            }
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn sleep_while(word: &AtomicU32, value: u32) {
        let no_limit = std::ptr::null::<libc::timespec>();
        // SAFETY: validity: the word is there, and the kernel only compares it. aliasing: atomic.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                std::ptr::from_ref(word),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                value,
                no_limit,
            )
        };
    }

    #[cold]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn wake_one(word: &AtomicU32) {
        // SAFETY: validity: the kernel takes the word's address as a key. aliasing: it does not touch it. The word may be
        // gone by now, and then another word's sleeper wakes for no reason, which all of them bear.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                std::ptr::from_ref(word),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                1,
            )
        };
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn sleep_while(_: &AtomicU32, _: u32) {
        crate::primitive::yield_now();
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn wake_one(_: &AtomicU32) {}
}

/// Loom's mutex, whose guard lies here while it is held.
#[cfg(bast_loom)]
mod model {
    use crate::primitive::atomic::{AtomicUsize, Relaxed};
    use loom::sync::{Mutex, MutexGuard};
    use std::cell::UnsafeCell;

    loom::lazy_static! {
        static ref MADE: AtomicUsize = AtomicUsize::new(0);
    }

    pub(crate) struct RawLock {
        /// A number in place of the address: loom wants each execution to be like the others.
        number: usize,
        // Before the mutex: it is dropped first.
        guard: UnsafeCell<Option<MutexGuard<'static, ()>>>,
        mutex: Box<Mutex<()>>,
    }

    // SAFETY: the guard is touched by the holder of the mutex only.
    unsafe impl Send for RawLock {}
    // SAFETY: as for Send.
    unsafe impl Sync for RawLock {}

    impl RawLock {
        pub(crate) fn new() -> RawLock {
            RawLock {
                number: MADE.fetch_add(1, Relaxed) + 1,
                guard: UnsafeCell::new(None),
                mutex: Box::new(Mutex::new(())),
            }
        }

        pub(crate) fn address(&self) -> usize {
            self.number
        }

        pub(crate) fn lock(&self) {
            let mutex = std::ptr::from_ref(&*self.mutex);
            // SAFETY: validity: boxed, and the guard goes before the mutex does. aliasing: shared borrow.
            let mutex: &'static Mutex<()> = unsafe { &*mutex };
            let guard = mutex.lock().expect("a model that panicked goes no further");
            // SAFETY: validity: ours. aliasing: we hold the mutex.
            unsafe { *self.guard.get() = Some(guard) };
        }

        /// # Safety
        /// The caller has the lock.
        pub(crate) unsafe fn unlock(&self) {
            // SAFETY: validity: ours. aliasing: we hold the mutex until the guard is dropped.
            drop(unsafe { (*self.guard.get()).take() });
        }
    }
}
