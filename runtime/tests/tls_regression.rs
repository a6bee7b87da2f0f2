//! No thread-local's address survives a switch inside the runtime's own accessors.
//!
//! LLVM takes the address of a thread-local as constant within a function, but a task may leave a call on another
//! thread than it made it on. Were an accessor of the runtime inlined into a task's function, the task would go on
//! with the worker of the thread it has left. Here every function that waits, yields or spawns is called over and
//! over in *one* function, where the optimiser may merge what it reads, and after each return the task must find
//! itself on the worker that runs it. To be run with `--profile fat`, where LLVM is freest.
//!
//! What is done in `task::no_park` is never merged with what its caller does: a thread-local whose address is taken
//! there is the present thread's.
//!
//! The control beside it reads a thread-local of its own the naive way. With `BAST_TLS_CONTROL=1` it must have seen
//! a stale address: then this build is one in which the fault could show.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the naive thread-local is the control, the plain thread an unparker"
)]

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use bast::task::{self, Task};

const TASKS: usize = 16;
/// Switches after which a task was on another thread than before, over all tasks.
const MIGRATIONS_MIN: u64 = 3_000;

thread_local! {
    static NAIVE: Cell<u64> = const { Cell::new(0) };
}

#[derive(Default)]
struct Seen {
    migrations: AtomicU64,
    stale: AtomicU64,
    enough: AtomicBool,
}

/// The thread, as the kernel knows it: asked anew each time.
fn thread_id() -> i64 {
    // SAFETY: validity: the call takes no argument and cannot fail.
    //         aliasing: it touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_gettid) }
}

/// The address of this thread's copy, for the optimiser to remember.
#[inline(always)]
fn naive_address() -> usize {
    NAIVE.with(|cell| std::ptr::from_ref(cell) as usize)
}

/// One task: waits in every way there is, in one function, and looks each time who it is.
#[inline(never)]
fn wander(seen: &Seen, unparker: &mpsc::Sender<Task>) {
    let own = task::current().id();
    let mut rounds = 0;
    while !seen.enough.load(Relaxed) {
        let thread = thread_id();
        let address = naive_address();
        let apart = task::no_park(naive_address);
        match rounds % 5 {
            0 => task::yield_now(),
            1 => {
                unparker
                    .send(task::current())
                    .expect("the unparker outlives the tasks");
                task::park();
            }
            2 => bast::time::sleep(Duration::from_micros(1)),
            3 => bast::blocking(|| black_box(())),
            _ => {
                let child = bast::spawn(|| task::current().id());
                let id = child.id();
                assert_eq!(child.join().expect("the child does not panic"), id);
            }
        }
        rounds += 1;
        // The accessors, each inlined as far as the optimiser likes.
        assert_eq!(
            task::current().id(),
            own,
            "the runtime took this task for another one"
        );
        assert_eq!(task::try_current().map(|task| task.id()), Some(own));
        if thread_id() != thread {
            assert_ne!(
                task::no_park(naive_address),
                apart,
                "an address was kept across a park though it was taken in no_park"
            );
            seen.stale
                .fetch_add(u64::from(naive_address() == address), Relaxed);
            if seen.migrations.fetch_add(1, Relaxed) + 1 >= MIGRATIONS_MIN {
                seen.enough.store(true, Relaxed);
            }
        }
    }
}

#[test]
fn a_task_that_wanders_always_finds_its_own_worker() {
    let (unparker, parked) = mpsc::channel::<Task>();
    // A plain thread: its unparks go through the global queue, from which any worker takes the task.
    let foreign = std::thread::spawn(move || parked.iter().for_each(|task| task.unpark()));
    // SAFETY: validity: the thread-local below is only looked at, never borrowed across a wait.
    //         aliasing: as above.
    let runtime = unsafe { bast::Builder::new().processors(4).build() }.expect("a runtime");
    let seen = runtime.run(move || {
        let seen = std::sync::Arc::new(Seen::default());
        let spawn = |_| {
            let (seen, unparker) = (seen.clone(), unparker.clone());
            bast::spawn(move || wander(&seen, &unparker))
        };
        let tasks = Vec::from_iter((0..TASKS).map(spawn));
        drop(unparker);
        for task in tasks {
            task.join().expect("no task was taken for another");
        }
        seen
    });
    runtime.shutdown();
    foreign.join().expect("the unparker");
    let (migrations, stale) = (seen.migrations.load(Relaxed), seen.stale.load(Relaxed));
    println!("{migrations} migrations; the naive thread-local was stale after {stale} of them");
    assert!(migrations >= MIGRATIONS_MIN);
    if std::env::var_os("BAST_TLS_CONTROL").is_some_and(|value| value == "1") {
        assert!(
            stale > 0,
            "the optimiser kept no address in this build: it proves nothing"
        );
    }
}
