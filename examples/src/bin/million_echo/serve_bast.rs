//! The server this example is about: one task a connection, in plain blocking code.

use std::io::{self, Read, Write};
use std::net;

use bast::net::{TcpListener, TcpStream};

use crate::serve::AcceptFailures;

/// What one read can take. It lies on the task's stack, in the page that is resident anyway.
const BUFFER: usize = 512;

/// Serves until the process is ended.
pub(crate) fn run(
    listener: net::TcpListener,
    processors: Option<usize>,
    stack_size: usize,
    failures: &AcceptFailures,
    ready: impl FnOnce() + Send,
) -> io::Result<()> {
    let mut builder = bast::Builder::new().stack_size(stack_size);
    if let Some(count) = processors {
        builder = builder.processors(count);
    }
    // SAFETY: no value bound to a thread is alive across a call that can park: the tasks hold sockets, buffers and
    //         numbers, and the guard of standard output is dropped where it is made.
    let runtime = unsafe { builder.build() }?;
    runtime.run(|| {
        let listener = TcpListener::from_std(listener)?;
        ready();
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    // The handle is dropped: nobody waits for a connection's end.
                    if let Err(error) = bast::try_spawn(move || echo(stream)) {
                        bast::time::sleep(failures.no_task(&error));
                    }
                }
                Err(error) => {
                    if let Some(pause) = failures.pause_after(&error) {
                        bast::time::sleep(pause);
                    }
                }
            }
        }
    })
}

/// One connection, until its other end closes it.
fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; BUFFER];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        }
    }
}
