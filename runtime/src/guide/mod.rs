//! Pages to read. There is no code here.

/// Checking code that is built on bast.
pub mod checking {
    #![doc = include_str!("checking.md")]
}

/// Execution traces.
#[cfg(not(bast_loom))]
pub mod tracing {
    #![doc = include_str!("tracing.md")]
}
