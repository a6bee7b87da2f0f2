//! Counters a processor keeps for itself, and the one snapshot users see.

pub(crate) mod counters;

pub use counters::Metrics;
