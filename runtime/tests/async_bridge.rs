//! Between tasks and `async` code: futures of bast on executors written here and on tokio's, and futures of tokio in tasks.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests check and drive from outside"
)]

mod chan_util;

use bast::block_on;
use bast::sync::channel::{self, Receiver, RecvError, Sender, TryRecvError, bounded, rendezvous, unbounded};
use chan_util::{PROCESSORS, everywhere, start_with};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor on one thread: a queue of jobs that were woken.
#[derive(Default)]
struct Executor {
    queue: Mutex<VecDeque<Arc<Entry>>>,
    changed: Condvar,
    alive: AtomicUsize,
}

struct Entry {
    job: Mutex<Option<Job>>,
    executor: Arc<Executor>,
}

impl Wake for Entry {
    fn wake(self: Arc<Self>) {
        let executor = Arc::clone(&self.executor);
        executor.queue.lock().unwrap().push_back(self);
        executor.changed.notify_one();
    }
}

impl Executor {
    fn add(self: &Arc<Self>, job: impl Future<Output = ()> + Send + 'static) {
        self.alive.fetch_add(1, SeqCst);
        let entry = Entry {
            job: Mutex::new(Some(Box::pin(job))),
            executor: Arc::clone(self),
        };
        Arc::new(entry).wake();
    }

    /// Until all jobs are done.
    fn run(&self) {
        while self.alive.load(SeqCst) > 0 {
            let mut queue = self.queue.lock().unwrap();
            let entry = loop {
                match queue.pop_front() {
                    Some(entry) => break entry,
                    None => queue = self.changed.wait(queue).unwrap(),
                }
            };
            drop(queue);
            let waker = Waker::from(Arc::clone(&entry));
            let mut job = entry.job.lock().unwrap();
            let Some(future) = job.as_mut() else { continue };
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                *job = None;
                self.alive.fetch_sub(1, SeqCst);
            }
        }
    }
}

fn each_flavour<T>(test: impl Fn(Sender<T>, Receiver<T>)) {
    for (sender, receiver) in [rendezvous(), bounded(1), bounded(3), unbounded()] {
        test(sender, receiver);
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn futures_and_tasks_receive_side_by_side() {
    everywhere(|go| {
        let rounds = go.rounds(2_000);
        each_flavour(|sender, receiver: Receiver<usize>| {
            let consumers: Vec<_> = (0..4)
                .map(|id| {
                    let receiver = receiver.clone();
                    go.spawn(move || match id % 2 {
                        0 => receiver.iter().sum::<usize>(),
                        _ => block_on(async {
                            let mut sum = 0;
                            while let Ok(value) = receiver.recv_async().await {
                                sum += value;
                            }
                            sum
                        }),
                    })
                })
                .collect();
            (0..rounds).for_each(|n| sender.send(n).unwrap());
            drop(sender);
            let sum: usize = consumers.into_iter().map(|consumer| consumer.join()).sum();
            assert_eq!(sum, rounds * (rounds - 1) / 2);
        });
    });
}

#[test]
fn many_futures_on_one_thread() {
    everywhere(|go| {
        let rounds = go.rounds(2_000);
        each_flavour(|sender, receiver: Receiver<usize>| {
            let sum = Arc::new(AtomicUsize::new(0));
            let executor = Arc::new(Executor::default());
            for _ in 0..50 {
                let (receiver, sum) = (receiver.clone(), Arc::clone(&sum));
                executor.add(async move {
                    while let Ok(value) = receiver.recv_async().await {
                        sum.fetch_add(value, SeqCst);
                    }
                });
            }
            let producers: Vec<_> = (0..2)
                .map(|_| {
                    let sender = sender.clone();
                    go.spawn(move || (0..rounds).for_each(|n| sender.send(n).unwrap()))
                })
                .collect();
            drop(sender);
            let executing = std::thread::spawn(move || executor.run());
            producers.into_iter().for_each(|producer| producer.join());
            executing.join().unwrap();
            assert_eq!(sum.load(SeqCst), rounds * (rounds - 1));
        });
    });
}

/// A job whose waker polls it on the spot, wherever it is woken: so wakers are woken where code of bast may be called.
struct Inline(Mutex<Option<Job>>);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let Some(mut job) = self.0.lock().unwrap().take() else {
            return; // it is being polled, further down this stack
        };
        let waker = Waker::from(Arc::clone(&self));
        if job.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            *self.0.lock().unwrap() = Some(job);
        }
    }
}

