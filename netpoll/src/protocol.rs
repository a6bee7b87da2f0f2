//! The protocols as the models in `loom-tests` see them: the same code, with a door.

use crate::crowd::Crowd;
use crate::interrupt::Interrupt;
use crate::{Arm, Direction, Disarm, Readiness, Tokens};

/// One direction of a source: what a `Source` does, without a poller.
#[derive(Debug)]
pub struct Half {
    readiness: Readiness,
    crowd: Crowd,
}

impl Default for Half {
    fn default() -> Self {
        Self::new()
    }
}

impl Half {
    /// An open direction, ready with tick 0.
    pub fn new() -> Self {
        let half = Self {
            readiness: Readiness::new(),
            crowd: Crowd::new(),
        };
        half.readiness.open();
        half
    }

    /// The word, for the fast path.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// See `Source::wait_start`.
    pub fn wait_start(&self, token: usize) -> Arm {
        self.readiness.arm(token, self.crowd.queue(Direction::Read))
    }

    /// See `Source::wait_end`.
    pub fn wait_end(&self, token: usize) -> Disarm {
        self.readiness.disarm(token, self.crowd.queue(Direction::Read))
    }

    /// See `Source::leave`.
    pub fn leave(&self) -> Option<usize> {
        self.readiness.hand_on(self.crowd.queue(Direction::Read))
    }

    /// What the poller does with an event.
    pub fn event(&self, tick: u64, lasting: bool) -> Option<usize> {
        self.readiness
            .set_ready(tick, lasting, self.crowd.queue(Direction::Read))
    }

    /// See `Source::close`.
    pub fn close(&self) -> Tokens {
        let mut tokens = Tokens::default();
        self.readiness
            .close(self.crowd.queue(Direction::Read), &mut tokens);
        tokens
    }

    /// See `Source::deadline`.
    pub fn deadline(&self) -> Option<u64> {
        self.readiness.deadline()
    }

    /// See `Source::set_deadline`.
    pub fn set_deadline(&self, deadline: Option<u64>) -> Tokens {
        let mut tokens = Tokens::default();
        self.readiness
            .set_deadline(deadline, self.crowd.queue(Direction::Read), &mut tokens);
        tokens
    }
}

/// The poller's interrupt word, without the waker.
#[derive(Debug)]
pub struct Interrupts(Interrupt);

impl Default for Interrupts {
    fn default() -> Self {
        Self::new()
    }
}

impl Interrupts {
    /// Nobody waits, nothing is pending.
    pub fn new() -> Self {
        Self(Interrupt::new())
    }

    /// `true`: write to the waker.
    #[must_use]
    pub fn request(&self) -> bool {
        self.0.request()
    }

    /// `false`: do not block.
    #[must_use]
    pub fn begin_wait(&self) -> bool {
        self.0.begin_wait()
    }

    /// Tells whether an interrupt was pending.
    pub fn end_wait(&self) -> bool {
        self.0.end_wait()
    }

    /// A thread is inside a wait.
    pub fn is_waiting(&self) -> bool {
        self.0.is_waiting()
    }
}
