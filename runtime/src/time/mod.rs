//! Time: sleeping, deadlines on a piece of code, intervals.

pub(crate) mod clock;
pub(crate) mod heap;
mod interval;
pub(crate) mod sleep;
pub(crate) mod ticks;
mod timeout;

pub use interval::{Interval, Missed, interval};
pub use sleep::{sleep, sleep_until};
pub use timeout::{Elapsed, timeout};
