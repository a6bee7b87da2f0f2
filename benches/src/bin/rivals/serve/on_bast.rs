//! A task a connection.

use super::{SMALL_BUFFER_BYTES, announce};
use crate::options::Work;
use crate::run::bast_runtime;
use bast::net::{TcpListener, TcpStream};
use std::io::{self, Read, Write};

pub(super) fn serve(buffer_bytes: usize, work: Work) -> io::Result<()> {
    let runtime = bast_runtime(work, bast::Builder::new().stack_size(64 << 10));
    runtime.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            if buffer_bytes == SMALL_BUFFER_BYTES {
                bast::spawn(move || echo(stream, &mut [0; SMALL_BUFFER_BYTES]));
            } else {
                bast::spawn(move || echo(stream, &mut vec![0; buffer_bytes]));
            }
        }
    })
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
