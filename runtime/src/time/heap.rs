//! A processor's timers: a four-ary heap of due times, beside which two tables say where each timer is.
//!
//! ```text
//!   entries: [due, slot] [due, slot] ...     the heap; a change moves some of them
//!   places:  slot -> place in `entries`      follows each move
//!   nodes:   slot -> node on the stack of the waiting task, which knows its slot
//! ```
//! Nodes lie on stacks that nobody has touched since, so a heap that wrote a node's place into the node would miss the cache at
//! every step of a sift. Here only the timer that fires or is cancelled is touched.
//!
//! # Rules
//! 1. A node is in at most one heap; `slot` (its index, or [`NOT_IN_HEAP`]) is read and written only under that
//!    heap's lock.
//! 2. The owner of a node does not let it go before `fired` is set or [`cancel`] has returned.
//! 3. Firing copies the task out of the node, then sets `fired` (Release), and does not touch the node again.

use crate::primitive::atomic::{Acquire, AtomicBool, AtomicU64, Release};
use crate::sys::lock::{Lock, Rank};
use crate::task::header::TaskRef;
use crate::time::clock::NEVER;
use std::cell::Cell;
use std::ptr::NonNull;

/// Children of a node in the heap.
const ARITY: usize = 4;
/// `slot` of a node that is in no heap.
const NOT_IN_HEAP: u32 = u32::MAX;
/// How many expired nodes are taken out under one hold of the lock.
pub(crate) const BATCH: usize = 32;

/// One timer, on the stack of the task that waits.
#[derive(Debug)]
pub(crate) struct Node {
    task: TaskRef,
    fired: AtomicBool,
    slot: Cell<u32>,
    timers: Cell<Option<NonNull<Timers>>>,
}

impl Node {
    pub(crate) fn new(task: TaskRef) -> Node {
        Node {
            task,
            fired: AtomicBool::new(false),
            slot: Cell::new(NOT_IN_HEAP),
            timers: Cell::new(None),
        }
    }

    /// True once the time has come. Acquire: pairs with the Release of Rule 3.
    #[inline]
    pub(crate) fn has_fired(&self) -> bool {
        self.fired.load(Acquire)
    }
}

/// The timers of one processor. Any thread may lock them; they live as long as the runtime.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: Lock<Heap>,
    /// When the first one is due; [`NEVER`] if none. Written under the lock, read by anybody.
    next_due: AtomicU64,
}

// SAFETY: the nodes behind the heap's pointers are touched only under the lock (Rule 1) and outlive their stay in the
// heap (Rule 2), whichever thread does it.
unsafe impl Send for Timers {}
// SAFETY: as for Send.
unsafe impl Sync for Timers {}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers {
            heap: Lock::new(Rank::Timers, Heap::default()),
            next_due: AtomicU64::new(NEVER),
        }
    }

    /// When the first timer is due. Racy unless the caller is the only one to add.
    #[inline]
    pub(crate) fn next_due(&self) -> u64 {
        self.next_due.load(Acquire)
    }

    /// Arms `node` for `due`.
    ///
    /// # Safety
    /// The node is in no heap, does not move, and is not let go before Rule 2 allows it.
    pub(crate) unsafe fn arm(&self, node: &Node, due: u64) {
        let mut heap = self.heap.lock();
        node.timers.set(Some(NonNull::from(self)));
        node.slot.set(heap.push(due, NonNull::from(node)));
        self.publish(&heap);
    }

    /// Takes out up to [`BATCH`] nodes that are due by `now` and gives their tasks; true: there may be more.
    pub(crate) fn expire(&self, now: u64, mut wake: impl FnMut(TaskRef)) -> bool {
        if self.next_due() > now {
            return false;
        }
        let mut due: [Option<TaskRef>; BATCH] = [None; BATCH];
        let mut count = 0;
        let mut heap = self.heap.lock();
        while count < BATCH && heap.first_due() <= now {
            let node = heap.remove(0);
            // SAFETY: validity: the node was in the heap, so its owner still keeps it (Rule 2). aliasing: shared
            // borrow of a type with interior mutability, under the lock (Rule 1).
            let node = unsafe { node.as_ref() };
            node.slot.set(NOT_IN_HEAP);
            due[count] = Some(node.task);
            count += 1;
            node.fired.store(true, Release); // Rule 3: the last touch; pairs with `has_fired`
        }
        self.publish(&heap);
        drop(heap);
        due.into_iter().flatten().for_each(&mut wake);
        count == BATCH
    }

    fn publish(&self, heap: &Heap) {
        self.next_due.store(heap.first_due(), Release);
    }

    /// How many are armed now.
    pub(crate) fn len(&self) -> usize {
        self.heap.lock().entries.len()
    }
}

