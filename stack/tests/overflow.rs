//! Overflow in child processes: the message, the abort, and that other faults go where they went before.

mod support;

use bast_stack::fault::{self, AltStack, FaultText};
use bast_stack::{StackClass, Stacks, on_big_stack};
use std::fmt::Write;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use support::{Coroutine, child_command, is_child, text_of};

fn describe(address: usize, out: &mut FaultText) {
    let _ = write!(
        out,
        "task 7 \"parser\", spawned at src/main.rs:12 (asked about {address:#x})"
    );
}

#[expect(unconditional_recursion, reason = "that is what overflows")]
fn endless(level: usize) -> usize {
    let mut frame = [level; 64];
    black_box(&mut frame);
    endless(level + 1) + black_box(&frame)[0]
}

/// In the child, runs `body` and never comes back; in the parent, gives its output.
fn child(name: &str, body: impl FnOnce()) -> Output {
    if is_child(name) {
        body();
        println!("CHILD LIVED");
        std::process::exit(0);
    }
    let output = child_command(name).output().expect("a child");
    assert!(!text_of(&output).contains("CHILD LIVED"), "{}", text_of(&output));
    output
}

fn overflow_in_a_task(class: StackClass) {
    fault::install(describe).expect("handlers");
    let _alt_stack = AltStack::new().expect("a signal stack");
    let stacks = Stacks::new(support::config()).expect("stacks");
    let stack = stacks.take(class).expect("a stack");
    Coroutine::on(stack, 0, |_, _| endless(0)).resume(0);
}

