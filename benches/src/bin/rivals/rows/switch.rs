//! The bare switch of stacks, without a scheduler: what a yield cannot be cheaper than.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, nanos_each};
use crate::system::System;
use bast_stack::{Config, Saved, StackClass, Stacks, switch, switch_final};
use corosensei::{Coroutine, CoroutineResult};
use std::time::Instant;

const ROUND_TRIPS: usize = 10_000_000;

pub(super) const ROW: Row = Row {
    name: "switch",
    about: "from one stack to another and back, 10M times; half of that is a switch",
    note: "control: corosensei; may: its generator crate; go and tokio have no switch to call",
    metrics: &[Metric::new("", "ns/switch")],
    systems: &[System::Bast, System::May, System::Control],
    work: Work::Alone(measure),
};

fn measure(run: &Run) -> Values {
    let trips = run.count(ROUND_TRIPS);
    match run.system {
        System::Bast => run.plain(|| vec![on_bast(trips)]),
        System::May => run.plain(|| vec![on_generator(trips)]),
        System::Control => run.plain(|| vec![on_corosensei(trips)]),
        system => not_for(system),
    }
}

/// Where the two contexts are.
#[derive(Clone, Copy)]
struct Pair {
    home: *mut Saved,
    task: *mut Saved,
}

/// Adds one to what it is given, until it is given `usize::MAX`.
unsafe extern "C" fn entry(pair: usize) -> ! {
    // SAFETY: validity: the first switch brings the pair's address, and the pair is alive then. aliasing: a copy.
    let Pair { home, task } = unsafe { *(pair as *const Pair) };
    let mut value = 0;
    loop {
        // SAFETY: home is suspended whenever the task runs, on the one thread there is.
        value = unsafe { switch(task, home, value) } + 1;
        if value == 0 {
            // SAFETY: as above; nothing here needs dropping, and the task is not resumed again.
            unsafe { switch_final(task, home, 0) }
        }
    }
}

fn on_bast(trips: usize) -> f64 {
    let stacks = Stacks::new(Config::default()).expect("there is memory for a stack");
    let stack = stacks
        .take(StackClass::Default256K)
        .expect("there is memory for a stack");
    let (mut home, mut task) = (Saved::empty(), Saved::empty());
    // SAFETY: validity: the stack is fresh and goes back after the task's end. aliasing: the task does not run yet.
    unsafe { task.prepare(&stack, 0, entry) };
    let pair = Pair {
        home: &raw mut home,
        task: &raw mut task,
    };
    let resume = |value| {
        // SAFETY: the task is prepared, and suspended whenever home runs, on the one thread there is.
        unsafe { switch(pair.home, pair.task, value) }
    };
    resume(&raw const pair as usize);
    let start = Instant::now();
    let mut value = 0;
    for _ in 0..trips {
        value = resume(value);
    }
    let nanos = nanos_each(start, 2 * trips);
    assert_eq!(value, trips);
    resume(usize::MAX);
    stacks.put(stack);
    nanos
}

fn on_corosensei(trips: usize) -> f64 {
    let mut coroutine = Coroutine::new(|yielder, mut value: usize| {
        while value != usize::MAX {
            value = yielder.suspend(value + 1);
        }
    });
    let start = Instant::now();
    let mut value = 0;
    for _ in 0..trips {
        match coroutine.resume(value) {
            CoroutineResult::Yield(next) => value = next,
            CoroutineResult::Return(()) => unreachable!("it was not told to end"),
        }
    }
    let nanos = nanos_each(start, 2 * trips);
    assert_eq!(value, trips);
    coroutine.resume(usize::MAX);
    nanos
}

fn on_generator(trips: usize) -> f64 {
    let mut generator = generator::Gn::<usize>::new_scoped(|mut scope| {
        let mut value = 0;
        while value != usize::MAX {
            value = scope.yield_(value + 1).expect("every resume sends a number");
        }
        0
    });
    generator.raw_send(None);
    let start = Instant::now();
    let mut value = 0;
    for _ in 0..trips {
        value = generator.send(value);
    }
    let nanos = nanos_each(start, 2 * trips);
    assert_eq!(value, trips);
    generator.send(usize::MAX);
    nanos
}