/// Disarms `node`; when it returns the node may be let go. True: it had not fired.
pub(crate) fn cancel(node: &Node) -> bool {
    if node.has_fired() {
        return false;
    }
    let Some(timers) = node.timers.get() else {
        return true;
    };
    // SAFETY: validity: processors, and so their timers, live as long as the runtime, which outlives its running
    // tasks. aliasing: shared borrow.
    let timers = unsafe { timers.as_ref() };
    let mut heap = timers.heap.lock();
    let slot = node.slot.replace(NOT_IN_HEAP);
    if slot == NOT_IN_HEAP {
        return false;
    }
    let place = heap.places[slot as usize];
    heap.remove(place as usize);
    timers.publish(&heap);
    true
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    due: u64,
    slot: u32,
}

/// See the module's picture.
#[derive(Debug, Default)]
struct Heap {
    entries: Vec<Entry>,
    places: Vec<u32>,
    nodes: Vec<NonNull<Node>>,
    /// Slots that no timer has.
    free: Vec<u32>,
}

impl Heap {
    fn first_due(&self) -> u64 {
        self.entries.first().map_or(NEVER, |entry| entry.due)
    }

    fn put(&mut self, place: usize, entry: Entry) {
        self.entries[place] = entry;
        self.places[entry.slot as usize] = place as u32;
    }

    /// Gives the node's slot.
    fn push(&mut self, due: u64, node: NonNull<Node>) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.nodes[slot as usize] = node;
                slot
            }
            None => {
                let slot = u32::try_from(self.nodes.len()).expect("a stack for each timer: fewer than 2^32");
                self.nodes.push(node);
                self.places.push(0);
                slot
            }
        };
        let entry = Entry { due, slot };
        self.entries.push(entry);
        self.sift_up(self.entries.len() - 1, entry);
        slot
    }

    /// Gives the node, whose slot is free from here on.
    fn remove(&mut self, place: usize) -> NonNull<Node> {
        let removed = self.entries[place];
        let last = self.entries.pop().expect("a heap with an entry is not empty");
        if place < self.entries.len() {
            if place > 0 && last.due < self.entries[(place - 1) / ARITY].due {
                self.sift_up(place, last);
            } else {
                self.sift_down(place, last);
            }
        }
        self.free.push(removed.slot);
        self.nodes[removed.slot as usize]
    }

    fn sift_up(&mut self, mut place: usize, entry: Entry) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.entries[parent].due <= entry.due {
                break;
            }
            self.put(place, self.entries[parent]);
            place = parent;
        }
        self.put(place, entry);
    }

    fn sift_down(&mut self, mut place: usize, entry: Entry) {
        loop {
            let first = place * ARITY + 1;
            let children = first..(first + ARITY).min(self.entries.len());
            let Some(least) = children.min_by_key(|&child| self.entries[child].due) else {
                break;
            };
            if entry.due <= self.entries[least].due {
                break;
            }
            self.put(place, self.entries[least]);
            place = least;
        }
        self.put(place, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::{NEVER, Node, Timers, cancel};
    use crate::task::header::TaskRef;
    use crate::util::rng::Rng;

    /// Random arming, cancelling and expiring against a sorted list.
    #[test]
    fn agrees_with_a_sorted_list() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let timers = Timers::new();
            let mut nodes: Vec<(u64, Box<Node>)> = Vec::new();
            let mut fired_by = 0;
            for _ in 0..300 {
                match rng.below(4) {
                    0 | 1 => {
                        let due = fired_by + 1 + u64::from(rng.below(100));
                        let node = Box::new(Node::new(TaskRef::dangling()));
                        // SAFETY: boxed, and cancelled or fired before the vector drops it.
                        unsafe { timers.arm(&node, due) };
                        nodes.push((due, node));
                    }
                    2 if !nodes.is_empty() => {
                        let index = rng.below(nodes.len() as u32) as usize;
                        let (_, node) = nodes.swap_remove(index);
                        assert!(cancel(&node), "a pending timer is cancelled");
                        assert!(!node.has_fired());
                    }
                    _ => {
                        fired_by += u64::from(rng.below(30));
                        let mut woken = 0;
                        while timers.expire(fired_by, |_| woken += 1) {}
                        let due = nodes.iter().filter(|(due, _)| *due <= fired_by).count();
                        assert_eq!(woken, due, "seed {seed}");
                        assert!(
                            nodes
                                .iter()
                                .all(|(due, node)| node.has_fired() == (*due <= fired_by))
                        );
                        nodes.retain(|(due, _)| *due > fired_by);
                    }
                }
                let first = nodes.iter().map(|(due, _)| *due).min().unwrap_or(NEVER);
                assert_eq!(timers.next_due(), first, "seed {seed}");
                assert_eq!(timers.len(), nodes.len());
            }
            nodes.iter().for_each(|(_, node)| assert!(cancel(node)));
        }
    }
}
