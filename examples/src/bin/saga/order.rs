//! An order: a state machine that is driven by answers, and by time.

use super::service::{Answer, Request, Step};
use bast::sync::channel::{self, Receiver, Sender};
use bast::{select, trace};
use std::fmt::Write;
use std::time::Duration;

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All steps are done.
    Done,
    /// All that was done is undone.
    Undone,
}

/// Where an order is: a step to do, or one to undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Doing(usize),
    Undoing(usize),
    Ended(End),
}

/// What came of waiting for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Answer(Answer),
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Order {
    number: u64,
    services: [Sender<Request>; 3],
    patience: Duration,
    journal: String,
}

impl Order {
    pub(crate) fn new(number: u64, services: [Sender<Request>; 3], patience: Duration) -> Order {
        Order {
            number,
            services,
            patience,
            journal: String::new(),
        }
    }

    /// From the first state to the last; the journal says how. In an execution trace each step is a region of `work`.
    pub(crate) fn carry_out(mut self, work: &trace::UserTask) -> (String, End) {
        work.log("number", &self.number.to_string());
        let mut state = State::Doing(0);
        loop {
            state = match state {
                State::Doing(step) => work.region(Step::ALL[step].name(), || self.do_step(step)),
                State::Undoing(step) => {
                    let name = format!("undo {}", Step::ALL[step].name());
                    work.region(&name, || self.undo_step(step))
                }
                State::Ended(end) => {
                    work.log("journal", &self.journal);
                    return (self.journal, end);
                }
            };
        }
    }

    fn do_step(&mut self, step: usize) -> State {
        let name = Step::ALL[step].name();
        let order = self.number;
        match self.ask(step, |answer| Request::Do { order, answer }) {
            Heard::Answer(Answer::Done) => {
                self.note(name);
                if step + 1 < Step::ALL.len() {
                    return State::Doing(step + 1);
                }
                self.note("done");
                State::Ended(End::Done)
            }
            Heard::Answer(_) => {
                self.note(&format!("{name} refused"));
                step.checked_sub(1)
                    .map_or(State::Ended(End::Undone), State::Undoing)
            }
            Heard::Nothing => {
                self.note(&format!("{name} late"));
                State::Undoing(step) // it may have been done all the same
            }
        }
    }

    /// What must be undone is asked for until it is: to give up here would leave the world in two halves.
    fn undo_step(&mut self, step: usize) -> State {
        let order = self.number;
        while self.ask(step, |answer| Request::Undo { order, answer }) != Heard::Answer(Answer::Undone) {
            self.note(&format!("{} asked again", Step::ALL[step].name()));
        }
        self.note(&format!("{} undone", Step::ALL[step].name()));
        step.checked_sub(1)
            .map_or(State::Ended(End::Undone), State::Undoing)
    }

    fn ask(&self, step: usize, request: impl FnOnce(Sender<Answer>) -> Request) -> Heard {
        // Room for the answer: a service never waits for an order that has gone on.
        let (answer, answers): (_, Receiver<Answer>) = channel::bounded(1);
        let over = channel::after(self.patience);
        select! {
            send(self.services[step], request(answer)) -> sent => sent.expect("services outlive the orders"),
            recv(over) -> _ => return Heard::Nothing, // the service has more to do than it can
        }
        select! {
            recv(answers) -> answer => answer.map_or(Heard::Nothing, Heard::Answer),
            recv(over) -> _ => Heard::Nothing,
        }
    }

    fn note(&mut self, what: &str) {
        let arrow = if self.journal.is_empty() { "" } else { " → " };
        write!(self.journal, "{arrow}{what}").expect("a string takes all that is written");
    }
}
