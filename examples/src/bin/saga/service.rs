//! A service: a task that owns what it knows, and a channel of requests.

use bast::sync::channel::{self, Receiver, Sender};
use std::collections::HashMap;
use std::time::Duration;

/// A step of an order, each with its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Stock,
    Payment,
    Shipping,
}

impl Step {
    /// In order.
    pub(crate) const ALL: [Step; 3] = [Step::Stock, Step::Payment, Step::Shipping];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Step::Stock => "stock",
            Step::Payment => "payment",
            Step::Shipping => "shipping",
        }
    }
}

/// What is asked of a service, with the channel for its answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Do your step for this order.
    Do { order: u64, answer: Sender<Answer> },
    /// Whatever you have done for this order, or may still be asked to do: it is off.
    Undo { order: u64, answer: Sender<Answer> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Refused,
    Undone,
}

/// How a service behaves, to see the orders cope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) refuses_every: Option<u64>,
    pub(crate) late_every: Option<u64>,
    pub(crate) late_by: Duration,
    /// How long it works on a step; one at a time.
    pub(crate) takes: Duration,
    /// For how many orders at a time it can stand.
    pub(crate) room: u64,
}

/// What a service says at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Books {
    pub(crate) done: u64,
    pub(crate) undone: u64,
    /// Done and not undone.
    pub(crate) standing: u64,
}

/// Where an order is with a service. It is kept, so that a request that comes twice, or late, changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Done,
    Refused,
    Off,
}

#[derive(Debug)]
pub(crate) struct Service {
    requests: Sender<Request>,
    task: bast::JoinHandle<Books>,
}

impl Service {
    pub(crate) fn start(step: Step, plan: Plan) -> Service {
        let (requests, to_do) = channel::bounded(32);
        let named = bast::task::Builder::new().name(step.name());
        let task = named
            .spawn(move || serve(plan, &to_do))
            .expect("there is room for a task");
        Service { requests, task }
    }

    pub(crate) fn requests(&self) -> Sender<Request> {
        self.requests.clone()
    }

    /// Ends when nobody has a request any more.
    pub(crate) fn stop(self) -> Books {
        drop(self.requests);
        self.task.join().expect("a service does not panic")
    }
}

fn serve(plan: Plan, requests: &Receiver<Request>) -> Books {
    let (mut orders, mut books) = (HashMap::new(), Books::default());
    let mut late = Vec::new();
    for request in requests {
        match request {
            Request::Do { order, answer } => {
                if !plan.takes.is_zero() {
                    bast::time::sleep(plan.takes);
                }
                let standing = *orders.entry(order).or_insert_with(|| {
                    let refused = plan
                        .refuses_every
                        .is_some_and(|every| order.is_multiple_of(every));
                    if refused || books.standing == plan.room {
                        return Standing::Refused;
                    }
                    books.done += 1;
                    books.standing += 1;
                    Standing::Done
                });
                let said = if standing == Standing::Done {
                    Answer::Done
                } else {
                    Answer::Refused
                };
                if plan.late_every.is_some_and(|every| order.is_multiple_of(every)) {
                    // It is done, but the answer takes its time, and is nobody's by then. The others do not wait for it.
                    late.push(bast::spawn(move || {
                        bast::time::sleep(plan.late_by);
                        let _ = answer.send(said);
                    }));
                } else {
                    let _ = answer.send(said);
                }
            }
            Request::Undo { order, answer } => {
                if orders.insert(order, Standing::Off) == Some(Standing::Done) {
                    books.undone += 1;
                    books.standing -= 1;
                }
                let _ = answer.send(Answer::Undone);
            }
        }
    }
    for answer in late {
        answer.join().expect("a late answer does not panic");
    }
    books
}
