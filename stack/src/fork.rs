//! A child of `fork(2)` gets the calling task's stack, and no other.
//!
//! Arenas are advised `MADV_DONTFORK`: copying the page tables of a million stacks would make `fork` take
//! long and every later write fault. But `fork` returns in the child on the stack it was called on, and
//! `std::process::Command` forks when it is given a user id or `pre_exec`; without its stack that child
//! dies of SIGSEGV before it can `exec`. So `pthread_atfork(3)` handlers turn the advice off for the
//! caller's own slot, just around the call. (`vfork` and `posix_spawn` share memory and need nothing.)
//!
//! A task inside [`on_big_stack`](crate::on_big_stack) gets the big stack only: its child may `exec`, but
//! not return to the frames below.

use crate::primitive::statics::OnceLock;

/// Registers the handlers, once a process.
pub(crate) fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        #[cfg(target_os = "linux")]
        // SAFETY: validity: the handlers take no argument and only advise. aliasing: none.
        unsafe {
            libc::pthread_atfork(Some(before), Some(after), None)
        };
    });
}

#[cfg(target_os = "linux")]
unsafe extern "C" fn before() {
    advise_own_slot(true);
}

#[cfg(target_os = "linux")]
unsafe extern "C" fn after() {
    advise_own_slot(false);
}

#[cfg(target_os = "linux")]
fn advise_own_slot(inherited: bool) {
    if let Some(bounds) = crate::registry::find(crate::arch::stack_pointer()) {
        crate::region::set_inherited(bounds.limit, bounds.top - bounds.limit, inherited);
    }
}
