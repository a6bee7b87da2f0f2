//! A task or thread that waits for a future.

use super::Notify;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Runs a future to its end, and parks the calling task meanwhile, or puts the calling thread to sleep.
///
/// The future is polled here and nowhere else, so it may borrow, and need not be [`Send`]. What it needs to make progress
/// (an I/O driver, timers) is its own affair: futures of bast need nothing, those of another runtime need that runtime to
/// run somewhere, and often to be entered here.
///
/// The future lies on the caller's stack: box one that is large.
///
/// ```
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let task = bast::spawn(|| 6 * 7);
/// assert_eq!(bast::block_on(task).unwrap(), 42); // a join handle is a future
/// assert_eq!(bast::block_on(async { 1 + 1 }), 2);
/// # }) }
/// ```
///
/// Within [`time::timeout`](crate::time::timeout) it waits on: a future has no way to say that it gave up.
///
/// # Panics
/// With the future's panic.
#[track_caller]
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let bell = Arc::new(Bell(Notify::new()));
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future.into_future());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        bell.0.wait(); // returns at once if it was rung since it was waited for last
    }
}

/// A bell keeps one ring, so none is lost between a poll and the wait.
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}
