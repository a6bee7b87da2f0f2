//! Parking a worker in the middle of user code: what is done about tasks that compute when they must not run beside the
//! others.
//!
//! # Goal
//! A task that computes without a call into bast loses its processor after a slice and goes on, beside the others, on
//! its own thread (`blocking::handoff`). With many of them there are more threads that compute than processors. Where
//! that is not wanted (`Builder::strict_parallelism`), or where no more threads may be had for the processors that were
//! taken (`Builder::blocked_workers_max`), such a task must stop.
//!
//! # Rejected ways
//! *Switching to another task in a signal handler*, as Go does at its safe points and libraries without safe points do
//! anywhere: native code may hold the lock of `malloc`, or a borrow from a thread-local, at any instruction; the task
//! would go on on another thread, or others would run under its locks. *A timer signal for every worker*: interrupts all
//! for the few, and each call of the system that it interrupts.
//!
//! # Chosen way
//! The **worker** is parked with the task on its stack: the monitor sends a signal to that thread alone, whose handler
//! waits ([`hold`]). The task never changes its thread, and nothing of it runs meanwhile. Threads that block on what it
//! holds lose their processors to others, as with every blocking call, and the one that holds it gets its turn.
//!
//! ```text
//!        monitor: slice over, and it computes
//! task ───────────────► no processor, asked ──signal──► held, on the list ◄─────────────┐
//! runs                        │ calls into bast first         │ a worker at home         │ monitor: the lease is over,
//!   ▲                         ▼                               ▼ lends it a processor     │ others wait
//!   └──────────────── regains a processor ◄───call──── runs, with a lease ──────────────┘
//! ```
//!
//! Who is held waits on a list in order. A worker at home that has nothing else to do, or that passes by after the first
//! of the list has rested for a slice, lends its processor for a slice (`sched::lend`), and goes to sleep itself. So of
//! two hogs on one processor each gets half, and tasks that call into bast get at least half beside any number of hogs.
//!
//! # What keeps it live
//! * Never held: a worker inside the runtime (the handler looks at the same mark as the monitor), so that nobody holds a
//!   lock of ours; one that is blocked (its CPU clock stands).
//! * A task that is held may hold a lock of somebody else's that is wanted inside the runtime: that of `malloc`. A worker
//!   that stands still inside makes the monitor let all go; and the handler waits for 200 ms at most, should the monitor
//!   itself wait for it.

pub(crate) mod hold;
pub(crate) mod signal;
