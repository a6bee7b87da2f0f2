//! Switching: what crosses it, what is kept, where panics stop, and that a task may change threads.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a switch names two fields of one raw struct"
)]

mod support;

use bast_stack::{Saved, StackClass, Stacks, switch, switch_final};
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use support::Coroutine;

fn stacks() -> Stacks {
    Stacks::new(support::config()).expect("a source of stacks")
}

#[test]
fn ten_thousand_coroutines_keep_their_own_locals() {
    const COUNT: usize = 10_000;
    let stacks = stacks();
    let mut all: Vec<Coroutine> = (0..COUNT)
        .map(|id| {
            Coroutine::new(&stacks, move |context, first| {
                let mut sum = [id; 8];
                let mut argument = first;
                for _ in 0..4 {
                    sum[argument % 8] += argument;
                    argument = context.park(sum.iter().sum());
                }
                sum.iter().sum::<usize>() + argument
            })
        })
        .collect();
    for round in 1..=5 {
        for (id, coroutine) in all.iter_mut().enumerate() {
            // Rounds 1 to 4 have added 1, 2, .. so far; the fifth adds its argument to the result.
            let expected = 8 * id + (1..=round).sum::<usize>();
            assert_eq!(coroutine.resume(round), expected, "coroutine {id}, round {round}");
            assert_eq!(coroutine.is_done(), round == 5);
        }
    }
    for coroutine in all {
        stacks.put(coroutine.finish().0);
    }
    assert_eq!(stacks.stats().class(StackClass::Default256K).out, 0);
}

#[test]
fn a_stack_is_used_to_its_depths_and_found_intact_after_a_park() {
    fn descend(context: &mut support::Context, level: usize) -> usize {
        let mut frame = [level as u8; 1024];
        let below = if level == 0 {
            context.park(0)
        } else {
            descend(context, level - 1)
        };
        black_box(&mut frame);
        assert!(frame.iter().all(|&byte| byte == level as u8), "frame {level}");
        below + 1
    }
    let stacks = stacks();
    // Frames are larger in an unoptimised or instrumented build.
    let levels = if cfg!(any(bast_asan, bast_tsan)) { 40 } else { 100 };
    let mut coroutine = Coroutine::new(&stacks, move |context, _| descend(context, levels));
    coroutine.resume(0);
    let depth = coroutine.stack().top() - coroutine.saved_stack_pointer();
    // ASan may keep the arrays on its own fake stack.
    assert!(depth > levels * 1024 || cfg!(bast_asan), "{depth} bytes in use");
    assert_eq!(coroutine.resume(5), 5 + levels + 1);
    stacks.put(coroutine.finish().0);
}

#[test]
fn integer_and_vector_registers_are_kept() {
    // More values than there are registers of either kind, all alive across each park.
    fn churn(context: &mut support::Context, seed: usize) -> usize {
        let mut floats: [f64; 24] = std::array::from_fn(|index| (seed * 100 + index) as f64 + 0.5);
        let mut words: [usize; 24] = std::array::from_fn(|index| seed * 1000 + index);
        let [mut a, mut b, mut c, mut d] = [seed as f64, 2.0, 3.0, 4.0];
        for round in 0..50_usize {
            let got = context.park(round);
            assert_eq!(got, seed + round);
            a += b;
            b += 0.25;
            c -= a * 1e-9;
            d += c;
            for (index, (float, word)) in floats.iter_mut().zip(&mut words).enumerate() {
                *float += index as f64;
                *word = word.wrapping_add(index);
            }
        }
        let seed = seed as f64;
        assert_eq!(b, 2.0 + 50.0 * 0.25);
        assert_eq!(
            a,
            seed + (0..50).map(|round| 2.0 + f64::from(round) * 0.25).sum::<f64>()
        );
        assert!(c.is_finite() && d.is_finite());
        for (index, (float, word)) in floats.iter().zip(&words).enumerate() {
            assert_eq!(*float, seed * 100.0 + index as f64 + 0.5 + 50.0 * index as f64);
            assert_eq!(*word, seed as usize * 1000 + 51 * index);
        }
        777
    }
    let stacks = stacks();
    let mut all: Vec<Coroutine> = (0..8)
        .map(|seed| Coroutine::new(&stacks, move |context, _| churn(context, seed)))
        .collect();
    for coroutine in &mut all {
        coroutine.resume(0);
    }
    for round in 0..50 {
        for (seed, coroutine) in all.iter_mut().enumerate() {
            coroutine.resume(seed + round);
        }
    }
    for coroutine in all {
        assert!(coroutine.is_done());
        let (stack, panic) = coroutine.finish();
        assert!(panic.is_none());
        stacks.put(stack);
    }
}

