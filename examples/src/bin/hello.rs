//! The first program: `cargo run --bin hello`.

use std::time::Duration;

fn main() {
    // SAFETY: nothing that belongs to a thread (a lock guard, an `Rc`, a thread-local borrow) is kept across a wait.
    unsafe { bast::run(greet) }
}

/// Runs as the first task; everything it calls may wait without blocking a thread.
fn greet() {
    let greet_after = |tens: u64| {
        bast::time::sleep(Duration::from_millis(10 * tens));
        println!("hello from task {}, after {tens}0 ms", bast::task::current().id());
        tens
    };
    let tasks: Vec<_> = (1..=3)
        .rev()
        .map(|tens| bast::spawn(move || greet_after(tens)))
        .collect();
    let sum: u64 = tasks
        .into_iter()
        .map(|task| task.join().expect("no task panics"))
        .sum();
    println!("all {sum}0 ms of waiting are done");
}
