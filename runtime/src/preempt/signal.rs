//! The signal that holds a worker, and its handler.
//!
//! It is sent to one thread, with a mark by which the handler knows it from everybody else's, and those it passes on to
//! the handler that was there before. The handler does what is async-signal-safe, and no more: it reads a thread-local
//! without a destructor, atomics, the clock, and waits in `futex(2)`. It runs on the worker's alternate stack
//! (`SA_ONSTACK`): a task's own may have no room for the registers of a large CPU. `SA_RESTART` spares most interrupted
//! system calls `EINTR`; those that give it all the same (`signal(7)` has the list) are interrupted only if they began
//! after the monitor had seen the thread compute.

#[cfg(target_os = "linux")]
use crate::current;
use crate::sched::worker::Worker;
use crate::sys::thread::ThreadId;
use std::io;

/// So long a worker is held at most; see `preempt`.
#[cfg(target_os = "linux")]
const PATIENCE_NANOS: i64 = 200_000_000;

/// Is it a signal that may be used? An error text if not.
pub(crate) fn check(signal: i32) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    {
        let bound = [
            libc::SIGKILL,
            libc::SIGSTOP,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGSYS,
        ];
        if bound.contains(&signal) || !(1..=libc::SIGRTMAX()).contains(&signal) {
            return Err(format!(
                "signal {signal} cannot be used to hold workers: take SIGURG, SIGUSR1 or the like"
            ));
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        Err(format!("signal {signal}: holding workers needs Linux"))
    }
}

/// Wakes a worker that was let go.
pub(crate) fn wake(worker: &Worker) {
    #[cfg(target_os = "linux")]
    {
        let word = worker.hold.word().as_ptr();
        // SAFETY: validity: the word lives with the worker. aliasing: an address for the kernel; waking accesses nothing.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word,
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                1,
            )
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = worker;
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::{ThreadId, io};

    /// Not to be had here.
    pub(crate) fn install(_: i32) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Not to be had here.
    pub(crate) fn send(_: ThreadId, _: i32) {}
}

#[cfg(target_os = "linux")]
mod imp {
    use super::{PATIENCE_NANOS, ThreadId, current, io};
    use crate::primitive::atomic::AtomicU32;
    use bast_stack::signal;
    use std::ffi::{c_int, c_void};
    use std::ptr;

    /// Its address marks our own signals.
    static MARK: u8 = 0;

    /// Installs the handler for a signal that [`super::check`] has passed, once a process.
    pub(crate) fn install(signal: i32) -> io::Result<()> {
        signal::install(signal, handler, libc::SA_RESTART)
    }

    /// `siginfo_t` as `rt_tgsigqueueinfo(2)` wants it, on 64-bit systems.
    #[repr(C)]
    struct Info {
        signal: i32,
        errno: i32,
        code: i32,
        padding: i32,
        pid: i32,
        uid: u32,
        value: *const c_void,
        rest: [u64; 12],
    }
    const _: () = assert!(size_of::<Info>() == size_of::<libc::siginfo_t>());

    /// Sends the signal to a thread of this process. If it is gone, to nobody.
    pub(crate) fn send(thread: ThreadId, signal: i32) {
        let info = Info {
            signal,
            errno: 0,
            code: libc::SI_QUEUE,
            padding: 0,
            // SAFETY: validity: takes no argument. aliasing: no memory is passed.
            pid: unsafe { libc::getpid() },
            // SAFETY: as above.
            uid: unsafe { libc::getuid() },
            value: (&raw const MARK).cast(),
            rest: [0; 12],
        };
        let call = libc::SYS_rt_tgsigqueueinfo;
        // SAFETY: validity: the structure has the kernel's form and size. aliasing: a local, read only.
        unsafe { libc::syscall(call, info.pid, thread.0, signal, &raw const info) };
    }

    unsafe extern "C" fn handler(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: validity: SA_SIGINFO: the kernel passes a siginfo. aliasing: it is this handler's.
        let facts = unsafe { &*info };
        // SAFETY: validity: a queued signal has a value. aliasing: a copy.
        let ours = facts.si_code == libc::SI_QUEUE
            && unsafe { facts.si_value() }.sival_ptr.cast_const() == (&raw const MARK).cast();
        if !ours {
            // SAFETY: validity: the arguments are the kernel's own. aliasing: passed on, not used again.
            return unsafe { signal::chain(number, info, context) };
        }
        let Some(worker) = current::worker() else { return };
        // SAFETY: validity: gives the address of this thread's errno.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: validity: as above. aliasing: this thread's own.
        let saved = unsafe { *errno };
        // SAFETY: validity: the worker of this thread lives as long as it. aliasing: shared borrow; atomics only.
        let worker = unsafe { worker.as_ref() };
        let until = patience_ends();
        let word = worker.hold.word();
        worker
            .hold
            .park(worker.marking.is_inside(), |state| wait(word, state, &until));
        // SAFETY: as above.
        unsafe { *errno = saved };
    }

    /// When it ends, on the monotonic clock.
    fn patience_ends() -> libc::timespec {
        let mut until = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: validity: a clock that exists. aliasing: a local.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut until) };
        until.tv_nsec += PATIENCE_NANOS;
        if until.tv_nsec >= 1_000_000_000 {
            until.tv_nsec -= 1_000_000_000;
            until.tv_sec += 1;
        }
        until
    }

    /// Waits while the word is `state`, or for no reason. False: the time is over.
    fn wait(word: &AtomicU32, state: u32, until: &libc::timespec) -> bool {
        let operation = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
        let unused = ptr::null::<u32>();
        // SAFETY: validity: the word lives with the worker, the time is a valid one. aliasing: the kernel reads an atomic.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                operation,
                state,
                std::ptr::from_ref(until),
                unused,
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        // SAFETY: validity: gives the address of this thread's errno.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: validity: as above. aliasing: this thread's own.
        result == 0 || unsafe { *errno } != libc::ETIMEDOUT
    }
}

pub(crate) use imp::{install, send};
