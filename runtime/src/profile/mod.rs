//! CPU samples: what the workers compute, a look at each so and so often a second of its own CPU time.
//!
//! # Goal
//! Which functions of which tasks use the CPU, in the execution trace and for a profile; at no cost while nobody asks, and
//! without harm to the program at any instruction that a look comes in at.
//!
//! # Rejected ways
//! *One timer for the process* (`setitimer`): the kernel sends its signal to any thread that takes it, so busy threads are
//! not looked at in proportion. *A thread that stops the others in turn*: it looks at those that wait as often as at those
//! that compute, and sends signals for nothing. *Unwind tables*: finding them takes locks and memory, which a signal
//! handler has not.
//!
//! # Chosen way
//! ```text
//!   worker's CPU clock ──timer──► SIGPROF to that thread ──► handler ──► ring of the worker ──► whoever drains
//!                                 (nobody else gets it)      (`signal`)   (`ring`)              (`sampler`)
//! ```
//!
//! A timer a worker, on the thread's CPU clock: one that sleeps is never interrupted. The handler copies the chain of frame
//! pointers and four words about the task into the worker's own ring; a full ring counts what it loses. Names are for who
//! drains, later.
//!
//! # What the handler may come in at
//! Anything. *In user code and in the allocator*: it takes no lock and no memory. *In the middle of a switch*: the registers
//! disagree, so the chain ends at once (`bast_stack::frames_at`), and the sample may name the neighbour. *In the runtime*: it
//! reads atomics that its own thread wrote. *In another handler* on the signal stack: there is no chain, and `SIGPROF` does
//! not interrupt its own handler, so a ring has one writer. *While a worker is held* (`preempt`): the thread uses no CPU.
//! *Before a thread is a worker, and after*: a late signal finds no worker and returns.
//!
//! In a child of `fork` there are no timers: they are not inherited, and `exec` deletes them.

#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "nothing is sampled elsewhere")
)]
mod ring;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "nothing is sampled elsewhere")
)]
mod sampler;
mod signal;

pub(crate) use sampler::{HZ_MAX, Sampled, TaskSeen, add_worker, drain, end_worker, start, stop};
