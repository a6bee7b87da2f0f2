//! Stack overflow: said clearly, then the process aborts, as `std` does for threads.
//!
//! [`install`] puts a handler before the one that is there for SIGSEGV and SIGBUS. A fault in the guard of a
//! stack of ours, by code running on that stack, is reported; every other fault goes on to the earlier
//! handler (std's among them, so an overflow of a plain thread still gets std's message). Nothing is ever
//! resumed after a fault: frames would be skipped and their locks stay held.
//!
//! An overflowing stack has no room for the handler, so a thread that runs tasks keeps an [`AltStack`].
//!
//! The handler runs in the middle of arbitrary code, so it uses only what is async-signal-safe: atomics, a
//! fixed buffer, `write(2)`, `abort(3)`. [`install`]'s callback is bound to the same.
//!
//! ```
//! use bast_stack::fault::{self, AltStack, FaultText};
//! use std::fmt::Write;
//!
//! fn describe(_fault_address: usize, out: &mut FaultText) {
//!     // Found without locks, allocation or thread-locals.
//!     let _ = write!(out, "task 7 \"parser\", spawned at src/main.rs:12");
//! }
//! fault::install(describe)?;
//! let _alt_stack = AltStack::new()?; // one a worker thread, kept while it runs tasks
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::error::StackError;
use crate::growth::{Verdict, decide};
use crate::layout::{page_bytes, pages_up};
use crate::primitive::statics::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire, Release},
};
use crate::region::Region;
use crate::registry::{self, Bounds};
use crate::signal;
use std::ffi::{c_int, c_void};
use std::fmt::{self, Write};
use std::io;
use std::marker::PhantomData;
use std::ptr;

/// What [`install`] is given: writes who overflowed. It runs in a signal handler.
pub type Describe = fn(fault_address: usize, out: &mut FaultText);

const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Large enough for a handler that formats text; the signal frame itself comes on top.
const ALT_STACK_BYTES_MIN: usize = 64 << 10;

/// The callback, as an address; 0 before the first [`install`].
static DESCRIBE: AtomicUsize = AtomicUsize::new(0);
/// How many threads have begun to report: the first one does, the others wait for its abort.
static REPORTING: AtomicUsize = AtomicUsize::new(0);

/// Text of a report in the making: a fixed buffer, since a signal handler must not allocate. What does not
/// fit is cut off.
#[derive(Debug)]
pub struct FaultText {
    bytes: [u8; FaultText::CAPACITY],
    len: usize,
}

impl FaultText {
    const CAPACITY: usize = 1536;

    const fn new() -> FaultText {
        FaultText {
            bytes: [0; FaultText::CAPACITY],
            len: 0,
        }
    }

