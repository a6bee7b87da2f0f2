//! Giving memory of a parked task back: what goes, what stays, and that the process really gets smaller.
#![expect(clippy::large_stack_frames, reason = "this is about deep stacks")]

mod support;

use bast_stack::{StackClass, Stacks, shrink, shrinkable_bytes};
use std::hint::black_box;
use support::{Coroutine, in_child, status_bytes};

const DEEP: usize = 160 << 10;

/// Uses `DEEP` bytes of stack, then returns.
#[inline(never)]
fn go_deep(seed: u8) -> u64 {
    let mut frame = [seed; DEEP];
    black_box(&mut frame);
    frame.iter().map(|&byte| u64::from(byte)).sum()
}

#[test]
fn pages_below_the_pointer_go_and_what_is_above_stays() {
    in_child("pages_below_the_pointer_go_and_what_is_above_stays", || {
        if !support::counts_are_ours() {
            return;
        }
        const COUNT: usize = 200;
        let stacks = Stacks::new(support::config()).expect("stacks");
        let mut all: Vec<Coroutine> = (0..COUNT)
            .map(|id| {
                Coroutine::new(&stacks, move |context, _| {
                    let mut kept: [usize; 500] = std::array::from_fn(|index| index * id);
                    black_box(&mut kept);
                    for round in 0..2 {
                        assert_eq!(go_deep(1), DEEP as u64);
                        context.park(round);
                        assert!(
                            black_box(&kept)
                                .iter()
                                .enumerate()
                                .all(|(index, &word)| word == index * id)
                        );
                    }
                    id
                })
            })
            .collect();
        for round in 0..2 {
            all.iter_mut()
                .for_each(|coroutine| assert_eq!(coroutine.resume(0), round));
            let before = status_bytes("VmRSS");
            let mut freed = 0;
            for coroutine in &all {
                let (stack, pointer) = (coroutine.stack(), coroutine.saved_stack_pointer());
                let promised = shrinkable_bytes(stack, pointer);
                assert!(
                    (DEEP - 8192..stack.class().bytes()).contains(&promised),
                    "{promised}"
                );
                // SAFETY: the coroutine is suspended with this pointer.
                let given = unsafe { shrink(stack, pointer) };
                assert_eq!(given, promised);
                assert_eq!(shrinkable_bytes(stack, pointer), 0);
                // SAFETY: as above.
                let again = unsafe { shrink(stack, pointer) };
                assert_eq!(again, 0, "there is nothing left to give");
                freed += given;
            }
            let fallen = before - status_bytes("VmRSS");
            assert!(fallen >= freed - (1 << 20), "{fallen} of {freed} bytes");
        }
        for (id, mut coroutine) in all.into_iter().enumerate() {
            assert_eq!(coroutine.resume(0), id);
            let (stack, panic) = coroutine.finish();
            assert!(panic.is_none());
            stacks.put(stack);
        }
    });
}

#[test]
fn a_pointer_that_is_not_on_the_stack_frees_nothing() {
    let stacks = Stacks::new(support::config()).expect("stacks");
    let stack = stacks.take(StackClass::Small64K).expect("a stack");
    // SAFETY: inside the stack, on which nothing lives.
    unsafe { (stack.limit() as *mut u8).write_volatile(1) };
    for pointer in [0, stack.limit(), stack.limit() - 16, stack.top() + 16] {
        // SAFETY: nothing is alive on the stack.
        assert_eq!(unsafe { shrink(&stack, pointer) }, 0, "{pointer:#x}");
    }
    // SAFETY: as above.
    assert!(unsafe { shrink(&stack, stack.top()) } > 0);
    stacks.put(stack);
}
