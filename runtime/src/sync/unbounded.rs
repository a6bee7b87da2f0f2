//! The buffer of an unbounded channel: a list of blocks. A queue that has grown long gives its memory back as it is
//! drained, and no value is ever moved to make room.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Values in a block.
const BLOCK: usize = 32;

struct Block<T> {
    next: Option<NonNull<Block<T>>>,
    values: [MaybeUninit<T>; BLOCK],
}

/// The values lie from place `head` of the first block to before place `tail` of the last one. Touched under the
/// channel's lock.
pub(crate) struct Blocks<T> {
    first: Option<NonNull<Block<T>>>,
    last: Option<NonNull<Block<T>>>,
    /// A block that was emptied last, so that a short queue allocates nothing as it moves along.
    spare: Option<NonNull<Block<T>>>,
    head: usize,
    tail: usize,
    len: usize,
}

// SAFETY: the blocks are owned by the list, and go where it goes with the values in them.
unsafe impl<T: Send> Send for Blocks<T> {}

impl<T> Blocks<T> {
    pub(crate) fn new() -> Blocks<T> {
        Blocks {
            first: None,
            last: None,
            spare: None,
            head: 0,
            tail: BLOCK,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends a value.
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        if self.tail == BLOCK {
            self.grow();
        }
        let last = self.last.expect("a list that has grown has a last block");
        // SAFETY: validity: blocks of the list are allocated. aliasing: `&mut self`, and no other borrow is alive.
        let last = unsafe { &mut *last.as_ptr() };
        last.values[self.tail].write(value);
        self.tail += 1;
        self.len += 1;
    }

    /// A block without values, to go before `next`.
    fn block(&mut self, next: Option<NonNull<Block<T>>>) -> NonNull<Block<T>> {
        if let Some(mut spare) = self.spare.take() {
            // SAFETY: validity: the spare block is allocated. aliasing: `&mut self`, and no other borrow is alive.
            unsafe { spare.as_mut() }.next = next;
            return spare;
        }
        let mut block = Box::<Block<T>>::new_uninit();
        let fresh = block.as_mut_ptr();
        // SAFETY: validity: a field of what was just allocated. aliasing: ours alone.
        let place = unsafe { &raw mut (*fresh).next };
        // SAFETY: as above.
        unsafe { place.write(next) };
        // SAFETY: validity: `next` is written, and the values need not be. aliasing: ours alone.
        NonNull::from(Box::leak(unsafe { block.assume_init() }))
    }

    #[cold]
    fn grow(&mut self) {
        let block = self.block(None);
        match self.last {
            // SAFETY: validity: blocks of the list are allocated. aliasing: `&mut self`, no other borrow is alive.
            Some(last) => unsafe { (*last.as_ptr()).next = Some(block) },
            None => {
                self.first = Some(block);
                self.head = 0;
            }
        }
        self.last = Some(block);
        self.tail = 0;
    }

    /// Puts a value before all others.
    #[cold]
    pub(crate) fn push_front(&mut self, value: T) {
        if self.len == 0 {
            return self.push(value);
        }
        if self.head == 0 {
            let block = self.block(self.first);
            self.first = Some(block);
            self.head = BLOCK;
        }
        let first = self.first.expect("a list with values has a first block");
        // SAFETY: validity: blocks of the list are allocated. aliasing: `&mut self`, and no other borrow is alive.
        let first = unsafe { &mut *first.as_ptr() };
        self.head -= 1;
        first.values[self.head].write(value);
        self.len += 1;
    }

    /// Takes the oldest value.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        let first = self.first.expect("a list with values has a first block");
        // SAFETY: validity: blocks of the list are allocated. aliasing: `&mut self`, and no other borrow is alive.
        let block = unsafe { &mut *first.as_ptr() };
        // SAFETY: validity: a value lies there, and leaves it for good as `head` moves on. aliasing: `&mut`.
        let value = unsafe { block.values[self.head].assume_init_read() };
        self.head += 1;
        self.len -= 1;
        if self.head == BLOCK {
            self.retire(first);
        }
        Some(value)
    }

    /// The first block has been emptied.
    #[cold]
    fn retire(&mut self, first: NonNull<Block<T>>) {
        // SAFETY: validity: blocks of the list are allocated. aliasing: `&mut self`, and no other borrow is alive.
        self.first = unsafe { (*first.as_ptr()).next.take() };
        self.head = 0;
        if self.first.is_none() {
            self.last = None;
            self.tail = BLOCK;
        }
        if let Some(spare) = self.spare.replace(first) {
            // SAFETY: it came from a box, and nothing points to it any more.
            drop(unsafe { Box::from_raw(spare.as_ptr()) });
        }
    }
}

impl<T> Drop for Blocks<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
        for block in self.first.into_iter().chain(self.spare) {
            // SAFETY: it came from a box, nothing points to it any more, and no value is in it. Of the list at most one
            // block is left when all values are out.
            drop(unsafe { Box::from_raw(block.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Blocks};
    use crate::util::rng::Rng;
    use std::collections::VecDeque;

    /// Random pushing and popping against std's queue.
    #[test]
    fn agrees_with_a_deque() {
        for seed in 0..20 {
            let mut rng = Rng::new(seed);
            let mut blocks = Blocks::new();
            let mut model = VecDeque::new();
            for round in 0..2000 {
                let growing = round / 250 % 2 == 0;
                if rng.below(16) == 0 {
                    blocks.push_front(Box::new(round));
                    model.push_front(Box::new(round));
                } else if rng.below(4) < if growing { 3 } else { 1 } {
                    blocks.push(Box::new(round));
                    model.push_back(Box::new(round));
                } else {
                    assert_eq!(blocks.pop(), model.pop_front(), "seed {seed}");
                }
                assert_eq!(blocks.len(), model.len());
            }
        }
    }

    /// What is left inside is dropped with the list, at every place of a block.
    #[test]
    fn drops_what_is_left() {
        for count in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK] {
            for taken in [0, count / 2, count] {
                let value = std::sync::Arc::new(());
                let mut blocks = Blocks::new();
                (0..count).for_each(|_| blocks.push(value.clone()));
                (0..taken).for_each(|_| drop(blocks.pop()));
                assert_eq!(std::sync::Arc::strong_count(&value), 1 + count - taken);
                drop(blocks);
                assert_eq!(std::sync::Arc::strong_count(&value), 1);
            }
        }
    }
}
