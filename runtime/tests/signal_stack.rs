//! Handlers that want the alternate stack, under tasks that have nearly used up their own. In a process of its own: a
//! signal of another test's, whose handler runs on the stack it finds, would find no room here.
#![cfg(target_os = "linux")]

mod util;

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use util::{is_emulated, is_instrumented, on_each};

/// Where the handler found its stack.
static ALTERNATE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_the_alternate_stack(_: libc::c_int) {
    let local = 0_u8;
    ALTERNATE.store(std::ptr::from_ref(black_box(&local)) as usize, Relaxed);
}

/// Goes down until less than `left` bytes are left of the stack, raises the signal there, and gives the lowest address.
#[inline(never)]
fn descend(left: usize) -> usize {
    let space = black_box([0_u8; 256]);
    let lowest = if bast_stack::remaining().expect("a task's stack") >= left {
        descend(left)
    } else {
        // SAFETY: validity: a signal whose handler only stores an address. aliasing: no memory is passed.
        unsafe { libc::raise(libc::SIGUSR2) };
        std::ptr::from_ref(&space) as usize
    };
    black_box(&space);
    lowest
}

/// A peer switched in its handler with the stack pointer next to the guard page. A handler that wants the alternate
/// stack gets it however deep the task is.
#[test]
fn a_handler_on_the_alternate_stack_of_a_task_that_is_at_the_end_of_its_own() {
    if is_emulated() || is_instrumented() {
        return; // their frames have other sizes
    }
    util::handle(libc::SIGUSR2, on_the_alternate_stack, libc::SA_ONSTACK);
    on_each(|| {
        // As many as there are colours: where a stack starts differs by up to a KiB.
        for _ in 0..16 {
            ALTERNATE.store(0, Relaxed);
            let task = bast::task::Builder::new().stack_size(64 << 10).spawn(|| {
                let local = 0_u8;
                let start = std::ptr::from_ref(black_box(&local)) as usize;
                // Enough for `raise`, too little for a signal's frame with the registers of AVX-512.
                (start, descend(2 << 10))
            });
            let (start, lowest) = task.unwrap().join().unwrap();
            let handler = ALTERNATE.load(Relaxed);
            assert!(handler != 0, "the handler did not run");
            assert!(
                !(lowest - (8 << 10)..start).contains(&handler),
                "the handler ran on the task's stack"
            );
        }
    });
}
