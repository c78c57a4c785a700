//! What has changed in a tree since a moment.
//!
//! The time of an inode's last change is the kernel's own: no process can set it back. A name that came or went
//! changes its directory, and an overlay's upper has a whiteout for one that went below. A directory in which
//! something else is told is not told itself: what came into it changed it.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat};

use super::{Entry, Visit, vanished, walk};
use crate::error::{Error, Result};
use crate::store::Time;

/// The paths below `root`, at most `limit`, that changed behind `since`; `.` where nothing but the root did. `at`
/// is its path, for messages.
pub(in crate::layer) fn changed(root: OwnedFd, at: &Path, since: Time, limit: usize) -> Result<Vec<String>> {
    let mut changed = Changed { since, limit, found: Vec::new(), levels: Vec::new() };
    let status = rustix::fs::fstat(root.as_fd()).map_err(Error::io("look for changes in", at))?;
    changed.levels.push(changed.level(&status, PathBuf::new()));
    walk(root, at, &mut changed)?;
    changed.close(Path::new("."));
    Ok(changed.found)
}

struct Changed {
    since: Time,
    limit: usize,
    found: Vec<String>,
    /// The directories that the walk is in, the root first.
    levels: Vec<Level>,
}

struct Level {
    /// Relative to the root.
    path: PathBuf,
    changed: bool,
    /// How many were found before it.
    before: usize,
}

impl Changed {
    fn level(&self, status: &Stat, path: PathBuf) -> Level {
        Level { path, changed: self.is_newer(status), before: self.found.len() }
    }

    fn is_newer(&self, status: &Stat) -> bool {
        let nanos = i64::try_from(status.st_ctime_nsec).unwrap_or_default();
        Time(status.st_ctime.saturating_mul(1_000_000_000).saturating_add(nanos)) > self.since
    }

    fn full(&self) -> bool {
        self.found.len() >= self.limit
    }

    fn path(&self, name: &CStr) -> PathBuf {
        let name = OsStr::from_bytes(name.to_bytes());
        self.levels.last().map_or_else(|| PathBuf::from(name), |level| level.path.join(name))
    }

    fn tell(&mut self, path: &Path) {
        if !self.full() {
            self.found.push(path.to_string_lossy().into_owned());
        }
    }

    /// Leaves the deepest directory, which is told as `path` where nothing in it was.
    fn close(&mut self, path: &Path) {
        if let Some(level) = self.levels.pop()
            && level.changed
            && level.before == self.found.len()
        {
            self.tell(path);
        }
    }
}

impl Visit for Changed {
    const ACTION: &'static str = "look for changes in";
    const POINT: &'static str = "layer.changed.entry";

    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Entry> {
        let status = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            Err(e) if vanished(e) => return Ok(Entry::Done),
            Err(e) => return Err(e.into()),
        };
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            return Ok(Entry::Directory);
        }
        // The whiteouts of an overlay are links to one, which changes with each that comes and with every mount.
        // One that is new itself has changed its directory too.
        let possible = !is_whiteout(&status) || self.levels.last().is_some_and(|level| level.changed);
        if possible && self.is_newer(&status) {
            let path = self.path(name);
            self.tell(&path);
        }
        Ok(Entry::Done)
    }

    fn enter(&mut self, _: BorrowedFd<'_>, name: &CStr, opened: BorrowedFd<'_>) -> io::Result<bool> {
        if self.full() {
            return Ok(false);
        }
        let level = self.level(&rustix::fs::fstat(opened)?, self.path(name));
        self.levels.push(level);
        Ok(true)
    }

    fn leave(&mut self, _: Option<BorrowedFd<'_>>, _: &CStr) -> io::Result<()> {
        let path = self.levels.last().map(|level| level.path.clone());
        self.close(&path.unwrap_or_default());
        Ok(())
    }
}

fn is_whiteout(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == 0
}
