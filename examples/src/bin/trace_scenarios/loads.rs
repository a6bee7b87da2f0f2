//! The loads. Each ends by itself, and joins what it spawns.

use super::{beside, burn, on_runtime};
use bast::net::{TcpListener, TcpStream};
use bast::sync::channel::{Receiver, Sender, bounded, rendezvous, unbounded};
use bast::sync::{Condvar, Mutex, RwLock, Semaphore, WaitGroup};
use bast::{JoinHandle, spawn};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn join_all<T>(tasks: Vec<JoinHandle<T>>) {
    for task in tasks {
        task.join().expect("a task of the load panicked");
    }
}

/// 20 connections of 200 echoes each.
pub(crate) fn echo() {
    echo_of(20, 200);
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn ask(address: std::net::SocketAddr, times: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut buffer = [0; 8];
    for turn in 0..times {
        let word = (turn as u64).to_le_bytes();
        stream.write_all(&word)?;
        stream.read_exact(&mut buffer)?;
        assert_eq!(buffer, word, "another echo");
    }
    Ok(())
}

fn echo_of(connections: usize, times: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let server = spawn(move || {
        let served: Vec<_> = (0..connections)
            .map(|_| listener.accept().expect("accept").0)
            .map(|stream| spawn(move || serve(stream).expect("serve")))
            .collect();
        join_all(served);
    });
    join_all(
        (0..connections)
            .map(|_| spawn(move || ask(address, times).expect("ask")))
            .collect(),
    );
    server.join().expect("server");
}

/// Both ends of a channel.
type Ends = (Sender<u64>, Receiver<u64>);

/// Every flavour, many to many, and select over them.
pub(crate) fn channels() {
    let flavours: [fn() -> Ends; 3] = [|| bounded(8), rendezvous, unbounded];
    for make in flavours {
        let (sender, receiver) = make();
        let senders = (0..4).map(|_| {
            let sender = sender.clone();
            spawn(move || (0..500).for_each(|value| sender.send(value).expect("send")))
        });
        let mut tasks: Vec<_> = senders.collect();
        drop(sender);
        tasks.extend((0..3).map(|_| {
            let receiver = receiver.clone();
            spawn(move || receiver.iter().for_each(drop))
        }));
        drop(receiver);
        join_all(tasks);
    }
    select_between();
}

fn select_between() {
    let (left, from_left) = bounded::<u64>(1);
    let (right, from_right) = rendezvous::<u64>();
    let tasks = vec![
        spawn(move || (0..500).for_each(|value| _ = left.send(value))),
        spawn(move || (0..500).for_each(|value| _ = right.send(value))),
    ];
    for _ in 0..1000 {
        bast::select! {
            recv(from_left) -> value => value.map_or_else(|_| bast::task::yield_now(), drop),
            recv(from_right) -> value => value.map_or_else(|_| bast::task::yield_now(), drop),
            default(Duration::from_secs(10)) => panic!("nobody sends"),
        }
    }
    drop((from_left, from_right));
    for task in tasks {
        drop(task.join()); // a sender may have been refused: a closed channel won some of the turns
    }
}

/// Sleeps, intervals, timeouts.
pub(crate) fn timers() {
    let sleepers = (0..100).map(|index| {
        spawn(move || {
            for _ in 0..5 {
                bast::time::sleep(Duration::from_micros(200 + index * 37));
            }
        })
    });
    let mut tasks: Vec<_> = sleepers.collect();
    tasks.push(spawn(|| {
        let (sender, receiver) = bounded::<()>(1);
        for _ in 0..10 {
            assert!(
                receiver.recv_timeout(Duration::from_millis(1)).is_err(),
                "nobody sends"
            );
        }
        drop(sender);
    }));
    join_all(tasks);
}

/// Every lock, contended.
pub(crate) fn locks() {
    let mutex = Arc::new(Mutex::new(0));
    let lock = Arc::new(RwLock::new(0));
    let permits = Arc::new(Semaphore::new(2));
    let turn = Arc::new((Mutex::new(0), Condvar::new()));
    let group = Arc::new(WaitGroup::new());
    let workers = (0..8).map(|index| {
        let (mutex, lock, permits) = (Arc::clone(&mutex), Arc::clone(&lock), Arc::clone(&permits));
        let (turn, group) = (Arc::clone(&turn), group.member());
        spawn(move || {
            for _ in 0..50 {
                *mutex.lock().expect("mutex") += 1;
                let held = permits.acquire();
                bast::task::yield_now();
                drop(held);
                *lock.write().expect("write") += 1;
                drop(lock.read().expect("read"));
            }
            let (whose, changed) = &*turn;
            let mut whose = whose.lock().expect("turn");
            while *whose != index {
                whose = changed.wait(whose).expect("wait");
            }
            *whose += 1;
            changed.notify_all();
            drop(group);
        })
    });
    let workers = workers.collect();
    join_all(workers);
    group.wait();
    assert_eq!(*mutex.lock().expect("mutex"), 400);
}

/// Blocking sections, more of them than processors, beside tasks that run.
pub(crate) fn blocking() {
    let blockers = (0..6).map(|_| {
        spawn(|| {
            for _ in 0..10 {
                bast::blocking(|| thread::sleep(Duration::from_millis(1)));
                bast::task::yield_now();
            }
        })
    });
    let mut tasks: Vec<_> = blockers.collect();
    tasks.extend((0..4).map(|_| {
        spawn(|| {
            for _ in 0..500 {
                bast::task::yield_now();
            }
        })
    }));
    join_all(tasks);
}

/// Tasks that compute or block without a word, so that the monitor takes their processors.
pub(crate) fn hogs() {
    let hogs = (0..4).map(|_| spawn(|| (0..3).for_each(|_| _ = burn(Duration::from_millis(30)))));
    let mut tasks: Vec<_> = hogs.collect();
    tasks.extend((0..3).map(|_| {
        spawn(|| {
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(8));
                bast::task::yield_now();
            }
        })
    }));
    tasks
        .extend((0..10).map(|_| spawn(|| (0..10).for_each(|_| bast::time::sleep(Duration::from_millis(2))))));
    join_all(tasks);
}

