//! What a user of bast might write: a counter of visits, and accounts between which money moves. Each once with a bug that
//! ordinary tests do not see, and once mended. `tests/models.rs` finds the bugs by trying every interleaving, see
//! `bast::guide::checking`; `tests/ordinary.rs` are the tests that run on the real scheduler.

use bast::sync::Mutex;
use bast::sync::atomic::{AtomicU64, Ordering::Relaxed};
use bast::sync::channel::{Receiver, Sender};

/// Counts.
#[derive(Debug)]
pub struct Visits(AtomicU64);

impl Visits {
    /// None so far.
    #[expect(clippy::new_without_default, reason = "an example")]
    pub fn new() -> Visits {
        Visits(AtomicU64::new(0))
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// One more. **The bug**: another visit may come between the load and the store, and is lost.
    pub fn visit_buggy(&self) {
        let count = self.0.load(Relaxed);
        self.0.store(count + 1, Relaxed);
    }

    /// One more.
    pub fn visit(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// An account. Its number orders it among others.
#[derive(Debug)]
pub struct Account {
    number: u32,
    balance: Mutex<i64>,
}

impl Account {
    /// With some money in it.
    pub fn new(number: u32, balance: i64) -> Account {
        Account {
            number,
            balance: Mutex::new(balance),
        }
    }

    /// What is in it.
    pub fn balance(&self) -> i64 {
        *self.balance.lock().unwrap()
    }
}

/// Moves money. **The bug**: two transfers in opposite directions each hold the account that the other waits for.
pub fn transfer_buggy(from: &Account, to: &Account, amount: i64) {
    let mut source = from.balance.lock().unwrap();
    let mut target = to.balance.lock().unwrap();
    *source -= amount;
    *target += amount;
}

/// Moves money. Accounts are locked in the order of their numbers.
pub fn transfer(from: &Account, to: &Account, amount: i64) {
    let (low, high) = if from.number < to.number {
        (from, to)
    } else {
        (to, from)
    };
    let mut low_balance = low.balance.lock().unwrap();
    let mut high_balance = high.balance.lock().unwrap();
    let amount = if low.number == from.number {
        amount
    } else {
        -amount
    };
    *low_balance -= amount;
    *high_balance += amount;
}

/// Adds up what comes until a stop is asked for, and gives the sum back. **The bug**: it leaves as soon as it hears of the
/// stop, and what has been sent before is not counted.
pub fn sum_buggy(values: &Receiver<u64>, stop: &Receiver<()>, result: &Sender<u64>) {
    let mut sum = 0;
    loop {
        bast::select! {
            recv(values) -> value => sum += value.unwrap_or(0),
            recv(stop) -> _ => break,
        }
    }
    let _ = result.send(sum);
}

/// Adds up what comes until a stop is asked for, and gives the sum back with all that was sent before.
pub fn sum(values: &Receiver<u64>, stop: &Receiver<()>, result: &Sender<u64>) {
    let mut sum = 0;
    loop {
        bast::select! {
            recv(values) -> value => sum += value.unwrap_or(0),
            recv(stop) -> _ => break,
        }
    }
    sum += values.try_iter().sum::<u64>();
    let _ = result.send(sum);
}
