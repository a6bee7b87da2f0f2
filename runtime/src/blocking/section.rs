//! The section around a call that blocks.

use crate::sched::inside::Inside;
use crate::task::no_park::apart;
use std::panic::Location;

/// Runs `f`, which may block the thread (a file, a lock of std, foreign code), without holding up other tasks: the
/// worker's processor goes to another worker for the time.
///
/// `f` may call into bast; the first such call ends the section. Outside a task, just calls `f`. It is not inlined into its
/// caller, so that it looks up anew what thread-locals it uses, as in [`no_park`](crate::task::no_park()).
///
/// ```
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let text = bast::blocking(|| std::fs::read_to_string("/proc/self/comm"));
/// # let _ = text;
/// # }) }
/// ```
#[track_caller]
pub fn blocking<R>(f: impl FnOnce() -> R) -> R {
    let Some(mut inside) = Inside::enter() else {
        return apart(f);
    };
    inside.hand_off(Location::caller());
    drop(inside);
    let result = apart(f);
    // A panic in `f` skips this; then the next call into bast regains the processor.
    drop(Inside::enter());
    result
}

impl Inside {
    /// Gives the processor to whoever can use it. The next entry regains one.
    fn hand_off(&mut self, at: &'static Location<'static>) {
        self.trace_blocking(at);
        self.processor().counters.handoffs.add(1);
        let processor = self.let_go();
        self.shared().give_processor(processor);
    }
}
