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
    // Its pictures are files beside it, as GitHub shows it. rustdoc takes no files along: these links come first, and win.
    // The comment ends the paragraph before them.
    #![doc = concat!("<!-- -->\n[saga]: ", include_str!("tracing-saga.uri"))]
    #![doc = concat!("[pipeline]: ", include_str!("tracing-pipeline.uri"))]
    #![doc = include_str!("tracing.md")]
}
