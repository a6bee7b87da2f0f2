//! The program as a user runs it: counts, limits, interruptions, deaths.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_million_echo");
/// All processes of a run carry this variable, each run with a value of its own.
const MARK: &str = "MILLION_ECHO_TEST_RUN";
/// Longer than any run takes: a test that gets there has found a hang.
const HANG: Duration = Duration::from_secs(90);
/// So many rounds that the run ends only when it is told to.
const ENDLESS: &str = "4000000000";
const BACKENDS: [&str; 2] = ["bast", "epoll"];

/// A run under way.
#[derive(Debug)]
struct Run {
    child: Child,
    mark: String,
    /// Standard error, line by line, as it comes.
    lines: Receiver<String>,
    said: Vec<String>,
    json: tempfile::NamedTempFile,
}

/// A run that is over.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    json: Value,
}

impl Run {
    /// With these arguments.
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(PROGRAM), arguments)
    }

    /// Under a hard limit of `files` open files a process.
    fn start_with_files(files: u32, arguments: &[&str]) -> Self {
        Self::spawn(limited(files), arguments)
    }

    fn spawn(mut command: Command, arguments: &[&str]) -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let json = tempfile::NamedTempFile::new().unwrap();
        let mut child = command
            .args(arguments)
            .arg("--json")
            .arg(json.path())
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = line_by_line(child.stderr.take().unwrap());
        Self {
            child,
            mark,
            lines,
            said: Vec::new(),
            json,
        }
    }

    /// Waits for a line on standard error that contains `text`.
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + HANG;
        while !self.said.last().is_some_and(|line| line.contains(text)) {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(error) => panic!("`{text}` was not said ({error}), but:\n{}", self.said.join("\n")),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Pids of the children that were started with the argument `word`.
    fn children(&self, word: &str) -> Vec<Pid> {
        let is_child = |pid: &Pid| {
            let command =
                std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            command
                .split(|byte| *byte == 0)
                .any(|argument| argument == word.as_bytes())
        };
        marked(&self.mark).into_iter().filter(is_child).collect()
    }

    /// Waits for the end and checks that no process is left.
    fn end(mut self) -> Outcome {
        let end = Instant::now() + HANG;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < end,
                "hangs; said so far:\n{}",
                self.said.join("\n")
            );
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(marked(&self.mark), [], "processes are left behind");
        let mut stdout = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        self.said.extend(self.lines.iter());
        let text = std::fs::read_to_string(self.json.path()).unwrap();
        Outcome {
            code: status.code(),
            stdout,
            stderr: self.said.join("\n"),
            json: serde_json::from_str(&text).unwrap_or(Value::Null),
        }
    }
}

/// The program under a hard limit of open files.
fn limited(files: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), PROGRAM]);
    command
}

fn line_by_line(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if sender.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    lines
}

/// Living processes that carry the mark.
fn marked(mark: &str) -> Vec<Pid> {
    let variable = format!("{MARK}={mark}");
    let carries = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == variable.as_bytes())
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(carries)
        .filter_map(Pid::from_raw)
        .collect()
}

fn limit<'a>(json: &'a Value, kind: &str) -> &'a Value {
    let limits = json["limits"].as_array().unwrap();
    limits
        .iter()
        .find(|limit| limit["kind"] == kind)
        .unwrap_or_else(|| panic!("no limit {kind}"))
}

#[test]
fn a_run_of_500_has_exact_counts_and_all_figures() {
    for backend in BACKENDS {
        let outcome = Run::start(&["--connections", "500", "--rounds", "2", "--backend", backend]).end();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let json = &outcome.json;
        assert_eq!(json["connections"], 500);
        assert_eq!((&json["failed"], &json["lost"]), (&0.into(), &0.into()));
        assert_eq!(json["echoes"], 1000);
        assert_eq!(json["ended"], "complete");
        let latency = |key: &str| json["latency_us"][key].as_f64().unwrap();
        assert!(0.0 < latency("p50") && latency("p50") <= latency("p99"));
        assert!(latency("p99") <= latency("p999") && latency("p999") <= latency("max"));
        for key in [
            "connect_per_s",
            "echo_per_s",
            "kernel_slab_bytes_per_connection",
            "worker_threads",
        ] {
            assert!(json[key].as_f64().unwrap() > 0.0, "{key}: {}", json[key]);
        }
        for key in [
            "server_rss_bytes_per_connection",
            "server_page_table_bytes_per_connection",
            "limits",
        ] {
            assert!(!json[key].is_null(), "{key}");
            assert!(
                outcome.stdout.contains(key),
                "{key} is missing in:\n{}",
                outcome.stdout
            );
        }
    }
}

