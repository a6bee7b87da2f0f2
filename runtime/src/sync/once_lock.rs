//! Values that are made once: when somebody has one, or when it is first asked for.

use super::base::constructor;
use super::once::Once;
use crate::primitive::model_is_over;
use std::cell::{Cell, UnsafeCell};
use std::convert::Infallible;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// A place for a value that is written once, as [`std::sync::OnceLock`].
///
/// Those who need the value while another makes it park. A maker that panics leaves the place empty for the next.
///
/// ```
/// use bast::sync::OnceLock;
/// static NAME: OnceLock<String> = OnceLock::new();
/// assert_eq!(NAME.get_or_init(|| "bast".to_owned()), "bast");
/// assert_eq!(NAME.set("other".to_owned()), Err("other".to_owned()));
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// Initialised once `once` is completed.
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value goes along.
unsafe impl<T: Send> Send for OnceLock<T> {}
// SAFETY: one thread may put a value in (T: Send), and all share it then (T: Sync); `once` orders the two.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    constructor! {
        /// Empty.
        pub fn new() -> OnceLock<T> {
            OnceLock {
                once: Once::new(),
                value: UnsafeCell::new(MaybeUninit::uninit()),
            }
        }
    }

    /// The value, if it is there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.once.is_completed() {
            // SAFETY: validity: in the place. aliasing: nobody writes any more while it is shared.
            let value = unsafe { &*self.value.get() };
            // SAFETY: validity: completed, so initialised. aliasing: as above.
            Some(unsafe { value.assume_init_ref() })
        } else {
            None
        }
    }

    /// The value, if it is there, for who has the place alone.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if self.once.is_completed() {
            // SAFETY: validity: completed, so initialised. aliasing: `self` is borrowed mutably.
            Some(unsafe { self.value.get_mut().assume_init_mut() })
        } else {
            None
        }
    }

    /// Waits until the value is there.
    #[track_caller]
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        self.get().expect("the wait is for the value")
    }

    /// Puts the value there; waits while another makes one.
    ///
    /// # Errors
    /// Gives the value back if there is one already.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("a maker is called once"));
        value.map_or(Ok(()), Err)
    }

    /// The value; `make` is called for it if there is none.
    ///
    /// # Panics
    /// With `make`'s panic; the place stays empty then. If `make` asks for the value itself it waits for ever.
    #[inline]
    #[track_caller]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let made = self.get_or_try_init(|| Ok::<T, Infallible>(make()));
        match made {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// As [`OnceLock::get_or_init`], for a maker that may fail.
    ///
    /// # Errors
    /// `make`'s; the place stays empty then, and the next caller makes the value.
    #[inline]
    #[track_caller]
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let mut failed = None;
        self.once.call_once_force(|state| match make() {
            // SAFETY: validity: in the place. aliasing: `once` runs one closure at a time, and shows the place to nobody
            // before it is over.
            Ok(value) => unsafe {
                (*self.value.get()).write(value);
            },
            Err(error) => {
                failed = Some(error);
                state.undo();
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(self.get().expect("a completed call has made the value")),
        }
    }

    /// The value, if it is there.
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }

    /// Takes the value out, for who has the place alone, and leaves it empty.
    pub fn take(&mut self) -> Option<T> {
        if !self.once.is_completed() {
            return None;
        }
        self.once = Once::new();
        // SAFETY: validity: it was completed, so initialised. aliasing: taken out once: the place counts as empty now.
        Some(unsafe { self.value.get_mut().assume_init_read() })
    }
}

impl<T> Drop for OnceLock<T> {
    fn drop(&mut self) {
        if model_is_over() {
            return;
        }
        drop(self.take());
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let place = OnceLock::new();
        let _ = place.set(value);
        place
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> Self {
        self.get()
            .map_or_else(OnceLock::new, |value| OnceLock::from(value.clone()))
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => out.debug_tuple("OnceLock").field(value).finish(),
            None => out.write_str("OnceLock(<uninit>)"),
        }
    }
}

/// A value that is made when it is first used, as [`std::sync::LazyLock`].
///
/// If its maker panics it is poisoned: every later use panics.
///
/// ```
/// use bast::sync::LazyLock;
/// static TABLE: LazyLock<Vec<u32>> = LazyLock::new(|| (0..10).map(|i| i * i).collect());
/// assert_eq!(TABLE[3], 9);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    place: OnceLock<T>,
    /// Taken by the one who makes the value.
    make: Cell<Option<F>>,
}

// SAFETY: the maker is touched by one thread only, the one that `place` lets make the value: F: Send. The rest is as
// for OnceLock.
unsafe impl<T: Send + Sync, F: Send> Sync for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}
impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    constructor! {
        /// Not made yet.
        pub fn new(make: F) -> LazyLock<T, F> {
            LazyLock {
                place: OnceLock::new(),
                make: Cell::new(Some(make)),
            }
        }
    }

    /// The value; the first call makes it, others wait meanwhile.
    ///
    /// # Panics
    /// With the maker's panic, and if it has panicked before.
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.place.get_or_init(|| match this.make.take() {
            Some(make) => make(),
            None => panic!("LazyLock instance has previously been poisoned"),
        })
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;
    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> Self {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.get() {
            Some(value) => out.debug_tuple("LazyLock").field(value).finish(),
            None => out.write_str("LazyLock(<uninit>)"),
        }
    }
}
