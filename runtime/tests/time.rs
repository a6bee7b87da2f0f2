//! Sleeping, intervals, timeouts. Lower bounds are promises; upper bounds are so wide that only a hang exceeds them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::time::{Missed, interval, sleep, sleep_until, timeout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};
use util::{Gate, burn, on_each, on_each_64k, run_on, wait_for};

const MS: Duration = Duration::from_millis(1);
/// More than any test waits for anything; what it bounds would otherwise take minutes.
const LONG: Duration = Duration::from_secs(3_600);

#[test]
fn never_early() {
    on_each(|| {
        let tasks: Vec<_> = (0..50_u32)
            .map(|i| {
                bast::spawn(move || {
                    let wanted = Duration::from_micros(u64::from(i) * 137);
                    let start = Instant::now();
                    sleep(wanted);
                    assert!(start.elapsed() >= wanted);
                    let due = Instant::now() + wanted;
                    sleep_until(due);
                    assert!(Instant::now() >= due);
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// Sleepers of one processor wake in the order of their times, however they were armed: times far enough apart that
/// only a wrong order, not a slow machine, could mix them, since they are all due before any of them can run.
///
/// Chaos puts a woken task at the queue's end now and then, which is its right.
#[cfg(not(bast_chaos))]
#[test]
fn the_order_of_waking_is_the_order_of_the_times() {
    run_on(1, || {
        // Not where the machine was so slow that it says nothing: then once more.
        let order = loop {
            if let Some(order) = order_of_waking() {
                break order;
            }
        };
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    });
}

/// None: the times came before all timers were armed; or after a second, when the monitor, which gives back the memory of who
/// has been parked for so long, may hold a task as its time comes, and that one goes through the queue of all.
#[cfg(not(bast_chaos))]
fn order_of_waking() -> Option<Vec<u32>> {
    let woken = Arc::new(std::sync::Mutex::new(Vec::new()));
    let start = Instant::now();
    let first = Duration::from_millis(400);
    let tasks: Vec<_> = (0..100_u32)
        .map(|i| {
            let woken = woken.clone();
            let place = i * 37 % 100; // armed in another order
            bast::spawn(move || {
                sleep_until(start + first + Duration::from_micros(u64::from(place) * 10));
                woken.lock().unwrap().push(place);
            })
        })
        .collect();
    (0..300).for_each(|_| bast::task::yield_now()); // all of them arm their timers
    let armed = start.elapsed();
    burn((first + Duration::from_millis(10)).saturating_sub(armed)); // all of them come due
    tasks.into_iter().for_each(|task| task.join().unwrap());
    let over = start.elapsed();
    (armed < first && over < Duration::from_secs(1)).then(|| std::mem::take(&mut *woken.lock().unwrap()))
}

#[test]
fn times_in_the_past_and_zero_return_at_once() {
    on_each(|| {
        let start = Instant::now();
        for _ in 0..1_000 {
            sleep(Duration::ZERO);
            sleep_until(start);
            sleep_until(start - Duration::from_micros(1));
        }
        assert!(start.elapsed() < Duration::from_secs(60));
    });
}

/// A sleep of no time lets others run, as a yield does.
#[test]
fn a_sleep_of_no_time_is_a_yield() {
    run_on(1, || {
        let ran = Gate::new();
        let told = ran.clone();
        let other = bast::spawn(move || told.open());
        while !ran.is_open() {
            sleep(Duration::ZERO);
        }
        other.join().unwrap();
    });
}

#[test]
fn an_unpark_does_not_end_a_sleep() {
    on_each(|| {
        let task = bast::spawn(|| {
            let start = Instant::now();
            sleep(20 * MS);
            assert!(start.elapsed() >= 20 * MS);
        });
        while !task.is_finished() {
            task.task().unpark();
            bast::task::yield_now();
        }
        task.join().unwrap();
    });
}

#[test]
fn very_long_sleeps_do_not_overflow() {
    let runtime = util::start_with(2);
    for time in [
        Duration::MAX,
        Duration::from_secs(u64::MAX / 2),
        Duration::from_secs(1 << 40),
        LONG,
    ] {
        drop(runtime.spawn(move || sleep(time)).unwrap());
    }
    runtime.run(|| sleep(5 * MS));
    assert!(runtime.metrics().tasks_alive() >= 4);
}

#[test]
fn outside_a_runtime_the_thread_sleeps() {
    let start = Instant::now();
    sleep(2 * MS);
    sleep_until(start + 4 * MS);
    assert!(start.elapsed() >= 4 * MS);
    let mut ticks = interval(MS);
    ticks.tick();
    assert!(start.elapsed() >= 5 * MS);
}

#[test]
fn timers_on_a_busy_processor_are_fired_by_others() {
    run_on(2, || {
        // Both processors get sleepers; then one of the two is kept by a hog that calls nothing until all have woken.
        let woken = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicUsize::new(0));
        let sleepers: Vec<_> = (0..100)
            .map(|_| {
                let (woken, armed) = (woken.clone(), armed.clone());
                bast::spawn(move || {
                    armed.fetch_add(1, AcqRel);
                    sleep(20 * MS);
                    woken.fetch_add(1, AcqRel);
                })
            })
            .collect();
        wait_for(|| armed.load(Acquire) == 100);
        let hog = {
            let woken = woken.clone();
            bast::spawn(move || {
                while woken.load(Acquire) < 100 {
                    std::hint::spin_loop();
                }
            })
        };
        hog.join().unwrap();
        sleepers.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// An idle runtime whose only event is a timer.
#[test]
fn a_timer_alone_wakes_an_idle_runtime() {
    on_each(|| {
        for _ in 0..20 {
            let start = Instant::now();
            sleep(2 * MS);
            assert!(start.elapsed() >= 2 * MS);
        }
    });
}

/// An earlier timer is armed while a worker already waits for a later one.
#[test]
fn an_earlier_timer_is_not_kept_waiting_by_a_later_one() {
    on_each(|| {
        let late = bast::spawn(|| {
            let _ = timeout(LONG, || bast::task::park_timeout(LONG));
        });
        let start = Instant::now();
        for _ in 0..50 {
            sleep(MS);
            bast::spawn(|| sleep(MS)).join().unwrap();
        }
        assert!(start.elapsed() < LONG / 30);
        late.task().unpark();
        late.join().unwrap();
    });
}

#[test]
fn a_hundred_thousand_sleepers() {
    let count = if cfg!(debug_assertions) || util::is_instrumented() {
        20_000
    } else {
        100_000
    };
    on_each_64k(|| {
        let woken = Arc::new(AtomicUsize::new(0));
        for i in 0..count {
            let woken = woken.clone();
            let time = Duration::from_micros(1_000 + (i * 7919 % 100_000) as u64);
            drop(bast::spawn(move || {
                let start = Instant::now();
                sleep(time);
                assert!(start.elapsed() >= time);
                woken.fetch_add(1, AcqRel);
            }));
        }
        wait_for(|| woken.load(Acquire) == count);
    });
}

// ---- intervals ----

#[test]
fn an_interval_keeps_its_pace() {
    on_each(|| {
        let start = Instant::now();
        let mut ticks = interval(2 * MS);
        assert_eq!(ticks.period(), 2 * MS);
        for round in 1..=10 {
            ticks.tick();
            assert!(start.elapsed() >= 2 * MS * round, "tick {round} came early");
        }
    });
}

/// Burst: ticks that were missed come at once, until it has caught up, and the beat is the old one.
#[test]
fn missed_ticks_burst() {
    run_on(1, || {
        let start = Instant::now();
        let mut ticks = interval(20 * MS).missed(Missed::Burst);
        burn(210 * MS); // ten are missed
        (0..10).for_each(|_| ticks.tick());
        // None of the ten has waited: the eleventh is due at 220 ms at the earliest, and by the old beat.
        ticks.tick();
        assert!(start.elapsed() >= 220 * MS);
        ticks.tick();
        assert!(start.elapsed() >= 240 * MS);
    });
}

/// Waits of none: proven by the clock standing still, in that a hundred missed hour-long ticks do not take hours.
#[test]
fn a_burst_does_not_wait() {
    run_on(1, || {
        let mut ticks = interval(Duration::from_nanos(1));
        burn(MS);
        let start = Instant::now();
        (0..100_000).for_each(|_| ticks.tick());
        assert!(start.elapsed() < Duration::from_secs(60));
    });
}

/// Skip: the first tick is late, the others fall on multiples of the period, counted from the beginning.
#[test]
fn missed_ticks_are_skipped() {
    run_on(1, || {
        let before = Instant::now();
        let mut ticks = interval(50 * MS).missed(Missed::Skip);
        let after = Instant::now();
        burn(170 * MS); // due at 50, 100, 150
        let late = after.elapsed();
        ticks.tick(); // the one of 50, late
        ticks.tick();
        // The next multiple after the late one.
        let multiple = late.as_millis() / 50 + 1;
        assert!(
            before.elapsed() >= Duration::from_millis(50 * multiple as u64),
            "the tick after {late:?} came at {:?}",
            before.elapsed()
        );
    });
}

/// Delay: a whole period passes after a late tick.
#[test]
fn missed_ticks_delay_the_beat() {
    run_on(1, || {
        let mut ticks = interval(30 * MS).missed(Missed::Delay);
        burn(100 * MS);
        ticks.tick();
        let late = Instant::now();
        ticks.tick();
        assert!(
            late.elapsed() >= 29 * MS,
            "{:?} after a late tick",
            late.elapsed()
        );
    });
}

#[test]
fn an_interval_of_zero_is_refused() {
    let panic = std::panic::catch_unwind(|| interval(Duration::ZERO)).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("must not be zero"));
    let forever = interval(Duration::MAX);
    assert!(forever.period() > LONG);
}

// ---- timeouts ----

#[test]
fn a_timeout_ends_a_sleep_and_gives_the_value_back() {
    on_each(|| {
        let start = Instant::now();
        let late = timeout(5 * MS, || {
            sleep(LONG);
            String::from("kept")
        });
        assert!(start.elapsed() >= 5 * MS);
        assert!(start.elapsed() < LONG / 30);
        let late = late.unwrap_err();
        assert_eq!(late.to_string(), "the deadline has passed");
        assert_eq!(late.into_inner(), "kept");
        assert_eq!(timeout(LONG, || 5).unwrap(), 5);
    });
}

#[test]
fn the_earliest_of_nested_timeouts_counts() {
    on_each(|| {
        // Inner earlier.
        let start = Instant::now();
        let outer = timeout(LONG, || {
            let inner = timeout(2 * MS, || sleep(LONG));
            assert!(inner.is_err());
            // Back under the outer one: this sleep is not cut.
            let start = Instant::now();
            sleep(3 * MS);
            assert!(start.elapsed() >= 3 * MS, "the inner deadline outlived its code");
            1
        });
        assert_eq!(outer.unwrap(), 1);
        // Outer earlier: both are late, and both hand the value on.
        let outer = timeout(2 * MS, || {
            timeout(LONG, || {
                sleep(LONG);
                2
            })
        });
        assert_eq!(outer.unwrap_err().into_inner().unwrap_err().into_inner(), 2);
        assert!(start.elapsed() < LONG / 30);
        // After all of it nothing is left over.
        let start = Instant::now();
        sleep(3 * MS);
        assert!(start.elapsed() >= 3 * MS);
    });
}

#[test]
fn a_panic_in_a_timeout_takes_the_deadline_with_it() {
    on_each(|| {
        let caught = std::panic::catch_unwind(|| {
            let _ = timeout(MS, || std::panic::resume_unwind(Box::new(1)));
        });
        assert!(caught.is_err());
        let start = Instant::now();
        sleep(5 * MS);
        assert!(
            start.elapsed() >= 5 * MS,
            "the deadline of a panicked timeout is still in force"
        );
    });
}

#[test]
fn a_timeout_of_zero_and_one_that_never_comes() {
    on_each(|| {
        assert_eq!(timeout(Duration::ZERO, || 1).unwrap_err().into_inner(), 1);
        assert!(timeout(Duration::ZERO, || sleep(LONG)).is_err());
        assert_eq!(timeout(Duration::MAX, || 2).unwrap(), 2);
    });
}

#[test]
fn a_timeout_bounds_reads_accepts_and_connects() {
    use std::io::{ErrorKind, Read};
    on_each(|| {
        let listener = bast::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let late = timeout(2 * MS, || listener.accept().map(drop))
            .unwrap_err()
            .into_inner();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        let mut stream = bast::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let late = timeout(2 * MS, || stream.read(&mut [0; 8]))
            .unwrap_err()
            .into_inner();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// "No call of bast in it waits longer": parks too.
#[test]
fn a_timeout_bounds_parks() {
    on_each(|| {
        let start = Instant::now();
        let late = timeout(2 * MS, || {
            while start.elapsed() < 2 * MS {
                bast::task::park();
            }
            while start.elapsed() < 3 * MS {
                bast::task::park_timeout(LONG);
            }
        });
        assert!(late.is_err());
    });
}

#[test]
fn a_timeout_is_its_tasks_own() {
    on_each(|| {
        let child_slept = Arc::new(AtomicBool::new(false));
        let told = child_slept.clone();
        let child = timeout(MS, || {
            bast::spawn(move || {
                let start = Instant::now();
                sleep(10 * MS);
                told.store(start.elapsed() >= 10 * MS, Release);
            })
        });
        child
            .unwrap_or_else(bast::time::Elapsed::into_inner)
            .join()
            .unwrap();
        assert!(
            child_slept.load(Acquire),
            "a child is not bound by the deadline its parent had at the spawn"
        );
    });
}

#[test]
fn a_timeout_outside_a_task_says_what_to_do() {
    let panic = std::panic::catch_unwind(|| timeout(MS, || ())).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("bast::run"));
}
