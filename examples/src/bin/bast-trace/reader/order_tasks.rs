//! The rules of tasks.

use super::event::{ProcessorState, Raw, TaskState, What};
use super::kind::Kind;
use super::order::{Advance, Hold, Needs, Order, Place, Step, Task, missing_processor, missing_task};
use super::wire::NONE;

impl Order {
    pub(super) fn status(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        let [id, thread, status, stack] = raw.arguments;
        let Some(state) = TaskState::of_status(status) else {
            return Err(format!("task {id} has status {status}, expected 1 to 4"));
        };
        let (fresh, is_first) = (self.fresh(), self.is_first());
        let from = match self.tasks.get_mut(&id) {
            Some(known) if known.state != state => {
                return Err(format!(
                    "task {id} is said to be {}, it is {}",
                    state.name(),
                    known.state.name()
                ));
            }
            Some(known) => {
                known.number = fresh;
                state
            }
            None if is_first => {
                self.add_task(id, state);
                TaskState::Unknown
            }
            None => {
                return Err(format!(
                    "task {id} is met by its status, after the first generation"
                ));
            }
        };
        let mut seen = *place;
        match state {
            TaskState::Running => {
                self.check_alone(id, *place)?;
                place.task = id;
            }
            TaskState::Syscall => {
                if thread == NONE {
                    return Err(format!("task {id} is in a system call, without a thread"));
                }
                if thread == place.thread {
                    if !self.is_first() && place.task != id {
                        return Err(not_on_thread(id, thread, place.task));
                    }
                    self.check_alone(id, *place)?;
                    place.task = id;
                } else {
                    let held = self.threads.entry(thread).or_insert((NONE, id));
                    if held.1 != id {
                        return Err(not_on_thread(id, thread, held.1));
                    }
                    seen = Place {
                        thread,
                        processor: held.0,
                        task: id,
                    };
                }
            }
            _ => {}
        }
        let named = if raw.kind == Kind::GoStatusStack { stack } else { 0 };
        self.emit(
            raw,
            seen,
            What::Task {
                id,
                from,
                to: state,
                reason: 0,
                named,
            },
        );
        Ok(Step::Done)
    }

    fn check_alone(&self, id: u64, place: Place) -> Result<(), String> {
        if !self.strict {
            return Ok(());
        }
        if place.thread == NONE {
            return Err(format!(
                "task {id} is on a thread, so its status must be in the batch of that thread"
            ));
        }
        if place.task != NONE && place.task != id {
            return Err(format!(
                "task {id} is on this thread, which holds task {}",
                place.task
            ));
        }
        Ok(())
    }

    fn add_task(&mut self, id: u64, state: TaskState) {
        let number = self.fresh();
        self.tasks.insert(
            id,
            Task {
                state,
                number,
                regions: Vec::new(),
                ranges: Vec::new(),
                stopped_in: 0,
            },
        );
    }

    /// The task of a place, which must be in a state.
    pub(super) fn own(&mut self, place: Place, state: TaskState) -> Result<&mut Task, String> {
        let id = place.task;
        match self.tasks.get_mut(&id) {
            Some(task) if task.state == state => Ok(task),
            Some(task) => Err(format!(
                "expected task {id} to be {}, it is {}",
                state.name(),
                task.state.name()
            )),
            None => Err(format!("the thread has task {id}, which is not alive")),
        }
    }

    pub(super) fn create(&mut self, raw: &Raw, place: Place) -> Advance {
        place.check(Needs::Must, Needs::Either)?;
        if place.task != NONE && self.tasks.contains_key(&place.task) {
            self.own(place, TaskState::Running)?;
        }
        let [id, named, ..] = raw.arguments;
        let to = if raw.kind == Kind::GoCreateBlocked {
            TaskState::Waiting
        } else {
            TaskState::Runnable
        };
        self.create_new(id, to)?;
        self.emit(
            raw,
            place,
            What::Task {
                id,
                from: TaskState::Absent,
                to,
                reason: 0,
                named,
            },
        );
        Ok(Step::Done)
    }

