//! Programs to start from, each in `src/bin`:
//!
//! * `hello`: spawn, sleep, join.
//! * `echo_server`: a TCP server in blocking code, a task a connection.
//! * `prime_sieve`: a chain of tasks, one a prime.
//! * `pipeline`: stages with bounded channels in between.
//! * `worker_pool`: jobs, tickets and a limit on what runs at once.
//! * `pub_sub`: an event bus.
//! * `saga`: a state machine driven by channels, with compensation.
//! * `million_echo`: as many echo connections as the machine allows, up to a million, and what one costs.
//!
//! And two that are no example, `soak` and `storm`: they run the runtime hard, with exact books ([`stress`]).

pub mod stress;
