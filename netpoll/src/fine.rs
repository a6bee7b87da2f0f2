//! Waiting with a finer grain than a millisecond, which is all that `epoll_wait(2)` and so mio can do.
//!
//! The selector's own descriptor is readable while events are to be had, so `ppoll(2)` on it waits with the
//! grain of the kernel's timers. `epoll_pwait2` (Linux 5.11) would save a call, and is not to be had through mio.

#![allow(unsafe_code, reason = "the one system call that neither std nor mio makes")]

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How a timeout is divided: whole milliseconds for the selector, the rest for [`wait_readable`].
pub(crate) fn split(timeout: Duration) -> (Duration, Duration) {
    let rest = Duration::from_nanos(u64::from(timeout.subsec_nanos() % 1_000_000));
    (timeout - rest, rest)
}

/// Waits until `selector` has events, for at most `timeout`.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn wait_readable(selector: &impl AsRawFd, timeout: Duration) -> io::Result<()> {
    let mut entry = libc::pollfd {
        fd: selector.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    };
    // SAFETY: validity: one entry, as the count says; no signal mask. aliasing: locals.
    let result = unsafe { libc::ppoll(&raw mut entry, 1, &raw const timeout, std::ptr::null()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// kqueue waits in nanoseconds anyway: there is nothing left to do.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn wait_readable(_selector: &impl AsRawFd, _timeout: Duration) -> io::Result<()> {
    Ok(())
}

/// Whether the selector itself cannot wait for a fraction of a millisecond.
pub(crate) const SELECTOR_IS_COARSE: bool = cfg!(any(target_os = "linux", target_os = "android"));

#[cfg(test)]
mod tests {
    use super::split;
    use std::time::Duration;

    #[test]
    fn a_timeout_is_whole_milliseconds_and_a_rest() {
        for nanos in [0, 1, 999_999, 1_000_000, 1_000_001, 3_141_592_653] {
            let timeout = Duration::from_nanos(nanos);
            let (whole, rest) = split(timeout);
            assert_eq!(whole + rest, timeout);
            assert!(rest < Duration::from_millis(1));
            assert_eq!(whole.subsec_nanos() % 1_000_000, 0);
        }
    }
}
