//! Where headers live: chunks of 64 KiB, each for one runtime at a time, never unmapped.
//!
//! A header's address with its low 16 bits cleared is its chunk, whose first entry names the runtime: so a task
//! needs no pointer to it, and an unpark from any thread finds the way. Chunks are type-stable for the life of the
//! process, which is what makes stale pointers in the poller, in timers and in join words harmless without counts.
//!
//! # Free entries
//! Every processor has a [`FreeList`]: a chain it takes from and gives to, another full or empty one in reserve, and a
//! chunk of its own to cut new entries from. Only whole chains of [`BATCH`] go to and come from the runtime's [`Pool`], under one
//! process-wide lock and with two words each, whoever wrote the entries last: the magazines and the depot of Bonwick and Adams
//! (*Magazines and Vmem*, USENIX 2001). An entry that is released after its runtime ended (a join handle kept for
//! longer) counts its chunk down, and a chunk with no entry outstanding goes to the next runtime that asks.

use super::chain::Chain;
use super::header::{Header, TaskRef};
use crate::metrics::counters::Counter;
use crate::primitive::atomic::{AcqRel, Acquire, AtomicBool, AtomicPtr, AtomicUsize, Relaxed, Release};
use crate::sched::shared::Shared;
use crate::sys::lock::{Guard, Lock, Rank};
use crate::trace::{Record, TABLE_LEN, add_table, new_table};
use std::alloc::{Layout, alloc};
use std::cell::Cell;
use std::ptr::NonNull;

/// Size and alignment of a chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Entries of a chunk, the first of which is the chunk's own head.
const CHUNK_ENTRIES: usize = CHUNK_BYTES / size_of::<Header>();
/// Chunks taken from the allocator at once.
const CHUNKS_A_GRAB: usize = 16;
/// Entries in a chain that goes from a processor to the pool or back.
const BATCH: usize = 256;
/// New entries cut from a chunk at once: few, so that they are still warm when they are used.
const CUT: usize = 16;

/// The head of a chunk. Its **cutter** is the processor's list that has it, or the pool.
#[repr(C)]
#[derive(Debug)]
struct Chunk {
    /// The runtime the chunk belongs to; null when that is over.
    runtime: AtomicPtr<Shared>,
    /// Entries handed out so far by this runtime, from 1 on. Only the cutter adds.
    used: AtomicUsize,
    /// Entries still referenced when the runtime ended. Under the lock.
    orphans: Cell<usize>,
    /// Entries that hold a header, from an earlier runtime perhaps: they are not written again, because a stale
    /// unpark may be reading one. The cutter's.
    written: Cell<usize>,
    /// What the trace knows of the entries; null until it must know something. Never freed.
    records: AtomicPtr<[Record; TABLE_LEN]>,
}

const _: () = assert!(size_of::<Chunk>() <= size_of::<Header>());
const _: () = assert!(CHUNK_ENTRIES <= TABLE_LEN);

/// The process-wide lock and the chunks nobody uses.
static SPARE: Lock<Spare> = Lock::new(Rank::Slab, Spare { chunks: Vec::new() });

#[derive(Debug)]
struct Spare {
    chunks: Vec<NonNull<Chunk>>,
}

// SAFETY: the chunks in the list are owned by it.
unsafe impl Send for Spare {}

/// One runtime's chunks and its common free entries. The inner fields are used under the process-wide lock only.
#[derive(Debug)]
pub(crate) struct Pool {
    inner: std::cell::UnsafeCell<PoolInner>,
    /// Are there free entries? Readable without the lock.
    has_free: AtomicBool,
    /// Chains that processors took and gave. Under the lock.
    pub(crate) refills: Counter,
    pub(crate) spills: Counter,
}

#[derive(Debug)]
struct PoolInner {
    retired: bool,
    chunks: Vec<NonNull<Chunk>>,
    /// Chains of [`BATCH`] or a little more.
    full: Vec<Chain>,
    /// What came one by one.
    loose: Chain,
    /// For threads that hold no processor.
    cutting: Option<NonNull<Chunk>>,
}

// SAFETY: reached through `locked` only, under the process-wide lock.
unsafe impl Send for Pool {}
// SAFETY: as for Send.
unsafe impl Sync for Pool {}

