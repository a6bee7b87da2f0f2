//! Tasks that tick beside others that never ask the runtime for anything.

use super::{Metric, Row, Work, not_for};
use crate::run::{Run, Values, may_spawn};
use crate::system::System;
use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

const TICKERS: usize = 100;
const PERIOD: Duration = Duration::from_millis(10);
/// Ticks of each ticker in a round: two seconds.
const TICKS: usize = 200;
const BLOCKERS: usize = 100;
/// From the spawn of the first ticker to its first tick.
const HEAD_START: Duration = Duration::from_millis(20);

const METRICS: &[Metric] = &[
    Metric::new("p50", "us late"),
    Metric::new("p99", "us late"),
    Metric::new("p999", "us late"),
];
const NOTE: &str = "a system that lets the noise keep its processors is as late as the round is long (2 s; quick: 0.2 s), \
                    or, where tasks block in turn, as all of them together; \
                    may: what its timer wakes runs on the timer's own thread; control: a thread each, the kernel's own";

pub(super) const HOGS: Row = Row {
    name: "noisy_neighbour_hogs",
    about: "100 tasks tick every 10 ms while one hog a processor computes for the whole time; how late the ticks are",
    note: NOTE,
    metrics: METRICS,
    systems: System::RUNTIMES_AND_CONTROL,
    work: Work::Alone(|run| measure(run, Noise::Hogs)),
};

pub(super) const BLOCKERS_ROW: Row = Row {
    name: "noisy_neighbour_blocked",
    about: "100 tasks tick every 10 ms while 100 others sleep in the kernel for 10 to 50 ms, yield, and sleep again",
    note: NOTE,
    metrics: METRICS,
    systems: System::RUNTIMES_AND_CONTROL,
    work: Work::Alone(|run| measure(run, Noise::Blockers)),
};

#[derive(Clone, Copy, Debug)]
enum Noise {
    Hogs,
    Blockers,
}

/// When who ticks, and until when the noise goes on.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Instant,
    ticks: usize,
    noise: Noise,
    /// How many tasks make it.
    noisy: usize,
}

impl Schedule {
    fn new(run: &Run, noise: Noise) -> Schedule {
        Schedule {
            start: Instant::now() + HEAD_START,
            ticks: run.count(TICKS),
            noise,
            noisy: match noise {
                Noise::Hogs => run.work.processors,
                Noise::Blockers => BLOCKERS,
            },
        }
    }

    /// The tickers' phases are spread over the period. A tick that is late does not move those after it.
    fn due(&self, ticker: usize, tick: usize) -> Instant {
        self.start + PERIOD * ticker as u32 / TICKERS as u32 + PERIOD * tick as u32
    }

    /// When the noise stops by itself, whatever has become of the tickers.
    fn is_over(&self) -> bool {
        Instant::now() >= self.due(0, self.ticks)
    }

    /// Computes, and looks at the clock, until the end. The hog of every system.
    fn hog(&self) {
        while !self.is_over() {
            super::spinning::spin(10 * super::spinning::STEPS_A_MICROSECOND);
        }
    }

    /// How long the noisy task `index` is in the kernel each time.
    fn nap(&self, index: usize) -> Duration {
        Duration::from_micros(10_000 + 40_000 * index as u64 / self.noisy as u64)
    }

