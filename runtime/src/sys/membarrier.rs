//! The asymmetric barrier behind `blocking::handoff`, `trace::gate` and `sync::lock_word`: cheap on the side that runs often, dear on the side that runs seldom.

use crate::primitive::atomic::{AtomicU8, Relaxed, SeqCst, fence};

const UNKNOWN: u8 = 0;
const GRANTED: u8 = 1;
const REFUSED: u8 = 2;

/// Whether the kernel has registered this process for private expedited barriers. Process-wide, as registration is.
static MEMBARRIER: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Registers the process, once. Called before the first worker starts and before there is a channel, so that both sides agree for ever.
pub(crate) fn register() {
    if MEMBARRIER.load(SeqCst) == UNKNOWN {
        MEMBARRIER.store(if kernel::register() { GRANTED } else { REFUSED }, SeqCst);
    }
}

/// Whether [`heavy`] reaches the other threads: then a compiler fence is enough on the often-run side, else it needs a fence
/// of its own. The same for ever once the process is registered.
pub(crate) fn reaches_all() -> bool {
    MEMBARRIER.load(Relaxed) == GRANTED
}

/// The seldom-run side: when it returns, every thread of the process has passed a full barrier, if [`reaches_all`].
pub(crate) fn heavy() {
    fence(SeqCst);
    if reaches_all() {
        kernel::barrier();
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    /// `membarrier(2)`: MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED.
    const REGISTER: libc::c_int = 1 << 4;
    /// `membarrier(2)`: MEMBARRIER_CMD_PRIVATE_EXPEDITED.
    const EXPEDITED: libc::c_int = 1 << 3;

    fn call(command: libc::c_int) -> libc::c_long {
        // SAFETY: validity: membarrier takes two integers and no memory. aliasing: none.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
    }

    pub(super) fn register() -> bool {
        // BAST_NO_MEMBARRIER=1 forces the fallback, for tests of it.
        std::env::var_os("BAST_NO_MEMBARRIER").is_none() && call(REGISTER) == 0
    }

    pub(super) fn barrier() {
        let result = call(EXPEDITED);
        debug_assert_eq!(result, 0, "a registered membarrier does not fail");
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    pub(super) fn register() -> bool {
        false
    }
    pub(super) fn barrier() {}
}
