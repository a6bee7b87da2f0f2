//! bast: native M:N green threads. Blocking-style Rust on a million tasks.
//!
//! A *task* is a function with a stack of its own. Tasks run on a few *worker* threads; a task that waits parks, and
//! its worker runs another. No `async`, no colouring: code reads as it would with threads.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! // SAFETY: no value bound to a thread is alive across a call that can park (see CAVEATS.md).
//! unsafe {
//!     bast::run(|| {
//!         let listener = bast::net::TcpListener::bind("127.0.0.1:0")?;
//!         let address = listener.local_addr()?;
//!         let server = bast::spawn(move || {
//!             let (mut stream, _) = listener.accept()?;
//!             let mut buffer = [0; 64];
//!             let count = stream.read(&mut buffer)?;
//!             stream.write_all(&buffer[..count])
//!         });
//!         let mut client = bast::net::TcpStream::connect(address)?;
//!         client.write_all(b"hello")?;
//!         let mut echoed = [0; 5];
//!         client.read_exact(&mut echoed)?;
//!         assert_eq!(&echoed, b"hello");
//!         server.join().unwrap()
//!     })
//! }?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The one `unsafe`
//! Starting a runtime is `unsafe`, with one contract: **no value bound to a thread is alive across a call that can
//! park.** Everything else is safe under it. See [`Builder::build`].

#![cfg_attr(
    bast_loom,
    allow(
        clippy::unnecessary_safety_comment,
        reason = "the example above stands before a module then"
    )
)]

#[cfg(bast_loom)]
mod on_loom;
#[cfg(bast_loom)]
mod primitive;
#[cfg(bast_loom)]
#[doc(hidden)]
pub mod protocol;

#[cfg(not(bast_loom))]
mod blocking;
#[cfg(not(bast_loom))]
mod builder;
#[cfg(not(bast_loom))]
mod chaos;
pub mod context;
#[cfg(not(bast_loom))]
mod current;
#[cfg_attr(bast_loom, allow(dead_code, reason = "a model never fails so"))]
mod error;
pub mod guide;
#[cfg(not(bast_loom))]
mod metrics;
#[cfg(not(bast_loom))]
mod monitor;
#[cfg(not(bast_loom))]
pub mod net;
#[cfg(not(bast_loom))]
mod overflow;
#[cfg(not(bast_loom))]
mod preempt;
#[cfg(not(bast_loom))]
mod primitive;
#[cfg(not(bast_loom))]
mod profile;
#[cfg(not(bast_loom))]
mod runtime;
#[cfg(not(bast_loom))]
mod sched;
pub mod sync;
#[cfg(not(bast_loom))]
mod sys;
#[cfg_attr(bast_loom, path = "task/on_loom.rs")]
pub mod task;
#[cfg(not(bast_loom))]
mod task_local;
#[cfg_attr(bast_loom, path = "time/on_loom.rs")]
pub mod time;
#[cfg(not(bast_loom))]
pub mod trace;
#[cfg(not(bast_loom))]
mod util;

pub use sync::block_on::block_on;

#[cfg(not(bast_loom))]
mod exports {
    pub use crate::blocking::blocking;
    pub use crate::builder::Builder;
    pub use crate::error::{JoinError, SpawnError};
    pub use crate::metrics::{Metrics, Overrun};
    pub use crate::runtime::{Handle, Runtime, run};
    pub use crate::task::{JoinHandle, scope, spawn, try_spawn};
    pub use bast_stack::{GuardMode, maybe_grow, on_big_stack};
}
#[cfg(not(bast_loom))]
pub use exports::*;
#[cfg(bast_loom)]
pub use on_loom::*;
