//! Timers: sleeping, deadlines that move, waits that end before their time.

use crate::How;
use crate::spawning::timed;
use bast::Runtime;
use bast::net::{TcpListener, TcpStream};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) fn operations() -> Vec<(&'static str, usize, How)> {
    vec![
        (
            "100k tasks sleep 1 ms; 1 processor",
            1,
            How::Batch(100_000, sleepers),
        ),
        (
            "100k tasks sleep 1 ms; 2 processors",
            2,
            How::Batch(100_000, sleepers),
        ),
        (
            "insert and cancel",
            1,
            How::Each(|runtime, count| insert_and_cancel(runtime, count, 0)),
        ),
        (
            "insert and cancel among 10k",
            1,
            How::Each(|runtime, count| insert_and_cancel(runtime, count, 10_000)),
        ),
        (
            "move a deadline nobody waits for",
            1,
            How::Batch(1_000_000, move_deadline),
        ),
        (
            "move a deadline somebody waits for",
            1,
            How::Batch(1_000_000, move_deadline_of_a_waiter),
        ),
        ("timeout that is not needed", 1, How::Each(timeouts)),
    ]
}

fn sleepers(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        let tasks: Vec<_> = (0..count)
            .map(|_| bast::spawn(|| bast::time::sleep(Duration::from_millis(1))))
            .collect();
        tasks
            .into_iter()
            .for_each(|task| task.join().unwrap_or_else(|error| panic!("{error}")));
    })
}

/// A park with a time limit that is over at once, beside `others` sleepers.
fn insert_and_cancel(runtime: &Runtime, count: u64, others: u64) -> Duration {
    runtime.run(|| {
        let sleepers: Vec<_> = (0..others)
            .map(|number| bast::spawn(move || sleep_long(number)))
            .collect();
        bast::task::yield_now();
        let me = bast::task::current();
        let began = Instant::now();
        for _ in 0..count {
            me.unpark();
            bast::task::park_timeout(Duration::from_secs(3600));
        }
        let time = began.elapsed();
        sleepers.iter().for_each(|sleeper| sleeper.task().unpark());
        sleepers
            .into_iter()
            .for_each(|task| task.join().unwrap_or_else(|error| panic!("{error}")));
        time
    })
}

fn sleep_long(number: u64) {
    bast::task::park_timeout(Duration::from_secs(1800 + number));
}

fn timeouts(runtime: &Runtime, count: u64) -> Duration {
    timed(runtime, || {
        for number in 0..count {
            let value = bast::time::timeout(Duration::from_secs(3600), || std::hint::black_box(number));
            assert!(value.is_ok());
        }
    })
}

fn pair() -> (TcpStream, TcpStream) {
    let make = || -> std::io::Result<_> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let one = TcpStream::connect(listener.local_addr()?)?;
        Ok((one, listener.accept()?.0))
    };
    make().unwrap_or_else(|error| panic!("no connection: {error}"))
}

fn move_deadline(runtime: &Runtime, count: u64) -> Duration {
    runtime.run(|| {
        let (stream, _other) = pair();
        let far = Instant::now() + Duration::from_secs(3600);
        let began = Instant::now();
        for number in 0..count {
            stream.set_read_deadline(Some(far + Duration::from_nanos(number)));
        }
        began.elapsed()
    })
}

/// As a server does that gives an idle peer another minute with every message.
fn move_deadline_of_a_waiter(runtime: &Runtime, count: u64) -> Duration {
    runtime.run(|| {
        let (stream, mut other) = pair();
        let stream = Arc::new(stream);
        let far = Instant::now() + Duration::from_secs(3600);
        stream.set_read_deadline(Some(far));
        let reader = bast::spawn({
            let stream = Arc::clone(&stream);
            move || (&*stream).read(&mut [0; 1])
        });
        bast::task::yield_now(); // it waits now
        let began = Instant::now();
        for number in 0..count {
            stream.set_read_deadline(Some(far + Duration::from_nanos(number)));
        }
        let time = began.elapsed();
        let sent = other.write_all(&[1]);
        assert!(sent.is_ok(), "{sent:?}");
        let read = reader.join().unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(read, Ok(1)), "{read:?}");
        time
    })
}
