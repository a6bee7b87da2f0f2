//! The storm for a few seconds, and that it notices what it is there to notice. `.ci/storm` runs it for longer.

use std::process::{Command, Output};

fn storm(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_storm"))
        .args(["--seed", "1", "--stuck-seconds", "60"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let text = text.into_owned();
    (output, text)
}

#[test]
fn all_kinds_for_three_seconds() {
    for processors in ["1", "3"] {
        let (output, text) = storm(&["--seconds", "3", "--processors", processors]);
        assert!(output.status.success(), "{text}");
        let last = String::from_utf8(output.stdout).unwrap();
        let last = last.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("storm: ") && last.ends_with(" of 9 kinds, ok"),
            "{text}"
        );
        assert!(!text.contains("outlived the runtime"), "{text}");
        // It is about tasks whose processor is taken, so some must have been.
        let detaches = text.split("detaches: ").nth(1).expect("the runtime's metrics");
        let detaches: u64 = detaches.split([',', ' ']).next().unwrap().parse().unwrap();
        assert!(detaches > 0, "no processor was taken: {text}");
    }
}

#[test]
fn work_that_is_lost_is_noticed() {
    let (output, text) = storm(&[
        "--seconds",
        "1",
        "--processors",
        "2",
        "--only",
        "hogs",
        "--plant",
        "lost-unit",
    ]);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("storm: FAILED in hogs") && text.contains("started and finished differ at the end"),
        "{text}"
    );
}
