//! Park until a time has come.

use super::clock::{self, NEVER};
use super::heap::{self, Node};
use crate::sched::inside::Inside;
use crate::sched::park;
use crate::task::bound::{LIVE, UNTIL_CANCELLED};
use crate::task::site::Reason;
use std::panic::Location;
use std::time::{Duration, Instant};

/// Puts the calling task to sleep for at least `duration`; other tasks run meanwhile. No allocation.
///
/// Within [`timeout`](super::timeout()) it returns early when that is over, within a [`context`](crate::context) when that
/// is. Outside a task it is [`std::thread::sleep`].
#[track_caller]
pub fn sleep(duration: Duration) {
    sleep_to(clock::after(duration), Location::caller());
}

/// As [`sleep`], until `deadline`.
#[track_caller]
pub fn sleep_until(deadline: Instant) {
    sleep_to(clock::from_instant(deadline), Location::caller());
}

/// Until `due` on our clock.
pub(crate) fn sleep_to(due: u64, at: &'static Location<'static>) {
    let Some(mut inside) = Inside::enter() else {
        return sleep_thread(due);
    };
    let task = inside.task();
    let due = due.min(task.deadline.get());
    if task.is_over(due) {
        inside.yield_now();
        return;
    }
    if !inside.may_park() {
        inside.refuse(Reason::Sleep, at);
    }
    if due >= UNTIL_CANCELLED {
        while !task.is_over(due) {
            inside.park(Reason::Sleep, at);
        }
        return;
    }
    let node = Node::new(task);
    // SAFETY: the node lies on this stack, which does not move, and is waited for or cancelled below.
    unsafe { inside.processor().timers.arm(&node, due) };
    while !node.has_fired() && task.over() == LIVE {
        inside.park(Reason::Sleep, at);
    }
    heap::cancel(&node);
}

#[cold]
#[expect(clippy::disallowed_methods, reason = "a plain thread sleeps as std's do")]
fn sleep_thread(due: u64) {
    let own = park::thread_deadline();
    if own == NEVER {
        return std::thread::sleep(clock::until(due));
    }
    let due = due.min(own);
    while !park::is_over_for_thread(due) {
        std::thread::park_timeout(clock::until(due));
    }
}
