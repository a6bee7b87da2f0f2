//! A value that many may read or one may write.

use super::base::{NEVER, after, constructor};
use super::poison::Flag;
use super::raw_rwlock::{READ, RawRwLock, WRITE};
use crate::primitive::model_is_over;
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

/// A value that many tasks and threads may read at once, or one may write, as [`std::sync::RwLock`].
///
/// # Fairness
/// Nobody starves. While somebody waits, all who come queue. After a writer all readers that wait by then go, after
/// them the writer that has waited longest. So a task that reads while it holds a read guard of the same lock may wait
/// for ever: for a writer that waits for it.
///
/// # Poisoning
/// As std's: a writer that panics poisons it, a reader does not.
///
/// # Deadlines
/// `read` and `write` wait as long as it takes, whatever [`time::timeout`](crate::time::timeout) says;
/// `read_timeout` and `write_timeout` heed it.
///
/// ```
/// use bast::sync::RwLock;
/// let lock = RwLock::new(5);
/// {
///     let one = lock.read().unwrap();
///     let two = lock.read().unwrap(); // both at once
///     assert_eq!(*one + *two, 10);
/// }
/// *lock.write().unwrap() += 1;
/// assert_eq!(*lock.read().unwrap(), 6);
/// ```
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    poison: Flag,
    value: UnsafeCell<T>,
}

// SAFETY: a writer reaches the value alone, whichever thread it is on: T: Send.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as for Send; and readers on several threads share the value: T: Sync.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// A panic while it is held for writing poisons it.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

impl<T> RwLock<T> {
    constructor! {
        /// Free.
        pub fn new(value: T) -> RwLock<T> {
            RwLock {
                raw: RawRwLock::new(),
                poison: Flag::new(),
                value: UnsafeCell::new(value),
            }
        }
    }

    /// The value.
    ///
    /// # Errors
    /// The value all the same, in an error, if the lock is poisoned.
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

impl<T: ?Sized> RwLock<T> {
    /// Waits until the lock may be read, and holds it for reading.
    ///
    /// # Errors
    /// The guard all the same, in an error, if the lock is poisoned.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.raw.lock(READ, NEVER, false, Location::caller());
        self.read_guard()
    }

    /// Holds the lock for reading if nobody writes or waits; never waits.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if somebody writes or waits; the guard, in an error, if it is poisoned.
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if self.raw.try_lock(READ) {
            Ok(self.read_guard()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// As [`RwLock::read`], for at most `timeout`, and no longer than a [`time::timeout`](crate::time::timeout) around
    /// the call allows.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if the time is over; the guard, in an error, if it is poisoned.
    #[track_caller]
    pub fn read_timeout(&self, timeout: Duration) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if self.raw.lock(READ, after(timeout), true, Location::caller()) {
            Ok(self.read_guard()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Waits until nobody else holds the lock, and holds it for writing.
    ///
    /// # Errors
    /// The guard all the same, in an error, if the lock is poisoned.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.raw.lock(WRITE, NEVER, false, Location::caller());
        self.write_guard()
    }

    /// Holds the lock for writing if nobody holds it or waits for it; never waits.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if somebody does; the guard, in an error, if it is poisoned.
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if self.raw.try_lock(WRITE) {
            Ok(self.write_guard()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// As [`RwLock::write`], for at most `timeout`, and no longer than a [`time::timeout`](crate::time::timeout) around
    /// the call allows.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if the time is over; the guard, in an error, if it is poisoned.
    #[track_caller]
    pub fn write_timeout(&self, timeout: Duration) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if self.raw.lock(WRITE, after(timeout), true, Location::caller()) {
            Ok(self.write_guard()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// True if a writer has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Makes a poisoned lock an ordinary one again: for who has put the value in order.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, for who has the lock alone.
    ///
    /// # Errors
    /// The borrow all the same, in an error, if the lock is poisoned.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.result(self.value.get_mut())
    }

    fn read_guard(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.poison.result(RwLockReadGuard::of(self))
    }

    fn write_guard(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.poison.result(RwLockWriteGuard {
            lock: self,
            panicking: std::thread::panicking(),
        })
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => out.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => out.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => out.field("data", &format_args!("<locked>")),
        };
        out.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// The [`RwLock`] held for reading; dropping it never waits. As a [`MutexGuard`](super::MutexGuard) it may move to
/// another thread.
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    /// In the lock. Not a borrow of the lock itself, which would make the guard invariant in `T`.
    value: NonNull<T>,
    raw: &'a RawRwLock,
}

// SAFETY: wherever the guard goes it gives shared borrows of the value, and frees a lock that is no thread's.
unsafe impl<T: ?Sized + Sync> Send for RwLockReadGuard<'_, T> {}
// SAFETY: as for Send.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// Of a lock that is held for reading.
    #[inline]
    fn of(lock: &'a RwLock<T>) -> Self {
        // SAFETY: validity: a reference's target. aliasing: a pointer only; a reader reads it.
        let value = unsafe { NonNull::new_unchecked(lock.value.get()) };
        RwLockReadGuard {
            value,
            raw: &lock.raw,
        }
    }
}

/// The [`RwLock`] held for writing; dropping it never waits. As a [`MutexGuard`](super::MutexGuard) it may move to
/// another thread.
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// A panic was under way when it was taken, so it is no sign that the value is broken.
    panicking: bool,
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Goes on as a reader, without letting another writer in between; readers that wait come in too.
    pub fn downgrade(guard: Self) -> RwLockReadGuard<'a, T> {
        let guard = ManuallyDrop::new(guard);
        guard.lock.poison.note(guard.panicking);
        guard.lock.raw.downgrade();
        RwLockReadGuard::of(guard.lock)
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: validity: in the lock, which is borrowed. aliasing: nobody writes while a reader holds it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: validity: in the lock. aliasing: the lock is ours until the guard goes.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: validity: in the lock. aliasing: the lock is ours until the guard goes, and `self` is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if model_is_over() {
            return;
        }
        self.raw.unlock_read();
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if model_is_over() {
            return;
        }
        self.lock.poison.note(self.panicking);
        self.lock.raw.unlock_write();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}