/// One processor's free entries.
#[derive(Debug, Default)]
pub(crate) struct FreeList {
    /// Taken from and given to.
    loaded: Chain,
    /// A full chain, or an empty one.
    reserve: Chain,
    /// The chunk that new ones are cut from.
    cutting: Option<NonNull<Chunk>>,
}

// SAFETY: the entries in the list and the cutting of the chunk are owned by it.
unsafe impl Send for FreeList {}

impl FreeList {
    /// An entry for a new task. None: the allocator refused.
    #[inline]
    pub(crate) fn take(&mut self, pool: &Pool, runtime: NonNull<Shared>) -> Option<TaskRef> {
        self.loaded.pop().or_else(|| self.refill(pool, runtime))
    }

    #[cold]
    fn refill(&mut self, pool: &Pool, runtime: NonNull<Shared>) -> Option<TaskRef> {
        self.loaded = std::mem::take(&mut self.reserve);
        if self.loaded.is_empty() && pool.has_free.load(Relaxed) {
            self.loaded = pool.take_chain();
        }
        if self.loaded.is_empty() {
            self.cut(pool, runtime);
        }
        self.loaded.pop()
    }

    /// Entries that no task has been in.
    fn cut(&mut self, pool: &Pool, runtime: NonNull<Shared>) {
        for _ in 0..CUT {
            let entry = match self.cutting.and_then(cut_one) {
                Some(entry) => entry,
                None => {
                    self.cutting = pool.take_chunk(runtime);
                    let Some(entry) = self.cutting.and_then(cut_one) else {
                        return;
                    };
                    entry
                }
            };
            self.loaded.push(entry);
        }
    }

    /// Gives a free entry back.
    #[inline]
    pub(crate) fn give(&mut self, entry: TaskRef, pool: &Pool) {
        self.loaded.push_front(entry);
        if self.loaded.len() >= BATCH {
            self.spill(pool);
        }
    }

    #[cold]
    fn spill(&mut self, pool: &Pool) {
        let full = std::mem::replace(&mut self.reserve, std::mem::take(&mut self.loaded));
        if !full.is_empty() {
            pool.give_chain(full);
        }
    }

    /// Gives all entries to the pool, at the end.
    pub(crate) fn clear(&mut self, pool: &Pool) {
        pool.give_chain(std::mem::take(&mut self.loaded));
        pool.give_chain(std::mem::take(&mut self.reserve));
        self.cutting = None;
    }
}

impl Pool {
    pub(crate) fn new() -> Pool {
        Pool {
            inner: std::cell::UnsafeCell::new(PoolInner {
                retired: false,
                chunks: Vec::new(),
                full: Vec::new(),
                loose: Chain::new(),
                cutting: None,
            }),
            has_free: AtomicBool::new(false),
            refills: Counter::default(),
            spills: Counter::default(),
        }
    }

