//! Bugs that peers had with signals, as programs that would show them here. `PEERS.md` lists them all.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Once};
use std::time::Duration;
use util::{Gate, is_emulated, on_each};

/// Handled with SIGUSR1, and how many of them found a stack that is not aligned.
static HANDLED: AtomicU64 = AtomicU64::new(0);
static MISALIGNED: AtomicU64 = AtomicU64::new(0);

#[repr(align(16))]
struct Aligned([u8; 512]);

/// On whatever stack the thread is on: a task's, a worker's own, or in the middle of a switch between the two.
extern "C" fn on_this_stack(_: libc::c_int) {
    let mut space = Aligned([0; 512]);
    black_box(&mut space).0.fill(0xa5);
    let address = std::ptr::from_ref(black_box(&space)) as usize;
    MISALIGNED.fetch_add(u64::from(!address.is_multiple_of(16)), Relaxed);
    HANDLED.fetch_add(1, Relaxed);
}

fn install() {
    static ONCE: Once = Once::new();
    // Without SA_RESTART: every call of the kernel may say EINTR.
    ONCE.call_once(|| util::handle(libc::SIGUSR1, on_this_stack, 0));
}

/// Tasks repeat `work` for each number of processors until so many signals have been handled meanwhile.
fn under_signals(work: impl Fn(u64) + Send + Sync + Copy + 'static) {
    const ENOUGH: u64 = 3_000;
    if is_emulated() {
        return; // its threads are not all the program's
    }
    install();
    on_each(move || {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let sender = std::thread::spawn(move || util::send_to_all(libc::SIGUSR1, &told));
        let before = HANDLED.load(Relaxed);
        let tasks: Vec<_> = (0..6)
            .map(|number| {
                bast::spawn(move || {
                    while HANDLED.load(Relaxed) < before + ENOUGH {
                        work(number);
                        bast::task::yield_now();
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        over.store(true, Relaxed);
        bast::blocking(|| sender.join()).unwrap();
    });
    assert_eq!(
        MISALIGNED.load(Relaxed),
        0,
        "handlers that ran on a stack that was not aligned"
    );
}

/// A leaf that keeps values below the stack pointer (the red zone) if it likes.
#[inline(never)]
fn leaf(seed: u64) -> u64 {
    let mut values = [seed; 12];
    for round in 1..40_u64 {
        for at in 1..values.len() {
            values[at] = values[at].rotate_left(7) ^ values[at - 1].wrapping_add(round);
        }
    }
    values.iter().fold(0, |sum, value| sum.wrapping_mul(31) ^ value)
}

/// A peer's handler switched stacks and overwrote the red zone and the flags of the code it interrupted, met the stack
/// pointer unaligned, or in the middle of a switch. Ours never switch; a user's handler must find all that in order.
/// One test for all, as handlers are the process's.
#[test]
fn what_a_signal_interrupts_goes_on_as_if_nothing_had_been() {
    under_signals(|number| {
        let expected = black_box(leaf)(black_box(number));
        for _ in 0..50 {
            assert_eq!(
                black_box(leaf)(black_box(number)),
                expected,
                "a value was overwritten"
            );
            bast::task::yield_now(); // most signals come near a switch
        }
    });
}

/// A peer's handler took a lock of the runtime's that the interrupted code held. Here spawns, joins, timers and the
/// global queue take them all the time.
#[test]
fn signals_while_the_runtime_holds_its_locks() {
    under_signals(|number| {
        let children: Vec<_> = (0..20)
            .map(|child| {
                bast::spawn(move || {
                    bast::time::sleep(Duration::from_micros(child * number));
                    child
                })
            })
            .collect();
        let sum: u64 = children.into_iter().map(|child| child.join().unwrap()).sum();
        assert_eq!(sum, 190);
    });
}

/// Every call of the runtime's that waits in the kernel goes on after a signal without SA_RESTART, as do blocking
/// calls that nobody announced.
#[test]
fn no_wait_ends_early_by_a_signal() {
    under_signals(|number| {
        let began = std::time::Instant::now();
        let time = Duration::from_micros(300 * number);
        match number % 3 {
            0 => bast::time::sleep(time),
            1 => bast::blocking(|| std::thread::sleep(time)),
            _ => std::thread::sleep(time),
        }
        assert!(began.elapsed() >= time, "a wait ended early");
        let gate = Gate::new();
        let opens = gate.clone();
        let opener = bast::spawn(move || opens.open());
        gate.wait();
        opener.join().unwrap();
    });
}
