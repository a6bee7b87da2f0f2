//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);
const TEMPLATE: &str = "{msg:>10} {wide_bar:.cyan/blue} {human_pos} of {human_len} ({per_sec}, {eta} left)";

/// Where a phase stands.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    phase: &'static str,
    total: u64,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::no_length);
        Self {
            bar,
            phase: "",
            total: 0,
            last_line: Instant::now(),
        }
    }

    /// A new phase begins.
    pub(crate) fn begin(&mut self, phase: &'static str, total: u64) {
        (self.phase, self.total, self.last_line) = (phase, total, Instant::now());
        match &self.bar {
            Some(bar) => {
                bar.set_style(ProgressStyle::with_template(TEMPLATE).expect("constant template"));
                bar.set_length(total);
                bar.set_message(phase);
                bar.reset();
            }
            None => self.say(&format!("{phase}: 0 of {total}")),
        }
    }

    /// The phase has come to `done`.
    pub(crate) fn set(&mut self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                self.say(&format!("{}: {done} of {}", self.phase, self.total));
            }
            None => {}
        }
    }

    /// The phase is over.
    pub(crate) fn end(&self, summary: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.say(summary);
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.suspend(|| eprintln!("{line}")),
            _ => eprintln!("{line}"),
        }
    }
}
