//! Mutual exclusion around a value.

use super::base::{after, constructor};
use super::poison::Flag;
use super::raw_mutex::RawMutex;
use crate::primitive::model_is_over;
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

/// A value that one task or thread at a time may use, as [`std::sync::Mutex`].
///
/// Waiting parks the task, so a holder may park too: hold it across I/O or a channel operation as you like.
///
/// # Fairness
/// A freed mutex goes to whoever takes it first, which is mostly a task that runs anyway: that is fast. When a waiter
/// has waited for 1 ms, the mutex is handed from holder to holder in the order of coming, until one has waited less.
///
/// # Poisoning
/// As std's: if a holder panics, every later [`lock`](Mutex::lock) gives its guard in a [`PoisonError`], until
/// [`clear_poison`](Mutex::clear_poison).
///
/// # Deadlines
/// `lock` waits as long as it takes, whatever [`time::timeout`](crate::time::timeout) says, since it has no way to say
/// that it failed. [`lock_timeout`](Mutex::lock_timeout) heeds it.
///
/// ```
/// use bast::sync::Mutex;
/// static COUNT: Mutex<u32> = Mutex::new(0);
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let tasks: Vec<_> = (0..10)
///     .map(|_| bast::spawn(|| *COUNT.lock().unwrap() += 1))
///     .collect();
/// tasks.into_iter().for_each(|task| task.join().unwrap());
/// assert_eq!(*COUNT.lock().unwrap(), 10);
/// # }) }
/// ```
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    poison: Flag,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one at a time, whichever thread it is on: T: Send.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as for Send; a shared mutex gives out the value itself, not shared borrows of it.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// A panic while it is held poisons it.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

impl<T> Mutex<T> {
    constructor! {
        /// Free.
        pub fn new(value: T) -> Mutex<T> {
            Mutex {
                raw: RawMutex::new(),
                poison: Flag::new(),
                value: UnsafeCell::new(value),
            }
        }
    }

    /// The value.
    ///
    /// # Errors
    /// The value all the same, in an error, if the mutex is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        let value = self.value.into_inner();
        if poisoned {
            Err(PoisonError::new(value))
        } else {
            Ok(value)
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until nobody else holds the mutex, and takes it.
    ///
    /// Who locks a mutex that it holds already waits for ever.
    ///
    /// # Errors
    /// The guard all the same, in an error, if the mutex is poisoned.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.raw.lock(Location::caller());
        self.guard()
    }

    /// Takes the mutex if nobody holds it; never waits.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if somebody holds it; the guard, in an error, if it is poisoned.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if self.raw.try_lock() {
            Ok(self.guard()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// As [`Mutex::lock`], for at most `timeout`, and no longer than a [`time::timeout`](crate::time::timeout) around
    /// the call allows.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if the time is over; the guard, in an error, if it is poisoned.
    #[track_caller]
    pub fn lock_timeout(&self, timeout: Duration) -> TryLockResult<MutexGuard<'_, T>> {
        if self.raw.lock_until(after(timeout), Location::caller()) {
            Ok(self.guard()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// True if a holder has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Makes a poisoned mutex an ordinary one again: for who has put the value in order.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, for who has the mutex alone.
    ///
    /// # Errors
    /// The borrow all the same, in an error, if the mutex is poisoned.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.result(self.value.get_mut())
    }

    /// The mutex has just been taken.
    #[inline]
    fn guard(&self) -> LockResult<MutexGuard<'_, T>> {
        self.poison.result(MutexGuard {
            mutex: self,
            panicking: std::thread::panicking(),
        })
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => out.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => out.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => out.field("data", &format_args!("<locked>")),
        };
        out.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// The held [`Mutex`]; dropping it frees the mutex, without ever waiting.
///
/// Unlike std's it may move to another thread (it is [`Send`] if `T` is): nothing in the mutex belongs to a thread, and
/// a task takes its guards along wherever it runs.
#[must_use = "if unused the Mutex will immediately unlock"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// A panic was under way when it was taken, so it is no sign that the value is broken.
    panicking: bool,
}

// SAFETY: a shared guard gives shared borrows of the value. (Send, which gives the value itself, follows from `Mutex`
// being Sync, which asks for T: Send.)
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// What a condition variable releases and takes again.
    pub(super) fn raw(&self) -> &'a RawMutex {
        &self.mutex.raw
    }

    /// After a condition variable has taken the mutex again.
    pub(super) fn again(self) -> LockResult<MutexGuard<'a, T>> {
        let mutex = self.mutex;
        mutex.poison.result(self)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: validity: in the mutex. aliasing: the mutex is ours until the guard goes.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: validity: in the mutex. aliasing: the mutex is ours until the guard goes, and `self` is borrowed mutably.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if model_is_over() {
            return;
        }
        self.mutex.poison.note(self.panicking);
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}
