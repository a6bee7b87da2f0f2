//! The soak test for a few seconds, and that it notices what it is there to notice.

use std::process::{Command, Output};

fn soak(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--seed", "1"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let text = text.into_owned();
    (output, text)
}

#[test]
fn all_kinds_for_three_seconds() {
    for processors in ["1", "2"] {
        let (output, text) = soak(&[
            "--seconds",
            "3",
            "--stuck-seconds",
            "60",
            "--processors",
            processors,
        ]);
        assert!(output.status.success(), "{text}");
        let last = String::from_utf8(output.stdout).unwrap();
        let last = last.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("soak: ") && last.ends_with(" of 24 kinds, ok"),
            "{text}"
        );
        assert!(
            last.contains(&format!(" seed 1, {processors} processors, ")),
            "{text}"
        );
        assert!(!text.contains("outlived the runtime"), "{text}");
    }
}

/// What a failed run says: where, what, the seed to repeat it, the books, and no "ok".
fn fails(plant: &str, what: &str) {
    let arguments = ["--seconds", "1", "--stuck-seconds", "5", "--processors", "2"];
    let (output, text) = soak(&[&arguments[..], &["--only", "nested", "--plant", plant]].concat());
    assert!(!output.status.success(), "{text}");
    for part in [
        "soak: FAILED in ",
        what,
        "seed 1,",
        "started",
        "first runtime:  Metrics",
    ] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
    assert!(!text.contains(", ok"), "{text}");
}

#[test]
fn a_unit_that_never_ends_is_noticed() {
    fails("lost-unit", "started and finished differ at the end");
}

#[test]
fn a_unit_counted_twice_is_noticed() {
    fails("count-twice", "started and finished differ at the end");
}

#[test]
fn a_task_that_nobody_waits_for_is_noticed() {
    fails("forgotten", "tasks are left that nobody waits for");
}

#[test]
fn a_lost_wake_up_is_noticed() {
    fails("lost-wake", "STUCK: no progress for 5 s");
}

#[test]
fn an_unplanned_panic_is_noticed() {
    fails("panic", "planted");
}

#[test]
fn kinds_are_known_by_name() {
    let (output, text) = soak(&["--list"]);
    assert!(output.status.success());
    assert_eq!(text.lines().count(), 24, "{text}");
    let (output, text) = soak(&["--only", "storm,nonsense"]);
    assert!(!output.status.success());
    assert!(
        text.contains("there is no kind `nonsense`; --list names them"),
        "{text}"
    );
}
