//! The rules of what stands beside the scheduling: user tasks and regions, ranges, the collector, metrics.

use super::event::{Range, Raw, TaskState, What};
use super::kind::Kind;
use super::order::{Advance, Collector, Missing, Needs, Order, Place, Step};
use super::tables::Tables;
use super::wire::NONE;

impl Order {
    pub(super) fn annotation(&mut self, raw: &Raw, place: Place, tables: &Tables) -> Advance {
        let [first, second, third, _] = raw.arguments;
        let is_experimental = raw.kind as u8 >= 128;
        let task = if is_experimental {
            Needs::Either
        } else {
            Needs::Must
        };
        place.check(
            if is_experimental {
                Needs::Either
            } else {
                Needs::Must
            },
            task,
        )?;
        let what = match raw.kind {
            Kind::ProcsChange => {
                if self.strict {
                    self.own(place, TaskState::Running)?;
                }
                self.counted = true;
                What::Processors { count: first }
            }
            Kind::GoLabel => {
                if self.strict && tables.string(first).is_none_or(|text| text.is_empty()) {
                    return Err("expected a label, it is empty".to_owned());
                }
                What::Label { text: first }
            }
            Kind::UserTaskBegin => {
                if self.strict && (first == 0 || first == NONE) {
                    return Err(format!("user task {first} begins, which is not an ID of one"));
                }
                if !self.user_tasks.insert(first) {
                    return Err(format!(
                        "user task {first} begins, it has begun before and not ended"
                    ));
                }
                What::UserTaskBegin {
                    id: first,
                    parent: second,
                    name: third,
                }
            }
            Kind::UserTaskEnd => {
                self.user_tasks.remove(&first);
                What::UserTaskEnd { id: first }
            }
            Kind::UserRegionBegin | Kind::UserRegionEnd => self.region(raw, place, tables)?,
            Kind::UserLog => What::Log {
                user_task: first,
                key: second,
                value: third,
            },
            _ => What::Other,
        };
        self.emit(raw, place, what);
        Ok(Step::Done)
    }

    /// Regions end in the task where they began, the innermost first.
    fn region(&mut self, raw: &Raw, place: Place, tables: &Tables) -> Result<What, String> {
        let [user_task, id, ..] = raw.arguments;
        let name = tables.string(id).ok_or("its name is not in the table")?;
        let regions = &mut self.own_any(place)?.regions;
        if raw.kind == Kind::UserRegionBegin {
            regions.push((user_task, name));
            return Ok(What::RegionBegin { user_task, name: id });
        }
        if let Some((open_task, open)) = regions.pop()
            && (open_task, &open) != (user_task, &name)
        {
            return Err(format!(
                "region \"{name}\" of user task {user_task} ends in task {}, whose innermost is \"{open}\" of user task {open_task}",
                place.task
            ));
        }
        Ok(What::RegionEnd { user_task, name: id })
    }

    fn own_any(&mut self, place: Place) -> Result<&mut super::order::Task, String> {
        let id = place.task;
        self.tasks
            .get_mut(&id)
            .ok_or_else(|| format!("the thread has task {id}, which is not alive"))
    }

    pub(super) fn heap(&mut self, raw: &Raw, place: Place) -> Advance {
        place.check(Needs::Must, Needs::Either)?;
        self.emit(
            raw,
            place,
            What::Heap {
                goal: raw.kind == Kind::HeapGoal,
                bytes: raw.arguments[0],
            },
        );
        Ok(Step::Done)
    }

    pub(super) fn range_begin(&mut self, raw: &Raw, place: Place) -> Advance {
        place.check_task()?;
        let range = range_of(raw.kind);
        let generation = self.generation;
        let task = self.own_any(place)?;
        if task.ranges.contains(&range) {
            return Err(format!("{range:?} begins within itself, in task {}", place.task));
        }
        task.ranges.push(range);
        if range == Range::StopTheWorld {
            task.stopped_in = generation;
        }
        self.emit(raw, place, What::RangeBegin { range });
        Ok(Step::Done)
    }

