//! The examples of channels do what their first lines promise, and say what is wrong.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs it well, and gives what it printed.
#[track_caller]
fn run_well(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    // No task is left over at the end either: the runtime would say so.
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    text(&output.stdout)
}

#[test]
fn every_program_has_help_and_refuses_nonsense() {
    let programs = [
        env!("CARGO_BIN_EXE_pipeline"),
        env!("CARGO_BIN_EXE_prime_sieve"),
        env!("CARGO_BIN_EXE_pub_sub"),
        env!("CARGO_BIN_EXE_saga"),
        env!("CARGO_BIN_EXE_worker_pool"),
    ];
    for program in programs {
        assert!(run_well(program, &["--help"]).contains("Usage"));
        let refused = run(program, &["--no-such-option"]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains("--no-such-option"));
    }
}

#[test]
fn prime_sieve_finds_primes() {
    let sieve = env!("CARGO_BIN_EXE_prime_sieve");
    for buffer in ["0", "1", "16"] {
        let primes = run_well(sieve, &["25", "--buffer", buffer]);
        let primes: Vec<u64> = primes.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(primes.len(), 25);
        assert_eq!(primes[..5], [2, 3, 5, 7, 11]);
        assert_eq!(primes[24], 97);
    }
    let summary = run_well(sieve, &["500", "--quiet", "--processors", "1"]);
    assert!(
        summary.starts_with("prime 500 is 3571, ") && summary.ends_with("501 tasks\n"),
        "{summary}"
    );
    assert_eq!(run_well(sieve, &["0"]), "");
}

#[test]
fn pipeline_counts_words() {
    let pipeline = env!("CARGO_BIN_EXE_pipeline");
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    std::fs::write(&one, "The task, the task and\nthe worker\n".repeat(1000)).unwrap();
    std::fs::write(&two, "the end").unwrap();
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    for workers in ["1", "7"] {
        let table = run_well(
            pipeline,
            &[one, two, "--workers", workers, "--top", "2", "--buffer", "0"],
        );
        let lines: Vec<_> = table.lines().map(str::trim).collect();
        assert_eq!(lines, ["3001 the", "2000 task", "7002 words, 5 different"]);
    }
    assert_eq!(
        run_well(pipeline, &[two, "--letters-min", "4"]).trim(),
        "0 words, 0 different"
    );

    let mut child = Command::new(pipeline)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"one two two").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(text(&output.stdout).contains("2 two"));
}

#[test]
fn pipeline_says_what_it_cannot_read() {
    let directory = tempfile::tempdir().unwrap();
    let (missing, binary) = (directory.path().join("missing"), directory.path().join("binary"));
    std::fs::write(&binary, [b'a', 0xff, b'\n']).unwrap();
    for path in [&missing, &binary, &directory.path().to_owned()] {
        let path = path.to_str().unwrap();
        let output = run(env!("CARGO_BIN_EXE_pipeline"), &[path]);
        assert!(!output.status.success());
        let error = text(&output.stderr);
        assert!(error.contains(&format!("cannot read {path}: ")), "{error}");
    }
}

#[test]
fn worker_pool_does_jobs_in_order_and_survives_them() {
    let pool = env!("CARGO_BIN_EXE_worker_pool");
    let done = run_well(
        pool,
        &[
            "600851475143",
            "97",
            "1",
            "1000000007",
            "64",
            "--workers",
            "2",
            "--queue",
            "1",
        ],
    );
    let lines: Vec<_> = done.lines().collect();
    assert_eq!(
        lines[..5],
        [
            "600851475143: 71 839 1471 6857",
            "97: 97",
            "1: 1",
            "1000000007: 1000000007",
            "64: 2 2 2 2 2 2"
        ]
    );
    assert!(lines[5].starts_with("5 jobs by 2 workers: "), "{done}");

    let output = run(pool, &["12", "0", "twelve", "15"]);
    assert!(!output.status.success());
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(out.contains("12: 2 2 3\n15: 3 5\n3 jobs by 4 workers"), "{out}");
    assert!(
        error.contains("0: the job panicked: zero has no prime factors"),
        "{error}"
    );
    assert!(error.contains("twelve: not a number"), "{error}");
}

