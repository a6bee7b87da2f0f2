//! What the tests share: a runtime that is watched, child processes, and looks at `/proc`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod net;
pub(crate) mod trace_bytes;

use bast::{Builder, Handle, Runtime};
use std::io::Write;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Processor counts every test runs with where the number could matter.
pub(crate) const PROCESSORS: [usize; 3] = [1, 2, 8];
/// A test that takes so long hangs.
const HANG: Duration = Duration::from_secs(120);
/// Set in child processes to the name of the test that started them.
const CHILD: &str = "BAST_TEST_CHILD";
/// Set to the emulator's command line when the tests run in one.
const EMULATOR: &str = "BAST_EMULATED";

/// Aborts the process when it lives too long, with the name of the test and what the runtime was doing. With
/// `BAST_TEST_GDB=1` gdb prints all stacks first.
#[derive(Debug)]
pub(crate) struct Watchdog {
    over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watchdog {
    pub(crate) fn start(what: impl Into<String>, handle: Option<Handle>) -> Watchdog {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let what = what.into();
        let watched = Arc::clone(&over);
        let thread = std::thread::Builder::new()
            .name("test-watchdog".to_owned())
            .spawn(move || {
                let (lock, changed) = &*watched;
                let over = lock.lock().unwrap();
                let (over, _) = changed.wait_timeout_while(over, HANG, |over| !*over).unwrap();
                if *over {
                    return;
                }
                // Not `eprintln`: this thread's is kept with the test's output, which is lost with the process.
                let mut stderr = std::io::stderr();
                let _ = writeln!(stderr, "\ntest {name} ({what}) hangs: {HANG:?} and not over");
                if let Some(handle) = handle {
                    let _ = writeln!(stderr, "metrics: {:#?}", handle.metrics());
                }
                if std::env::var_os("BAST_TEST_GDB").is_some() {
                    let pid = std::process::id().to_string();
                    let _ = Command::new("gdb")
                        .args(["-batch", "-p", &pid, "-ex", "thread apply all bt"])
                        .status();
                }
                std::process::abort();
            })
            .expect("a thread for the watchdog");
        let thread = Some(thread);
        Watchdog { over, thread }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.over.0.lock().unwrap() = true;
        self.over.1.notify_all();
        // Its handle keeps the runtime's memory.
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Starts a runtime.
pub(crate) fn start(builder: Builder) -> Runtime {
    // SAFETY: the tests keep no value bound to a thread alive across a call that can park, except where a test is
    // about just that, and says why it may.
    unsafe { builder.build() }.expect("the runtime starts")
}

/// Starts a runtime with so many processors.
pub(crate) fn start_with(processors: usize) -> Runtime {
    start(Builder::new().processors(processors))
}

/// Runs `main` on a runtime of its own, watched.
pub(crate) fn run_on<T: Send>(processors: usize, main: impl FnOnce() -> T + Send) -> T {
    let runtime = start_with(processors);
    let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
    let value = runtime.run(main);
    drop(runtime);
    value
}

/// Runs `main` with 1, 2 and 8 processors, each on a runtime of its own.
pub(crate) fn on_each(main: impl Fn() + Sync) {
    PROCESSORS
        .into_iter()
        .for_each(|processors| run_on(processors, &main));
}

/// As [`on_each`], with small stacks.
pub(crate) fn on_each_64k(main: impl Fn() + Sync) {
    for processors in PROCESSORS {
        let runtime = start(Builder::new().processors(processors).stack_size(64 << 10));
        let _watchdog = Watchdog::start(format!("{processors} processors"), Some(runtime.handle()));
        runtime.run(&main);
    }
}

/// Waits, by yielding or on a plain thread by sleeping, until `done`. The watchdog bounds it.
pub(crate) fn wait_for(mut done: impl FnMut() -> bool) {
    while !done() {
        bast::time::sleep(Duration::from_micros(200));
    }
}

/// A gate that tasks can wait at without a primitive of ours that is not yet tested.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicBool);

impl Gate {
    pub(crate) fn new() -> Arc<Gate> {
        Arc::default()
    }

    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn wait(&self) {
        wait_for(|| self.is_open());
    }
}

/// Keeps the CPU busy without a call into bast.
pub(crate) fn burn(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

// ---- child processes ----

/// True in the child that `child(name)` started.
pub(crate) fn is_child(name: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|child| child == name)
}

/// A command that runs the test `name` of this binary in a child process, where `is_child(name)` is true.
pub(crate) fn child_command(name: &str) -> Command {
    let binary = std::env::current_exe().expect("the test's own path");
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
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .env_remove("BAST_MAXPROCS")
        .env_remove("BAST_STACK_SIZE")
        .env_remove("BAST_DEBUG")
        .env_remove("RUST_BACKTRACE");
    command
}

/// In the child runs `body` and ends the process well; in the parent gives the child's output.
pub(crate) fn in_child(name: &str, set_up: impl FnOnce(&mut Command), body: impl FnOnce()) -> Output {
    if is_child(name) {
        {
            let _watchdog = Watchdog::start("child", None);
            body();
        }
        println!("CHILD LIVED");
        std::process::exit(0);
    }
    let mut command = child_command(name);
    set_up(&mut command);
    command.output().expect("a child process")
}

/// As [`in_child`], for a child that must end well.
#[track_caller]
pub(crate) fn in_good_child(name: &str, set_up: impl FnOnce(&mut Command), body: impl FnOnce()) -> String {
    let output = in_child(name, set_up, body);
    let text = text_of(&output);
    assert!(
        output.status.success(),
        "the child ended with {}:\n{text}",
        output.status
    );
    assert!(text.contains("CHILD LIVED"), "the child ran no test:\n{text}");
    text
}

/// What a child said on both its channels.
pub(crate) fn text_of(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The word that follows `key` in a child's text.
#[track_caller]
pub(crate) fn word_after<'a>(text: &'a str, key: &str) -> &'a str {
    let rest = text
        .split(key)
        .nth(1)
        .unwrap_or_else(|| panic!("{key:?} is missing in:\n{text}"));
    rest.split_whitespace().next().expect("a word")
}

/// Lowers a limit of this process for good; for children.
pub(crate) fn lower_limit(resource: libc::__rlimit_resource_t, to: u64) {
    let limit = libc::rlimit {
        rlim_cur: to,
        rlim_max: to,
    };
    // SAFETY: validity: the limit is read from a local. aliasing: a local.
    let result = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(result, 0, "setrlimit: {}", std::io::Error::last_os_error());
}

// ---- /proc ----

/// A line of `/proc/self/status` in its own unit (KiB, or a count).
pub(crate) fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {field} in /proc/self/status"));
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Open descriptors of this process.
pub(crate) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count() - 1 // the directory's own
}

/// True if a sanitizer or Valgrind watches, whose memory and time are not ours.
pub(crate) fn is_instrumented() -> bool {
    cfg!(bast_asan) || cfg!(bast_tsan) || std::env::var_os("RUNNING_ON_VALGRIND").is_some()
}

/// True under an emulator of another machine, whose memory and timing say nothing of ours.
pub(crate) fn is_emulated() -> bool {
    std::env::var_os(EMULATOR).is_some()
}

/// Sends a signal to every thread of the process, the runtime's included, until `over`.
#[cfg(target_os = "linux")]
pub(crate) fn send_to_all(signal: libc::c_int, over: &AtomicBool) {
    let process = std::process::id() as i32;
    while !over.load(Ordering::Relaxed) {
        let threads = std::fs::read_dir("/proc/self/task").expect("/proc/self/task");
        for thread in threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()) {
            // SAFETY: validity: numbers only; a thread that has ended meanwhile is an error, which is no matter here.
            // aliasing: no memory is passed.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Handles a signal with `handler`, which only touches its own stack and atomics.
#[cfg(target_os = "linux")]
pub(crate) fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int), flags: libc::c_int) {
    // SAFETY: validity: all-zero is an empty set, no flags and the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = flags;
    // SAFETY: validity: a whole action, whose handler may interrupt anything. aliasing: it is read.
    let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(result, 0, "sigaction: {}", std::io::Error::last_os_error());
}
