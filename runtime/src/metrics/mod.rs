//! Counters a processor keeps for itself, and the one snapshot users see.

pub(crate) mod counters;
mod overrun;

pub use counters::Metrics;
pub use overrun::Overrun;
