//! The buffer of a bounded channel: a ring of a fixed number of places, none for a rendezvous.

use std::mem::MaybeUninit;

/// Places `head .. head + len`, counted round, hold values. Touched under the channel's lock.
pub(crate) struct Ring<T> {
    places: Box<[MaybeUninit<T>]>,
    head: usize,
    len: usize,
}

impl<T> Ring<T> {
    /// With so many places, allocated now.
    pub(crate) fn new(capacity: usize) -> Ring<T> {
        Ring {
            places: Box::new_uninit_slice(capacity),
            head: 0,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len == self.places.len()
    }

    /// Appends a value; the ring is not full.
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        debug_assert!(!self.is_full(), "a ring that is pushed to has room");
        // No overflow: `capacity - head` is at least one.
        let till_end = self.places.len() - self.head;
        let at = if self.len < till_end {
            self.head + self.len
        } else {
            self.len - till_end
        };
        self.places[at].write(value);
        self.len += 1;
    }

    /// Takes the oldest value.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: validity: the place holds a value, which leaves it for good as `head` moves on. aliasing: `&mut`.
        let value = unsafe { self.places[self.head].assume_init_read() };
        self.head += 1;
        if self.head == self.places.len() {
            self.head = 0;
        }
        self.len -= 1;
        Some(value)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
