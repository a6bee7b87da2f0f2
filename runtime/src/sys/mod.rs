//! What we ask of the operating system besides stacks and readiness: threads, sleeping, locks, barriers.

pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod membarrier;
pub(crate) mod parker;
pub(crate) mod thread;
