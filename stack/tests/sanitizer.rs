//! The sanitizers see into coroutines: a planted fault of each kind is reported. Empty without a sanitizer.
#![cfg(any(bast_asan, bast_tsan))]

mod support;

use support::{child_command, is_child, text_of};

/// Runs the planted fault in a child, whose report must hold `wanted`.
fn reported(name: &str, wanted: &[&str], fault: impl FnOnce()) {
    if is_child(name) {
        fault();
        return;
    }
    let output = child_command(name).output().expect("a child");
    let text = text_of(&output);
    assert!(!output.status.success(), "nothing was reported:\n{text}");
    for part in wanted {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[cfg(bast_tsan)]
#[test]
fn a_race_between_two_coroutines_is_a_data_race() {
    use bast_stack::Stacks;
    use std::sync::Barrier;
    use support::Coroutine;

    struct Shared(std::cell::UnsafeCell<usize>);
    // SAFETY: not at all: that is the fault.
    unsafe impl Sync for Shared {}
    static SHARED: Shared = Shared(std::cell::UnsafeCell::new(0));

    #[inline(never)]
    fn racing_write(value: usize) {
        // SAFETY: none: two threads write without order.
        unsafe { SHARED.0.get().write_volatile(value) };
    }
    reported(
        "a_race_between_two_coroutines_is_a_data_race",
        &["data race", "racing_write"],
        || {
            let stacks = Stacks::new(support::config()).expect("stacks");
            let barrier = Barrier::new(2);
            std::thread::scope(|scope| {
                for id in 0..2 {
                    let (stacks, barrier) = (&stacks, &barrier);
                    scope.spawn(move || {
                        let mut coroutine = Coroutine::new(stacks, move |context, _| {
                            context.park(0);
                            racing_write(id);
                            0
                        });
                        coroutine.resume(0);
                        barrier.wait();
                        coroutine.resume(0);
                        stacks.put(coroutine.finish().0);
                    });
                }
            });
        },
    );
}

/// The same accesses, but on one thread: a switch orders what is before it before what is after.
#[cfg(bast_tsan)]
#[test]
fn coroutines_of_one_thread_do_not_race() {
    use bast_stack::Stacks;
    use support::Coroutine;

    let stacks = Stacks::new(support::config()).expect("stacks");
    let cell = Box::into_raw(Box::new(0_usize)) as usize;
    let mut all: Vec<Coroutine> = (0..2)
        .map(|_| {
            Coroutine::new(&stacks, move |context, _| {
                for _ in 0..100 {
                    // SAFETY: one coroutine runs at a time.
                    unsafe { *(cell as *mut usize) += 1 };
                    context.park(0);
                }
                0
            })
        })
        .collect();
    for _ in 0..=100 {
        all.iter_mut().for_each(|coroutine| {
            coroutine.resume(0);
        });
    }
    // SAFETY: made above, and nobody uses it any more.
    assert_eq!(*unsafe { Box::from_raw(cell as *mut usize) }, 200);
    all.into_iter()
        .for_each(|coroutine| stacks.put(coroutine.finish().0));
}

#[cfg(bast_asan)]
#[test]
fn a_use_of_a_free_stack_is_use_after_poison() {
    use bast_stack::{StackClass, Stacks};

    reported(
        "a_use_of_a_free_stack_is_use_after_poison",
        &["use-after-poison"],
        || {
            let stacks = Stacks::new(support::config()).expect("stacks");
            let stack = stacks.take(StackClass::Small64K).expect("a stack");
            let word = (stack.top() - 64) as *mut usize;
            // SAFETY: on a stack where nothing lives.
            unsafe { word.write_volatile(1) };
            stacks.put(stack);
            // SAFETY: none: the stack is not ours any more.
            unsafe { word.write_volatile(2) };
        },
    );
}

#[cfg(bast_asan)]
#[test]
fn an_overrun_on_a_coroutines_stack_is_a_stack_buffer_overflow() {
    use bast_stack::Stacks;
    use support::Coroutine;

    let wanted = ["stack-buffer-overflow", "overrun_on_purpose"];
    reported(
        "an_overrun_on_a_coroutines_stack_is_a_stack_buffer_overflow",
        &wanted,
        || {
            #[inline(never)]
            fn overrun_on_purpose(index: usize) -> u8 {
                let mut bytes = [0_u8; 32];
                let start = std::hint::black_box(&mut bytes).as_mut_ptr();
                // SAFETY: none: one byte past the end.
                unsafe { start.add(index).write_volatile(1) };
                bytes[0]
            }
            let stacks = Stacks::new(support::config()).expect("stacks");
            let mut coroutine = Coroutine::new(&stacks, |context, _| {
                context.park(0);
                usize::from(overrun_on_purpose(32))
            });
            coroutine.resume(0);
            coroutine.resume(0);
        },
    );
}