/// Parks while it unwinds.
struct WaitsWhenDropped(Receiver<()>);

impl Drop for WaitsWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.recv_timeout(Duration::from_millis(3));
        bast::time::sleep(Duration::from_micros(500));
    }
}

/// Tasks that panic, some of which wait in a destructor meanwhile.
pub(crate) fn panics() {
    std::panic::set_hook(Box::new(|_| {}));
    let (sender, receiver) = bounded::<()>(1);
    let tasks: Vec<_> = (0..20)
        .map(|index| {
            let waits = WaitsWhenDropped(receiver.clone());
            spawn(move || {
                bast::task::yield_now();
                let held = waits;
                assert!(index % 2 == 0, "as planned");
                std::mem::forget(held);
            })
        })
        .collect();
    for (index, task) in tasks.into_iter().enumerate() {
        assert_eq!(
            task.join().is_ok(),
            index % 2 == 0,
            "every second one was to panic"
        );
    }
    drop(sender);
    drop(std::panic::take_hook());
}

/// Takes 64 MiB, a piece at a time, and gives them back.
pub(crate) fn heap() {
    let pieces = (0..64).map(|_| {
        bast::time::sleep(Duration::from_millis(2));
        vec![1_u8; 1 << 20]
    });
    let pieces: Vec<_> = pieces.collect();
    for piece in pieces {
        drop(piece);
        bast::time::sleep(Duration::from_millis(2));
    }
}

/// All of the above.
pub(crate) fn everything() {
    echo();
    channels();
    timers();
    locks();
    blocking();
    hogs();
    panics();
}

/// A pause between loads that are traced for seconds, so that Go's tools read the events in seconds too.
const READABLE: Duration = Duration::from_millis(50);

/// Everything at once, again and again.
pub(crate) fn soak(seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    let loads: [fn(); 6] = [|| echo_of(5, 100), channels, timers, locks, blocking, hogs];
    let tasks = loads.map(|load| {
        spawn(move || {
            while Instant::now() < end {
                load();
                bast::time::sleep(READABLE);
            }
        })
    });
    join_all(tasks.into());
}

