//! One connection of a load process: 24 bytes here, the rest is the kernel's.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{SockAddr, Socket};

use crate::platform::{choose_port_at_connect, nonblocking_socket};
use crate::protocol::Failure;

/// Where a connection stands. The socket is there in every stage but `Gone`.
///
/// ```text
/// (open) ─► Busy ─► Idle ─► (begin) Busy ─► ...
///             └──────┴────► Gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Connecting, or an echo is under way.
    Busy,
    /// All that was sent came back.
    Idle,
    /// Closed or broken.
    Gone,
}

/// What an event led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pending,
    Echoed,
    Failed(Failure),
}

/// A client connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Option<Socket>,
    stage: Stage,
    /// First byte of what is sent in this round, so that bytes of another connection or round are noticed.
    seed: u8,
    sent: u32,
    received: u32,
    started_ns: u64,
}

/// What the epoll event said about the direction we read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readable {
    pub(crate) data: bool,
    /// The other side is done: read until the end, also after a short read.
    pub(crate) closed: bool,
}

/// Memory shared by all connections of the process.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// 0, 1, 2, ... 255, 0, ...: what a connection with `seed` sends is the part that starts at `seed`.
    ramp: Vec<u8>,
    incoming: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new(payload: u32) -> Self {
        let length = payload as usize + 256;
        Self {
            ramp: (0..length).map(|i| i as u8).collect(),
            incoming: vec![0; 64 << 10],
        }
    }
}

