//! Errors of registration that say what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::RawFd;

/// Why a descriptor could not be registered: what the system said, and what it means here.
#[derive(Debug)]
struct Refused {
    fd: RawFd,
    advice: &'static str,
    cause: io::Error,
}

/// Adds to an error of registration what it means. Others (such as a bad descriptor) pass unchanged.
pub(crate) fn explain(fd: RawFd, cause: io::Error) -> io::Error {
    let advice = match cause.raw_os_error() {
        Some(libc::EPERM) => {
            "this kind of descriptor has no readiness (a regular file, a directory, /dev/null): \
             use it from a blocking section instead"
        }
        Some(libc::ENOSPC) => {
            "the user's limit of watched descriptors is reached: raise the sysctl fs.epoll.max_user_watches"
        }
        Some(libc::ENOMEM) => {
            "the kernel has no memory for one more watched descriptor: raise the memory limit of the \
             control group (memory.max), or bound the watches by the sysctl fs.epoll.max_user_watches"
        }
        Some(libc::EEXIST) => {
            "it is registered already: keep one source a descriptor, and deregister before closing"
        }
        _ => return cause,
    };
    io::Error::new(cause.kind(), Refused { fd, advice, cause })
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot watch descriptor {}: {} ({})",
            self.fd, self.advice, self.cause
        )
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(errno: i32) -> String {
        explain(7, io::Error::from_raw_os_error(errno)).to_string()
    }

    #[test]
    fn exhausted_limits_name_what_to_change() {
        assert!(explained(libc::ENOSPC).contains("fs.epoll.max_user_watches"));
        assert!(explained(libc::ENOMEM).contains("memory.max"));
        assert!(explained(libc::EPERM).contains("blocking section"));
        assert!(explained(libc::EEXIST).contains("registered already"));
        for errno in [libc::ENOSPC, libc::ENOMEM, libc::EPERM, libc::EEXIST] {
            assert!(explained(errno).contains("descriptor 7"), "{}", explained(errno));
        }
    }

    #[test]
    fn other_errors_keep_their_number() {
        for errno in [libc::EBADF, libc::EMFILE, libc::EINVAL] {
            let error = explain(7, io::Error::from_raw_os_error(errno));
            assert_eq!(error.raw_os_error(), Some(errno));
        }
    }

    #[test]
    fn the_system_s_error_is_the_source() {
        let error = explain(7, io::Error::from_raw_os_error(libc::EPERM));
        let cause = error
            .get_ref()
            .and_then(|refused| refused.source())
            .expect("a source");
        let cause = cause.downcast_ref::<io::Error>().expect("an io error");
        assert_eq!(cause.raw_os_error(), Some(libc::EPERM));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
