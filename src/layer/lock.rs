//! `<root>/lock`: one daemon, or one check of a root that no daemon has, at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Makes the root where it is missing, and takes it for this process as long as the answer lives. `Precondition`
/// where another has it; the error names that one's process.
pub fn lock(root: &Path) -> Result<File> {
    // Root's alone: layers hold setuid programs of whatever image there is.
    DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(Error::io("create", root))?;
    let path = root.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(Error::io("read", &path))?;
            return Err(Error::precondition(
                format!("root {}", root.display()),
                format!(
                    "it is in use by the loomd with pid {}; stop that one, or choose another --root",
                    pid.trim()
                ),
            ));
        }
        Err(e) => return Err(Error::io("lock", &path)(e)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(Error::io("write", &path))?;
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_one_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let held = lock(&root).unwrap();
        let refused = lock(&root).unwrap_err().to_string();
        assert!(refused.contains(&root.display().to_string()), "{refused}");
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(held);
        // A longer pid of a daemon before leaves nothing behind.
        std::fs::write(root.join("lock"), "999999999999\n").unwrap();
        drop(lock(&root).unwrap());
        assert_eq!(std::fs::read_to_string(root.join("lock")).unwrap(), format!("{}\n", std::process::id()));
    }
}
