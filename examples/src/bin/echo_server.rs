//! An echo server in blocking code, a task a connection: `cargo run --bin echo_server`, then `nc 127.0.0.1 7007`.
//!
//! Another address can be given as the argument: `cargo run --bin echo_server -- 0.0.0.0:7`.

use std::io::{self, Read, Write};
use std::time::Duration;

use bast::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7007".into());
    // SAFETY: nothing that belongs to a thread (a lock guard, an `Rc`, a thread-local borrow) is kept across a wait.
    unsafe { bast::run(|| serve(&address)) }
}

fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    println!("listening on {}; end with Ctrl-C", listener.local_addr()?);
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                println!("{peer} came");
                let named = bast::task::Builder::new().name(peer.to_string());
                let connection = named.spawn(move || {
                    let end = echo(stream);
                    println!(
                        "{peer} left: {}",
                        end.map_or_else(|error| error.to_string(), |bytes| format!("{bytes} bytes"))
                    );
                });
                if let Err(error) = connection {
                    eprintln!("{peer} was sent away: {error}");
                }
            }
            Err(error) => {
                // Most often the limit of open files: connections have to end before new ones fit.
                eprintln!("cannot accept: {error}");
                bast::time::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Sends back what comes until the peer is done; the number of bytes.
fn echo(mut stream: TcpStream) -> io::Result<u64> {
    let mut buffer = [0; 1024];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        stream.write_all(&buffer[..count])?;
        total += count as u64;
    }
}
