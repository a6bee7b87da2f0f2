//! What a user does with the execution trace, and what goes wrong. What is in it is looked at by the programs in
//! `examples` (`trace_scenarios`, read by `bast-trace`).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests use plain threads, locks and clocks to look at the runtime from outside"
)]

mod util;

use bast::trace::{self, FlightRecorder, Options};
use std::io::{self, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use util::trace_bytes::{Bytes, GO_LABEL, GO_STOP, USER_LOG, read, texts};
use util::{Gate, Watchdog, on_each, run_on, start, wait_for};

const HEADER: &[u8] = b"go 1.26 trace";

/// There is one trace a process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn holds(trace: &[u8], word: &str) -> bool {
    trace.windows(word.len()).any(|bytes| bytes == word.as_bytes())
}

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("bast-test-{}-{name}.trace", std::process::id()))
}

fn work() {
    let tasks: Vec<_> = (0..10).map(|_| bast::spawn(bast::task::yield_now)).collect();
    tasks.into_iter().for_each(|task| task.join().unwrap());
}

#[test]
fn a_trace_has_what_was_said_in_it() {
    let _alone = alone();
    on_each(|| {
        let bytes = Bytes::default();
        let trace = trace::start(bytes.clone()).unwrap();
        assert!(trace::is_enabled());
        let request = trace::task("a request of mine");
        request.region("a region of mine", || {
            request.log("a key of mine", "a value of mine");
            work();
        });
        drop(request);
        let named = bast::task::Builder::new().name("a task of mine");
        named.spawn(work).unwrap().join().unwrap();
        let summary = trace.stop().unwrap();
        assert!(!trace::is_enabled());
        let bytes = bytes.get();
        assert_eq!((summary.bytes, summary.lost_generations), (bytes.len() as u64, 0));
        assert!(summary.generations >= 1);
        assert!(bytes.starts_with(HEADER));
        for word in [
            "a request of mine",
            "a region of mine",
            "a key of mine",
            "a value of mine",
            "a task of mine",
            "tests/trace.rs",
        ] {
            assert!(holds(&bytes, word), "{word} is not in it");
        }
        // Afterwards nothing is written.
        work();
        assert_eq!(bytes.len(), summary.bytes as usize);
    });
}

#[test]
fn there_is_one_at_a_time() {
    let _alone = alone();
    run_on(2, || {
        let trace = trace::start(io::sink()).unwrap();
        assert_eq!(
            trace::start(io::sink()).unwrap_err().kind(),
            ErrorKind::ResourceBusy
        );
        let refused = FlightRecorder::new().start().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ResourceBusy);
        assert!(refused.to_string().contains("running already"), "{refused}");
        assert!(trace::is_enabled(), "the refused ones have not ended it");
        drop(trace); // ends it, as `stop` does
        assert!(!trace::is_enabled());
        let recorder = FlightRecorder::new().start().unwrap();
        assert_eq!(
            trace::start(io::sink()).unwrap_err().kind(),
            ErrorKind::ResourceBusy
        );
        drop(recorder);
        trace::stop(trace::start(io::sink()).unwrap()).unwrap();
    });
}

/// Without any runtime, and with one that comes and goes within the trace.
#[test]
fn from_a_plain_thread() {
    let _alone = alone();
    let empty = Bytes::default();
    let summary = trace::start(empty.clone()).unwrap().stop().unwrap();
    assert!(empty.get().starts_with(HEADER) && summary.bytes > 16);
    let bytes = Bytes::default();
    let trace = trace::start(bytes.clone()).unwrap();
    run_on(2, || trace::region("within a runtime", work));
    trace::region("on a plain thread", || ()); // not in it: no task
    trace.stop().unwrap();
    assert!(holds(&bytes.get(), "within a runtime"));
}