    fn create_new(&mut self, id: u64, state: TaskState) -> Result<(), String> {
        if self.tasks.contains_key(&id) {
            return Err(format!("creates task {id}, which is alive"));
        }
        self.add_task(id, state);
        Ok(())
    }

    pub(super) fn create_in_syscall(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        place.check(Needs::Either, Needs::MustNot)?;
        let id = raw.arguments[0];
        self.create_new(id, TaskState::Syscall)?;
        let what = What::Task {
            id,
            from: TaskState::Absent,
            to: TaskState::Syscall,
            reason: 0,
            named: 0,
        };
        self.emit(raw, *place, what);
        place.task = id;
        Ok(Step::Done)
    }

    pub(super) fn start(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        let [id, number, ..] = raw.arguments;
        if !self.is_next(id, TaskState::Runnable, number) {
            return Ok(missing_task(id, self.tasks.get(&id), "runnable", number));
        }
        place.check(Needs::Must, Needs::MustNot)?;
        self.set(id, TaskState::Running, Some(number));
        self.emit(raw, *place, moved(id, TaskState::Runnable, TaskState::Running));
        place.task = id;
        Ok(Step::Done)
    }

    fn is_next(&self, id: u64, state: TaskState, number: u64) -> bool {
        self.tasks
            .get(&id)
            .is_some_and(|task| task.state == state && self.follows(number, task.number))
    }

    fn set(&mut self, id: u64, state: TaskState, number: Option<u64>) {
        let number = number.map(|number| self.next(number));
        if let Some(task) = self.tasks.get_mut(&id) {
            task.state = state;
            task.number = number.unwrap_or(task.number);
        }
    }

