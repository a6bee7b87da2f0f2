//! How much stack is left? For tasks, big stacks and plain threads, without a `thread_local!`.
//!
//! The stack pointer is looked up in the registry. If it is on none of our stacks, it is on a thread's own,
//! whose bounds `pthread_getattr_np(3)` knows; that call allocates and, on the main thread, reads
//! `/proc/self/maps`, so its answer is kept in two pthread keys. They are read by calls that return by
//! value, so nothing about a thread is ever held across a switch, and a new thread starts with empty ones.

use crate::arch;
use crate::primitive::statics::OnceLock;
use crate::registry::{self, Bounds};
use std::ops::Range;
use std::ptr;

/// Bytes between the stack pointer and the lowest usable byte of the stack it is on.
///
/// Works in a task, inside [`on_big_stack`](crate::on_big_stack) and on a plain thread. `None` on a stack this
/// crate knows nothing of: a signal handler's, or another library's coroutine.
///
/// ```
/// assert!(bast_stack::remaining().expect("a test runs on a thread") > 16 << 10);
/// ```
#[inline]
pub fn remaining() -> Option<usize> {
    let pointer = arch::stack_pointer();
    let limit = limit_of(pointer)?;
    Some(pointer.saturating_sub(limit))
}

/// The calling thread's own stack, from its lowest usable byte; also while the thread is on another one. `None` where the
/// system does not tell.
///
/// ```
/// let local = 0_u8;
/// let stack = bast_stack::thread_stack().expect("known on this system");
/// assert!(stack.contains(&std::ptr::from_ref(&local).addr()));
/// ```
///
/// Takes memory at its first call on a thread, so it is not for signal handlers.
pub fn thread_stack() -> Option<Range<usize>> {
    thread_bounds().map(|bounds| bounds.limit..bounds.top)
}

/// The lowest usable byte of the stack that `pointer` is on.
fn limit_of(pointer: usize) -> Option<usize> {
    bounds_of(pointer).map(|bounds| bounds.limit)
}

/// One past the highest byte of the stack that `pointer` is on.
pub(crate) fn top_of(pointer: usize) -> Option<usize> {
    bounds_of(pointer).map(|bounds| bounds.top)
}

fn bounds_of(pointer: usize) -> Option<Bounds> {
    registry::find(pointer).or_else(|| {
        let thread = thread_bounds()?;
        (thread.limit..=thread.top).contains(&pointer).then_some(thread)
    })
}

struct Keys {
    limit: libc::pthread_key_t,
    top: libc::pthread_key_t,
}

fn keys() -> Option<&'static Keys> {
    static KEYS: OnceLock<Option<Keys>> = OnceLock::new();
    KEYS.get_or_init(|| {
        Some(Keys {
            limit: make_key()?,
            top: make_key()?,
        })
    })
    .as_ref()
}

fn make_key() -> Option<libc::pthread_key_t> {
    let mut key = 0;
    // SAFETY: validity: `key` is writable; no destructor. aliasing: it is ours alone.
    let code = unsafe { libc::pthread_key_create(&raw mut key, None) };
    (code == 0).then_some(key)
}

/// The bounds of the calling thread's own stack.
#[inline(never)]
fn thread_bounds() -> Option<Bounds> {
    let keys = keys()?;
    // SAFETY: validity: the keys were made and are never deleted. aliasing: the values are plain numbers.
    let limit = unsafe { libc::pthread_getspecific(keys.limit) } as usize;
    // SAFETY: as above.
    let top = unsafe { libc::pthread_getspecific(keys.top) } as usize;
    if limit != 0 {
        return Some(Bounds {
            base: limit,
            limit,
            top,
        });
    }
    let bounds = ask_pthread()?;
    for (key, value) in [(keys.limit, bounds.limit), (keys.top, bounds.top)] {
        // SAFETY: validity: the keys were made. aliasing: the value is a number, never dereferenced.
        let code = unsafe { libc::pthread_setspecific(key, ptr::without_provenance(value)) };
        if code != 0 {
            return Some(bounds);
        }
    }
    Some(bounds)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn ask_pthread() -> Option<Bounds> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: validity: every thread has a name for itself. aliasing: none.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: validity: initialises `attributes` if it answers 0. aliasing: a local.
    let code = unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) };
    if code != 0 {
        return None;
    }
    let (mut address, mut bytes) = (ptr::null_mut(), 0);
    // SAFETY: validity: initialised above. aliasing: locals.
    let code = unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut address, &raw mut bytes) };
    // SAFETY: validity: initialised above, and not used again. aliasing: a local.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    let limit = address as usize;
    (code == 0 && limit != 0).then(|| Bounds {
        base: limit,
        limit,
        top: limit + bytes,
    })
}

#[cfg(target_vendor = "apple")]
fn ask_pthread() -> Option<Bounds> {
    // SAFETY: validity: every thread has a name for itself. aliasing: none.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: validity: asks about this thread. aliasing: none.
    let top = unsafe { libc::pthread_get_stackaddr_np(this) } as usize;
    // SAFETY: as above.
    let bytes = unsafe { libc::pthread_get_stacksize_np(this) };
    let limit = top.checked_sub(bytes)?;
    Some(Bounds {
        base: limit,
        limit,
        top,
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn ask_pthread() -> Option<Bounds> {
    None
}
