//! Models of the trace's change of generation (`runtime/src/trace/gate.rs`). What each proves is in the README here.
//!
//! An event is a number, pushed on the writer's sheet; a sheet that is handed over goes to a queue, as in the runtime.
//! Loom guards the sheets' content.
#![cfg(bast_loom)]

use bast::protocol::gate::{Gate, Sheet};
use bast::protocol::handoff::full_barrier;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// Handed over: of which generation, and its events.
type Queue = Mutex<Vec<(u64, Vec<u32>)>>;

struct World {
    gate: Gate,
    sheets: [Sheet<Vec<u32>>; 2],
    queue: Queue,
    /// A task that goes from the first writer to the second.
    passed: AtomicBool,
}

impl World {
    fn open() -> Arc<World> {
        let world = World {
            gate: Gate::new(),
            sheets: [Sheet::owned(Vec::new(), true), Sheet::owned(Vec::new(), true)],
            queue: Mutex::new(Vec::new()),
            passed: AtomicBool::new(false),
        };
        world.gate.set(1);
        Arc::new(world)
    }

    fn turn(&self) -> impl FnOnce(&mut Vec<u32>, u64, u64) + '_ {
        |events, from, _| {
            if !events.is_empty() {
                self.queue.lock().unwrap().push((from, std::mem::take(events)));
            }
        }
    }

    /// The owner of the sheet writes an event; gives the generation that it is in.
    fn write(&self, sheet: usize, event: u32) -> Option<u64> {
        // SAFETY: validity: one thread of each model calls this for a sheet.
        //         aliasing: loom checks it.
        unsafe {
            self.sheets[sheet].write_own(&self.gate, self.turn(), |events, generation| {
                events.push(event);
                generation
            })
        }
    }

    /// The same by another thread.
    fn write_for(&self, sheet: usize, event: u32) -> Option<u64> {
        self.sheets[sheet].write(&self.gate, full_barrier, self.turn(), |events, generation| {
            events.push(event);
            generation
        })
    }

    /// Closes `closed`; gives its events, of which there may be no more afterwards.
    fn close(&self, closed: u64, next: u64) -> Vec<u32> {
        self.gate.set(next);
        for sheet in &self.sheets {
            sheet.close(closed, next, full_barrier, self.turn());
        }
        self.taken(closed)
    }

    fn taken(&self, generation: u64) -> Vec<u32> {
        let mut queue = self.queue.lock().unwrap();
        let (of, rest) = std::mem::take(&mut *queue)
            .into_iter()
            .partition(|(from, _)| *from == generation);
        *queue = rest;
        let of: Vec<(u64, Vec<u32>)> = of;
        of.into_iter().flat_map(|(_, events)| events).collect()
    }
}

/// Two writers and a closer: a generation that was closed is whole, and what comes later is in the next one.
#[test]
fn a_closed_generation_is_whole() {
    loom::model(|| {
        let world = World::open();
        let writers: Vec<_> = (0..2)
            .map(|sheet| {
                let world = world.clone();
                thread::spawn(move || world.write(sheet, sheet as u32))
            })
            .collect();
        let mut first = world.close(1, 2);
        let said: Vec<_> = writers
            .into_iter()
            .map(|writer| writer.join().unwrap().unwrap())
            .collect();
        let mut second = world.close(2, 0);
        assert!(world.queue.lock().unwrap().is_empty(), "it came after its end");
        first.sort_unstable();
        second.sort_unstable();
        let of = |generation| -> Vec<u32> {
            let told = (0..2).filter(|&writer| said[writer as usize] == generation);
            told.collect()
        };
        assert_eq!(first, of(1));
        assert_eq!(second, of(2));
    });
}

/// The end of a trace: an event is written to the end, or not at all.
#[test]
fn nothing_is_written_after_the_end() {
    loom::model(|| {
        let world = World::open();
        let own = world.clone();
        let writer = thread::spawn(move || (own.write(0, 0), own.write(0, 1)));
        let taken = world.close(1, 0);
        let said = writer.join().unwrap();
        assert!(said.0.is_some() || said.1.is_none(), "closed is closed");
        let written = u32::from(said.0.is_some()) + u32::from(said.1.is_some());
        assert_eq!(taken, (0..written).collect::<Vec<_>>());
        assert!(world.queue.lock().unwrap().is_empty(), "it came after the end");
    });
}

/// An event that happens after another one is not in an earlier generation: the second writer has what the first one
/// wrote about before.
#[test]
fn generations_follow_what_happens() {
    loom::model(|| {
        let world = World::open();
        let own = world.clone();
        let first = thread::spawn(move || {
            let said = own.write(0, 0);
            own.passed.store(true, Ordering::Release);
            said
        });
        let own = world.clone();
        let second = thread::spawn(move || {
            let passed = own.passed.load(Ordering::Acquire);
            passed.then(|| own.write(1, 1))
        });
        world.close(1, 2);
        let first = first.join().unwrap();
        if let Some(second) = second.join().unwrap() {
            assert!(first <= second, "{first:?} came before {second:?}");
        }
    });
}

/// The monitor writes that a processor was taken from a worker, which writes itself meanwhile, and then a generation ends.
#[test]
fn another_writes_beside_the_owner() {
    loom::model(|| {
        let world = World::open();
        let own = world.clone();
        let owner = thread::spawn(move || (own.write(0, 0), own.write(0, 1)));
        let other = world.write_for(0, 2);
        let first = world.close(1, 2);
        let (one, two) = owner.join().unwrap();
        let second = world.close(2, 0);
        assert!(world.queue.lock().unwrap().is_empty(), "it came after its end");
        let said = [one, two, other];
        for (generation, mut told) in [(1, first), (2, second)] {
            told.sort_unstable();
            let of = |event: &u32| said[*event as usize] == Some(generation);
            assert_eq!(told, (0..3).filter(of).collect::<Vec<_>>());
        }
        assert!(one <= two, "the owner's own events go back");
    });
}

/// All threads that are no workers write on one sheet.
#[test]
fn a_sheet_without_an_owner_is_a_lock() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        gate.set(1);
        let sheet = Arc::new(Sheet::shared(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (gate, sheet) = (gate.clone(), sheet.clone());
                thread::spawn(move || {
                    sheet.write(&gate, || unreachable!(), |_, _, _| (), |count, _| *count += 1)
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap().unwrap());
        assert_eq!(
            sheet.write(&gate, || unreachable!(), |_, _, _| (), |count, _| *count),
            Some(2)
        );
    });
}
