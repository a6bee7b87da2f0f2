//! Tasks with entry functions of all kinds. In Go's tools the tasks of one name are a group; `.ci/check-names` and the
//! tests say which groups there must be.

use super::loads::join_all;
use bast::sync::channel::{Receiver, bounded};
use bast::{JoinHandle, spawn};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static GATE: OnceLock<Receiver<()>> = OnceLock::new();
static ARRIVED: AtomicUsize = AtomicUsize::new(0);

/// Waits until all others wait as well.
fn pass() {
    ARRIVED.fetch_add(1, Ordering::Relaxed);
    assert!(GATE.get().expect("set before").recv().is_err());
}

pub(crate) fn all() {
    let (open, gate) = bounded(1);
    GATE.set(gate).expect("one load a process");
    let mut tasks = closures();
    tasks.extend(others());
    tasks.push(Server::serve());
    while ARRIVED.load(Ordering::Relaxed) < tasks.len() {
        bast::task::yield_now();
    }
    bast::time::sleep(Duration::from_millis(20)); // a wait that profiles can show
    drop(open);
    join_all(tasks);
}

/// Four closures: one a thousand times, another one, and two through one line of a helper.
fn closures() -> Vec<JoinHandle<()>> {
    let mut tasks: Vec<_> = (0..1000)
        .map(|_| {
            spawn(|| {
                pass();
            })
        })
        .collect();
    tasks.push(spawn(|| {
        pass();
        bast::task::yield_now();
    }));
    tasks.push(helped(|| {
        pass();
    }));
    tasks.push(helped(|| bast::trace::region("waits", pass)));
    tasks
}

fn helped(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    spawn(body)
}

/// What is no closure.
fn others() -> [JoinHandle<()>; 7] {
    let boxed: Box<dyn FnOnce() + Send> = Box::new(pass);
    [
        spawn(pass),
        helped(pass),
        spawn(generic::<(u8, u16)>),
        spawn(generic::<Vec<u8>>),
        spawn(<Server as Handler>::handle),
        spawn(pass as fn()),
        spawn(boxed),
    ]
}

fn generic<T>() {
    pass();
    std::hint::black_box(size_of::<T>());
}

struct Server;

impl Server {
    fn serve() -> JoinHandle<()> {
        spawn(|| {
            pass();
        })
    }
}

trait Handler {
    fn handle();
}

impl Handler for Server {
    fn handle() {
        pass();
    }
}