/// Shorter than a generation of the trace: all of it is written as the server ends.
#[test]
fn a_traced_run_leaves_the_whole_trace() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("echo.trace");
    let file = file.to_str().unwrap();
    Run::start(&["--connections", "100", "--rounds", "3", "--trace", file]).end();
    let summary = Command::new(env!("CARGO_BIN_EXE_bast-trace"))
        .args(["summary", "--json", file])
        .output()
        .unwrap();
    let summary: Value = serde_json::from_slice(&summary.stdout).unwrap();
    // One for each connection.
    assert!(summary["tasks_created"].as_u64() >= Some(100), "{summary}");
}

#[test]
fn several_processes_share_exactly() {
    let shared = [
        "--connections",
        "301",
        "--server-processes",
        "3",
        "--load-processes",
        "2",
    ];
    for (spread, payload) in [("exact", "1"), ("exact", "100000"), ("kernel", "700")] {
        let more = ["--spread", spread, "--payload", payload, "--rounds", "3"];
        let outcome = Run::start(&[&shared[..], &more[..]].concat()).end();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let json = &outcome.json;
        assert_eq!(
            (&json["connections"], &json["echoes"]),
            (&301.into(), &903.into())
        );
        assert_eq!(
            (&json["server_processes"], &json["load_processes"]),
            (&3.into(), &2.into())
        );
    }
}

#[test]
fn a_low_file_limit_is_named_and_the_run_goes_on_with_what_fits() {
    let outcome = Run::start_with_files(200, &["--connections", "1000", "--rounds", "1"]).end();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let json = &outcome.json;
    assert_eq!(
        (&json["connections"], &json["requested"]),
        (&168.into(), &1000.into())
    );
    assert_eq!((&json["failed"], &json["echoes"]), (&0.into(), &168.into()));
    let files = limit(json, "open_files");
    assert_eq!((&files["value"], &files["stopped"]), (&200.into(), &true.into()));
    assert!(files["name"].as_str().unwrap().contains("RLIMIT_NOFILE"));
    assert!(files["raise"].as_str().unwrap().contains("ulimit -n 1032"));
    for text in [
        "open files a process (RLIMIT_NOFILE) = 200",
        "ulimit -n 1032",
        "carrying on with 168 of 1,000",
    ] {
        assert!(
            outcome.stderr.contains(text),
            "`{text}` is missing in:\n{}",
            outcome.stderr
        );
    }
}

#[test]
fn auto_gets_past_a_low_file_limit_with_more_processes() {
    let outcome = Run::start_with_files(
        200,
        &[
            "--connections",
            "400",
            "--server-processes",
            "auto",
            "--rounds",
            "1",
        ],
    )
    .end();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.json["connections"], 400);
    assert_eq!(
        (&outcome.json["server_processes"], &outcome.json["load_processes"]),
        (&3.into(), &3.into())
    );
    assert_eq!(limit(&outcome.json, "open_files")["stopped"], false);
}

