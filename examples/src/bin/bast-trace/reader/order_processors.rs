//! The rules of processors.

use super::event::{ProcessorState, Raw, What};
use super::order::{Advance, Hold, Needs, Order, Place, Processor, Step, missing_processor, seen};
use super::wire::NONE;

impl Order {
    pub(super) fn processor_status(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        let [id, status, ..] = raw.arguments;
        let Some(mut hold) = Hold::of_status(status) else {
            return Err(format!("processor {id} has status {status}, expected 1 to 4"));
        };
        let fresh = self.fresh();
        let from = match self.processors.get_mut(&id) {
            Some(known) => {
                if hold == Hold::Abandoned && known.hold == Hold::Syscall {
                    hold = Hold::Syscall;
                } else if known.hold != hold {
                    return Err(format!(
                        "processor {id} is said to be {hold}, it is {}",
                        known.hold
                    ));
                }
                known.number = fresh;
                seen(hold)
            }
            None => {
                self.processors.insert(
                    id,
                    Processor {
                        hold,
                        number: fresh,
                        sweeps: false,
                    },
                );
                ProcessorState::Unknown
            }
        };
        let abandoned = status == 4;
        if abandoned && hold == Hold::Syscall && !self.threads.values().any(|held| held.0 == id) {
            return Err(format!(
                "processor {id} is abandoned in a system call, no thread is known to hold it"
            ));
        }
        if !abandoned && seen(hold) == ProcessorState::Taken {
            if self.strict && place.thread == NONE {
                return Err(format!(
                    "processor {id} is {hold}, so its status must be in the batch of a thread"
                ));
            }
            if self.strict && place.processor != NONE && place.processor != id {
                let other = place.processor;
                return Err(format!(
                    "processor {id} is {hold} on this thread, which holds processor {other}"
                ));
            }
            place.processor = id;
        }
        self.emit(
            raw,
            *place,
            What::Processor {
                id,
                from,
                to: seen(hold),
            },
        );
        Ok(Step::Done)
    }

    pub(super) fn processor_start(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        let [id, number, ..] = raw.arguments;
        let next = self.next(number);
        let known = self.processors.get(&id);
        let ready = known.is_some_and(|it| it.hold == Hold::Idle && self.follows(number, it.number));
        if !ready {
            return Ok(missing_processor(id, known, "idle", Some(number)));
        }
        if place.processor != NONE {
            let own = place.processor;
            return Ok(missing_processor(
                own,
                self.processors.get(&own),
                "taken from this thread",
                None,
            ));
        }
        place.check(Needs::MustNot, Needs::Either)?;
        if let Some(it) = self.processors.get_mut(&id) {
            it.hold = Hold::Running;
            it.number = next;
        }
        self.emit(
            raw,
            *place,
            What::Processor {
                id,
                from: ProcessorState::Idle,
                to: ProcessorState::Taken,
            },
        );
        place.processor = id;
        Ok(Step::Done)
    }

    pub(super) fn processor_stop(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        place.check(Needs::Must, Needs::Either)?;
        let id = place.processor;
        let it = self.known_processor(id)?;
        if !matches!(it.hold, Hold::Running | Hold::Syscall) {
            return Err(format!("processor {id} stops, it is {}", it.hold));
        }
        it.hold = Hold::Idle;
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
        Ok(Step::Done)
    }

    pub(super) fn processor_steal(&mut self, raw: &Raw, place: &mut Place) -> Advance {
        let [id, number, victim, ..] = raw.arguments;
        let next = self.next(number);
        let known = self.processors.get(&id);
        let ready = known.is_some_and(|it| {
            matches!(it.hold, Hold::Syscall | Hold::Abandoned) && self.follows(number, it.number)
        });
        if !ready {
            return Ok(missing_processor(id, known, "in a system call", Some(number)));
        }
        place.check(Needs::Either, Needs::Either)?;
        let it = self.known_processor(id)?;
        let from = seen(it.hold);
        let abandoned = it.hold == Hold::Abandoned;
        it.hold = Hold::Idle;
        it.number = next;
        if !abandoned {
            let held = if victim == place.thread {
                Some(place.processor)
            } else {
                self.threads.get(&victim).map(|held| held.0)
            };
            match held {
                Some(held) if held == id => {}
                Some(NONE) => {
                    return Err(format!(
                        "takes processor {id} from thread {victim}, which has none"
                    ));
                }
                Some(held) => {
                    return Err(format!(
                        "takes processor {id} from thread {victim}, which holds processor {held}"
                    ));
                }
                None => {
                    return Err(format!(
                        "takes processor {id} from thread {victim}, which is not known"
                    ));
                }
            }
        }
        self.emit(
            raw,
            *place,
            What::Processor {
                id,
                from,
                to: ProcessorState::Idle,
            },
        );
        if abandoned {
            return Ok(Step::Done);
        }
        if victim == place.thread {
            place.processor = NONE;
        } else if let Some(held) = self.threads.get_mut(&victim) {
            held.0 = NONE;
        }
        Ok(Step::Done)
    }

    pub(super) fn known_processor(&mut self, id: u64) -> Result<&mut Processor, String> {
        self.processors
            .get_mut(&id)
            .ok_or_else(|| format!("nothing is known of processor {id}"))
    }
}
