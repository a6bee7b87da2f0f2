//! What we ask of the operating system besides stacks and readiness: threads, sleeping, locks, barriers.

pub(crate) mod cpu_timer;
pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod membarrier;
pub(crate) mod parker;
#[cfg(debug_assertions)]
pub(crate) mod static_tls;
pub(crate) mod thread;
