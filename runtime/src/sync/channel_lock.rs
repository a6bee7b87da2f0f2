//! The lock of a channel: held for a few instructions, by calls that come from tasks and plain threads at once. Not a
//! guard but two calls, because a `select!` holds the locks of channels of several types in one array.
//!
//! A thread that finds it held looks again a few times, far apart (`backoff`), and then sleeps on a futex (elsewhere than on Linux
//! it gives up the CPU): its holder may have been put aside by the kernel. How that goes is in `lock_word`.
//!
//! Lock order: nothing of the runtime is held when a channel's lock is taken, and nothing else is taken under it, but
//! for other channels' locks at higher addresses (`select`). Debug builds check the former.
//!
//! It is not freed while anybody gives it back: who calls has an end of the channel.

#[cfg(not(bast_loom))]
pub(crate) use imp::RawLock;
#[cfg(all(test, not(bast_loom)))]
pub(crate) use imp::{sleep_while, wake_one};
#[cfg(bast_loom)]
pub(crate) use model::RawLock;

#[cfg(not(bast_loom))]
mod imp {
    use super::super::backoff::Backoff;
    use super::super::lock_word::LockWord;
    use crate::primitive::atomic::AtomicU32;
    use crate::sys::membarrier;

    /// How often one looks before one sleeps: longer than any hold that the kernel does not interrupt.
    const LOOKS: u32 = 8;

    /// See the module.
    #[derive(Debug)]
    pub(crate) struct RawLock(LockWord);

    impl RawLock {
        pub(crate) fn new() -> RawLock {
            membarrier::register(); // channels may be older than the first runtime
            RawLock(LockWord::new(!membarrier::reaches_all()))
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
            if !self.0.try_lock() {
                self.lock_slowly();
            }
        }

        #[cold]
        fn lock_slowly(&self) {
            let mut backoff = Backoff::new();
            for _ in 0..LOOKS {
                backoff.wait();
                if self.0.is_free() && self.0.try_lock() {
                    return;
                }
            }
            if cfg!(any(target_os = "linux", target_os = "android")) {
                self.0.lock_asleep(membarrier::heavy, sleep_while);
                return;
            }
            while !self.0.try_lock() {
                crate::primitive::yield_now();
            }
        }

        /// Gives the lock back.
        ///
        /// # Safety
        /// The caller has it, and knows that the channel is not freed before this returns.
        #[inline]
        pub(crate) unsafe fn unlock(&self) {
            // SAFETY: as our caller says.
            unsafe { self.0.unlock(wake_one) };
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn sleep_while(word: &AtomicU32, value: u32) {
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
    pub(crate) fn wake_one(word: &AtomicU32) {
        // SAFETY: validity: the kernel takes the word's address as a key. aliasing: it does not touch it.
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
    pub(crate) fn sleep_while(_: &AtomicU32, _: u32) {
        crate::primitive::yield_now();
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn wake_one(_: &AtomicU32) {}
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
