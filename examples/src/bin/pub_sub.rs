//! An event bus in one process: `cargo run --release --bin pub_sub -- --overflow drop --slow-ms 1`.
//!
//! Publishers name a topic, subscribers a pattern of topics, neither knows the other. Every subscriber has a queue of its
//! own with a limit, and says what happens when it is full: the publisher waits, the event is dropped and counted, or
//! the subscriber is thrown out. The program runs some of each side by side, one subscriber slow, and keeps books.

use bast::sync::RwLock;
use bast::sync::channel::{self, Receiver, Sender, TrySendError};
use clap::{Parser, ValueEnum};
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Publishes events to subscribers, one of which is slow
#[derive(Clone, Debug, Parser)]
struct Options {
    /// Tasks that publish
    #[arg(long, default_value_t = 4)]
    publishers: u64,
    /// Events that each of them publishes
    #[arg(long, default_value_t = 1000)]
    events: u64,
    /// Patterns, a subscriber each: a topic, a prefix with an asterisk, or an asterisk
    #[arg(long, value_delimiter = ',', default_value = "*,orders.*,orders.paid,stock.*")]
    subscribe: Vec<String>,
    /// Events that a subscriber's queue can hold
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    queue: u32,
    /// What happens to an event for a full queue
    #[arg(long, value_enum, default_value_t = Overflow::Wait)]
    overflow: Overflow,
    /// How long the first subscriber takes for an event, in milliseconds
    #[arg(long, default_value_t = 0)]
    slow_ms: u64,
}

/// What a subscriber's full queue means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Overflow {
    /// The publisher waits
    Wait,
    /// The event is dropped, and counted
    Drop,
    /// The subscriber is thrown out
    Leave,
}

const TOPICS: [&str; 4] = ["orders.created", "orders.paid", "stock.low", "users.joined"];

#[derive(Debug)]
struct Event {
    topic: &'static str,
    publisher: u64,
    number: u64,
    published: Instant,
}

/// Which topics a subscriber is told of.
#[derive(Clone, Debug)]
struct Pattern(String);

impl Pattern {
    fn matches(&self, topic: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => topic == self.0,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

/// The bus's half of a subscription.
#[derive(Debug)]
struct Subscription {
    pattern: Pattern,
    overflow: Overflow,
    queue: Sender<Arc<Event>>,
    dropped: Arc<AtomicU64>,
}

/// The subscriber's half: events as they come, until the bus is gone or throws it out. Drop it to unsubscribe.
#[derive(Debug)]
struct Subscriber {
    events: Receiver<Arc<Event>>,
    dropped: Arc<AtomicU64>,
}

/// Brings events to whoever subscribed. Share it in an [`Arc`].
#[derive(Debug, Default)]
struct Bus {
    subscriptions: RwLock<Vec<Subscription>>,
}

impl Bus {
    fn subscribe(&self, pattern: &str, queue: usize, overflow: Overflow) -> Subscriber {
        let (sender, events) = channel::bounded(queue);
        let dropped = Arc::new(AtomicU64::new(0));
        let subscription = Subscription {
            pattern: Pattern(pattern.to_owned()),
            overflow,
            queue: sender,
            dropped: dropped.clone(),
        };
        self.subscriptions
            .write()
            .expect("nobody panics with it")
            .push(subscription);
        Subscriber { events, dropped }
    }

    /// Brings `event` to all whose pattern matches; the number of those who have it.
    fn publish(&self, event: Event) -> usize {
        let event = Arc::new(event);
        let subscriptions = self.subscriptions.read().expect("nobody panics with it");
        let wanted = subscriptions
            .iter()
            .filter(|one| one.pattern.matches(event.topic));
        let (mut reached, mut gone) = (0, false);
        for one in wanted {
            match one.offer(event.clone()) {
                Ok(true) => reached += 1,
                Ok(false) => {}
                Err(Gone) => gone = true,
            }
        }
        drop(subscriptions);
        if gone {
            let mut subscriptions = self.subscriptions.write().expect("nobody panics with it");
            subscriptions.retain(|one| !one.queue.is_closed());
        }
        reached
    }
}

/// Nobody listens any more.
struct Gone;

impl Subscription {
    /// False: dropped.
    fn offer(&self, event: Arc<Event>) -> Result<bool, Gone> {
        if self.overflow == Overflow::Wait {
            return self.queue.send(event).map(|()| true).map_err(|_| Gone);
        }
        match self.queue.try_send(event) {
            Ok(()) => Ok(true),
            Err(TrySendError::Disconnected(_)) => Err(Gone),
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Relaxed);
                if self.overflow == Overflow::Leave {
                    self.queue.close(); // what lies in it is still received
                    return Err(Gone);
                }
                Ok(false)
            }
        }
    }
}

