//! A cell for a place in the source, which anybody may read at any time.

use crate::primitive::atomic::{AtomicPtr, Relaxed};
use std::fmt;
use std::panic::Location;

/// See the module.
pub(crate) struct Place(AtomicPtr<Location<'static>>);

impl Place {
    pub(crate) fn new(at: &'static Location<'static>) -> Place {
        Place(AtomicPtr::new(std::ptr::from_ref(at).cast_mut()))
    }

    #[inline]
    pub(crate) fn set(&self, at: &'static Location<'static>) {
        // Relaxed: what it points to is there from the beginning.
        self.0.store(std::ptr::from_ref(at).cast_mut(), Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> &'static Location<'static> {
        // SAFETY: validity: only references to static Locations are stored. aliasing: they are immutable.
        unsafe { &*self.0.load(Relaxed) }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.get(), out)
    }
}
