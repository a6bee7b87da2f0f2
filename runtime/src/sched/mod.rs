//! The scheduler: tasks on workers, workers on processors.
//!
//! # Goal
//! Run many tasks on few threads, so that a runnable task waits for a CPU only while all CPUs are busy, without a
//! lock that all workers share on the hot path.
//!
//! # Shape
//! A **worker** needs a **processor** to run tasks. A processor has a queue of its own, so pushing and popping cost
//! no shared cache line; a processor without work steals half of another's. `idle` says who wakes whom.
//!
//! A task that parks picks its successor from the local queue itself and switches straight to it; what has to be
//! done about the task left behind (commit its park, queue it, recycle its stack) is done by whoever runs next on
//! the same worker ([`worker::Settle`]), because until its registers are saved nobody may have it. Only when the
//! local queue is empty, or something else is due, does the worker go to its home stack and look further ([`find`]).
//!
//! # Fairness
//! Let every task run at most `SLICE` between calls into the runtime. A runnable task in a local queue runs after at
//! most 256 ring tasks and, for each of them, 16 picks of the next slot. A task in the global queue is looked at
//! every 61 rounds of each processor, so with `n` tasks before it, it runs after at most `61 x n` rounds of any one
//! processor. The poller is asked as often, and by the monitor if nobody asked for 10 ms.
//! Tasks of high and low priority are told of in [`priority`].
//! Rejected: always preferring the next slot (two tasks that wake each other starve the rest).

pub(crate) mod find;
mod give_way;
pub(crate) mod global_queue;
pub(crate) mod idle;
pub(crate) mod idle_poller;
pub(crate) mod inside;
mod lend;
mod limits;
pub(crate) mod local_queue;
mod on_stack;
pub(crate) mod park;
mod pick;
pub(crate) mod priority;
pub(crate) mod processor;
pub(crate) mod reactor;
mod requests;
pub(crate) mod shared;
pub(crate) mod shutdown;
#[cfg(debug_assertions)]
mod tls_check;
pub(crate) mod traced;
pub(crate) mod wait;
pub(crate) mod worker;
