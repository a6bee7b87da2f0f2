//! Connections to the server, and the epoll that watches them.

use super::LoadOptions;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Sockets by place, level-triggered: one read an event drains what a server has echoed.
pub(super) struct Connections {
    epoll: OwnedFd,
    events: Vec<Event>,
    pub(super) sockets: Vec<TcpStream>,
}

impl Connections {
    pub(super) fn none() -> io::Result<Connections> {
        Ok(Connections {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1024),
            sockets: Vec::new(),
        })
    }

    /// All connected, and each has had one message echoed: so the server has accepted it and its task runs.
    pub(super) fn open(options: &LoadOptions) -> io::Result<Connections> {
        let mut all = Connections::none()?;
        for place in 0..options.connections {
            let mut socket = TcpStream::connect(options.address())?;
            socket.set_nodelay(true)?;
            let sent: Vec<u8> = (0..options.bytes).map(|index| (index + place) as u8).collect();
            let mut echoed = vec![0; options.bytes];
            socket.write_all(&sent)?;
            socket.read_exact(&mut echoed)?;
            if sent != echoed {
                return Err(io::Error::other("the server did not send back what it got"));
            }
            socket.set_nonblocking(true)?;
            all.watch(&socket, place)?;
            all.sockets.push(socket);
        }
        Ok(all)
    }

    pub(super) fn watch(&self, socket: &TcpStream, place: usize) -> io::Result<()> {
        let data = EventData::new_u64(place as u64);
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::IN)?)
    }

    /// Places of the sockets that have something to read, after at most `timeout`.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<usize>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.events.clear();
        ready.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            waited => waited?,
        };
        ready.extend(self.events.iter().map(|event| event.data.u64() as usize));
        Ok(())
    }
}

/// One read; an end of the stream is an error, because no server closes first.
pub(super) fn receive(mut socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match socket.read(buffer) {
        Ok(0) => Err(io::Error::other("the server closed a connection")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        read => read,
    }
}

/// Sends all of it. What is outstanding on a connection fits in its buffers, so a full one is an error.
pub(super) fn send(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    match socket.write(bytes)? {
        count if count == bytes.len() => Ok(()),
        _ => Err(io::Error::other(
            "a socket's buffer is full: the server does not keep up",
        )),
    }
}
