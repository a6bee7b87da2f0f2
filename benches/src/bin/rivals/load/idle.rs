//! Connections that have been used once and then only exist.

use super::LoadOptions;
use super::connection::Connections;
use std::io::{self, Read};

/// Says when all are there, and keeps them until standard input ends.
pub(super) fn run(options: &LoadOptions) -> io::Result<()> {
    let connections = Connections::open(options)?;
    println!("open {}", connections.sockets.len());
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(connections);
    Ok(())
}
