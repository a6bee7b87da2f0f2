//! The word of a read-write lock, and the waiters behind it.
//!
//! ```text
//!   bits 2..   readers that hold it
//!   bit 1      WAITING: somebody waits, so nobody takes the lock any more: it is handed over
//!   bit 0      WRITER: a writer holds it
//!
//!            read, readers ± 1                                              write
//!   ┌───┐ ◄────────────────────► ┌───────────┐          ┌───┐ ◄──────────────────────► ┌────────┐
//!   │ 0 │                        │ readers   │          │ 0 │         unlock           │ WRITER │
//!   └───┘                        └───────────┘          └───┘                          └────────┘
//!                                      │ a writer comes                                     │ anybody comes
//!                                      ▼                                                    ▼
//!                            ┌───────────────────┐  the last reader leaves        ┌──────────────────┐
//!                            │ readers | WAITING │ ─────────────────────────────► │ WRITER | WAITING │
//!                            │                   │ ◄───────────────────────────── │                  │
//!                            └───────────────────┘  the writer leaves: to all     └──────────────────┘
//!                                                   readers that wait by then
//! ```
//!
//! # Nobody starves
//! While somebody waits, phases alternate: after a writer all readers that have come by then go together, after them the
//! first writer. So a writer waits for one phase of readers and for the writers before it; a reader for one writer.
//! Rejected: letting readers in while a writer waits (writers starve), and one queue for both (readers between
//! writers go one by one, although they could go together).
//!
//! # Readers add themselves first
//! A reader adds itself with one instruction and then sees whether it may: while many read, an exchange would fetch the
//! word's cache line twice, and try again. One that may not leaves as any reader does, and until then it is one, of which the
//! others know no better: a writer waits for it, and it passes the lock on if it was the last. Under the queue's lock, where
//! nothing can be passed on, and while a caller spins, it is an exchange after a look.
//!
//! # Under the queue's lock
//! `WAITING` is set and cleared only there. While it is set nobody takes the lock by the word alone; so, under the lock,
//! the word changes only by holders that leave, and by readers that look in. [`RawRwLock::grant`] looks at the word and gives the lock to whom it may
//! be given; whoever may have made that possible calls it: the last reader, a writer, a waiter that gives up.
//!
//! Memory ordering: taking is Acquire, leaving Release. `grant` reads the word with Acquire, and so has seen all who left,
//! and passes that on through the end of the wait (`waitlist`).

use super::backoff::Backoff;
use super::base::{Caller, Lock, Reason, constructor, leaf};
use super::waitlist::{Batch, Wait, Waitlist, wait_in};
use crate::primitive::atomic::{Acquire, AtomicU32, Ordering, Relaxed, Release};
use std::panic::Location;

/// A writer holds it.
const WRITER: u32 = 1;
/// The queue may hold a waiter.
const WAITING: u32 = 2;
/// One reader.
const READER: u32 = 4;
/// More readers than this at once are a bug. Half of what fits: those who only look in are counted on top.
const READERS_MAX: u32 = u32::MAX / READER / 2;
/// Looks before a caller waits.
const SPINS_MAX: u32 = 4;
/// Outcome of a wait: the lock is the waiter's.
const GRANTED: u8 = 1;

// Planted bugs, off unless the build asks for one: the model must find each of them.
const LEAVE: Ordering = if cfg!(bast_plant = "rwlock_leave_relaxed") {
    Relaxed
} else {
    Release
};

/// See the module.
#[derive(Debug)]
pub(super) struct RawRwLock {
    word: AtomicU32,
    queues: Lock<Queues>,
}

#[derive(Debug)]
struct Queues {
    readers: Waitlist,
    writers: Waitlist,
}

impl Queues {
    fn readers(&mut self) -> &mut Waitlist {
        &mut self.readers
    }

    fn writers(&mut self) -> &mut Waitlist {
        &mut self.writers
    }
}

/// What is asked for, and how the word tells that it can be had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Bits of which none may be set.
    against: u32,
    /// What is added.
    takes: u32,
    list: fn(&mut Queues) -> &mut Waitlist,
}

/// To read.
pub(super) const READ: Kind = Kind {
    against: WRITER | WAITING,
    takes: READER,
    list: Queues::readers,
};

/// To write.
pub(super) const WRITE: Kind = Kind {
    against: u32::MAX,
    takes: WRITER,
    list: Queues::writers,
};

impl RawRwLock {
    constructor! {
        /// Free.
        pub(super) fn new() -> RawRwLock {
            RawRwLock {
                word: AtomicU32::new(0),
                queues: leaf(Queues {
                    readers: Waitlist::new(),
                    writers: Waitlist::new(),
                }),
            }
        }
    }

    /// Takes the lock if it can be had at once. Not under the queue's lock.
    ///
    /// # Panics
    /// With more readers than fit the word.
    #[inline]
    pub(super) fn try_lock(&self, kind: Kind) -> bool {
        if kind.takes == WRITER {
            return self.try_exchange(kind);
        }
        let before = self.word.fetch_add(READER, Acquire);
        if before & kind.against == 0 && before / READER < READERS_MAX {
            return true;
        }
        self.look_out(before);
        false
    }

