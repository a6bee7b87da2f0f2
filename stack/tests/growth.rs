//! `maybe_grow` and `on_big_stack`: recursion beyond a stack, results, panics, parks and migration inside.
#![expect(clippy::large_stack_frames, reason = "this is about deep stacks")]

mod support;

use bast_stack::{StackClass, Stacks, maybe_grow, on_big_stack, remaining, try_on_big_stack};
use std::hint::black_box;
use std::thread;
use support::{Coroutine, in_child, maps};

const RED_ZONE: usize = 64 << 10;
const PIECE: usize = 1 << 20;

/// Recurses, using a kibibyte and more a level, until `bytes` of stack are in use; returns the levels.
fn recurse(bytes: usize, used: usize) -> usize {
    maybe_grow(RED_ZONE, PIECE, || {
        let mut frame = [0x5a_u8; 16 << 10];
        black_box(&mut frame);
        let levels = if used >= bytes {
            0
        } else {
            recurse(bytes, used + frame.len())
        };
        assert!(frame.iter().all(|&byte| byte == 0x5a));
        levels + 1
    })
}

#[test]
fn a_recursion_one_gibibyte_deep_completes() {
    in_child("a_recursion_one_gibibyte_deep_completes", || {
        let ours = support::counts_are_ours();
        let before = support::status_bytes("VmRSS");
        // TSan's shadow call stack ends at 65,536 calls.
        let deep = if cfg!(bast_tsan) { 16 << 20 } else { 1 << 30 };
        assert_eq!(recurse(deep, 0), deep / (16 << 10) + 1);
        assert!(
            !ours || support::status_bytes("VmHWM") >= deep,
            "it really was that deep"
        );
        let after = support::status_bytes("VmRSS");
        // Free big stacks keep 16 MiB of pages; the rest went back on the way out.
        assert!(
            !ours || after < before + (48 << 20),
            "{} MiB are kept",
            (after - before) >> 20
        );
    });
}

#[test]
fn crossing_the_boundary_again_and_again_asks_nothing_of_the_kernel() {
    fn minor_faults() -> i64 {
        // SAFETY: all zeroes is a valid rusage.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: a writable rusage.
        assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
        usage.ru_minflt
    }
    in_child(
        "crossing_the_boundary_again_and_again_asks_nothing_of_the_kernel",
        || {
            if !support::counts_are_ours() {
                return;
            }
            for size in [PIECE, 32 << 20] {
                let touch = || {
                    on_big_stack(size, || {
                        let frame = [1_u8; 64 << 10];
                        black_box(&frame).len()
                    })
                };
                touch();
                let (faults, maps_before) = (minor_faults(), maps());
                for _ in 0..10_000 {
                    touch();
                }
                assert!(
                    maps() <= maps_before + 4,
                    "{} mappings, then {}",
                    maps_before,
                    maps()
                );
                // A stack mapped or discarded each time would fault at least once a crossing.
                assert!(
                    minor_faults() - faults < 100,
                    "{} page faults at {size}",
                    minor_faults() - faults
                );
            }
        },
    );
}

#[test]
fn the_result_and_the_borrow_come_back() {
    let mut list = vec![1, 2, 3];
    let sum: i32 = on_big_stack(2 << 20, || {
        list.push(4);
        list.iter().sum()
    });
    assert_eq!((sum, list.len()), (10, 4));
    assert_eq!(
        try_on_big_stack(100 << 20, || "large").expect("address space"),
        "large"
    );
}

#[test]
fn a_panic_inside_reaches_the_caller() {
    let caught = std::panic::catch_unwind(|| {
        on_big_stack(PIECE, || {
            on_big_stack(9 << 20, || std::panic::resume_unwind(Box::new(41_i32 + 1)))
        })
    });
    let payload: Box<dyn std::any::Any + Send> = caught.map(|(): ()| ()).expect_err("it panicked");
    assert_eq!(*payload.downcast::<i32>().expect("the payload"), 42);
    assert!(!thread::panicking());
}