#[test]
fn a_panic_is_caught_at_the_entry_and_the_thread_goes_on() {
    let stacks = stacks();
    for round in 0..50 {
        let mut coroutine = Coroutine::new(&stacks, move |context, _| {
            let _dropped_by_unwinding = String::from("x");
            context.park(1);
            if round >= 0 {
                std::panic::resume_unwind(Box::new(format!("round {round}")));
            }
            0
        });
        assert_eq!(coroutine.resume(0), 1);
        assert_eq!(coroutine.resume(0), usize::MAX);
        let (stack, panic) = coroutine.finish();
        let text = panic
            .expect("it panicked")
            .downcast::<String>()
            .expect("a String");
        assert_eq!(*text, format!("round {round}"));
        assert!(!thread::panicking());
        stacks.put(stack);
    }
}

#[test]
fn a_saved_context_may_be_moved_while_it_is_suspended() {
    // Arrays that a sanitizer keeps aside, and a panic, after which it walks through what it keeps.
    fn body(context: &mut support::Context, seed: usize) -> usize {
        let mut kept = [seed; 16];
        kept[0] += context.park(black_box(&mut kept)[15]);
        if black_box(&mut kept)[0] == 0 {
            return 0;
        }
        let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(seed)));
        *caught
            .expect_err("it panicked")
            .downcast::<usize>()
            .expect("a usize")
            + kept[0]
    }
    let stacks = stacks();
    let mut stranger = Coroutine::new(&stacks, body);
    assert_eq!(stranger.resume(7), 7);
    for seed in 1..50 {
        let mut coroutine = Coroutine::new(&stacks, body);
        assert_eq!(coroutine.resume(seed), seed);
        assert_eq!(coroutine.end_from_elsewhere(&mut stranger, 1), 2 * seed + 1);
        stacks.put(coroutine.finish().0);
    }
    assert_eq!(stranger.resume(1), 15);
    stacks.put(stranger.finish().0);
}

#[test]
fn a_suspended_coroutine_goes_on_another_thread() {
    #[inline(never)]
    fn thread_name() -> String {
        thread::current().name().unwrap_or("none").to_owned()
    }
    let stacks = stacks();
    let mut coroutine = Coroutine::new(&stacks, |context, _| {
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(thread_name());
            context.park(seen.len());
        }
        assert_eq!(seen, ["even", "odd", "even", "odd", "even", "odd"]);
        99
    });
    let (to_even, even) = mpsc::channel::<Coroutine>();
    let (to_odd, odd) = mpsc::channel::<Coroutine>();
    let (to_main, main) = mpsc::channel::<(Coroutine, usize)>();
    let worker = |name: &str, inbox: mpsc::Receiver<Coroutine>, done: mpsc::Sender<(Coroutine, usize)>| {
        let body = move || {
            for mut coroutine in inbox {
                let value = coroutine.resume(0);
                done.send((coroutine, value)).expect("main listens");
            }
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .expect("a thread")
    };
    let workers = [worker("even", even, to_main.clone()), worker("odd", odd, to_main)];
    let mut value = 0;
    for turn in 0..7 {
        let to = if turn % 2 == 0 { &to_even } else { &to_odd };
        to.send(coroutine).expect("the worker listens");
        (coroutine, value) = main.recv().expect("the worker answers");
    }
    assert_eq!(value, 99);
    drop((to_even, to_odd));
    for worker in workers {
        worker.join().expect("the worker ends");
    }
    let (stack, panic) = coroutine.finish();
    assert!(panic.is_none());
    stacks.put(stack);
}

#[test]
fn many_threads_pass_many_coroutines_around() {
    const THREADS: usize = 4;
    const COUNT: usize = 200;
    const ROUNDS: usize = 20;
    let stacks = stacks();
    let body = |id: usize| {
        move |context: &mut support::Context, first: usize| {
            assert_eq!(first, id);
            let mut local = vec![id];
            for round in 0..ROUNDS {
                assert_eq!(context.park(round), id);
                local.push(round);
            }
            assert_eq!(local.len(), ROUNDS + 1);
            id
        }
    };
    let queue: VecDeque<_> = (0..COUNT)
        .map(|id| (id, Coroutine::new(&stacks, body(id))))
        .collect();
    let queue = Mutex::new(queue);
    let left = AtomicUsize::new(COUNT);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while left.load(Ordering::Acquire) > 0 {
                    let Some((id, mut coroutine)) = queue.lock().expect("no panic").pop_front() else {
                        thread::yield_now();
                        continue;
                    };
                    coroutine.resume(id);
                    if !coroutine.is_done() {
                        queue.lock().expect("no panic").push_back((id, coroutine));
                        continue;
                    }
                    left.fetch_sub(1, Ordering::AcqRel);
                    let (stack, panic) = coroutine.finish();
                    assert!(panic.is_none());
                    stacks.put(stack);
                }
            });
        }
    });
    assert_eq!(stacks.stats().class(StackClass::Default256K).out, 0);
}

