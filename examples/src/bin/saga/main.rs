//! Orders that take several steps in several places, with what was done undone when one fails:
//! `cargo run --release --bin saga -- --orders 8 --fail-every shipping=3 --slow-every payment=4`.
//!
//! ```text
//!               ┌──────────┐  ok   ┌─────────┐  ok   ┌──────────┐  ok   ┌──────┐
//!   order ────► │ stock    │ ────► │ payment │ ────► │ shipping │ ────► │ done │
//!               └──────────┘       └─────────┘       └──────────┘       └──────┘
//!                 │ refused          │ refused, late   │ refused, late
//!                 ▼                  ▼                 ▼
//!               failed ◄────────── undo stock ◄────── undo payment
//! ```
//! A service is a task that owns its state and answers requests from a channel: no lock anywhere. An order is a task that
//! goes through the states. A step that is late may still happen: so it is undone as well, and services take every
//! request to do or undo something once, whatever is asked twice (`service.rs`).

mod order;
mod service;

use bast::sync::channel;
use clap::Parser;
use order::{End, Order};
use service::{Books, Plan, Service, Step};
use std::process::ExitCode;
use std::time::Duration;

/// Carries orders through stock, payment and shipping, and undoes those that fail
#[derive(Clone, Debug, Parser)]
struct Options {
    /// Orders, all under way at once
    #[arg(long, default_value_t = 12)]
    orders: u64,
    /// A service that refuses every so many orders, as STEP=N; may be given again
    #[arg(long, value_name = "STEP=N", value_parser = every)]
    fail_every: Vec<(Step, u64)>,
    /// A service that answers too late every so many orders, as STEP=N; may be given again
    #[arg(long, value_name = "STEP=N", value_parser = every)]
    slow_every: Vec<(Step, u64)>,
    /// How long an order waits for an answer, in milliseconds
    #[arg(long, default_value_t = 50)]
    patience: u64,
    /// How long a service works on a step, in milliseconds
    #[arg(long, default_value_t = 0)]
    step_ms: u64,
    /// Items there are in stock; an order takes one
    #[arg(long, default_value_t = 1000)]
    stock: u64,
    /// Only the summary
    #[arg(long)]
    quiet: bool,
}

fn every(text: &str) -> Result<(Step, u64), String> {
    let (step, count) = text.split_once('=').ok_or("expected STEP=N, as in payment=3")?;
    let step = Step::ALL
        .into_iter()
        .find(|known| known.name() == step)
        .ok_or("the steps are stock, payment and shipping")?;
    match count.parse() {
        Ok(count) if count > 0 => Ok((step, count)),
        _ => Err("N is a number from 1".to_owned()),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    // SAFETY: nothing that belongs to a thread (a lock guard, an `Rc`, a thread-local borrow) is kept across a wait.
    let (ends, books) = unsafe { bast::run(|| run(&options)) };
    if !options.quiet {
        ends.iter()
            .for_each(|(order, journal, _)| println!("order {order}: {journal}"));
    }
    let done = ends.iter().filter(|(.., end)| *end == End::Done).count() as u64;
    println!("{done} orders done, {} undone", ends.len() as u64 - done);
    for (step, books) in Step::ALL.into_iter().zip(books) {
        println!(
            "{:<9} {} done, {} undone, {} stand",
            step.name(),
            books.done,
            books.undone,
            books.standing
        );
        if books.standing != done {
            eprintln!(
                "saga: {} stands for {} orders, but {done} are done",
                step.name(),
                books.standing
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Starts the services and all orders; what became of the orders, and the services' books.
fn run(options: &Options) -> (Vec<(u64, String, End)>, [Books; 3]) {
    let patience = Duration::from_millis(options.patience);
    let services = Step::ALL.map(|step| {
        let of = |list: &[(Step, u64)]| {
            list.iter()
                .filter(|one| one.0 == step)
                .map(|one| one.1)
                .next_back()
        };
        let plan = Plan {
            refuses_every: of(&options.fail_every),
            late_every: of(&options.slow_every),
            late_by: 10 * patience,
            takes: Duration::from_millis(options.step_ms),
            room: if step == Step::Stock {
                options.stock
            } else {
                u64::MAX
            },
        };
        Service::start(step, plan)
    });
    let (say, said) = channel::unbounded();
    let all = bast::trace::task("all orders");
    for number in 1..=options.orders {
        let order = Order::new(number, services.each_ref().map(Service::requests), patience);
        let say = say.clone();
        let work = all.task("order");
        let named = bast::task::Builder::new().name(format!("order {number}"));
        let under_way = named.spawn(move || {
            let (journal, end) = order.carry_out(&work);
            say.send((number, journal, end))
                .expect("the caller waits for all orders");
        });
        under_way.expect("there is room for a task");
    }
    drop(say);
    let mut ends: Vec<_> = said.iter().collect();
    ends.sort_unstable_by_key(|(number, ..)| *number);
    (ends, services.map(Service::stop))
}
