//! A timer on a thread's CPU clock, which sends that thread a signal.

#[cfg(target_os = "linux")]
use super::thread::{CpuClock, ThreadId};
#[cfg(target_os = "linux")]
use std::{ffi::c_void, io, mem::MaybeUninit};

/// Runs until it is dropped; a signal may still come a moment later. A child of `fork` has it not, `exec` ends it.
#[derive(Debug)]
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "there are none elsewhere")
)]
pub(crate) struct CpuTimer(#[cfg(target_os = "linux")] libc::timer_t);

// SAFETY: a name for what is the kernel's, good in all threads of the process.
#[cfg(target_os = "linux")]
unsafe impl Send for CpuTimer {}

#[cfg(target_os = "linux")]
impl CpuTimer {
    /// Sends `signal` with the value `mark` to `thread`, of this process and alive, when its CPU clock `clock` has gone on by
    /// the first number of nanoseconds, and then each time by the second. How punctual it is depends on the kernel's tick.
    ///
    /// # Errors
    /// If the system has no such clock, or no more timers or signals to queue for the user (`ulimit -i`).
    pub(crate) fn start(
        clock: Option<CpuClock>,
        thread: ThreadId,
        signal: i32,
        mark: *const c_void,
        (first_nanos, period_nanos): (u32, u32),
    ) -> io::Result<CpuTimer> {
        let clock = clock.ok_or_else(|| io::Error::other("the thread has no CPU clock"))?;
        // SAFETY: validity: all zeroes is a notification by signal 0; the fields that count are set below. aliasing: a value.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_value.sival_ptr = mark.cast_mut();
        event.sigev_notify_thread_id = thread.0;
        let mut timer = MaybeUninit::<libc::timer_t>::uninit();
        // SAFETY: validity: the kernel checks clock, signal and thread; writes the name if it answers 0. aliasing: locals.
        let code = unsafe { libc::timer_create(clock.0, &raw mut event, timer.as_mut_ptr()) };
        if code != 0 {
            let error = io::Error::last_os_error();
            let help = match error.kind() {
                io::ErrorKind::WouldBlock => "; raise the limit of pending signals (ulimit -i)", // a timer takes one
                _ => "",
            };
            let text = format!("no timer on a worker's CPU clock: {error}{help}");
            return Err(io::Error::new(error.kind(), text));
        }
        // SAFETY: validity: written by the call above.
        let timer = CpuTimer(unsafe { timer.assume_init() });
        let time = |nanos: u32| libc::timespec {
            tv_sec: (nanos / 1_000_000_000).into(),
            tv_nsec: (nanos % 1_000_000_000).into(),
        };
        let times = libc::itimerspec {
            it_interval: time(period_nanos),
            it_value: time(first_nanos),
        };
        // SAFETY: validity: a timer of ours. aliasing: a local, which is read.
        let code = unsafe { libc::timer_settime(timer.0, 0, &raw const times, std::ptr::null_mut()) };
        if code == 0 {
            Ok(timer)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for CpuTimer {
    fn drop(&mut self) {
        // SAFETY: validity: a timer of ours, deleted once. aliasing: none.
        let code = unsafe { libc::timer_delete(self.0) };
        debug_assert_eq!(code, 0, "it was ours");
    }
}