/// The numbers of a line of the table.
fn numbers(table: &str, name: &str) -> Vec<u64> {
    let line = table
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{table}"));
    line.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[test]
fn pub_sub_brings_every_event() {
    let program = env!("CARGO_BIN_EXE_pub_sub");
    let table = run_well(program, &["--publishers", "4", "--events", "400", "--queue", "2"]);
    assert_eq!(numbers(&table, "*")[..2], [1600, 0], "{table}");
    assert_eq!(numbers(&table, "orders.*")[..2], [800, 0], "{table}");
    assert_eq!(numbers(&table, "orders.paid")[..2], [400, 0], "{table}");
    assert!(table.ends_with("1600 events published\n"));
}

#[test]
fn pub_sub_does_not_wait_for_the_slow() {
    let program = env!("CARGO_BIN_EXE_pub_sub");
    let slow = [
        "--publishers",
        "2",
        "--events",
        "500",
        "--queue",
        "1",
        "--slow-ms",
        "20",
    ];
    let table = run_well(program, &[&slow[..], &["--overflow", "drop"]].concat());
    let all = numbers(&table, "*");
    assert_eq!(all[0] + all[1], 1000, "{table}");
    assert!(all[1] > 0, "the slow one loses some: {table}");
    let table = run_well(program, &[&slow[..], &["--overflow", "leave"]].concat());
    let all = numbers(&table, "*");
    assert!(
        all[0] < 1000 && all[1] >= 1,
        "the slow one is thrown out: {table}"
    );
}

#[test]
fn saga_carries_orders_out() {
    let out = run_well(
        env!("CARGO_BIN_EXE_saga"),
        &["--orders", "3", "--patience", "60000"],
    );
    assert!(
        out.starts_with("order 1: stock → payment → shipping → done\n"),
        "{out}"
    );
    assert!(out.contains("3 orders done, 0 undone\n"), "{out}");
    assert!(out.contains("shipping  3 done, 0 undone, 3 stand\n"), "{out}");
}

#[test]
fn saga_undoes_what_fails() {
    let mut arguments = vec!["--orders", "12", "--patience", "60000"];
    arguments.extend(["--fail-every", "shipping=3", "--fail-every", "stock=4"]);
    let out = run_well(env!("CARGO_BIN_EXE_saga"), &arguments);
    let undone = "order 3: stock → payment → shipping refused → payment undone → stock undone\n";
    assert!(out.contains(undone), "{out}");
    assert!(out.contains("order 4: stock refused\n"), "{out}");
    assert!(out.contains("6 orders done, 6 undone\n"), "{out}");
    assert!(out.contains("stock     9 done, 3 undone, 6 stand\n"), "{out}");
}

/// Steps that take time make orders queue, and whoever queues for too long gives up.
#[test]
fn saga_queues_for_steps_that_take_time() {
    let arguments = ["--orders", "6", "--step-ms", "3", "--patience", "60000"];
    let out = run_well(env!("CARGO_BIN_EXE_saga"), &arguments);
    assert!(out.contains("6 orders done, 0 undone\n"), "{out}");
    let arguments = ["--orders", "2", "--step-ms", "300", "--patience", "10"];
    let out = run_well(env!("CARGO_BIN_EXE_saga"), &arguments);
    assert!(out.contains(": stock late → stock "), "{out}");
}

/// A step that answers too late was done: it is undone too, so the books are right whatever was late.
#[test]
fn saga_undoes_what_is_late() {
    let arguments = [
        "--orders",
        "40",
        "--slow-every",
        "payment=4",
        "--patience",
        "40",
        "--stock",
        "35",
    ];
    let out = run_well(env!("CARGO_BIN_EXE_saga"), &arguments); // it compares its books itself
    assert!(
        out.contains("payment late → payment undone → stock undone\n"),
        "{out}"
    );
    assert_eq!(out.lines().filter(|line| line.starts_with("order ")).count(), 40);
    let nonsense = run(env!("CARGO_BIN_EXE_saga"), &["--fail-every", "packing=2"]);
    assert!(text(&nonsense.stderr).contains("the steps are stock, payment and shipping"));
}
