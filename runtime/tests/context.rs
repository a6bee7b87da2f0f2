//! Contexts as a tree: what ends what, when, and with what reason. After the behaviours that Go's own tests of its
//! context package pin.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::context::{Canceller, Context, ContextError, Key, current};
use bast::sync::channel::TryRecvError;
use bast::sync::{WaitGroup, channel};
use chan_util::{LONG, SHORT, everywhere, on_each, wait_for};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Because(&'static str);

impl fmt::Display for Because {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl Error for Because {}

fn cause_of(context: &Context) -> String {
    context
        .cause()
        .map_or_else(String::new, |cause| cause.to_string())
}

fn assert_live(context: &Context) {
    assert_eq!(context.error(), None);
    assert!(!context.is_cancelled());
    assert!(context.cause().is_none());
    assert_eq!(context.done().try_recv(), Err(TryRecvError::Empty));
    assert!(context.check().is_ok());
}

fn assert_over(context: &Context, error: ContextError) {
    assert!(context.is_cancelled());
    assert_eq!(context.error(), Some(error));
    assert_eq!(context.check(), Err(error));
    assert_eq!(context.done().try_recv(), Err(TryRecvError::Disconnected));
    assert!(context.done().recv().is_err());
    assert_eq!(context.wait(), Ok(error));
    assert!(context.done().is_closed());
}

// ---- cancelling ----

#[test]
fn the_background_is_never_over() {
    everywhere(|_| {
        let background = Context::background();
        assert_live(&background);
        assert_eq!(background.deadline(), None);
        assert!(background.done().recv_timeout(SHORT).is_err());
        assert_live(&background.without_cancel());
        assert_live(&Context::default());
    });
}

#[test]
fn cancelling_goes_down_only() {
    everywhere(|_| {
        let (root, cancel_root) = Context::background().with_cancel();
        let (left, cancel_left) = root.with_cancel();
        let (right, _) = root.with_cancel();
        let below_left = left.with_timeout(LONG);
        let deep = below_left.with_cancel().0;
        [&root, &left, &right, &below_left, &deep]
            .into_iter()
            .for_each(assert_live);
        assert!(cancel_left.cancel());
        [&left, &below_left, &deep]
            .into_iter()
            .for_each(|context| assert_over(context, ContextError::Cancelled));
        [&root, &right].into_iter().for_each(assert_live);
        assert!(!cancel_left.cancel(), "over already");
        assert!(cancel_root.cancel());
        [&root, &right]
            .into_iter()
            .for_each(|context| assert_over(context, ContextError::Cancelled));
        // A child of the dead is born dead.
        let (late, cancel_late) = root.with_cancel();
        assert_over(&late, ContextError::Cancelled);
        assert!(!cancel_late.cancel());
        assert_over(&deep.with_timeout(LONG), ContextError::Cancelled);
        assert_over(&root.clone(), ContextError::Cancelled);
    });
}

#[test]
fn a_canceller_that_goes_leaves_the_context_alone_but_its_guard_does_not() {
    let (context, canceller) = Context::background().with_cancel();
    drop(canceller.clone());
    assert_live(&context);
    assert!(!canceller.is_cancelled());
    let guard = canceller.clone().cancel_on_drop();
    assert_live(&context);
    drop(guard);
    assert_over(&context, ContextError::Cancelled);
    assert!(canceller.is_cancelled());
    let (context, canceller) = Context::background().with_cancel();
    let unwound = std::panic::catch_unwind(move || {
        let _guard = canceller.cancel_on_drop();
        panic!("on purpose");
    });
    assert!(unwound.is_err());
    assert_over(&context, ContextError::Cancelled);
}

/// About a hundred contexts in a tree, each cancelled by somebody of its own, in no order.
#[test]
fn all_at_once() {
    everywhere(|go| {
        let (root, cancel_root) = Context::background().with_cancel();
        let mut all = vec![(root, cancel_root)];
        let mut next = 0;
        while all.len() < 100 {
            for _ in 0..4 {
                let child = all[next].0.with_cancel();
                all.push(child);
            }
            next += 1;
        }
        let contexts: Vec<Context> = all.iter().map(|(context, _)| context.clone()).collect();
        let mut all: Vec<_> = all.into_iter().enumerate().collect();
        all.sort_by_key(|(index, _)| index * 37 % 101);
        let ends: Vec<_> = all
            .into_iter()
            .map(|(_, (_, canceller))| {
                go.spawn(move || {
                    canceller.cancel();
                })
            })
            .collect();
        for context in &contexts {
            assert_eq!(context.wait(), Ok(ContextError::Cancelled));
        }
        ends.into_iter().for_each(|end| end.join());
    });
}

/// Who waits for a child cancels its parent.
#[test]
fn a_parent_cancelled_from_its_childs_end() {
    everywhere(|go| {
        let (parent, cancel_parent) = Context::background().with_cancel();
        let (child, cancel_child) = parent.with_cancel();
        let done = go.spawn(move || {
            child.done().recv().unwrap_err();
            cancel_parent.cancel();
        });
        cancel_child.cancel();
        assert_eq!(parent.wait(), Ok(ContextError::Cancelled));
        done.join();
    });
}

/// A child made while its parent is cancelled is over at once or by that.
#[test]
fn a_child_of_a_dying_parent() {
    everywhere(|go| {
        for _ in 0..go.rounds(300) {
            let (parent, canceller) = Context::background().with_cancel();
            let ends = go.spawn(move || assert!(canceller.cancel_with(Because("why"))));
            let (child, _) = parent.with_cancel();
            let below = child.with_timeout(LONG);
            assert_eq!(child.wait(), Ok(ContextError::Cancelled));
            assert_eq!(below.wait(), Ok(ContextError::Cancelled));
            assert_eq!(cause_of(&child), "why");
            assert_eq!(cause_of(&below), "why");
            ends.join();
        }
    });
}

/// Whoever sees the error finds `done` closed.
#[test]
fn the_error_is_not_there_before_done() {
    everywhere(|go| {
        for _ in 0..go.rounds(200) {
            let (context, canceller) = Context::background().with_cancel();
            let lookers: Vec<_> = (0..2)
                .map(|_| {
                    let context = context.clone();
                    go.spawn(move || {
                        let done = context.done();
                        while context.error().is_none() {
                            bast::task::yield_now();
                        }
                        assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
                        bast::select! {
                            recv(done) -> ended => assert!(ended.is_err()),
                            default => panic!("an error, and not done"),
                        }
                    })
                })
                .collect();
            canceller.cancel();
            lookers.into_iter().for_each(|looker| looker.join());
        }
    });
}

// ---- causes ----

#[test]
fn the_first_cause_counts_and_goes_down() {
    let (root, cancel_root) = Context::background().with_cancel();
    let (middle, cancel_middle) = root.with_cancel();
    let leaf = middle.with_timeout_cause(LONG, Because("late"));
    assert!(cancel_middle.cancel_with(Because("middle")));
    assert!(cancel_root.cancel_with("a text"));
    assert!(!cancel_root.cancel_with(Because("too late")));
    assert_eq!(cause_of(&root), "a text");
    assert_eq!(cause_of(&middle), "middle");
    assert_eq!(cause_of(&leaf), "middle");
    assert_eq!(
        leaf.error(),
        Some(ContextError::Cancelled),
        "a cause is not an error"
    );
    assert!(leaf.cause().unwrap().downcast_ref::<Because>().is_some());
    let (plain, canceller) = Context::background().with_cancel();
    canceller.cancel();
    assert_eq!(cause_of(&plain), ContextError::Cancelled.to_string());
    assert_eq!(cause_of(&plain.with_value(&DEPTH, 1)), cause_of(&plain));
    assert!(plain.without_cancel().cause().is_none());
}

#[test]
fn a_deadline_has_a_cause_of_its_own() {
    let context = Context::background().with_timeout_cause(Duration::ZERO, Because("slow"));
    assert_over(&context, ContextError::DeadlineExceeded);
    assert_eq!(cause_of(&context), "slow");
    let below = context.with_deadline_cause(Instant::now() + LONG, Because("never said"));
    assert_eq!(cause_of(&below), "slow");
    let plain = Context::background().with_timeout(Duration::ZERO);
    assert_eq!(cause_of(&plain), ContextError::DeadlineExceeded.to_string());
    // The deadline that passes is the one whose cause counts, wherever one asks first.
    let outer = Context::background().with_timeout_cause(SHORT, Because("outer"));
    let inner = outer.with_timeout_cause(LONG, Because("inner")).with_cancel().0;
    assert_eq!(inner.wait(), Ok(ContextError::DeadlineExceeded));
    assert_eq!(cause_of(&inner), "outer");
    assert_eq!(cause_of(&outer), "outer");
}

#[test]
fn causes_in_a_race() {
    everywhere(|go| {
        for _ in 0..go.rounds(100) {
            let (context, canceller) = Context::background().with_cancel();
            let child = context.with_cancel().0;
            let wins = Arc::new(AtomicUsize::new(0));
            let ends: Vec<_> = ["one", "two"]
                .map(|name| {
                    let (canceller, wins) = (canceller.clone(), wins.clone());
                    go.spawn(move || {
                        wins.fetch_add(usize::from(canceller.cancel_with(Because(name))), Relaxed);
                    })
                })
                .into_iter()
                .collect();
            child.wait().unwrap();
            let cause = cause_of(&child);
            ends.into_iter().for_each(|end| end.join());
            assert_eq!(wins.load(Relaxed), 1);
            assert_eq!(cause_of(&context), cause);
        }
    });
}

// ---- deadlines ----

#[test]
fn the_earlier_deadline_wins() {
    everywhere(|_| {
        let start = Instant::now();
        let soon = Context::background().with_timeout(SHORT);
        let children = [
            soon.with_timeout(LONG),
            soon.with_deadline(start + LONG),
            soon.with_cancel().0,
            Context::background().with_timeout(LONG).with_timeout(SHORT),
        ];
        for child in &children {
            assert!(child.deadline().unwrap() <= Instant::now() + SHORT);
            assert_eq!(child.wait(), Ok(ContextError::DeadlineExceeded));
            assert!(start.elapsed() >= SHORT);
        }
        assert_over(&soon, ContextError::DeadlineExceeded);
        let far = Context::background().with_timeout(Duration::MAX);
        assert_eq!(far.deadline(), None, "584 years are for ever");
        assert_live(&far);
        assert_eq!(soon.without_cancel().deadline(), None);
    });
}

#[test]
fn cancelled_before_the_deadline() {
    everywhere(|_| {
        let (parent, canceller) = Context::background().with_cancel();
        let context = parent.with_timeout(LONG);
        canceller.cancel();
        assert_over(&context, ContextError::Cancelled);
        // And the other way round: the end that came first stays.
        let (parent, canceller) = Context::background().with_cancel();
        let context = parent.with_timeout(Duration::ZERO);
        assert_over(&context, ContextError::DeadlineExceeded);
        canceller.cancel();
        assert_over(&context, ContextError::DeadlineExceeded);
        assert_over(&parent, ContextError::Cancelled);
    });
}

/// A select over the ends of contexts sees deadlines that nobody else sees pass.
#[test]
fn deadlines_in_a_select() {
    everywhere(|_| {
        let soon = Context::background().with_timeout(SHORT);
        let (later, canceller) = Context::background().with_cancel();
        let (_sender, values) = channel::bounded::<u32>(1);
        for _ in 0..3 {
            bast::select! {
                recv(soon.done()) -> ended => assert!(ended.is_err()),
                recv(later.done()) -> _ => panic!("not cancelled"),
                recv(values) -> _ => panic!("nothing was sent"),
            }
        }
        canceller.cancel();
        bast::select! {
            recv(later.done()) -> ended => assert!(ended.is_err()),
            recv(values) -> _ => panic!("nothing was sent"),
        }
        let live = Context::background().with_timeout(LONG);
        bast::select! {
            recv(live.done()) -> _ => panic!("an hour has passed"),
            default(SHORT) => {}
        }
    });
}

// ---- values ----

static DEPTH: Key<usize> = Key::new("depth");
static NAME: Key<String> = Key::new("name");
static OTHER: Key<usize> = Key::new("other");

#[test]
fn the_nearest_value_counts() {
    let background = Context::background();
    assert_eq!(background.value(&DEPTH), None);
    let one = background.with_value(&DEPTH, 1).with_value(&NAME, "n".to_owned());
    let two = one.with_value(&DEPTH, 2).with_cancel().0.with_timeout(LONG);
    assert_eq!(one.value(&DEPTH), Some(&1));
    assert_eq!(two.value(&DEPTH), Some(&2));
    assert_eq!(two.value(&NAME).unwrap(), "n");
    assert_eq!(two.value(&OTHER), None);
    assert_eq!(two.without_cancel().value(&DEPTH), Some(&2));
    assert!(format!("{two:?}").contains("\"depth\", \"name\", \"depth\""));
    assert_eq!(DEPTH.name(), "depth");
    two.enter(|| assert_eq!(current().value(&DEPTH), Some(&2)));
}

/// Values of a chain that nobody needs any more are dropped, however long it is.
#[test]
fn long_chains_go_without_a_deep_stack() {
    on_each(|| {
        let small = bast::task::Builder::new().stack_size(64 << 10);
        let task = small.spawn(|| {
            let counted = Arc::new(());
            static HELD: Key<Arc<()>> = Key::new("held");
            let mut context = Context::background();
            let mut first = None;
            for _ in 0..20_000 {
                let (child, canceller) = context.with_value(&HELD, counted.clone()).with_cancel();
                first.get_or_insert(canceller);
                context = child;
            }
            let half = context.clone();
            first.unwrap().cancel();
            assert_over(&context, ContextError::Cancelled);
            drop(context);
            assert_eq!(Arc::strong_count(&counted), 20_001);
            drop(half);
            assert_eq!(Arc::strong_count(&counted), 1);
            let mut context = Context::background();
            for _ in 0..20_000 {
                context = context.with_cancel().0;
            }
            drop(context);
        });
        task.unwrap().join().unwrap();
    });
}

// ---- layers ----

/// Random stacks of layers of every kind: the end of any layer is the end of all above it, with its reason.
#[test]
fn layers() {
    everywhere(|go| {
        for seed in 0..go.rounds(20) as u64 {
            let mut x = seed * 2 + 1;
            let mut draw = |below: u64| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                x % below
            };
            let mut context = Context::background();
            let mut cancellers: Vec<(usize, Canceller)> = Vec::new();
            let mut layers = vec![];
            for layer in 0..30 + draw(30) as usize {
                context = match draw(3) {
                    0 => context.with_value(&DEPTH, layer),
                    1 => context.with_timeout(LONG + Duration::from_secs(draw(100))),
                    _ => {
                        let (child, canceller) = context.with_cancel();
                        cancellers.push((layer, canceller));
                        child
                    }
                };
                layers.push(context.clone());
            }
            layers.iter().for_each(assert_live);
            let Some((cut, canceller)) = cancellers.get(draw(cancellers.len().max(1) as u64) as usize) else {
                continue;
            };
            canceller.cancel_with(format!("layer {cut}"));
            for (layer, context) in layers.iter().enumerate() {
                if layer < *cut {
                    assert_live(context);
                } else {
                    assert_over(context, ContextError::Cancelled);
                    assert_eq!(cause_of(context), format!("layer {cut}"));
                }
            }
        }
    });
}

// ---- functions that run afterwards ----

#[test]
fn a_function_runs_once_after_a_cancellation() {
    on_each(|| {
        let (context, canceller) = Context::background().with_cancel();
        let (sender, receiver) = channel::unbounded();
        let after = context.after_func(move || sender.send(bast::task::current().id()).unwrap());
        assert!(receiver.recv_timeout(SHORT).is_err(), "it waits");
        canceller.cancel();
        let id = receiver.recv().unwrap();
        assert_ne!(id, bast::task::current().id(), "in a task of its own");
        assert!(receiver.recv().is_err(), "once, and it is dropped");
        assert!(!after.stop());
    });
}

#[test]
fn a_function_runs_after_a_timeout_and_at_once_if_it_is_late() {
    on_each(|| {
        let context = Context::background().with_timeout(SHORT);
        let (sender, receiver) = channel::unbounded();
        let _after = context.after_func(move || sender.send(Instant::now()).unwrap());
        let start = Instant::now();
        receiver.recv().unwrap();
        assert!(start.elapsed() <= LONG);
        assert_over(&context, ContextError::DeadlineExceeded);
        let (sender, receiver) = channel::unbounded();
        drop(context.after_func(move || sender.send(()).unwrap()));
        assert_eq!(receiver.recv(), Ok(()));
    });
}

#[test]
fn a_stopped_function_does_not_run_and_is_dropped() {
    on_each(|| {
        for timeout in [None, Some(LONG)] {
            let (context, canceller) = Context::background().with_cancel();
            let context = timeout.map_or(context.clone(), |timeout| context.with_timeout(timeout));
            let held = Arc::new(());
            let (theirs, ran) = (held.clone(), Arc::new(AtomicUsize::new(0)));
            let running = ran.clone();
            let after = context.after_func(move || {
                let _held = theirs;
                running.fetch_add(1, Relaxed);
            });
            assert!(after.stop());
            assert!(!after.stop(), "stopped before");
            wait_for(|| Arc::strong_count(&held) == 1);
            canceller.cancel();
            bast::time::sleep(SHORT);
            assert_eq!(ran.load(Relaxed), 0);
        }
        let never = Context::background().after_func(|| panic!("the background ended"));
        assert!(!never.stop(), "there was nothing to prevent");
    });
}

/// Stop against the end: the function runs if and only if stop says that it did not prevent it.
#[test]
fn stop_in_a_race_with_the_end() {
    on_each(|| {
        for round in 0..200 {
            let (context, canceller) = Context::background().with_cancel();
            let context = if round % 2 == 0 {
                context
            } else {
                context.with_timeout(Duration::from_micros(round % 50))
            };
            let ran = Arc::new(AtomicUsize::new(0));
            let (running, group) = (ran.clone(), Arc::new(WaitGroup::new()));
            let gone = group.member();
            let after = context.after_func(move || {
                let _gone = gone;
                running.fetch_add(1, Relaxed);
            });
            let ends = bast::spawn(move || canceller.cancel());
            let stopped = after.stop();
            ends.join().unwrap();
            group.wait();
            assert_eq!(ran.load(Relaxed), usize::from(!stopped), "round {round}");
        }
    });
}

/// What still waits when its runtime ends is dropped there, without a word.
#[test]
fn a_function_that_outlives_its_runtime() {
    let (context, canceller) = Context::background().with_cancel();
    let late = context.with_timeout(LONG);
    let held = Arc::new(());
    let afters: Vec<_> = [context.clone(), late.clone()]
        .into_iter()
        .map(|context| {
            let held = held.clone();
            // SAFETY: nothing bound to a thread is used.
            unsafe {
                bast::run(move || {
                    context.after_func(move || {
                        drop(held);
                        panic!("it runs without a runtime");
                    })
                })
            }
        })
        .collect();
    assert_eq!(Arc::strong_count(&held), 1, "dropped with the runtime");
    canceller.cancel();
    for after in afters {
        after.stop();
    }
    assert_over(&late, ContextError::Cancelled);
}
