//! What the tests share: a small coroutine on the crate's public API, and a child process of a test.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a switch names two fields of one raw struct"
)]

use bast_stack::{Config, Saved, Stack, StackClass, Stacks, switch, switch_final};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};

type Body = Box<dyn FnOnce(&mut Context, usize) -> usize + Send>;

/// What a coroutine's body is given to park with.
pub(crate) struct Context {
    home: Saved,
    task: Saved,
    body: Option<Body>,
    done: bool,
    panic: Option<Box<dyn Any + Send>>,
}

impl Context {
    /// Gives `value` to the resumer and waits for the next resume; returns its argument.
    #[inline(never)]
    pub(crate) fn park(&mut self, value: usize) -> usize {
        // SAFETY: home is suspended while the task runs.
        unsafe { switch(&raw mut self.task, &raw mut self.home, value) }
    }

    pub(crate) fn saved_stack_pointer(&self) -> usize {
        self.task.stack_pointer()
    }
}

/// A suspended function. Dropping one that has not ended leaks its stack.
pub(crate) struct Coroutine {
    context: *mut Context,
    stack: Option<Stack>,
}

// SAFETY: bodies are Send, and the tests keep nothing bound to a thread across a park.
unsafe impl Send for Coroutine {}

impl Coroutine {
    pub(crate) fn new(
        stacks: &Stacks,
        body: impl FnOnce(&mut Context, usize) -> usize + Send + 'static,
    ) -> Coroutine {
        Coroutine::on(stacks.take(StackClass::Default256K).expect("a stack"), 0, body)
    }

    pub(crate) fn on(
        stack: Stack,
        colour: usize,
        body: impl FnOnce(&mut Context, usize) -> usize + Send + 'static,
    ) -> Coroutine {
        let body: Body = Box::new(body);
        let context = Context {
            home: Saved::empty(),
            task: Saved::empty(),
            body: Some(body),
            done: false,
            panic: None,
        };
        let context = Box::into_raw(Box::new(context));
        // SAFETY: the stack is ours and empty.
        unsafe { (*context).task.prepare(&stack, colour, entry) };
        let mut coroutine = Coroutine {
            context,
            stack: Some(stack),
        };
        // The first switch delivers the context's address; the second the body's first argument.
        coroutine.switch_in(context as usize);
        coroutine
    }

    fn switch_in(&mut self, argument: usize) -> usize {
        // SAFETY: the task is suspended, and resumed by one caller at a time (`&mut self`).
        unsafe {
            switch(
                &raw mut (*self.context).home,
                &raw mut (*self.context).task,
                argument,
            )
        }
    }

    #[inline(never)]
    pub(crate) fn resume(&mut self, argument: usize) -> usize {
        assert!(!self.is_done(), "it has ended");
        self.switch_in(argument)
    }

    /// As [`Coroutine::resume`], for the last time, from a place that its `Saved` was moved to; `stranger`'s lies where
    /// it was saved.
    pub(crate) fn end_from_elsewhere(&mut self, stranger: &mut Coroutine, argument: usize) -> usize {
        // SAFETY: both are suspended, and ours (`&mut`).
        let (own, other) = unsafe { (&mut (*self.context).task, &mut (*stranger.context).task) };
        let mut moved = std::mem::replace(own, Saved::empty());
        std::mem::swap(own, other);
        // SAFETY: the task is suspended, and resumed once.
        let value = unsafe { switch(&raw mut (*self.context).home, &raw mut moved, argument) };
        assert!(self.is_done(), "it parked instead");
        // SAFETY: one has ended, the other is suspended, and both are ours.
        let (own, other) = unsafe { (&mut (*self.context).task, &mut (*stranger.context).task) };
        std::mem::swap(own, other);
        value
    }

    pub(crate) fn is_done(&self) -> bool {
        // SAFETY: the task is suspended or ended.
        unsafe { (*self.context).done }
    }

    pub(crate) fn saved_stack_pointer(&self) -> usize {
        // SAFETY: the task is suspended or ended.
        unsafe { (*self.context).task.stack_pointer() }
    }

    pub(crate) fn stack(&self) -> &Stack {
        self.stack.as_ref().expect("not finished")
    }

