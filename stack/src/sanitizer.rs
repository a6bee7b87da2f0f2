//! What AddressSanitizer, ThreadSanitizer and Valgrind must be told of stacks. Zero-sized when they are off.
//!
//! Private cfgs choose the tool (`--cfg bast_asan`, `--cfg bast_tsan`, next to `-Zsanitizer=...`), because
//! stable Rust does not tell a crate which sanitizer it is compiled with.
//!
//! * ASan knows one stack a thread. Before a switch it must be told the bounds of the stack to come
//!   (`__sanitizer_start_switch_fiber`) and after it that we are there (`..finish..`, which tells the bounds
//!   of the stack we came from: that is how the bounds of a thread's own stack become known). A null save slot
//!   says that the stack left behind is dead. Free stacks are poisoned.
//! * TSan keeps a shadow call stack and a clock for each fiber. `__tsan_switch_to_fiber` is called directly in
//!   the function that switches, always inlined: a call of it in an instrumented helper would push the
//!   helper's entry on one fiber's shadow stack and pop it from another's. Flag 0: a switch
//!   orders what was before it before what comes after it, as it really does.
//! * Valgrind is told each slot's bounds once (client request, feature `valgrind`), and when they are unmapped.

use crate::stack::Stack;
pub(crate) use imp::{Detour, Fiber, Left};

#[cfg(not(any(bast_asan, bast_tsan)))]
mod imp {
    /// The sanitizer's idea of a stack: none.
    #[derive(Debug)]
    pub(crate) struct Fiber;

    /// What a suspended context keeps on its own stack: nothing.
    #[derive(Debug)]
    pub(crate) struct Left;

    impl Left {
        #[inline(always)]
        pub(crate) const fn nothing() -> Left {
            Left
        }
    }

    impl Fiber {
        #[inline(always)]
        pub(crate) const fn none() -> Fiber {
            Fiber
        }
        #[inline(always)]
        pub(crate) fn prepare(&mut self, _limit: usize, _top: usize) {}
        #[inline(always)]
        pub(crate) fn adopt(&mut self, _from: &mut Fiber) {}
        #[inline(always)]
        pub(crate) unsafe fn leave(_own: *mut Fiber, _to: *mut Fiber) -> Left {
            Left
        }
        #[inline(always)]
        pub(crate) unsafe fn leave_for_ever(_to: *mut Fiber) {}
        #[inline(always)]
        pub(crate) unsafe fn arrive(_left: Left, _resumer: *mut Fiber) {}
    }

    pub(crate) use super::no_detour::Detour;
}

/// A call on a big stack changes the stack of a context, not the context: only ASan wants to know.
#[cfg(not(bast_asan))]
mod no_detour {
    #[derive(Debug)]
    pub(crate) struct Detour;

    impl Detour {
        pub(crate) const fn new() -> Detour {
            Detour
        }
        #[inline(always)]
        pub(crate) fn set_out(&mut self, _limit: usize, _top: usize) {}
        #[inline(always)]
        pub(crate) fn arrive(&mut self) {}
        #[inline(always)]
        pub(crate) fn turn_back(&mut self) {}
        #[inline(always)]
        pub(crate) fn return_home(&mut self) {}
    }
}

#[cfg(bast_asan)]
mod imp {
    use std::ffi::c_void;
    use std::ptr;

    unsafe extern "C" {
        fn __sanitizer_start_switch_fiber(save: *mut *mut c_void, bottom: *const c_void, bytes: usize);
        fn __sanitizer_finish_switch_fiber(saved: *mut c_void, bottom: *mut *const c_void, bytes: *mut usize);
    }

    /// The bounds of a suspended context's stack.
    #[derive(Debug)]
    pub(crate) struct Fiber {
        bottom: *const c_void,
        bytes: usize,
    }

    /// ASan's fake stack of a suspended context. The context keeps it on its own stack: its `Saved` may be moved
    /// while it is suspended, and the place that it was saved to may be another context's by the time it comes back.
    #[derive(Debug)]
    pub(crate) struct Left(*mut c_void);

    impl Left {
        /// Of a context that has just begun.
        pub(crate) const fn nothing() -> Left {
            Left(ptr::null_mut())
        }
    }

    impl Fiber {
        pub(crate) const fn none() -> Fiber {
            Fiber {
                bottom: ptr::null(),
                bytes: 0,
            }
        }

        pub(crate) fn prepare(&mut self, limit: usize, top: usize) {
            *self = Fiber {
                bottom: limit as *const c_void,
                bytes: top - limit,
            };
        }

        pub(crate) fn adopt(&mut self, from: &mut Fiber) {
            *self = std::mem::replace(from, Fiber::none());
        }

