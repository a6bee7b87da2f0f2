//! `TcpListener` and `TcpStream`.

use super::io::Watched;
use super::resolve::each_address;
use super::socket;
use crate::primitive::atomic::{Acquire, AtomicBool, Release};
use crate::task::site::Reason;
use bast_netpoll::Direction;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::Location;
use std::time::{Duration, Instant};

/// A listening TCP socket; as [`std::net::TcpListener`], with `accept` parking the task.
pub struct TcpListener {
    inner: Watched<std::net::TcpListener>,
    closed: AtomicBool,
}

impl TcpListener {
    /// Binds and listens, with as long a backlog as the system allows (`net.core.somaxconn`).
    ///
    /// # Errors
    /// As std's; also outside a task, and when the poller refuses the socket.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        each_address(address, |address| {
            let listener = std::net::TcpListener::bind(address)?;
            socket::widen_backlog(&listener)?;
            TcpListener::from_std(listener)
        })
    }

    /// Takes over a listener made elsewhere (with options of its own, or inherited). It is made nonblocking.
    ///
    /// # Errors
    /// Outside a task, and when the poller refuses the socket.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(TcpListener {
            inner: Watched::new(listener)?,
            closed: AtomicBool::new(false),
        })
    }

    /// Gives the socket back to std, blocking.
    ///
    /// # Errors
    /// What the system says.
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        let listener = self.inner.into_socket()?;
        listener.set_nonblocking(false)?;
        Ok(listener)
    }

    /// Waits for a connection. Several tasks may wait on one listener.
    ///
    /// # Errors
    /// As std's: `EMFILE` and `ENFILE` when files are exhausted (the connection stays in the backlog; raise
    /// `ulimit -n` or close some), and [`TimedOut`](io::ErrorKind::TimedOut) past a deadline.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_at(Location::caller())
    }

    fn accept_at(&self, at: &'static Location<'static>) -> io::Result<(TcpStream, SocketAddr)> {
        if self.closed.load(Acquire) {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the listener was closed",
            ));
        }
        let call = || socket::accept(&self.inner.socket);
        let (stream, address) = self.inner.run(Reason::Accept, at, call, |_| false)?;
        Ok((
            TcpStream {
                inner: Watched::new(stream)?,
            },
            address,
        ))
    }

    /// Accepts for ever.
    #[track_caller]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming {
            listener: self,
            at: Location::caller(),
        }
    }

    /// Ends all waits on this listener with an error, now and in future, from any task: for an orderly stop. The
    /// socket itself is closed when the listener is dropped.
    pub fn close(&self) {
        self.closed.store(true, Release);
        self.inner.close();
    }

    /// Waiting `accept`s end with [`TimedOut`](io::ErrorKind::TimedOut) at `deadline`, also those that wait already.
    pub fn set_accept_deadline(&self, deadline: Option<Instant>) {
        self.inner.set_deadline(Direction::Read, deadline);
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.socket.local_addr()
    }

    /// A second, independent handle to the same socket.
    ///
    /// # Errors
    /// When descriptors are exhausted; also outside a task.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.inner.socket.try_clone()?)
    }

    /// Takes the socket's pending error.
    ///
    /// # Errors
    /// What the system says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.socket.take_error()
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.socket.set_ttl(ttl)
    }

    /// Gets `IP_TTL`.
    ///
    /// # Errors
    /// What the system says.
    pub fn ttl(&self) -> io::Result<u32> {
        self.inner.socket.ttl()
    }
}

/// The endless iterator of [`TcpListener::incoming`]; reports name its waits by the place where it was made.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
    at: &'static Location<'static>,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept_at(self.at).map(|(stream, _)| stream))
    }
}

/// A TCP connection; as [`std::net::TcpStream`], with waiting calls parking the task.
pub struct TcpStream {
    inner: Watched<std::net::TcpStream>,
}

