//! Makes and names OS threads; the only caller of `std::thread::Builder`.

use std::io;

/// Starts an OS thread with a name and a stack of `stack_bytes`.
pub(crate) fn start(
    name: String,
    stack_bytes: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<std::thread::JoinHandle<()>> {
    start_with_result(name, stack_bytes, body)
}

/// As [`start`], for one who waits for what comes of it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the runtime makes threads"
)]
pub(crate) fn start_with_result<T: Send + 'static>(
    name: String,
    stack_bytes: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name)
        .stack_size(stack_bytes)
        .spawn(body)
}

/// The system's number of the calling thread; the process's where it has none of its own.
#[cfg(target_os = "linux")]
pub(crate) fn own_number() -> u64 {
    // SAFETY: validity: no arguments.
    let number = unsafe { libc::gettid() };
    number.unsigned_abs().into()
}

/// See above.
#[cfg(not(target_os = "linux"))]
pub(crate) fn own_number() -> u64 {
    use crate::primitive::atomic::{AtomicU64, Relaxed};
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    NEXT.fetch_add(1, Relaxed)
}

/// Restricts the calling thread to one CPU. An error is the kernel's (an offline or forbidden CPU).
#[cfg(target_os = "linux")]
pub(crate) fn pin_to(cpu: usize) -> io::Result<()> {
    // SAFETY: validity: an all-zero cpu_set_t is the empty set. aliasing: a local.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("no CPU {cpu}"),
        ));
    }
    // SAFETY: validity: `cpu` is below CPU_SETSIZE, checked above. aliasing: `set` is a local.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: validity: 0 names the calling thread, the size is that of the set. aliasing: the set is only read.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Not to be had here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pin_to(_cpu: usize) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "pinning workers to CPUs needs Linux",
    ))
}

/// The CPUs the calling thread may run on.
#[cfg(target_os = "linux")]
pub(crate) fn allowed_cpus() -> Vec<usize> {
    // SAFETY: validity: an all-zero cpu_set_t is the empty set. aliasing: a local.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: validity: 0 names the calling thread, the size is that of the set. aliasing: `set` is a local.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return Vec::new();
    }
    // SAFETY: validity: the index is below CPU_SETSIZE. aliasing: the set is only read.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect()
}

/// Not to be had here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn allowed_cpus() -> Vec<usize> {
    Vec::new()
}

/// The CPU clock of a thread; see [`own_cpu_clock`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuClock(#[cfg(target_os = "linux")] libc::clockid_t);

/// The calling thread's CPU clock, for others to read while the thread lives.
#[cfg(target_os = "linux")]
pub(crate) fn own_cpu_clock() -> Option<CpuClock> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: validity: no arguments; gives the calling thread.
    let me = unsafe { libc::pthread_self() };
    // SAFETY: validity: a live thread. aliasing: `clock` is a local.
    let result = unsafe { libc::pthread_getcpuclockid(me, &raw mut clock) };
    (result == 0).then_some(CpuClock(clock))
}

/// CPU time a thread has used, in nanoseconds. None if the thread is gone or the clock cannot be had.
#[cfg(target_os = "linux")]
pub(crate) fn cpu_time(clock: Option<CpuClock>) -> Option<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: validity: the kernel checks the clock's number. aliasing: `time` is a local.
    let result = unsafe { libc::clock_gettime(clock?.0, &raw mut time) };
    (result == 0).then_some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Not to be had here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn own_cpu_clock() -> Option<CpuClock> {
    None
}

/// Not to be had here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_time(_clock: Option<CpuClock>) -> Option<u64> {
    None
}
