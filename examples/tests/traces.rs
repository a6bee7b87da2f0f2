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

#[test]
fn tasks_and_regions_have_their_names() {
    let text = traced("marks", "attribute").to_string();
    assert!(text.contains("trace_scenarios::marks"), "{text}");
    let text = traced("echo", "attribute").to_string();
    assert!(text.contains("network"), "{text}");
}
