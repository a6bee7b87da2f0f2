//! Signal handlers in front of those that are there, which get what is not ours: the only place that installs one.
//!
//! A handler is installed once a process and stays, because a signal of ours may arrive long after it was sent. What it finds
//! not to be its own it gives to [`chain`], which does what would have happened without it.
//!
//! ```
//! use std::ffi::{c_int, c_void};
//!
//! unsafe extern "C" fn ours(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
//!     // ... not one of ours, by what `info` says:
//!     unsafe { bast_stack::signal::chain(signal, info, context) };
//! }
//! bast_stack::signal::install(libc::SIGURG, ours, libc::SA_RESTART)?;
//! assert!(bast_stack::signal::put_in_front(libc::SIGURG)?, "nobody came in between");
//! # Ok::<(), std::io::Error>(())
//! ```

use crate::primitive::statics::{
    AtomicUsize, Mutex, OnceLock,
    Ordering::{Relaxed, Release},
    lock,
};
use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;

/// What is installed: with `SA_SIGINFO`, so it has this form.
pub type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Signals of all systems are below.
const SIGNALS: usize = 129;

/// A signal of which we have the handler.
struct Taken {
    /// Ours, as an address; 0: none.
    ours: AtomicUsize,
    flags: OnceLock<c_int>,
    /// The action found at [`install`].
    earlier: OnceLock<libc::sigaction>,
}

static TAKEN: [Taken; SIGNALS] = [const {
    Taken {
        ours: AtomicUsize::new(0),
        flags: OnceLock::new(),
        earlier: OnceLock::new(),
    }
}; SIGNALS];
static INSTALLING: Mutex<()> = Mutex::new(());

/// Installs a handler in front of the one that is there, once a process: a second time nothing is done, wherever ours is
/// by then. It runs on the alternate signal stack; `flags` are further `SA_` flags.
///
/// The handler runs in the middle of arbitrary code, so it must be async-signal-safe, and leave `errno` as it was.
///
/// # Errors
/// [`ResourceBusy`](io::ErrorKind::ResourceBusy) if another handler was installed by this function for the signal, and
/// whatever `sigaction(2)` says.
pub fn install(signal: c_int, handler: Handler, flags: c_int) -> io::Result<()> {
    let taken = taken(signal).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let _installing = lock(&INSTALLING);
    // Relaxed: changed under the lock only.
    match taken.ours.load(Relaxed) {
        0 => {}
        own if own == handler as usize => return Ok(()),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("signal {signal} is in use by another part of bast"),
            ));
        }
    }
    // Known before the first signal can ask for it.
    let _ = taken.earlier.set(present(signal)?);
    let _ = taken.flags.set(flags);
    set(signal, handler as usize, flags)?;
    // Release: publishes nothing but itself.
    taken.ours.store(handler as usize, Release);
    Ok(())
}

