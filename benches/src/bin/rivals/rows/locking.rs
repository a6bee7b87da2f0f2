//! Locks that several tasks want.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, may_spawn, nanos_each};
use crate::system::System;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

const LOCKS: usize = 4_000_000;
/// Tasks of the row with readers.
const READERS: usize = 8;
/// One in so many is a write.
const WRITE_EVERY: usize = 100;

const LOCK: &[Metric] = &[Metric::new("", "ns/lock")];

const fn mutex(name: &'static str, about: &'static str, measure: fn(&Run) -> Values) -> Row {
    Row {
        name,
        about,
        note: "control: std's Mutex, as many threads",
        metrics: LOCK,
        systems: System::RUNTIMES_AND_CONTROL,
        work: Work::Alone(measure),
    }
}

pub(super) const TWO: Row = mutex(
    "mutex_2",
    "2 tasks lock, add one and unlock, 4M times in all",
    |run| mutex_among(run, 2),
);
pub(super) const EIGHT: Row = mutex(
    "mutex_8",
    "8 tasks lock, add one and unlock, 4M times in all",
    |run| mutex_among(run, 8),
);
pub(super) const SIXTY_FOUR: Row = mutex(
    "mutex_64",
    "64 tasks lock, add one and unlock, 4M times in all",
    |run| mutex_among(run, 64),
);

pub(super) const READ_MOSTLY: Row = Row {
    name: "rwlock_read_mostly",
    about: "8 tasks read under a lock, every 100th time they write, 4M times in all",
    note: "control: std's RwLock, as many threads",
    metrics: LOCK,
    systems: System::RUNTIMES_AND_CONTROL,
    work: Work::Alone(read_mostly),
};

fn mutex_among(run: &Run, tasks: usize) -> Values {
    let each = run.count(LOCKS) / tasks;
    match run.system {
        System::Bast => run.bast(|| {
            let count = Arc::new(bast::sync::Mutex::new(0));
            among(
                tasks,
                each,
                &count,
                bast::spawn,
                |task| task.join().is_ok(),
                move |count| {
                    (0..each).for_each(|_| *count.lock().expect("nobody panics with it") += 1);
                },
            )
        }),
        System::Tokio => run.tokio(move || tokio_mutex(tasks, each)),
        System::May => run.may(move || {
            let count = Arc::new(may::sync::Mutex::new(0));
            among(
                tasks,
                each,
                &count,
                may_spawn,
                |task| task.join().is_ok(),
                move |count| {
                    (0..each).for_each(|_| *count.lock().expect("nobody panics with it") += 1);
                },
            )
        }),
        System::Control => run.plain(|| {
            let count = Arc::new(std::sync::Mutex::new(0));
            among(
                tasks,
                each,
                &count,
                thread::spawn,
                |task| task.join().is_ok(),
                move |count| {
                    (0..each).for_each(|_| *count.lock().expect("nobody panics with it") += 1);
                },
            )
        }),
        system => not_for(system),
    }
}

/// What a party is, for `spawn`.
type Party = Box<dyn FnOnce() + Send>;

/// So many parties, each of which takes the lock so often.
fn among<L: Send + Sync + 'static, H>(
    parties: usize,
    each: usize,
    lock: &Arc<L>,
    spawn: impl Fn(Party) -> H,
    join: impl Fn(H) -> bool,
    party: impl Fn(&L) + Copy + Send + 'static,
) -> Values {
    let start = Instant::now();
    let handles: Vec<_> = (0..parties)
        .map(|_| {
            let lock = Arc::clone(lock);
            spawn(Box::new(move || party(&lock)))
        })
        .collect();
    for handle in handles {
        assert!(join(handle), "a party ends well");
    }
    vec![nanos_each(start, parties * each)]
}

async fn tokio_mutex(tasks: usize, each: usize) -> Values {
    let count = Arc::new(tokio::sync::Mutex::new(0));
    let start = Instant::now();
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                for _ in 0..each {
                    *count.lock().await += 1;
                }
            })
        })
        .collect();
    for handle in handles {
        handle.await.expect("a task ends well");
    }
    vec![nanos_each(start, tasks * each)]
}

/// The body of one party, for locks with std's interface.
macro_rules! reads_and_writes {
    ($lock:expr, $each:expr) => {
        for n in 1..=$each {
            if n % WRITE_EVERY == 0 {
                *$lock.write().expect("nobody panics with it") += 1;
            } else {
                std::hint::black_box(*$lock.read().expect("nobody panics with it"));
            }
        }
    };
}

fn read_mostly(run: &Run) -> Values {
    let each = run.count(LOCKS) / READERS;
    match run.system {
        System::Bast => run.bast(|| {
            let lock = Arc::new(bast::sync::RwLock::new(0));
            among(
                READERS,
                each,
                &lock,
                bast::spawn,
                |task| task.join().is_ok(),
                move |lock| {
                    reads_and_writes!(lock, each);
                },
            )
        }),
        System::Tokio => run.tokio(move || tokio_rwlock(each)),
        System::May => run.may(move || {
            let lock = Arc::new(may::sync::RwLock::new(0));
            among(
                READERS,
                each,
                &lock,
                may_spawn,
                |task| task.join().is_ok(),
                move |lock| {
                    reads_and_writes!(lock, each);
                },
            )
        }),
        System::Control => run.plain(|| {
            let lock = Arc::new(std::sync::RwLock::new(0));
            among(
                READERS,
                each,
                &lock,
                thread::spawn,
                |task| task.join().is_ok(),
                move |lock| {
                    reads_and_writes!(lock, each);
                },
            )
        }),
        system => not_for(system),
    }
}

async fn tokio_rwlock(each: usize) -> Values {
    let lock = Arc::new(tokio::sync::RwLock::new(0));
    let start = Instant::now();
    let handles: Vec<_> = (0..READERS)
        .map(|_| {
            let lock = Arc::clone(&lock);
            tokio::spawn(async move {
                for n in 1..=each {
                    if n % WRITE_EVERY == 0 {
                        *lock.write().await += 1;
                    } else {
                        std::hint::black_box(*lock.read().await);
                    }
                }
            })
        })
        .collect();
    for handle in handles {
        handle.await.expect("a task ends well");
    }
    vec![nanos_each(start, READERS * each)]
}
