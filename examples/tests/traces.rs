//! Traces of bast under all kinds of load, read by `bast-trace`: whole, and with what happened in them.

use std::path::Path;
use std::process::Command;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{text}\n{errors}",
        output.status
    );
    text
}

/// Writes a trace of `load`, has it checked, and gives what `bast-trace COMMAND --json` says of it.
fn traced(load: &str, command: &str) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(load);
    let file = Path::to_str(&file).unwrap();
    run(env!("CARGO_BIN_EXE_trace_scenarios"), &[load, file]);
    let checked = run(
        env!("CARGO_BIN_EXE_bast-trace"),
        &["check", "--self-contained", file],
    );
    assert!(checked.starts_with("valid: go 1.26, "), "{load}: {checked}");
    let json = run(env!("CARGO_BIN_EXE_bast-trace"), &[command, "--json", file]);
    serde_json::from_str(&json).unwrap()
}

#[test]
fn every_kind_of_load_makes_a_valid_trace() {
    for load in [
        "channels",
        "timers",
        "locks",
        "blocking",
        "hogs",
        "panics",
        "one-processor",
        "eight-processors",
        "several-runtimes",
    ] {
        let summary = traced(load, "summary");
        let text = summary.to_string();
        assert!(text.contains("created"), "{load}: {text}");
    }
}

/// What the guide shows.
#[test]
fn an_example_shows_its_orders() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("saga");
    let ended = Command::new(env!("CARGO_BIN_EXE_saga"))
        .args([
            "--orders",
            "4",
            "--patience",
            "60000",
            "--fail-every",
            "shipping=2",
            "--quiet",
        ])
        .env("BAST_TRACE", &file)
        .status()
        .unwrap();
    assert!(ended.success());
    let file = Path::to_str(&file).unwrap();
    run(
        env!("CARGO_BIN_EXE_bast-trace"),
        &["check", "--self-contained", file],
    );
    let json = run(env!("CARGO_BIN_EXE_bast-trace"), &["attribute", "--json", file]);
    let attributed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut regions: Vec<_> = attributed["regions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|region| {
            (
                region["name"].as_str().unwrap(),
                region["count"].as_u64().unwrap(),
            )
        })
        .collect();
    regions.sort_unstable();
    let expected = [
        ("payment", 4),
        ("shipping", 4),
        ("stock", 4),
        ("undo payment", 2),
        ("undo stock", 2),
    ];
    assert_eq!(regions, expected);
    let raw = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    for word in ["all orders", "order 4", "stock → payment → shipping → done"] {
        assert!(raw.contains(word), "{word} is not in it");
    }
}

/// The entry functions' names, with `#` for the numbers of lines, and how many tasks each has, but for the main task.
#[test]
fn closures_are_groups_of_their_own() {
    let attributed = traced("names", "attribute");
    let mut groups: Vec<_> = attributed["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| (group["name"].as_str().unwrap(), group["count"].as_u64().unwrap()))
        .filter(|(name, _)| name.contains("names"))
        .map(
            |(name, count)| match name.split_once(|one: char| one.is_ascii_digit()) {
                Some((before, line)) if before.ends_with(':') => {
                    let rest = line.trim_start_matches(|one: char| one.is_ascii_digit());
                    (format!("{before}LINE{rest}"), count)
                }
                _ => (name.to_owned(), count),
            },
        )
        .collect();
    groups.sort_unstable();
    let of = |name: &str, count| (name.replace("HERE", "trace_scenarios::names"), count);
    let mut expected = [
        of("HERE::{closures:LINE}", 1),
        of("HERE::{closures:LINE}", 1),
        of("HERE::{closures:LINE}", 1000),
        of("HERE::{closures:LINE #2}", 1),
        of("HERE::Server::{serve:LINE}", 1),
        of("HERE::pass", 2),
        of("HERE::generic[[u8, u16]]", 1),
        of("HERE::generic[alloc::vec::Vec[u8]]", 1),
        of("[HERE::Server as HERE::Handler]::handle", 1),
        of("{fn at names:LINE}", 1),
        of("{box at names:LINE}", 1),
    ];
    expected.sort_unstable();
    assert_eq!(groups, expected);
}

#[test]
fn tasks_and_regions_have_their_names() {
    let text = traced("marks", "attribute").to_string();
    assert!(text.contains("trace_scenarios::marks"), "{text}");
    let text = traced("echo", "attribute").to_string();
    assert!(text.contains("network"), "{text}");
}
