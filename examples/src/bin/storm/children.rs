//! Child processes: `fork`, `exec`, and waiting for them, announced and not.

use bast_examples::stress::tools::{Ground, Rng};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Tasks that each run a child and look at what it said and how it ended.
pub(crate) fn exec(ground: Ground, rng: &mut Rng) {
    super::crowd(ground, rng, 6, |ground, number, rng| {
        match rng.below(3) {
            0 => bast::blocking(|| says(ground, number, false)),
            1 => says(ground, number, false),
            _ => says(ground, number, true),
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("exit {}", number + 1)]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = ground.must(command.status(), "a child");
        ground.same(status.code(), Some(number as i32 + 1), "how the child ended");
    });
}

/// With `by_fork` the child is a copy of this process until it executes the shell; otherwise the standard library is
/// free to take `posix_spawn`.
fn says(ground: Ground, number: u64, by_fork: bool) {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "echo \"$1\"; cat", "sh"])
        .arg(number.to_string());
    command.stdin(Stdio::null());
    if by_fork {
        // SAFETY: the closure does nothing; it is there because `posix_spawn` cannot call it.
        unsafe { command.pre_exec(|| Ok(())) };
    }
    let output = ground.must(command.output(), "a child");
    ground.check(output.status.success(), || {
        format!("the child ended with {}", output.status)
    });
    ground.same(
        output.stdout,
        format!("{number}\n").into_bytes(),
        "what the child said",
    );
}
