//! A worker that is about to wait for sockets lets others have the CPU first, once.
//!
//! # Goal
//! Where clients and server share CPUs, or one process is both, the kernel tends to put a woken thread on the CPU of who
//! woke it, and there before him. Then each message takes two switches of threads: a client that sends to many connections
//! is put aside after the first, the worker answers that one message, finds nothing else and waits, the client sends the
//! next. Meanwhile other CPUs may idle, as nobody is runnable for long enough to be moved there. A worker that gives way
//! before it waits stays runnable: the client goes on and sends what it has, which is then found at once; or the kernel
//! sees two that want one CPU and moves one. On a CPU that nobody else wants it is a system call that returns at once.
//!
//! # Rejected ways
//! *To look into the poller for some microseconds before waiting*: on the CPU that the client waits for. *To wake another
//! worker now and then, which then waits in the poller on another CPU*: no gain, one event later it is as before.
//!
//! # Its price, and the bound on it
//! Who gives way to a thread that computes waits for the end of its slice, milliseconds, and an event that comes meanwhile
//! does not shorten that, as it shortens a wait. So it is measured, and after one that took long ([`LONG_NANOS`]) there is
//! none for a pause. The pause doubles with each long one, up to a second, and halves with each short one: beside others'
//! computations some thousandths of the time are lost. It begins short, for who gives way to a client while another worker
//! answers him loses nothing. And there is none where no socket was ready the last time: timers are not to wait for anybody.

use std::cell::Cell;

/// So long takes somebody who computes: less than a slice of the kernel's.
const LONG_NANOS: u64 = 1_000_000;
const FIRST_PAUSE_NANOS: u64 = 1_000_000;
const LAST_PAUSE_NANOS: u64 = 1_000_000_000;

/// A worker's own.
#[derive(Debug)]
pub(crate) struct GiveWay {
    /// The last look into the poller found something.
    fed: Cell<bool>,
    not_before: Cell<u64>,
    pause: Cell<u64>,
}

impl GiveWay {
    pub(super) fn new() -> GiveWay {
        GiveWay {
            fed: Cell::new(false),
            not_before: Cell::new(0),
            pause: Cell::new(FIRST_PAUSE_NANOS),
        }
    }

    /// So many tasks were woken by the last look into the poller.
    #[inline]
    pub(super) fn note_woken(&self, count: usize) {
        self.fed.set(count > 0);
    }

    /// Calls `give_way` if it is time to, with `clock` in nanoseconds.
    pub(super) fn before_wait(&self, clock: impl Fn() -> u64, give_way: impl FnOnce()) {
        if !self.fed.get() {
            return;
        }
        let began = clock();
        if began < self.not_before.get() {
            return;
        }
        give_way();
        let ended = clock();
        if ended.saturating_sub(began) < LONG_NANOS {
            self.pause.set((self.pause.get() / 2).max(FIRST_PAUSE_NANOS));
            return;
        }
        let pause = self.pause.get();
        self.not_before.set(ended.saturating_add(pause));
        self.pause.set((2 * pause).min(LAST_PAUSE_NANOS));
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST_PAUSE_NANOS, GiveWay, LAST_PAUSE_NANOS, LONG_NANOS};
    use std::cell::Cell;

    /// A clock, and a way to give way that takes some time.
    struct World {
        now: Cell<u64>,
        given: Cell<u32>,
        own: GiveWay,
    }

    impl World {
        fn fed() -> World {
            let own = GiveWay::new();
            own.note_woken(1);
            World {
                now: Cell::new(0),
                given: Cell::new(0),
                own,
            }
        }

        /// Did it give way?
        fn wait(&self, takes: u64) -> bool {
            let before = self.given.get();
            self.own.before_wait(
                || self.now.get(),
                || {
                    self.now.set(self.now.get() + takes);
                    self.given.set(before + 1);
                },
            );
            self.given.get() > before
        }

        fn pass(&self, time: u64) {
            self.now.set(self.now.get() + time);
        }
    }

    #[test]
    fn only_where_sockets_are_busy() {
        let world = World::fed();
        assert!(world.wait(1));
        world.own.note_woken(0);
        assert!(!world.wait(1));
        world.own.note_woken(3);
        assert!(world.wait(1));
    }

    #[test]
    fn short_ones_cost_nothing_later() {
        let world = World::fed();
        assert!((0..100).all(|_| world.wait(LONG_NANOS - 1)));
    }

    #[test]
    fn who_computes_is_given_way_to_seldom() {
        let world = World::fed();
        let (mut lost, mut pauses) = (0, 0);
        for _ in 0..1_000_000 {
            if world.wait(3_000_000) {
                lost += 3_000_000;
                pauses += 1;
            }
            world.pass(20_000); // 20 seconds of messages
        }
        assert!(pauses > 20, "it never tries again");
        assert!(lost * 200 < world.now.get(), "{lost} of {}", world.now.get());
    }

    #[test]
    fn pauses_double_and_halve() {
        let world = World::fed();
        let mut expected = FIRST_PAUSE_NANOS;
        while expected < LAST_PAUSE_NANOS {
            assert!(world.wait(LONG_NANOS));
            world.pass(expected - 1);
            assert!(!world.wait(1));
            world.pass(1);
            expected *= 2;
        }
        for _ in 0..3 {
            assert!(world.wait(1), "nobody computes any more");
        }
        assert!(world.wait(LONG_NANOS));
        world.pass(LAST_PAUSE_NANOS / 8 - 1);
        assert!(!world.wait(1));
        world.pass(1);
        assert!(world.wait(1));
    }
}
