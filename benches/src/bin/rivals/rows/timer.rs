//! A connection's deadline that moves on with every request.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, nanos_each};
use crate::system::System;
use bast::net::{TcpListener, TcpStream};
use std::future::Future;
use std::io::{Read, Write};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

const RESETS: usize = 1_000_000;
const AWAY: Duration = Duration::from_secs(10);

pub(super) const RESET: Row = Row {
    name: "timer_reset",
    about: "a deadline is moved to now + 10 s, 1M times",
    note: "bast, go: the read deadline of a TCP connection; tokio: a registered Sleep; may has none",
    metrics: &[Metric::new("", "ns/reset")],
    systems: &[System::Bast, System::Go, System::Tokio],
    work: Work::Alone(reset),
};

pub(super) const RESET_WAITED: Row = Row {
    name: "timer_reset_waited",
    about: "as timer_reset, while another task waits in read with that deadline",
    note: "tokio, may: a deadline belongs to the task that waits, no other can move it",
    metrics: &[Metric::new("", "ns/reset")],
    systems: &[System::Bast, System::Go],
    work: Work::Alone(reset_waited),
};

fn reset(run: &Run) -> Values {
    let resets = run.count(RESETS);
    match run.system {
        System::Bast => run.bast(|| {
            let (stream, _peer) = pair();
            let start = Instant::now();
            for _ in 0..resets {
                stream.set_read_deadline(Some(Instant::now() + AWAY));
            }
            vec![nanos_each(start, resets)]
        }),
        System::Tokio => run.tokio(move || async move {
            let mut sleep = pin!(tokio::time::sleep(AWAY));
            // Registers it: until its first poll a Sleep is in no wheel.
            std::future::poll_fn(|context| {
                assert!(sleep.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            let start = Instant::now();
            for _ in 0..resets {
                sleep.as_mut().reset(tokio::time::Instant::now() + AWAY);
            }
            vec![nanos_each(start, resets)]
        }),
        system => not_for(system),
    }
}

fn reset_waited(run: &Run) -> Values {
    let resets = run.count(RESETS);
    match run.system {
        System::Bast => run.bast(|| {
            let (stream, mut peer) = pair();
            let stream = Arc::new(stream);
            stream.set_read_deadline(Some(Instant::now() + AWAY));
            let reader = bast::spawn({
                let stream = Arc::clone(&stream);
                move || {
                    (&*stream)
                        .read(&mut [0])
                        .expect("a byte comes before the deadline")
                }
            });
            bast::time::sleep(Duration::from_millis(5));
            let start = Instant::now();
            for _ in 0..resets {
                stream.set_read_deadline(Some(Instant::now() + AWAY));
            }
            let nanos = nanos_each(start, resets);
            peer.write_all(b"x").expect("the pair is connected");
            assert_eq!(reader.join().expect("the reader ends well"), 1);
            vec![nanos]
        }),
        system => not_for(system),
    }
}

/// Two ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let peer = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("somebody listens");
    let (stream, _) = listener.accept().expect("somebody connects");
    (stream, peer)
}