    /// Takes the running task of a place out of the tasks.
    fn end(&mut self, id: u64) -> Result<(), String> {
        match self.tasks.remove(&id) {
            Some(task) if self.strict && !task.ranges.is_empty() => {
                Err(format!("task {id} ends within {:?}", task.ranges[0]))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn leave(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        place.check_task()?;
        self.own(*place, TaskState::Running)?;
        let id = place.task;
        let to = match raw.kind {
            Kind::GoStop => TaskState::Runnable,
            Kind::GoBlock => TaskState::Waiting,
            _ => TaskState::Absent,
        };
        let reason = raw.arguments[0];
        if to == TaskState::Absent {
            self.end(id)?;
        } else {
            self.set(id, to, None);
        }
        self.emit(
            raw,
            *place,
            What::Task {
                id,
                from: TaskState::Running,
                to,
                reason,
                named: raw.stack(),
            },
        );
        place.task = NONE;
        Ok(Step::Done)
    }

    pub(super) fn unblock(&mut self, raw: &Raw, place: Place) -> Advance {
        let [id, number, ..] = raw.arguments;
        if !self.is_next(id, TaskState::Waiting, number) {
            return Ok(missing_task(id, self.tasks.get(&id), "waiting", number));
        }
        self.set(id, TaskState::Runnable, Some(number));
        self.emit(raw, place, moved(id, TaskState::Waiting, TaskState::Runnable));
        Ok(Step::Done)
    }

    /// Three transitions in one: the running task waits or ends, the other is woken and runs.
    pub(super) fn switch(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        place.check_task()?;
        self.own(*place, TaskState::Running)?;
        let [next, number, ..] = raw.arguments;
        if !self.is_next(next, TaskState::Waiting, number) {
            return Ok(missing_task(next, self.tasks.get(&next), "waiting", number));
        }
        let old = place.task;
        self.emit(raw, *place, moved(next, TaskState::Waiting, TaskState::Runnable));
        if raw.kind == Kind::GoSwitch {
            self.set(old, TaskState::Waiting, None);
            self.emit(raw, *place, moved(old, TaskState::Running, TaskState::Waiting));
        } else {
            self.end(old)?;
            self.emit(raw, *place, moved(old, TaskState::Running, TaskState::Absent));
        }
        self.set(next, TaskState::Running, Some(number));
        place.task = NONE;
        self.emit(raw, *place, moved(next, TaskState::Runnable, TaskState::Running));
        place.task = next;
        Ok(Step::Done)
    }

    pub(super) fn syscall_begin(&mut self, raw: &Raw, place: Place) -> Advance {
        place.check_task()?;
        self.own(place, TaskState::Running)?;
        let number = raw.arguments[0];
        let last = self.known_processor(place.processor)?.number;
        if !self.follows(number, last) {
            let (id, last) = (place.processor, last.number);
            return Err(format!(
                "processor {id} has number {last} last, expected it to be one below {number}"
            ));
        }
        let next = self.next(number);
        let processor = self.known_processor(place.processor)?;
        processor.hold = Hold::Syscall;
        processor.number = next;
        self.set(place.task, TaskState::Syscall, None);
        let (from, to) = (TaskState::Running, TaskState::Syscall);
        self.emit(
            raw,
            place,
            What::Task {
                id: place.task,
                from,
                to,
                reason: 0,
                named: raw.stack(),
            },
        );
        Ok(Step::Done)
    }

    pub(super) fn syscall_end(&mut self, raw: &Raw, place: Place) -> Advance {
        place.check_task()?;
        self.own(place, TaskState::Syscall)?;
        let id = place.processor;
        let processor = self.known_processor(id)?;
        if processor.hold != Hold::Syscall {
            return Err(format!(
                "expected processor {id} to be in a system call, it is {}",
                processor.hold
            ));
        }
        processor.hold = Hold::Running;
        self.set(place.task, TaskState::Running, None);
        self.emit(
            raw,
            place,
            moved(place.task, TaskState::Syscall, TaskState::Running),
        );
        Ok(Step::Done)
    }

    pub(super) fn syscall_end_blocked(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        if place.processor != NONE && self.known_processor(place.processor)?.hold == Hold::Syscall {
            let id = place.processor;
            return Ok(missing_processor(
                id,
                self.processors.get(&id),
                "taken from this thread",
                None,
            ));
        }
        place.check(Needs::Either, Needs::Must)?;
        self.own(*place, TaskState::Syscall)?;
        self.set(place.task, TaskState::Runnable, None);
        self.emit(
            raw,
            *place,
            moved(place.task, TaskState::Syscall, TaskState::Runnable),
        );
        place.task = NONE;
        Ok(Step::Done)
    }

    pub(super) fn destroy_in_syscall(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        place.check(Needs::Either, Needs::Must)?;
        self.own(*place, TaskState::Syscall)?;
        let task = place.task;
        self.end(task)?;
        if place.processor != NONE {
            let id = place.processor;
            let processor = self.known_processor(id)?;
            if processor.hold != Hold::Syscall {
                return Err(format!(
                    "expected processor {id} to be in a system call, it is {}",
                    processor.hold
                ));
            }
            processor.hold = Hold::Abandoned;
            self.emit(
                raw,
                *place,
                What::Processor {
                    id,
                    from: ProcessorState::Taken,
                    to: ProcessorState::Idle,
                },
            );
            place.processor = NONE;
        }
        self.emit(raw, *place, moved(task, TaskState::Syscall, TaskState::Absent));
        place.task = NONE;
        Ok(Step::Done)
    }
}

fn moved(id: u64, from: TaskState, to: TaskState) -> What {
    What::Task {
        id,
        from,
        to,
        reason: 0,
        named: 0,
    }
}

fn not_on_thread(id: u64, thread: u64, held: u64) -> String {
    if held == NONE {
        return format!("task {id} is said to be in a system call on thread {thread}, which has no task");
    }
    format!("task {id} is said to be in a system call on thread {thread}, which has task {held}")
}