#[test]
fn a_waker_may_call_into_bast() {
    everywhere(|go| {
        each_flavour(|sender, receiver: Receiver<u32>| {
            let (on, last) = unbounded();
            let job = async move {
                while let Ok(value) = receiver.recv_async().await {
                    bast::task::yield_now();
                    on.send(value).unwrap();
                }
            };
            let inline = Arc::new(Inline(Mutex::new(Some(Box::pin(job)))));
            Arc::clone(&inline).wake();
            let sending = go.spawn(move || {
                for value in 0..10 {
                    sender.send(value).unwrap(); // runs the job, if it waits
                }
                sender
            });
            let received: Vec<_> = (0..10).map(|_| last.recv().unwrap()).collect();
            assert_eq!(received, Vec::from_iter(0..10));
            drop(sending.join());
            assert_eq!(last.recv(), Err(RecvError), "the job has heard of the end");
        });
    });
}

/// A future that is dropped when the value has come gives it back: to be received next.
#[test]
fn a_dropped_future_gives_its_value_back() {
    each_flavour(|sender, receiver: Receiver<u32>| {
        let mut future = receiver.recv_async();
        assert!(poll_once(&mut future).is_pending());
        sender.send(1).unwrap(); // into its hands
        let second = sender.try_send(2).is_ok();
        assert_eq!(second, sender.capacity() != Some(0));
        let before = receiver.len();
        drop(future);
        assert_eq!(receiver.len(), before + 1);
        assert_eq!(
            receiver.is_full(),
            receiver.capacity().is_some_and(|n| n <= before + 1)
        );
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(
            receiver.try_recv(),
            if second { Ok(2) } else { Err(TryRecvError::Empty) }
        );
    });
}

/// ... or goes to a future that waits, or is received after a close; several come back in whatever order, none is lost.
#[test]
fn what_is_given_back_goes_on() {
    each_flavour(|sender, receiver: Receiver<u32>| {
        let (mut first, mut second) = (receiver.recv_async(), receiver.recv_async());
        assert!(poll_once(&mut first).is_pending());
        assert!(poll_once(&mut second).is_pending());
        sender.send(1).unwrap();
        drop(first);
        assert_eq!(poll_once(&mut second), Poll::Ready(Ok(1)));
        let mut several: Vec<_> = (0..5).map(|_| receiver.recv_async()).collect();
        several
            .iter_mut()
            .for_each(|future| assert!(poll_once(future).is_pending()));
        (0..5).for_each(|value| sender.send(value).unwrap());
        drop(several);
        drop(sender);
        let mut values: Vec<_> = receiver.iter().collect();
        values.sort_unstable();
        assert_eq!(values, [0, 1, 2, 3, 4]);
    });
}

/// Futures that are dropped at any moment, against senders: each value is received once.
#[test]
fn futures_come_and_go() {
    everywhere(|go| {
        let rounds = go.rounds(2_000);
        each_flavour(|sender, receiver: Receiver<usize>| {
            let consumers: Vec<_> = (0..3)
                .map(|id| {
                    let receiver = receiver.clone();
                    go.spawn(move || {
                        let mut got = Vec::new();
                        for turn in id.. {
                            let mut future = receiver.recv_async();
                            if let Poll::Ready(value) = poll_once(&mut future) {
                                let Ok(value) = value else { break };
                                got.push(value);
                                continue;
                            }
                            (0..turn % 3).for_each(|_| bast::task::yield_now());
                            if turn % 2 == 0 {
                                drop(future);
                            } else {
                                match block_on(future) {
                                    Ok(value) => got.push(value),
                                    Err(_) => break,
                                }
                            }
                        }
                        got
                    })
                })
                .collect();
            drop(receiver);
            let producer = go.spawn(move || (0..rounds).for_each(|n| sender.send(n).unwrap()));
            let mut got: Vec<_> = consumers
                .into_iter()
                .flat_map(|consumer| consumer.join())
                .collect();
            producer.join();
            got.sort_unstable();
            assert_eq!(got, Vec::from_iter(0..rounds));
        });
    });
}

