//! The control: edge-triggered epoll, a loop a thread, nothing between the program and the kernel.

use super::announce;
use crate::options::Work;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::listen;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// How the accepting thread reaches a loop: the socket first, then its registration.
struct Loop {
    epoll: Arc<OwnedFd>,
    sockets: Sender<Arc<TcpStream>>,
}

pub(super) fn serve(buffer_bytes: usize, work: Work) -> io::Result<()> {
    let loops: Vec<Loop> = (0..work.processors)
        .map(|_| start(buffer_bytes))
        .collect::<io::Result<_>>()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listen(&listener, 4096)?;
    announce(listener.local_addr()?);
    for to in loops.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let stream = Arc::new(stream);
        if to.sockets.send(Arc::clone(&stream)).is_err() {
            break;
        }
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        let data = EventData::new_u64(stream.as_raw_fd() as u64);
        epoll::add(&to.epoll, &stream, data, flags)?;
    }
    Err(io::Error::other("a loop has ended"))
}

fn start(buffer_bytes: usize) -> io::Result<Loop> {
    let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
    let (sockets, new) = channel();
    thread::spawn({
        let epoll = Arc::clone(&epoll);
        move || {
            if let Err(error) = serve_loop(&epoll, &new, buffer_bytes) {
                eprintln!("rivals: an epoll loop ended: {error}");
            }
        }
    });
    Ok(Loop { epoll, sockets })
}

fn serve_loop(epoll: &OwnedFd, new: &Receiver<Arc<TcpStream>>, buffer_bytes: usize) -> io::Result<()> {
    let mut sockets: Vec<Option<Arc<TcpStream>>> = Vec::new(); // by descriptor
    let mut buffer = vec![0; buffer_bytes];
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &events {
            let place = event.data.u64() as usize;
            if sockets.get(place).is_none_or(Option::is_none) {
                new.try_iter().for_each(|socket| insert(&mut sockets, socket));
            }
            let flags = event.flags;
            let Some(Some(socket)) = sockets.get(place) else {
                continue;
            };
            let ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            if !echo(socket, &mut buffer, ending) {
                sockets[place] = None; // closes it
            }
        }
    }
}

fn insert(sockets: &mut Vec<Option<Arc<TcpStream>>>, socket: Arc<TcpStream>) {
    let place = socket.as_raw_fd() as usize;
    if sockets.len() <= place {
        sockets.resize(place + 1, None);
    }
    sockets[place] = Some(socket);
}

/// Echoes all that has come; `ending`: the end of the stream came with this event, and no other will tell of it.
/// False: the connection has ended.
fn echo(mut socket: &TcpStream, buffer: &mut [u8], ending: bool) -> bool {
    loop {
        match socket.read(buffer) {
            Ok(0) => return false,
            Ok(count) => {
                if !send(socket, &buffer[..count]) {
                    return false;
                }
                if count < buffer.len() && !ending {
                    return true; // drained, and an edge tells of the next
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// The client never has more outstanding than a socket's buffer holds, so a full one is only waited for in passing.
fn send(mut socket: &TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                thread::yield_now();
            }
            Err(_) => return false,
        }
    }
    true
}
