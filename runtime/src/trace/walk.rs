//! Real stacks, when they are asked for: return addresses by frame pointers, taken where an event is written.
//!
//! # Cost
//! Off: nothing beyond what an event costs. On: some loads a frame and a look into the sheet's cache, in which a stack is
//! known by two sums over its addresses, 128 bits together, rather than compared. Nothing is allocated for a stack that
//! the sheet has met; one that the trace has not met is copied once. Names are found by the closer, when the generation
//! ends (`tables`).

use super::pen::Ink;
use crate::primitive::atomic::{AtomicUsize, Relaxed};
use std::panic::Location;

/// Most frames of a stack in the format.
pub(super) const FRAMES_MAX: usize = 128;
/// Of them, those that are no addresses: the call with its reason, and the entry function.
const OURS: usize = 2;

/// How many frames of stacks are taken; zero: none.
static DEPTH: AtomicUsize = AtomicUsize::new(0);

/// For the next generation of a sheet.
pub(super) fn depth() -> u32 {
    DEPTH.load(Relaxed) as u32
}

/// By whoever begins a trace.
pub(super) fn set_depth(frames: usize) {
    DEPTH.store(frames.min(FRAMES_MAX - OURS), Relaxed);
}

/// The addresses of the stack on which an event is written.
#[derive(Debug, Default)]
pub(super) struct Walk {
    addresses: Vec<usize>,
    count: usize,
}

impl Walk {
    fn take(&mut self, depth: usize) {
        if self.addresses.len() < depth {
            self.addresses.resize(FRAMES_MAX, 0); // once a sheet
        }
        self.count = bast_stack::frames(&mut self.addresses[..depth]);
    }

    /// Innermost first.
    pub(super) fn addresses(&self) -> &[usize] {
        &self.addresses[..self.count]
    }
}

impl Ink {
    /// The stack that we stand on is that of whoever does what is written now.
    #[inline]
    pub(crate) fn look_at_stack(&mut self) {
        if self.depth != 0 {
            self.take_walk();
        }
    }

    #[cold]
    fn take_walk(&mut self) {
        self.walk.take(self.depth as usize);
        self.walked = !self.walk.addresses().is_empty();
    }

    /// The stack of a call of `what`, in a task with the root `root`.
    pub(super) fn stack(&mut self, what: &'static str, at: &'static Location<'static>, root: u32) -> u32 {
        let short = self.cache.stack(what, at, root);
        self.with_frames(short)
    }

    /// `short` with the frames between its two, if they were looked at.
    pub(super) fn with_frames(&mut self, short: u32) -> u32 {
        match self.walked {
            false => short,
            true => self.cache.walked(short, self.walk.addresses()),
        }
    }
}
