//! The `loom` command; all of it is in [`loom_snapshotter::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    loom_snapshotter::cli::main()
}
