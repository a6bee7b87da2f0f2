//! Who is compared.

use clap::ValueEnum;
use serde::Serialize;
use std::fmt;

/// A runtime, or the control: the same work by hand, without a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    Bast,
    Go,
    Tokio,
    May,
    /// On threads.
    Crossbeam,
    /// On threads.
    Flume,
    Control,
}

impl System {
    pub(crate) const ALL: [System; 7] = [
        System::Bast,
        System::Go,
        System::Tokio,
        System::May,
        System::Crossbeam,
        System::Flume,
        System::Control,
    ];

    /// All that schedule tasks.
    pub(crate) const RUNTIMES: &'static [System] = &[System::Bast, System::Go, System::Tokio, System::May];

    /// The runtimes, and the control.
    pub(crate) const RUNTIMES_AND_CONTROL: &'static [System] = &[
        System::Bast,
        System::Go,
        System::Tokio,
        System::May,
        System::Control,
    ];

    /// The runtimes, and the channels of threads.
    pub(crate) const RUNTIMES_AND_THREADS: &'static [System] = &[
        System::Bast,
        System::Go,
        System::Tokio,
        System::May,
        System::Crossbeam,
        System::Flume,
    ];

    /// One of those that bast is compared with; the control says how near the limit all are.
    pub(crate) fn is_rival(self) -> bool {
        !matches!(self, System::Bast | System::Control)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Bast => "bast",
            System::Go => "go",
            System::Tokio => "tokio",
            System::May => "may",
            System::Crossbeam => "crossbeam",
            System::Flume => "flume",
            System::Control => "control",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}
