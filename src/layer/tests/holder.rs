//! A process in a mount namespace of its own, with a mount in it.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use super::super::Mount;

pub(crate) struct Holder {
    process: Child,
    _at: tempfile::TempDir,
}

impl Holder {
    /// Mounts what is told for a layer, and runs a script of bash's at it, in which `$at` is the mount.
    pub(crate) fn new(mount: &Mount, script: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let kind = if mount.kind == "bind" { "--bind" } else { "-t overlay" };
        let options = mount.options.join(",").replace(",rbind", "");
        let script = format!(
            "at={0}; mount {kind} -o {options} {1} $at; {script}\necho ready; exec cat",
            at.path().display(),
            mount.source
        );
        let mut process = Command::new("unshare")
            .args(["-m", "bash", "-euc", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        process.stdout.as_mut().unwrap().read_exact(&mut ready).expect(&script);
        Self { process, _at: at }
    }

    /// One that no mount table names, with a file open in it.
    pub(crate) fn detached(mount: &Mount) -> Self {
        Self::new(mount, "echo open >$at/open; exec 3<>$at/open; umount -l $at")
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