#[test]
fn ctrl_c_reports_what_was_reached_and_leaves_nobody() {
    for backend in BACKENDS {
        let options = [
            "--connections",
            "200",
            "--rounds",
            ENDLESS,
            "--server-processes",
            "2",
            "--backend",
            backend,
        ];
        let mut run = Run::start(&options);
        run.wait_for("echoing: ");
        assert_eq!(
            (run.children("serve").len(), run.children("load-worker").len()),
            (2, 1)
        );
        run.signal(Signal::INT);
        let outcome = run.end();
        assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
        assert_eq!(outcome.json["ended"], "interrupted");
        assert_eq!(
            (&outcome.json["connections"], &outcome.json["lost"]),
            (&200.into(), &0.into())
        );
        assert!(outcome.json["echo_per_s"].as_f64().unwrap() > 0.0);
        assert!(outcome.stdout.contains("interrupted"), "{}", outcome.stdout);
    }
}

#[test]
fn ctrl_c_while_connecting_ends_too() {
    let mut run = Run::start(&["--connections", "15000", "--rounds", "0"]);
    run.wait_for("connecting: ");
    run.signal(Signal::TERM);
    let outcome = run.end();
    // It may have been through with connecting when the signal came.
    let json = &outcome.json;
    assert!(matches!(outcome.code, Some(0 | 130)), "{}", outcome.stderr);
    assert_eq!(
        json["connections"].as_u64().unwrap() + json["failed"].as_u64().unwrap(),
        15_000
    );
}