/// A load that runs until it is told to stop, over and over with a pause, and a thread that does something meanwhile.
fn beside_load(pause: Duration, body: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let seen = Arc::clone(&over);
        let load = scope.spawn(move || {
            on_runtime(2, move || {
                let loads: [fn(); 6] = [|| echo_of(5, 50), channels, timers, locks, blocking, hogs];
                let tasks = loads.map(|load| {
                    let over = Arc::clone(&seen);
                    spawn(move || {
                        while !over.load(Ordering::Relaxed) {
                            load();
                            bast::time::sleep(pause);
                        }
                    })
                });
                let parked = (0..100).map(|_| {
                    let over = Arc::clone(&seen);
                    spawn(move || {
                        while !over.load(Ordering::Relaxed) {
                            bast::time::sleep(Duration::from_secs(1));
                        }
                    })
                });
                join_all(parked.chain(tasks).collect());
            })
        });
        thread::sleep(Duration::from_millis(50));
        let result = body();
        over.store(true, Ordering::Relaxed);
        load.join().expect("the load panicked")?;
        result
    })
}

/// A trace that begins and ends in the middle of a load, over several generations.
pub(crate) fn middle(file: &Path) -> io::Result<()> {
    let file = BufWriter::new(File::create(file)?);
    beside_load(Duration::ZERO, move || {
        let trace = bast::trace::start(file)?;
        thread::sleep(Duration::from_millis(600));
        println!("{:?}", trace.stop()?);
        Ok(())
    })
}

/// A hundred traces one after the other: FILE.0 to FILE.99.
pub(crate) fn start_stop(file: &Path) -> io::Result<()> {
    beside_load(Duration::ZERO, || {
        for turn in 0..100_u64 {
            let name = beside(file, &format!(".{turn}"));
            let trace = bast::trace::start(BufWriter::new(File::create(name)?))?;
            thread::sleep(Duration::from_millis(turn % 20));
            trace.stop()?;
        }
        Ok(())
    })
}

/// Runtimes that come and go within one trace.
pub(crate) fn several_runtimes(file: &Path) -> io::Result<()> {
    let trace = bast::trace::start(BufWriter::new(File::create(file)?))?;
    thread::scope(|scope| {
        for turn in 0..6 {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(turn * 20));
                on_runtime(1 + turn as usize % 3, || {
                    echo_of(3, 50);
                    channels();
                })
            });
        }
    });
    println!("{:?}", trace.stop()?);
    Ok(())
}

/// A writer that is asleep most of the time.
struct Slow(BufWriter<File>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        thread::sleep(Duration::from_millis(100));
        self.0.write(&bytes[..bytes.len().min(1 << 16)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// More than the writer can take: pieces of the trace are lost, and it stays whole.
pub(crate) fn slow_writer(file: &Path) -> io::Result<()> {
    let file = Slow(BufWriter::new(File::create(file)?));
    beside_load(READABLE, move || {
        let trace = bast::trace::Options::new().outbox_bytes(1 << 16).start(file)?;
        thread::sleep(Duration::from_secs(8));
        let summary = trace.stop()?;
        println!("{summary:?}");
        assert!(
            summary.lost_generations > 0,
            "the writer was fast enough: nothing was tried"
        );
        Ok(())
    })
}

/// Snapshots of a flight recorder, the last when a task panics: FILE.0, FILE.1, FILE.
pub(crate) fn flight(file: &Path) -> io::Result<()> {
    let recorder = bast::trace::FlightRecorder::new()
        .age(Duration::from_secs(2))
        .start()?;
    recorder.snapshot_on_panic(file);
    beside_load(READABLE, || {
        thread::sleep(Duration::from_millis(300));
        recorder.snapshot(File::create(beside(file, ".0"))?)?;
        thread::sleep(Duration::from_millis(4000));
        let late = recorder.snapshot_if_late(
            Duration::from_secs(1),
            Duration::from_millis(1),
            beside(file, ".1"),
        )?;
        assert!(late, "it was the first to be late");
        let panicked = on_runtime(1, || spawn(|| panic!("as planned")).join().is_err())?;
        assert!(panicked, "it was to panic");
        Ok(())
    })
}
