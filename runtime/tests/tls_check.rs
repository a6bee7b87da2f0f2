//! `BAST_DEBUG=tls=1`: a borrow of a thread-local that is alive across a park or yield is reported.
#![cfg(all(target_os = "linux", debug_assertions, not(any(bast_asan, bast_tsan))))]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests check and drive from outside, and this one breaks the contract on purpose"
)]

mod util;

use bast::sync::{Mutex, channel};
use std::cell::{Cell, RefCell};
use std::time::Duration;
use util::{child_command, is_child, run_on, text_of};

thread_local! {
    static COUNTER: Cell<u64> = const { Cell::new(0) };
    static NAMES: RefCell<Vec<String>> = RefCell::default();
}

/// What a child with the check on says while it does `body` on one processor.
fn said(name: &str, body: impl FnOnce() + Send) -> String {
    if is_child(name) {
        run_on(1, body);
        println!("CHILD LIVED");
        std::process::exit(0);
    }
    let output = child_command(name)
        .env("BAST_DEBUG", "tls=1")
        .output()
        .expect("a child process");
    let text = text_of(&output);
    assert!(output.status.success() && text.contains("CHILD LIVED"), "{text}");
    text
}

/// One processor, and nobody blocks: the task comes back to the same thread, so breaking the contract does no harm.
#[test]
fn a_borrow_across_a_yield_is_reported() {
    let text = said("a_borrow_across_a_yield_is_reported", || {
        let others = bast::spawn(|| bast::task::yield_now());
        COUNTER.with(|counter| {
            counter.set(1);
            bast::task::yield_now();
            counter.set(counter.get() + 1);
        });
        others.join().unwrap();
    });
    assert!(text.contains("BAST_DEBUG=tls: task"), "{text}");
    assert!(text.contains(", yields, and at 0x"), "{text}");
    assert!(
        text.contains("tls_check.rs"),
        "the backtrace shows the place: {text}"
    );
}

#[test]
fn a_borrow_across_a_park_is_reported_with_its_place() {
    let text = said("a_borrow_across_a_park_is_reported_with_its_place", || {
        NAMES.with_borrow_mut(|names| {
            names.push("held".to_owned());
            for _ in 0..3 {
                bast::time::sleep(Duration::from_micros(100));
            }
            names.clear();
        });
    });
    assert!(
        text.contains("parks in sleep at runtime/tests/tls_check.rs:"),
        "{text}"
    );
    let reports = text.matches("BAST_DEBUG=tls: task").count();
    assert!(
        (1..=4).contains(&reports),
        "once a place, not once a park: {reports}\n{text}"
    );
}

/// Programs that keep the contract are left alone, though they use thread-locals between their waits.
#[test]
fn what_keeps_the_contract_is_not_reported() {
    let text = said("what_keeps_the_contract_is_not_reported", || {
        let (sender, receiver) = channel::bounded(1);
        let sums = std::sync::Arc::new(Mutex::new(0));
        let ours = sums.clone();
        let task = bast::spawn(move || {
            for value in receiver.iter() {
                *ours.lock().unwrap() += value;
                bast::task::yield_now();
            }
        });
        for value in 0..20_u64 {
            sender.send(value).unwrap();
            bast::time::sleep(Duration::from_micros(20));
        }
        drop(sender);
        task.join().unwrap();
        assert_eq!(*sums.lock().unwrap(), 190);
    });
    assert!(!text.contains("BAST_DEBUG=tls"), "{text}");
}
