//! Backtraces end at the task's entry: std's, a panic's, and a debugger's.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::backtrace::Backtrace;
use std::process::Command;
use util::{in_good_child, on_each, run_on};

/// Frames of a backtrace, one name a line; symbols of this crate are there in every profile with line tables.
fn frames(trace: &Backtrace) -> Vec<String> {
    let text = trace.to_string();
    text.lines()
        .map(str::trim)
        .filter(|line| {
            line.split(':')
                .next()
                .is_some_and(|number| number.parse::<usize>().is_ok())
        })
        .map(str::to_owned)
        .collect()
}

#[inline(never)]
fn called_in_the_task() -> Vec<String> {
    let trace = frames(&Backtrace::force_capture());
    std::hint::black_box(trace)
}

#[track_caller]
fn check(frames: &[String]) {
    let own = frames
        .iter()
        .position(|frame| frame.contains("called_in_the_task"));
    assert!(own.is_some(), "the task's own function is missing: {frames:#?}");
    let entry = frames
        .iter()
        .position(|frame| frame.contains("task_entry") || frame.contains("trampoline"));
    assert!(entry.is_some(), "the task's entry is missing: {frames:#?}");
    assert!(own < entry, "{frames:#?}");
    let last = frames.last().unwrap();
    assert!(
        ["task_entry", "trampoline", "bast_stack"]
            .iter()
            .any(|name| last.contains(name)),
        "the trace runs on past the entry to {last}: {frames:#?}"
    );
    assert!(
        frames
            .iter()
            .all(|frame| !frame.contains("clone3") && !frame.contains("run_tasks")),
        "{frames:#?}"
    );
}

#[test]
fn std_backtraces_end_at_the_entry() {
    on_each(|| {
        check(&bast::spawn(called_in_the_task).join().unwrap());
        // After a switch to and fro, perhaps on another worker.
        let later = bast::spawn(|| {
            bast::task::yield_now();
            bast::time::sleep(std::time::Duration::from_micros(100));
            called_in_the_task()
        });
        check(&later.join().unwrap());
        check(&called_in_the_task()); // the main task
        // The second task on a stack that the one before it had used.
        for _ in 0..10 {
            check(&bast::spawn(called_in_the_task).join().unwrap());
        }
    });
}

#[test]
fn on_a_big_stack_the_trace_goes_on_into_the_task() {
    run_on(1, || {
        let trace = bast::on_big_stack(1 << 20, called_in_the_task);
        check(&trace);
        assert!(
            trace.iter().any(|frame| frame.contains("on_big_stack")),
            "{trace:#?}"
        );
    });
}

#[inline(never)]
fn panics_in_the_task() {
    panic!("expected by the test");
}

#[test]
fn a_panics_backtrace_ends_at_the_entry() {
    let name = "a_panics_backtrace_ends_at_the_entry";
    let text = in_good_child(
        name,
        |command| _ = command.env("RUST_BACKTRACE", "full"),
        || run_on(1, || assert!(bast::spawn(panics_in_the_task).join().is_err())),
    );
    let place = |name: &str| {
        text.find(name)
            .unwrap_or_else(|| panic!("{name} is missing in:\n{text}"))
    };
    assert!(place("expected by the test") < place("panics_in_the_task"));
    let trace = &text[place("stack backtrace:")..];
    let is_frame = |line: &&str| {
        !line.contains("0x0 - <unknown>") // ends the trace of any thread
            && line.trim().split(':').next().is_some_and(|number| number.parse::<usize>().is_ok())
    };
    let last = trace.lines().rfind(is_frame).expect("frames");
    assert!(
        ["task_entry", "trampoline", "bast_stack"]
            .iter()
            .any(|name| last.contains(name)),
        "the trace ends with {last}:\n{text}"
    );
}

/// Spins where a debugger is to find it.
#[inline(never)]
fn found_by_the_debugger() {
    println!("READY");
    loop {
        std::hint::black_box(());
        std::hint::spin_loop();
    }
}

#[test]
fn a_debugger_sees_a_running_task_up_to_its_entry() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let name = "a_debugger_sees_a_running_task_up_to_its_entry";
    if util::is_child(name) {
        let _watchdog = util::Watchdog::start("the debugger's child", None);
        run_on(1, || bast::spawn(found_by_the_debugger).join().unwrap());
        return;
    }
    if Command::new("gdb").arg("--version").output().is_err() {
        println!("skipped: there is no gdb here");
        return;
    }
    let mut child = util::child_command(name)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready = lines.any(|line| line.is_ok_and(|line| line.contains("READY")));
    let output = Command::new("gdb")
        .args([
            "-batch",
            "-nx",
            "-p",
            &child.id().to_string(),
            "-ex",
            "thread apply all bt",
        ])
        .output()
        .expect("gdb runs");
    let _ = child.kill();
    let _ = child.wait();
    assert!(ready, "the child never came to its task");
    let text = util::text_of(&output);
    if text.contains("Could not attach") || text.contains("ptrace") {
        println!("skipped: gdb may not attach here:\n{text}");
        return;
    }
    let task = text
        .split("\nThread ")
        .find(|thread| thread.contains("found_by_the_debugger"))
        .unwrap_or_else(|| panic!("no thread runs the task in:\n{text}"));
    assert!(
        !task.contains("Backtrace stopped"),
        "the trace does not end cleanly:\n{task}"
    );
    let last = task
        .lines()
        .rfind(|line| line.trim_start().starts_with('#'))
        .expect("frames");
    assert!(
        ["task_entry", "trampoline", "bast_stack"]
            .iter()
            .any(|name| last.contains(name)),
        "the trace ends with {last}:\n{task}"
    );
}
