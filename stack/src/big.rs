//! Running a closure on a larger stack, and coming back.
//!
//! Big stacks come from one source for the whole process: slots of the pool's classes up to 8 MiB, single
//! mappings above. Nothing about them is kept per thread, so a task may park inside and go on elsewhere.
//!
//! Hysteresis: a stack that comes back keeps its pages while few are free ([`KEEP_BYTES`]), so code that
//! crosses the boundary again and again makes no system call; beyond that the pages are given back at once,
//! so that one deep recursion does not hold its memory for ever.

use crate::arch;
use crate::bounds::remaining;
use crate::error::StackError;
use crate::layout::{guard_bytes, page_bytes, pages_up};
use crate::pool::{Config, Stacks, discard_all};
use crate::primitive::statics::{Mutex, OnceLock, lock};
use crate::region::{self, Region};
use crate::registry::Registration;
use crate::sanitizer::{Announced, Detour};
use crate::stack::{Stack, StackClass};
use crate::unwind::{catch_unwind, resume_unwind};
use std::mem::ManuallyDrop;
use std::panic::AssertUnwindSafe;
use std::thread;

/// Free big stacks of a class keep their pages up to this many bytes together (at least one stack does).
const KEEP_BYTES: usize = 16 << 20;

/// Single mappings kept for the next caller, and the largest kept.
const KEEP_SINGLES: usize = 2;
const KEEP_SINGLE_BYTES_MAX: usize = 1 << 30;

/// What a call on a big stack itself needs there, besides what `f` may use.
const OVERHEAD_BYTES: usize = 4096;

/// Runs `f` here if at least `red_zone` bytes of stack are left, else on another stack of at least `size`.
///
/// Put it into a recursive function whose depth depends on input. A recursion through it may be as deep as
/// memory allows; the frames stay where they are, and the stacks are given back on the way out.
///
/// ```
/// fn depth(levels: usize) -> usize {
///     bast_stack::maybe_grow(32 << 10, 1 << 20, || if levels == 0 { 0 } else { 1 + depth(levels - 1) })
/// }
/// assert_eq!(depth(100_000), 100_000);
/// ```
///
/// # Panics
/// With the text of the [`StackError`] if there is no memory for the larger stack; and with `f`'s panic.
#[inline]
pub fn maybe_grow<R>(red_zone: usize, size: usize, f: impl FnOnce() -> R) -> R {
    match remaining() {
        Some(bytes) if bytes >= red_zone => f(),
        _ => on_big_stack(size.max(red_zone), f),
    }
}

/// Runs `f` on another stack with at least `size` usable bytes, and comes back with its result.
///
/// For C libraries with frames of unknown size, and for code known to need much stack. May be nested. A task
/// may park inside `f`.
///
/// ```
/// let sum = bast_stack::on_big_stack(4 << 20, || {
///     let large = [1_u8; 2 << 20];
///     large.iter().map(|&byte| u64::from(byte)).sum::<u64>()
/// });
/// assert_eq!(sum, 2 << 20);
/// ```
///
/// # Panics
/// With the text of the [`StackError`] if there is no memory for it; and with `f`'s panic.
pub fn on_big_stack<R>(size: usize, f: impl FnOnce() -> R) -> R {
    match try_on_big_stack(size, f) {
        Ok(result) => result,
        Err(error) => panic!("no larger stack to be had: {error}"),
    }
}

/// As [`on_big_stack`], but tells when there is no memory for the larger stack; `f` was not called then.
///
/// # Errors
/// What refused the stack, and how to raise it.
pub fn try_on_big_stack<R>(size: usize, f: impl FnOnce() -> R) -> Result<R, StackError> {
    let stack = BigStack::take(size.saturating_add(OVERHEAD_BYTES))?;
    let mut job = Job {
        f: ManuallyDrop::new(f),
        result: None,
        detour: Detour::new(),
    };
    stack.call(&mut job);
    drop(stack);
    match job.result.expect("the job ran") {
        Ok(value) => Ok(value),
        Err(payload) => resume_unwind(payload),
    }
}

struct Job<F, R> {
    f: ManuallyDrop<F>,
    result: Option<thread::Result<R>>,
    detour: Detour,
}

/// Runs a job on the stack it was called on; a panic becomes its result.
unsafe extern "C" fn run<F: FnOnce() -> R, R>(job: *mut u8) {
    // SAFETY: validity: `BigStack::call` passes its job. aliasing: the caller waits for us on its own stack.
    let job = unsafe { &mut *job.cast::<Job<F, R>>() };
    job.detour.arrive();
    // SAFETY: validity: taken once, since a job runs once. aliasing: as above.
    let f = unsafe { ManuallyDrop::take(&mut job.f) };
    job.result = Some(catch_unwind(AssertUnwindSafe(f)));
    job.detour.turn_back();
}

