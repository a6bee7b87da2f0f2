//! The calls that stall other runtimes, without a word to ours: none of them stalls the other tasks, at any number of
//! processors, in an ordinary runtime and in a strict one.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]
#![cfg(target_os = "linux")]

mod util;

use std::ffi::{CString, c_int, c_void};
use std::io::Write;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use util::{Watchdog, in_good_child, start, wait_for};

/// Runtimes of 1, 2 and 8 processors, each ordinary and strict.
fn on_all(body: impl Fn(&bast::Runtime, usize)) {
    for processors in util::PROCESSORS {
        for strict in [false, !cfg!(bast_tsan)] {
            let builder = bast::Builder::new().processors(processors);
            let runtime = start(builder.strict_parallelism(strict));
            let what = format!("{processors} processors, strict: {strict}");
            let _watchdog = Watchdog::start(what, Some(runtime.handle()));
            body(&runtime, processors);
        }
    }
}

/// More tasks than processors make `call`, each of which ends only after others have run: spawned, woken by the clock
/// and by a socket. `release` then ends the calls.
fn beside<T: Send + 'static>(
    runtime: &bast::Runtime,
    processors: usize,
    call: impl Fn(usize) -> T + Clone + Send + 'static,
    release: impl FnOnce(usize) + Send,
) -> Vec<T> {
    let many = processors + 2;
    let begun = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = (0..many)
        .map(|i| {
            let (begun, call) = (begun.clone(), call.clone());
            runtime
                .spawn(move || {
                    begun.fetch_add(1, AcqRel);
                    call(i)
                })
                .unwrap()
        })
        .collect();
    wait_for(|| begun.load(Acquire) == many);
    runtime.run(|| {
        for i in 0..10 {
            assert_eq!(bast::spawn(move || i).join().unwrap(), i);
        }
        bast::time::sleep(Duration::from_micros(200));
        let (mut one, mut two) = util::net::pair();
        let echo = bast::spawn(move || {
            let mut byte = [0];
            std::io::Read::read_exact(&mut two, &mut byte).unwrap();
            two.write_all(&byte).unwrap();
        });
        one.write_all(b"x").unwrap();
        std::io::Read::read_exact(&mut one, &mut [0]).unwrap();
        echo.join().unwrap();
        release(many);
    });
    calls.into_iter().map(|call| call.join().unwrap()).collect()
}

/// A named pipe that nobody has opened.
struct Fifo(PathBuf);

