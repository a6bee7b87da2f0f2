//! What a runtime is under `--cfg bast_loom`: nothing. Tasks are threads of loom's, and a model is run by `loom::model`.

pub use crate::task::{JoinError, JoinHandle, SpawnError, spawn, try_spawn};

/// Calls `main`: there is no runtime to start.
///
/// # Safety
/// The contract of the real one; nothing of it is needed here.
pub unsafe fn run<T: Send>(main: impl FnOnce() -> T + Send) -> T {
    main()
}

/// Calls `f`.
pub fn blocking<T>(f: impl FnOnce() -> T) -> T {
    f()
}
