//! Connections that come and go: connect, one message, close.

use super::LoadOptions;
use super::connection::{Connections, receive, send};
use std::io;
use std::net::TcpStream;
use std::time::Instant;

pub(super) fn run(options: &LoadOptions) -> io::Result<()> {
    let mut watched = Connections::none()?;
    let mut open: Vec<Option<TcpStream>> = (0..options.connections).map(|_| None).collect();
    let message = vec![7; options.bytes];
    let mut buffer = vec![0; options.bytes];
    let mut ready = Vec::new();
    let mut measured_since = None;
    let mut closed = 0_u64;
    let begin = Instant::now();
    loop {
        for (place, slot) in open.iter_mut().enumerate() {
            if slot.is_none() {
                *slot = Some(connect(options, &watched, place, &message)?);
            }
        }
        watched.wait(None, &mut ready)?;
        for &place in &ready {
            if let Some(socket) = &open[place]
                && receive(socket, &mut buffer)? > 0
            {
                // A reset: an orderly close by the client would use up a port for a minute each.
                rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO))?;
                open[place] = None;
                closed += 1;
            }
        }
        match measured_since {
            None if begin.elapsed() >= options.warm_up() => measured_since = Some((Instant::now(), closed)),
            Some((start, before)) if start.elapsed() >= options.measured() => {
                let seconds = start.elapsed().as_secs_f64();
                println!("connections_a_second {}", (closed - before) as f64 / seconds);
                return Ok(());
            }
            _ => {}
        }
    }
}

fn connect(
    options: &LoadOptions,
    watched: &Connections,
    place: usize,
    message: &[u8],
) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(options.address())?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    watched.watch(&socket, place)?;
    send(&socket, message)?;
    Ok(socket)
}
