//! Real stacks: of tasks that park, spawn and wake in functions that are called by others.

use super::{loads, on_runtime};
use bast::spawn;
use bast::sync::channel::{Receiver, Sender, rendezvous};
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufWriter};
use std::path::Path;

/// With as many frames as there may be.
pub(crate) fn all(file: &Path) -> io::Result<()> {
    let file = BufWriter::new(File::create(file)?);
    let trace = bast::trace::Options::new().stacks(usize::MAX).start(file)?;
    on_runtime(2, || {
        calls();
        deep();
        on_another_stack();
        loads::everything();
    })?;
    println!("{:?}", trace.stop()?);
    Ok(())
}

/// `h` calls `g` calls `f`, which parks; a task spawned by `spawns` wakes it in `wakes`.
fn calls() {
    let (sender, receiver) = rendezvous();
    let parked = spawn(move || black_box(h(&receiver)));
    let waker = spawns(sender);
    waker.join().expect("the waker");
    assert_eq!(parked.join().expect("the parked"), 3 * 100);
}

// What follows the inner call keeps it from being a jump, and its frame on the stack.

#[inline(never)]
fn h(receiver: &Receiver<u64>) -> u64 {
    black_box(g(receiver)) + 1
}

#[inline(never)]
fn g(receiver: &Receiver<u64>) -> u64 {
    black_box(f(receiver)) + 2
}

#[inline(never)]
fn f(receiver: &Receiver<u64>) -> u64 {
    black_box(receiver.iter().sum::<u64>()) - 3
}

#[inline(never)]
fn spawns(sender: Sender<u64>) -> bast::JoinHandle<()> {
    black_box(spawn(move || {
        for _ in 0..100 {
            wakes(&sender);
            bast::task::yield_now();
        }
    }))
}

#[inline(never)]
fn wakes(sender: &Sender<u64>) {
    black_box(sender.send(3).is_ok());
}

/// More frames than a stack may have.
fn deep() {
    #[inline(never)]
    fn down(levels: u32) -> u32 {
        if levels == 0 {
            bast::time::sleep(std::time::Duration::from_millis(1));
            return 0;
        }
        black_box(down(levels - 1)) + 1
    }
    assert_eq!(spawn(|| down(300)).join().expect("the deep one"), 300);
}

/// The chain ends where the larger stack does.
fn on_another_stack() {
    let task =
        spawn(|| bast::on_big_stack(1 << 20, || bast::time::sleep(std::time::Duration::from_millis(1))));
    task.join().expect("the one on a big stack");
}
