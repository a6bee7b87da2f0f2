//! A coroutine a connection.

use super::{SMALL_BUFFER_BYTES, announce};
use crate::options::Work;
use crate::run::{may_runtime, may_spawn};
use may::net::{TcpListener, TcpStream};
use std::io::{self, Read, Write};

pub(super) fn serve(buffer_bytes: usize, work: Work) -> io::Result<()> {
    // Stacks made in advance would hide what a connection costs.
    let pool = if buffer_bytes == SMALL_BUFFER_BYTES {
        1
    } else {
        1000
    };
    may_runtime(work, pool);
    let server = may_spawn(move || accept(buffer_bytes));
    server
        .join()
        .map_err(|_| io::Error::other("the accepting coroutine panicked"))?
}

fn accept(buffer_bytes: usize) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    announce(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        if buffer_bytes == SMALL_BUFFER_BYTES {
            may_spawn(move || echo(stream, &mut [0; SMALL_BUFFER_BYTES]));
        } else {
            may_spawn(move || echo(stream, &mut vec![0; buffer_bytes]));
        }
    }
}

fn echo(mut stream: TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        let count = stream.read(buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}
