//! Something that is done once, by whoever comes first.
//!
//! ```text
//!                 begin              the closure returns
//!  ┌────────────┐ ────► ┌─────────┐ ─────────────────────► ┌──────┐
//!  │ INCOMPLETE │       │ RUNNING │                        │ DONE │
//!  └────────────┘       └─────────┘ ──────┐                └──────┘
//!                         ▲  begin, forced │ the closure panics
//!                         │                ▼
//!                         │        ┌──────────┐
//!                         └─────── │ POISONED │
//!                                  └──────────┘
//! ```
//! With `WAITING` added to any state but `DONE` once somebody waits for the end of a closure: set under the queue's lock,
//! carried along when a closure begins, and gone when one ends, because that wakes all.
//!
//! Memory ordering: the end of `RUNNING` is Release, every look Acquire: what the closure did is seen by all who find it
//! done, and what a closure that panicked left by who tries after it.

use super::base::{Caller, Lock, NEVER, Reason, constructor, leaf};
use super::waitlist::{Wait, Waitlist, wait_in};
use crate::primitive::atomic::{AcqRel, Acquire, AtomicU32, Ordering};
use std::cell::Cell;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};

/// Nobody has begun.
const INCOMPLETE: u32 = 0;
/// The closure panicked.
const POISONED: u32 = 1;
/// The closure runs.
const RUNNING: u32 = 2;
/// Done.
const DONE: u32 = 3;
/// Added to the others: somebody waits.
const WAITING: u32 = 4;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const END: Ordering = if cfg!(bast_plant = "once_end_relaxed") {
    Acquire
} else {
    AcqRel
};

/// Runs one closure once, however many come, as [`std::sync::Once`].
///
/// While it runs, all others wait; they park, so the closure may park as well. If it panics the `Once` is poisoned, and
/// [`call_once`](Once::call_once) panics from then on.
///
/// Calls wait as long as it takes, whatever [`time::timeout`](crate::time::timeout) says. Calling it from within its own
/// closure waits for ever.
///
/// ```
/// use bast::sync::Once;
/// static START: Once = Once::new();
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let tasks: Vec<_> = (0..10)
///     .map(|_| bast::spawn(|| START.call_once(|| println!("once"))))
///     .collect();
/// tasks.into_iter().for_each(|task| task.join().unwrap());
/// assert!(START.is_completed());
/// # }) }
/// ```
pub struct Once {
    word: AtomicU32,
    waiters: Lock<Waitlist>,
}

// A closure that panics poisons it.
impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

fn list(waiters: &mut Waitlist) -> &mut Waitlist {
    waiters
}

impl Once {
    constructor! {
        /// Nobody has begun.
        pub fn new() -> Once {
            Once {
                word: AtomicU32::new(INCOMPLETE),
                waiters: leaf(Waitlist::new()),
            }
        }
    }

    /// Runs `f` if nobody has; in any case, it has been run to its end when this returns, and what it did is visible.
    ///
    /// # Panics
    /// With `f`'s panic; and if an earlier closure panicked.
    #[inline]
    #[track_caller]
    pub fn call_once(&self, f: impl FnOnce()) {
        if !self.is_completed() {
            self.call(false, |_| f(), Location::caller());
        }
    }

    /// As [`Once::call_once`], but tries again after a closure that panicked; the [`OnceState`] tells which it is.
    ///
    /// # Panics
    /// With `f`'s panic.
    #[inline]
    #[track_caller]
    pub fn call_once_force(&self, f: impl FnOnce(&OnceState)) {
        if !self.is_completed() {
            self.call(true, f, Location::caller());
        }
    }

    /// True once a closure has returned. What it did is visible then.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.word.load(Acquire) == DONE
    }

    /// Waits until a closure has returned; begins none.
    ///
    /// # Panics
    /// If a closure has panicked.
    #[track_caller]
    pub fn wait(&self) {
        if !self.is_completed() {
            self.wait_for_done(false, Location::caller());
        }
    }

    /// As [`Once::wait`], but goes on waiting after a closure that panicked, for one that does not.
    #[track_caller]
    pub fn wait_force(&self) {
        if !self.is_completed() {
            self.wait_for_done(true, Location::caller());
        }
    }

    #[cold]
    fn call(&self, force: bool, f: impl FnOnce(&OnceState), at: &'static Location<'static>) {
        let mut seen = self.word.load(Acquire);
        let poisoned = loop {
            match seen & !WAITING {
                DONE => return,
                RUNNING => seen = self.wait_for_change(RUNNING, at),
                POISONED if !force => poisoned(),
                state => {
                    let running = RUNNING | (seen & WAITING);
                    match self.word.compare_exchange(seen, running, Acquire, Acquire) {
                        Ok(_) => break state == POISONED,
                        Err(now) => seen = now,
                    }
                }
            }
        };
        let state = OnceState {
            poisoned,
            after: Cell::new(DONE),
        };
        let end = End {
            once: self,
            to: POISONED,
        };
        f(&state);
        end.reached(state.after.get());
    }

    #[cold]
    fn wait_for_done(&self, force: bool, at: &'static Location<'static>) {
        let mut seen = self.word.load(Acquire);
        loop {
            match seen & !WAITING {
                DONE => return,
                POISONED if !force => poisoned(),
                state => seen = self.wait_for_change(state, at),
            }
        }
    }

    /// In `state`, waits until the closure that runs is over, or the next one if none runs. Gives the word.
    fn wait_for_change(&self, state: u32, at: &'static Location<'static>) -> u32 {
        let mut caller = Caller::to_wait();
        let waiters = self.waiters.lock();
        let mut seen = self.word.load(Acquire);
        while seen & !WAITING == state || cfg!(bast_plant = "once_wait_blindly") {
            match self
                .word
                .compare_exchange_weak(seen, seen | WAITING, Acquire, Acquire)
            {
                Ok(_) => {
                    let wait = Wait {
                        payload: std::ptr::null_mut(),
                        first: false,
                        deadline: NEVER,
                        reason: Reason::Once,
                        at,
                    };
                    let ended = wait_in(&mut caller, &self.waiters, waiters, list, &wait, |_| ());
                    debug_assert!(ended.is_ok(), "a wait without a limit is ended by its waker");
                    return self.word.load(Acquire);
                }
                Err(now) => seen = now,
            }
        }
        seen
    }

    /// The closure is over.
    fn end(&self, to: u32) {
        if self.word.swap(to, END) & WAITING == 0 {
            return;
        }
        let mut caller = Caller::to_wake();
        let all = self.waiters.lock().claim_all();
        all.finish(0, &mut caller);
    }
}

#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("Once instance has previously been poisoned")
}

/// Ends the run of a closure, also when it panics.
struct End<'a> {
    once: &'a Once,
    to: u32,
}

impl End<'_> {
    fn reached(mut self, to: u32) {
        self.to = to;
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.once.end(self.to);
    }
}

impl Default for Once {
    fn default() -> Self {
        Once::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Once").finish_non_exhaustive()
    }
}

/// What [`Once::call_once_force`] tells its closure, as [`std::sync::OnceState`].
#[derive(Debug)]
pub struct OnceState {
    poisoned: bool,
    /// What comes after the closure.
    after: Cell<u32>,
}

impl OnceState {
    /// True if an earlier closure panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// The closure has failed without a panic: as if nobody had begun.
    pub(super) fn undo(&self) {
        self.after.set(INCOMPLETE);
    }
}
