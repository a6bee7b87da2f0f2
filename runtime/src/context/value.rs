//! Values that go down the tree with a context.

use super::Context;
use crate::primitive::atomic::AtomicU8;
use crate::sync::base::constructor;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A key of values of type `T` in a [`Context`]: a static, known by where it is, so that no two keys are the same.
///
/// ```
/// use bast::context::{Context, Key};
///
/// static USER: Key<String> = Key::new("user");
///
/// let context = Context::background().with_value(&USER, "gopher".to_owned());
/// assert_eq!(context.value(&USER).map(String::as_str), Some("gopher"));
/// assert_eq!(Context::background().value(&USER), None);
/// ```
pub struct Key<T> {
    name: &'static str,
    /// What changes cannot be a promoted constant: so every key is a static with a place of its own.
    _place: AtomicU8,
    value: PhantomData<fn() -> T>,
}

impl<T: Send + Sync + 'static> Key<T> {
    constructor! {
        /// A new key; the name is for people.
        pub fn new(name: &'static str) -> Key<T> {
            Key {
                name,
                _place: AtomicU8::new(0),
                value: PhantomData,
            }
        }
    }
}

impl<T> Key<T> {
    /// What it was called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn place(&'static self) -> usize {
        std::ptr::from_ref(self) as usize
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Key({})", self.name)
    }
}

/// One value, and those above.
pub(super) struct Link {
    key: usize,
    name: &'static str,
    value: Box<dyn Any + Send + Sync>,
    above: Option<Arc<Link>>,
}

impl Context {
    /// This context with one more value. It hides a value that the key has above.
    #[must_use = "it is a new context"]
    pub fn with_value<T: Send + Sync + 'static>(&self, key: &'static Key<T>, value: T) -> Context {
        let link = Link {
            key: key.place(),
            name: key.name,
            value: Box::new(value),
            above: self.values.clone(),
        };
        Context {
            cancel: self.cancel.clone(),
            values: Some(Arc::new(link)),
        }
    }

    /// The value that the key has here or nearest above.
    pub fn value<T: 'static>(&self, key: &'static Key<T>) -> Option<&T> {
        let mut place = self.values.as_deref();
        while let Some(link) = place {
            if link.key == key.place() {
                return link.value.downcast_ref();
            }
            place = link.above.as_deref();
        }
        None
    }

    /// The names of the keys, nearest first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static str> {
        let first = self.values.as_deref();
        std::iter::successors(first, |link| link.above.as_deref()).map(|link| link.name)
    }
}

impl Drop for Link {
    /// Goes up by a loop, because chains may be long.
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(mut last) = above.and_then(Arc::into_inner) {
            above = last.above.take();
        }
    }
}
