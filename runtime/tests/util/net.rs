//! Connections to test with.

use bast::net::{TcpListener, TcpStream};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(crate) const MS: Duration = Duration::from_millis(1);
/// What no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

/// A listener on a port of its own.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Two ends of one connection.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let near = TcpStream::connect(address).unwrap();
    let (far, peer) = listener.accept().unwrap();
    assert_eq!(peer, near.local_addr().unwrap());
    assert_eq!(far.local_addr().unwrap(), near.peer_addr().unwrap());
    (near, far)
}

/// Fills the connection's buffers until a write would wait.
pub(crate) fn fill(stream: &TcpStream) -> usize {
    let chunk = vec![1; 1 << 16];
    let mut sent = 0;
    stream.set_write_timeout(Some(5 * MS)).unwrap();
    loop {
        match (&mut &*stream).write(&chunk) {
            Ok(count) => sent += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                stream.set_write_timeout(None).unwrap();
                return sent;
            }
        }
    }
}
