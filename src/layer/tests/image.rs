//! A filesystem in a file, mounted while the value lives.

use std::path::Path;
use std::process::Command;

pub(crate) struct Image {
    directory: tempfile::TempDir,
    mount: std::path::PathBuf,
}

impl Image {
    /// Makes and mounts a filesystem of a number of MiB (sparse). Nobody's reading changes its times.
    pub(crate) fn new(kind: &str, size: u64) -> Self {
        let directory = tempfile::Builder::new().prefix("loom-layer-").tempdir_in("/var/tmp").unwrap();
        let file = directory.path().join("image");
        std::fs::File::create(&file).unwrap().set_len(size << 20).unwrap();
        let force = if kind == "ext4" { "-F" } else { "-f" };
        run(Command::new(format!("mkfs.{kind}")).args(["-q", force]).arg(&file));
        let mount = directory.path().join("mnt");
        std::fs::create_dir(&mount).unwrap();
        // btrfs drops what was removed, and frees it, once so many seconds.
        let options = if kind == "btrfs" { "loop,noatime,commit=1" } else { "loop,noatime" };
        run(Command::new("mount").args(["-o", options]).arg(&file).arg(&mount));
        Self { directory, mount }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Lazily: a failed test may still hold a descriptor.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
        // The directory goes with its TempDir; the loop device with its last user.
        let _ = &self.directory;
    }
}

fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}
