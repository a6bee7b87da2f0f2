//! Processes that measure: started, read, and ended when they take too long.

use crate::options::Work;
use crate::system::System;
use std::env::current_exe;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// No measurement takes half as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// How to start the programs.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) myself: PathBuf,
    /// The built Go program, if there is a Go.
    pub(crate) go: Option<PathBuf>,
    pub(crate) work: Work,
}

impl Launcher {
    /// Without Go.
    pub(crate) fn new(work: Work) -> Result<Launcher, String> {
        let myself = current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        Ok(Launcher {
            myself,
            go: None,
            work,
        })
    }

    /// Runs a row of its own for one system; the values it prints.
    pub(crate) fn run_row(&self, row: &str, system: System) -> Result<Vec<f64>, String> {
        let mut child = match system {
            System::Go => self.start_go(&["run", row])?,
            _ => self.start_myself(&["run", row, system.name()], &self.work.arguments())?,
        };
        let out = child.rest()?;
        let values = out.lines().filter_map(|line| line.strip_prefix("value "));
        Ok(values.filter_map(|value| value.parse().ok()).collect())
    }

    pub(crate) fn start_server(&self, system: System, buffer_bytes: usize) -> Result<Child, String> {
        let buffer = buffer_bytes.to_string();
        match system {
            System::Go => self.start_go(&["serve", &buffer]),
            _ => self.start_myself(
                &["serve", system.name(), "--buffer-bytes", &buffer],
                &self.work.arguments(),
            ),
        }
    }

    /// Runs the client to its end; what it printed.
    pub(crate) fn load(&self, kind: &str, arguments: &[String]) -> Result<String, String> {
        self.start_load(kind, arguments)?.rest()
    }

    pub(crate) fn start_load(&self, kind: &str, arguments: &[String]) -> Result<Child, String> {
        let millis = if self.work.quick { 200 } else { 2000 };
        self.start_load_for(Duration::from_millis(millis), kind, arguments)
    }

    /// A client that measures for so long, and warms up before.
    pub(crate) fn start_load_for(
        &self,
        time: Duration,
        kind: &str,
        arguments: &[String],
    ) -> Result<Child, String> {
        let millis = time.as_millis().to_string();
        self.start_myself(&["load", kind, "--millis", &millis], arguments)
    }

    fn start_myself(&self, first: &[&str], more: &[String]) -> Result<Child, String> {
        let mut command = Command::new(&self.myself);
        command.args(first).args(more);
        Child::start(command)
    }

    fn start_go(&self, arguments: &[&str]) -> Result<Child, String> {
        let mut command = Command::new(self.go.as_ref().ok_or("no go on PATH")?);
        command
            .args(arguments)
            .env("GOMAXPROCS", self.work.processors.to_string());
        if self.work.quick {
            command.env("RIVALS_QUICK", "1");
        }
        Child::start(command)
    }
}

/// A process with its input held open. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    started: Instant,
}

impl Child {
    fn start(mut command: Command) -> Result<Child, String> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let output = process.stdout.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Child {
            input: process.stdin.take(),
            process,
            lines,
            started: Instant::now(),
        })
    }

    /// For /proc.
    pub(crate) fn id(&self) -> String {
        self.process.id().to_string()
    }

    fn next_line(&self) -> Result<Option<String>, String> {
        match self
            .lines
            .recv_timeout(PATIENCE.saturating_sub(self.started.elapsed()))
        {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(format!("took longer than {} s", PATIENCE.as_secs())),
        }
    }

    /// The rest of the first line that begins with `prefix`.
    pub(crate) fn line(&mut self, prefix: &str) -> Result<String, String> {
        while let Some(line) = self.next_line()? {
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok(rest.to_owned());
            }
        }
        Err(self.ended_early())
    }

    /// All that it prints until its end, which has to be a good one.
    pub(crate) fn rest(&mut self) -> Result<String, String> {
        let mut text = String::new();
        while let Some(line) = self.next_line()? {
            text.push_str(&line);
            text.push('\n');
        }
        self.end()?;
        Ok(text)
    }

    /// Ends its input and waits for it.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        self.input = None;
        while self.next_line()?.is_some() {}
        self.end()
    }

    /// Its output has ended.
    fn end(&mut self) -> Result<(), String> {
        match self.process.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("ended with {status}")),
            Err(error) => Err(format!("cannot be waited for: {error}")),
        }
    }

    fn ended_early(&mut self) -> String {
        match self.end() {
            Ok(()) => "ended before it was ready".to_owned(),
            Err(error) => error,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