    /// The stack of an ended coroutine, and its panic if it had one.
    pub(crate) fn finish(mut self) -> (Stack, Option<Box<dyn Any + Send>>) {
        assert!(self.is_done());
        // SAFETY: the task has ended: nobody uses its context any more.
        let context = unsafe { Box::from_raw(self.context) };
        (self.stack.take().expect("finished once"), context.panic)
    }
}

/// The task's outermost Rust function: tests look for its name at the end of a backtrace.
pub(crate) unsafe extern "C" fn entry(context: usize) -> ! {
    let context = context as *mut Context;
    // SAFETY: the coroutine keeps the context until the task has ended, and touches it only while we are parked.
    let shared = unsafe { &mut *context };
    let argument = shared.park(0);
    let body = shared.body.take().expect("started once");
    let result = catch_unwind(AssertUnwindSafe(|| body(shared, argument)));
    shared.done = true;
    let value = result.unwrap_or_else(|panic| {
        shared.panic = Some(panic);
        usize::MAX
    });
    // SAFETY: everything of this stack has been dropped.
    unsafe { switch_final(&raw mut (*context).task, &raw mut (*context).home, value) }
}

/// Set to the emulator's command line when the tests run in one, such as `qemu-aarch64-static -L /`.
const EMULATOR: &str = "BAST_EMULATED";

const CHILD: &str = "BAST_STACK_TEST_CHILD";

/// Whether this process is the child that `run_child(name)` started.
pub(crate) fn is_child(name: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|value| value == name)
}

/// Runs the test `name` of this binary alone in a process of its own, where [`is_child`] holds.
pub(crate) fn run_child(name: &str) -> Output {
    child_command(name)
        .output()
        .expect("the test binary starts again")
}

/// The command of [`run_child`].
pub(crate) fn child_command(name: &str) -> Command {
    let binary = std::env::current_exe().expect("a test binary");
    // An emulated program cannot start itself; its emulator can.
    let mut command = match std::env::var(EMULATOR) {
        Ok(emulator) => {
            let mut words = emulator.split_whitespace();
            let mut command = Command::new(words.next().expect("a command"));
            command.args(words).arg(binary);
            command
        }
        Err(_) => Command::new(binary),
    };
    command
        .args([
            name,
            "--exact",
            "--nocapture",
            "--include-ignored",
            "--test-threads=1",
        ])
        .env(CHILD, name);
    // Faults are the tests' business: the sanitizers leave the signals alone.
    for variable in ["ASAN_OPTIONS", "TSAN_OPTIONS"] {
        let given = std::env::var(variable).unwrap_or_default();
        let ours = "handle_segv=0:handle_sigbus=0:handle_abort=0:use_sigaltstack=0";
        command.env(variable, format!("{given}:{ours}"));
    }
    command
}

/// The configuration to test with: the default one, except that QEMU's user mode keeps a record of every page
/// of a mapping, so that there the default reservation takes many seconds.
pub(crate) fn config() -> Config {
    let slots_per_arena = if emulated() { Some(2048) } else { None };
    Config {
        slots_per_arena,
        ..Config::default()
    }
}

/// Both streams of a child.
pub(crate) fn text_of(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs the body in a child and demands that the test passed there.
pub(crate) fn in_child(name: &str, body: impl FnOnce()) {
    if is_child(name) {
        body();
        println!("CHILD PASSED");
        return;
    }
    let output = run_child(name);
    let text = text_of(&output);
    assert!(
        output.status.success() && text.contains("CHILD PASSED"),
        "{}\n{text}",
        output.status
    );
}

/// A field of `/proc/self/status`, in bytes.
pub(crate) fn status_bytes(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .expect("the field");
    let number = line
        .trim_start_matches(':')
        .split_whitespace()
        .next()
        .expect("a number");
    number.parse::<usize>().expect("a number") << 10
}

/// How many mappings this process has.
pub(crate) fn maps() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .expect("procfs")
        .lines()
        .count()
}

/// Whether this program is being emulated (the aarch64 tests run so on other machines).
pub(crate) fn emulated() -> bool {
    std::env::var_os(EMULATOR).is_some()
}

/// Whether this process's memory and mappings are its own doing. A sanitizer or an emulator has a life of its
/// own, so tests that count them say so and stop.
pub(crate) fn counts_are_ours() -> bool {
    let ours = !emulated() && !cfg!(any(bast_asan, bast_tsan));
    if !ours {
        eprintln!("skipped: under a sanitizer or an emulator the counts of this process are not its own");
    }
    ours
}
