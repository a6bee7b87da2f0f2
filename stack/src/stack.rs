//! `Stack`: the owned handle of one slot, and the size classes slots come in.

use crate::layout;
use std::fmt;
use std::num::NonZeroUsize;

/// The sizes a pooled stack comes in.
///
/// The size is address space, not memory: a stack that has touched one page costs one page. It is not
/// free either, because the page tables that describe it are: 128 bytes a stack at 64 KiB, 513 at
/// 256 KiB, 2 KiB at 1 MiB (measured, Linux 6.18 x86_64).
///
/// ```
/// use bast_stack::StackClass;
/// assert_eq!(StackClass::for_bytes(100_000), Some(StackClass::Default256K));
/// assert_eq!(StackClass::for_bytes(9 << 20), None); // larger ones are single mappings: `on_big_stack`
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum StackClass {
    /// 64 KiB: a million of them need 128 MB of page tables.
    Small64K,
    /// 256 KiB, the default.
    #[default]
    Default256K,
    /// 1 MiB: room for C libraries with deep frames.
    Large1M,
    /// 8 MiB: what a process's main thread usually has.
    Huge8M,
}

impl StackClass {
    /// Every class, smallest first.
    pub const ALL: [StackClass; 4] = [
        StackClass::Small64K,
        StackClass::Default256K,
        StackClass::Large1M,
        StackClass::Huge8M,
    ];

    /// Length of a slot of this class, guard included.
    pub const fn bytes(self) -> usize {
        match self {
            StackClass::Small64K => 64 << 10,
            StackClass::Default256K => 256 << 10,
            StackClass::Large1M => 1 << 20,
            StackClass::Huge8M => 8 << 20,
        }
    }

    /// The smallest class whose slot is at least `bytes` long, guard included.
    pub fn for_bytes(bytes: usize) -> Option<StackClass> {
        StackClass::ALL.into_iter().find(|class| class.bytes() >= bytes)
    }

    /// The smallest class with at least `bytes` usable above its guard.
    pub fn for_usable_bytes(bytes: usize) -> Option<StackClass> {
        StackClass::ALL
            .into_iter()
            .find(|class| class.usable_bytes() >= bytes)
    }

    /// Bytes between the guard and the top.
    pub fn usable_bytes(self) -> usize {
        let class = self.on_this_machine();
        class.bytes() - layout::guard_bytes(class.bytes())
    }

    /// The class really handed out: a slot must hold its guard and three pages besides, which a 64 KiB
    /// slot does not where pages are 64 KiB (some aarch64 kernels).
    pub(crate) fn on_this_machine(self) -> StackClass {
        let floor = 4 * layout::page_bytes();
        StackClass::ALL
            .into_iter()
            .find(|&class| class >= self && class.bytes() >= floor)
            .unwrap_or(StackClass::Huge8M)
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// One stack, owned: the address of its top, with its class in the low bits, in one word.
///
/// **Dropping a `Stack` leaks its slot**, on purpose. Frames that still lie on it may be borrowed by
/// other tasks or pinned, so freeing them without unwinding would be unsound; only
/// [`Stacks::put`](crate::Stacks::put) says "nothing lives there any more". The arena of a leaked stack
/// is never unmapped.
///
/// ```
/// use bast_stack::{Config, StackClass, Stacks};
/// let stacks = Stacks::new(Config::default())?;
/// let stack = stacks.take(StackClass::Small64K)?;
/// assert!(stack.contains(stack.limit()) && !stack.contains(stack.top()));
/// stacks.put(stack);
/// # Ok::<(), bast_stack::StackError>(())
/// ```
#[must_use = "dropping a Stack leaks it: give it back with Stacks::put"]
#[repr(transparent)]
#[derive(PartialEq, Eq)]
pub struct Stack {
    /// `top | class.index()`: the top is a multiple of 64 KiB, so the low 16 bits are free.
    word: NonZeroUsize,
}

const CLASS_MASK: usize = 0b11;
const _: () = assert!(StackClass::ALL.len() <= CLASS_MASK + 1 && CLASS_MASK < layout::SLOT_BYTES_MIN);

impl Stack {
    /// # Panics
    /// If `top` is not the top of a slot.
    pub(crate) fn new(top: usize, class: StackClass) -> Stack {
        assert!(
            top.is_multiple_of(class.bytes()),
            "a slot is aligned to its own length"
        );
        let word = NonZeroUsize::new(top | class.index()).expect("a slot does not end at address zero");
        Stack { word }
    }

    /// The class of its slot.
    #[inline]
    pub fn class(&self) -> StackClass {
        StackClass::ALL[self.word.get() & CLASS_MASK]
    }

    /// One past the highest usable byte: a stack grows down from here.
    #[inline]
    pub fn top(&self) -> usize {
        self.word.get() & !CLASS_MASK
    }

    /// The lowest usable byte, just above the guard.
    #[inline]
    pub fn limit(&self) -> usize {
        self.base() + layout::guard_bytes(self.class().bytes())
    }

    /// Whether `address` is in the usable part.
    #[inline]
    pub fn contains(&self, address: usize) -> bool {
        (self.limit()..self.top()).contains(&address)
    }

    /// Gives up the handle, keeping the one word that [`Stack::from_raw`] takes back.
    #[inline]
    pub fn into_raw(self) -> NonZeroUsize {
        self.word
    }

    /// Takes back what [`Stack::into_raw`] gave.
    ///
    /// # Safety
    /// `word` came from `into_raw`, and no other `Stack` has been made of it since.
    #[inline]
    pub unsafe fn from_raw(word: NonZeroUsize) -> Stack {
        Stack { word }
    }

    /// The lowest address of the slot, where its guard begins.
    pub(crate) fn base(&self) -> usize {
        self.top() - self.class().bytes()
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Stack({:?}, {:#x}..{:#x})",
            self.class(),
            self.limit(),
            self.top()
        )
    }
}
