//! Groups: tasks of which the first failure ends the rest, so many at once, with their results.

use super::erased::Birth;
use super::scope::{Base, Scope};
use super::spawn::{Builder, spawn_lent};
use crate::context::{self, Canceller, Context};
use crate::sync::{Condvar, Mutex, MutexGuard};
use bast_stack::{catch_unwind, resume_unwind};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location};
use std::sync::{Arc, PoisonError};

/// Tasks that belong together: the first that fails cancels the others, at most so many run at once, and their results
/// come back in the order of their spawn ([`Group::wait`]) or as they come ([`Group`] is an [`Iterator`]). Go's
/// `errgroup`, with results.
///
/// All tasks run in a [context] of the group, below the one in which the group was made. When a task
/// gives an error or panics, that context is cancelled: what the others wait for in bast gives up, and they come to their
/// end by themselves. Tasks that were not begun by then never are.
///
/// ```
/// use bast::task::Group;
/// use std::num::ParseIntError;
///
/// fn sum(words: &[&str]) -> Result<u32, ParseIntError> {
///     bast::scope(|s| {
///         let group = Group::scoped(s).limit(4);
///         for word in words {
///             group.spawn(move || word.parse::<u32>()); // borrows the words; waits while four are running
///         }
///         Ok(group.wait()?.into_iter().sum())
///     })
/// }
///
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// assert_eq!(sum(&["1", "2", "3"]), Ok(6));
/// assert!(sum(&["1", "two", "3"]).is_err());
/// # }) }
/// ```
///
/// As they come, with tasks that borrow nothing:
/// ```
/// # use bast::task::Group;
/// # use std::time::Duration;
/// # // SAFETY: nothing bound to a thread is used.
/// # unsafe { bast::run(|| {
/// let mut group = Group::new();
/// for millis in [20, 1] {
///     group.spawn(move || {
///         bast::time::sleep(Duration::from_millis(millis));
///         Ok::<_, std::io::Error>(millis)
///     });
/// }
/// assert_eq!(group.next().unwrap().unwrap(), 1);
/// assert_eq!(group.next().unwrap().unwrap(), 20);
/// assert!(group.next().is_none());
/// # }) }
/// ```
///
/// Dropping a group cancels its tasks and does not wait for them; the scope of a scoped group does. A group whose tasks
/// borrow cannot pass for one of shorter borrows, which its scope would not wait for:
/// ```compile_fail
/// # use bast::task::Group;
/// fn shorten<'short, 'long: 'short>(group: Group<'long, (), ()>) -> Group<'short, (), ()> {
///     group
/// }
/// ```
/// ```compile_fail,E0597
/// # use bast::task::Group;
/// # unsafe { bast::run(|| {
/// let group = Group::new();
/// let local = 1;
/// group.spawn(|| Ok::<_, ()>(println!("{}", &local)));
/// # }) }
/// ```
pub struct Group<'scope, T, E> {
    /// None: the tasks borrow nothing, and `'scope` is `'static`.
    base: Option<&'scope Base>,
    builder: Builder,
    limit: usize,
    shared: Arc<Shared<T, E>>,
    /// Invariant: see above.
    scope: PhantomData<&'scope mut &'scope ()>,
}

/// What a group and its tasks share.
struct Shared<T, E> {
    state: Mutex<State<T, E>>,
    /// A task has ended: one that wants to spawn may look again.
    room: Condvar,
    /// A task has ended: who waits for results may look again.
    ended: Condvar,
    context: Context,
    canceller: Canceller,
}

struct State<T, E> {
    /// Tasks spawned so far: the next one's place in the order.
    spawned: usize,
    /// Tasks that have not ended.
    running: usize,
    /// A task has failed, or the group was cancelled: nothing begins any more.
    over: bool,
    /// Ends that nobody has asked for yet, as they came.
    ends: VecDeque<(usize, End<T, E>)>,
}

/// How a task ended.
enum End<T, E> {
    Returned(Result<T, E>),
    Panicked(Box<dyn Any + Send>),
    /// Its runtime ended before it began.
    Lost,
}

