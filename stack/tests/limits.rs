//! What a process is told when the system refuses memory for stacks.
#![cfg(target_os = "linux")]

mod support;

use bast_stack::{StackClass, StackError, Stacks};
use support::in_child;

fn set_limit(resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid rlimit.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// Takes stacks until it fails, at most `most`; returns how many there were.
fn exhaust(class: StackClass, most: usize) -> (usize, Option<StackError>) {
    let stacks = Stacks::new(support::config()).expect("no memory is needed yet");
    let mut all = Vec::new();
    let error = loop {
        match stacks.take(class) {
            Ok(stack) => all.push(stack),
            Err(error) => break Some(error),
        }
        if all.len() == most {
            break None;
        }
    };
    let count = all.len();
    stacks.put_batch(class, all);
    (count, error)
}

#[test]
fn a_small_address_space_gets_smaller_arenas_and_then_a_clear_error() {
    in_child(
        "a_small_address_space_gets_smaller_arenas_and_then_a_clear_error",
        || {
            if !support::counts_are_ours() {
                return;
            }
            set_limit(
                libc::RLIMIT_AS,
                support::status_bytes("VmSize") as u64 + (256 << 20),
            );
            // One stack does not take what is left from others: from threads, from the heap.
            let before = support::status_bytes("VmSize");
            let stacks = Stacks::new(support::config()).expect("a source");
            stacks.put(stacks.take(StackClass::Default256K).expect("a stack"));
            let taken = support::status_bytes("VmSize") - before;
            assert!(taken < 256 << 18, "{} KiB", taken >> 10);
            drop(stacks);
            let (count, error) = exhaust(StackClass::Default256K, 2000);
            assert!(count > 500, "{count} stacks of 256 KiB in 256 MiB");
            let error = error.expect("2000 do not fit");
            let text = error.to_string();
            assert!(error.is_rlimit() && error.is_out_of_memory(), "{text}");
            assert!(
                text.contains("RLIMIT_AS, which is") && text.contains("ulimit -v unlimited"),
                "{text}"
            );
            assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
        },
    );
}

#[test]
fn a_small_data_limit_gives_a_clear_error() {
    in_child("a_small_data_limit_gives_a_clear_error", || {
        if !support::counts_are_ours() {
            return;
        }
        set_limit(
            libc::RLIMIT_DATA,
            support::status_bytes("VmData") as u64 + (64 << 20),
        );
        let (count, error) = exhaust(StackClass::Default256K, 2000);
        assert!(count > 100, "{count} stacks of 256 KiB in 64 MiB");
        let text = error.expect("2000 do not fit").to_string();
        assert!(
            text.contains("RLIMIT_DATA") && text.contains("ulimit -d unlimited"),
            "{text}"
        );
    });
}

/// The whole machine's setting is changed for a moment, so only on request: `--ignored`, as root, alone.
#[test]
#[ignore = "sets vm.overcommit_memory for the whole machine"]
fn strict_overcommit_gives_stacks_up_to_the_commit_limit_and_then_a_clear_error() {
    const SETTING: &str = "/proc/sys/vm/overcommit_memory";
    in_child(
        "strict_overcommit_gives_stacks_up_to_the_commit_limit_and_then_a_clear_error",
        || {
            struct Restore(String);
            impl Drop for Restore {
                fn drop(&mut self) {
                    std::fs::write(SETTING, &self.0).expect("was writable before");
                }
            }
            let before = std::fs::read_to_string(SETTING).expect("procfs");
            if std::fs::write(SETTING, "2").is_err() {
                eprintln!("skipped: {SETTING} is not writable");
                return;
            }
            let restore = Restore(before);
            let (count, error) = exhaust(StackClass::Huge8M, 100_000);
            drop(restore);
            assert!(
                count > 10,
                "only {count} stacks: the reservation itself must not be charged"
            );
            let error = error.expect("800 GB is more than this machine has");
            let text = error.to_string();
            assert!(
                error.is_overcommit_refused() && error.is_out_of_memory(),
                "{text}"
            );
            assert!(
                text.contains("vm.overcommit_memory is 2") && text.contains("CommitLimit"),
                "{text}"
            );
            assert!(text.contains("sysctl -w vm.overcommit_memory=0"), "{text}");
        },
    );
}