/// A big stack in use; given back when dropped.
enum BigStack {
    Pooled(ManuallyDrop<Stack>),
    Single(ManuallyDrop<Single>),
}

struct Single {
    // Before the region: fields are dropped in order, and nobody may find an address that is unmapped.
    _registration: Registration,
    _announced: Announced,
    region: Region,
    guard: usize,
}

static SINGLES: Mutex<Vec<Single>> = Mutex::new(Vec::new());

fn source() -> Result<&'static Stacks, StackError> {
    static SOURCE: OnceLock<Stacks> = OnceLock::new();
    if let Some(stacks) = SOURCE.get() {
        return Ok(stacks);
    }
    let stacks = Stacks::new(Config::default())?;
    Ok(SOURCE.get_or_init(|| stacks))
}

impl BigStack {
    fn take(usable: usize) -> Result<BigStack, StackError> {
        match StackClass::for_usable_bytes(usable) {
            Some(class) => source()?
                .take(class)
                .map(|stack| BigStack::Pooled(ManuallyDrop::new(stack))),
            None => Single::take(usable).map(|single| BigStack::Single(ManuallyDrop::new(single))),
        }
    }

    fn bounds(&self) -> (usize, usize) {
        match self {
            BigStack::Pooled(stack) => (stack.limit(), stack.top()),
            BigStack::Single(single) => (single.limit(), single.top()),
        }
    }

    fn call<F: FnOnce() -> R, R>(&self, job: &mut Job<F, R>) {
        let (limit, top) = self.bounds();
        job.detour.set_out(limit, top);
        // SAFETY: validity: the stack is ours, guarded and empty; `run` does not unwind.
        //         aliasing: the job is borrowed for the whole call.
        unsafe { arch::call_on((&raw mut *job).cast(), run::<F, R>, top) };
        job.detour.return_home();
    }
}

impl Drop for BigStack {
    fn drop(&mut self) {
        match self {
            BigStack::Pooled(stack) => {
                // SAFETY: validity: taken once, in drop. aliasing: `self` is not used again.
                give_back(unsafe { ManuallyDrop::take(stack) });
            }
            BigStack::Single(single) => {
                // SAFETY: as above.
                unsafe { ManuallyDrop::take(single) }.give_back();
            }
        }
    }
}

fn give_back(stack: Stack) {
    let Ok(stacks) = source() else {
        unreachable!("a pooled stack came from the source")
    };
    let class = stack.class();
    let free = stacks.warm(class);
    if free > 0 && (free + 1) * class.bytes() > KEEP_BYTES {
        discard_all(&stack);
    }
    stacks.put(stack);
}

impl Single {
    fn take(usable: usize) -> Result<Single, StackError> {
        {
            let mut kept = lock(&SINGLES);
            if let Some(index) = kept
                .iter()
                .position(|single| single.top() - single.limit() >= usable)
            {
                return Ok(kept.swap_remove(index));
            }
        }
        let guard = guard_bytes(usable);
        let bytes = pages_up(usable.saturating_add(guard));
        let failed = |error: std::io::Error| StackError::from_memory(&error, bytes, "mapping a large stack");
        let region = Region::reserve(bytes, page_bytes()).map_err(failed)?;
        // The guard stays as reserved, inaccessible: two mappings for one stack do not matter.
        region.commit(guard, region.bytes() - guard).map_err(failed)?;
        let registration = Registration::add(region.base(), region.base() + region.bytes(), 0, guard);
        let mut announced = Announced::default();
        announced.add(region.base() + guard, region.base() + region.bytes());
        let single = Single {
            _registration: registration,
            _announced: announced,
            region,
            guard,
        };
        Ok(single)
    }

    fn limit(&self) -> usize {
        self.region.base() + self.guard
    }

    fn top(&self) -> usize {
        self.region.base() + self.region.bytes()
    }

    /// Keeps it for the next caller, with at most [`KEEP_BYTES`] of its pages, or unmaps it.
    fn give_back(self) {
        if self.region.bytes() > KEEP_SINGLE_BYTES_MAX {
            return;
        }
        let below = self.top().saturating_sub(KEEP_BYTES).max(self.limit());
        // SAFETY: validity: both ends are page boundaries in the region. aliasing: nothing there is alive.
        let _ = unsafe { region::discard(self.limit(), below - self.limit()) };
        let mut kept = lock(&SINGLES);
        if kept.len() < KEEP_SINGLES {
            kept.push(self);
        }
    }
}
