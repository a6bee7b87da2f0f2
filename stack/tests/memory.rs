//! What a million stacks cost.
#![cfg(all(target_os = "linux", not(any(bast_asan, bast_tsan))))]

mod support;

use bast_stack::{StackClass, Stacks};
use support::{in_child, status_bytes};

/// Bytes a stack, memory and page tables, for `count` stacks of which one page is touched.
fn bytes_a_stack(class: StackClass, count: usize) -> f64 {
    let stacks = Stacks::new(support::config()).expect("stacks");
    let mut all = Vec::with_capacity(count);
    // The vectors' own memory is not the stacks'.
    all.resize_with(count, || None);
    let before = status_bytes("VmRSS") + status_bytes("VmPTE");
    let mut batch = Vec::new();
    for place in &mut all {
        if batch.is_empty() {
            stacks.take_batch(class, 64, &mut batch).expect("stacks");
        }
        let stack = batch.pop().expect("a batch");
        // SAFETY: inside the stack, on which nothing lives.
        unsafe { ((stack.top() - 8) as *mut usize).write_volatile(1) };
        *place = Some(stack);
    }
    let after = status_bytes("VmRSS") + status_bytes("VmPTE");
    stacks.put_batch(class, all.into_iter().flatten().chain(batch));
    (after - before) as f64 / count as f64
}

#[test]
fn forty_thousand_small_stacks_cost_a_page_and_their_page_tables() {
    in_child(
        "forty_thousand_small_stacks_cost_a_page_and_their_page_tables",
        || {
            if !support::counts_are_ours() {
                return;
            }
            // Few enough for protected guards as well, were it not for the mappings: those need Install.
            let installed = Stacks::new(support::config())
                .expect("stacks")
                .stats()
                .guard_installed;
            let count = if installed { 40_000 } else { 10_000 };
            let bytes = bytes_a_stack(StackClass::Small64K, count);
            println!("{bytes:.0} bytes a stack of 64 KiB ({count})");
            assert!(bytes < 4096.0 + 128.0 + 16.0, "{bytes:.1} bytes a stack");
        },
    );
}

#[test]
#[ignore = "needs 5 GB of memory and some seconds"]
fn a_million_small_stacks_cost_a_page_and_their_page_tables() {
    in_child("a_million_small_stacks_cost_a_page_and_their_page_tables", || {
        let bytes = bytes_a_stack(StackClass::Small64K, 1_000_000);
        println!("{bytes:.1} bytes a stack of 64 KiB");
        assert!(bytes < 4096.0 + 128.0 + 16.0, "{bytes:.1} bytes a stack");
    });
}

#[test]
#[ignore = "needs 5 GB of memory and some seconds"]
fn a_million_default_stacks_cost_a_page_and_their_page_tables() {
    in_child(
        "a_million_default_stacks_cost_a_page_and_their_page_tables",
        || {
            let bytes = bytes_a_stack(StackClass::Default256K, 1_000_000);
            println!("{bytes:.1} bytes a stack of 256 KiB");
            assert!(bytes < 4096.0 + 513.0 + 16.0, "{bytes:.1} bytes a stack");
        },
    );
}