/// Is our handler the one that is called first? If somebody has put the default action back, or has the signal ignored, it is
/// installed once more. False: there is another handler, which was installed after ours and may or may not pass signals on.
///
/// # Errors
/// If [`install`] was never called for the signal, and whatever `sigaction(2)` says.
pub fn put_in_front(signal: c_int) -> io::Result<bool> {
    let none = || io::Error::from_raw_os_error(libc::EINVAL);
    let taken = taken(signal).ok_or_else(none)?;
    let _installing = lock(&INSTALLING);
    let ours = taken.ours.load(Relaxed); // changed under the lock only
    if ours == 0 {
        return Err(none());
    }
    match present(signal)?.sa_sigaction {
        first if first == ours => Ok(true),
        libc::SIG_DFL | libc::SIG_IGN => {
            set(signal, ours, taken.flags.get().copied().unwrap_or(0))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Does what would have happened without us: calls the handler that was there at [`install`], ignores the signal, or lets
/// the default action happen.
///
/// # Safety
/// The arguments are those of the handler that runs, for a signal that [`install`] was called for.
pub unsafe fn chain(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let earlier = taken(signal)
        .and_then(|taken| taken.earlier.get().copied())
        .unwrap_or(const { empty_action() });
    let faults = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
    ];
    // SAFETY: validity: as our caller says, it is what the kernel passed. aliasing: a copy.
    let is_fault = faults.contains(&signal) && unsafe { (*info).si_code } > 0;
    let ignored = [libc::SIGURG, libc::SIGCHLD, libc::SIGWINCH, libc::SIGCONT];
    match earlier.sa_sigaction {
        libc::SIG_IGN if !is_fault => {}
        libc::SIG_DFL if ignored.contains(&signal) => {}
        // The kernel does not let a fault be ignored. With the default action back, the instruction faults
        // again as soon as we return, and the process dies with the right signal at the right place.
        libc::SIG_DFL | libc::SIG_IGN => {
            let default = empty_action();
            // SAFETY: validity: the default action. aliasing: none.
            unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) };
            if !is_fault {
                // SAFETY: validity: pending until we return, since it is blocked in its own handler.
                unsafe { libc::raise(signal) };
            }
        }
        address if earlier.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: validity: with SA_SIGINFO a handler has this form. aliasing: a function.
            let action = unsafe { std::mem::transmute::<usize, Handler>(address) };
            // SAFETY: validity: the kernel's own arguments. aliasing: passed on.
            unsafe { action(signal, info, context) };
        }
        address => {
            // SAFETY: validity: without SA_SIGINFO a handler has this form. aliasing: a function.
            let action = unsafe { std::mem::transmute::<usize, unsafe extern "C" fn(c_int)>(address) };
            // SAFETY: validity: the kernel's own argument. aliasing: none.
            unsafe { action(signal) };
        }
    }
}

fn taken(signal: c_int) -> Option<&'static Taken> {
    TAKEN.get(usize::try_from(signal).ok()?)
}

const fn empty_action() -> libc::sigaction {
    // SAFETY: validity: all zeroes is SIG_DFL with an empty mask and no flags. aliasing: a value.
    unsafe { std::mem::zeroed() }
}

fn present(signal: c_int) -> io::Result<libc::sigaction> {
    let mut present = empty_action();
    // SAFETY: validity: asks for the present action. aliasing: a local.
    check(unsafe { libc::sigaction(signal, ptr::null(), &raw mut present) })?;
    Ok(present)
}

fn set(signal: c_int, handler: usize, flags: c_int) -> io::Result<()> {
    let mut ours = empty_action();
    ours.sa_sigaction = handler;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | flags;
    // SAFETY: validity: it has the three-argument form that SA_SIGINFO promises, as `Handler` says. aliasing: none.
    check(unsafe { libc::sigaction(signal, &raw const ours, ptr::null_mut()) })
}

fn check(code: c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Where the interrupted code was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    pub(crate) instruction: usize,
    pub(crate) stack: usize,
    /// May be anything.
    pub(crate) frame: usize,
}

/// The registers of the interrupted code, where this crate knows the context's layout.
///
/// # Safety
/// `context` is the third argument of a running handler.
pub(crate) unsafe fn registers(context: *const c_void) -> Option<Registers> {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: validity: as our caller says, with SA_SIGINFO it is a ucontext. aliasing: it is the handler's.
        let saved = unsafe { &(*context).uc_mcontext.gregs };
        let word = |register: c_int| saved[register as usize].cast_unsigned() as usize;
        Some(Registers {
            instruction: word(libc::REG_RIP),
            stack: word(libc::REG_RSP),
            frame: word(libc::REG_RBP),
        })
    }
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: validity: as our caller says, with SA_SIGINFO it is a ucontext. aliasing: it is the handler's.
        let saved = unsafe { &(*context).uc_mcontext };
        Some(Registers {
            instruction: saved.pc as usize,
            stack: saved.sp as usize,
            frame: saved.regs[29] as usize,
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = context;
        None
    }
}
