//! Open loop: messages leave on a schedule that does not wait for answers, and lateness counts from the schedule, so
//! that a server's pause is felt by all messages it delays (no coordinated omission).

use super::LoadOptions;
use super::connection::{Connections, receive, send};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// Shorter waits are polled away: waking from a sleep takes longer than that.
const SLEEP_MIN: Duration = Duration::from_micros(60);
/// Answers that are awaited at the end.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(options: &LoadOptions) -> io::Result<()> {
    let mut connections = Connections::open(options)?;
    let mut schedule = Schedule::new(options.rate);
    let mut lateness = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)?;
    let mut under_way: Vec<VecDeque<Duration>> = vec![VecDeque::new(); options.connections];
    let mut partial = vec![0; options.connections];
    let message = vec![7; options.bytes];
    let mut buffer = vec![0; 64 << 10];
    let mut ready = Vec::new();
    let warm_up = options.warm_up();
    let last = warm_up + options.measured();
    let start = Instant::now();
    let (mut sent, mut answered) = (0_usize, 0_usize);
    loop {
        let now = start.elapsed();
        while schedule.due <= now.min(last) {
            let place = sent % options.connections;
            send(&connections.sockets[place], &message)?;
            under_way[place].push_back(schedule.due);
            sent += 1;
            schedule.advance();
        }
        if schedule.due > last && answered == sent {
            break;
        }
        if now > last + PATIENCE {
            return Err(io::Error::other("the server does not keep up with this rate"));
        }
        let pause = schedule.due.saturating_sub(start.elapsed());
        let pause = if pause < SLEEP_MIN {
            Duration::ZERO
        } else {
            pause.min(PATIENCE)
        };
        connections.wait(Some(pause), &mut ready)?;
        for &place in &ready {
            let bytes = partial[place] + receive(&connections.sockets[place], &mut buffer)?;
            let messages = bytes / options.bytes;
            partial[place] = bytes % options.bytes;
            answered += messages;
            let now = start.elapsed();
            for due in under_way[place].drain(..messages) {
                if due >= warm_up {
                    let late = now.saturating_sub(due).as_nanos();
                    lateness.saturating_record(u64::try_from(late).unwrap_or(u64::MAX));
                }
            }
        }
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        println!("{name} {}", lateness.value_at_quantile(quantile) as f64 / 1000.0);
    }
    Ok(())
}

/// Times of a Poisson process, always the same ones.
struct Schedule {
    due: Duration,
    mean_gap: f64,
    random: u64,
}

impl Schedule {
    fn new(rate: f64) -> Schedule {
        Schedule {
            due: Duration::ZERO,
            mean_gap: 1.0 / rate,
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }

    fn advance(&mut self) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let uniform = ((self.random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64; // in (0, 1]
        self.due += Duration::from_secs_f64(-uniform.ln() * self.mean_gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_keeps_its_rate() {
        let mut schedule = Schedule::new(10_000.0);
        (0..100_000).for_each(|_| schedule.advance());
        let seconds = schedule.due.as_secs_f64();
        assert!((9.8..10.2).contains(&seconds), "{seconds}");
    }
}
