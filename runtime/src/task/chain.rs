//! Tasks chained through their headers' `link`: what lists of tasks and of free entries are made of. A chain changes hands
//! as a whole, with two words, however long it is.

use super::header::TaskRef;

/// A chain, which owns its tasks or free entries (Rule 2 of `header`).
#[derive(Debug, Default)]
pub(crate) struct Chain {
    first: Option<TaskRef>,
    last: Option<TaskRef>,
    len: usize,
}

// SAFETY: validity: headers are never unmapped. aliasing: the chain owns its entries and so their links.
unsafe impl Send for Chain {}

impl Chain {
    pub(crate) const fn new() -> Chain {
        Chain {
            first: None,
            last: None,
            len: 0,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends.
    pub(crate) fn push(&mut self, task: TaskRef) {
        task.link.set(None);
        match self.last.replace(task) {
            Some(last) => last.link.set(Some(task)),
            None => self.first = Some(task),
        }
        self.len += 1;
    }

    /// Puts before the first.
    #[inline]
    pub(crate) fn push_front(&mut self, task: TaskRef) {
        task.link.set(self.first);
        if self.first.replace(task).is_none() {
            self.last = Some(task);
        }
        self.len += 1;
    }

    /// Takes the first.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<TaskRef> {
        let task = self.first?;
        self.first = task.link.replace(None);
        if self.first.is_none() {
            self.last = None;
        }
        self.len -= 1;
        Some(task)
    }

    /// Appends all of `other`, whatever its length, at the cost of one.
    pub(crate) fn append(&mut self, other: Chain) {
        let Some(first) = other.first else { return };
        match self.last {
            Some(last) => last.link.set(Some(first)),
            None => self.first = Some(first),
        }
        self.last = other.last;
        self.len += other.len;
    }
}

impl FromIterator<TaskRef> for Chain {
    fn from_iter<I: IntoIterator<Item = TaskRef>>(tasks: I) -> Chain {
        let mut chain = Chain::new();
        tasks.into_iter().for_each(|task| chain.push(task));
        chain
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Chain;
    use crate::task::header::{Header, TaskRef};
    use std::ptr::NonNull;

    /// Free entries that live for ever, as those of the slab do.
    pub(crate) fn entries(count: usize) -> Vec<TaskRef> {
        (0..count)
            .map(|_| TaskRef(NonNull::from(Box::leak(Box::new(Header::free())))))
            .collect()
    }

    fn drain(mut chain: Chain) -> Vec<TaskRef> {
        let all: Vec<_> = std::iter::from_fn(|| chain.pop()).collect();
        assert_eq!((chain.len(), chain.is_empty()), (0, true));
        all
    }

    #[test]
    fn keeps_its_order_at_both_ends() {
        let tasks = entries(4);
        let mut chain: Chain = tasks[1..3].iter().copied().collect();
        chain.push_front(tasks[0]);
        chain.push(tasks[3]);
        assert_eq!(chain.len(), 4);
        assert_eq!(drain(chain), tasks);
        let mut chain = Chain::new();
        chain.push_front(tasks[1]);
        chain.push(tasks[2]);
        assert_eq!(drain(chain), tasks[1..3]);
    }

    #[test]
    fn chains_are_appended_whole() {
        let tasks = entries(5);
        let mut chain = Chain::new();
        chain.append(Chain::new());
        chain.append(tasks[..2].iter().copied().collect());
        chain.append(Chain::new());
        chain.append(tasks[2..].iter().copied().collect());
        assert_eq!(chain.len(), 5);
        assert_eq!(drain(chain), tasks);
    }
}
