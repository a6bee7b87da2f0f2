//! What `bast-trace` answers as a program: its exit status, its messages, standard input, parts of damaged traces.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn trace(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", "bast_trace", name]
        .iter()
        .collect()
}

fn bast_trace(arguments: &[&str], input: Stdio) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bast-trace"));
    let Output {
        status,
        stdout,
        stderr,
    } = command.args(arguments).stdin(input).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_good_trace_by_name_and_by_standard_input() {
    let file = trace("go-1.27.trace");
    let (status, by_name, errors) = bast_trace(&["check", file.to_str().unwrap()], Stdio::null());
    assert_eq!((status, errors.as_str()), (0, ""));
    assert!(by_name.starts_with("valid: go 1.26, "), "{by_name}");
    let (status, by_input, _) = bast_trace(&["check", "-"], File::open(file).unwrap().into());
    assert_eq!((status, by_input), (0, by_name));
}

#[test]
fn a_fault_is_status_1_and_names_byte_and_event() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cut.trace");
    let bytes = fs::read(trace("proof-26.trace")).unwrap();
    File::create(&file)
        .unwrap()
        .write_all(&bytes[..bytes.len() - 10])
        .unwrap();
    let name = file.to_str().unwrap();
    for command in ["check", "summary", "attribute", "tasks", "to-perfetto"] {
        let (status, _, errors) = bast_trace(&[command, name], Stdio::null());
        assert_eq!(status, 1, "{command}: {errors}");
        assert!(
            errors.contains("at byte ") && errors.contains("the file ends"),
            "{command}: {errors}"
        );
    }
    // The two whole generations are there for who asks.
    let (status, text, errors) = bast_trace(&["summary", "--partial", name], Stdio::null());
    assert_eq!(status, 1);
    assert!(text.contains("go 1.26, 2 generations"), "{text}");
    assert!(errors.contains("the figures end there"), "{errors}");
    let (status, text, _) = bast_trace(&["check", "--json", name], Stdio::null());
    assert_eq!(status, 1);
    assert!(text.starts_with("{\"fault\":\"the file ends"), "{text}");
}

#[test]
fn what_cannot_be_read_is_status_2() {
    let (status, _, errors) = bast_trace(&["check", "/nowhere/at.all"], Stdio::null());
    assert_eq!(status, 2);
    assert!(errors.contains("/nowhere/at.all: cannot read: "), "{errors}");
    let (status, _, errors) = bast_trace(&["no-such-command"], Stdio::null());
    assert_eq!(status, 2);
    assert!(errors.contains("no-such-command"), "{errors}");
    let (status, _, errors) = bast_trace(&["check", "-"], Stdio::null());
    assert_eq!(status, 1);
    assert!(errors.contains("the file is empty"), "{errors}");
}
