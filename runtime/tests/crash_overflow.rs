//! A task that overflows its stack: the report, and the abort. In child processes.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use util::{in_child, run_on, start, text_of};

#[expect(unconditional_recursion, reason = "that is what overflows")]
fn endless(level: usize) -> usize {
    let mut frame = [level; 64];
    std::hint::black_box(&mut frame);
    endless(level + 1) + std::hint::black_box(&frame)[0]
}

#[track_caller]
fn aborted(output: &Output) -> String {
    let text = text_of(output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(!text.contains("CHILD LIVED"), "{text}");
    text
}

#[test]
fn the_report_names_task_place_size_and_cure() {
    let name = "the_report_names_task_place_size_and_cure";
    let output = in_child(
        name,
        |_| {},
        || {
            run_on(2, || {
                let task = bast::task::Builder::new()
                    .name("deep")
                    .spawn(|| endless(0))
                    .unwrap();
                println!("ID {}", task.id());
                task.join()
            })
            .unwrap();
        },
    );
    let text = aborted(&output);
    let id = util::word_after(&text, "ID ");
    let start = format!("stack overflow: task {id} \"deep\", spawned at runtime/tests/crash_overflow.rs:");
    let place = util::word_after(&text, &start);
    let line: usize = place.split(':').next().unwrap().parse().unwrap();
    let line = include_str!("crash_overflow.rs").lines().nth(line - 1).unwrap();
    assert!(line.contains(".spawn(|| endless(0))"), "spawned at {line:?}?");
    for part in ["256 KiB", "stack_size", "on_big_stack"] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn with_any_number_of_processors_and_any_stack_size() {
    let name = "with_any_number_of_processors_and_any_stack_size";
    let case = std::env::var("CASE")
        .ok()
        .map(|case| case.parse::<usize>().unwrap());
    let sizes = [64 << 10, 256 << 10, 1 << 20, 8 << 20];
    for (index, size) in sizes.into_iter().enumerate() {
        let processors = util::PROCESSORS[index % 3];
        if util::is_child(name) && case != Some(index) {
            continue;
        }
        let output = in_child(
            name,
            |command| _ = command.env("CASE", index.to_string()),
            || {
                let runtime = start(bast::Builder::new().processors(processors).stack_size(size));
                runtime.run(|| {
                    bast::task::yield_now();
                    bast::spawn(|| {
                        bast::task::yield_now(); // perhaps on another worker
                        endless(0)
                    })
                    .join()
                    .unwrap()
                });
            },
        );
        let text = aborted(&output);
        assert!(text.contains("stack overflow: task "), "{text}");
        let expected = if size < 1 << 20 {
            format!("{} KiB", size >> 10)
        } else {
            format!("{} MiB", size >> 20)
        };
        assert!(
            text.contains(&format!("stack: {expected}")) || text.contains(&format!("{} KiB", size >> 10)),
            "{text}"
        );
    }
}

/// In a blocking section the processor is gone, but the task is the same.
#[test]
fn inside_a_blocking_section() {
    let name = "inside_a_blocking_section";
    let output = in_child(
        name,
        |_| {},
        || {
            run_on(1, || bast::blocking(|| endless(0)));
        },
    );
    assert!(aborted(&output).contains("stack overflow: task "));
}

#[test]
fn a_plain_thread_still_gets_stds_message() {
    if cfg!(bast_tsan) {
        return; // std's handler, instrumented, does not fit its alternate stack
    }
    let name = "a_plain_thread_still_gets_stds_message";
    let output = in_child(
        name,
        |_| {},
        || {
            run_on(2, || bast::spawn(|| ()).join().unwrap()); // our handler is in place
            let thread = std::thread::Builder::new()
                .name("plain".to_owned())
                .spawn(|| endless(0));
            thread.unwrap().join().unwrap();
        },
    );
    let text = aborted(&output);
    assert!(
        text.contains("thread 'plain'") && text.contains("has overflowed its stack"),
        "{text}"
    );
    assert!(!text.contains("bast: stack overflow"), "{text}");
}

/// Other faults are not taken for overflows.
#[test]
fn a_wild_pointer_in_a_task_is_a_segmentation_fault() {
    let name = "a_wild_pointer_in_a_task_is_a_segmentation_fault";
    let output = in_child(
        name,
        |_| {},
        || {
            run_on(2, || {
                let wild = std::hint::black_box(std::ptr::without_provenance::<u64>(64));
                // SAFETY: none: the fault is what the child is for.
                unsafe { wild.read_volatile() }
            });
        },
    );
    let text = text_of(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{text}");
    assert!(!text.contains("stack overflow"), "{text}");
}

/// Deep work that asks for room has it.
#[test]
fn on_a_big_stack_the_same_depth_is_no_overflow() {
    fn deep(left: usize) -> usize {
        let frame = std::hint::black_box([left; 64]);
        if left == 0 {
            0
        } else {
            deep(left - 1) + usize::from(std::hint::black_box(frame)[0] == left)
        }
    }
    util::on_each(|| {
        let depth = 2_000; // 1 MiB and more
        assert_eq!(bast::on_big_stack(16 << 20, || deep(depth)), depth);
        // With waits on it.
        let value = bast::on_big_stack(16 << 20, || {
            bast::task::yield_now();
            bast::time::sleep(std::time::Duration::from_micros(100));
            bast::spawn(|| 5).join().unwrap() + deep(depth)
        });
        assert_eq!(value, 5 + depth);
    });
}
