//! The small examples do what their first lines promise.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

#[test]
fn hello_waits_for_all_its_tasks() {
    let output = Command::new(env!("CARGO_BIN_EXE_hello")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(text.matches("hello from task").count(), 3, "{text}");
    assert!(text.ends_with("all 60 ms of waiting are done\n"), "{text}");
}

/// Killed when dropped.
#[derive(Debug)]
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn echo_server_serves_many_at_once() {
    let mut server = Server(
        Command::new(env!("CARGO_BIN_EXE_echo_server"))
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first
        .strip_prefix("listening on ")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_string();
    let mut clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // The last first: none has to wait for one that came before it.
    for (number, client) in clients.iter_mut().enumerate().rev() {
        let line = format!("line of client {number}\n");
        client.write_all(line.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut echoed = String::new();
        client.read_to_string(&mut echoed).unwrap();
        assert_eq!(echoed, line);
    }
    let left = lines
        .map(Result::unwrap)
        .filter(|line| line.contains("left: "))
        .take(20);
    assert!(left.into_iter().all(|line| line.ends_with(" bytes")));
}

#[test]
fn echo_server_says_why_it_cannot_listen() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_echo_server"))
        .arg(&address)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(&format!("cannot listen on {address}")),
        "{stderr}"
    );
}
