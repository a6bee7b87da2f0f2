//! Models of the end of a scope (`runtime/src/task/scope_count.rs`). What each proves is in the README here.
//!
//! The owner's frame is made of cells that loom guards. The members write what is lent; the owner reads it when it goes
//! on, and then writes every cell of the frame, which stands for the frame's end: loom reports a member that looks at
//! it later, or whose write the owner has not seen. An owner that is never woken is a deadlock.
#![cfg(bast_loom)]

use bast::protocol::scope_count::ScopeCount;
use bast::sync::base::{Caller, NEVER, Reason, Wake};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::panic::Location;

struct Frame {
    count: ScopeCount,
    /// Whom to wake: read by the last member.
    owner: UnsafeCell<usize>,
    lent: [UnsafeCell<u32>; 2],
}

// SAFETY: validity: nothing in it belongs to a thread. aliasing: loom checks every access to the cells.
unsafe impl Send for Frame {}
// SAFETY: as for Send.
unsafe impl Sync for Frame {}

impl Frame {
    fn new(caller: &Caller) -> Arc<Frame> {
        Arc::new(Frame {
            count: ScopeCount::new(),
            owner: UnsafeCell::new(caller.token()),
            lent: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    /// A member that writes to its place and leaves.
    fn spawn(frame: &Arc<Frame>, place: usize) -> thread::JoinHandle<()> {
        frame.count.enter();
        let frame = frame.clone();
        thread::spawn(move || frame.member(place))
    }

    fn member(&self, place: usize) {
        // SAFETY: validity: a live cell. aliasing: this member's until it leaves; loom checks it.
        self.lent[place].with_mut(|lent| unsafe { *lent += 1 });
        let owner = || {
            // SAFETY: validity: a live cell. aliasing: written when the frame goes; loom checks it.
            let token = self.owner.with(|token| unsafe { *token });
            // SAFETY: the owner is there as long as its frame.
            unsafe { Wake::of(token) }
        };
        if let Some(owner) = self.count.leave(owner) {
            owner.wake(&mut Caller::to_wake());
        }
    }

    /// The end of the scope, and of the frame. Gives what was written to what was lent.
    fn wait(&self, caller: &mut Caller) -> [u32; 2] {
        if !self.count.leave_own() {
            while !self.count.is_empty() {
                caller.park_until(NEVER, Reason::WaitGroup, Location::caller());
            }
        }
        // SAFETY: validity: a live cell. aliasing: nobody else may look any more; loom checks it.
        self.owner.with_mut(|token| unsafe { *token = 0 });
        [0, 1].map(|place| {
            // SAFETY: as above.
            self.lent[place].with_mut(|lent| unsafe { std::mem::replace(&mut *lent, u32::MAX) })
        })
    }
}

/// Planted: `scope_count_leave_relaxed` and `scope_count_look_relaxed` hide the writes from the owner;
/// `scope_count_owner_late` looks at the frame when it may be gone; `scope_count_own_store` forgets a member's leaving.
#[test]
fn the_owner_waits_for_two_members() {
    loom::model(|| {
        let mut caller = Caller::to_wait();
        let frame = Frame::new(&caller);
        let members = [Frame::spawn(&frame, 0), Frame::spawn(&frame, 1)];
        assert_eq!(frame.wait(&mut caller), [1, 1]);
        drop(caller);
        members.into_iter().for_each(|member| member.join().unwrap());
    });
}

/// The first member spawns the second, while the owner may be waiting already.
#[test]
fn a_member_spawns_another() {
    loom::model(|| {
        let mut caller = Caller::to_wait();
        let frame = Frame::new(&caller);
        frame.count.enter();
        let first = thread::spawn({
            let frame = frame.clone();
            move || {
                let second = Frame::spawn(&frame, 1);
                frame.member(0);
                drop(frame);
                second
            }
        });
        assert_eq!(frame.wait(&mut caller), [1, 1]);
        drop(caller);
        first.join().unwrap().join().unwrap();
    });
}

/// Members that end one after the other while the owner still spawns: the count does not reach zero without it.
#[test]
fn members_that_end_early_wake_nobody() {
    loom::model(|| {
        let mut caller = Caller::to_wait();
        let frame = Frame::new(&caller);
        let first = Frame::spawn(&frame, 0);
        thread::yield_now();
        let second = Frame::spawn(&frame, 1);
        assert_eq!(frame.wait(&mut caller), [1, 1]);
        drop(caller);
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn an_owner_alone_does_not_wait() {
    loom::model(|| {
        let count = ScopeCount::new();
        assert!(count.leave_own());
        assert!(count.is_empty());
    });
}