    /// One ticker on a stack of its own: how late each tick is, in nanoseconds.
    fn tick(&self, ticker: usize, sleep: impl Fn(Duration)) -> Vec<u64> {
        let late = |tick| {
            let due = self.due(ticker, tick);
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                sleep(wait);
            }
            nanos_late(due)
        };
        (0..self.ticks).map(late).collect()
    }

    /// One noisy task on a stack of its own.
    fn make_noise(&self, index: usize, yield_now: impl Fn()) {
        match self.noise {
            Noise::Hogs => self.hog(),
            Noise::Blockers => {
                while !self.is_over() {
                    thread::sleep(self.nap(index));
                    yield_now();
                }
            }
        }
    }

    async fn tick_on_tokio(self, ticker: usize) -> Vec<u64> {
        let mut late = Vec::with_capacity(self.ticks);
        for tick in 0..self.ticks {
            let due = self.due(ticker, tick);
            tokio::time::sleep_until(due.into()).await;
            late.push(nanos_late(due));
        }
        late
    }

    async fn make_noise_on_tokio(self, index: usize) {
        match self.noise {
            Noise::Hogs => self.hog(),
            Noise::Blockers => {
                while !self.is_over() {
                    thread::sleep(self.nap(index));
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

fn nanos_late(due: Instant) -> u64 {
    let late = Instant::now().saturating_duration_since(due).as_nanos();
    u64::try_from(late).expect("a round is shorter than centuries")
}

/// p50, p99 and p999 in microseconds.
fn quantiles(late: impl Iterator<Item = Vec<u64>>) -> Values {
    let mut late: Vec<u64> = late.flatten().collect();
    late.sort_unstable();
    let at = |per_mille: usize| late[(late.len() - 1) * per_mille / 1000] as f64 / 1e3;
    vec![at(500), at(990), at(999)]
}

/// Spawns all tasks by `ticker` and `noise`, which give what joins them.
fn round<T, N, E>(plan: &Schedule, ticker: impl Fn(usize) -> T, noise: impl Fn(usize) -> N) -> Values
where
    T: FnOnce() -> Result<Vec<u64>, E>,
    N: FnOnce() -> Result<(), E>,
    E: Debug,
{
    let tickers = Vec::from_iter((0..TICKERS).map(ticker));
    let noisy = Vec::from_iter((0..plan.noisy).map(noise));
    let late = Vec::from_iter(
        tickers
            .into_iter()
            .map(|join| join().expect("a ticker ends well")),
    );
    noisy
        .into_iter()
        .for_each(|join| join().expect("the noise ends well"));
    quantiles(late.into_iter())
}

fn measure(run: &Run, noise: Noise) -> Values {
    let run = *run;
    match run.system {
        System::Bast => run.bast(|| {
            let plan = Schedule::new(&run, noise);
            round(
                &plan,
                |ticker| {
                    let task = bast::spawn(move || plan.tick(ticker, bast::time::sleep));
                    || task.join()
                },
                |index| {
                    let task = bast::spawn(move || plan.make_noise(index, bast::task::yield_now));
                    || task.join()
                },
            )
        }),
        System::Tokio => run.tokio(move || on_tokio(Schedule::new(&run, noise))),
        System::May => run.may(move || {
            let plan = Schedule::new(&run, noise);
            round(
                &plan,
                |ticker| {
                    let task = may_spawn(move || plan.tick(ticker, may::coroutine::sleep));
                    || task.join()
                },
                |index| {
                    let task = may_spawn(move || plan.make_noise(index, may::coroutine::yield_now));
                    || task.join()
                },
            )
        }),
        System::Control => run.plain(|| {
            let plan = Schedule::new(&run, noise);
            round(
                &plan,
                |ticker| {
                    let task = thread::spawn(move || plan.tick(ticker, thread::sleep));
                    || task.join()
                },
                |index| {
                    let task = thread::spawn(move || plan.make_noise(index, thread::yield_now));
                    || task.join()
                },
            )
        }),
        system => not_for(system),
    }
}

async fn on_tokio(plan: Schedule) -> Values {
    let tickers = Vec::from_iter((0..TICKERS).map(|ticker| tokio::spawn(plan.tick_on_tokio(ticker))));
    let noisy = Vec::from_iter((0..plan.noisy).map(|index| tokio::spawn(plan.make_noise_on_tokio(index))));
    let mut late = Vec::with_capacity(TICKERS);
    for task in tickers {
        late.push(task.await.expect("a ticker ends well"));
    }
    for task in noisy {
        task.await.expect("the noise ends well");
    }
    quantiles(late.into_iter())
}
