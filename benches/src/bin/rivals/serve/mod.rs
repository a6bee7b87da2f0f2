//! Echo servers: the same program for every system.
//!
//! Each accepts on the loopback, sets TCP_NODELAY, and sends back what it reads with a buffer of the given size. It
//! prints `listening PORT` and ends when its standard input does.

mod by_hand;
mod on_bast;
mod on_may;
mod on_tokio;

use crate::options::Work;
use crate::system::System;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::exit;
use std::thread;

/// A buffer of this size lies on the task's own stack (or in its future): for connections that are mostly idle.
const SMALL_BUFFER_BYTES: usize = 512;

/// Serves until standard input ends.
pub(crate) fn serve(system: System, buffer_bytes: usize, work: Work) -> Result<(), String> {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        exit(0); // connections may be open: nobody waits for them
    });
    let served = match system {
        System::Bast => on_bast::serve(buffer_bytes, work),
        System::Tokio => on_tokio::serve(buffer_bytes, work),
        System::May => on_may::serve(buffer_bytes, work),
        System::Control => by_hand::serve(buffer_bytes, work),
        System::Go => return Err("go has a program of its own".to_owned()),
        System::Crossbeam | System::Flume => return Err(format!("{system} serves nobody")),
    };
    served.map_err(|error| format!("the {system} server: {error}"))
}

/// Tells the parent where to connect.
fn announce(address: SocketAddr) {
    println!("listening {}", address.port());
}
