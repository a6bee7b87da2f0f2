//! Pages to read. There is no code here.

/// What blocks what: tasks, workers, processors, and what is done about calls that block and loops that never end.
#[cfg(not(bast_loom))]
pub mod blocking {
    #![doc = include_str!("blocking.md")]
}

/// Checking code that is built on bast.
pub mod checking {
    #![doc = include_str!("checking.md")]
}

/// Execution traces.
#[cfg(not(bast_loom))]
pub mod tracing {
    #![doc = include_str!("tracing.md")]
}