    /// What has been written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for FaultText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        if count == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

/// Installs the handler, once a process; later calls only replace `describe`.
///
/// # Errors
/// If the kernel refuses `sigaction(2)`.
pub fn install(describe: Describe) -> io::Result<()> {
    // Release: publishes nothing but itself; pairs with the Acquire in `report`.
    DESCRIBE.store(describe as usize, Release);
    for signal in SIGNALS {
        signal::install(signal, handler, 0)?;
    }
    Ok(())
}

unsafe extern "C" fn handler(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: validity: SA_SIGINFO: the kernel passes a siginfo. aliasing: it is this handler's.
    let facts = unsafe { &*info };
    let from_kernel = facts.si_code > 0;
    // SAFETY: validity: for these signals, from the kernel, the address is set. aliasing: a shared read.
    let address = unsafe { facts.si_addr() } as usize;
    // SAFETY: validity: this is the handler that runs. aliasing: it is this handler's.
    let pointer = unsafe { signal::registers(context) }.map(|registers| registers.stack);
    if from_kernel && let Verdict::Overflow(bounds) = decide(address, pointer, registry::find(address)) {
        report(address, bounds);
    }
    // SAFETY: validity: the arguments are the kernel's own. aliasing: passed on, not used again.
    unsafe { signal::chain(number, info, context) };
}

#[cold]
fn report(address: usize, bounds: Bounds) -> ! {
    // AcqRel: one winner; nothing else is published.
    if REPORTING.fetch_add(1, AcqRel) > 0 {
        loop {
            // SAFETY: validity: waits for any signal; the reporter's abort ends the process. aliasing: none.
            unsafe { libc::pause() };
        }
    }
    let mut text = FaultText::new();
    // A full buffer cuts the text off; there is nothing better to do about it here.
    let _ = write_report(&mut text, address, bounds);
    let bytes = text.as_bytes();
    // SAFETY: validity: the buffer's own bytes. aliasing: read only.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: validity: ends the process. aliasing: none.
    unsafe { libc::abort() }
}

fn write_report(text: &mut FaultText, address: usize, bounds: Bounds) -> fmt::Result {
    text.write_str("\nbast: stack overflow: ")?;
    let before = text.len;
    // Acquire: pairs with the Release in `install`.
    let describe = DESCRIBE.load(Acquire);
    if describe != 0 {
        // SAFETY: validity: only `install` stores here, and it stores a `Describe`. aliasing: a function.
        let describe = unsafe { std::mem::transmute::<usize, Describe>(describe) };
        describe(address, text);
    }
    if text.len == before {
        text.write_str("a stack that no task is known to run on")?;
    }
    let (usable, guard) = (
        (bounds.top - bounds.limit) >> 10,
        (bounds.limit - bounds.base) >> 10,
    );
    write!(
        text,
        "\n  stack: {} KiB ({usable} KiB usable above a guard of {guard} KiB), {:#x}..{:#x}; touched {address:#x}\n",
        usable + guard,
        bounds.limit,
        bounds.top,
    )?;
    text.write_str(
        "  help: give the task a larger stack (`stack_size` of the task's or the runtime's builder: 64 KiB, \
         256 KiB, 1 MiB or 8 MiB),\n  or run the deep part inside `maybe_grow` or `on_big_stack`\n",
    )
}

/// This thread's stack for signal handlers; the earlier one comes back when it is dropped.
///
/// A worker thread makes one before it runs its first task. It has its own guard and is at least 64 KiB, and
/// twice what the CPU's registers need (`AT_MINSIGSTKSZ`: AVX-512 and AMX state is up to 11 KiB).
#[derive(Debug)]
pub struct AltStack {
    region: Region,
    earlier: libc::stack_t,
    /// It belongs to the thread that made it.
    _not_send: PhantomData<*mut ()>,
}

impl AltStack {
    /// Makes one for the calling thread.
    ///
    /// # Errors
    /// If there is no memory for it, or the thread is running on its present signal stack.
    pub fn new() -> Result<AltStack, StackError> {
        let bytes = pages_up(ALT_STACK_BYTES_MIN.max(2 * signal_frame_bytes()));
        let guard = page_bytes();
        let failed = |error: io::Error| StackError::from_memory(&error, bytes, "making a signal stack");
        let region = Region::reserve(guard + bytes, page_bytes()).map_err(failed)?;
        region.commit(guard, bytes).map_err(failed)?;
        let ours = libc::stack_t {
            ss_sp: (region.base() + guard) as *mut c_void,
            ss_flags: 0,
            ss_size: bytes,
        };
        let mut earlier = disabled();
        // SAFETY: validity: the range is mapped while this value lives. aliasing: it is used for nothing else.
        let result = check(unsafe { libc::sigaltstack(&raw const ours, &raw mut earlier) });
        result.map_err(failed)?;
        Ok(AltStack {
            region,
            earlier,
            _not_send: PhantomData,
        })
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let mut present = disabled();
        // SAFETY: validity: asks for the present one. aliasing: a local.
        unsafe { libc::sigaltstack(ptr::null(), &raw mut present) };
        let range = self.region.base()..self.region.base() + self.region.bytes();
        // Somebody has put another one in place since: then it is theirs to restore.
        if range.contains(&(present.ss_sp as usize)) {
            // SAFETY: validity: what the kernel gave us earlier. aliasing: ours is used no more.
            unsafe { libc::sigaltstack(&raw const self.earlier, ptr::null_mut()) };
        }
    }
}

fn disabled() -> libc::stack_t {
    libc::stack_t {
        ss_sp: ptr::null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: 0,
    }
}

/// What the kernel says a signal's register frame needs, at least.
fn signal_frame_bytes() -> usize {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: validity: any type may be asked for; unknown ones answer 0. aliasing: none.
        let bytes = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
        usize::try_from(bytes).unwrap_or(0).max(libc::MINSIGSTKSZ)
    }
    #[cfg(not(target_os = "linux"))]
    libc::MINSIGSTKSZ
}

fn check(code: c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
