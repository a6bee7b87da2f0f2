//! Models of the task word (`runtime/src/task/state.rs`). What each proves is in the README here.
//!
//! A thread that wins a task runs it on the spot, as a worker would that takes it from a queue. `saved` stands
//! for the task's registers: loom reports two threads that run the task at once, or one that runs it before
//! the park that it ends has saved them.
#![cfg(bast_loom)]

use bast::protocol::state::{CommitPark, Snapshot, State, Unpark};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use loom::thread;

struct Task {
    state: State,
    saved: UnsafeCell<u32>,
    /// What the task waits for. Relaxed: only the word orders it.
    news: [AtomicBool; 2],
}

// SAFETY: validity: `saved` is the only part that is not `Sync`; loom checks every access to it.
//         aliasing: as above.
unsafe impl Sync for Task {}
// SAFETY: validity: nothing in it belongs to a thread.
//         aliasing: as above.
unsafe impl Send for Task {}

impl Task {
    fn spawned() -> Arc<Self> {
        let news = [AtomicBool::new(false), AtomicBool::new(false)];
        let task = Self {
            state: State::free(),
            saved: UnsafeCell::new(0),
            news,
        };
        task.state.init();
        Arc::new(task)
    }

    /// The scavenger's look at a task.
    fn scavenge(&self, wanted: usize) {
        if self.state.snapshot() != Snapshot::Parked || !self.state.try_hold() {
            return;
        }
        self.touch();
        if self.state.commit_park() == CommitPark::Notified {
            self.run(wanted);
        }
    }

    fn touch(&self) {
        // SAFETY: validity: the cell lives as long as the task.
        //         aliasing: whoever runs the task has it alone; loom checks it.
        self.saved.with_mut(|saved| unsafe { *saved += 1 });
    }

    /// Runs the task, which parks until `wanted` of its news have come.
    fn run(&self, wanted: usize) {
        loop {
            self.touch();
            if self.news[..wanted].iter().all(|news| news.load(Relaxed)) {
                return self.state.finish();
            }
            if self.state.take_notification() {
                continue;
            }
            match self.state.commit_park() {
                CommitPark::Parked => return,
                CommitPark::Notified => {}
            }
        }
    }

    /// Tells the task news number `which`.
    fn tell(&self, which: usize, wanted: usize) {
        self.news[which].store(true, Relaxed);
        if self.state.unpark() == Unpark::Enqueue {
            self.run(wanted);
        }
    }
}

/// Planted: `state_commit_store` forgets the token, `state_take_relaxed` its news, and `state_commit_relaxed` hides the
/// saved registers from the unparker.
#[test]
fn an_unpark_is_never_lost() {
    loom::model(|| {
        let task = Task::spawned();
        let teller = task.clone();
        let teller = thread::spawn(move || teller.tell(0, 1));
        task.run(1);
        teller.join().unwrap();
        assert_eq!(
            task.state.snapshot(),
            Snapshot::Done,
            "the task sleeps though it was woken"
        );
    });
}

/// The second of two unparks may find the first one's token (planted: `state_unpark_load`).
#[test]
fn of_two_unparks_neither_is_lost() {
    loom::model(|| {
        let task = Task::spawned();
        let tellers = [0, 1].map(|which| {
            let task = task.clone();
            thread::spawn(move || task.tell(which, 2))
        });
        task.run(2);
        for teller in tellers {
            teller.join().unwrap();
        }
        assert_eq!(
            task.state.snapshot(),
            Snapshot::Done,
            "the task sleeps though it was woken twice"
        );
    });
}

impl Task {
    /// Runs the task, which waits in bast for its first news and then parks once, by itself, for the user's unpark.
    fn run_to_permit(&self) {
        loop {
            self.touch();
            let waited = self.news[0].load(Relaxed);
            if waited && self.state.take_permit() {
                assert!(self.news[1].load(Relaxed), "the permit came without its news");
                return self.state.finish();
            }
            if !self.state.take_notification() && self.state.commit_park() == CommitPark::Parked {
                return;
            }
        }
    }

    fn tell_and_permit(&self, tell: bool, permit: bool) {
        if tell {
            self.news[0].store(true, Relaxed);
            if self.state.unpark() == Unpark::Enqueue {
                self.run_to_permit();
            }
        }
        if permit {
            self.news[1].store(true, Relaxed);
            if self.state.unpark_with_permit() == Unpark::Enqueue {
                self.run_to_permit();
            }
        }
    }

    fn assert_done(&self) {
        let state = self.state.snapshot();
        assert_eq!(state, Snapshot::Done, "the task sleeps though it was unparked");
    }
}

