//! The buffer of a bounded channel: a ring of a fixed number of places, none for a rendezvous.

use std::mem::MaybeUninit;

/// Places `head .. head + len`, counted round, hold values. Touched under the channel's lock. A value that is given back
/// comes on top of the capacity, so there may be more places than that.
pub(crate) struct Ring<T> {
    places: Box<[MaybeUninit<T>]>,
    capacity: usize,
    head: usize,
    len: usize,
}

impl<T> Ring<T> {
    /// With so many places, allocated now.
    pub(crate) fn new(capacity: usize) -> Ring<T> {
        Ring {
            places: Box::new_uninit_slice(capacity),
            capacity,
            head: 0,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    /// Puts a value before all others, whether the ring is full or not.
    #[cold]
    pub(crate) fn push_front(&mut self, value: T) {
        if self.len == self.places.len() {
            let mut places = Box::new_uninit_slice(2 * self.len + 1);
            let len = self.len;
            for place in &mut places[..len] {
                place.write(self.pop().expect("a ring has as many values as it says"));
            }
            (self.places, self.head, self.len) = (places, 0, len);
        }
        self.head = self.head.checked_sub(1).unwrap_or(self.places.len() - 1);
        self.places[self.head].write(value);
        self.len += 1;
    }

    /// Appends a value; there is a place for it.
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        debug_assert!(self.len < self.places.len(), "a ring that is pushed to has room");
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
