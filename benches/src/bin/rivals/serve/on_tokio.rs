//! A future a connection.

use super::{SMALL_BUFFER_BYTES, announce};
use crate::options::Work;
use crate::run::tokio_runtime;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

pub(super) fn serve(buffer_bytes: usize, work: Work) -> io::Result<()> {
    let runtime = tokio_runtime(work);
    let task = runtime.spawn(accept(buffer_bytes)); // on a worker, which this thread is not
    runtime.block_on(task).map_err(io::Error::other)?
}

async fn accept(buffer_bytes: usize) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(4096)?;
    announce(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        if buffer_bytes == SMALL_BUFFER_BYTES {
            tokio::spawn(echo_small(stream));
        } else {
            tokio::spawn(echo(stream, buffer_bytes));
        }
    }
}

async fn echo_small(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; SMALL_BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn echo(mut stream: TcpStream, buffer_bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer_bytes];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}
