//! Programs to start from, each in `src/bin`:
//!
//! * `hello`: spawn, sleep, join.
//! * `echo_server`: a TCP server in blocking code, a task a connection.
//! * `million_echo`: as many echo connections as the machine allows, up to a million, and what one costs.