impl TcpStream {
    /// Connects to the first address that answers. Names are resolved in a blocking section.
    ///
    /// # Errors
    /// As std's; also outside a task.
    #[track_caller]
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let at = Location::caller();
        each_address(address, |address| TcpStream::connect_at(&address, None, at))
    }

    /// Connects within `timeout`.
    ///
    /// # Errors
    /// As std's: [`TimedOut`](io::ErrorKind::TimedOut) when the time is over, `InvalidInput` for a timeout of zero.
    #[track_caller]
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "cannot set a timeout of zero",
            ));
        }
        TcpStream::connect_at(address, Some(timeout), Location::caller())
    }

    fn connect_at(
        address: &SocketAddr,
        timeout: Option<Duration>,
        at: &'static Location<'static>,
    ) -> io::Result<TcpStream> {
        let stream = TcpStream {
            inner: Watched::new(socket::start_connect(address)?)?,
        };
        stream.inner.set_timeout(Direction::Write, timeout)?;
        let socket = &stream.inner.socket;
        let connected = || match socket.take_error()? {
            Some(error) => Err(error),
            // No error and no peer: it has not come to an end yet.
            None => match socket.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                other => other.map(drop),
            },
        };
        stream.inner.run(Reason::Connect, at, connected, |()| false)?;
        stream.inner.set_timeout(Direction::Write, None)?;
        Ok(stream)
    }

    /// Takes over a stream made elsewhere. It is made nonblocking.
    ///
    /// # Errors
    /// Outside a task, and when the poller refuses the socket.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        Ok(TcpStream {
            inner: Watched::new(stream)?,
        })
    }

    /// Gives the socket back to std, blocking.
    ///
    /// # Errors
    /// What the system says.
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        let stream = self.inner.into_socket()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    #[inline]
    fn do_read(
        &self,
        room: usize,
        at: &'static Location<'static>,
        call: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.inner
            .run(Reason::Read, at, call, |&count| 0 < count && count < room)
    }

    #[inline]
    fn do_write(
        &self,
        length: usize,
        at: &'static Location<'static>,
        call: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if length == 0 {
            return Ok(0); // needs no room
        }
        self.inner.run(Reason::Write, at, call, |&count| count < length)
    }

    /// Reads without taking the bytes out.
    ///
    /// # Errors
    /// As std's.
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let call = || self.inner.socket.peek(buffer);
        self.inner.run(Reason::Read, Location::caller(), call, |_| false)
    }

    /// Shuts down reading, writing or both; waiting calls end.
    ///
    /// # Errors
    /// What the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.inner.socket.shutdown(how)
    }

    /// Ends all waits on this handle with an error, now and in future, from any task. The connection itself is
    /// closed when the last handle is dropped.
    pub fn close(&self) {
        self.inner.close();
    }

    /// A second, independent handle to the same connection. Its timeouts and deadlines are its own.
    ///
    /// # Errors
    /// When descriptors are exhausted; also outside a task.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        TcpStream::from_std(self.inner.socket.try_clone()?)
    }

    /// The other end.
    ///
    /// # Errors
    /// What the system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.socket.peer_addr()
    }

    /// This end.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.socket.local_addr()
    }

    /// Sets `TCP_NODELAY`.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.inner.socket.set_nodelay(nodelay)
    }

    /// Gets `TCP_NODELAY`.
    ///
    /// # Errors
    /// What the system says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.inner.socket.nodelay()
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.socket.set_ttl(ttl)
    }

    /// Gets `IP_TTL`.
    ///
    /// # Errors
    /// What the system says.
    pub fn ttl(&self) -> io::Result<u32> {
        self.inner.socket.ttl()
    }

    /// Takes the socket's pending error.
    ///
    /// # Errors
    /// What the system says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.socket.take_error()
    }

    /// How long a read may wait; None for ever. Past it a read fails with [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Errors
    /// `InvalidInput` for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.set_timeout(Direction::Read, timeout)
    }

    /// How long a write may wait; None for ever. Past it a write fails with [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Errors
    /// `InvalidInput` for a timeout of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.set_timeout(Direction::Write, timeout)
    }

    /// What [`TcpStream::set_read_timeout`] has set.
    ///
    /// # Errors
    /// None; the signature is std's.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.inner.timeout(Direction::Read))
    }

    /// What [`TcpStream::set_write_timeout`] has set.
    ///
    /// # Errors
    /// None; the signature is std's.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.inner.timeout(Direction::Write))
    }

    /// Reads fail with [`TimedOut`](io::ErrorKind::TimedOut) from `deadline` on, also those that wait already. Cheap
    /// to move: one store unless somebody waits.
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.inner.set_deadline(Direction::Read, deadline);
    }

    /// As [`TcpStream::set_read_deadline`], for writes.
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.inner.set_deadline(Direction::Write, deadline);
    }
}

impl Read for &TcpStream {
    #[track_caller]
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        self.do_read(room, Location::caller(), || (&self.inner.socket).read(buffer))
    }

    #[track_caller]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        self.do_read(room, Location::caller(), || {
            (&self.inner.socket).read_vectored(buffers)
        })
    }
}

impl Write for &TcpStream {
    #[track_caller]
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.do_write(buffer.len(), Location::caller(), || {
            (&self.inner.socket).write(buffer)
        })
    }

    #[track_caller]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let length = buffers.iter().map(|buffer| buffer.len()).sum();
        self.do_write(length, Location::caller(), || {
            (&self.inner.socket).write_vectored(buffers)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    #[track_caller]
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    #[track_caller]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for TcpStream {
    #[track_caller]
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    #[track_caller]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! descriptor {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.inner.socket.fmt(out)
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.inner.socket.as_raw_fd()
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.inner.socket.as_fd()
            }
        }

        impl TryFrom<$name> for OwnedFd {
            type Error = io::Error;
            fn try_from(socket: $name) -> io::Result<OwnedFd> {
                socket.inner.into_socket().map(OwnedFd::from)
            }
        }
    };
}

descriptor!(TcpListener);
descriptor!(TcpStream);