    #[expect(
        clippy::mut_from_ref,
        reason = "the lock's guard is the permission, and bounds the borrow"
    )]
    fn locked<'a>(&'a self, _lock: &mut Guard<'_, Spare>) -> &'a mut PoolInner {
        // SAFETY: validity: our own cell. aliasing: the process-wide lock is held, and callers drop the borrow
        // before the lock.
        unsafe { &mut *self.inner.get() }
    }

    /// A chain of free entries; an empty one if there is none.
    fn take_chain(&self) -> Chain {
        let mut spare = SPARE.lock();
        let inner = self.locked(&mut spare);
        let chain = inner
            .full
            .pop()
            .unwrap_or_else(|| std::mem::take(&mut inner.loose));
        self.refills.add(1);
        self.free_changed(inner);
        chain
    }

    fn give_chain(&self, chain: Chain) {
        let mut spare = SPARE.lock();
        let inner = self.locked(&mut spare);
        if chain.len() == BATCH {
            inner.full.push(chain);
        } else {
            inner.loose.append(chain);
        }
        self.spills.add(1);
        self.free_changed(inner);
    }

    fn free_changed(&self, inner: &PoolInner) {
        // Relaxed: a hint; whoever sees it takes the lock.
        self.has_free
            .store(!inner.full.is_empty() || !inner.loose.is_empty(), Relaxed);
    }

    /// A chunk of the runtime, for the caller to cut entries from.
    fn take_chunk(&self, runtime: NonNull<Shared>) -> Option<NonNull<Chunk>> {
        let mut spare = SPARE.lock();
        let inner = self.locked(&mut spare);
        inner.take_chunk(runtime, &mut spare)
    }

    /// An entry for a task spawned by a thread that holds no processor.
    pub(crate) fn take_foreign(&self, runtime: NonNull<Shared>) -> Option<TaskRef> {
        let mut spare = SPARE.lock();
        let inner = self.locked(&mut spare);
        if inner.loose.is_empty()
            && let Some(chain) = inner.full.pop()
        {
            inner.loose = chain;
        }
        if let Some(entry) = inner.loose.pop() {
            self.free_changed(inner);
            return Some(entry);
        }
        inner.cutting.and_then(cut_one).or_else(|| {
            inner.cutting = inner.take_chunk(runtime, &mut spare);
            inner.cutting.and_then(cut_one)
        })
    }

    /// Calls `visit` with every entry that is a task now, in the chunk numbered `chunk`; false: there is no such
    /// chunk. Entries may come and go meanwhile, so `visit` touches only what Rule 1 of `header` allows.
    pub(crate) fn for_each_in(&self, chunk: usize, mut visit: impl FnMut(TaskRef)) -> bool {
        let mut spare = SPARE.lock();
        let Some(&chunk) = self.locked(&mut spare).chunks.get(chunk) else {
            return false;
        };
        drop(spare);
        for index in 1..head_of(&chunk).used.load(Acquire) {
            let entry = entry_of(chunk, index);
            if entry.state.snapshot() != super::state::Snapshot::Done {
                visit(entry);
            }
        }
        true
    }

    /// As [`Pool::for_each_in`], for all chunks.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(TaskRef)) {
        let mut chunk = 0;
        while self.for_each_in(chunk, &mut visit) {
            chunk += 1;
        }
    }

    /// The runtime is over: entries still referenced keep their chunk until they are released. All processors'
    /// lists have been cleared before.
    pub(crate) fn retire(&self) {
        let mut spare = SPARE.lock();
        let inner = self.locked(&mut spare);
        inner.retired = true;
        inner.cutting = None;
        for chunk in &inner.chunks {
            let head = head_of(chunk);
            head.orphans.set(head.used.load(Relaxed) - 1); // nobody cuts any more
        }
        let loose = std::mem::take(&mut inner.loose);
        for mut chain in inner.full.drain(..).chain([loose]) {
            while let Some(entry) = chain.pop() {
                let chunk = chunk_of(entry.0);
                let orphans = &head_of(&chunk).orphans;
                orphans.set(orphans.get() - 1);
            }
        }
        self.free_changed(inner);
        for chunk in inner.chunks.drain(..) {
            let head = head_of(&chunk);
            head.runtime.store(std::ptr::null_mut(), Release);
            if head.orphans.get() == 0 {
                spare.chunks.push(chunk);
            }
        }
    }
}

impl PoolInner {
    fn take_chunk(&mut self, runtime: NonNull<Shared>, spare: &mut Spare) -> Option<NonNull<Chunk>> {
        if self.retired {
            return None;
        }
        let chunk = spare.chunks.pop().or_else(|| grab(spare))?;
        let head = head_of(&chunk);
        head.used.store(1, Relaxed);
        head.runtime.store(runtime.as_ptr(), Release);
        self.chunks.push(chunk);
        Some(chunk)
    }
}

/// A never-used entry, for the chunk's cutter. None: it is used up.
fn cut_one(chunk: NonNull<Chunk>) -> Option<TaskRef> {
    let head = head_of(&chunk);
    let used = head.used.load(Relaxed);
    if used == CHUNK_ENTRIES {
        return None;
    }
    let entry = entry_of(chunk, used);
    if used == head.written.get() {
        // SAFETY: validity: inside the chunk, aligned by construction. aliasing: never written before, so no pointer
        // to it exists.
        unsafe { entry.0.write(Header::free()) };
        head.written.set(used + 1);
    }
    // Release: whoever looks at all entries finds a header in each; pairs with Acquire in `for_each_in`.
    head.used.store(used + 1, Release);
    Some(entry)
}

