//! Task-local values: keys are statics, the values hang off the task's header.
//!
//! # Where a value is
//! In a box of its own, found through a short list in the task's `Extra`; so a value stays where it is while the list
//! grows, and a task that uses no key has no list. On a plain thread the list is the thread's. The list is borrowed for a
//! look or a change only, never while code of the user's runs.
//!
//! # When it goes
//! When the task's function has ended, before its end can be seen by whoever joins it, values are dropped in the reverse
//! order of their making. A destructor may use other keys; one that is gone is gone, and says so. A task that is leaked
//! with its runtime never ends, nor do its values. What a task has inherited and never ran to use is dropped with its
//! closure.
//!
//! # Rules
//! 1. A list is touched by the task or thread it belongs to, and before the task's first run by its spawner.
//! 2. A value is dropped only by [`Locals::end`] or at the end of the `scope` that has put it there: after all that
//!    borrow it, because those borrows are calls of `with` further up the same stack.

use crate::current;
use crate::primitive::atomic::AtomicU8;
use crate::sched::inside::Inside;
use crate::sched::worker::current_task;
use crate::task::header::{Extra, TaskRef};
use bast_stack::catch_unwind;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::ptr::NonNull;

/// Declares task-local keys, in the manner of [`std::thread_local!`]: each task has its own value, made by the
/// initialiser when it first asks.
///
/// `inherit static` makes a key whose value, if the spawning task has one, is cloned into each task that it spawns.
/// Then the type must be `Clone` and `Send`. Others begin anew in each task.
///
/// ```
/// use std::cell::{Cell, RefCell};
///
/// bast::task_local! {
///     /// How many orders this task has seen.
///     static SEEN: Cell<u32> = Cell::new(0);
///     /// For the log, in all tasks that work on one request.
///     pub inherit static REQUEST: RefCell<String> = RefCell::default();
/// }
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// SEEN.set(7);
/// REQUEST.set("r1".to_owned());
/// let child = bast::spawn(|| (SEEN.get(), REQUEST.with_borrow(String::clone)));
/// assert_eq!(child.join().unwrap(), (0, "r1".to_owned()));
/// assert_eq!(SEEN.get(), 7);
/// # }) }
/// ```
///
/// See [`LocalKey`] for what can be done with a key.
#[macro_export]
macro_rules! task_local {
    () => {};
    ($(#[$meta:meta])* $vis:vis static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$meta])*
        $vis static $name: $crate::task::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::task::LocalKey::new(init)
        };
        $($crate::task_local! { $($rest)* })?
    };
    ($(#[$meta:meta])* $vis:vis inherit static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$meta])*
        $vis static $name: $crate::task::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::task::LocalKey::inherited(init)
        };
        $($crate::task_local! { $($rest)* })?
    };
}

/// A key of task-local values, declared by [`task_local!`](crate::task_local!).
///
/// A value is the task's: it goes where the task goes, may be borrowed across calls that park, and is dropped at the
/// task's end. On a plain thread, where there is no task, a key has a value of the thread's own.
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    /// For a key that is inherited.
    copy: Option<Copier>,
    /// What changes cannot be a promoted constant: so every key is a static with a place of its own.
    _place: AtomicU8,
}

/// The value of a key is gone: its task or thread is coming to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError(());

impl fmt::Display for AccessError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the task-local value is gone: its task is at its end")
    }
}

impl Error for AccessError {}

/// A box, of whoever takes it out of its list.
type Value = NonNull<dyn Any>;

/// Clones a value of the key's type.
type Copier = fn(&dyn Any) -> Option<Box<dyn Any>>;

#[derive(Clone, Copy)]
enum Slot {
    /// The box is ours.
    Alive(Value),
    /// Dropped, or about to be.
    Gone,
}

struct Entry {
    key: usize,
    copy: Option<Copier>,
    slot: Slot,
}

#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    ended: bool,
}

/// The values of one task or thread.
#[derive(Default)]
pub(crate) struct Locals(RefCell<Table>);

impl fmt::Debug for Locals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.try_borrow().map_or(0, |table| table.entries.len());
        write!(out, "Locals({count})")
    }
}

impl Table {
    fn find(&mut self, key: usize) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }
}

impl Locals {
    /// What the key has, if anything.
    fn look(&self, key: usize) -> Result<Option<Value>, AccessError> {
        let mut table = self.0.borrow_mut();
        match table.find(key).map(|entry| entry.slot) {
            Some(Slot::Alive(value)) => Ok(Some(value)),
            Some(Slot::Gone) => Err(AccessError(())),
            None if table.ended => Err(AccessError(())),
            None => Ok(None),
        }
    }