impl Connection {
    /// Starts to connect from `source` and to send one echo of `ramp` from `seed`.
    pub(crate) fn open(
        target: SocketAddrV4,
        source: Ipv4Addr,
        seed: u8,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let socket = nonblocking_socket()?;
        choose_port_at_connect(&socket)?;
        // Closing resets: otherwise each of a million connections would leave a TIME_WAIT entry behind.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.bind(&SockAddr::from(SocketAddrV4::new(source, 0)))?;
        match socket.connect(&SockAddr::from(target)) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        registry.register(
            &mut SourceFd(&socket.as_raw_fd()),
            token,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        Ok(Self {
            socket: Some(socket),
            stage: Stage::Busy,
            seed,
            sent: 0,
            received: 0,
            started_ns: 0,
        })
    }

    /// A connection that never came about.
    pub(crate) fn gone() -> Self {
        Self {
            socket: None,
            stage: Stage::Gone,
            seed: 0,
            sent: 0,
            received: 0,
            started_ns: 0,
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.stage == Stage::Busy
    }

    pub(crate) fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// Starts the next echo; `advance` carries it out.
    pub(crate) fn begin(&mut self, seed: u8, now_ns: u64) {
        debug_assert_eq!(self.stage, Stage::Idle);
        *self = Self {
            socket: self.socket.take(),
            stage: Stage::Busy,
            seed,
            sent: 0,
            received: 0,
            started_ns: now_ns,
        };
    }

    /// Closes it, with a reset.
    pub(crate) fn close(&mut self) {
        self.socket = None;
        self.stage = Stage::Gone;
    }

    /// Sends and receives what is possible now, towards an echo of `want` bytes.
    pub(crate) fn advance(&mut self, readable: Readable, want: u32, buffers: &mut Buffers) -> Outcome {
        match self.try_advance(readable, want, buffers) {
            Ok(true) => {
                self.stage = Stage::Idle;
                Outcome::Echoed
            }
            Ok(false) => Outcome::Pending,
            Err(failure) => {
                self.close();
                Outcome::Failed(failure)
            }
        }
    }

    fn try_advance(&mut self, readable: Readable, want: u32, buffers: &mut Buffers) -> Result<bool, Failure> {
        if self.is_busy() {
            self.send(want, buffers)?;
        }
        if readable.data || readable.closed {
            self.receive(readable.closed, want, buffers)?;
        }
        Ok(self.is_busy() && self.received == want)
    }

    fn send(&mut self, want: u32, buffers: &Buffers) -> Result<(), Failure> {
        let Some(mut socket) = self.socket.as_ref() else {
            return Ok(());
        };
        let seed = usize::from(self.seed);
        let bytes = &buffers.ramp[seed..seed + want as usize];
        while self.sent < want {
            match socket.write(&bytes[self.sent as usize..]) {
                Ok(count) => self.sent += count as u32,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, closed: bool, want: u32, buffers: &mut Buffers) -> Result<(), Failure> {
        let Some(mut socket) = self.socket.as_ref() else {
            return Ok(());
        };
        let expected = &buffers.ramp[usize::from(self.seed)..][..want as usize];
        loop {
            match socket.read(&mut buffers.incoming) {
                Ok(0) => return Err(Failure::Closed),
                Ok(count) => {
                    let from = self.received as usize;
                    if !self.is_busy() || expected.get(from..from + count) != Some(&buffers.incoming[..count])
                    {
                        return Err(Failure::WrongBytes);
                    }
                    self.received += count as u32;
                    if count < buffers.incoming.len() && !closed {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const ALL: Readable = Readable {
        data: true,
        closed: false,
    };

    /// A connection and the server's end of it.
    fn pair(poll: &mio::Poll, seed: u8) -> (Connection, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(target) = listener.local_addr().unwrap() else {
            unreachable!()
        };
        let source = Ipv4Addr::new(127, 9, 9, 9);
        let connection = Connection::open(target, source, seed, poll.registry(), Token(0)).unwrap();
        let (server, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), source);
        (connection, server)
    }

    #[test]
    fn a_million_fit_in_24_mb() {
        assert!(size_of::<Connection>() <= 24, "{} bytes", size_of::<Connection>());
    }

    #[test]
    fn an_echo_is_complete_only_with_every_byte() {
        let poll = mio::Poll::new().unwrap();
        let mut buffers = Buffers::new(4);
        let (mut connection, mut server) = pair(&poll, 7);
        assert_eq!(connection.advance(ALL, 4, &mut buffers), Outcome::Pending);
        let mut got = [0; 4];
        server.read_exact(&mut got).unwrap();
        assert_eq!(got, [7, 8, 9, 10]);
        server.write_all(&got[..3]).unwrap();
        assert_eq!(connection.advance(ALL, 4, &mut buffers), Outcome::Pending);
        server.write_all(&got[3..]).unwrap();
        assert_eq!(connection.advance(ALL, 4, &mut buffers), Outcome::Echoed);
        assert!(!connection.is_busy());
    }

    #[test]
    fn other_bytes_and_extra_bytes_are_failures() {
        let poll = mio::Poll::new().unwrap();
        let mut buffers = Buffers::new(2);
        let (mut wrong, mut server) = pair(&poll, 1);
        server.write_all(&[1, 3]).unwrap();
        assert_eq!(
            wrong.advance(ALL, 2, &mut buffers),
            Outcome::Failed(Failure::WrongBytes)
        );
        assert!(wrong.is_gone());
        let (mut extra, mut server) = pair(&poll, 1);
        server.write_all(&[1, 2, 3]).unwrap();
        assert_eq!(
            extra.advance(ALL, 2, &mut buffers),
            Outcome::Failed(Failure::WrongBytes)
        );
    }

    #[test]
    fn the_end_of_the_server_is_noticed_on_an_idle_connection() {
        let poll = mio::Poll::new().unwrap();
        let mut buffers = Buffers::new(1);
        let (mut connection, mut server) = pair(&poll, 5);
        server.write_all(&[5]).unwrap();
        assert_eq!(connection.advance(ALL, 1, &mut buffers), Outcome::Echoed);
        drop(server);
        let end = Readable {
            data: true,
            closed: true,
        };
        assert!(matches!(
            connection.advance(end, 1, &mut buffers),
            Outcome::Failed(_)
        ));
    }
}
