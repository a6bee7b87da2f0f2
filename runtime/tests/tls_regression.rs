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

mod util;

use std::cell::Cell;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread::panicking;
use std::time::Duration;

use bast::task::{self, Task};
use util::Gate;

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
        let seen = Arc::new(Seen::default());
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

/// Panics that were caught on another thread than their task began on.
const PANICS_MIN: u64 = 500;

/// Calls what it holds when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Panics, on another thread than it began on if that can be had.
fn panic_elsewhere(moved: &AtomicU64) {
    let thread = thread_id();
    for _ in 0..100 {
        task::yield_now();
        if thread_id() != thread {
            moved.fetch_add(1, Relaxed);
            break;
        }
    }
    resume_unwind(Box::new("expected by the test"));
}

struct PanicsInDrop(Arc<AtomicU64>);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic_elsewhere(&self.0);
    }
}

bast::task_local! {
    static FIRST: Cell<Option<PanicsInDrop>> = const { Cell::new(None) };
    static SECOND: Cell<Option<PanicsInDrop>> = const { Cell::new(None) };
}

/// One task: lets others panic, and what it drops, in the places where the runtime catches it.
fn provoke(pool: &bast::task::Pool, moved: &Arc<AtomicU64>) {
    while moved.load(Relaxed) < PANICS_MIN {
        let own = moved.clone();
        let child = bast::spawn(move || panic_elsewhere(&own));
        assert!(child.join().expect_err("it panics").is_panic());
        let own = moved.clone();
        let child = bast::spawn(move || {
            FIRST.set(Some(PanicsInDrop(own.clone())));
            SECOND.set(Some(PanicsInDrop(own)));
        });
        child.join().expect("what its values do is not its own doing");
        let own = moved.clone();
        pool.submit(move || panic_elsewhere(&own)).expect("it is open");
        let caught = task::catch_unwind(AssertUnwindSafe(|| panic_elsewhere(moved)));
        assert!(caught.is_err());
        assert!(!panicking(), "this thread was left with another one's panic");
    }
}

/// std counts the panics of a thread in a thread-local of its own, and whoever catches one counts it down. Where that
/// is inlined, as here, its address is one more that the optimiser may keep across a switch. Then the thread of the
/// panic counts as panicking for ever after, and another one loses a panic that it never had.
#[test]
fn a_panic_is_counted_down_on_the_thread_that_caught_it() {
    // SAFETY: validity: no value bound to a thread is alive across a wait. aliasing: as above.
    let runtime = unsafe { bast::Builder::new().processors(4).build() }.expect("a runtime");
    let _watchdog = util::Watchdog::start("panics elsewhere", Some(runtime.handle()));
    let moved = Arc::new(AtomicU64::new(0));
    let seen = moved.clone();
    runtime.run(move || {
        let gate = Gate::new();
        // While no thread at all is panicking, none looks at its own count: so one is, all the time.
        let held = gate.clone();
        let unwinding = bast::spawn(move || {
            let _waits = OnDrop(|| held.wait());
            resume_unwind(Box::new("expected by the test"));
        });
        let pool = Arc::new(bast::task::Pool::new(TASKS, TASKS).expect("a pool"));
        let provoker = |_| {
            let (pool, seen) = (pool.clone(), seen.clone());
            bast::spawn(move || provoke(&pool, &seen))
        };
        let provokers = Vec::from_iter((0..TASKS).map(provoker));
        for task in provokers {
            task.join().expect("the panics stayed where they were");
        }
        pool.close();
        gate.open();
        assert!(unwinding.join().expect_err("it panics").is_panic());
    });
    runtime.shutdown();
    println!("{} panics were caught on another thread", moved.load(Relaxed));
}
