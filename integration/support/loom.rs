//! The loom command.

use std::path::Path;
use std::process::{Command, Output};

use super::process::{finish, wrote};

/// The command for `loom` against the daemon at `socket`.
pub fn loom_command(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loom"));
    command.arg("--address").arg(socket).args(args);
    command
}

/// Runs `loom` against the daemon at `socket`, however it ends.
pub fn try_loom(socket: &Path, args: &[&str]) -> Output {
    finish(&mut loom_command(socket, args))
}

/// Runs `loom` and returns what it printed, without the last line break.
///
/// # Panics
/// With all that it printed, where it fails.
pub fn loom(socket: &Path, args: &[&str]) -> String {
    let output = try_loom(socket, args);
    assert!(output.status.success(), "loom {args:?}: {}\n{}", output.status, wrote(&output));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Runs `loom --json …` and returns what it printed, parsed.
///
/// # Panics
/// With all that it printed, where it fails or prints anything else than JSON.
pub fn loom_json(socket: &Path, args: &[&str]) -> serde_json::Value {
    let text = loom(socket, &[&["--json"], args].concat()); // Behind `--` it would be the container's.
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("loom {args:?}: {error}\n{text}"))
}
