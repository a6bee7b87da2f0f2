//! The one OS-thread sleep and wake: on std's own parking (a futex on Linux), with a flag of ours, because user
//! code on the same thread may use up or leave behind tokens of `std::thread::park`.

use crate::primitive::atomic::{Acquire, AtomicBool, Release};
use std::thread::Thread;
use std::time::Duration;

/// Where one thread sleeps. Bound to the thread that calls [`Parker::new`].
#[derive(Debug)]
pub(crate) struct Parker {
    woken: AtomicBool,
    thread: Thread,
}

impl Parker {
    /// For the calling thread.
    pub(crate) fn new() -> Parker {
        Parker {
            woken: AtomicBool::new(false),
            thread: std::thread::current(),
        }
    }

    /// Sleeps until [`Parker::wake`]; one that came before counts. Only the parker's own thread calls it.
    pub(crate) fn sleep(&self) {
        // Acquire pairs with the Release in `wake`.
        while !self.woken.swap(false, Acquire) {
            std::thread::park();
        }
    }

    /// As [`Parker::sleep`], for at most `timeout`, and it may wake early. True: it was woken.
    pub(crate) fn sleep_for(&self, timeout: Duration) -> bool {
        if !self.woken.swap(false, Acquire) {
            std::thread::park_timeout(timeout);
            return self.woken.swap(false, Acquire);
        }
        true
    }

    /// Wakes the thread, now or at its next sleep. The parker may be gone as soon as the flag is seen, so the
    /// thread's handle is cloned first.
    pub(crate) fn wake(&self) {
        let thread = self.thread.clone();
        self.woken.store(true, Release);
        thread.unpark();
    }
}