/// A wait of bast's own takes the token of both, and the user's park returns all the same (planted:
/// `state_token_takes_permit`).
#[test]
fn a_wait_leaves_the_permit_to_the_next_park() {
    loom::model(|| {
        let task = Task::spawned();
        let teller = task.clone();
        let teller = thread::spawn(move || teller.tell_and_permit(true, true));
        task.run_to_permit();
        teller.join().unwrap();
        task.assert_done();
    });
}

/// The same with the two from different threads; a permit that comes without its news is `state_permit_relaxed`.
#[test]
fn a_permit_comes_beside_other_news() {
    loom::model(|| {
        let task = Task::spawned();
        let tellers = [(true, false), (false, true)].map(|(tell, permit)| {
            let task = task.clone();
            thread::spawn(move || task.tell_and_permit(tell, permit))
        });
        task.run_to_permit();
        tellers.into_iter().for_each(|teller| teller.join().unwrap());
        task.assert_done();
    });
}

#[test]
fn a_parked_task_goes_to_one_of_two_unparkers() {
    loom::model(|| {
        let task = Task::spawned();
        assert_eq!(task.state.commit_park(), CommitPark::Parked);
        let wake = |task: Arc<Task>| {
            let won = task.state.unpark() == Unpark::Enqueue;
            if won {
                task.touch();
            }
            won
        };
        let other = task.clone();
        let other = thread::spawn(move || wake(other));
        let wins = [wake(task.clone()), other.join().unwrap()];
        assert_eq!(wins.iter().filter(|won| **won).count(), 1);
        assert!(
            task.state.take_notification(),
            "the unpark that did not win left its token"
        );
    });
}

/// The scavenger takes a parked task out and parks it again.
#[test]
fn the_scavenger_loses_no_unpark() {
    loom::model(|| {
        let task = Task::spawned();
        let teller = task.clone();
        let teller = thread::spawn(move || teller.tell(0, 1));
        let scavenger = task.clone();
        let scavenger = thread::spawn(move || scavenger.scavenge(1));
        task.run(1);
        teller.join().unwrap();
        scavenger.join().unwrap();
        assert_eq!(
            task.state.snapshot(),
            Snapshot::Done,
            "the task sleeps though it was woken"
        );
    });
}

/// Planted: `state_hold_relaxed`.
#[test]
fn two_unparks_while_the_scavenger_holds_the_task() {
    loom::model(|| {
        let task = Task::spawned();
        assert_eq!(task.state.commit_park(), CommitPark::Parked);
        let tellers = [0, 1].map(|which| {
            let task = task.clone();
            thread::spawn(move || task.tell(which, 2))
        });
        task.scavenge(2);
        for teller in tellers {
            teller.join().unwrap();
        }
        assert_eq!(
            task.state.snapshot(),
            Snapshot::Done,
            "the task sleeps though it was woken twice"
        );
    });
}

/// Unparker and scavenger come while the task ends: neither may get it, and it stays over.
#[test]
fn nobody_gets_a_task_that_is_over() {
    loom::model(|| {
        let task = Task::spawned();
        let unparker = task.clone();
        let unparker = thread::spawn(move || unparker.state.unpark());
        let scavenger = task.clone();
        let scavenger = thread::spawn(move || scavenger.state.try_hold());
        task.touch();
        task.state.finish();
        assert_ne!(unparker.join().unwrap(), Unpark::Enqueue);
        assert!(!scavenger.join().unwrap());
        assert_eq!(task.state.snapshot(), Snapshot::Done);
        assert_eq!(task.state.unpark(), Unpark::Done);
    });
}

/// A handle to a task that is over may outlive it: its unpark may at most wake the slab entry's next task.
#[test]
fn a_stale_unpark_meets_a_reused_entry() {
    loom::model(|| {
        let task = Task::spawned();
        let stale = task.clone();
        let stale = thread::spawn(move || {
            let outcome = stale.state.unpark();
            if outcome == Unpark::Enqueue {
                stale.touch();
                stale.state.finish();
            }
            outcome
        });
        task.touch();
        task.state.finish();
        task.state.init();
        task.touch();
        let parked = task.state.commit_park() == CommitPark::Parked;
        if !parked {
            task.state.finish();
        }
        match stale.join().unwrap() {
            Unpark::Enqueue => assert!(parked),
            Unpark::Pending => {}
            Unpark::Done => assert!(parked),
        }
        let over = task.state.snapshot() == Snapshot::Done;
        assert!(over || parked);
    });
}
