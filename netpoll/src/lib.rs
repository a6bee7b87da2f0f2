//! Readiness of descriptors to tokens: the network poller of bast. It knows no task and no stack.
//!
//! A [`Poller`] watches descriptors through epoll or kqueue. Who wants to wait for one of them publishes a
//! *token*, a number that means something to the caller only, and parks. Whoever waits in the poller gets
//! the tokens of those to be woken. There is no thread behind it and no callback.
//!
//! # The loop of a call that may wait
//!
//! A [`Source`] is a registered descriptor. Each of its two directions has a word, [`Readiness`], that
//! knows whether a call is worth trying. The parker must keep a permit, as [`std::thread::park`] does: a
//! token may be unparked before its owner has parked, and now and then for nothing. Here threads park; in
//! the runtime, tasks do.
//!
//! ```
//! use std::io::{self, ErrorKind, Read, Write};
//! use std::os::fd::AsRawFd;
//! use std::os::unix::net::UnixStream;
//! use std::sync::Mutex;
//! use std::thread::{self, Thread};
//! use std::time::{Duration, Instant};
//!
//! use bast_netpoll::{Arm, Direction, Disarm, Poller, ReadyList, Source};
//!
//! /// Everybody who ever waits. A token is a place in this list.
//! static WAITERS: Mutex<Vec<Thread>> = Mutex::new(Vec::new());
//!
//! fn unpark(token: usize) {
//!     WAITERS.lock().unwrap()[token].unpark();
//! }
//!
//! struct Stream {
//!     // Before the socket: a source is dropped before its descriptor is closed.
//!     source: Source,
//!     socket: UnixStream,
//!     epoch: Instant,
//! }
//!
//! impl Stream {
//!     fn read(&self, buffer: &mut [u8], token: usize) -> io::Result<usize> {
//!         let result = self.read_loop(buffer, token);
//!         // However it ended: others may wait for what is left.
//!         if let Some(next) = self.source.leave(Direction::Read) {
//!             unpark(next);
//!         }
//!         result
//!     }
//!
//!     fn read_loop(&self, buffer: &mut [u8], token: usize) -> io::Result<usize> {
//!         let readiness = self.source.readiness(Direction::Read);
//!         loop {
//!             // The snapshot comes before the call, the clear after it.
//!             let snapshot = readiness.snapshot();
//!             if readiness.may_try(snapshot) {
//!                 match (&self.socket).read(buffer) {
//!                     Ok(bytes) => {
//!                         if 0 < bytes && bytes < buffer.len() {
//!                             readiness.clear_short(snapshot);
//!                         }
//!                         return Ok(bytes);
//!                     }
//!                     Err(error) if error.kind() == ErrorKind::WouldBlock => {
//!                         readiness.clear_blocked(snapshot);
//!                     }
//!                     Err(error) if error.kind() == ErrorKind::Interrupted => continue,
//!                     Err(error) => return Err(error),
//!                 }
//!             }
//!             match self.source.wait_start(Direction::Read, token) {
//!                 Arm::Ready => continue,
//!                 Arm::Closed => return Err(ErrorKind::NotConnected.into()),
//!                 Arm::Armed => {}
//!             }
//!             // The deadline is read after arming, so that no change of it is missed.
//!             let deadline = self.source.deadline(Direction::Read).map(Duration::from_nanos);
//!             match deadline {
//!                 Some(at) => thread::park_timeout(at.saturating_sub(self.epoch.elapsed())),
//!                 None => thread::park(),
//!             }
//!             match self.source.wait_end(Direction::Read, token) {
//!                 Disarm::Closed => return Err(ErrorKind::NotConnected.into()),
//!                 // An event, or a new deadline: look again.
//!                 Disarm::Taken => {}
//!                 // Nobody called us: the deadline, or nothing at all.
//!                 Disarm::Disarmed if deadline.is_some_and(|at| self.epoch.elapsed() >= at) => {
//!                     return Err(ErrorKind::TimedOut.into());
//!                 }
//!                 Disarm::Disarmed => {}
//!             }
//!         }
//!     }
//! }
//!
//! # fn main() -> io::Result<()> {
//! let poller = Poller::new()?;
//! let (mut near, far) = UnixStream::pair()?;
//! far.set_nonblocking(true)?;
//! let source = poller.register(far.as_raw_fd())?;
//! let stream = Stream { source, socket: far, epoch: Instant::now() };
//!
//! let read = || {
//!     let token = {
//!         let mut waiters = WAITERS.lock().unwrap();
//!         waiters.push(thread::current());
//!         waiters.len() - 1
//!     };
//!     let mut buffer = [0; 16];
//!     let bytes = stream.read(&mut buffer, token)?;
//!     Ok::<_, io::Error>(buffer[..bytes].to_vec())
//! };
//! thread::scope(|scope| {
//!     let reader = scope.spawn(read);
//!     near.write_all(b"hello")?;
//!     // Whoever has nothing better to do polls. Here that is us.
//!     let mut ready = ReadyList::new();
//!     while !reader.is_finished() {
//!         if let Some(waited) = poller.try_wait(Some(Duration::from_millis(10)), &mut ready) {
//!             waited?;
//!             ready.drain().for_each(unpark);
//!         }
//!     }
//!     assert_eq!(reader.join().unwrap()?, b"hello");
//!
//!     // Five bytes came into room for sixteen, so the next read does not even try: it waits.
//!     let reader = scope.spawn(read);
//!     stream.source.close().for_each(unpark);
//!     assert_eq!(reader.join().unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # What the words promise
//!
//! Readiness is a hint that is never too low: a word may say "try" for nothing, but never "wait" while a call
//! could succeed. A connecting socket therefore asks for its peer's address to know that it is connected;
//! readiness to write alone does not tell.
#![deny(unsafe_code)]
#![cfg_attr(
    bast_loom,
    allow(dead_code, reason = "the files above the protocols are left out of models")
)]

mod crowd;
mod interest;
mod interrupt;
mod primitive;
mod readiness;
mod tokens;

#[cfg(not(bast_loom))]
mod error;
#[cfg(not(bast_loom))]
mod fine;
#[cfg(not(bast_loom))]
mod poller;
#[cfg(not(bast_loom))]
mod source;
#[cfg(not(bast_loom))]
mod table;

#[cfg(bast_loom)]
#[doc(hidden)]
pub mod protocol;

pub use interest::Direction;
#[cfg(not(bast_loom))]
pub use poller::{Poller, ReadyList};
pub use readiness::{Arm, Disarm, Readiness, Snapshot, TOKEN_MAX};
#[cfg(not(bast_loom))]
pub use source::Source;
pub use tokens::Tokens;
