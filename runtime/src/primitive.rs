//! Atomics, cells and locks from `std`, or from loom under `--cfg bast_loom`.
//!
//! The only file of this crate that names `std::sync::atomic`. A private cfg, so that a user's own
//! `--cfg loom` does not change what we are built on. Protocol files import nothing else, which is what
//! lets a model checker run them. Loom takes SeqCst accesses for AcqRel: order with `fence(SeqCst)`.
#![allow(
    unused_imports,
    dead_code,
    reason = "each build uses its own subset of the facade"
)]

#[cfg(not(bast_loom))]
mod imp {
    pub(crate) use std::{hint::spin_loop, sync::Arc, thread::yield_now};
    pub(crate) mod atomic {
        pub(crate) use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
        pub(crate) use std::sync::atomic::{
            AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, compiler_fence, fence,
        };
    }

    /// True while loom ends a model that has failed: nothing of loom's may be touched any more, or the report is lost.
    #[inline(always)]
    pub(crate) const fn model_is_over() -> bool {
        false
    }

    /// What users get, in `sync`.
    pub(crate) mod public {
        /// Atomics, as in [`std::sync::atomic`]. Under `--cfg bast_loom` they are loom's, so that what is built on them can be
        /// [model-checked](crate::guide::checking): the one reason to use these rather than std's.
        pub mod atomic {
            pub use std::sync::atomic::{
                AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8,
                AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
            };
        }
    }

    /// [`std::cell::UnsafeCell`] with loom's access methods; under loom they check for races.
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }
        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner()
        }
        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(bast_loom)]
mod imp {
    use std::mem::ManuallyDrop;

    pub(crate) use loom::{cell::UnsafeCell, thread::yield_now, thread::yield_now as spin_loop};

    /// A panic ends the model: destructors that it runs must let go of what is loom's without telling loom.
    pub(crate) fn model_is_over() -> bool {
        std::thread::panicking()
    }

    /// Loom's, but for [`model_is_over`].
    #[derive(Debug)]
    #[allow(unnameable_types, reason = "models need only hold it")]
    pub struct Arc<T>(ManuallyDrop<loom::sync::Arc<T>>);

    impl<T> Arc<T> {
        pub fn new(value: T) -> Arc<T> {
            Arc(ManuallyDrop::new(loom::sync::Arc::new(value)))
        }

        pub(crate) fn into_raw(this: Arc<T>) -> *const T {
            let mut this = ManuallyDrop::new(this);
            // SAFETY: `this` is not used any more, nor dropped.
            loom::sync::Arc::into_raw(unsafe { ManuallyDrop::take(&mut this.0) })
        }

        /// # Safety
        /// As for [`std::sync::Arc::from_raw`].
        pub(crate) unsafe fn from_raw(raw: *const T) -> Arc<T> {
            // SAFETY: as our caller says.
            Arc(ManuallyDrop::new(unsafe { loom::sync::Arc::from_raw(raw) }))
        }
    }

    impl<T> Clone for Arc<T> {
        fn clone(&self) -> Arc<T> {
            Arc(self.0.clone())
        }
    }

    impl<T> std::ops::Deref for Arc<T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> Drop for Arc<T> {
        fn drop(&mut self) {
            if !model_is_over() {
                // SAFETY: it is not used any more.
                unsafe { ManuallyDrop::drop(&mut self.0) };
            }
        }
    }

    pub(crate) mod atomic {
        pub(crate) use loom::sync::atomic::{
            AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
        };
        pub(crate) use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
    }

    /// What users get, in `sync`.
    pub(crate) mod public {
        /// Atomics, as in [`std::sync::atomic`]. Under `--cfg bast_loom` they are loom's, so that what is built on them can be
        /// [model-checked](crate::guide::checking): the one reason to use these rather than std's.
        pub mod atomic {
            pub use loom::sync::atomic::{
                AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8,
                AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
            };
        }
    }
}

pub(crate) use imp::*;