/// New chunks from the allocator; all but the returned one become spare.
fn grab(spare: &mut Spare) -> Option<NonNull<Chunk>> {
    let layout = Layout::from_size_align(CHUNK_BYTES * CHUNKS_A_GRAB, CHUNK_BYTES).ok()?;
    // SAFETY: validity: the layout is not empty. aliasing: fresh memory. Never freed: type-stable.
    let base = NonNull::new(unsafe { alloc(layout) })?;
    for index in 0..CHUNKS_A_GRAB {
        // SAFETY: validity: within the allocation. aliasing: no access here.
        let chunk: NonNull<Chunk> = unsafe { base.add(index * CHUNK_BYTES) }.cast();
        let head = Chunk {
            runtime: AtomicPtr::new(std::ptr::null_mut()),
            used: AtomicUsize::new(1),
            orphans: Cell::new(0),
            written: Cell::new(1),
            records: AtomicPtr::new(std::ptr::null_mut()),
        };
        // SAFETY: validity: aligned to a chunk, inside the allocation. aliasing: fresh memory.
        unsafe { chunk.write(head) };
        spare.chunks.push(chunk);
    }
    spare.chunks.pop()
}

fn head_of(chunk: &NonNull<Chunk>) -> &Chunk {
    // SAFETY: validity: chunks are never unmapped. aliasing: shared borrow of atomics, and of cells whose user is given
    // with each.
    unsafe { chunk.as_ref() }
}

fn entry_of(chunk: NonNull<Chunk>, index: usize) -> TaskRef {
    debug_assert!((1..CHUNK_ENTRIES).contains(&index));
    // SAFETY: validity: the index is inside the chunk. aliasing: no access here.
    TaskRef(unsafe { chunk.cast::<Header>().add(index) })
}

fn chunk_of(entry: NonNull<Header>) -> NonNull<Chunk> {
    let address = entry.as_ptr() as usize & !(CHUNK_BYTES - 1);
    let offset = entry.as_ptr() as usize - address;
    // SAFETY: validity: entries lie inside an aligned chunk, so the head is `offset` bytes below. aliasing: no
    // access here.
    unsafe { entry.cast::<u8>().sub(offset) }.cast()
}

/// The runtime an entry belongs to; None once it is over.
#[inline]
pub(crate) fn runtime_of(entry: NonNull<Header>) -> Option<NonNull<Shared>> {
    let chunk = chunk_of(entry);
    NonNull::new(head_of(&chunk).runtime.load(Acquire))
}

/// What the trace knows of an entry.
pub(crate) fn record_of(entry: NonNull<Header>) -> &'static Record {
    let chunk = chunk_of(entry);
    let records = &head_of(&chunk).records;
    let index = (entry.as_ptr() as usize - chunk.as_ptr() as usize) / size_of::<Header>();
    // SAFETY: validity: null, or a table that is never freed. aliasing: shared borrows of atomics only.
    let table = unsafe { records.load(Acquire).as_ref() }.unwrap_or_else(|| make_records(records));
    &table[index]
}

#[cold]
fn make_records(place: &AtomicPtr<[Record; TABLE_LEN]>) -> &'static [Record; TABLE_LEN] {
    let table = new_table();
    let pointer = std::ptr::from_ref(table).cast_mut();
    // Release: publishes the table. Acquire: another thread has made one.
    match place.compare_exchange(std::ptr::null_mut(), pointer, AcqRel, Acquire) {
        Ok(_) => {
            add_table(table);
            table
        }
        Err(other) => {
            // SAFETY: validity: it came from `Box::leak` above. aliasing: nobody else has seen it.
            drop(unsafe { Box::from_raw(pointer) });
            // SAFETY: validity: a table that is never freed. aliasing: shared borrows of atomics only.
            unsafe { &*other }
        }
    }
}

/// Gives back an entry whose last reference is gone, from a thread that holds no processor of its runtime.
pub(crate) fn give_foreign(entry: TaskRef) {
    let mut spare = SPARE.lock();
    // The runtime cannot retire while we hold the lock.
    match runtime_of(entry.0) {
        Some(runtime) => {
            // SAFETY: validity: a chunk names its runtime only until `retire`, which takes the lock we hold; the
            // runtime is alive until then. aliasing: shared borrow.
            let pool = &unsafe { runtime.as_ref() }.slab;
            let inner = pool.locked(&mut spare);
            inner.loose.push_front(entry);
            if inner.loose.len() >= BATCH {
                let full = std::mem::take(&mut inner.loose);
                inner.full.push(full);
            }
            pool.free_changed(inner);
        }
        None => {
            let chunk = chunk_of(entry.0);
            let orphans = &head_of(&chunk).orphans;
            orphans.set(orphans.get() - 1);
            if orphans.get() == 0 {
                spare.chunks.push(chunk);
            }
        }
    }
}
