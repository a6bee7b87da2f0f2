//! Guards: what they cost in mappings, where they end, and the error when mappings run out.
#![cfg(target_os = "linux")]

mod support;

use bast_stack::{Config, GuardMode, Stack, StackClass, Stacks};
use std::os::unix::process::ExitStatusExt;
use support::{child_command, emulated, in_child, is_child, maps};

const CLASS: StackClass = StackClass::Small64K;

fn stacks(guard: GuardMode) -> Option<Stacks> {
    match Stacks::new(Config {
        guard,
        ..support::config()
    }) {
        Err(error) if error.is_guard_unsupported() => {
            eprintln!("skipped, this kernel has no MADV_GUARD_INSTALL: {error}");
            None
        }
        result => Some(result.expect("stacks")),
    }
}

#[test]
fn ten_thousand_installed_guards_add_no_mapping() {
    in_child("ten_thousand_installed_guards_add_no_mapping", || {
        if !support::counts_are_ours() {
            return;
        }
        let Some(stacks) = stacks(GuardMode::Install) else {
            return;
        };
        let mut all = vec![stacks.take(CLASS).expect("a stack")];
        let before = maps();
        all.extend((1..10_000).map(|_| stacks.take(CLASS).expect("a stack")));
        // The heap may have grown by a mapping for the vector; stacks have added none.
        assert!(
            maps() <= before + 2,
            "{} mappings before, {} after",
            before,
            maps()
        );
        stacks.put_batch(CLASS, all);
    });
}

#[test]
fn protected_guards_end_with_an_error_that_names_the_limit_and_the_cure() {
    in_child(
        "protected_guards_end_with_an_error_that_names_the_limit_and_the_cure",
        || {
            if !support::counts_are_ours() {
                return;
            }
            let limit: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count")
                .expect("procfs")
                .trim()
                .parse()
                .expect("a number");
            if limit > 300_000 {
                eprintln!("skipped: max_map_count is {limit}, so many stacks would take long");
                return;
            }
            let stacks = stacks(GuardMode::Protect).expect("works everywhere");
            let mut all = Vec::with_capacity(limit);
            let error = loop {
                match stacks.take(CLASS) {
                    Ok(stack) => all.push(stack),
                    Err(error) => break error,
                }
            };
            let text = error.to_string();
            assert!(error.is_maps_exhausted() && !error.is_out_of_memory(), "{text}");
            assert!(text.contains(&format!("vm.max_map_count is {limit}")), "{text}");
            assert!(text.contains("sysctl -w vm.max_map_count=2100000"), "{text}");
            assert!(text.contains(&format!("{} stacks so far", all.len())), "{text}");
            assert!(
                all.len() > limit / 2 - 1000,
                "only {} stacks of {limit} mappings",
                all.len()
            );
            let kind = std::io::Error::from(error).kind();
            assert_eq!(kind, std::io::ErrorKind::OutOfMemory);
            // Nothing is broken: what was given back can be taken again.
            stacks.put(all.pop().expect("a stack"));
            all.push(stacks.take(CLASS).expect("the one just put"));
            stacks.put_batch(CLASS, all);
        },
    );
}

/// Without this, a broken probe would skip every test of installed guards.
#[test]
fn where_the_kernel_installs_guards_they_are_used() {
    if emulated() {
        eprintln!("skipped: QEMU's user mode says yes to advice it does not know");
        return;
    }
    const MADV_GUARD_INSTALL: libc::c_int = 102;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 65536, rights, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: our own mapping.
    let installs = unsafe { libc::madvise(page, 65536, MADV_GUARD_INSTALL) } == 0;
    // SAFETY: as above.
    unsafe { libc::munmap(page, 65536) };
    let stats = Stacks::new(support::config()).expect("stacks").stats();
    assert_eq!(stats.guard_installed, installs);
}

/// In a child: writes to `address_of` a stack and says how that ended.
fn dies_of(test: &str, guard: GuardMode, address_of: fn(&Stack) -> usize) -> Option<i32> {
    if is_child(test) {
        let stacks = stacks(guard).expect("not skipped");
        let _below = stacks.take(CLASS).expect("a stack");
        let stack = stacks.take(CLASS).expect("a stack");
        // SAFETY: this test is about what happens: inside the stack, or in its guard.
        unsafe { (address_of(&stack) as *mut u8).write_volatile(1) };
        println!("CHILD LIVED");
        std::process::exit(0);
    }
    let output = child_command(test).output().expect("a child");
    let lived = support::text_of(&output).contains("CHILD LIVED");
    assert_eq!(lived, output.status.success());
    output.status.signal()
}

macro_rules! touches {
    ($($name:ident: $guard:expr, $address:expr, $signal:expr;)*) => {$(
        #[test]
        fn $name() {
            if stacks($guard).is_none() {
                return;
            }
            assert_eq!(dies_of(stringify!($name), $guard, $address), $signal);
        }
    )*};
}

touches! {
    installed_lowest_byte_is_usable: GuardMode::Install, |stack| stack.limit(), None;
    installed_guard_starts_just_below: GuardMode::Install, |stack| stack.limit() - 1, Some(libc::SIGSEGV);
    installed_guard_reaches_to_the_next_slot: GuardMode::Install,
        |stack| stack.top() - stack.class().bytes(), Some(libc::SIGSEGV);
    protected_lowest_byte_is_usable: GuardMode::Protect, |stack| stack.limit(), None;
    protected_guard_starts_just_below: GuardMode::Protect, |stack| stack.limit() - 1, Some(libc::SIGSEGV);
    protected_guard_reaches_to_the_next_slot: GuardMode::Protect,
        |stack| stack.top() - stack.class().bytes(), Some(libc::SIGSEGV);
}

#[test]
fn a_guard_outlives_trimming_and_reuse() {
    let name = "a_guard_outlives_trimming_and_reuse";
    if is_child(name) {
        let stacks = stacks(GuardMode::Auto).expect("works everywhere");
        let stack = stacks.take(CLASS).expect("a stack");
        let limit = stack.limit();
        // SAFETY: inside the stack.
        unsafe { (limit as *mut u8).write_volatile(1) };
        stacks.put(stack);
        for hour in 0..20 {
            stacks.trim(std::time::Duration::from_secs(3600 * hour));
        }
        let again = stacks.take(CLASS).expect("a stack");
        assert_eq!(again.limit(), limit);
        // SAFETY: inside the stack, then, as the test wants it, in the guard.
        unsafe { (limit as *mut u8).write_volatile(1) };
        println!("CHILD LIVED SO FAR");
        // SAFETY: as above.
        unsafe { ((limit - 1) as *mut u8).write_volatile(1) };
        std::process::exit(0);
    }
    let output = child_command(name).output().expect("a child");
    assert!(support::text_of(&output).contains("CHILD LIVED SO FAR"));
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
}
