//! Models of the join word (`runtime/src/task/join_word.rs`). What each proves is in the README here.
//!
//! The result is a cell that loom guards: it reports a handle that reads before the task has written, and two
//! sides that both think it theirs. The waiter is another, written by the handle and read by who wakes it.
#![cfg(bast_loom)]

use bast::protocol::join_word::{Complete, JoinWord, SetWaiter};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const TOKEN: usize = 64;

struct Task {
    word: JoinWord,
    result: UnsafeCell<Option<u32>>,
    waiter: UnsafeCell<u32>,
}

// SAFETY: validity: the cells are the only part that is not `Sync`; loom checks every access to them.
//         aliasing: as above.
unsafe impl Sync for Task {}
// SAFETY: validity: nothing in it belongs to a thread.
//         aliasing: as above.
unsafe impl Send for Task {}

/// What the finishing task did.
#[derive(Debug, PartialEq, Eq)]
enum Finished {
    Left,
    Woke,
    Dropped,
}

impl Task {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: JoinWord::new(),
            result: UnsafeCell::new(None),
            waiter: UnsafeCell::new(0),
        })
    }

    fn take_result(&self) -> u32 {
        // SAFETY: validity: the cell lives as long as the task.
        //         aliasing: the word says whose the result is; loom checks it.
        self.result
            .with_mut(|result| unsafe { (*result).take() })
            .expect("the result is taken once, when it is there")
    }

    fn finish(&self) -> Finished {
        // SAFETY: validity: the cell lives as long as the task.
        //         aliasing: the result is the task's until `complete`; loom checks it.
        self.result.with_mut(|result| unsafe { *result = Some(7) });
        match self.word.complete() {
            Complete::Left => Finished::Left,
            Complete::Wake(token) => {
                assert_eq!(token, TOKEN);
                // SAFETY: validity: the cell lives as long as the task.
                //         aliasing: written before `set_waiter`; loom checks it.
                assert_eq!(self.waiter.with(|waiter| unsafe { *waiter }), 1);
                Finished::Woke
            }
            Complete::Detached => {
                assert_eq!(self.take_result(), 7);
                Finished::Dropped
            }
        }
    }

    fn set_waiter(&self) -> SetWaiter {
        // SAFETY: validity: the cell lives as long as the task.
        //         aliasing: the waiter is the handle's until `set_waiter`; loom checks it.
        self.waiter.with_mut(|waiter| unsafe { *waiter = 1 });
        self.word.set_waiter(TOKEN)
    }
}

fn race(handle: impl Fn(&Task, &mut dyn FnMut() -> Finished) + Sync + Send + 'static) {
    loom::model(move || {
        let task = Task::new();
        let running = task.clone();
        let mut running = Some(thread::spawn(move || running.finish()));
        handle(&task, &mut || running.take().unwrap().join().unwrap());
    });
}

/// Planted: `join_word_publish` hides the result from the joiner, `join_word_waiter` the waiter from the task.
#[test]
fn a_join_meets_the_end_of_the_task() {
    race(|task, end| {
        let outcome = task.set_waiter();
        if outcome == SetWaiter::Done {
            assert_eq!(task.take_result(), 7);
            assert_eq!(end(), Finished::Left);
        } else {
            assert_eq!(end(), Finished::Woke, "the joiner sleeps for ever");
            assert_eq!(task.take_result(), 7);
        }
    });
}

/// Planted: `join_word_look`.
#[test]
fn a_look_takes_a_result_that_is_there() {
    race(|task, end| {
        let seen = task.word.is_done();
        if seen {
            assert_eq!(task.take_result(), 7);
        }
        assert_eq!(end(), Finished::Left);
        assert!(task.word.is_done());
        if !seen {
            assert_eq!(task.take_result(), 7);
        }
    });
}

/// Planted: `join_word_detach` overwrites the end of the task, and nobody drops the result.
#[test]
fn a_dropped_handle_leaves_one_owner_of_the_result() {
    race(|task, end| {
        if task.word.detach() {
            assert_eq!(end(), Finished::Dropped);
        } else {
            assert_eq!(task.take_result(), 7);
            assert_eq!(end(), Finished::Left);
        }
    });
}

#[test]
fn a_join_that_gives_up_is_woken_or_free() {
    race(|task, end| {
        if task.set_waiter() == SetWaiter::Done {
            assert_eq!(task.take_result(), 7);
            assert_eq!(end(), Finished::Left);
        } else if task.word.clear_waiter(TOKEN) {
            // Free to drop the handle.
            if task.word.detach() {
                assert_eq!(end(), Finished::Dropped);
            } else {
                assert_eq!(task.take_result(), 7);
                assert_eq!(end(), Finished::Left);
            }
        } else {
            assert_eq!(task.take_result(), 7);
            assert_eq!(end(), Finished::Woke, "the wake-up that is under way must come");
        }
    });
}

/// A join with a limit that has passed, and then one without.
#[test]
fn a_join_after_one_that_gave_up() {
    race(|task, end| {
        for _ in 0..2 {
            if task.set_waiter() == SetWaiter::Done || !task.word.clear_waiter(TOKEN) {
                assert_eq!(task.take_result(), 7);
                assert_ne!(end(), Finished::Dropped);
                return;
            }
        }
        if task.set_waiter() == SetWaiter::Waiting {
            assert_eq!(end(), Finished::Woke, "the joiner sleeps for ever");
        } else {
            assert_eq!(end(), Finished::Left);
        }
        assert_eq!(task.take_result(), 7);
    });
}
