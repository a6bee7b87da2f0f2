//! Makes and names OS threads; the only caller of `std::thread::Builder`.

use std::io;
#[cfg(target_os = "linux")]
use std::io::Write;

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

/// A thread as the kernel names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadId(#[cfg(target_os = "linux")] pub(crate) libc::pid_t);

/// The calling thread.
pub(crate) fn own_id() -> ThreadId {
    // SAFETY: validity: takes no argument. aliasing: no memory is passed.
    #[cfg(target_os = "linux")]
    return ThreadId(unsafe { libc::gettid() });
    #[cfg(not(target_os = "linux"))]
    ThreadId()
}

/// Does a thread of this process run, or wait for a CPU? False: it waits for something else. None: it cannot be told, or
/// the thread is gone. Allocates nothing. See `proc_pid_stat(5)`.
#[cfg(target_os = "linux")]
pub(crate) fn has_cpu(thread: ThreadId) -> Option<bool> {
    let mut path = [0_u8; 48];
    let mut rest = &mut path[..47];
    write!(rest, "/proc/self/task/{}/stat", thread.0).ok()?;
    // SAFETY: validity: the path ends with a zero, the array's last byte at the latest. aliasing: a local.
    let file = unsafe { libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return None;
    }
    let mut text = [0_u8; 96];
    // SAFETY: validity: the buffer is as long as is said. aliasing: a local.
    let count = unsafe { libc::read(file, text.as_mut_ptr().cast(), text.len()) };
    // SAFETY: validity: ours, and used no more. aliasing: none.
    unsafe { libc::close(file) };
    let text = text.get(..usize::try_from(count).ok()?)?;
    // The name comes before, in brackets, and may hold any character; the state is one letter.
    let name_end = text.iter().rposition(|&byte| byte == b')')?;
    text.get(name_end + 2).map(|&state| state == b'R')
}

/// Cannot be told here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn has_cpu(_thread: ThreadId) -> Option<bool> {
    None
}

/// Of a sleep as long as this the 50 us by which the kernel may end it late by default are half a percent.
const PUNCTUAL_NANOS: u64 = 10_000_000;
/// How late it may end a shorter one.
const PUNCTUAL_SLACK_NANOS: u64 = 1_000;

/// Runs `sleep`, in which the calling thread sleeps for `nanos`, and has a short one end on time.
pub(crate) fn punctually<R>(nanos: u64, sleep: impl FnOnce() -> R) -> R {
    if nanos > PUNCTUAL_NANOS {
        return sleep();
    }
    let before = set_timer_slack(PUNCTUAL_SLACK_NANOS);
    let result = sleep();
    set_timer_slack(before); // threads inherit it, and the task may start some
    result
}

/// How late the kernel may end a sleep of the calling thread, in nanoseconds; gives what held before. See
/// `PR_SET_TIMERSLACK(2const)`.
#[cfg(target_os = "linux")]
fn set_timer_slack(nanos: u64) -> u64 {
    // SAFETY: validity: integers only; it cannot fail. aliasing: none.
    let before = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) };
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos, 0, 0, 0) };
    u64::try_from(before).unwrap_or(50_000)
}

/// Not to be had here.
#[cfg(not(target_os = "linux"))]
fn set_timer_slack(_nanos: u64) -> u64 {
    0
}

/// The CPU clock of a thread; see [`own_cpu_clock`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuClock(#[cfg(target_os = "linux")] pub(super) libc::clockid_t);

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