impl<T, E> Shared<T, E> {
    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        // Nothing of the user's runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, place: usize, end: End<T, E>) {
        let failed = !matches!(end, End::Returned(Ok(_)));
        let mut state = self.lock();
        state.running -= 1;
        state.over |= failed;
        state.ends.push_back((place, end));
        drop(state);
        self.ended.notify_one();
        if failed {
            // After the end is in the list: what others give because of this comes behind it.
            self.canceller.cancel();
            self.room.notify_all();
        } else {
            self.room.notify_one();
        }
    }
}

/// A task's place in its group. Its drop is the end of a task that never began.
struct Place<T, E> {
    shared: Arc<Shared<T, E>>,
    place: usize,
    ended: bool,
}

impl<T, E> Place<T, E> {
    fn run(mut self, f: impl FnOnce() -> Result<T, E>) {
        let context = &self.shared.context;
        let end = match catch_unwind(AssertUnwindSafe(|| context.enter(f))) {
            Ok(result) => End::Returned(result),
            Err(payload) => End::Panicked(payload),
        };
        self.ended = true;
        self.shared.end(self.place, end);
    }
}

impl<T, E> Drop for Place<T, E> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.end(self.place, End::Lost);
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> Group<'static, T, E> {
    /// A group of tasks that borrow nothing, each on the runtime of whoever spawns it.
    pub fn new() -> Self {
        Group::on(None)
    }
}

impl<T: Send + 'static, E: Send + 'static> Default for Group<'static, T, E> {
    fn default() -> Self {
        Group::new()
    }
}

impl<'scope, T: Send + 'scope, E: Send + 'scope> Group<'scope, T, E> {
    /// A group of tasks of this scope, which may borrow what outlives it.
    pub fn scoped(scope: &'scope Scope<'scope, '_>) -> Self {
        Group::on(Some(scope.base()))
    }

