//! Where headers live: chunks of 64 KiB, each for one runtime at a time, never unmapped.
//!
//! A header's address with its low 16 bits cleared is its chunk, whose first entry names the runtime: so a task
//! needs no pointer to it, and an unpark from any thread finds the way. Chunks are type-stable for the life of the
//! process, which is what makes stale pointers in the poller, in timers and in join words harmless without counts.
//!
//! Free entries: a list a processor (no lock), refilled from and spilled to the runtime's [`Pool`] in batches under
//! one process-wide lock. An entry that is released after its runtime ended (a join handle kept for longer) counts
//! its chunk down, and a chunk with no entry outstanding goes to the next runtime that asks.

use super::header::{Header, TaskRef};
use crate::primitive::atomic::{AcqRel, Acquire, AtomicPtr, Release};
use crate::sched::shared::Shared;
use crate::sys::lock::{Guard, Lock, Rank};
use crate::trace::{Record, TABLE_LEN, add_table, new_table};
use std::alloc::{Layout, alloc};
use std::ptr::NonNull;

/// Size and alignment of a chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Entries of a chunk, the first of which is the chunk's own head.
const CHUNK_ENTRIES: usize = CHUNK_BYTES / size_of::<Header>();
/// Chunks taken from the allocator at once.
const CHUNKS_A_GRAB: usize = 16;
/// Entries moved between a processor's list and the pool at once.
const BATCH: usize = 128;
/// A processor's list is spilled when it holds this many.
const LOCAL_MAX: usize = 512;

/// The head of a chunk.
#[repr(C)]
#[derive(Debug)]
struct Chunk {
    /// The runtime the chunk belongs to; null when that is over.
    runtime: AtomicPtr<Shared>,
    /// Entries still referenced when the runtime ended. Under the lock.
    orphans: usize,
    /// Entries handed out so far by this runtime, from 1 on. Under the lock.
    used: usize,
    /// Entries that hold a header, from an earlier runtime perhaps: they are not written again, because a stale
    /// unpark may be reading one. Under the lock.
    written: usize,
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

/// One runtime's chunks and its common free list. All fields are used under the process-wide lock only.
#[derive(Debug)]
pub(crate) struct Pool {
    inner: std::cell::UnsafeCell<PoolInner>,
}

#[derive(Debug)]
struct PoolInner {
    retired: bool,
    chunks: Vec<NonNull<Chunk>>,
    free: FreeList,
}

// SAFETY: reached through `locked` only, under the process-wide lock.
unsafe impl Send for Pool {}
// SAFETY: as for Send.
unsafe impl Sync for Pool {}

/// Entries chained through `link`.
#[derive(Debug, Default)]
pub(crate) struct FreeList {
    first: Option<TaskRef>,
    len: usize,
}

// SAFETY: the entries in the list are owned by it.
unsafe impl Send for FreeList {}

impl FreeList {
    fn push(&mut self, entry: TaskRef) {
        entry.link.set(self.first);
        self.first = Some(entry);
        self.len += 1;
    }

    #[inline]
    fn pop(&mut self) -> Option<TaskRef> {
        let entry = self.first?;
        self.first = entry.link.get();
        self.len -= 1;
        Some(entry)
    }

    fn move_to(&mut self, other: &mut FreeList, count: usize) {
        for _ in 0..count {
            let Some(entry) = self.pop() else { break };
            other.push(entry);
        }
    }

    /// An entry for a new task, from the list or the pool. None: the allocator refused.
    #[inline]
    pub(crate) fn take(&mut self, pool: &Pool, runtime: NonNull<Shared>) -> Option<TaskRef> {
        self.pop().or_else(|| self.refill(pool, runtime))
    }

    #[cold]
    fn refill(&mut self, pool: &Pool, runtime: NonNull<Shared>) -> Option<TaskRef> {
        let mut spare = SPARE.lock();
        let inner = pool.locked(&mut spare);
        inner.free.move_to(self, BATCH);
        while self.len < BATCH {
            let Some(entry) = inner.carve(runtime, &mut spare) else {
                break;
            };
            self.push(entry);
        }
        drop(spare);
        self.pop()
    }

    /// Gives a free entry back.
    #[inline]
    pub(crate) fn give(&mut self, entry: TaskRef, pool: &Pool) {
        self.push(entry);
        if self.len >= LOCAL_MAX {
            self.spill(pool, LOCAL_MAX / 2);
        }
    }