#[test]
fn remaining_follows_the_stack_it_is_asked_on() {
    let on_thread = remaining().expect("a thread's bounds are known");
    assert!((16 << 10..64 << 20).contains(&on_thread), "{on_thread}");
    for size in [100 << 10, 900 << 10, 4 << 20, 20 << 20] {
        let inside = on_big_stack(size, || remaining().expect("a big stack's bounds are known"));
        assert!(
            inside >= size && inside < 2 * size + (8 << 20),
            "{inside} of {size}"
        );
    }
    assert!(remaining().expect("still known").abs_diff(on_thread) < 4096);
    let stacks = Stacks::new(support::config()).expect("stacks");
    let mut coroutine = Coroutine::new(&stacks, |_, _| remaining().expect("a task's bounds are known"));
    let in_task = coroutine.resume(0);
    let usable = StackClass::Default256K.usable_bytes();
    assert!(
        in_task < usable && in_task > usable - (8 << 10),
        "{in_task} of {usable}"
    );
    stacks.put(coroutine.finish().0);
}

#[test]
fn a_small_thread_knows_its_small_stack() {
    for kib in [128, 512, 4096] {
        let seen = thread::Builder::new()
            .stack_size(kib << 10)
            .spawn(|| (remaining(), remaining()));
        let (first, second) = seen.expect("a thread").join().expect("no panic");
        let first = first.expect("bounds are known");
        assert!(
            first <= (kib << 10) + (64 << 10) && first > (kib << 9),
            "{first} of {kib} KiB"
        );
        assert!(second.expect("known").abs_diff(first) < 1024);
    }
}

#[test]
fn enough_room_means_no_other_stack() {
    let here = black_box(&0) as *const i32 as usize;
    let inside = maybe_grow(1024, PIECE, || black_box(&0) as *const i32 as usize);
    let _ = (here, inside);
    let left = remaining().expect("known");
    maybe_grow(1024, PIECE, || {
        assert!(remaining().expect("known").abs_diff(left) < 8192)
    });
    maybe_grow(left + 4096, PIECE, || assert!(remaining().expect("known") > left));
}

#[test]
fn a_task_parks_inside_a_big_stack_and_goes_on_elsewhere() {
    let stacks = Stacks::new(support::config()).expect("stacks");
    let mut coroutine = Coroutine::new(&stacks, |context, _| {
        let deep = on_big_stack(3 << 20, || {
            let frame = [7_u8; 1 << 20];
            let from_elsewhere = context.park(1);
            let again = on_big_stack(10 << 20, || context.park(from_elsewhere));
            assert!(black_box(&frame).iter().all(|&byte| byte == 7));
            again
        });
        context.park(deep);
        5
    });
    assert_eq!(coroutine.resume(0), 1);
    assert!(
        !coroutine.stack().contains(coroutine.saved_stack_pointer()),
        "parked on the big stack"
    );
    // SAFETY: it is suspended; its pointer is on another stack, so nothing may be given back here.
    let freed = unsafe { bast_stack::shrink(coroutine.stack(), coroutine.saved_stack_pointer()) };
    assert_eq!(freed, 0);
    let mut coroutine = thread::spawn(move || {
        assert_eq!(coroutine.resume(22), 22);
        coroutine
    })
    .join()
    .expect("no panic");
    assert_eq!(coroutine.resume(33), 33);
    assert_eq!(coroutine.resume(0), 5);
    stacks.put(coroutine.finish().0);
}

#[test]
fn deep_recursion_in_a_task_grows_too() {
    let stacks = Stacks::new(support::config()).expect("stacks");
    let mut coroutine = Coroutine::new(&stacks, |_, _| recurse(20 << 20, 0));
    assert_eq!(coroutine.resume(0), (20 << 20) / (16 << 10) + 1);
    stacks.put(coroutine.finish().0);
}

#[test]
fn an_impossible_size_is_an_error_and_f_is_not_called() {
    let mut called = false;
    let error = try_on_big_stack(usize::MAX / 4, || called = true).expect_err("no such machine");
    assert!(error.is_out_of_memory(), "{error}");
    assert!(!called);
}
