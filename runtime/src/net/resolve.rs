//! Names to addresses.

use crate::blocking;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// The C library's resolver uses a good deal of stack, without probing it.
const RESOLVER_STACK_BYTES: usize = 256 << 10;

/// Calls `connect` with each address of `name` until one works; std's rule. Resolving blocks the thread, so it is a
/// blocking section, and it needs more stack than a small task has.
pub(super) fn each_address<T>(
    name: impl ToSocketAddrs,
    mut connect: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let resolve = || name.to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>);
    let addresses = bast_stack::maybe_grow(RESOLVER_STACK_BYTES, RESOLVER_STACK_BYTES, || blocking(resolve))?;
    let mut last = None;
    for address in addresses {
        match connect(address) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last
        .unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")))
}
