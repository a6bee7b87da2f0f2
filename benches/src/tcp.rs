//! TCP over loopback: echoes, and connections that come and go. The client is a plain thread with a poller of its own,
//! the same for every server.

use crate::How;
use bast::Runtime;
use bast::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) fn operations() -> Vec<(&'static str, usize, How)> {
    vec![
        (
            "echo, 1 connection, 32 B",
            1,
            How::Each(|runtime, count| echo(runtime, count, 1, 32)),
        ),
        (
            "echo, 1 connection, 4 KiB",
            1,
            How::Each(|runtime, count| echo(runtime, count, 1, 4096)),
        ),
        (
            "echo, 100 connections, 32 B; 1 processor",
            1,
            How::Each(|runtime, count| echo(runtime, count, 100, 32)),
        ),
        (
            "echo, 100 connections, 32 B; 2 processors",
            2,
            How::Each(|runtime, count| echo(runtime, count, 100, 32)),
        ),
        (
            "echo, 100 connections, 4 KiB; 1 processor",
            1,
            How::Each(|runtime, count| echo(runtime, count, 100, 4096)),
        ),
        ("accept and close", 1, How::Each(accept_and_close)),
    ]
}

/// What cannot be, short of a system that is out of ports or memory.
fn fine<T>(result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("loopback fails: {error}"))
}

/// `count` round trips in all, on so many connections at once.
fn echo(runtime: &Runtime, count: u64, connections: usize, bytes: usize) -> Duration {
    let listener = runtime.run(|| fine(TcpListener::bind("127.0.0.1:0")));
    let address = fine(listener.local_addr());
    let server = runtime.spawn(move || {
        let all: Vec<_> = (0..connections)
            .map(|_| {
                let (stream, _) = fine(listener.accept());
                bast::spawn(move || serve(stream))
            })
            .collect();
        all.into_iter()
            .for_each(|task| task.join().unwrap_or_else(|error| panic!("{error}")));
    });
    let time = fine(Client::connect(address, connections, bytes).and_then(|mut client| client.run(count)));
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    server.join().unwrap_or_else(|error| panic!("{error}"));
    time
}

fn serve(mut stream: TcpStream) {
    fine(stream.set_nodelay(true));
    let mut buffer = vec![0; 8192];
    loop {
        let count = fine(stream.read(&mut buffer));
        if count == 0 {
            return;
        }
        fine(stream.write_all(&buffer[..count]));
    }
}

/// One message on its way on each connection.
#[derive(Debug)]
struct Client {
    poll: Poll,
    connections: Vec<(mio::net::TcpStream, usize)>,
    message: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr, connections: usize, bytes: usize) -> io::Result<Client> {
        let poll = Poll::new()?;
        let mut all = Vec::new();
        for number in 0..connections {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(number), Interest::READABLE)?;
            all.push((stream, 0));
        }
        Ok(Client {
            poll,
            connections: all,
            message: (0..bytes).map(|place| place as u8).collect(),
        })
    }

    fn run(&mut self, count: u64) -> io::Result<Duration> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; self.message.len()];
        let began = Instant::now();
        let mut left_to_send = count;
        let mut left_to_come = count;
        for (stream, _) in &mut self.connections {
            if left_to_send > 0 {
                left_to_send -= 1;
                // A message always fits into an empty socket buffer.
                stream.write_all(&self.message)?;
            }
        }
        while left_to_come > 0 {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                let (stream, got) = &mut self.connections[event.token().0];
                while let Some(count) = try_read(stream, &mut buffer[*got..])? {
                    *got += count;
                    if *got < buffer.len() {
                        continue;
                    }
                    assert_eq!(buffer, self.message, "the echo is not what was sent");
                    *got = 0;
                    left_to_come -= 1;
                    if left_to_send == 0 {
                        break;
                    }
                    left_to_send -= 1;
                    stream.write_all(&self.message)?;
                    if self.message.len() < 64 {
                        break; // the answer is not there yet, and its edge will come
                    }
                }
            }
        }
        Ok(began.elapsed())
    }
}

/// None: nothing more now.
fn try_read(stream: &mut mio::net::TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The server closes first; the client resets, so that no port is kept waiting.
fn accept_and_close(runtime: &Runtime, count: u64) -> Duration {
    let listener = runtime.run(|| fine(TcpListener::bind("127.0.0.1:0")));
    let address = fine(listener.local_addr());
    let server = runtime.spawn(move || (0..count).for_each(|_| drop(fine(listener.accept()))));
    let began = Instant::now();
    for _ in 0..count {
        let mut stream = fine(std::net::TcpStream::connect(address));
        let end = fine(stream.read(&mut [0; 1]));
        assert_eq!(end, 0, "a byte from a server that sends none");
        fine(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
    }
    let time = began.elapsed();
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    server.join().unwrap_or_else(|error| panic!("{error}"));
    time
}
