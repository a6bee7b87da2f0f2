//! The bare switch between two stacks, below the scheduler.

use crate::How;
use bast::Runtime;
use bast_stack::{Config, GuardMode, Saved, Stack, StackClass, Stacks, switch, switch_final};
use std::hint::black_box;
use std::time::{Duration, Instant};

pub(crate) fn operations() -> Vec<(&'static str, usize, How)> {
    vec![
        ("bast there and back", 1, How::Each(there_and_back)),
        ("bast call and return", 1, How::Each(call_and_return)),
    ]
}

/// Two contexts: the caller's, and one on a stack of its own.
#[derive(Clone, Copy, Debug)]
struct Ends {
    home: *mut Saved,
    other: *mut Saved,
}

/// Gives back what it is given, for ever.
unsafe extern "C" fn identity(ends: usize) -> ! {
    // SAFETY: validity: the argument of the first switch is the address of the ends. aliasing: they are only read.
    let ends = unsafe { *(ends as *const Ends) };
    let mut value = 0;
    loop {
        // SAFETY: validity: both outlive this context, and home is suspended whenever it runs. aliasing: raw.
        value = unsafe { switch(ends.other, ends.home, value) };
    }
}

/// Ends at once.
unsafe extern "C" fn once(ends: usize) -> ! {
    // SAFETY: validity: as in `identity`. aliasing: as there.
    let here = unsafe { *(ends as *const Ends) };
    // SAFETY: validity: as in `identity`; this context is not resumed any more. aliasing: raw pointers.
    unsafe { switch_final(here.other, here.home, black_box(ends)) }
}

fn stacks() -> Stacks {
    let config = Config {
        guard: GuardMode::Protect, // one stack; valgrind does not know the other way
        ..Config::default()
    };
    Stacks::new(config).unwrap_or_else(|error| panic!("no stacks: {error}"))
}

fn a_stack(stacks: &Stacks) -> Stack {
    let stack = stacks.take(StackClass::Default256K);
    stack.unwrap_or_else(|error| panic!("no stack: {error}"))
}

/// Two switches: to another stack and back.
fn there_and_back(_: &Runtime, count: u64) -> Duration {
    let stacks = stacks();
    let stack = a_stack(&stacks);
    let (mut home, mut other) = (Saved::empty(), Saved::empty());
    // SAFETY: validity: the stack is fresh, and given back when the context on it is no longer used.
    unsafe { other.prepare(&stack, 0, identity) };
    let ends = Ends {
        home: &raw mut home,
        other: &raw mut other,
    };
    let resume = |value: usize| {
        // SAFETY: validity: the other context is suspended whenever this one runs. aliasing: the contexts are used
        // through these pointers alone.
        unsafe { switch(ends.home, ends.other, value) }
    };
    resume(&raw const ends as usize);
    let began = Instant::now();
    for value in 0..count {
        black_box(resume(black_box(value as usize)));
    }
    let time = began.elapsed();
    stacks.put(stack); // nothing on it has a destructor
    time
}

/// Begins a context on a warm stack, runs it to its end, and comes back.
fn call_and_return(_: &Runtime, count: u64) -> Duration {
    let stacks = stacks();
    let stack = a_stack(&stacks);
    let (mut home, mut other) = (Saved::empty(), Saved::empty());
    let ends = Ends {
        home: &raw mut home,
        other: &raw mut other,
    };
    let argument = &raw const ends as usize;
    let began = Instant::now();
    for _ in 0..count {
        // SAFETY: validity: from the local above. aliasing: the context of the turn before has ended.
        let fresh = unsafe { &mut *ends.other };
        // SAFETY: validity: nothing on the stack is alive.
        unsafe { fresh.prepare(&stack, 0, once) };
        // SAFETY: validity: just prepared. aliasing: `fresh` is not used any more.
        black_box(unsafe { switch(ends.home, ends.other, argument) });
    }
    let time = began.elapsed();
    stacks.put(stack);
    time
}