/// What a subscriber saw.
#[derive(Debug)]
struct Seen {
    received: u64,
    dropped: u64,
    latest: Duration,
    in_order: bool,
}

/// Takes events until there are no more, `pause` for each.
fn listen(subscriber: &Subscriber, publishers: u64, pause: Duration) -> Seen {
    let mut last = vec![None; publishers as usize];
    let mut seen = Seen {
        received: 0,
        dropped: 0,
        latest: Duration::ZERO,
        in_order: true,
    };
    for event in &subscriber.events {
        seen.received += 1;
        seen.latest = seen.latest.max(event.published.elapsed());
        let last = &mut last[event.publisher as usize];
        seen.in_order &= *last < Some(event.number);
        *last = Some(event.number);
        if !pause.is_zero() {
            bast::time::sleep(pause);
        }
    }
    seen.dropped = subscriber.dropped.load(Relaxed);
    seen
}

fn main() -> ExitCode {
    let options = Options::parse();
    // SAFETY: nothing that belongs to a thread (a lock guard, an `Rc`, a thread-local borrow) is kept across a wait.
    let all = unsafe { bast::run(|| run(&options)) };
    println!(
        "{:<20} {:>9} {:>9} {:>12}",
        "subscriber", "received", "dropped", "latest"
    );
    for (pattern, seen) in options.subscribe.iter().zip(&all) {
        println!(
            "{pattern:<20} {:>9} {:>9} {:>9.1} ms",
            seen.received,
            seen.dropped,
            seen.latest.as_secs_f64() * 1e3
        );
    }
    println!("{} events published", options.publishers * options.events);
    match check(&options, &all) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pub_sub: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Vec<Seen> {
    let bus = Arc::new(Bus::default());
    let slow = Duration::from_millis(options.slow_ms);
    let subscribers = options.subscribe.iter().enumerate().map(|(place, pattern)| {
        let subscriber = bus.subscribe(pattern, options.queue as usize, options.overflow);
        let (publishers, pause) = (options.publishers, if place == 0 { slow } else { Duration::ZERO });
        bast::spawn(move || listen(&subscriber, publishers, pause))
    });
    let subscribers: Vec<_> = subscribers.collect();
    bast::scope(|scope| {
        for publisher in 0..options.publishers {
            let bus = &bus;
            scope.spawn(move || {
                for number in 0..options.events {
                    bus.publish(Event {
                        topic: TOPICS[((publisher + number) % 4) as usize],
                        publisher,
                        number,
                        published: Instant::now(),
                    });
                }
            });
        }
    });
    drop(bus); // its queues close, and the subscribers come to an end
    let ends = subscribers.into_iter().map(|subscriber| subscriber.join());
    ends.map(|seen| seen.expect("a subscriber does not panic"))
        .collect()
}

/// Every event is accounted for, and each publisher's came in order.
fn check(options: &Options, all: &[Seen]) -> Result<(), String> {
    for (pattern, seen) in options.subscribe.iter().zip(all) {
        let matching = Pattern(pattern.clone());
        let topics = (0..options.publishers)
            .flat_map(|p| (0..options.events).map(move |n| TOPICS[((p + n) % 4) as usize]));
        let expected = topics.filter(|topic| matching.matches(topic)).count() as u64;
        let seen_in_all = seen.received + seen.dropped;
        if !seen.in_order {
            return Err(format!("{pattern}: events of one publisher out of order"));
        }
        if options.overflow != Overflow::Leave && seen_in_all != expected {
            return Err(format!(
                "{pattern}: {seen_in_all} of {expected} events accounted for"
            ));
        }
    }
    Ok(())
}