    /// Gives the key another slot, or takes its entry away, and gives the slot it had.
    fn exchange<T>(&self, key: &'static LocalKey<T>, slot: Option<Slot>) -> Option<Slot> {
        let mut table = self.0.borrow_mut();
        let place = table.entries.iter().position(|entry| entry.key == key.place());
        match (place, slot) {
            (Some(place), Some(slot)) => Some(std::mem::replace(&mut table.entries[place].slot, slot)),
            (Some(place), None) => Some(table.entries.remove(place).slot),
            (None, Some(slot)) => {
                table.entries.push(Entry {
                    key: key.place(),
                    copy: key.copy,
                    slot,
                });
                None
            }
            (None, None) => None,
        }
    }

    /// Drops all values, those that are made meanwhile too. A panic in a destructor ends that destructor only.
    #[cold]
    pub(crate) fn end(&self) {
        loop {
            let mut table = self.0.borrow_mut();
            let alive = table.entries.iter_mut().rev().find_map(|entry| match entry.slot {
                Slot::Alive(value) => {
                    entry.slot = Slot::Gone;
                    Some(value)
                }
                Slot::Gone => None,
            });
            let Some(value) = alive else {
                table.ended = true;
                return;
            };
            drop(table);
            // SAFETY: it came out of the list, which owned it (Rule 2).
            let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { reclaim(value) })));
        }
    }

    /// Is there anything for a spawned task?
    #[inline]
    pub(crate) fn has_heirs(&self) -> bool {
        let table = self.0.borrow();
        table.entries.iter().any(|entry| entry.copy.is_some())
    }

    /// Clones what is inherited. Code of the user's: not inside the runtime.
    fn copy(&self) -> Locals {
        let copies = Locals::default();
        let mut next = 0;
        loop {
            let table = self.0.borrow();
            let Some(entry) = table.entries.get(next) else {
                return copies;
            };
            next += 1;
            let (Slot::Alive(value), Some(copy), key) = (entry.slot, entry.copy, entry.key) else {
                continue;
            };
            drop(table);
            // SAFETY: validity: in the list of the calling task; no scope ends and no list ends in this call (Rule 2).
            // aliasing: shared borrow.
            if let Some(value) = copy(unsafe { value.as_ref() }) {
                copies.0.borrow_mut().entries.push(Entry {
                    key,
                    copy: Some(copy),
                    slot: Slot::Alive(NonNull::from(Box::leak(value))),
                });
            }
        }
    }
}

impl Drop for Locals {
    fn drop(&mut self) {
        self.end();
    }
}

/// # Safety
/// The value is out of its list and scope, and nobody else reclaims it.
unsafe fn reclaim(value: Value) -> Box<dyn Any> {
    // SAFETY: validity: all values are boxes. aliasing: the caller's alone, it says.
    unsafe { Box::from_raw(value.as_ptr()) }
}

/// Gives a task that is about to be spawned what it inherits from the calling task. Not inside the runtime.
pub(crate) fn bequeath(extra: &mut Option<Box<Extra>>) {
    let Some(spawner) = current_task() else {
        return;
    };
    if let Some(own) = spawner.extra().filter(|own| own.locals.has_heirs()) {
        extra.get_or_insert_default().locals = own.locals.copy();
    }
}

impl Inside {
    /// Has the running task values for those that it spawns?
    #[inline]
    pub(crate) fn has_heirs(&self) -> bool {
        let task = self.worker().current.get();
        task.is_some_and(|task| task.extra().is_some_and(|extra| extra.locals.has_heirs()))
    }
}

impl TaskRef {
    /// Drops the values of a task whose function has ended, or will never run.
    #[inline]
    pub(crate) fn end_locals(self) {
        if let Some(extra) = self.extra() {
            extra.locals.end();
        }
    }
}

/// The list of the calling task, or of the thread.
fn with_own<R>(f: impl FnOnce(&Locals) -> R) -> Result<R, AccessError> {
    match current_task() {
        Some(task) => Ok(f(&task.extra_or_new().locals)),
        None => {
            let own = current::thread_locals().ok_or(AccessError(()))?;
            // SAFETY: validity: of this thread, which is not at its end, and does not end in `f`. aliasing: shared
            // borrow.
            Ok(f(unsafe { own.as_ref() }))
        }
    }
}

