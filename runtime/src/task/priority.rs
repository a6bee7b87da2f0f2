//! How urgent a task is.

/// How urgent a task is, for [`Builder::priority`](super::Builder::priority).
///
/// A runnable task of high priority is preferred to the others, one of low priority runs when there is nothing else to
/// do; and none starves. A *round* is one choice of one processor for the next task to run. Then:
/// * Of any nine rounds of a processor one is left to tasks that are not `High`, if any wait there.
/// * In every 61st round a processor puts the `Low` task that has waited longest at the end of its queue of ordinary
///   tasks, whatever else waits.
/// * A `High` task runs after those `High` ones that came before it and one round in nine of others, at the next rounds
///   of whichever processor. What runs is not interrupted: it goes on until it waits, calls into bast after its slice,
///   or is taken for a hog.
///
/// Tasks that are not `Normal` queue in lists that all processors share, so they cost more to schedule, and are meant to
/// be few: a timer that must be heard, a health check, a cleaner. Nothing is inherited, neither by the tasks they spawn,
/// nor by a task they wait for.
///
/// ```
/// use bast::task::{Builder, Priority};
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let cleaner = Builder::new().priority(Priority::Low).spawn(|| "cleaned")?;
/// let pulse = Builder::new().priority(Priority::High).spawn(|| bast::task::current().priority())?;
/// assert_eq!(pulse.join().unwrap(), Priority::High);
/// assert_eq!(cleaner.join().unwrap(), "cleaned");
/// # Ok::<(), bast::SpawnError>(()) }).unwrap() }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Before the others.
    High,
    /// As most tasks.
    #[default]
    Normal,
    /// When nothing else is to be done, and now and then.
    Low,
}
