//! `BAST_DEBUG=tls=1`: whether a task leaves its thread with a pointer into that thread's thread-local storage on its
//! stack. In builds with debug assertions only.
//!
//! At each park and yield, before the switch, all words between here and the top of the task's stack are looked at, and
//! one that lies in a thread-local block of this thread is reported, once a place, with a backtrace.
//!
//! # Limits
//! A word that looks like such a pointer may be left over from a call that has returned: compilers do not clear what they
//! no longer use. So a report is a hint, and this is not on by default. What is not found: a pointer that lives in a
//! register only, as optimised code may have it; one to a value of less than four bytes' alignment; one into a heap
//! object that a thread-local owns (`Rc`, `Box`); thread-locals of libraries loaded after the worker began; what lies on
//! the stack that a task had before `on_big_stack`. Tasks that park without a switch, because they panic or are in
//! `no_park`, are not looked at: they do not leave the thread.

use super::inside::Inside;
use super::worker::Settle;
use crate::current;
use crate::primitive::atomic::{AtomicUsize, Relaxed};
use bast_stack::Stack;
use std::backtrace::Backtrace;
use std::mem::ManuallyDrop;

/// Values of less alignment are not looked for: pointers to std's own flags, left over from its calls, would be found
/// more often than borrows.
const ALIGN_MIN: usize = 4;
/// Reports at most.
const REPORTS_MAX: usize = 20;
/// For the backtrace, whose making is deep.
const REPORT_STACK_BYTES: usize = 1 << 20;

/// Places that were reported, by a hash of where; zero for none.
static REPORTED: [AtomicUsize; REPORTS_MAX] = [const { AtomicUsize::new(0) }; REPORTS_MAX];

impl Inside {
    /// Looks at the running task, which is about to leave as `settle` says.
    #[inline(never)]
    pub(super) fn check_thread_locals(&self, settle: Settle) {
        let blocks = &self.worker().tls_blocks;
        if blocks.is_empty() {
            return;
        }
        let Some(word) = self.task().stack_word() else {
            return;
        };
        // SAFETY: validity: the word of the running task's stack. ManuallyDrop: it stays the task's. aliasing: read only.
        let stack = ManuallyDrop::new(unsafe { Stack::from_raw(word) });
        let here = (&raw const word) as usize;
        if !stack.contains(here) {
            return; // on a larger one, `on_big_stack`
        }
        for place in (here..stack.top()).step_by(size_of::<usize>()) {
            // SAFETY: validity: between a local of ours and the top of the stack that we stand on; aligned, as the local
            // is. aliasing: volatile, because frames above may write it; a word of any content is a usize.
            let word = unsafe { (place as *const usize).read_volatile() };
            let found = blocks.iter().find(|block| block.contains(&word));
            let suspect = |_: &_| word.is_multiple_of(ALIGN_MIN) && !current::is_own_thread_local(word);
            if let Some(block) = found.filter(suspect) {
                self.report(settle, place, word - block.start);
            }
        }
    }

    #[cold]
    fn report(&self, settle: Settle, place: usize, offset: usize) {
        let task = self.task();
        let parks = matches!(settle, Settle::Park(_));
        let site = task.site().filter(|_| parks);
        let at = site.map_or(1, |site| std::ptr::from_ref(site.at()) as usize);
        if !is_new(at ^ offset << 1) {
            return;
        }
        let does = match site {
            Some(site) => format!("parks in {} at {}", site.reason().text(), site.at()),
            None => "yields".to_owned(),
        };
        let name = task.extra().and_then(|extra| extra.name.as_deref()).unwrap_or("");
        let trace = bast_stack::on_big_stack(REPORT_STACK_BYTES, Backtrace::force_capture);
        eprintln!(
            "bast: BAST_DEBUG=tls: task {} {name:?}, spawned at {}, {does}, and at {place:#x} on its stack lies a pointer \
             into the thread-local storage of its thread (offset {offset:#x}). If that is a borrow from a `thread_local!` \
             which is still used, the task will use it on another thread: see CAVEATS.md. Backtrace:\n{trace}",
            task.id(),
            task.spawned_at.get(),
        );
    }
}

/// Remembers this place; false if it is known, or there are too many.
fn is_new(place: usize) -> bool {
    for known in &REPORTED {
        match known.compare_exchange(0, place.max(1), Relaxed, Relaxed) {
            Ok(_) => return true,
            Err(other) if other == place.max(1) => return false,
            Err(_) => {}
        }
    }
    false
}
