//! Closed loop: nanoseconds a message, with a fixed number of them under way.

use super::LoadOptions;
use super::connection::{Connections, receive, send};
use crate::stats::median;
use std::io;
use std::time::{Duration, Instant};

/// Parts of the measured time, of which the median counts.
const WINDOWS: u32 = 5;

pub(super) fn run(options: &LoadOptions) -> io::Result<()> {
    let mut connections = Connections::open(options)?;
    let mut client = Client {
        message_bytes: options.bytes,
        outgoing: vec![7; options.bytes * options.depth],
        incoming: vec![0; (options.bytes * options.depth).max(64 << 10)],
        partial: vec![0; options.connections],
        messages: 0,
    };
    for socket in &connections.sockets {
        send(socket, &client.outgoing)?;
    }
    client.run_for(&mut connections, options.warm_up())?;
    let mut each = Vec::new();
    for _ in 0..WINDOWS {
        let before = client.messages;
        let took = client.run_for(&mut connections, options.measured() / WINDOWS)?;
        each.push(took.as_nanos() as f64 / (client.messages - before) as f64);
    }
    println!("nanos_each {}", median(&each));
    println!("messages {}", client.messages);
    Ok(())
}

struct Client {
    message_bytes: usize,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// Bytes of a message that is not all back, by connection.
    partial: Vec<usize>,
    messages: u64,
}

impl Client {
    /// Answers every message with the next for about `time`; the time it took.
    fn run_for(&mut self, connections: &mut Connections, time: Duration) -> io::Result<Duration> {
        let start = Instant::now();
        let mut ready = Vec::new();
        loop {
            connections.wait(Some(time), &mut ready)?;
            for &place in &ready {
                let socket = &connections.sockets[place];
                let bytes = self.partial[place] + receive(socket, &mut self.incoming)?;
                let messages = bytes / self.message_bytes;
                self.partial[place] = bytes % self.message_bytes;
                if messages > 0 {
                    send(socket, &self.outgoing[..messages * self.message_bytes])?;
                    self.messages += messages as u64;
                }
            }
            let took = start.elapsed();
            if took >= time {
                return Ok(took);
            }
        }
    }
}