#[test]
fn children_die_with_a_main_process_that_is_killed() {
    let mut run = Run::start(&["--connections", "50", "--rounds", ENDLESS]);
    run.wait_for("echoing: ");
    run.signal(Signal::KILL);
    run.child.wait().unwrap();
    let end = Instant::now() + HANG;
    while !marked(&run.mark).is_empty() {
        assert!(Instant::now() < end, "children outlive the main process");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_killed_server_is_reported_and_the_rest_goes_on() {
    let mut run = Run::start(&[
        "--connections",
        "100",
        "--server-processes",
        "2",
        "--rounds",
        ENDLESS,
    ]);
    run.wait_for("echoing: ");
    let victim = run.children("serve")[0];
    kill_process(victim, Signal::KILL).unwrap();
    run.wait_for("was killed by signal 9");
    run.signal(Signal::INT);
    let outcome = run.end();
    assert_eq!(
        (&outcome.json["connections"], &outcome.json["lost"]),
        (&100.into(), &50.into())
    );
    assert!(
        outcome
            .stderr
            .contains(&format!("(pid {}) was killed", victim.as_raw_nonzero())),
        "{}",
        outcome.stderr
    );
}

#[test]
fn killed_and_stuck_children_do_not_hang_the_run() {
    for (word, signal, text) in [
        ("load-worker", Signal::KILL, "load process 1 (pid "),
        ("load-worker", Signal::STOP, "did not answer and was ended"),
        ("serve", Signal::KILL, "server process 1 (pid "),
        ("serve", Signal::STOP, "no progress within the patience"),
    ] {
        let mut run = Run::start(&["--connections", "60", "--rounds", ENDLESS, "--patience", "2"]);
        run.wait_for("echoing: ");
        kill_process(run.children(word)[0], signal).unwrap();
        let outcome = run.end();
        assert_eq!(outcome.code, Some(1), "{word} {signal:?}: {}", outcome.stderr);
        assert_eq!(outcome.json["connections"], 60);
        assert!(outcome.json["lost"].as_u64().unwrap() > 0, "{word} {signal:?}");
        assert!(
            outcome.stderr.contains(text),
            "{word} {signal:?}: `{text}` is missing in:\n{}",
            outcome.stderr
        );
        let events = outcome.json["events"].as_array().unwrap();
        assert!(
            events.iter().any(|event| event.as_str().unwrap().contains(text)),
            "{events:?}"
        );
    }
}

#[test]
fn bad_options_get_clear_errors() {
    for (arguments, text) in [
        (&["--connections", "0"][..], "0 is not in 1..=16000000"),
        (&["--connections", "many"], "invalid digit"),
        (
            &["--server-processes", "none"],
            "give a number from 1 to 4096, or `auto`",
        ),
        (&["--stack-size", "64X"], "`X` is no unit"),
        (&["--stack-size", "1K"], "must be from 16K"),
        (&["--payload", "0"], "0 is not in 1..="),
        (&["--backend", "magic"], "[possible values:"),
        (&["--json", "/nonexistent/file"], "cannot write /nonexistent/file"),
        (
            &["load", "--port", "1", "--address", "10.0.0.1"],
            "only loopback addresses",
        ),
        (&["load"], "--port <PORT>"),
        (
            &["serve", "--port", "1", "--rounds", "2"],
            "unexpected argument '--rounds'",
        ),
    ] {
        let output = Command::new(PROGRAM).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            stderr.contains(text),
            "{arguments:?}: `{text}` is missing in:\n{stderr}"
        );
    }
}

/// `serve` on its own, killed when dropped.
#[derive(Debug)]
struct Serve {
    child: Child,
    port: String,
    stderr: Receiver<String>,
}

impl Serve {
    fn start(mut command: Command, backend: &str) -> Self {
        let mut child = command
            .args(["serve", "--port", "0", "--backend", backend])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .strip_prefix("listening on ")
            .unwrap()
            .split(',')
            .next()
            .unwrap();
        let port = address.rsplit(':').next().unwrap().to_string();
        let stderr = line_by_line(child.stderr.take().unwrap());
        Self { child, port, stderr }
    }

    fn load(&self, more: &[&str]) -> Outcome {
        let pid = self.child.id().to_string();
        Run::start(&[&["load", "--port", &self.port, "--pid", &pid], more].concat()).end()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn serve_and_load_work_apart() {
    for backend in BACKENDS {
        let serve = Serve::start(Command::new(PROGRAM), backend);
        let outcome = serve.load(&["--connections", "120", "--rounds", "2"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert_eq!(
            (&outcome.json["connections"], &outcome.json["echoes"]),
            (&120.into(), &240.into())
        );
        assert!(outcome.json["worker_threads"].as_u64().unwrap() >= 1);
        assert!(!outcome.json["server_rss_bytes_per_connection"].is_null());
    }
}

#[test]
fn load_without_a_server_says_so() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let outcome = Run::start(&["load", "--port", &port, "--connections", "10"]).end();
    assert_eq!(outcome.code, Some(1));
    assert_eq!(
        (&outcome.json["connections"], &outcome.json["failed"]),
        (&0.into(), &10.into())
    );
    assert!(
        outcome.stderr.contains("Connection refused"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_server_at_its_file_limit_waits_and_goes_on() {
    for backend in BACKENDS {
        let mut serve = Serve::start(limited(64), backend);
        let outcome = serve.load(&["--connections", "100", "--patience", "3", "--rounds", "1"]);
        let held = outcome.json["connections"].as_u64().unwrap();
        assert!((32..64).contains(&held), "{held} connections with 64 files");
        assert_eq!(outcome.json["failed"].as_u64().unwrap(), 100 - held);
        assert_eq!(outcome.json["echoes"].as_u64().unwrap(), held);
        let line = serve.stderr.recv_timeout(HANG).unwrap();
        assert!(
            line.contains("cannot accept") && line.contains("64 open files a process"),
            "{line}"
        );
        assert!(serve.child.try_wait().unwrap().is_none(), "the server ended");
        // What the load had open is closed: there is room again.
        let again = serve.load(&["--connections", "20", "--rounds", "1"]);
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        assert_eq!(again.json["connections"], 20);
    }
}

#[test]
fn a_controlled_server_reports_its_limit_and_ends_with_its_input() {
    for backend in BACKENDS {
        let mut child = limited(64)
            .args(["serve", "--controlled", "--port", "0", "--backend", backend])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let events = line_by_line(child.stdout.take().unwrap());
        let next = || serde_json::from_str::<Value>(&events.recv_timeout(HANG).unwrap()).unwrap();
        let ready = next();
        assert_eq!(ready["event"], "ready");
        let address = ready["address"].as_str().unwrap();
        // The listen queue takes those for which the server has no file left.
        let clients: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(address).unwrap()).collect();
        let failed = next();
        assert_eq!(failed["event"], "accept_failed");
        assert_eq!(failed["errno"], rustix::io::Errno::MFILE.raw_os_error());
        drop(clients);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
