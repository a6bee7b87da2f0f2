//! What several tasks do to one connection: close it, move its deadlines, share its ends.

use crate::tcp::pair;
use bast::net::TcpStream;
use bast_examples::stress::tools::{Ground, Latch, Rng};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Readers and a writer that wait on a stream when another task closes it: all come back with an error.
pub(crate) fn close(ground: Ground, rng: &mut Rng) {
    let readers = 1 + rng.below(4);
    ground.kind.start(readers + 1);
    let (one, other) = pair(ground, rng);
    let one = Arc::new(one);
    let mut tasks: Vec<_> = (0..readers)
        .map(|_| {
            let stream = Arc::clone(&one);
            bast::spawn(move || {
                let error = (&*stream).read(&mut [0; 16]);
                let kind = error.map_err(|error| error.kind());
                ground.same(kind, Err(ErrorKind::NotConnected), "a read of a closed stream");
                ground.kind.finish(1);
            })
        })
        .collect();
    let stream = Arc::clone(&one);
    tasks.push(bast::spawn(move || {
        let bytes = vec![0; 64 << 10];
        // Nobody reads at the other end, so this waits sooner or later.
        let kind = loop {
            if let Err(error) = (&*stream).write_all(&bytes) {
                break error.kind();
            }
        };
        ground.same(kind, ErrorKind::NotConnected, "a write to a closed stream");
        ground.kind.finish(1);
    }));
    pause(rng);
    one.close();
    tasks
        .into_iter()
        .for_each(|task| ground.must(task.join(), "join"));
    drop(other);
}

fn pause(rng: &mut Rng) {
    match rng.below(3) {
        0 => {}
        1 => (0..rng.below(20)).for_each(|_| bast::task::yield_now()),
        _ => bast::time::sleep(rng.micros_below(2000)),
    }
}

/// Deadlines that pass, that move while a read waits, and that are taken back; and data that comes after all.
pub(crate) fn deadline(ground: Ground, rng: &mut Rng) {
    let (one, mut other) = pair(ground, rng);
    let one = Arc::new(one);
    let turns = 1 + rng.below(20);
    ground.kind.start(turns);
    for turn in 0..turns {
        match rng.below(4) {
            0 => passes(ground, &one, rng.micros_below(1500)),
            1 => is_moved(ground, &one, rng),
            2 => {
                let time = rng.micros_below(1500);
                let cut =
                    bast::time::timeout(time, || (&*one).read(&mut [0; 4]).map_err(|error| error.kind()));
                let inside = cut.map_err(bast::time::Elapsed::into_inner);
                ground.same(inside, Err(Err(ErrorKind::TimedOut)), "a read under a timeout");
            }
            _ => {
                let time = Duration::from_micros(1 + rng.below(1500));
                ground.must(one.set_read_timeout(Some(time)), "set_read_timeout");
                let began = Instant::now();
                let kind = (&*one).read(&mut [0; 4]).map_err(|error| error.kind());
                ground.same(kind, Err(ErrorKind::TimedOut), "a read with a timeout of its own");
                ground.check(began.elapsed() >= time, || "the timeout came early".to_owned());
                ground.must(one.set_read_timeout(None), "set_read_timeout");
            }
        }
        one.set_read_deadline(None);
        let mut got = [0];
        if rng.one_in(2) {
            ground.must(other.write_all(&[turn as u8]), "write");
            ground.must((&*one).read_exact(&mut got), "read");
        } else {
            let stream = Arc::clone(&one);
            let reader = bast::spawn(move || {
                let mut got = [0];
                ground.must((&*stream).read_exact(&mut got), "read");
                got
            });
            pause(rng);
            ground.must(other.write_all(&[turn as u8]), "write");
            got = ground.must(reader.join(), "join");
        }
        ground.same(got, [turn as u8], "the byte after the deadline");
        ground.kind.finish(1);
    }
}

fn passes(ground: Ground, stream: &TcpStream, time: Duration) {
    let when = Instant::now() + time;
    stream.set_read_deadline(Some(when));
    let mut reader = stream;
    let kind = reader.read(&mut [0; 4]).map_err(|error| error.kind());
    ground.same(kind, Err(ErrorKind::TimedOut), "a read with a deadline");
    ground.check(Instant::now() >= when, || "the deadline came early".to_owned());
}

fn is_moved(ground: Ground, stream: &Arc<TcpStream>, rng: &mut Rng) {
    stream.set_read_deadline(Some(Instant::now() + Duration::from_secs(3600)));
    let reader = bast::spawn({
        let stream = Arc::clone(stream);
        move || (&*stream).read(&mut [0; 4]).map_err(|error| error.kind())
    });
    for _ in 0..rng.below(100) {
        stream.set_read_deadline(Some(Instant::now() + Duration::from_secs(1 + rng.below(3600))));
        if rng.one_in(16) {
            pause(rng);
        }
    }
    stream.set_read_deadline(Some(Instant::now() + rng.micros_below(300)));
    let kind = ground.must(reader.join(), "join");
    ground.same(kind, Err(ErrorKind::TimedOut), "a read whose deadline moved");
}

/// Several readers and several writers on the two ends of one connection: every byte comes out once.
pub(crate) fn shared(ground: Ground, rng: &mut Rng) {
    let (writers, readers) = (1 + rng.below(4), 1 + rng.below(4));
    ground.kind.start(writers + readers);
    let (one, other) = pair(ground, rng);
    let (one, other) = (Arc::new(one), Arc::new(other));
    let written = Latch::new(writers as usize);
    let mut sent = [0_u64; 4];
    for writer in 0..writers {
        let bytes = rng.below([100, 100_000][rng.clone().below(2) as usize]);
        sent[writer as usize] = bytes;
        let (stream, written, mut rng) = (Arc::clone(&one), written.clone(), rng.split());
        bast::spawn(move || {
            let mut left = bytes as usize;
            while left > 0 {
                let count = (1 + rng.below(3000) as usize).min(left);
                ground.must((&*stream).write_all(&[writer as u8; 3000][..count]), "write");
                left -= count;
                if rng.one_in(16) {
                    pause(&mut rng);
                }
            }
            ground.kind.finish(1);
            written.arrive();
        });
    }
    let reading: Vec<_> = (0..readers)
        .map(|_| {
            let (stream, room) = (Arc::clone(&other), 1 + rng.below(3000) as usize);
            bast::spawn(move || {
                let mut counts = [0_u64; 4];
                let mut buffer = vec![0; room];
                loop {
                    let count = ground.must((&*stream).read(&mut buffer), "read");
                    if count == 0 {
                        break;
                    }
                    buffer[..count]
                        .iter()
                        .for_each(|&writer| counts[writer as usize] += 1);
                }
                ground.kind.finish(1);
                counts
            })
        })
        .collect();
    written.wait();
    ground.must(one.shutdown(Shutdown::Write), "half close");
    let mut received = [0_u64; 4];
    for reader in reading {
        let counts = ground.must(reader.join(), "join");
        received
            .iter_mut()
            .zip(counts)
            .for_each(|(sum, count)| *sum += count);
    }
    ground.same(received, sent, "bytes of each writer");
}
