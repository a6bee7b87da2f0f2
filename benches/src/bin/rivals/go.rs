//! Builds Go's half, which lies beside this program as source.

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rivals/go");

/// The built program in `directory`; `None`, with a word on stderr, if there is no Go.
pub(crate) fn build(directory: &Path) -> Result<Option<PathBuf>, String> {
    if version().is_none() {
        eprintln!("rivals: no `go` on PATH, so its column stays empty");
        return Ok(None);
    }
    let program = directory.join("rivals-go");
    // Of its own modules only: nothing is fetched, no other toolchain is.
    let output = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(SOURCE)
        .envs([
            ("GOTOOLCHAIN", "local"),
            ("GOPROXY", "off"),
            ("GOFLAGS", "-mod=mod"),
        ])
        .output()
        .map_err(|error| format!("cannot run go: {error}"))?;
    if !output.status.success() {
        return Err(format!("go build: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(Some(program))
}

/// What `go version` says.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("go")
        .arg("version")
        .env("GOTOOLCHAIN", "local")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.trim().trim_start_matches("go version ").to_owned())
}
