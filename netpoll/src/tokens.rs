//! Tokens that a call other than a wait handed out: what `close` and `set_deadline` return.

use std::collections::VecDeque;

/// The waiters that a call took out of a [`Source`](crate::Source); each of them must be woken.
///
/// An iterator over tokens, those who waited longest first. One token costs no allocation.
#[must_use = "each token is a waiter that sleeps until it is woken"]
#[derive(Debug, Default)]
pub struct Tokens {
    first: Option<usize>,
    rest: VecDeque<usize>,
}

impl Tokens {
    pub(crate) fn push(&mut self, token: usize) {
        if self.first.is_none() && self.rest.is_empty() {
            self.first = Some(token);
        } else {
            self.rest.push_back(token);
        }
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Nobody has to be woken.
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }
}

impl Iterator for Tokens {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl ExactSizeIterator for Tokens {
    fn len(&self) -> usize {
        Tokens::len(self)
    }
}
