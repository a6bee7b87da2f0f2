//! The source of stacks: reuse, batches, trimming, unmapping, leaks, several threads.

mod support;

use bast_stack::{Config, GuardMode, HotCache, Stack, StackClass, StackError, Stacks};
use std::collections::HashSet;
use std::thread;
use std::time::Duration;
use support::{in_child, maps};

const CLASS: StackClass = StackClass::Small64K;
const PAGE: usize = 4096;

fn stacks_of(slots: usize) -> Stacks {
    let config = Config {
        slots_per_arena: Some(slots),
        trim_period: Duration::from_secs(1),
        ..support::config()
    };
    Stacks::new(config).expect("stacks")
}

/// Writes to `pages` pages of a stack, from its top.
fn touch(stack: &Stack, pages: usize) {
    for page in 1..=pages {
        // SAFETY: inside the stack, on which nothing lives.
        unsafe { ((stack.top() - page * PAGE) as *mut u8).write_volatile(1) };
    }
}

#[test]
fn stacks_are_disjoint_aligned_and_writable_to_the_limit() {
    let stacks = stacks_of(16);
    for class in StackClass::ALL {
        let mut all: Vec<Stack> = (0..40).map(|_| stacks.take(class).expect("a stack")).collect();
        let tops: HashSet<usize> = all.iter().map(Stack::top).collect();
        assert_eq!(tops.len(), all.len());
        for stack in &all {
            assert_eq!(stack.class(), class);
            assert!(stack.top().is_multiple_of(class.bytes()));
            assert_eq!(stack.top() - stack.limit(), class.usable_bytes());
            // SAFETY: the first and the last word of the stack, on which nothing lives.
            unsafe { (stack.limit() as *mut u64).write_volatile(1) };
            // SAFETY: as above.
            unsafe { ((stack.top() - 8) as *mut u64).write_volatile(2) };
        }
        let raw = all.pop().expect("a stack").into_raw();
        // SAFETY: from into_raw just now.
        stacks.put(unsafe { Stack::from_raw(raw) });
        stacks.put_batch(class, all);
        let stats = stacks.stats().class(class);
        assert_eq!((stats.out, stats.carved, stats.warm), (0, 40, 40));
        assert!(
            stats.reserved_bytes >= 3 * 16 * class.bytes(),
            "three arenas of 16: {stats:?}"
        );
    }
}

#[test]
fn the_hot_cache_is_last_in_first_out_and_moves_halves() {
    let stacks = stacks_of(1024);
    let mut cache = HotCache::new(CLASS, 8);
    let first = cache.take(&stacks).expect("a stack");
    assert_eq!(cache.len(), 3, "half the capacity came, one went out");
    let top = first.top();
    cache.put(&stacks, first);
    let again = cache.take(&stacks).expect("a stack");
    assert_eq!(again.top(), top);
    let mut held = vec![again];
    held.extend((0..20).map(|_| cache.take(&stacks).expect("a stack")));
    for stack in held {
        cache.put(&stacks, stack);
        assert!(cache.len() <= 8);
    }
    assert!(
        stacks.stats().class(CLASS).warm > 0,
        "the overflow went to the shared list"
    );
    let other = stacks.take(StackClass::Large1M).expect("a stack");
    cache.put(&stacks, other);
    assert_eq!(
        stacks.stats().class(StackClass::Large1M).out,
        0,
        "another class is not kept"
    );
    cache.drain(&stacks);
    assert!(cache.is_empty());
    assert_eq!(stacks.stats().class(CLASS).out, 0);
}

#[test]
fn trimming_decays_by_half_a_period_and_memory_really_falls() {
    in_child("trimming_decays_by_half_a_period_and_memory_really_falls", || {
        if !support::counts_are_ours() {
            return;
        }
        const COUNT: usize = 1024;
        const PAGES: usize = 8;
        let stacks = stacks_of(2 * COUNT);
        let mut all = Vec::new();
        while all.len() < COUNT {
            stacks.take_batch(CLASS, 64, &mut all).expect("stacks");
        }
        all.iter().for_each(|stack| touch(stack, PAGES));
        let full = support::status_bytes("VmRSS");
        stacks.put_batch(CLASS, all.drain(..));
        let mut now = Duration::ZERO;
        assert_eq!(stacks.trim(now), 0, "nothing beyond the mark yet");
        let mut kept = COUNT;
        for _ in 0..10 {
            now += Duration::from_secs(1);
            let freed = stacks.trim(now);
            assert_eq!(freed, (kept - kept / 2) * PAGES * PAGE);
            kept /= 2;
            assert_eq!(stacks.trim(now), 0, "the period is not over");
        }
        assert_eq!(stacks.stats().class(CLASS).cold, COUNT - kept);
        let fallen = full - support::status_bytes("VmRSS");
        assert!(fallen > (COUNT - 8) * PAGES * PAGE, "{} KiB", fallen >> 10);
        // Ratchet: use puts the mark up at once, and trimmed stacks serve again, zeroed.
        stacks.take_batch(CLASS, COUNT, &mut all).expect("stacks");
        assert_eq!(all.len(), COUNT);
        assert_eq!(stacks.stats().class(CLASS).mark, COUNT);
        assert_eq!(stacks.stats().class(CLASS).carved, COUNT);
        stacks.put_batch(CLASS, all);
        assert_eq!(stacks.trim(now), 0);
    });
}

