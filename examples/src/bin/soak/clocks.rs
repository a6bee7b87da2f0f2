//! Time: sleeps, timeouts, intervals. Nothing here expects to be quick; only what comes too early is wrong.

use bast::task::{park, park_timeout};
use bast::time::{Missed, interval, sleep, sleep_until, timeout};
use bast_examples::stress::tools::{Ground, Rng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Many sleepers, and some parks that are cut short by time or by a waker.
pub(crate) fn timers(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(if rng.clone().one_in(10) { 1500 } else { 100 });
    ground.kind.start(count);
    let longest = [50, 1000, 20_000][rng.below(3) as usize];
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let time = rng.micros_below(longest);
            let how = rng.below(3);
            bast::spawn(move || {
                let began = Instant::now();
                match how {
                    0 => sleep(time),
                    1 => sleep_until(began + time),
                    _ => {
                        while began.elapsed() < time {
                            park_timeout(time - began.elapsed().min(time));
                        }
                    }
                }
                let slept = began.elapsed();
                ground.check(slept >= time, || format!("slept {slept:?} instead of {time:?}"));
                ground.kind.finish(1);
            })
        })
        .collect();
    tasks
        .into_iter()
        .for_each(|task| ground.must(task.join(), "join"));
}

/// Deadlines on pieces of code: nested, on parks, on sleeps, on joins.
pub(crate) fn timeouts(ground: Ground, rng: &mut Rng) {
    let count = 1 + rng.below(40);
    ground.kind.start(count);
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let mut rng = rng.split();
            bast::spawn(move || {
                match number % 5 {
                    0 => cuts_a_sleep(ground, &mut rng),
                    1 => leaves_what_is_quick(ground, number),
                    2 => cuts_the_outer(ground, &mut rng),
                    3 => cuts_a_join(ground, &mut rng),
                    _ => gives_handles_back(ground, number, &mut rng),
                }
                ground.kind.finish(1);
            })
        })
        .collect();
    tasks
        .into_iter()
        .for_each(|task| ground.must(task.join(), "join"));
}

fn cuts_a_sleep(ground: Ground, rng: &mut Rng) {
    let time = rng.micros_below(3000);
    let began = Instant::now();
    let cut = timeout(time, || {
        sleep(Duration::from_secs(3600));
        7
    });
    ground.check(began.elapsed() >= time, || "the timeout came early".to_owned());
    ground.same(
        cut.map_err(bast::time::Elapsed::into_inner),
        Err(7),
        "a sleep that was cut",
    );
    sleep(Duration::from_micros(10)); // the deadline is gone
}

fn leaves_what_is_quick(ground: Ground, number: u64) {
    let value = timeout(Duration::from_secs(3600), || {
        sleep(Duration::from_micros(number));
        number
    });
    ground.same(value.ok(), Some(number), "a long timeout");
}

fn cuts_the_outer(ground: Ground, rng: &mut Rng) {
    let outer = timeout(rng.micros_below(2000), || {
        let inner = timeout(Duration::from_secs(3600), || sleep(Duration::from_secs(3600)));
        inner.is_err()
    });
    ground.same(
        outer.map_err(bast::time::Elapsed::into_inner),
        Err(true),
        "both timeouts elapsed",
    );
}

/// What a join in time gives is the task's value, whether it comes in time or not.
fn cuts_a_join(ground: Ground, rng: &mut Rng) {
    let time = rng.micros_below(2000);
    let task = bast::spawn(move || {
        sleep(time);
        String::from("value")
    });
    let bound = rng.micros_below(2000);
    let joined = timeout(bound, || task.join_timeout(Duration::from_secs(3600)));
    match joined.unwrap_or_else(bast::time::Elapsed::into_inner) {
        Ok(value) => ground.same(ground.must(value, "join").as_str(), "value", "the task's value"),
        Err(task) => ground.same(
            ground.must(task.join(), "join").as_str(),
            "value",
            "the task's value",
        ),
    }
}

fn gives_handles_back(ground: Ground, number: u64, rng: &mut Rng) {
    let flag = Arc::new(AtomicBool::new(false));
    let mut waiter = bast::spawn({
        let flag = Arc::clone(&flag);
        move || {
            while !flag.load(Ordering::Acquire) {
                park();
            }
            number
        }
    });
    let mut tries = rng.below(5);
    let value = loop {
        match waiter.join_timeout(rng.micros_below(300)) {
            Ok(value) => break value,
            Err(handle) => waiter = handle,
        }
        if tries == 0 {
            flag.store(true, Ordering::Release);
            waiter.task().unpark();
        }
        tries = tries.saturating_sub(1);
    };
    ground.same(ground.must(value, "join"), number, "the task's value");
}

/// Ticks: as many as asked for, none before its time.
pub(crate) fn intervals(ground: Ground, rng: &mut Rng) {
    let (tasks, ticks) = (1 + rng.below(8), 1 + rng.below(10));
    ground.kind.start(tasks * ticks);
    let tasks: Vec<_> = (0..tasks)
        .map(|number| {
            let period = Duration::from_micros(1 + rng.below(2000));
            bast::spawn(move || {
                let missed = [Missed::Burst, Missed::Skip, Missed::Delay][number as usize % 3];
                let began = Instant::now();
                let mut clock = interval(period).missed(missed);
                for tick in 1..=ticks {
                    clock.tick();
                    let passed = began.elapsed();
                    ground.check(passed >= period * tick as u32, || {
                        format!("tick {tick} of {period:?} after {passed:?}")
                    });
                    ground.kind.finish(1);
                }
            })
        })
        .collect();
    tasks
        .into_iter()
        .for_each(|task| ground.must(task.join(), "join"));
}
