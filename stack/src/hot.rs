//! `HotCache`: a processor's own free stacks of one class. No lock, no system call, last in first out.

use crate::error::StackError;
use crate::pool::Stacks;
use crate::sanitizer;
use crate::stack::{Stack, StackClass};

/// A processor's cache: only its owner touches it (`&mut self`).
///
/// Taking the stack that was put last finds its pages in memory and its top lines in the CPU's cache.
/// An empty cache refills half its capacity from [`Stacks`]; a full one gives its colder half back.
///
/// ```
/// use bast_stack::{Config, HotCache, StackClass, Stacks};
/// let stacks = Stacks::new(Config::default())?;
/// let mut cache = HotCache::new(StackClass::Default256K, 64);
/// let stack = cache.take(&stacks)?;
/// let top = stack.top();
/// cache.put(&stacks, stack);
/// let again = cache.take(&stacks)?;
/// assert_eq!(again.top(), top);
/// cache.put(&stacks, again);
/// cache.drain(&stacks);
/// # Ok::<(), bast_stack::StackError>(())
/// ```
#[derive(Debug)]
pub struct HotCache {
    class: StackClass,
    capacity: usize,
    stacks: Vec<Stack>,
}

impl HotCache {
    /// An empty cache of at most `capacity` stacks (at least 2).
    pub fn new(class: StackClass, capacity: usize) -> HotCache {
        let capacity = capacity.max(2);
        HotCache {
            class: class.on_this_machine(),
            capacity,
            stacks: Vec::with_capacity(capacity),
        }
    }

    /// The class of its stacks: the one asked for, unless this machine's pages are too large for it.
    pub fn class(&self) -> StackClass {
        self.class
    }

    /// How many it holds now.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// The warmest stack, or a batch from `stacks` if there is none.
    ///
    /// # Errors
    /// As [`Stacks::take`].
    #[inline]
    pub fn take(&mut self, stacks: &Stacks) -> Result<Stack, StackError> {
        let stack = match self.stacks.pop() {
            Some(stack) => stack,
            None => self.refill(stacks)?,
        };
        sanitizer::stack_taken(&stack);
        Ok(stack)
    }

    #[cold]
    fn refill(&mut self, stacks: &Stacks) -> Result<Stack, StackError> {
        stacks.take_batch(self.class, self.capacity / 2, &mut self.stacks)?;
        Ok(self.stacks.pop().expect("take_batch gives at least one"))
    }

    /// Keeps a stack on which nothing is alive any more. One of another class goes to `stacks` at once.
    #[inline]
    pub fn put(&mut self, stacks: &Stacks, stack: Stack) {
        if stack.class() != self.class {
            return stacks.put(stack);
        }
        if self.stacks.len() == self.capacity {
            self.overflow(stacks);
        }
        sanitizer::stack_put(&stack);
        self.stacks.push(stack);
    }

    #[cold]
    fn overflow(&mut self, stacks: &Stacks) {
        stacks.put_batch(self.class, self.stacks.drain(..self.capacity / 2));
    }

    /// Gives every stack back: before the processor ends, and before `stacks` is dropped.
    pub fn drain(&mut self, stacks: &Stacks) {
        stacks.put_batch(self.class, self.stacks.drain(..));
    }
}