#[test]
fn moments_can_be_awaited() {
    everywhere(|go| {
        go.spawn(|| {
            let begun = Instant::now();
            let tick = channel::tick(Duration::from_millis(2));
            block_on(async {
                channel::after(Duration::from_millis(3))
                    .recv_async()
                    .await
                    .unwrap();
                let first = tick.recv_async().await.unwrap();
                assert!(tick.recv_async().await.unwrap() > first);
            });
            assert!(begun.elapsed() >= Duration::from_millis(3));
            let (context, canceller) = bast::context::Context::background().with_cancel();
            let done = context.done();
            let mut waiting = done.recv_async();
            assert!(poll_once(&mut waiting).is_pending());
            canceller.cancel();
            assert_eq!(block_on(waiting), Err(RecvError));
            let late = bast::context::Context::background()
                .with_timeout(Duration::from_millis(2))
                .done();
            assert_eq!(block_on(late.recv_async()), Err(RecvError));
            assert!(poll_once(&mut channel::never::<u32>().recv_async()).is_pending());
        })
        .join();
    });
}

#[test]
fn a_join_handle_is_a_future() {
    for processors in PROCESSORS {
        let runtime = start_with(processors);
        runtime.run(|| {
            for _ in 0..500 {
                let (send, wait) = bounded::<u32>(1);
                let task = bast::spawn(move || wait.recv().unwrap() + 1);
                let joined = bast::spawn(move || block_on(task).unwrap());
                send.send(1).unwrap();
                assert_eq!(joined.join().unwrap(), 2);
            }
            let error = block_on(bast::spawn(|| std::panic::resume_unwind(Box::new("no")))).unwrap_err();
            assert!(error.is_panic());
            // Polled, changed to another executor, done.
            let (send, wait) = bounded::<u32>(1);
            let mut future = bast::spawn(move || wait.recv().unwrap()).into_future();
            assert!(poll_once(&mut future).is_pending());
            assert!(poll_once(&mut future).is_pending());
            send.send(3).unwrap();
            assert_eq!(block_on(future).unwrap(), 3);
        });
    }
}

/// Dropping the future detaches the task, whenever that is; the result of a task that nobody joins is dropped once.
#[test]
fn a_dropped_join_detaches() {
    for processors in PROCESSORS {
        let runtime = start_with(processors);
        let alive = Arc::new(());
        runtime.run(|| {
            let over = Arc::new(bast::sync::WaitGroup::new());
            for turn in 0..1_000 {
                let (value, member) = (Arc::clone(&alive), over.member());
                let mut future = bast::spawn(move || {
                    drop(member);
                    value
                })
                .into_future();
                if turn % 2 == 0 {
                    let polled = poll_once(&mut future);
                    (0..turn % 3).for_each(|_| bast::task::yield_now());
                    drop(polled);
                }
                drop(future);
            }
            over.wait();
        });
        drop(runtime);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

/// The runtime ends before the task: the future hears of it, on its own thread.
#[test]
fn a_join_outlives_the_runtime() {
    let runtime = start_with(1);
    let (sender, receiver) = rendezvous::<u32>();
    let handle = runtime.run(move || {
        let handle = bast::spawn(move || receiver.recv());
        bast::task::yield_now();
        handle
    });
    let waiting = std::thread::spawn(move || block_on(handle));
    drop(runtime);
    assert!(waiting.join().unwrap().unwrap_err().is_shutdown());
    drop(sender);
}

/// A waker that panics harms neither the task that ends nor its worker.
#[test]
fn a_waker_that_panics() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("a bad waker"));
        }
    }
    let runtime = start_with(1);
    runtime.run(|| {
        let (send, wait) = bounded::<u32>(1);
        let mut future = bast::spawn(move || wait.recv().unwrap()).into_future();
        let waker = Waker::from(Arc::new(Bad));
        assert!(
            Pin::new(&mut future)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        send.send(5).unwrap();
        let task = bast::spawn(|| 6);
        assert_eq!(task.join().unwrap(), 6);
        assert_eq!(block_on(future).unwrap(), 5);
    });
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap()
}

