//! `Stacks`: the process's or runtime's source of stacks, by class. Any thread may use it; none often.

use crate::arena::Arena;
use crate::depot::Depot;
use crate::error::StackError;
use crate::layout::page_bytes;
use crate::primitive::statics::{Mutex, lock};
use crate::region;
use crate::sanitizer;
use crate::stack::{Stack, StackClass};
use crate::{arch, fork};
use crossbeam_utils::CachePadded;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

/// How the guard below each stack is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GuardMode {
    /// `Install` where the kernel has it (it is tried, not looked up), else `Protect`.
    #[default]
    Auto,
    /// `madvise(MADV_GUARD_INSTALL)`, Linux 6.13 and newer: a mark in the page table, no mapping more.
    Install,
    /// `mprotect`: works everywhere and costs two mappings a stack, so that `vm.max_map_count` (65530 by
    /// default) ends at about 32,700 stacks.
    Protect,
}

/// What [`Stacks::new`] is made with.
///
/// ```
/// use bast_stack::{Config, GuardMode};
/// let config = Config { guard: GuardMode::Protect, slots_per_arena: Some(1024), ..Config::default() };
/// assert_eq!(config.guard, GuardMode::Protect);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// How guards are made.
    pub guard: GuardMode,
    /// Slots in an arena. By default 2^20 of 64 KiB and of 256 KiB, 64 GiB for the larger classes; an
    /// arena gets fewer where the system refuses that much address space.
    pub slots_per_arena: Option<usize>,
    /// How long it takes until the high-water mark of free stacks that keep their memory has halved.
    pub trim_period: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            guard: GuardMode::Auto,
            slots_per_arena: None,
            trim_period: Duration::from_secs(10),
        }
    }
}

/// Counts of one class, or summed over all: see [`Stacks::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Slots that have ever been in use.
    pub carved: usize,
    /// Handed out: with tasks, in the caches of processors, or leaked.
    pub out: usize,
    /// Free, with their pages.
    pub warm: usize,
    /// Free, pages given back.
    pub cold: usize,
    /// The decaying high-water mark of `out`.
    pub mark: usize,
    /// Address space reserved, in bytes.
    pub reserved_bytes: usize,
}

/// What [`Stacks::stats`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackStats {
    /// One for each of [`StackClass::ALL`].
    pub classes: [ClassStats; StackClass::ALL.len()],
    /// Whether guards are installed in the page table (true) or protected mappings (false).
    pub guard_installed: bool,
}

impl StackStats {
    /// Counts of one class.
    pub fn class(&self, class: StackClass) -> ClassStats {
        self.classes[class.index()]
    }
}

struct ClassPool {
    depot: Depot<NonZeroUsize>,
    arenas: Mutex<Vec<Arena>>,
}

/// A source of stacks: see the [crate documentation](crate).
///
/// Dropping it unmaps every class whose stacks are all back. If one is still out, or was leaked, all stacks that the
/// class ever gave out stay mapped for ever, because a borrow of something on that one may still be alive; the memory of
/// those that were back, and the address space that no stack has used, are given back.
///
/// ```
/// use bast_stack::{Config, StackClass, Stacks};
/// let stacks = Stacks::new(Config::default())?;
/// let mut batch = Vec::new();
/// stacks.take_batch(StackClass::Default256K, 32, &mut batch)?;
/// assert_eq!(stacks.stats().class(StackClass::Default256K).out, 32);
/// stacks.put_batch(StackClass::Default256K, batch.drain(..));
/// # Ok::<(), bast_stack::StackError>(())
/// ```
pub struct Stacks {
    classes: [CachePadded<ClassPool>; StackClass::ALL.len()],
    guard: GuardMode,
    slots_per_arena: Option<usize>,
    trim_period: Duration,
    /// When the present trim period began.
    period_start: Mutex<Duration>,
}

