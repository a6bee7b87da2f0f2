//! System calls that block and that nobody announces.

use bast_examples::stress::tools::{Ground, Rng};
use std::ffi::CString;
use std::io::Write;
use std::net::ToSocketAddrs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Reads of a FIFO, sleeps, and names that are resolved.
pub(crate) fn syscalls(ground: Ground, rng: &mut Rng) {
    super::crowd(ground, rng, 12, |ground, number, rng| match rng.below(4) {
        0 | 1 => fifo(ground, number, rng),
        2 => sleep(ground, rng),
        _ => resolve(ground),
    });
}

/// The reader waits in `open` for the writer, then in `read`; both are tasks.
fn fifo(ground: Ground, number: u64, rng: &mut Rng) {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let name = NAMES.fetch_add(1, Ordering::Relaxed);
    let path: PathBuf = std::env::temp_dir().join(format!("storm-{}-{name}", std::process::id()));
    let text = CString::new(path.as_os_str().as_bytes()).expect("a path has no zero byte");
    // SAFETY: validity: a C string.
    let result = unsafe { libc::mkfifo(text.as_ptr(), 0o600) };
    ground.check(result == 0, || {
        format!("mkfifo: {}", std::io::Error::last_os_error())
    });
    let (length, pause) = (1 + rng.below(200_000) as usize, rng.micros_below(4_000));
    let writer = bast::spawn({
        let path = path.clone();
        move || {
            let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
            std::thread::sleep(pause);
            file.write_all(&vec![number as u8; length]) // more than the pipe holds, perhaps
        }
    });
    let read = ground.must(std::fs::read(&path), "read of a FIFO");
    ground.same(read.len(), length, "bytes through the FIFO");
    ground.check(read.iter().all(|byte| *byte == number as u8), || {
        "another's bytes came through the FIFO".to_owned()
    });
    let written = ground.must(writer.join(), "join");
    ground.must(written, "write to a FIFO");
    ground.must(std::fs::remove_file(&path), "unlink");
}

fn sleep(ground: Ground, rng: &mut Rng) {
    let (began, time) = (Instant::now(), rng.micros_below(20_000));
    std::thread::sleep(time);
    ground.check(began.elapsed() >= time, || "a sleep ended early".to_owned());
}

/// The C library's resolver, on a stack such as it expects.
fn resolve(ground: Ground) {
    let addresses = bast::on_big_stack(1 << 20, || ("localhost", 80).to_socket_addrs());
    let mut addresses = ground.must(addresses, "localhost");
    ground.check(addresses.any(|address| address.ip().is_loopback()), || {
        "localhost is not here".to_owned()
    });
}