/// Tasks of bast send, tasks of tokio await; some of these give up all the time.
#[test]
fn tokio_receives_from_bast() {
    let tokio = tokio_runtime();
    everywhere(|go| {
        let rounds = go.rounds(2_000);
        each_flavour(|sender, receiver: Receiver<usize>| {
            let consumers: Vec<_> = (0..4)
                .map(|id| {
                    let receiver = receiver.clone();
                    tokio.spawn(async move {
                        let mut sum = 0;
                        loop {
                            let next = if id % 2 == 0 {
                                receiver.recv_async().await
                            } else {
                                let limit = Duration::from_micros(50);
                                match tokio::time::timeout(limit, receiver.recv_async()).await {
                                    Ok(next) => next,
                                    Err(_) => continue,
                                }
                            };
                            match next {
                                Ok(value) => sum += value,
                                Err(RecvError) => return sum,
                            }
                        }
                    })
                })
                .collect();
            let producer = go.spawn(move || (0..rounds).for_each(|n| sender.send(n).unwrap()));
            producer.join();
            let sum: usize = consumers
                .into_iter()
                .map(|consumer| tokio.block_on(consumer).unwrap())
                .sum();
            assert_eq!(sum, rounds * (rounds - 1) / 2);
        });
    });
}

/// A task of bast awaits tokio's, and tokio's await tasks of bast.
#[test]
fn tasks_and_tokio_await_each_other() {
    let tokio = tokio_runtime();
    for processors in PROCESSORS {
        let runtime = start_with(processors);
        let handle = runtime.handle();
        let sum = runtime.run(|| {
            let tasks: Vec<_> = (0..100)
                .map(|n| {
                    let (tokio, bast) = (tokio.handle().clone(), handle.clone());
                    bast::spawn(move || {
                        let awaiting = tokio.spawn(async move {
                            tokio::task::yield_now().await;
                            bast.spawn(move || n + 1).unwrap().await.unwrap() + 1
                        });
                        block_on(awaiting).unwrap()
                    })
                })
                .collect();
            tasks.into_iter().map(|task| task.join().unwrap()).sum::<usize>()
        });
        assert_eq!(sum, 99 * 50 + 200);
    }
}

/// While a task waits for a future its only worker runs others; a wake from a thread comes through.
#[test]
fn block_on_parks_only_the_task() {
    let runtime = start_with(1);
    runtime.run(|| {
        let shared = Arc::new((AtomicBool::new(false), Mutex::new(None::<Waker>)));
        let waiting = bast::spawn({
            let shared = Arc::clone(&shared);
            move || {
                block_on(poll_fn(|context| {
                    *shared.1.lock().unwrap() = Some(context.waker().clone());
                    if shared.0.load(SeqCst) {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                }));
            }
        });
        let waker = loop {
            if let Some(waker) = shared.1.lock().unwrap().take() {
                break waker;
            }
            bast::task::yield_now(); // to the other task, and back although that waits
        };
        waker.wake_by_ref(); // for nothing
        bast::task::yield_now();
        shared.0.store(true, SeqCst);
        std::thread::spawn(move || waker.wake());
        waiting.join().unwrap();
    });
}
