//! Where whole generations go: to the thread that writes them, or into the flight recorder's ring.

use super::generation::Generation;
use crate::primitive::atomic::{Acquire, AtomicBool, AtomicU64, Relaxed, Release};
use crate::sys::event::Event;
use crate::sys::lock::{Lock, Rank};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

/// Bytes that may wait for the writer.
pub(super) const OUTBOX_BYTES: usize = 64 << 20;

/// Takes generations from the closer.
pub(super) trait Sink: Send + Sync {
    /// A whole generation.
    fn take(&self, generation: Generation);
    /// Is there room for one more? Else the trace pauses.
    fn has_room(&self) -> bool;
    /// One was not written.
    fn lost(&self);
}

/// Between the closer and the writer's thread.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Lock<VecDeque<Generation>>,
    /// Waiting, or being written.
    bytes: AtomicU64,
    bytes_max: u64,
    over: AtomicBool,
    changed: Event,
    pub(super) generations: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) written: AtomicU64,
}

impl Outbox {
    pub(super) fn new(bytes_max: usize) -> Outbox {
        Outbox {
            waiting: Lock::new(Rank::Trace, VecDeque::new()),
            bytes: AtomicU64::new(0),
            bytes_max: bytes_max as u64,
            over: AtomicBool::new(false),
            changed: Event::new(),
            generations: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.over.store(true, Release);
        self.changed.notify();
    }

    /// The writer's thread: until the outbox is closed and empty. After an error the rest is thrown away.
    pub(super) fn write_to(&self, mut writer: impl Write) -> io::Result<()> {
        let header = super::session::header();
        let mut result = writer.write_all(&header);
        self.written.store(header.len() as u64, Relaxed);
        loop {
            let next = self.waiting.lock().pop_front();
            let Some(generation) = next else {
                // Acquire: whatever was put in before the end is seen.
                if self.over.load(Acquire) && self.waiting.lock().is_empty() {
                    return result.and_then(|()| writer.flush());
                }
                self.changed.wait(Duration::from_secs(1), || {
                    self.over.load(Acquire) || !self.waiting.lock().is_empty()
                });
                continue;
            };
            if result.is_ok() {
                result = generation.write_to(&mut writer).and_then(|()| writer.flush());
                self.written.fetch_add(generation.len() as u64, Relaxed);
            }
            self.bytes.fetch_sub(generation.len() as u64, Relaxed);
        }
    }
}

impl Sink for Outbox {
    fn take(&self, generation: Generation) {
        self.generations.fetch_add(1, Relaxed);
        self.bytes.fetch_add(generation.len() as u64, Relaxed);
        self.waiting.lock().push_back(generation);
        self.changed.notify();
    }

    fn has_room(&self) -> bool {
        self.bytes.load(Relaxed) < self.bytes_max
    }

    fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }
}
