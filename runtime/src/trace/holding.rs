//! What a thread writes of processors: which one it holds.

use super::encode::kind;
use super::pen::{Ink, LATE, Late};
use super::record::{Known, PROC_IDLE, PROC_RUNNING, ProcRecord, SYSCALL};
use super::session;
use std::panic::Location;

impl Ink {
    /// Does it, as far as the reader knows?
    #[inline]
    pub(super) fn holds(&self, processor: Option<&'static ProcRecord>) -> bool {
        let address = |one: Option<&'static ProcRecord>| one.map_or(std::ptr::null(), std::ptr::from_ref);
        std::ptr::eq(address(self.processor), address(processor))
    }

    /// The thread holds this processor now, or none.
    pub(crate) fn hold(&mut self, processor: Option<&'static ProcRecord>) {
        self.tell_own();
        if self.holds(processor) {
            return;
        }
        if self.processor.is_some() {
            self.lose(true, "user code, its processor taken", None);
        }
        if let Some(processor) = processor {
            self.take(processor);
        }
    }

    fn take(&mut self, processor: &'static ProcRecord) {
        let mut known = processor.known();
        let generation = self.generation;
        if known.generation() < session::first() || known.generation() == 0 {
            self.put(kind::PROC_STATUS, &[processor.number, PROC_RUNNING]);
            known = Known::told(generation, PROC_RUNNING);
        } else {
            if known.state() != PROC_IDLE {
                return session::give_up("a processor was taken that another worker holds");
            }
            if known.generation() < generation {
                if known.generation() + 1 < generation {
                    LATE.lock()
                        .push((generation - 1, Late::Processor(processor.number)));
                }
                self.put(kind::PROC_STATUS, &[processor.number, PROC_IDLE]);
                known = Known::told(generation, PROC_IDLE);
            }
            known = known.counted().now(PROC_RUNNING);
            self.put(kind::PROC_START, &[processor.number, known.sequence()]);
        }
        processor.set(known);
        self.processor = Some(processor);
    }

    /// The thread's processor goes; the task, if it runs one, goes on without. `stolen`: the monitor took it. Without a
    /// place: no line of the program has asked for it.
    pub(super) fn lose(&mut self, stolen: bool, what: &'static str, at: Option<&'static Location<'static>>) {
        let Some(processor) = self.processor.take() else {
            return;
        };
        let mut known = processor.known();
        if let Some(record) = self.task {
            self.in_syscall = true;
            let short = match at {
                Some(at) => self.cache.stack(what, at, record.root()),
                None => self.cache.without_place(what, record.root()).0,
            };
            let stack = match stolen {
                true => short, // it was elsewhere then
                false => self.with_frames(short),
            };
            known = known.counted();
            self.put(kind::GO_SYSCALL_BEGIN, &[known.sequence(), u64::from(stack)]);
            record.set(record.known().now(SYSCALL));
        }
        if stolen {
            known = known.counted();
            self.put(
                kind::PROC_STEAL,
                &[processor.number, known.sequence(), self.thread],
            );
        } else {
            self.put(kind::PROC_STOP, &[]);
        }
        processor.set(known.now(PROC_IDLE));
    }

    /// The thread gives its processor away before a call that blocks, or before it sleeps.
    pub(crate) fn let_go(&mut self, what: &'static str, at: Option<&'static Location<'static>>) {
        self.tell_own();
        self.lose(false, what, at);
    }

    /// The monitor has taken the processor from the thread. Nothing if the thread has noticed before.
    pub(crate) fn taken(&mut self, processor: &'static ProcRecord) {
        if self.processor.is_some_and(|own| std::ptr::eq(own, processor)) {
            self.hold(None);
        }
    }
}