        /// # Safety
        /// `to` is valid.
        #[inline(always)]
        pub(crate) unsafe fn leave(_own: *mut Fiber, to: *mut Fiber) -> Left {
            // SAFETY: validity and aliasing: the contract's.
            let (bottom, bytes) = unsafe { ((*to).bottom, (*to).bytes) };
            let mut fake = ptr::null_mut();
            // SAFETY: validity: a save slot and the bounds of the stack to come. aliasing: a local.
            unsafe { __sanitizer_start_switch_fiber(&raw mut fake, bottom, bytes) };
            Left(fake)
        }

        /// # Safety
        /// `to` is valid.
        #[inline(always)]
        pub(crate) unsafe fn leave_for_ever(to: *mut Fiber) {
            // SAFETY: validity and aliasing: the contract's.
            let (bottom, bytes) = unsafe { ((*to).bottom, (*to).bytes) };
            // SAFETY: validity: null frees this context's fake stack, which is never used again.
            unsafe { __sanitizer_start_switch_fiber(ptr::null_mut(), bottom, bytes) };
        }

        /// # Safety
        /// `left` is this context's, from when it was last left; `resumer` is suspended, or null.
        #[inline(always)]
        pub(crate) unsafe fn arrive(left: Left, resumer: *mut Fiber) {
            let (mut bottom, mut bytes) = (ptr::null(), 0);
            // SAFETY: validity: `left` came from the start call when we left. aliasing: locals.
            unsafe { __sanitizer_finish_switch_fiber(left.0, &raw mut bottom, &raw mut bytes) };
            if !resumer.is_null() {
                // SAFETY: validity: non-null is valid (contract). aliasing: it is suspended.
                unsafe { (*resumer).bottom = bottom };
                // SAFETY: as above.
                unsafe { (*resumer).bytes = bytes };
            }
        }
    }

    /// The bounds and the fake stack left behind by a call on a big stack, in the order of its four steps.
    #[derive(Debug)]
    pub(crate) struct Detour {
        fake: *mut c_void,
        bottom: *const c_void,
        bytes: usize,
    }

    impl Detour {
        pub(crate) const fn new() -> Detour {
            Detour {
                fake: ptr::null_mut(),
                bottom: ptr::null(),
                bytes: 0,
            }
        }

        /// On the old stack, before the call.
        #[inline(always)]
        pub(crate) fn set_out(&mut self, limit: usize, top: usize) {
            // SAFETY: validity: a save slot and the bounds of the stack to come. aliasing: ours alone.
            unsafe {
                __sanitizer_start_switch_fiber(&raw mut self.fake, limit as *const c_void, top - limit)
            };
        }

        /// On the big stack, first of all.
        #[inline(always)]
        pub(crate) fn arrive(&mut self) {
            // SAFETY: validity: null: the stack is fresh. aliasing: our own fields.
            unsafe {
                __sanitizer_finish_switch_fiber(ptr::null_mut(), &raw mut self.bottom, &raw mut self.bytes)
            };
        }

        /// On the big stack, last of all.
        #[inline(always)]
        pub(crate) fn turn_back(&mut self) {
            // SAFETY: validity: null: the big stack is left for ever. aliasing: none.
            unsafe { __sanitizer_start_switch_fiber(ptr::null_mut(), self.bottom, self.bytes) };
        }

        /// On the old stack, after the call.
        #[inline(always)]
        pub(crate) fn return_home(&mut self) {
            // SAFETY: validity: the fake stack of `set_out`. aliasing: no answer is wanted.
            unsafe { __sanitizer_finish_switch_fiber(self.fake, ptr::null_mut(), ptr::null_mut()) };
        }
    }
}

#[cfg(bast_tsan)]
mod imp {
    pub(crate) use super::no_detour::Detour;
    use crate::primitive::statics::{Mutex, lock};
    use std::ffi::{c_uint, c_void};
    use std::ptr;

    unsafe extern "C" {
        fn __tsan_get_current_fiber() -> *mut c_void;
        fn __tsan_create_fiber(flags: c_uint) -> *mut c_void;
        fn __tsan_destroy_fiber(fiber: *mut c_void);
        fn __tsan_switch_to_fiber(fiber: *mut c_void, flags: c_uint);
    }

    /// A fiber's shadow call stack (64 Ki entries) keeps what a task that ended by `switch_final` had
    /// entered, so a fiber is used this often, then destroyed.
    const USES_MAX: u32 = 2048;

    /// Fibers nobody uses: only about 8,000 can ever be made in a process (kMaxTid), and each takes long.
    static FREE: Mutex<Vec<Handle>> = Mutex::new(Vec::new());

    /// TSan's name for a context.
    #[derive(Debug)]
    struct Handle {
        fiber: *mut c_void,
        /// How often it was prepared; 0 for a thread's own fiber, which is not ours to free.
        uses: u32,
    }

    // SAFETY: TSan's fibers may be switched to and destroyed by any thread.
    unsafe impl Send for Handle {}

    #[derive(Debug)]
    pub(crate) struct Fiber(Handle);

    /// What a suspended context keeps on its own stack: nothing.
    #[derive(Debug)]
    pub(crate) struct Left;

