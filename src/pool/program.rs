//! The programs of others that make filesystems and loop devices.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Result};

/// A program, and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    name: &'static str,
    package: &'static str,
}

pub(super) const MKFS_BTRFS: Program = Program { name: "mkfs.btrfs", package: "btrfs-progs" };
pub(super) const LOSETUP: Program = Program { name: "losetup", package: "mount" };
pub(super) const BLKID: Program = Program { name: "blkid", package: "util-linux" };

impl Program {
    /// Runs it to its end, however it ends.
    pub(super) fn try_run(self, args: &[&OsStr]) -> Result<Output> {
        let output = Command::new(self.name).args(args).env("LC_ALL", "C").stdin(Stdio::null()).output();
        output.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::precondition(
                format!("program {}", self.name),
                format!(
                    "it is not installed, and the pool needs it: apt install {} (on Debian), or whatever package \
                     has it here",
                    self.package
                ),
            ),
            _ => Error::io("run", self.name)(e),
        })
    }

    /// Runs it to its end; answers what it printed.
    pub(super) fn run(self, args: &[&OsStr]) -> Result<String> {
        let output = self.try_run(args)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let message = if said.is_empty() { output.status.to_string() } else { said.join("; ") };
        Err(Error::Program { program: self.name, message })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_program_that_is_missing_names_its_package() {
        let error = Program { name: "mkfs.nothing", package: "nothing-progs" }.run(&[]).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        let text = error.to_string();
        assert!(text.contains("mkfs.nothing") && text.contains("apt install nothing-progs"), "{text}");
    }

    #[test]
    fn what_a_program_says_is_its_error() {
        let shell = Program { name: "sh", package: "dash" };
        let run = |script: &str| shell.run(&["-c".as_ref(), script.as_ref()]);
        assert_eq!(run("echo ' yes '").unwrap(), "yes");
        assert_eq!(run("echo one >&2; echo two >&2; exit 3").unwrap_err().to_string(), "sh: one; two");
        assert_eq!(run("exit 3").unwrap_err().to_string(), "sh: exit status: 3");
    }
}
