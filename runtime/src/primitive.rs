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
    pub(crate) use loom::{cell::UnsafeCell, sync::Arc, thread::yield_now, thread::yield_now as spin_loop};
    pub(crate) mod atomic {
        pub(crate) use loom::sync::atomic::{
            AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
        };
        pub(crate) use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
    }
}

pub(crate) use imp::*;