impl Fifo {
    fn new(name: &str) -> Fifo {
        let path = std::env::temp_dir().join(format!("bast-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let text = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: validity: a string that ends with a zero. aliasing: read only.
        let made = unsafe { libc::mkfifo(text.as_ptr(), 0o600) };
        assert_eq!(made, 0, "mkfifo: {}", std::io::Error::last_os_error());
        Fifo(path)
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn reading_a_fifo() {
    on_all(|runtime, processors| {
        let fifos: Arc<Vec<Fifo>> = Arc::new(
            (0..processors + 2)
                .map(|i| Fifo::new(&format!("read-{processors}-{i}")))
                .collect(),
        );
        let (read, write) = (fifos.clone(), fifos);
        let texts = beside(
            runtime,
            processors,
            move |i| std::fs::read(&read[i].0).unwrap(),
            move |many| (0..many).for_each(|i| std::fs::write(&write[i].0, [i as u8; 10]).unwrap()),
        );
        for (i, text) in texts.into_iter().enumerate() {
            assert_eq!(text, [i as u8; 10]);
        }
    });
}

#[test]
fn sleeping_and_waiting_for_a_lock_of_std() {
    on_all(|runtime, processors| {
        let over = Arc::new(AtomicBool::new(false));
        let (sleeps, wakes) = (over.clone(), over);
        beside(
            runtime,
            processors,
            move |_| {
                while !sleeps.load(Acquire) {
                    std::thread::sleep(Duration::from_millis(2));
                }
            },
            move |_| wakes.store(true, Release),
        );
        // Held by a task that computes until it is told, wanted by the others.
        let over = Arc::new(AtomicBool::new(false));
        let lock = Arc::new(Mutex::new(0));
        let (waits, wakes) = (over.clone(), over);
        let seen = beside(
            runtime,
            processors,
            move |_| {
                let mut held = lock.lock().unwrap();
                while !waits.load(Acquire) {
                    std::hint::spin_loop();
                }
                *held += 1;
                *held
            },
            move |_| wakes.store(true, Release),
        );
        assert_eq!(seen.into_iter().max(), Some(processors + 2));
    });
}

#[test]
fn the_output_of_a_command() {
    on_all(|runtime, processors| {
        let fifo = Fifo::new(&format!("command-{processors}"));
        let path = fifo.0.clone();
        let outputs = beside(
            runtime,
            processors.min(3),
            move |_| {
                let mut command = Command::new("sh");
                command
                    .args(["-c", "read line < \"$0\"; echo got $line"])
                    .arg(&path);
                command.output().unwrap().stdout
            },
            |many| {
                // Opened by all of them before anybody writes, or some would wait for the next.
                let mut open = std::fs::File::options()
                    .read(true)
                    .write(true)
                    .open(&fifo.0)
                    .unwrap();
                (0..many).for_each(|_| open.write_all(b"it\n").unwrap());
                // Kept open until they have read; they are joined after this, so the descriptor is leaked.
                std::mem::forget(open);
            },
        );
        for output in outputs {
            assert!(output.starts_with(b"got"), "{}", String::from_utf8_lossy(&output));
        }
    });
}

#[test]
fn resolving_a_name() {
    on_all(|runtime, processors| {
        let found = beside(
            runtime,
            processors,
            // On a small stack the C library's resolver has no room: CAVEATS.
            |_| bast::on_big_stack(1 << 20, || "localhost:80".to_socket_addrs().unwrap().count()),
            |_| (),
        );
        assert!(found.into_iter().all(|count| count > 0));
        // What bast's own network calls do with a name.
        let refused = runtime.run(|| bast::net::TcpStream::connect("localhost:1"));
        assert!(refused.is_err());
    });
}

/// Sorts in the C library, whose comparisons ask whether to go on.
fn sort_in_c(over: &AtomicBool) {
    extern "C" fn compare(one: *const c_void, two: *const c_void) -> c_int {
        // SAFETY: validity: an element of the array below. aliasing: read only.
        let one = unsafe { *one.cast::<u32>() };
        // SAFETY: as above.
        let two = unsafe { *two.cast::<u32>() };
        one.cmp(&two) as c_int
    }
    let mut numbers: Vec<u32> = (0..50_000_u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    while !over.load(Acquire) {
        // SAFETY: validity: as many elements of that size. aliasing: the vector is not used meanwhile.
        unsafe { libc::qsort(numbers.as_mut_ptr().cast(), numbers.len(), 4, Some(compare)) };
        numbers.reverse();
    }
}

#[test]
fn computing_in_c_and_in_rust() {
    on_all(|runtime, processors| {
        let over = Arc::new(AtomicBool::new(false));
        let (computes, tells) = (over.clone(), over);
        beside(
            runtime,
            processors.min(2),
            move |i| {
                if i % 2 == 0 {
                    sort_in_c(&computes);
                }
                while !computes.load(Acquire) {
                    std::hint::spin_loop();
                }
            },
            move |_| tells.store(true, Release),
        );
    });
}

/// They never end, and the runtime does.
#[test]
fn endless_loops() {
    let name = "endless_loops";
    let text = in_good_child(
        name,
        |_| {},
        || {
            for (processors, strict) in [(1, false), (2, false), (1, true), (2, true)] {
                let builder = bast::Builder::new()
                    .processors(processors)
                    .strict_parallelism(strict && !cfg!(bast_tsan));
                let runtime = start(builder.shutdown_grace(Duration::from_millis(20)));
                for _ in 0..processors {
                    #[expect(clippy::empty_loop, reason = "that is what is tried")]
                    let _ = runtime.spawn(|| loop {});
                }
                for i in 0..10 {
                    assert_eq!(runtime.run(|| bast::spawn(move || i).join().unwrap()), i);
                }
            }
        },
    );
    assert_eq!(text.matches("are still busy").count(), 4, "{text}");
}
