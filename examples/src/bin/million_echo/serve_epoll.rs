//! The control: an echo server on raw epoll, without tasks or stacks. What it reaches is what the machine can do.

use std::io::{self, Read, Write};
use std::net;
use std::thread;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::serve::AcceptFailures;

/// The listener among the connections' tokens.
const LISTENER: Token = Token(usize::MAX);
/// One read; shared by all connections, since nothing is kept in it.
const BUFFER: usize = 16 << 10;

/// Serves on `threads` threads, each with an epoll of its own, until the process is ended.
pub(crate) fn run(listener: &net::TcpListener, threads: usize, failures: &AcceptFailures) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|_| scope.spawn(|| EchoLoop::new(listener)?.run(failures)))
            .collect();
        EchoLoop::new(listener)?.run(failures)?;
        others
            .into_iter()
            .try_for_each(|other| other.join().expect("no panics"))
    })
}

/// A connection and what could not be written yet.
#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    /// While there is any, nothing more is read: a client that does not read slows only itself.
    unsent: Vec<u8>,
}

#[derive(Debug)]
struct EchoLoop {
    poll: Poll,
    listener: TcpListener,
    peers: Slab<Peer>,
    buffer: Vec<u8>,
    /// Accepting goes on then: the file limit was hit.
    accept_again: Option<Instant>,
}

impl EchoLoop {
    fn new(listener: &net::TcpListener) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::from_std(listener.try_clone()?);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            peers: Slab::new(),
            buffer: vec![0; BUFFER],
            accept_again: None,
        })
    }

    fn run(mut self, failures: &AcceptFailures) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self
                .accept_again
                .map(|again| again.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let mut accept = self.accept_again.is_some_and(|again| again <= Instant::now());
            for event in &events {
                match event.token() {
                    LISTENER => accept = true,
                    Token(key) => self.serve(key, event.is_read_closed()),
                }
            }
            if accept {
                self.accept_all(failures);
            }
        }
    }

    fn accept_all(&mut self, failures: &AcceptFailures) {
        self.accept_again = None;
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    let entry = self.peers.vacant_entry();
                    let registered = stream.set_nodelay(true).and_then(|()| {
                        let both = Interest::READABLE | Interest::WRITABLE;
                        self.poll
                            .registry()
                            .register(&mut stream, Token(entry.key()), both)
                    });
                    if registered.is_ok() {
                        entry.insert(Peer {
                            stream,
                            unsent: Vec::new(),
                        });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    if let Some(pause) = failures.pause_after(&error) {
                        self.accept_again = Some(Instant::now() + pause.max(Duration::from_millis(1)));
                        return;
                    }
                }
            }
        }
    }

    fn serve(&mut self, key: usize, closed: bool) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if peer.echo(&mut self.buffer, closed).is_err() {
            // Dropping the stream also takes it out of the epoll.
            self.peers.remove(key);
        }
    }
}

impl Peer {
    /// Echoes until nothing more comes or goes. An error ends the connection, as does its orderly end. A short read means
    /// that the socket is drained, unless the other side has `closed`: then its end is still to be read.
    fn echo(&mut self, buffer: &mut [u8], closed: bool) -> io::Result<()> {
        while self.unsent.is_empty() || self.send_rest()? {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.unsent = self.send(&buffer[..count])?;
                    if count < buffer.len() && self.unsent.is_empty() && !closed {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends what is possible and returns what is left.
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<Vec<u8>> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes.to_vec())
    }

    /// Whether all that was left is sent now.
    fn send_rest(&mut self) -> io::Result<bool> {
        let rest = std::mem::take(&mut self.unsent);
        self.unsent = self.send(&rest)?;
        Ok(self.unsent.is_empty())
    }
}
