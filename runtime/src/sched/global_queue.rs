//! The queue that all processors share: overflow, foreign wake-ups, tasks that yielded for fairness. Under the
//! scheduler's lock; its length is also an atomic, so that an empty one costs a load.
//!
//! It holds chains of a few tasks, not tasks: half a ring comes and goes under the lock with a handful of words. Its headers
//! were last written by another CPU, so walking through them costs a miss each, and is left to whoever takes them, after
//! the lock.

use crate::primitive::atomic::{AtomicUsize, Relaxed, Release};
use crate::task::chain::Chain;
use crate::task::header::TaskRef;
use std::collections::VecDeque;

/// Tasks in a chain, at most: small enough that whole chains make a fair share, large enough to be worth it.
pub(crate) const CHAIN_MAX: usize = 32;

/// The queue. Lives under the scheduler's lock.
#[derive(Debug, Default)]
pub(crate) struct GlobalQueue {
    /// None of them empty.
    chains: VecDeque<Chain>,
    len: usize,
}

impl GlobalQueue {
    /// Appends; `mirror` is the atomic length.
    pub(crate) fn push(&mut self, task: TaskRef, mirror: &AtomicUsize) {
        match self.chains.back_mut() {
            Some(last) if last.len() < CHAIN_MAX => last.push(task),
            _ => self.chains.push_back(Chain::from_iter([task])),
        }
        self.grow(1, mirror);
    }

    /// Appends a whole chain of at most [`CHAIN_MAX`].
    pub(crate) fn push_chain(&mut self, chain: Chain, mirror: &AtomicUsize) {
        debug_assert!(chain.len() <= CHAIN_MAX, "a chain that no share has room for");
        let more = chain.len();
        if more > 0 {
            self.chains.push_back(chain);
            self.grow(more, mirror);
        }
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self, mirror: &AtomicUsize) -> Option<TaskRef> {
        let first = self.chains.front_mut()?;
        let task = first.pop();
        if first.is_empty() {
            self.chains.pop_front();
        }
        self.shrink(1, mirror);
        task
    }

    /// Takes the first `most` tasks or, where a chain would have to be cut, some fewer; one at least, if there is one.
    pub(crate) fn take(&mut self, most: usize, mirror: &AtomicUsize) -> Chain {
        let mut taken = Chain::new();
        while let Some(chain) = self
            .chains
            .pop_front_if(|chain| taken.len() + chain.len() <= most)
        {
            taken.append(chain);
        }
        if taken.is_empty()
            && let Some(first) = self.chains.front_mut()
        {
            taken = std::iter::from_fn(|| first.pop()).take(most).collect();
        }
        self.shrink(taken.len(), mirror);
        taken
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn grow(&mut self, more: usize, mirror: &AtomicUsize) {
        self.len += more;
        // Release: the tasks come before it; pairs with Acquire in `Shared::has_global`.
        mirror.store(self.len, Release);
    }

    fn shrink(&mut self, less: usize, mirror: &AtomicUsize) {
        self.len -= less;
        mirror.store(self.len, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{CHAIN_MAX, GlobalQueue};
    use crate::primitive::atomic::{AtomicUsize, Relaxed};
    use crate::task::chain::tests::entries;
    use crate::task::header::TaskRef;

    /// What `take` gives, which is what it takes off both lengths.
    fn take(queue: &mut GlobalQueue, most: usize, len: &AtomicUsize) -> Vec<TaskRef> {
        let before = queue.len();
        let mut chain = queue.take(most, len);
        let taken: Vec<_> = std::iter::from_fn(|| chain.pop()).collect();
        assert_eq!(
            (queue.len(), len.load(Relaxed)),
            (before - taken.len(), queue.len())
        );
        taken
    }

    #[test]
    fn is_first_in_first_out() {
        let tasks = entries(CHAIN_MAX * 2 + 5);
        let len = AtomicUsize::new(0);
        let mut queue = GlobalQueue::default();
        for round in 0..3 {
            tasks.iter().for_each(|&task| queue.push(task, &len));
            assert_eq!(len.load(Relaxed), tasks.len(), "round {round}");
            for &task in &tasks {
                assert_eq!(queue.pop(&len), Some(task));
            }
            assert_eq!(queue.pop(&len), None);
            assert_eq!((queue.len(), len.load(Relaxed)), (0, 0));
        }
    }

    #[test]
    fn whole_chains_are_taken_and_one_is_cut_only_if_it_is_the_first() {
        let tasks = entries(CHAIN_MAX + 10);
        let len = AtomicUsize::new(0);
        let mut queue = GlobalQueue::default();
        queue.push_chain(tasks[..CHAIN_MAX].iter().copied().collect(), &len);
        queue.push_chain(tasks[CHAIN_MAX..].iter().copied().collect(), &len);
        assert_eq!(take(&mut queue, 1, &len), tasks[..1]);
        assert_eq!(take(&mut queue, CHAIN_MAX + 1, &len), tasks[1..CHAIN_MAX]);
        queue.push(tasks[0], &len);
        assert_eq!(
            take(&mut queue, CHAIN_MAX, &len),
            [&tasks[CHAIN_MAX..], &tasks[..1]].concat()
        );
        assert_eq!(take(&mut queue, 1, &len), []);
    }

    #[test]
    fn several_chains_make_a_share() {
        let tasks = entries(CHAIN_MAX * 3);
        let len = AtomicUsize::new(0);
        let mut queue = GlobalQueue::default();
        tasks.iter().for_each(|&task| queue.push(task, &len));
        assert_eq!(take(&mut queue, CHAIN_MAX * 2 + 1, &len), tasks[..CHAIN_MAX * 2]);
        assert_eq!(take(&mut queue, usize::MAX, &len), tasks[CHAIN_MAX * 2..]);
    }
}