#[test]
fn a_tasks_overflow_names_the_task_and_the_cure_and_aborts() {
    let output = child("a_tasks_overflow_names_the_task_and_the_cure_and_aborts", || {
        overflow_in_a_task(StackClass::Default256K);
    });
    let text = text_of(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    for part in [
        "bast: stack overflow: task 7 \"parser\", spawned at src/main.rs:12",
        "stack: 256 KiB (",
        "`stack_size`",
        "`maybe_grow` or `on_big_stack`",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(
        !text.contains("has overflowed its stack"),
        "std's message is for threads:\n{text}"
    );
}

#[test]
fn every_class_is_reported_with_its_size() {
    let name = "every_class_is_reported_with_its_size";
    let class = std::env::var("CLASS")
        .ok()
        .and_then(|index| index.parse::<usize>().ok());
    if is_child(name) {
        overflow_in_a_task(StackClass::ALL[class.expect("given")]);
        std::process::exit(0);
    }
    for (index, class) in StackClass::ALL.into_iter().enumerate() {
        let output = child_command(name)
            .env("CLASS", index.to_string())
            .output()
            .expect("a child");
        let text = text_of(&output);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
        assert!(
            text.contains(&format!("stack: {} KiB (", class.bytes() >> 10)),
            "{text}"
        );
    }
}

#[test]
fn a_big_stacks_overflow_is_reported_too() {
    let output = child("a_big_stacks_overflow_is_reported_too", || {
        fault::install(describe).expect("handlers");
        let _alt_stack = AltStack::new().expect("a signal stack");
        on_big_stack(9 << 20, || endless(0));
    });
    let text = text_of(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(
        text.contains("bast: stack overflow: task 7") && text.contains("stack: 928"),
        "{text}"
    );
}

#[test]
fn a_plain_threads_overflow_still_gets_stds_message() {
    if cfg!(bast_tsan) {
        return; // std's handler, instrumented, does not fit its alternate stack
    }
    let output = child("a_plain_threads_overflow_still_gets_stds_message", || {
        fault::install(describe).expect("handlers");
        let thread = std::thread::Builder::new().name("plain".to_owned());
        let _ = thread.spawn(|| endless(0)).expect("a thread").join();
    });
    let text = text_of(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(
        text.contains("thread 'plain'") && text.contains("has overflowed its stack"),
        "{text}"
    );
    assert!(!text.contains("bast: stack overflow"), "{text}");
}

#[test]
fn a_plain_threads_overflow_with_our_alt_stack_gets_stds_message() {
    let output = child(
        "a_plain_threads_overflow_with_our_alt_stack_gets_stds_message",
        || {
            fault::install(describe).expect("handlers");
            let thread = std::thread::Builder::new().name("worker".to_owned());
            let body = || {
                let _alt_stack = AltStack::new().expect("a signal stack");
                endless(0)
            };
            let _ = thread.spawn(body).expect("a thread").join();
        },
    );
    let text = text_of(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(
        text.contains("thread 'worker'") && text.contains("has overflowed its stack"),
        "{text}"
    );
}

#[test]
fn a_wild_pointer_in_a_task_is_a_plain_sigsegv() {
    let output = child("a_wild_pointer_in_a_task_is_a_plain_sigsegv", || {
        fault::install(describe).expect("handlers");
        let _alt_stack = AltStack::new().expect("a signal stack");
        let stacks = Stacks::new(support::config()).expect("stacks");
        // SAFETY: none: that is the point.
        Coroutine::new(&stacks, |_, _| unsafe {
            black_box(16 as *const usize).read_volatile()
        })
        .resume(0);
    });
    let text = text_of(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{text}");
    assert!(!text.contains("bast: stack overflow"), "{text}");
}

#[test]
fn a_touch_of_anothers_guard_is_not_called_an_overflow() {
    let output = child("a_touch_of_anothers_guard_is_not_called_an_overflow", || {
        fault::install(describe).expect("handlers");
        let stacks = Stacks::new(support::config()).expect("stacks");
        let stack = stacks.take(StackClass::Small64K).expect("a stack");
        // SAFETY: none: that is the point.
        unsafe { ((stack.limit() - 8) as *mut usize).write_volatile(1) };
    });
    let text = text_of(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{text}");
    assert!(!text.contains("bast: stack overflow"), "{text}");
}

/// A handler that a program had installed before, of either form.
fn install_earlier(handler: usize, flags: libc::c_int) {
    // SAFETY: all zeroes is a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: a valid action.
    let code = unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()) };
    assert_eq!(code, 0);
}

extern "C" fn earlier_handler(_: libc::c_int) {
    // SAFETY: ends the process.
    unsafe { libc::_exit(77) };
}

extern "C" fn earlier_action(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's siginfo, passed on.
    let facts = unsafe { &*info };
    // SAFETY: for SIGSEGV the address is set.
    let address = unsafe { facts.si_addr() } as usize;
    // SAFETY: ends the process.
    unsafe { libc::_exit(if address == 16 { 78 } else { 1 }) };
}

#[test]
fn earlier_handlers_of_both_forms_get_foreign_faults() {
    let name = "earlier_handlers_of_both_forms_get_foreign_faults";
    let form = std::env::var("FORM").ok();
    if is_child(name) {
        match form.as_deref() {
            Some("plain") => install_earlier(earlier_handler as *const () as usize, 0),
            _ => install_earlier(earlier_action as *const () as usize, libc::SA_SIGINFO),
        }
        fault::install(describe).expect("handlers");
        fault::install(describe).expect("again, which must not make us our own earlier handler");
        // SAFETY: none: that is the point.
        unsafe { black_box(16 as *const usize).read_volatile() };
    }
    for (form, code) in [("plain", 77), ("info", 78)] {
        let output = child_command(name).env("FORM", form).output().expect("a child");
        assert_eq!(output.status.code(), Some(code), "{form}: {}", text_of(&output));
    }
}

#[test]
fn a_sent_sigsegv_kills_by_that_signal() {
    let output = child("a_sent_sigsegv_kills_by_that_signal", || {
        install_earlier(libc::SIG_DFL, 0);
        fault::install(describe).expect("handlers");
        // SAFETY: asks for this process's number.
        let this = unsafe { libc::getpid() };
        // SAFETY: sends this process a signal.
        unsafe { libc::kill(this, libc::SIGSEGV) };
        std::thread::sleep(std::time::Duration::from_secs(30));
    });
    assert_eq!(
        output.status.signal(),
        Some(libc::SIGSEGV),
        "{}",
        text_of(&output)
    );
}

#[test]
fn the_earlier_signal_stack_comes_back() {
    fn present() -> (usize, usize) {
        // SAFETY: all zeroes is a valid stack_t.
        let mut stack: libc::stack_t = unsafe { std::mem::zeroed() };
        // SAFETY: asks only.
        let code = unsafe { libc::sigaltstack(std::ptr::null(), &raw mut stack) };
        assert_eq!(code, 0);
        (stack.ss_sp as usize, stack.ss_size)
    }
    let before = present();
    {
        let _alt_stack = AltStack::new().expect("a signal stack");
        let ours = present();
        assert!(ours.0 != before.0 && ours.1 >= 64 << 10, "{ours:x?}");
        {
            let _nested = AltStack::new().expect("a signal stack");
            assert_ne!(present().0, ours.0);
        }
        assert_eq!(present(), ours);
    }
    assert_eq!(present(), before);
}

#[test]
fn text_beyond_the_buffer_is_cut_off() {
    let output = child("text_beyond_the_buffer_is_cut_off", || {
        fn long(_: usize, out: &mut FaultText) {
            for _ in 0..1000 {
                if out.write_str("0123456789").is_err() {
                    return;
                }
            }
        }
        fault::install(long).expect("handlers");
        let _alt_stack = AltStack::new().expect("a signal stack");
        let stacks = Stacks::new(support::config()).expect("stacks");
        Coroutine::new(&stacks, |_, _| endless(0)).resume(0);
    });
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    assert!(text_of(&output).contains("bast: stack overflow: 0123456789"));
}
