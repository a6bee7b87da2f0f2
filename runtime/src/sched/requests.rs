//! What a worker does at an entry at which something is asked of it (`blocking::handoff`).

use super::inside::Inside;
use super::worker::Settle;
use crate::blocking::handoff::{CLOSE, DETACH, Settled, WATCH, YIELD};

impl Inside {
    #[cold]
    pub(super) fn enter_slowly(mut self) -> Inside {
        self.honour_requests();
        self
    }

    fn honour_requests(&mut self) {
        let asked = match self.worker().marking.settle_request() {
            Settled::Held(asked) => {
                self.tell_monitor(asked);
                asked
            }
            Settled::Lost(asked) => {
                self.tell_monitor(asked);
                self.worker().processor.set(None);
                if !self.take_lease() {
                    self.regain();
                }
                if asked & DETACH != 0 && self.shared().overruns.reports() {
                    self.report_return();
                }
                asked & CLOSE
            }
        };
        if asked & (YIELD | CLOSE) != 0 && !self.at_home_stack() {
            self.yield_for(asked);
        }
    }

    /// Yields because that was asked for: to whom is held, if somebody is. That is seen to at home.
    fn yield_for(&mut self, asked: u32) {
        let free = !std::thread::panicking() && self.may_park() && !self.worker().locked.get();
        if asked & YIELD == 0 {
            self.yield_now();
            return;
        }
        if !free || !self.shared().has_held() {
            self.yield_as(Settle::Preempted);
            return;
        }
        self.processor().counters.yields.add(1);
        let task = self.task();
        self.leave_to(Settle::Preempted(task), None);
    }

    /// Leaves the runtime for the time of `outside`.
    #[cold]
    pub(crate) fn step_out(&mut self, outside: impl FnOnce()) {
        self.worker().marking.exit();
        outside();
        if self.worker().marking.enter() {
            self.honour_requests();
        }
    }

    /// The monitor rests until somebody makes a call.
    pub(super) fn tell_monitor(&self, asked: u32) {
        if asked & WATCH != 0 {
            self.shared().monitor.note_call();
        }
    }

    /// An entry was asked for something. True: it was only that.
    #[cold]
    pub(super) fn answer_watch(&self) -> bool {
        let marking = &self.worker().marking;
        let only = marking.requested() == WATCH;
        if only {
            marking.answered(WATCH);
            self.tell_monitor(WATCH);
        }
        only
    }
}