    /// A reader that may not be one.
    #[cold]
    fn look_out(&self, before: u32) {
        if cfg!(bast_plant = "rwlock_look_out_quietly") {
            self.word.fetch_sub(READER, Release);
        } else {
            self.unlock_read();
        }
        assert!(
            before / READER < READERS_MAX,
            "bast: too many readers of one RwLock"
        );
    }

    /// The same after a look: nobody is in the way of others who does not get the lock.
    fn try_exchange(&self, kind: Kind) -> bool {
        let mut seen = self.word.load(Relaxed);
        while seen & kind.against == 0 {
            match self
                .word
                .compare_exchange_weak(seen, seen + kind.takes, Acquire, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Takes the lock, by `deadline` at most; with `heed_own`, also by the calling task's own.
    #[inline]
    pub(super) fn lock(
        &self,
        kind: Kind,
        deadline: u64,
        heed_own: bool,
        at: &'static Location<'static>,
    ) -> bool {
        self.try_lock(kind) || self.lock_slowly(kind, deadline, heed_own, at)
    }

    #[cold]
    fn lock_slowly(&self, kind: Kind, deadline: u64, heed_own: bool, at: &'static Location<'static>) -> bool {
        let mut caller = Caller::to_wait();
        let mut backoff = Backoff::new();
        for _ in 0..SPINS_MAX {
            if self.word.load(Relaxed) & WAITING != 0 || !caller.may_spin() {
                break;
            }
            backoff.wait();
            if self.try_exchange(kind) {
                return true;
            }
        }
        let queues = self.queues.lock();
        if self.take_or_announce(kind) {
            return true;
        }
        let wait = Wait {
            payload: std::ptr::null_mut(),
            first: false,
            deadline: if heed_own {
                deadline.min(caller.own_deadline())
            } else {
                deadline
            },
            reason: Reason::RwLock,
            at,
        };
        match wait_in(&mut caller, &self.queues, queues, kind.list, &wait, |_| ()) {
            Ok(_) => true,
            Err(mut queues) => {
                // Readers that waited behind a writer that leaves need not wait any more.
                let granted = if cfg!(bast_plant = "rwlock_give_up_quietly") {
                    Batch::new()
                } else {
                    self.grant(&mut queues, false)
                };
                drop(queues);
                granted.finish(GRANTED, &mut caller);
                false
            }
        }
    }

    /// Takes the lock if it can be had after all, and else says that somebody waits. Under the queue's lock.
    fn take_or_announce(&self, kind: Kind) -> bool {
        loop {
            if self.try_exchange(kind) {
                return true;
            }
            let seen = self.word.load(Relaxed);
            if seen & kind.against == 0 {
                continue;
            }
            let announced = self
                .word
                .compare_exchange_weak(seen, seen | WAITING, Relaxed, Relaxed);
            if announced.is_ok() {
                return false;
            }
        }
    }

    /// By a reader.
    #[inline]
    pub(super) fn unlock_read(&self) {
        // Release: what we read is read before the next writer writes. The rest is `grant`'s.
        if self.word.fetch_sub(READER, LEAVE) == READER | WAITING {
            self.pass_on(false);
        }
    }

    /// By a writer.
    #[inline]
    pub(super) fn unlock_write(&self) {
        if self.word.compare_exchange(WRITER, 0, LEAVE, Relaxed).is_err() {
            self.word.fetch_sub(WRITER, LEAVE); // `WAITING` stays, so nobody comes in between
            self.pass_on(true);
        }
    }

    /// By a writer that goes on as a reader.
    pub(super) fn downgrade(&self) {
        if self.word.fetch_add(READER - WRITER, Release) & WAITING != 0 {
            self.pass_on(true);
        }
    }

    #[cold]
    fn pass_on(&self, readers_first: bool) {
        let mut caller = Caller::to_wake();
        let mut queues = self.queues.lock();
        let granted = self.grant(&mut queues, readers_first);
        drop(queues);
        granted.finish(GRANTED, &mut caller);
    }

    /// Gives the lock to those of the waiters who may have it now; they are to be finished after the queue's lock.
    fn grant(&self, queues: &mut Queues, readers_first: bool) -> Batch {
        let mut granted = Batch::new();
        // Acquire: pairs with those who left.
        let seen = self.word.load(Acquire);
        if seen & WAITING == 0 || seen & WRITER != 0 {
            return granted; // somebody else has seen to it, or will
        }
        if readers_first {
            self.admit_readers(queues, &mut granted);
        }
        if granted.is_empty()
            && seen == WAITING
            && let Some(writer) = queues.writers.claim()
        {
            self.word.fetch_or(WRITER, Relaxed);
            granted.push(writer);
        }
        if granted.is_empty() && queues.writers.is_empty() {
            self.admit_readers(queues, &mut granted);
        }
        if queues.readers.is_empty() && queues.writers.is_empty() {
            // Relaxed: an exchange, so who takes the lock next still comes after all who left.
            self.word.fetch_and(!WAITING, Relaxed);
        }
        granted
    }

    /// Lets all waiting readers in.
    fn admit_readers(&self, queues: &mut Queues, granted: &mut Batch) {
        while let Some(reader) = queues.readers.claim() {
            self.word.fetch_add(READER, Relaxed);
            granted.push(reader);
        }
    }
}
