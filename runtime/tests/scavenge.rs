//! The monitor gives memory back: what lies below the stack pointer of a task that is parked for long.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

const TASKS: usize = 100;
/// What each task has used of its stack before it parks.
const DEEP_BYTES: usize = 160 << 10;

#[expect(clippy::large_stack_frames, reason = "it is there to use the stack")]
#[inline(never)]
fn touch_the_depths() {
    let mut deep = [1_u8; DEEP_BYTES];
    black_box(&mut deep);
}

/// Tasks go deep and park; `meanwhile` runs; in the end most of their stacks' memory has been given back.
fn shrink(processors: usize, meanwhile: impl FnOnce()) {
    let runtime = util::start_with(processors);
    let _watchdog = util::Watchdog::start("shrinking", Some(runtime.handle()));
    let before = util::status("RssAnon");
    let deep: &AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    let measured: &AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let over: &AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            runtime
                .spawn(move || {
                    touch_the_depths();
                    deep.fetch_add(1, AcqRel);
                    while !measured.load(Acquire) {
                        bast::task::yield_now(); // who is parked may be seen to before all of them are
                    }
                    while !over.load(Acquire) {
                        bast::task::park();
                    }
                    // What it wrote before the park is still there, and the depths can be used again.
                    touch_the_depths();
                })
                .unwrap()
        })
        .collect();
    util::wait_for(|| deep.load(Acquire) == TASKS);
    let grown = util::status("RssAnon") - before;
    assert!(
        grown as usize * 1024 > TASKS * DEEP_BYTES * 3 / 4,
        "{grown} kB for {TASKS} tasks that used {DEEP_BYTES} bytes each"
    );
    measured.store(true, Release);
    meanwhile();
    util::wait_for(|| {
        let kept = util::status("RssAnon").saturating_sub(before);
        (kept as usize * 1024) < TASKS * DEEP_BYTES / 4
    });
    over.store(true, Release);
    for task in tasks {
        task.task().unpark();
        task.join().unwrap();
    }
}

#[test]
fn the_stacks_of_parked_tasks_shrink() {
    if util::is_instrumented() || util::is_emulated() {
        return; // memory there is the tool's
    }
    [1, 2]
        .into_iter()
        .for_each(|processors| shrink(processors, || ()));
}

/// The monitor once took the time in which the process was stopped for time in which it had seen to the tasks.
#[test]
fn also_when_the_process_was_stopped_meanwhile() {
    if util::is_instrumented() || util::is_emulated() {
        return;
    }
    let stop = || {
        let own = std::process::id();
        let mut goes_on = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("sleep 4; kill -CONT {own}"))
            .spawn()
            .expect("a shell");
        // SAFETY: validity: a signal that stops the process, until the shell has it go on. aliasing: no memory is passed.
        unsafe { libc::raise(libc::SIGSTOP) };
        goes_on.wait().expect("the shell's end");
    };
    let name = "also_when_the_process_was_stopped_meanwhile";
    util::in_good_child(name, |_| {}, || shrink(2, stop));
}
