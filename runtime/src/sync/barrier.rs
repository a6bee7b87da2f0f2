//! A place where so many meet before any goes on.

use super::base::{Caller, Lock, NEVER, Reason, constructor, leaf};
use super::waitlist::{Wait, Waitlist, wait_in};
use std::fmt;
use std::panic::Location;

/// Lets a fixed number of tasks and threads meet, again and again, as [`std::sync::Barrier`].
///
/// ```
/// use bast::sync::Barrier;
/// use std::sync::Arc;
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let barrier = Arc::new(Barrier::new(10));
/// let tasks: Vec<_> = (0..10)
///     .map(|_| {
///         let barrier = Arc::clone(&barrier);
///         bast::spawn(move || barrier.wait().is_leader())
///     })
///     .collect();
/// let leaders = tasks.into_iter().map(|task| task.join().unwrap());
/// assert_eq!(leaders.filter(|leads| *leads).count(), 1);
/// # }) }
/// ```
pub struct Barrier {
    state: Lock<State>,
    size: usize,
}

#[derive(Debug)]
struct State {
    /// How many have come in this round.
    arrived: usize,
    waiters: Waitlist,
}

fn list(state: &mut State) -> &mut Waitlist {
    &mut state.waiters
}

impl Barrier {
    constructor! {
        /// For `size` parties. With 0 or 1 nobody waits.
        pub fn new(size: usize) -> Barrier {
            Barrier {
                state: leaf(State {
                    arrived: 0,
                    waiters: Waitlist::new(),
                }),
                size,
            }
        }
    }

    /// Waits until all parties have called it; then they all go on, and the barrier begins anew. It waits as long as
    /// that takes, whatever [`time::timeout`](crate::time::timeout) says: a party that left would be missed.
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        let mut caller = Caller::to_wait();
        let mut state = self.state.lock();
        if state.arrived + 1 < self.size && !caller.may_park() {
            drop(state);
            caller.refuse(Reason::Barrier, Location::caller());
        }
        state.arrived += 1;
        if state.arrived < self.size {
            let wait = Wait {
                payload: std::ptr::null_mut(),
                first: false,
                deadline: NEVER,
                reason: Reason::Barrier,
                at: Location::caller(),
            };
            let ended = wait_in(&mut caller, &self.state, state, list, &wait, |_| ());
            debug_assert!(ended.is_ok(), "a wait without a limit is ended by its waker");
            return BarrierWaitResult(false);
        }
        state.arrived = 0;
        let all = state.waiters.claim_all();
        drop(state);
        all.finish(0, &mut caller);
        BarrierWaitResult(true)
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Barrier")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// What [`Barrier::wait`] gives, as [`std::sync::BarrierWaitResult`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for one of the parties, in each round.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}
