//! The signal of the timers, and its handler, which does what is async-signal-safe, and no more: it reads a thread-local without a
//! destructor, atomics and the clock, copies the chain of frame pointers and writes into the worker's ring. It runs on
//! the worker's alternate stack: a task's own may have no room for it.
//!
//! Signals that are not of our timers go to the handler that was there before (`bast_stack::signal`).

#[cfg(target_os = "linux")]
pub(super) use imp::{install, timer};
#[cfg(not(target_os = "linux"))]
pub(super) use nowhere::{install, timer};

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use crate::sys::cpu_timer::CpuTimer;
    use crate::sys::thread::{CpuClock, ThreadId};
    use std::io;

    /// Not to be had here: no timers on the CPU clocks of threads.
    pub(in crate::profile) fn install() -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "CPU samples need Linux",
        ))
    }

    /// As above.
    pub(in crate::profile) fn timer(
        _: Option<CpuClock>,
        _: ThreadId,
        _: u32,
        _: u32,
    ) -> io::Result<CpuTimer> {
        install().map(|()| unreachable!("it fails"))
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use crate::current;
    use crate::primitive::atomic::Acquire;
    use crate::profile::sampler::{FRAMES_MAX, Sample, TaskSeen};
    use crate::sched::traced;
    use crate::sched::worker::Worker;
    use crate::sys::cpu_timer::CpuTimer;
    use crate::sys::thread::{CpuClock, ThreadId};
    use crate::time::clock;
    use bast_stack::signal;
    use std::ffi::{c_int, c_void};
    use std::io;
    use std::ptr::NonNull;

    /// Its address marks the signals of our timers.
    static MARK: u8 = 0;

    /// Installs the handler, once a process.
    pub(in crate::profile) fn install() -> io::Result<()> {
        signal::install(libc::SIGPROF, handler, libc::SA_RESTART)?;
        if signal::put_in_front(libc::SIGPROF)? {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another handler of SIGPROF was installed after that of bast's CPU samples: a profiler that runs in this \
             process; end it first",
        ))
    }

    /// A timer that the handler knows.
    pub(in crate::profile) fn timer(
        clock: Option<CpuClock>,
        thread: ThreadId,
        first_nanos: u32,
        period_nanos: u32,
    ) -> io::Result<CpuTimer> {
        let mark = (&raw const MARK).cast();
        CpuTimer::start(clock, thread, libc::SIGPROF, mark, (first_nanos, period_nanos))
    }

    unsafe extern "C" fn handler(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: validity: SA_SIGINFO: the kernel passes a siginfo. aliasing: it is this handler's.
        let facts = unsafe { &*info };
        // SAFETY: validity: a timer's signal has a value. aliasing: a copy.
        let ours = facts.si_code == libc::SI_TIMER
            && unsafe { facts.si_value() }.sival_ptr.cast_const() == (&raw const MARK).cast();
        if !ours {
            // SAFETY: validity: the arguments are the kernel's own. aliasing: passed on, not used again.
            return unsafe { signal::chain(number, info, context) };
        }
        let Some(worker) = current::worker() else { return };
        // SAFETY: validity: the worker of this thread lives as long as it. aliasing: shared borrow; atomics only.
        let worker = unsafe { worker.as_ref() };
        // SAFETY: validity: gives the address of this thread's errno.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: validity: as above. aliasing: this thread's own.
        let saved = unsafe { *errno };
        // SAFETY: validity: this is the handler that runs, on its worker's thread.
        unsafe { look(worker, context) };
        // SAFETY: as above.
        unsafe { *errno = saved };
    }

    /// Leaves a sample.
    ///
    /// # Safety
    /// By the running handler, whose third argument `context` is, on the thread of `worker`.
    unsafe fn look(worker: &Worker, context: *mut c_void) {
        let Some(ring) = worker.sampled.ring.get() else {
            return;
        };
        let processor = NonNull::new(worker.holds.load(Acquire));
        let mut sample = Sample {
            nanos: clock::now(),
            // SAFETY: validity: processors live as long as the runtime, and that as long as its workers. aliasing: shared borrow.
            processor: processor.map(|processor| unsafe { processor.as_ref() }.trace.number()),
            task: worker.current.get().map(|task| TaskSeen {
                id: traced::id_of(task, worker.shared.number),
                entry: task.vtable().entry,
                code: task.vtable().run as usize,
                spawned: task.spawned_at.get(),
            }),
            count: 0,
            frames: [0; FRAMES_MAX],
        };
        // SAFETY: validity: as our caller says; the range is of the worker's thread.
        sample.count = unsafe { bast_stack::frames_at(context, &worker.sampled.stack, &mut sample.frames) };
        // SAFETY: one writer: this handler, on this thread, which it does not interrupt itself.
        unsafe { ring.push(&sample) };
    }
}
