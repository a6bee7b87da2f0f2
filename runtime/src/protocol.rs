//! The protocol files, for the models in `loom-tests`. Under `--cfg bast_loom` they are all there is below `sync` of this
//! crate: loom cannot switch stacks, and the rest needs `const` constructors that loom's atomics lack.

#[path = "task/bound.rs"]
pub mod bound;
#[path = "trace/gate.rs"]
pub mod gate;
#[path = "blocking/handoff.rs"]
pub mod handoff;
#[path = "preempt/hold.rs"]
pub mod hold;
#[path = "sched/idle.rs"]
pub mod idle;
#[path = "sched/idle_poller.rs"]
pub mod idle_poller;
#[path = "task/join_word.rs"]
pub mod join_word;
#[path = "sched/local_queue.rs"]
pub mod local_queue;
#[path = "sync/lock_word.rs"]
pub mod lock_word;
#[path = "profile/ring.rs"]
pub mod sample_ring;
#[path = "task/scope_count.rs"]
pub mod scope_count;
#[path = "task/state.rs"]
pub mod state;
#[path = "task/waker_slot.rs"]
pub mod waker_slot;