struct Chain {
    home: Saved,
    first: Saved,
    second: Saved,
    order: Vec<&'static str>,
}

/// The first task's entry: runs, and when it is finished its stack runs the second task in place.
unsafe extern "C" fn first_then_second(chain: usize) -> ! {
    let chain = chain as *mut Chain;
    // SAFETY: the test keeps the chain until the end, and touches it only while we are parked.
    let shared = unsafe { &mut *chain };
    shared.order.push("first");
    // SAFETY: home is suspended while we run.
    unsafe { switch(&raw mut (*chain).first, &raw mut (*chain).home, 1) };
    shared.order.push("first ends");
    // SAFETY: `first` is this context's, and nothing is saved to it any more.
    unsafe { shared.second.adopt(&mut shared.first) };
    shared.order.push("second");
    // SAFETY: as above.
    unsafe { switch(&raw mut (*chain).second, &raw mut (*chain).home, 2) };
    shared.order.push("second ends");
    // SAFETY: nothing of this stack is needed again.
    unsafe { switch_final(&raw mut (*chain).second, &raw mut (*chain).home, 3) }
}

#[test]
fn a_finished_tasks_stack_runs_the_next_one_in_place() {
    let stacks = stacks();
    let stack = stacks.take(StackClass::Small64K).expect("a stack");
    let mut chain = Chain {
        home: Saved::empty(),
        first: Saved::empty(),
        second: Saved::empty(),
        order: vec![],
    };
    let shared = &raw mut chain;
    // SAFETY: the stack is fresh.
    unsafe { (*shared).first.prepare(&stack, 64, first_then_second) };
    // SAFETY: each context is suspended when it is resumed, here and below.
    let value = unsafe { switch(&raw mut (*shared).home, &raw mut (*shared).first, shared as usize) };
    assert_eq!(value, 1);
    // SAFETY: as above.
    let value = unsafe { switch(&raw mut (*shared).home, &raw mut (*shared).first, 0) };
    assert_eq!(value, 2);
    // SAFETY: as above.
    let value = unsafe { switch(&raw mut (*shared).home, &raw mut (*shared).second, 0) };
    assert_eq!(value, 3);
    assert_eq!(chain.order, ["first", "first ends", "second", "second ends"]);
    stacks.put(stack);
}

#[test]
fn stacks_are_reused_thousands_of_times() {
    let stacks = stacks();
    let rounds = if cfg!(bast_tsan) { 10_000 } else { 50_000 };
    for round in 0..rounds {
        let mut coroutine = Coroutine::new(&stacks, move |context, first| context.park(first) + round);
        assert_eq!(coroutine.resume(3), 3);
        assert_eq!(coroutine.resume(4), 4 + round);
        stacks.put(coroutine.finish().0);
    }
    assert_eq!(stacks.stats().class(StackClass::Default256K).carved, 1);
}

#[test]
#[should_panic(expected = "a colour is a multiple of 64, at most 1024")]
fn a_wrong_colour_is_refused() {
    let stacks = stacks();
    let stack = stacks.take(StackClass::Small64K).expect("a stack");
    // SAFETY: the stack is fresh.
    unsafe { Saved::empty().prepare(&stack, 1088, first_then_second) };
}

#[test]
fn colours_move_the_start_and_nothing_else() {
    let stacks = stacks();
    for colour in (0..=1024).step_by(64) {
        let stack = stacks.take(StackClass::Small64K).expect("a stack");
        let top = stack.top();
        let mut coroutine = Coroutine::on(stack, colour, |context, first| context.park(first + 1) + 1);
        assert_eq!(coroutine.resume(1), 2);
        let depth = top - coroutine.saved_stack_pointer();
        assert!(
            (colour..4096).contains(&depth) || cfg!(any(bast_asan, bast_tsan)),
            "{depth} at colour {colour}"
        );
        assert_eq!(coroutine.resume(9), 10);
        stacks.put(coroutine.finish().0);
    }
}
