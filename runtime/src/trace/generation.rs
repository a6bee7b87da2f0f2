//! A whole generation as it stands in a file, in the buffers that it was written into; and those that wait for use.
//!
//! It is not copied together: with a fresh place for each, written once and read once, that cost as much as the writing.

use super::encode::{BATCH_MAX, Batch};
use super::session;
use crate::sys::lock::{Lock, Rank};
use std::io::{self, Write};

/// Buffers kept while a trace runs: those of two generations, of which one is filled and one is written, and what is begun
/// meanwhile.
const SPARES: usize = 2 * session::GENERATION_BYTES / BATCH_MAX + 64;

static SPARE: Lock<Vec<Vec<u8>>> = Lock::new(Rank::Trace, Vec::new());

/// A buffer to fill.
pub(super) fn spare_buffer() -> Vec<u8> {
    let spare = SPARE.lock().pop();
    spare.unwrap_or_else(|| Vec::with_capacity(BATCH_MAX))
}

/// One of those that nobody needs any more.
fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() < BATCH_MAX {
        return;
    }
    buffer.clear();
    let mut spare = SPARE.lock();
    // Under the lock: who ends the trace closes the gate before he takes them all away.
    if session::GATE.is_open() && spare.len() < SPARES {
        spare.push(buffer);
    }
}

/// The trace is over.
pub(super) fn forget_spare() {
    drop(std::mem::take(&mut *SPARE.lock()));
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Generation {
    parts: Vec<Vec<u8>>,
    length: usize,
}

impl Generation {
    pub(super) fn push(&mut self, part: Vec<u8>) {
        self.length += part.len();
        self.parts.push(part);
    }

    /// The buffer of a batch that is not nearly full may go into another generation.
    pub(super) fn push_batch(&mut self, batch: Batch) {
        self.push(batch.header());
        if batch.payload.len() < BATCH_MAX / 2 {
            self.push(batch.payload.clone());
            give_back(batch.payload);
        } else {
            self.push(batch.payload);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn write_to(&self, writer: &mut impl Write) -> io::Result<()> {
        self.parts.iter().try_for_each(|part| writer.write_all(part))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.parts.drain(..).for_each(give_back);
    }
}
