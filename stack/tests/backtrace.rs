//! Backtraces, by `std`, by frame pointers and by gdb, end at a task's entry.

mod support;

use bast_stack::{Stacks, on_big_stack};
use std::backtrace::Backtrace;
use std::process::Command;
use support::{Coroutine, emulated};

#[inline(never)]
fn innermost_frame_of_the_task() -> String {
    Backtrace::force_capture().to_string()
}

/// The function names of a backtrace, innermost first.
fn names(trace: &str) -> Vec<&str> {
    trace
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(number, _)| number.parse::<u32>().is_ok())
        .map(|(_, name)| name)
        .collect()
}

#[test]
fn a_backtrace_in_a_task_ends_at_its_entry() {
    let stacks = Stacks::new(support::config()).expect("stacks");
    let (sender, traces) = std::sync::mpsc::channel();
    let mut coroutine = Coroutine::new(&stacks, move |context, _| {
        sender.send(innermost_frame_of_the_task()).expect("open");
        context.park(0);
        sender
            .send(on_big_stack(1 << 20, innermost_frame_of_the_task))
            .expect("open");
        0
    });
    for _ in 0..2 {
        coroutine.resume(0);
        let trace = traces.recv().expect("sent");
        let names = names(&trace);
        assert!(
            names
                .iter()
                .any(|name| name.contains("innermost_frame_of_the_task")),
            "{trace}"
        );
        assert!(
            names.iter().any(|name| name.contains("support::entry")),
            "{trace}"
        );
        let last = names.last().expect("frames");
        assert!(
            last.contains("trampoline") || last.contains("entry::begin"),
            "it ends elsewhere:\n{trace}"
        );
        assert!(
            !trace.contains("a_backtrace_in_a_task_ends_at_its_entry\n"),
            "the resumer is not a caller:\n{trace}"
        );
    }
    stacks.put(coroutine.finish().0);
}

#[test]
fn a_backtrace_on_a_big_stack_goes_on_to_the_caller() {
    let trace = on_big_stack(1 << 20, || on_big_stack(20 << 20, innermost_frame_of_the_task));
    let names = names(&trace);
    let calls = names.iter().filter(|name| name.ends_with("::call_on")).count();
    assert_eq!(calls, 2, "{trace}");
    assert!(
        trace.contains("a_backtrace_on_a_big_stack_goes_on_to_the_caller"),
        "{trace}"
    );
}

/// What gdb stops at.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn bast_stack_gdb_stops_here(value: usize) -> usize {
    std::hint::black_box(value)
}

#[test]
fn gdb_stop_target() {
    let stacks = Stacks::new(support::config()).expect("stacks");
    let mut coroutine = Coroutine::new(&stacks, |_, _| {
        bast_stack_gdb_stops_here(1);
        on_big_stack(1 << 20, || bast_stack_gdb_stops_here(2))
    });
    assert_eq!(coroutine.resume(0), 2);
    stacks.put(coroutine.finish().0);
}

#[test]
fn gdb_backtraces_end_at_the_entry() {
    if emulated() {
        eprintln!("skipped: gdb cannot run a program of an emulator");
        return;
    }
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-batch",
        "-nx",
        "-iex",
        "set debuginfod enabled off",
        "-ex",
        "set breakpoint pending on",
    ]);
    gdb.args([
        "-ex",
        "break bast_stack_gdb_stops_here",
        "-ex",
        "run",
        "-ex",
        "bt",
        "-ex",
        "continue",
        "-ex",
        "bt",
    ]);
    gdb.arg("--args")
        .arg(std::env::current_exe().expect("a test binary"));
    gdb.args(["gdb_stop_target", "--exact", "--test-threads=1"]);
    let output = match gdb.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: gdb is not installed");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let text = support::text_of(&output);
    // Each `bt` prints its frames as lines that begin with `#`, numbered from 0.
    let mut traces: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('#')) {
        if line.starts_with("#0 ") {
            traces.push(Vec::new());
        }
        traces.last_mut().expect("a trace begins with frame 0").push(line);
    }
    assert_eq!(traces.len(), 2, "gdb did not stop twice:\n{text}");
    assert!(
        !text.contains("corrupt stack") && !text.contains("Cannot access memory"),
        "{text}"
    );
    for trace in &traces {
        assert!(trace.iter().any(|line| line.contains("support::entry")), "{text}");
        let last = trace.last().expect("frames");
        assert!(
            last.contains("trampoline"),
            "gdb's backtrace ends in {last}:\n{text}"
        );
    }
    assert!(
        traces[1].iter().any(|line| line.contains("on_big_stack")),
        "{text}"
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
#[ignore = "needs a build with RUSTFLAGS=-Cforce-frame-pointers=yes"]
fn a_chain_of_frame_pointers_ends_with_zero_on_the_tasks_stack() {
    let stacks = Stacks::new(support::config()).expect("stacks");
    let mut coroutine = Coroutine::new(&stacks, |context, _| context.park(1));
    coroutine.resume(0);
    // The switch record: see arch/x86_64.rs. In a build with frame pointers RBP chains.
    let record = coroutine.saved_stack_pointer() - 24;
    // SAFETY: the coroutine is suspended, its record intact.
    let mut frame = unsafe { (record as *const usize).read() };
    let mut frames = 0;
    while frame != 0 {
        assert!(
            coroutine.stack().contains(frame) && frame.is_multiple_of(8),
            "{frame:#x} is no frame"
        );
        // SAFETY: inside the suspended stack.
        let next = unsafe { (frame as *const usize).read() };
        assert!(next == 0 || next > frame, "the chain goes up");
        frame = next;
        frames += 1;
    }
    assert!(frames >= 1, "no frames: was it built with frame pointers?");
    coroutine.resume(0);
    stacks.put(coroutine.finish().0);
}