/// Fails, or panics, at its second call.
struct Broken {
    calls: usize,
    panics: bool,
}

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls < 2 {
            return Ok(bytes.len());
        }
        assert!(!self.panics, "on purpose");
        Err(io::Error::new(ErrorKind::StorageFull, "the disk is full"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_fails_is_reported_and_harms_nothing() {
    let _alone = alone();
    run_on(2, || {
        let trace = trace::start(Broken {
            calls: 0,
            panics: false,
        })
        .unwrap();
        work();
        let error = trace.stop().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let trace = trace::start(Broken {
            calls: 0,
            panics: true,
        })
        .unwrap();
        work();
        let error = trace.stop().unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        // And the next trace is whole.
        let bytes = Bytes::default();
        let trace = trace::start(bytes.clone()).unwrap();
        trace::region("after the others", work);
        trace.stop().unwrap();
        assert!(holds(&bytes.get(), "after the others"));
    });
}

/// Takes nothing until it may.
struct Stuck(Arc<AtomicBool>, Bytes);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        wait_for(|| self.0.load(Acquire));
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The trace pauses, the tasks go on, and what is missing is counted.
#[test]
fn nobody_waits_for_a_writer_that_is_stuck() {
    let _alone = alone();
    run_on(2, || {
        let go = Arc::new(AtomicBool::new(false));
        let trace = Options::new()
            .outbox_bytes(1)
            .start(Stuck(go.clone(), Bytes::default()))
            .unwrap();
        // The first generation fills the outbox: from its end on nothing is traced.
        wait_for(|| {
            work();
            !trace::is_enabled()
        });
        work();
        go.store(true, Release);
        wait_for(trace::is_enabled);
        assert!(trace.stop().unwrap().lost_generations > 0);
    });
}

/// Of a task that was there before the trace, and in each piece, as a reader may have only one.
#[test]
fn a_name_is_said_wherever_its_task_runs() {
    let _alone = alone();
    on_each(|| {
        let (sender, receiver) = bast::sync::channel::rendezvous();
        let named = bast::task::Builder::new().name("one that waits");
        let (answer, answered) = bast::sync::channel::rendezvous();
        let echo = move || receiver.iter().for_each(|()| answer.send(()).unwrap());
        let task = named.spawn(echo).unwrap();
        work(); // and it waits
        let recorder = FlightRecorder::new().start().unwrap();
        let mut trace = Vec::new();
        for pieces in 1..=3 {
            sender.send(()).unwrap();
            answered.recv().unwrap(); // so it ran
            trace.clear();
            recorder.snapshot(&mut trace).unwrap(); // ends a piece
            let said = texts(&trace, GO_LABEL, 0);
            let count = said.iter().filter(|(_, text)| text == "one that waits").count();
            assert!(count >= pieces, "{count} of {pieces}: {said:?}");
        }
        drop((recorder, sender));
        task.join().unwrap();
    });
}

/// Of a task that neither waits nor calls anything from before the trace until after it.
#[test]
fn a_name_is_said_of_who_computes_on_and_on() {
    let _alone = alone();
    let slice = Duration::from_secs(3_600);
    let runtime = start(bast::Builder::new().processors(2).slice(slice));
    let handle = runtime.handle();
    let _watchdog = Watchdog::start("2 processors", Some(handle.clone()));
    // Who looks blocked, as on a busy machine, loses the processor, and goes on without one: then once more.
    let trace = loop {
        let before = handle.metrics().detaches;
        let trace = runtime.run(beside_one_that_computes);
        if handle.metrics().detaches == before {
            break trace;
        }
    };
    let (events, _) = read(&trace);
    let [first, last] = [events.first(), events.last()].map(|event| event.expect("events").generation);
    assert!(last >= first + 2, "pieces {first} to {last}");
    let said = texts(&trace, GO_LABEL, 0);
    let pieces: Vec<_> = said
        .iter()
        .filter(|(_, text)| text == "one that computes")
        .map(|(piece, _)| *piece)
        .collect();
    assert_eq!(pieces, (first..=last).collect::<Vec<_>>());
}

/// The trace of three pieces.
fn beside_one_that_computes() -> Vec<u8> {
    let (began, over) = (Gate::new(), Gate::new());
    let gates = (began.clone(), over.clone());
    let named = bast::task::Builder::new().name("one that computes");
    let computes = move || {
        gates.0.open();
        while !gates.1.is_open() {
            std::hint::spin_loop();
        }
    };
    let task = named.spawn(computes).unwrap();
    wait_for(|| began.is_open());
    let recorder = FlightRecorder::new().start().unwrap();
    let mut trace = Vec::new();
    for _ in 0..3 {
        work();
        trace.clear();
        recorder.snapshot(&mut trace).unwrap(); // ends a piece
    }
    over.open();
    task.join().unwrap();
    trace
}

/// Tasks that do whatever a task can do while the trace pauses.
#[test]
fn names_are_said_again_after_a_pause() {
    let _alone = alone();
    for processors in [1, 2] {
        run_on(processors, move || after_a_pause(processors));
    }
}

fn after_a_pause(processors: usize) {
    let (go, over, bytes) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
        Bytes::default(),
    );
    let trace = Options::new()
        .outbox_bytes(1)
        .start(Stuck(go.clone(), bytes.clone()))
        .unwrap();
    let named = |name: &str| bast::task::Builder::new().name(name);
    let (sender, receiver) = bast::sync::channel::bounded::<()>(0);
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let seen = over.clone();
    let tasks = [
        named("one that is parked").spawn(move || assert!(receiver.recv().is_err())),
        named("one that is in a blocking section").spawn(move || {
            bast::blocking(|| assert!(blocked.recv().is_err()));
        }),
        named("one that yields").spawn(move || {
            while !seen.load(Acquire) {
                bast::task::yield_now();
            }
        }),
    ];
    wait_for(|| {
        work();
        !trace::is_enabled()
    });
    go.store(true, Release);
    wait_for(trace::is_enabled);
    work();
    let lost = trace.stop().unwrap().lost_generations;
    over.store(true, Release);
    drop((sender, unblock));
    tasks.into_iter().for_each(|task| task.unwrap().join().unwrap());
    assert!(lost > 0);
    let bytes = bytes.get();
    let log = texts(&bytes, USER_LOG, 1)
        .into_iter()
        .find(|(_, key)| key == "lost");
    let (after, _) = log.expect("the trace tells of its gap");
    let said = texts(&bytes, GO_LABEL, 0);
    for name in [
        "one that is parked",
        "one that is in a blocking section",
        "one that yields",
    ] {
        let times = |generation| {
            said.iter()
                .filter(|said| *said == &(generation, name.to_owned()))
                .count()
        };
        assert!(times(after - 2) + times(after - 1) > 0, "{name}: {said:?}");
        assert_eq!(times(after), 1, "{name}: {said:?}");
    }
    // The other tasks needed the processor, so it was not with the one that blocks.
    let without = holds(&bytes, "goes on without a processor");
    assert!(without || processors > 1, "the one in a blocking section");
}

/// A task that never waits and makes calls: its slice ends by the monitor's request. One that asks itself is told apart.
#[test]
fn a_slice_that_is_over_is_no_yield() {
    if cfg!(bast_chaos) {
        return; // every 64th call yields then, and no slice is ever over
    }
    let _alone = alone();
    let reasons = || {
        let bytes = Bytes::default();
        let trace = trace::start(bytes.clone()).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let hog = bast::spawn(move || {
            while !seen.load(Acquire) {
                bast::task::checkpoint();
            }
        });
        bast::task::yield_now(); // comes back once the hog's slice is over
        over.store(true, Release);
        hog.join().unwrap();
        trace.stop().unwrap();
        let stops = texts(&bytes.get(), GO_STOP, 0);
        stops.into_iter().map(|(_, reason)| reason).collect::<Vec<_>>()
    };
    // Where the monitor finds the hog between two calls it takes the processor instead: then once more.
    run_on(1, || {
        let mut preempted = false;
        while !preempted {
            let reasons = reasons();
            assert!(
                reasons.iter().any(|reason| reason == "runtime.Gosched"),
                "{reasons:?}"
            );
            preempted = reasons.iter().any(|reason| reason == "preempted");
        }
    });
}

#[test]
fn regions_end_where_a_panic_leaves_them() {
    let _alone = alone();
    run_on(2, || {
        let bytes = Bytes::default();
        let trace = trace::start(bytes.clone()).unwrap();
        let left = catch_unwind(AssertUnwindSafe(|| {
            trace::region("outer", || trace::region("inner", || panic!("on purpose")))
        }));
        assert!(left.is_err());
        trace::region("after", work);
        trace.stop().unwrap();
        assert!(holds(&bytes.get(), "after"));
    });
}

#[test]
fn the_flight_recorder_keeps_the_newest() {
    let _alone = alone();
    run_on(2, || {
        let recorder = FlightRecorder::new()
            .bytes(1)
            .age(Duration::ZERO)
            .start()
            .unwrap();
        trace::log("age", "too old");
        recorder.snapshot(io::sink()).unwrap(); // ends the piece that the region is in
        trace::log("age", "young enough");
        let mut taken = Vec::new();
        let bytes = recorder.snapshot(&mut taken).unwrap();
        assert_eq!(bytes, taken.len() as u64);
        assert!(taken.starts_with(HEADER));
        assert!(holds(&taken, "young enough") && !holds(&taken, "too old"));
    });
}

/// Tests are built as everybody builds: with whatever in the register for frame pointers.
#[test]
fn stacks_may_be_asked_for_without_frame_pointers() {
    fn deep(levels: u32) -> u32 {
        if levels == 0 {
            bast::time::sleep(Duration::from_millis(1));
            return 0;
        }
        std::hint::black_box(deep(levels - 1)) + 1
    }
    let _alone = alone();
    for frames in [1, 16, usize::MAX] {
        on_each(move || {
            let bytes = Bytes::default();
            let trace = Options::new().stacks(frames).start(bytes.clone()).unwrap();
            let tasks: Vec<_> = (0..10)
                .map(|levels| bast::spawn(move || deep(levels * 20)))
                .collect();
            let (sender, receiver) = bast::sync::channel::rendezvous();
            let woken = bast::spawn(move || receiver.recv().unwrap());
            let thread = std::thread::spawn(move || sender.send(()).unwrap()); // a stack that is not ours
            woken.join().unwrap();
            thread.join().unwrap();
            bast::on_big_stack(1 << 20, work);
            bast::blocking(|| trace::log("key", "within a blocking section"));
            tasks
                .into_iter()
                .for_each(|task| assert!(task.join().unwrap() < 200));
            trace.stop().unwrap();
            assert!(holds(&bytes.get(), "tests/trace.rs"));
        });
        let recorder = FlightRecorder::new().stacks(frames).start().unwrap();
        run_on(2, work);
        assert!(recorder.snapshot(io::sink()).unwrap() > 0);
    }
}

#[test]
fn one_snapshot_of_what_is_late() {
    let _alone = alone();
    run_on(2, || {
        let recorder = FlightRecorder::new().start().unwrap();
        let (path, second) = (Duration::from_secs(1), Duration::from_secs(1));
        let file = file("late");
        assert!(
            !recorder.snapshot_if_late(path, second, &file).unwrap(),
            "on time"
        );
        let late = path + Duration::from_nanos(1);
        let nowhere = file.join("no such folder");
        assert!(recorder.snapshot_if_late(late, second, nowhere).is_err());
        assert!(
            recorder.snapshot_if_late(late, second, &file).unwrap(),
            "tries again"
        );
        assert!(
            !recorder.snapshot_if_late(late, second, &file).unwrap(),
            "once is enough"
        );
        assert!(std::fs::read(&file).unwrap().starts_with(HEADER));
        std::fs::remove_file(file).unwrap();
    });
}

#[test]
fn a_snapshot_of_the_first_panic() {
    let name = "a_snapshot_of_the_first_panic";
    util::in_good_child(
        name,
        |_| {},
        || {
            run_on(2, || {
                let file = file("panic");
                let recorder = FlightRecorder::new().start().unwrap();
                recorder.snapshot_on_panic(&file);
                let task = bast::spawn(|| trace::region("what went wrong", || panic!("on purpose")));
                task.join().unwrap_err();
                assert!(holds(&std::fs::read(&file).unwrap(), "what went wrong"));
                std::fs::remove_file(&file).unwrap();
                bast::spawn(|| panic!("again")).join().unwrap_err();
                assert!(!file.exists(), "the second panic wrote one too");
            });
        },
    );
}

#[test]
fn begun_by_the_environment() {
    let name = "begun_by_the_environment";
    let path = file("environment");
    for stacks in ["", "32", "many"] {
        util::in_good_child(
            name,
            |child| {
                child.env("BAST_TRACE", &path).env("BAST_TRACE_STACKS", stacks);
            },
            || run_on(2, || trace::region("in the child", work)),
        );
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(bytes.starts_with(HEADER) && holds(&bytes, "in the child"));
    }
}
