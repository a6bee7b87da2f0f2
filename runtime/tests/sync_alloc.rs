//! No call of `sync` allocates in order to wait: seen by counting what the process allocates.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::select;
use bast::sync::channel::{bounded, never, rendezvous, unbounded};
use bast::sync::{Barrier, Condvar, Mutex, Notify, RwLock, Semaphore, WaitGroup};
use chan_util::{Go, LONG, everywhere};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, and how often it was asked.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go on to the system's allocator as they come.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Relaxed);
        // SAFETY: as our caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as our caller says.
        unsafe { System.dealloc(place, layout) };
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Relaxed);
        // SAFETY: as our caller says.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What two parties do, `rounds` times, waiting for each other in every round.
type Party = Box<dyn FnOnce(usize) + Send>;

/// How often the process allocates while two parties do so many rounds.
fn asked_in(go: &Go, rounds: usize, make: &(dyn Fn() -> [Party; 2] + Sync)) -> usize {
    let before = ASKED.load(Relaxed);
    let parties = make().map(|party| go.spawn(move || party(rounds)));
    for party in parties {
        party.join();
    }
    ASKED.load(Relaxed) - before
}

/// Many rounds allocate as much as few, but for what the process does beside it: a worker more, a list that grows.
fn waits_without_allocating(what: &str, make: &(dyn Fn() -> [Party; 2] + Sync)) {
    const FEW: usize = 100;
    const MANY: usize = 4100;
    everywhere(|go| {
        let few = asked_in(go, FEW, make);
        let many = asked_in(go, MANY, make);
        let beside = (MANY - FEW) / 10;
        assert!(
            many < few + beside,
            "{what}: {few} allocations in {FEW} rounds, {many} in {MANY}"
        );
    });
}

fn parties(a: impl FnOnce(usize) + Send + 'static, b: impl FnOnce(usize) + Send + 'static) -> [Party; 2] {
    [Box::new(a), Box::new(b)]
}

/// All in one test: the count is the process's.
#[test]
fn waits_do_not_allocate() {
    a_wait_that_allocates_is_seen();
    channels();
    selects();
    locks();
    meetings();
}

/// The check can fail.
fn a_wait_that_allocates_is_seen() {
    let make: &(dyn Fn() -> [Party; 2] + Sync) = &|| {
        let boxes = |rounds| (0..rounds).for_each(|n| drop(std::hint::black_box(Box::new(n))));
        parties(boxes, boxes)
    };
    let few = asked_in(&Go::Threads, 100, make);
    let many = asked_in(&Go::Threads, 1100, make);
    assert!(many >= few + 1900, "{few} and {many}");
}

fn channels() {
    for capacity in [Some(0), Some(1), None] {
        waits_without_allocating(&format!("recv, capacity {capacity:?}"), &|| {
            let make = move || capacity.map_or_else(unbounded, bounded);
            let ((ask, asked), (answer, answered)) = (make(), make());
            parties(
                move |rounds| {
                    for n in 0..rounds {
                        ask.send(n).unwrap();
                        assert_eq!(answered.recv(), Ok(n));
                    }
                },
                move |rounds| {
                    for _ in 0..rounds {
                        answer.send(asked.recv().unwrap()).unwrap();
                    }
                },
            )
        });
    }
    waits_without_allocating("send and recv with limits", &|| {
        let (sender, receiver) = bounded(1);
        parties(
            move |rounds| (0..rounds).for_each(|n| sender.send_timeout(n, LONG).unwrap()),
            move |rounds| (0..rounds).for_each(|n| assert_eq!(receiver.recv_timeout(LONG), Ok(n))),
        )
    });
}

fn selects() {
    waits_without_allocating("select", &|| {
        let (a, from_a) = rendezvous();
        let (b, from_b) = rendezvous();
        parties(
            move |rounds| {
                for n in 0..rounds {
                    select! { send(a, n) -> sent => sent.unwrap(), send(b, n) -> sent => sent.unwrap() }
                }
            },
            move |rounds| {
                for n in 0..rounds {
                    let got = select! {
                        recv(from_a) -> got => got,
                        recv(from_b) -> got => got,
                        recv(never::<u8>()) -> _ => unreachable!(),
                        default(LONG) => unreachable!(),
                    };
                    assert_eq!(got, Ok(n));
                }
            },
        )
    });
}

/// A holder that gives up its processor makes the other one wait.
fn locks() {
    waits_without_allocating("Mutex", &|| {
        let mutex = Arc::new(Mutex::new(0));
        let party = move |mutex: Arc<Mutex<usize>>| {
            move |rounds| {
                for _ in 0..rounds {
                    let mut held = mutex.lock().unwrap();
                    bast::task::yield_now();
                    *held += 1;
                }
            }
        };
        parties(party(mutex.clone()), party(mutex))
    });
    waits_without_allocating("RwLock", &|| {
        let lock = Arc::new(RwLock::new(0));
        let theirs = lock.clone();
        parties(
            move |rounds| {
                for _ in 0..rounds {
                    let mut held = lock.write().unwrap();
                    bast::task::yield_now();
                    *held += 1;
                }
            },
            move |rounds| {
                for _ in 0..rounds {
                    let held = theirs.read().unwrap();
                    bast::task::yield_now();
                    drop(held);
                }
            },
        )
    });
    waits_without_allocating("Semaphore", &|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let party = move |semaphore: Arc<Semaphore>| {
            move |rounds| {
                for _ in 0..rounds {
                    let _permits = semaphore.acquire_many(2);
                    bast::task::yield_now();
                }
            }
        };
        parties(party(semaphore.clone()), party(semaphore))
    });
}

fn meetings() {
    waits_without_allocating("Condvar", &|| {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let party = |me: usize, shared: Arc<(Mutex<usize>, Condvar)>| {
            move |rounds| {
                for _ in 0..rounds {
                    let held = shared.0.lock().unwrap();
                    let mut held = shared.1.wait_while(held, |turn| *turn % 2 != me).unwrap();
                    *held += 1;
                    shared.1.notify_one();
                }
            }
        };
        parties(party(0, shared.clone()), party(1, shared))
    });
    waits_without_allocating("Barrier", &|| {
        let barrier = Arc::new(Barrier::new(2));
        let party = |barrier: Arc<Barrier>| {
            move |rounds| {
                for _ in 0..rounds {
                    barrier.wait();
                }
            }
        };
        parties(party(barrier.clone()), party(barrier))
    });
    waits_without_allocating("Notify", &|| {
        let bells = Arc::new((Notify::new(), Notify::new()));
        let theirs = bells.clone();
        parties(
            move |rounds| {
                for _ in 0..rounds {
                    bells.0.notify_one();
                    bells.1.wait();
                }
            },
            move |rounds| {
                for _ in 0..rounds {
                    theirs.0.wait();
                    theirs.1.notify_one();
                }
            },
        )
    });
    waits_without_allocating("WaitGroup", &|| {
        let (group, (go_on, told)) = (Arc::new(WaitGroup::new()), rendezvous());
        let theirs = group.clone();
        parties(
            move |rounds| {
                for _ in 0..rounds {
                    group.add(1);
                    go_on.send(()).unwrap();
                    group.wait();
                }
            },
            move |rounds| {
                for _ in 0..rounds {
                    told.recv().unwrap();
                    bast::task::yield_now();
                    theirs.done();
                }
            },
        )
    });
}