    fn on(base: Option<&'scope Base>) -> Self {
        let (context, canceller) = context::current().with_cancel();
        Group {
            base,
            builder: Builder::new(),
            limit: usize::MAX,
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    spawned: 0,
                    running: 0,
                    over: false,
                    ends: VecDeque::new(),
                }),
                room: Condvar::new(),
                ended: Condvar::new(),
                context,
                canceller,
            }),
            scope: PhantomData,
        }
    }

    /// At most so many tasks at once.
    ///
    /// # Panics
    /// If `most` is zero.
    #[must_use]
    pub fn limit(mut self, most: usize) -> Self {
        assert!(most > 0, "bast: a group with the limit 0 runs no task");
        self.limit = most;
        self
    }

    /// Tasks set up by `builder`: their name, stack and priority. They run in the context of the group, whatever it says.
    #[must_use]
    pub fn with(mut self, builder: Builder) -> Self {
        self.builder = builder;
        self
    }

    /// Spawns a task; waits while as many as the limit are running, however long that is. A task of the group that spawns
    /// into it may thereby wait for itself; it can use [`Group::try_spawn`].
    ///
    /// False: the group is cancelled, or a task has failed, and `f` was dropped.
    ///
    /// # Panics
    /// If the task cannot be spawned, see [`SpawnError`](crate::SpawnError).
    #[track_caller]
    pub fn spawn<F>(&self, f: F) -> bool
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
    {
        let mut state = self.shared.lock();
        while state.running >= self.limit && !self.is_over(&state) {
            let waited = self.shared.room.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if self.is_over(&state) {
            drop(state);
            self.shared.room.notify_all(); // one end may have woken us alone, and wakes nobody else for this
            return false;
        }
        self.start(state, f, Location::caller());
        true
    }

    /// Spawns a task if that needs no wait.
    ///
    /// # Errors
    /// Gives `f` back if as many as the limit are running, if the group is cancelled, or if a task has failed.
    ///
    /// # Panics
    /// As [`Group::spawn`].
    #[track_caller]
    pub fn try_spawn<F>(&self, f: F) -> Result<(), F>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
    {
        let state = self.shared.lock();
        if state.running >= self.limit || self.is_over(&state) {
            drop(state);
            return Err(f);
        }
        self.start(state, f, Location::caller());
        Ok(())
    }

    fn is_over(&self, state: &State<T, E>) -> bool {
        state.over || self.shared.context.is_cancelled()
    }

    fn start<F>(&self, mut state: MutexGuard<'_, State<T, E>>, f: F, at: &'static Location<'static>)
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
    {
        let place = state.spawned;
        state.spawned += 1;
        state.running += 1;
        drop(state);
        let place = Place {
            shared: Arc::clone(&self.shared),
            place,
            ended: false,
        };
        let body = move || place.run(f);
        let birth = self.builder.clone().birth(at);
        let spawned = birth.and_then(|birth: Birth| match self.base {
            // SAFETY: what the closure borrows, and so what its result does, outlives `'scope`, which lasts until the
            // scope is over; both are Send.
            Some(base) => unsafe { base.spawn(body, birth) },
            // SAFETY: without a scope `'scope` is `'static`: `new` makes no other, and the type is invariant.
            None => unsafe { spawn_lent(body, birth) },
        });
        drop(spawned.unwrap_or_else(|error| panic!("{error}")));
    }

    /// The next end, if there will be one.
    #[track_caller]
    fn next_end(&self) -> Option<(usize, End<T, E>)> {
        let mut state = self.shared.lock();
        loop {
            if let Some(end) = state.ends.pop_front() {
                return Some(end);
            }
            if state.running == 0 {
                return None;
            }
            let waited = self.shared.ended.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all tasks have ended, whatever bounds the caller, and gives their values in the order of their spawn;
    /// without those that were taken as they came.
    ///
    /// # Errors
    /// The first error that a task gave; later ones are most often consequences of it.
    ///
    /// # Panics
    /// With the first panic of a task, when all have ended; rather than give an error. If a task never began because its
    /// runtime ended.
    #[track_caller]
    pub fn wait(self) -> Result<Vec<T>, E> {
        let (mut values, mut error, mut panic, mut lost) = (Vec::new(), None, None, false);
        while let Some((place, end)) = self.next_end() {
            match end {
                End::Returned(Ok(value)) => values.push((place, value)),
                End::Returned(Err(failed)) => error = error.or(Some(failed)),
                End::Panicked(payload) => panic = panic.or(Some(payload)),
                End::Lost => lost = true,
            }
        }
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
        assert!(!lost, "{LOST}");
        if let Some(error) = error {
            return Err(error);
        }
        values.sort_unstable_by_key(|&(place, _)| place);
        Ok(values.into_iter().map(|(_, value)| value).collect())
    }

    /// Tells all tasks to end, and lets no other begin.
    pub fn cancel(&self) {
        self.shared.lock().over = true;
        self.shared.canceller.cancel();
        self.shared.room.notify_all();
    }

    /// The context that the tasks run in: to hand on, or to look at in a loop that computes.
    pub fn context(&self) -> &Context {
        &self.shared.context
    }

    /// Tasks that have not ended at this moment.
    pub fn running(&self) -> usize {
        self.shared.lock().running
    }
}

const LOST: &str = "bast: a task of the group never began, because its runtime ended";

/// Results as they come, until no task is left. More tasks may be spawned meanwhile.
impl<'scope, T: Send + 'scope, E: Send + 'scope> Iterator for Group<'scope, T, E> {
    type Item = Result<T, E>;

    /// Waits for the next task that ends, whatever bounds the caller.
    ///
    /// # Panics
    /// With the task's panic. If it never began because its runtime ended.
    #[track_caller]
    fn next(&mut self) -> Option<Result<T, E>> {
        let (_, end) = self.next_end()?;
        match end {
            End::Returned(result) => Some(result),
            End::Panicked(payload) => resume_unwind(payload),
            End::Lost => panic!("{LOST}"),
        }
    }
}

impl<T, E> Drop for Group<'_, T, E> {
    /// Tells the tasks that still run to end.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        let running = state.running > 0;
        drop(state);
        if running {
            self.shared.canceller.cancel();
        }
    }
}

impl<T, E> fmt::Debug for Group<'_, T, E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (spawned, running) = {
            let state = self.shared.lock();
            (state.spawned, state.running)
        };
        out.debug_struct("Group")
            .field("spawned", &spawned)
            .field("running", &running)
            .field("context", &self.shared.context)
            .finish_non_exhaustive()
    }
}