impl<T: 'static> LocalKey<T> {
    /// For the macro.
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> LocalKey<T> {
        LocalKey {
            init,
            copy: None,
            _place: AtomicU8::new(0),
        }
    }

    /// For the macro.
    #[doc(hidden)]
    pub const fn inherited(init: fn() -> T) -> LocalKey<T>
    where
        T: Clone + Send,
    {
        LocalKey {
            init,
            copy: Some(|value| Some(Box::new(value.downcast_ref::<T>()?.clone()))),
            _place: AtomicU8::new(0),
        }
    }

    fn place(&'static self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// The task's value, which `make` makes if there is none.
    fn value(&'static self, make: impl FnOnce() -> T) -> Result<NonNull<T>, AccessError> {
        let mut found = with_own(|own| own.look(self.place()))??;
        if found.is_none() {
            let made = make(); // code of the user's, which may use this key too: then what that made stays
            found = with_own(|own| own.look(self.place()))??;
            if found.is_none() {
                let value: Value = NonNull::from(Box::leak(Box::new(made)));
                with_own(|own| own.exchange(self, Some(Slot::Alive(value))))?;
                found = Some(value);
            }
        }
        let value = found.expect("it was made if it was not there");
        // SAFETY: validity: alive, as it was found or made just now, and nothing of the user's runs since. aliasing:
        // shared borrow, which ends here.
        debug_assert!(unsafe { value.as_ref() }.is::<T>(), "a key has one type");
        Ok(value.cast())
    }

    /// Calls `f` with the task's value, which is made if this is the first time. `f` may park.
    ///
    /// # Panics
    /// If the value is gone; see [`LocalKey::try_with`].
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).unwrap_or_else(|error| panic!("bast: {error}"))
    }

    /// As [`LocalKey::with`].
    ///
    /// # Errors
    /// [`AccessError`] if the value is gone, because the task or thread is at its end: in the destructor of another
    /// task-local value, or of the task's result.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = self.value(self.init)?;
        // SAFETY: validity: alive until the end of the task, or of the scope that we are in (Rule 2). aliasing: shared
        // borrows only.
        Ok(f(unsafe { value.as_ref() }))
    }

    /// Runs `f` with `value` as the task's; afterwards the one from before is there again, and `value` is dropped.
    ///
    /// ```
    /// # use std::cell::Cell;
    /// bast::task_local! { static DEPTH: Cell<u32> = Cell::new(0) }
    ///
    /// # // SAFETY: nothing bound to a thread is used.
    /// # unsafe { bast::run(|| {
    /// DEPTH.set(1);
    /// DEPTH.scope(Cell::new(2), || assert_eq!(DEPTH.get(), 2));
    /// assert_eq!(DEPTH.get(), 1);
    /// # }) }
    /// ```
    ///
    /// # Panics
    /// If the value is gone, as [`LocalKey::with`], and with `f`'s panic.
    #[track_caller]
    pub fn scope<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        if let Err(error) = with_own(|own| own.look(self.place())).flatten() {
            panic!("bast: {error}");
        }
        let value: Value = NonNull::from(Box::leak(Box::new(value)));
        let before = with_own(|own| own.exchange(self, Some(Slot::Alive(value))));
        let _restore = Restore {
            key: self,
            before: before.ok().flatten(),
        };
        f()
    }
}

/// The end of a scope, also by a panic.
struct Restore<T: 'static> {
    key: &'static LocalKey<T>,
    before: Option<Slot>,
}

impl<T: 'static> Drop for Restore<T> {
    fn drop(&mut self) {
        let ours = with_own(|own| own.exchange(self.key, self.before));
        if let Ok(Some(Slot::Alive(value))) = ours {
            // SAFETY: the scope put it there and has taken it out; what borrowed it was called in the scope (Rule 2).
            drop(unsafe { reclaim(value) });
        }
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value. Does not run the initialiser.
    ///
    /// # Panics
    /// As [`LocalKey::with`].
    #[track_caller]
    pub fn set(&'static self, value: T) {
        drop(self.swap_in(value));
    }

    /// The value.
    ///
    /// # Panics
    /// As [`LocalKey::with`].
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value and leaves the type's default.
    ///
    /// # Panics
    /// As [`LocalKey::with`].
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Puts another value in, and gives what was there.
    ///
    /// # Panics
    /// As [`LocalKey::with`].
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }

    /// None: there was no value, and the new one was put in without the initialiser.
    #[track_caller]
    fn swap_in(&'static self, value: T) -> Option<T> {
        let mut value = Some(value);
        let cell = self.value(|| Cell::new(value.take().expect("it is made once")));
        let cell = cell.unwrap_or_else(|error| panic!("bast: {error}"));
        // SAFETY: as in `try_with`.
        value.map(|value| unsafe { cell.as_ref() }.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with a shared borrow of the contents. `f` may park.
    ///
    /// # Panics
    /// If it is mutably borrowed, and as [`LocalKey::with`].
    #[track_caller]
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with a mutable borrow of the contents. `f` may park.
    ///
    /// # Panics
    /// If it is borrowed, and as [`LocalKey::with`].
    #[track_caller]
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the contents. Does not run the initialiser.
    ///
    /// # Panics
    /// If they are borrowed, and as [`LocalKey::with`].
    #[track_caller]
    pub fn set(&'static self, value: T) {
        let mut value = Some(value);
        let cell = self.value(|| RefCell::new(value.take().expect("it is made once")));
        let cell = cell.unwrap_or_else(|error| panic!("bast: {error}"));
        if let Some(value) = value {
            // SAFETY: as in `try_with`.
            drop(unsafe { cell.as_ref() }.replace(value));
        }
    }

    /// Takes the contents and leaves the type's default.
    ///
    /// # Panics
    /// If they are borrowed, and as [`LocalKey::with`].
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Puts other contents in, and gives what was there.
    ///
    /// # Panics
    /// If they are borrowed, and as [`LocalKey::with`].
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LocalKey").finish_non_exhaustive()
    }
}