    impl Left {
        #[inline(always)]
        pub(crate) const fn nothing() -> Left {
            Left
        }
    }

    impl Fiber {
        pub(crate) const fn none() -> Fiber {
            Fiber(Handle {
                fiber: ptr::null_mut(),
                uses: 0,
            })
        }

        pub(crate) fn prepare(&mut self, _limit: usize, _top: usize) {
            self.release();
            let free = lock(&FREE).pop();
            let mut handle = free.unwrap_or_else(|| {
                // SAFETY: validity: makes a new fiber. aliasing: it is nobody else's.
                Handle {
                    fiber: unsafe { __tsan_create_fiber(0) },
                    uses: 0,
                }
            });
            handle.uses += 1;
            self.0 = handle;
        }

        pub(crate) fn adopt(&mut self, from: &mut Fiber) {
            self.release();
            std::mem::swap(&mut self.0, &mut from.0);
        }

        fn release(&mut self) {
            let handle = std::mem::replace(&mut self.0, Fiber::none_handle());
            match handle.uses {
                0 => {}
                // SAFETY: validity: we made it and nothing runs on it. aliasing: the handle is gone now.
                USES_MAX.. => unsafe { __tsan_destroy_fiber(handle.fiber) },
                _ => lock(&FREE).push(handle),
            }
        }

        const fn none_handle() -> Handle {
            Handle {
                fiber: ptr::null_mut(),
                uses: 0,
            }
        }

        /// # Safety
        /// Both are valid; `own` is the running context's.
        #[inline(always)]
        pub(crate) unsafe fn leave(own: *mut Fiber, to: *mut Fiber) -> Left {
            // SAFETY: validity and aliasing: the contract's.
            let uses = unsafe { (*own).0.uses };
            if uses == 0 {
                // A thread's own context may be saved to the same place by another thread later.
                // SAFETY: validity: asks for the running fiber. aliasing: `own` is ours.
                unsafe { (*own).0.fiber = __tsan_get_current_fiber() };
            }
            // SAFETY: as `leave_for_ever`.
            unsafe { Fiber::leave_for_ever(to) };
            Left
        }

        /// # Safety
        /// `to` is valid.
        #[inline(always)]
        pub(crate) unsafe fn leave_for_ever(to: *mut Fiber) {
            // SAFETY: validity and aliasing: the contract's.
            let fiber = unsafe { (*to).0.fiber };
            // SAFETY: validity: the stack switch follows at once. aliasing: nobody else runs it.
            unsafe { __tsan_switch_to_fiber(fiber, 0) };
        }

        #[inline(always)]
        pub(crate) unsafe fn arrive(_left: Left, _resumer: *mut Fiber) {}
    }

    impl Drop for Fiber {
        fn drop(&mut self) {
            self.release();
        }
    }
}

#[cfg(bast_asan)]
unsafe extern "C" {
    fn __asan_poison_memory_region(address: *const u8, bytes: usize);
    fn __asan_unpoison_memory_region(address: *const u8, bytes: usize);
}

/// What Valgrind was told of an arena's stacks, to be taken back when the arena is unmapped.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    #[cfg(feature = "valgrind")]
    ids: Vec<usize>,
}

#[cfg(feature = "valgrind")]
impl Announced {
    /// `VG_USERREQ__STACK_REGISTER` and `..DEREGISTER`, valgrind.h.
    const REGISTER: usize = 0x1501;
    const DEREGISTER: usize = 0x1502;

    /// A slot's bounds are known for the first time.
    pub(crate) fn add(&mut self, limit: usize, top: usize) {
        self.ids
            .push(crate::arch::valgrind_request(Self::REGISTER, limit, top));
    }

    /// The stacks stay mapped.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

#[cfg(feature = "valgrind")]
impl Drop for Announced {
    fn drop(&mut self) {
        for &id in &self.ids {
            crate::arch::valgrind_request(Self::DEREGISTER, id, 0);
        }
    }
}

#[cfg(not(feature = "valgrind"))]
impl Announced {
    #[inline(always)]
    pub(crate) fn add(&mut self, _limit: usize, _top: usize) {}
    pub(crate) fn leak(self) {}
}

/// A stack leaves the pool: its whole length may be used.
#[inline(always)]
pub(crate) fn stack_taken(_stack: &Stack) {
    #[cfg(bast_asan)]
    // SAFETY: validity: the range is a mapped stack. aliasing: it is the caller's.
    unsafe {
        __asan_unpoison_memory_region(_stack.limit() as *const u8, _stack.top() - _stack.limit());
    }
}

/// A stack goes back to the pool: nothing on it may be touched.
#[inline(always)]
pub(crate) fn stack_put(_stack: &Stack) {
    #[cfg(bast_asan)]
    // SAFETY: validity: the range is a mapped stack. aliasing: nothing on it is alive.
    unsafe {
        __asan_poison_memory_region(_stack.limit() as *const u8, _stack.top() - _stack.limit());
    }
}
