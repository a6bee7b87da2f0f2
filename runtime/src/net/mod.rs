//! TCP with std's signatures; a call that would block parks the task instead.
//!
//! `Read` and `Write` are implemented for [`TcpStream`] and `&TcpStream`, so crates that take any reader and writer
//! work unchanged. Deadlines ([`TcpStream::set_read_deadline`]) are absolute and act on calls that already wait;
//! timeouts, as in std, count from each call. [`crate::time::timeout`] bounds them all.
//!
//! Sockets are made inside a runtime, whose poller watches them. They may be used from plain threads too, which then
//! block. After the runtime's end nobody watches them: take them back with `into_std` first.

mod io;
mod resolve;
mod socket;
mod tcp;

pub use tcp::{Incoming, TcpListener, TcpStream};