    pub(super) fn range_end(&mut self, raw: &Raw, place: Place) -> Advance {
        place.check_task()?;
        let range = range_of(raw.kind);
        let generation = self.generation;
        let task = self.own_any(place)?;
        let Some(index) = task.ranges.iter().position(|&open| open == range) else {
            return Err(format!(
                "{range:?} ends in task {}, where it has not begun",
                place.task
            ));
        };
        if range == Range::StopTheWorld && task.stopped_in != generation {
            let began = task.stopped_in;
            return Err(format!(
                "StopTheWorld ends that began in generation {began}: it must not cross the border"
            ));
        }
        task.ranges.swap_remove(index);
        self.emit(raw, place, What::RangeEnd { range });
        Ok(Step::Done)
    }

    pub(super) fn mark_assist_active(&mut self, raw: &Raw, place: Place) -> Advance {
        let id = raw.arguments[0];
        let is_first = self.is_first();
        let task = self
            .tasks
            .get_mut(&id)
            .ok_or_else(|| format!("nothing is known of task {id}"))?;
        let known = task.ranges.contains(&Range::MarkAssist);
        if known == is_first {
            return Err(format!(
                "a mark assist of task {id} is said to go on, it {}",
                begun(known)
            ));
        }
        if !known {
            task.ranges.push(Range::MarkAssist);
            self.emit(
                raw,
                place,
                What::RangeBegin {
                    range: Range::MarkAssist,
                },
            );
        } else {
            self.emit(raw, place, What::Other);
        }
        Ok(Step::Done)
    }

    pub(super) fn sweep(&mut self, raw: &Raw, place: Place) -> Advance {
        let is_first = self.is_first();
        let is_active = raw.kind == Kind::GCSweepActive;
        let id = if is_active {
            raw.arguments[0]
        } else {
            place.processor
        };
        if !is_active {
            place.check(Needs::Must, Needs::Either)?;
        }
        let processor = self.known_processor(id)?;
        let known = processor.sweeps;
        let wrong = match raw.kind {
            Kind::GCSweepActive => known == is_first,
            Kind::GCSweepBegin => known,
            _ => !known,
        };
        if wrong {
            return Err(format!("a sweep of processor {id}: it {}", begun(known)));
        }
        processor.sweeps = raw.kind != Kind::GCSweepEnd;
        let what = match (raw.kind, known) {
            (Kind::GCSweepEnd, _) => What::RangeEnd { range: Range::Sweep },
            (_, false) => What::RangeBegin { range: Range::Sweep },
            (_, true) => What::Other,
        };
        self.emit(raw, place, what);
        Ok(Step::Done)
    }

    /// The phases of the collector share one number, which no generation resets.
    pub(super) fn collector(&mut self, raw: &Raw, place: Place) -> Advance {
        let number = raw.arguments[0];
        let (state, last) = self.collector;
        let opens = match raw.kind {
            Kind::GCActive => self.is_first(),
            Kind::GCBegin => state == Collector::Unknown,
            _ => false,
        };
        if raw.kind == Kind::GCActive && opens && state != Collector::Unknown {
            return Err("the mark phase is said to go on, after another event of it".to_owned());
        }
        if !opens {
            if last.checked_add(1) != Some(number) {
                let now = Some((
                    if state == Collector::Marking {
                        "marking"
                    } else {
                        "not marking"
                    },
                    last,
                ));
                let what = "the collector of number";
                return Ok(Step::Wait(Missing {
                    what,
                    id: number,
                    now,
                    wants: "as the next",
                    number: Some(number),
                }));
            }
            let expected = if raw.kind == Kind::GCBegin {
                Collector::Idle
            } else {
                Collector::Marking
            };
            if state != expected {
                return Err(format!(
                    "expected the collector to be {expected:?}, it is {state:?}"
                ));
            }
            place.check_task()?;
        }
        let marking = raw.kind != Kind::GCEnd;
        self.collector = (
            if marking {
                Collector::Marking
            } else {
                Collector::Idle
            },
            number,
        );
        let what = match raw.kind {
            Kind::GCEnd => What::RangeEnd { range: Range::Mark },
            _ if state != Collector::Marking => What::RangeBegin { range: Range::Mark },
            _ => What::Other,
        };
        self.emit(raw, place, what);
        Ok(Step::Done)
    }
}

fn range_of(kind: Kind) -> Range {
    match kind {
        Kind::STWBegin | Kind::STWEnd => Range::StopTheWorld,
        _ => Range::MarkAssist,
    }
}

fn begun(known: bool) -> &'static str {
    if known {
        "has begun before"
    } else {
        "has not begun"
    }
}