impl Stacks {
    /// A source with nothing reserved yet: a class's first arena comes with its first stack.
    ///
    /// # Errors
    /// If [`GuardMode::Install`] is demanded and refused, if the process runs with a hardware shadow
    /// stack, or if `slots_per_arena` is zero.
    pub fn new(config: Config) -> Result<Stacks, StackError> {
        if config.slots_per_arena == Some(0) {
            return Err(StackError::bad_config(
                "slots_per_arena is 0: an arena needs at least one slot",
            ));
        }
        if arch::has_shadow_stack() {
            return Err(StackError::shadow_stack());
        }
        let guard = match config.guard {
            GuardMode::Protect => GuardMode::Protect,
            GuardMode::Auto if !region::can_install_guard() => GuardMode::Protect,
            GuardMode::Install if !region::can_install_guard() => return Err(StackError::no_guard_install()),
            GuardMode::Auto | GuardMode::Install => GuardMode::Install,
        };
        fork::install();
        let classes = StackClass::ALL.map(|_| {
            CachePadded::new(ClassPool {
                depot: Depot::new(),
                arenas: Mutex::new(Vec::new()),
            })
        });
        Ok(Stacks {
            classes,
            guard,
            slots_per_arena: config.slots_per_arena,
            trim_period: config.trim_period,
            period_start: Mutex::new(Duration::ZERO),
        })
    }

    fn pool(&self, class: StackClass) -> &ClassPool {
        &self.classes[class.index()]
    }

    /// One stack of `class` (of a larger one where pages are too large for it).
    ///
    /// # Errors
    /// When the system has no more memory, address space or mappings; the text says which and how to raise it.
    pub fn take(&self, class: StackClass) -> Result<Stack, StackError> {
        let mut one = Vec::with_capacity(1);
        self.take_batch(class, 1, &mut one)?;
        Ok(one.pop().expect("take_batch gives at least one"))
    }

    /// Between one and `count` stacks, appended to `into`: under two locks, not one a stack.
    ///
    /// # Errors
    /// As [`Stacks::take`], and only if not even one can be had.
    pub fn take_batch(
        &self,
        class: StackClass,
        count: usize,
        into: &mut Vec<Stack>,
    ) -> Result<(), StackError> {
        let class = class.on_this_machine();
        let pool = self.pool(class);
        let before = into.len();
        let mut words = Vec::with_capacity(count);
        pool.depot.take(count, &mut words);
        for word in words.drain(..) {
            // SAFETY: validity: the depot holds words of `into_raw`. aliasing: by Rule 1 there this word is ours.
            let stack = unsafe { Stack::from_raw(word) };
            sanitizer::stack_taken(&stack);
            into.push(stack);
        }
        // Fresh slots only if no free one was left: what the depot had is a batch, if perhaps a small one.
        if into.len() > before {
            return Ok(());
        }
        match self.carve(class, count.max(1), into) {
            Err(error) if into.len() == before => Err(error),
            _ => {
                pool.depot.enter(into.len() - before);
                Ok(())
            }
        }
    }

    /// Free stacks of `class` that may hold pages.
    pub(crate) fn warm(&self, class: StackClass) -> usize {
        self.pool(class).depot.counts().warm
    }

    fn carve(&self, class: StackClass, count: usize, into: &mut Vec<Stack>) -> Result<(), StackError> {
        let mut arenas = lock(&self.pool(class).arenas);
        for _ in 0..count {
            let fresh = match arenas.last_mut() {
                Some(arena) => arena.carve()?,
                None => None,
            };
            let stack = match fresh {
                Some(stack) => stack,
                None => {
                    let mut arena = Arena::reserve(class, self.guard, self.slots_in_arena(class))?;
                    let stack = arena.carve()?.expect("a new arena has a slot");
                    arenas.push(arena);
                    stack
                }
            };
            into.push(stack);
        }
        Ok(())
    }

    fn slots_in_arena(&self, class: StackClass) -> usize {
        // A sanitizer's shadow makes address space dear.
        let bytes_max = if cfg!(any(bast_asan, bast_tsan, feature = "valgrind")) {
            1 << 30
        } else {
            64 << 30
        };
        let by_default = match class {
            StackClass::Default256K if cfg!(not(any(bast_asan, bast_tsan, feature = "valgrind"))) => 1 << 20,
            _ => bytes_max / class.bytes(),
        };
        self.slots_per_arena.unwrap_or(by_default)
    }