#[test]
fn dropping_unmaps_when_all_is_back_and_a_leak_keeps_its_arena() {
    in_child(
        "dropping_unmaps_when_all_is_back_and_a_leak_keeps_its_arena",
        || {
            if !support::counts_are_ours() {
                return;
            }
            drop(stacks_of(16));
            let before = maps();
            let stacks = stacks_of(16);
            let stack = stacks.take(CLASS).expect("a stack");
            assert!(maps() > before);
            stacks.put(stack);
            drop(stacks);
            assert_eq!(maps(), before, "everything is unmapped");
            let stacks = stacks_of(16);
            let leaked = stacks.take(CLASS).expect("a stack");
            touch(&leaked, 1);
            let back = stacks.take(StackClass::Large1M).expect("a stack");
            stacks.put(back);
            drop(stacks);
            assert!(maps() > before, "the leaked stack's arena stays");
            touch(&leaked, 2);
        },
    );
}

#[test]
fn a_leak_gives_back_what_no_stack_has_used() {
    in_child("a_leak_gives_back_what_no_stack_has_used", || {
        const ROUNDS: usize = 100;
        const FREE: usize = 8;
        const PAGES: usize = 8;
        if !support::counts_are_ours() {
            return;
        }
        let before = (support::status_bytes("VmSize"), support::status_bytes("VmRSS"));
        for _ in 0..ROUNDS {
            let stacks = Stacks::new(Config::default()).expect("a source");
            let leaked = stacks.take(CLASS).expect("a stack");
            touch(&leaked, 1);
            let free: Vec<_> = (0..FREE).map(|_| stacks.take(CLASS).expect("a stack")).collect();
            for stack in free {
                touch(&stack, PAGES);
                stacks.put(stack);
            }
            drop(stacks);
            touch(&leaked, 2);
        }
        let kept = support::status_bytes("VmSize") - before.0;
        assert!(
            kept < ROUNDS * (FREE + 2) * CLASS.bytes(),
            "{} KiB of address space",
            kept >> 10
        );
        let resident = support::status_bytes("VmRSS").saturating_sub(before.1);
        assert!(
            resident < ROUNDS * FREE * PAGES * PAGE / 2,
            "{} KiB of memory",
            resident >> 10
        );
    });
}

#[test]
fn threads_take_and_put_while_another_trims() {
    let stacks = stacks_of(64);
    thread::scope(|scope| {
        for thread in 1..=3_u8 {
            let stacks = &stacks;
            scope.spawn(move || {
                let mut cache = HotCache::new(CLASS, 4);
                let mut held = Vec::new();
                for round in 0..3000_usize {
                    if round % 7 < 4 {
                        let stack = cache.take(stacks).expect("a stack");
                        // SAFETY: the top word of a stack that is ours.
                        unsafe { ((stack.top() - 8) as *mut u64).write_volatile(u64::from(thread)) };
                        held.push(stack);
                    } else if let Some(stack) = held.pop() {
                        // SAFETY: as above. Nobody else has written there.
                        let found = unsafe { ((stack.top() - 8) as *const u64).read_volatile() };
                        assert_eq!(found, u64::from(thread));
                        cache.put(stacks, stack);
                    }
                    if held.len() > 40 {
                        held.drain(..).for_each(|stack| cache.put(stacks, stack));
                    }
                }
                held.drain(..).for_each(|stack| cache.put(stacks, stack));
                cache.drain(stacks);
            });
        }
        scope.spawn(|| {
            for second in 0..300 {
                stacks.trim(Duration::from_secs(second));
            }
        });
    });
    assert_eq!(stacks.stats().class(CLASS).out, 0);
}

#[test]
fn a_zero_arena_is_refused() {
    let error: StackError = Stacks::new(Config {
        slots_per_arena: Some(0),
        ..support::config()
    })
    .expect_err("nonsense");
    assert!(error.is_bad_config());
    assert!(error.to_string().contains("slots_per_arena"), "{error}");
}

#[test]
fn every_guard_mode_gives_working_stacks() {
    for guard in [GuardMode::Auto, GuardMode::Install, GuardMode::Protect] {
        match Stacks::new(Config {
            guard,
            ..support::config()
        }) {
            Ok(stacks) => {
                let stack = stacks.take(CLASS).expect("a stack");
                touch(&stack, 3);
                stacks.put(stack);
            }
            Err(error) => {
                assert!(
                    guard == GuardMode::Install && error.is_guard_unsupported(),
                    "{guard:?}: {error}"
                );
                eprintln!("this kernel has no MADV_GUARD_INSTALL: {error}");
            }
        }
    }
}
