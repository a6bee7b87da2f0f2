//! Calls that block the worker, and what becomes of its processor meanwhile.
//!
//! A worker in a blocking section gives its processor to another worker **at once**: the section was announced, so
//! there is nothing to wait for. When the section ends the worker takes an idle processor, the one it had if it can,
//! and goes on; if all are busy its task joins the global queue and the worker goes to sleep.
//! Rejected: keeping the processor for a while in case the call is short (Go's unannounced system calls): who
//! announces a blocking call knows that it blocks.

pub(crate) mod handoff;
mod section;

pub use section::blocking;