    /// Moves `count` entries to the pool.
    #[cold]
    pub(crate) fn spill(&mut self, pool: &Pool, count: usize) {
        let mut spare = SPARE.lock();
        self.move_to(&mut pool.locked(&mut spare).free, count);
    }
}

impl Pool {
    pub(crate) fn new() -> Pool {
        Pool {
            inner: std::cell::UnsafeCell::new(PoolInner {
                retired: false,
                chunks: Vec::new(),
                free: FreeList::default(),
            }),
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

    /// An entry for a task spawned by a thread that holds no processor.
    pub(crate) fn take_foreign(&self, runtime: NonNull<Shared>) -> Option<TaskRef> {
        let mut spare = SPARE.lock();
        let inner = self.locked(&mut spare);
        inner.free.pop().or_else(|| inner.carve(runtime, &mut spare))
    }

    /// Calls `visit` with every entry that is a task now, in the chunk numbered `chunk`; false: there is no such
    /// chunk. Entries may come and go meanwhile, so `visit` touches only what Rule 1 of `header` allows.
    pub(crate) fn for_each_in(&self, chunk: usize, mut visit: impl FnMut(TaskRef)) -> bool {
        let mut spare = SPARE.lock();
        let Some(&chunk) = self.locked(&mut spare).chunks.get(chunk) else {
            return false;
        };
        let used = used_of(chunk);
        drop(spare);
        for index in 1..used {
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
    /// lists have been spilled before.
    pub(crate) fn retire(&self) {
        let mut spare = SPARE.lock();
        let inner = self.locked(&mut spare);
        inner.retired = true;
        for chunk in &mut inner.chunks {
            // SAFETY: as below.
            let head = unsafe { chunk.as_mut() };
            head.orphans = head.used - 1;
        }
        while let Some(entry) = inner.free.pop() {
            // SAFETY: as below.
            unsafe { chunk_of(entry.0).as_mut() }.orphans -= 1;
        }
        for mut chunk in inner.chunks.drain(..) {
            // SAFETY: validity: chunks are never unmapped. aliasing: `orphans` and `used` are touched under the
            // lock only, which we hold.
            let head = unsafe { chunk.as_mut() };
            head.runtime.store(std::ptr::null_mut(), Release);
            if head.orphans == 0 {
                spare.chunks.push(chunk);
            }
        }
    }
}

impl PoolInner {
    /// A never-used entry.
    fn carve(&mut self, runtime: NonNull<Shared>, spare: &mut Spare) -> Option<TaskRef> {
        if self.retired {
            return None;
        }
        if self
            .chunks
            .last()
            .is_none_or(|&chunk| used_of(chunk) == CHUNK_ENTRIES)
        {
            let mut chunk = spare.chunks.pop().or_else(|| grab(spare))?;
            // SAFETY: validity: a spare chunk is mapped and has its head written. aliasing: under the lock, held by
            // the caller; `runtime` is an atomic.
            let head = unsafe { chunk.as_mut() };
            head.used = 1;
            head.runtime.store(runtime.as_ptr(), Release);
            self.chunks.push(chunk);
        }
        let mut chunk = *self.chunks.last()?;
        // SAFETY: validity: chunks are never unmapped. aliasing: `used` is touched under the lock only, held by the
        // caller.
        let head = unsafe { chunk.as_mut() };
        let entry = entry_of(chunk, head.used);
        if head.used == head.written {
            // SAFETY: validity: inside the chunk, aligned by construction. aliasing: never written before, so no
            // pointer to it exists.
            unsafe { entry.0.write(Header::free()) };
            head.written += 1;
        }
        head.used += 1;
        Some(entry)
    }
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
            orphans: 0,
            used: 1,
            written: 1,
            records: AtomicPtr::new(std::ptr::null_mut()),
        };
        // SAFETY: validity: aligned to a chunk, inside the allocation. aliasing: fresh memory.
        unsafe { chunk.write(head) };
        spare.chunks.push(chunk);
    }
    spare.chunks.pop()
}

fn used_of(chunk: NonNull<Chunk>) -> usize {
    // SAFETY: validity: chunks are never unmapped. aliasing: the caller holds the lock.
    unsafe { chunk.as_ref() }.used
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
    // SAFETY: validity: chunks are never unmapped. aliasing: only the atomic is borrowed, through a raw pointer, so
    // that a holder of the lock may change the other fields meanwhile.
    let runtime = unsafe { &(*chunk.as_ptr()).runtime };
    NonNull::new(runtime.load(Acquire))
}

/// What the trace knows of an entry.
pub(crate) fn record_of(entry: NonNull<Header>) -> &'static Record {
    let chunk = chunk_of(entry);
    // SAFETY: validity: chunks are never unmapped. aliasing: as in `runtime_of`.
    let records = unsafe { &(*chunk.as_ptr()).records };
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
            unsafe { runtime.as_ref() }
                .slab
                .locked(&mut spare)
                .free
                .push(entry);
        }
        None => {
            let mut chunk = chunk_of(entry.0);
            // SAFETY: validity: chunks are never unmapped. aliasing: under the lock.
            let head = unsafe { chunk.as_mut() };
            head.orphans -= 1;
            if head.orphans == 0 {
                spare.chunks.push(chunk);
            }
        }
    }
}
