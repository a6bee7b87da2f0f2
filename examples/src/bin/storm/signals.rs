//! Signals to random threads at about 1 kHz: with and without `SA_RESTART`, on the alternate stack and on the task's.

use bast_examples::stress::ledger::{self, World};
use bast_examples::stress::tools::{Ground, Latch, Rng};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Of each signal: sent, and handled. Of two that wait for one thread only one is handled.
static SENT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static HANDLED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// The second is sent with SA_RESTART and handled on the alternate stack.
const SIGNALS: [libc::c_int; 2] = [libc::SIGUSR1, libc::SIGUSR2];
const FLAGS: [libc::c_int; 2] = [0, libc::SA_RESTART | libc::SA_ONSTACK];

extern "C" fn handle(signal: libc::c_int) {
    let which = usize::from(signal == SIGNALS[1]);
    HANDLED[which].fetch_add(1, Ordering::Relaxed);
}

/// For both signals.
pub(crate) fn install_handlers() {
    for (signal, flags) in SIGNALS.into_iter().zip(FLAGS) {
        // SAFETY: validity: all-zero is an empty set, no flags and the default action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handle as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = flags;
        // SAFETY: validity: a whole action whose handler only adds to an atomic. aliasing: the action is read.
        let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        assert_eq!(result, 0, "sigaction: {}", std::io::Error::last_os_error());
    }
}

/// A thread sends signals to all threads, also to the runtime's own, while tasks wait in every way of bast's: none of
/// them ends early or with an error.
pub(crate) fn signals(ground: Ground, rng: &mut Rng) {
    let count = 20 + rng.below(180);
    ground.kind.start(count);
    let sent = Latch::new(1);
    let (told, mut draws) = (sent.clone(), rng.split());
    ground.on_thread(move || {
        for _ in 0..count {
            send_one(ground, &mut draws);
            ground.kind.finish(1);
            std::thread::sleep(Duration::from_millis(1));
        }
        told.arrive();
    });
    while sent.left() > 0 {
        super::crowd(ground, rng, 8, |ground, number, rng| match rng.below(3) {
            0 => sleeps(ground, rng),
            1 => talks(ground, number as u8),
            _ => waits_for_a_child(ground, number, rng),
        });
    }
    sent.wait();
}

fn send_one(ground: Ground, rng: &mut Rng) {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return;
    };
    let threads: Vec<i32> = threads
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let thread = threads[rng.below(threads.len() as u64) as usize];
    let which = rng.below(2) as usize;
    SENT[which].fetch_add(1, Ordering::Relaxed);
    let process = std::process::id() as i32;
    // SAFETY: validity: a signal that has a handler, to a thread of this process; one that has ended is an error.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGNALS[which]) };
    let error = std::io::Error::last_os_error();
    ground.check(result == 0 || error.raw_os_error() == Some(libc::ESRCH), || {
        format!("tgkill: {error}")
    });
}

fn sleeps(ground: Ground, rng: &mut Rng) {
    let (began, time) = (Instant::now(), rng.micros_below(10_000));
    bast::time::sleep(time);
    ground.check(began.elapsed() >= time, || "a sleep ended early".to_owned());
}

fn talks(ground: Ground, number: u8) {
    let listener = ground.must(bast::net::TcpListener::bind("127.0.0.1:0"), "bind");
    let address = ground.must(listener.local_addr(), "address");
    let echo = bast::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = [0; 64];
        loop {
            match stream.read(&mut bytes)? {
                0 => return std::io::Result::Ok(()),
                count => stream.write_all(&bytes[..count])?,
            }
        }
    });
    let mut stream = ground.must(bast::net::TcpStream::connect(address), "connect");
    for turn in 0..20_u8 {
        let sent = [number ^ turn; 48];
        ground.must(stream.write_all(&sent), "write");
        let mut got = [0; 48];
        ground.must(stream.read_exact(&mut got), "read");
        ground.same(got, sent, "what came back");
    }
    drop(stream);
    let end = ground.must(echo.join(), "join");
    ground.must(end, "the echo");
}

fn waits_for_a_child(ground: Ground, number: u64, rng: &mut Rng) {
    let time = rng.micros_below(3_000);
    let child = bast::spawn(move || {
        bast::blocking(|| std::thread::sleep(time));
        number
    });
    ground.same(ground.must(child.join(), "join"), number, "what the child gave");
}

/// More cannot be handled than were sent, and if any were, some must be.
pub(crate) fn end(world: &World) {
    for which in 0..SIGNALS.len() {
        let sent = SENT[which].load(Ordering::Relaxed);
        let handled = HANDLED[which].load(Ordering::Relaxed);
        if handled > sent || (sent > 100 && handled < sent / 10) {
            let text = format!("signal {}: {sent} sent, {handled} handled", SIGNALS[which]);
            ledger::fail(world, "signals", &text);
        }
    }
}
