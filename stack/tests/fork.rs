//! A task may fork: its child has the task's stack, and no other task's.
#![cfg(target_os = "linux")]

mod support;

use bast_stack::Stacks;
use std::os::unix::process::CommandExt;
use std::process::Command;
use support::Coroutine;

#[test]
fn a_command_that_forks_runs_from_a_task() {
    let stacks = Stacks::new(support::config()).expect("stacks");
    let mut coroutine = Coroutine::new(&stacks, |_, _| {
        // SAFETY: getuid has no precondition.
        let uid = unsafe { libc::getuid() };
        // With a user id, std forks instead of spawning; the child needs the stack it was forked on.
        let status = Command::new("true").uid(uid).status().expect("it starts");
        assert!(status.success(), "{status}");
        1
    });
    assert_eq!(coroutine.resume(0), 1);
    let (stack, panic) = coroutine.finish();
    assert!(panic.is_none());
    stacks.put(stack);
}

// Under a sanitizer, children inherit all stacks (region.rs).
#[cfg(not(any(bast_asan, bast_tsan)))]
#[test]
fn a_forked_child_has_the_callers_stack_only() {
    if support::emulated() {
        eprintln!("skipped: QEMU's user mode ignores MADV_DONTFORK");
        return;
    }
    let stacks = Stacks::new(support::config()).expect("stacks");
    let other = stacks.take(bast_stack::StackClass::Default256K).expect("a stack");
    let word = (other.top() - 8) as *mut usize;
    // SAFETY: inside a stack on which nothing lives.
    unsafe { word.write_volatile(7) };
    let word = word as usize;
    let mut coroutine = Coroutine::new(&stacks, move |_, _| {
        // SAFETY: the child calls nothing but async-signal-safe functions.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let page = word & !4095;
            let mut flag = 0_u8;
            // An unmapped page is ENOMEM for mincore.
            // SAFETY: one byte for one page.
            let code = unsafe { libc::mincore(page as *mut _, 4096, (&raw mut flag).cast()) };
            // SAFETY: ends the child.
            unsafe { libc::_exit(if code == -1 { 33 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(
            libc::WIFEXITED(status),
            "the child died of signal {}",
            libc::WTERMSIG(status)
        );
        libc::WEXITSTATUS(status) as usize
    });
    let code = coroutine.resume(0);
    let (stack, panic) = coroutine.finish();
    assert!(panic.is_none());
    assert_eq!(code, 33, "the child has another task's stack too");
    stacks.put(stack);
    stacks.put(other);
}