    /// Takes a stack back. Nothing on it is alive any more.
    pub fn put(&self, stack: Stack) {
        self.put_batch(stack.class(), std::iter::once(stack));
    }

    /// Takes stacks of one class back under one lock.
    ///
    /// # Panics
    /// If one of them is of another class.
    pub fn put_batch(&self, class: StackClass, stacks: impl IntoIterator<Item = Stack>) {
        let class = class.on_this_machine();
        let words = stacks.into_iter().map(|stack| {
            assert_eq!(stack.class(), class, "a batch is of one class");
            sanitizer::stack_put(&stack);
            stack.into_raw()
        });
        self.pool(class).depot.put(words);
    }

    /// Gives the memory of free stacks beyond the high-water mark back to the kernel, and lets the mark
    /// decay: it rises at once with use and halves its distance to the present use every
    /// [`Config::trim_period`]. `now` is a monotonic clock of the caller's. Returns the bytes given back.
    ///
    /// Any thread may call it, as often as it likes; once a period is enough.
    pub fn trim(&self, now: Duration) -> usize {
        let period_over = {
            let mut start = lock(&self.period_start);
            let over = now.saturating_sub(*start) >= self.trim_period;
            if over {
                *start = now;
            }
            over
        };
        StackClass::ALL
            .into_iter()
            .map(|class| self.trim_class(class, period_over))
            .sum()
    }

    fn trim_class(&self, class: StackClass, period_over: bool) -> usize {
        let depot = &self.pool(class).depot;
        let surplus = depot.begin_trim(period_over);
        let mut freed = 0;
        for &word in &surplus {
            // SAFETY: validity: the depot holds words of `into_raw`. aliasing: between begin and end the
            //         trimmer owns the stack (Rule 2 of the depot), and this handle is dropped, not put.
            let stack = unsafe { Stack::from_raw(word) };
            freed += discard_all(&stack);
        }
        depot.end_trim(surplus);
        freed
    }

    /// Counts of every class now.
    pub fn stats(&self) -> StackStats {
        let classes = StackClass::ALL.map(|class| {
            let pool = self.pool(class);
            let counts = pool.depot.counts();
            let arenas = lock(&pool.arenas);
            ClassStats {
                carved: arenas.iter().map(Arena::carved).sum(),
                out: counts.out,
                warm: counts.warm,
                cold: counts.cold,
                mark: counts.mark,
                reserved_bytes: arenas.iter().map(|arena| arena.slots() * class.bytes()).sum(),
            }
        });
        StackStats {
            classes,
            guard_installed: self.guard == GuardMode::Install,
        }
    }
}

/// Discards every page of a stack nobody uses; returns how many bytes were in memory.
pub(crate) fn discard_all(stack: &Stack) -> usize {
    debug_assert!(stack.limit().is_multiple_of(page_bytes()));
    let bytes = stack.top() - stack.limit();
    let resident = region::resident_bytes(stack.limit(), bytes);
    // SAFETY: validity: limit and top are page boundaries inside a mapped arena.
    //         aliasing: the caller owns the stack, and a free stack's contents are worth nothing.
    let discarded = unsafe { region::discard(stack.limit(), bytes) };
    if discarded.is_ok() { resident } else { 0 }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        for pool in &self.classes {
            let all_back = pool.depot.counts().out == 0;
            if !all_back {
                let mut free = Vec::new();
                pool.depot.take(usize::MAX, &mut free);
                for word in free {
                    // SAFETY: validity: the depot holds words of `into_raw`. aliasing: taken from it, the stack is ours.
                    discard_all(&unsafe { Stack::from_raw(word) });
                }
            }
            for arena in lock(&pool.arenas).drain(..) {
                if all_back {
                    drop(arena);
                } else {
                    arena.leak();
                }
            }
        }
    }
}

impl fmt::Debug for Stacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stacks")
            .field("guard", &self.guard)
            .field("stats", &self.stats())
            .finish()
    }
}
