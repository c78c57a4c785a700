//! The names of files that have several.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat};

use super::{Entry, Visit, vanished, walk};
use crate::error::Result;

/// Tells every name in a tree, relative to its root, of what has more than one, and what that is. `at` is the path
/// of the root, for messages.
pub(in crate::layer) fn links(root: OwnedFd, at: &Path, tell: &mut dyn FnMut(&Path, &Stat)) -> Result<()> {
    walk(root, at, &mut Links { path: PathBuf::new(), tell })
}

struct Links<'a> {
    /// Of the directory that the walk is in.
    path: PathBuf,
    tell: &'a mut dyn FnMut(&Path, &Stat),
}

impl Visit for Links<'_> {
    const ACTION: &'static str = "look for hard links in";
    const POINT: &'static str = "layer.compare.entry";

    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Entry> {
        let status = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            Err(e) if vanished(e) => return Ok(Entry::Done),
            Err(e) => return Err(e.into()),
        };
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            return Ok(Entry::Directory);
        }
        if status.st_nlink > 1 {
            (self.tell)(&self.path.join(OsStr::from_bytes(name.to_bytes())), &status);
        }
        Ok(Entry::Done)
    }

    fn enter(&mut self, _: BorrowedFd<'_>, name: &CStr, _: BorrowedFd<'_>) -> io::Result<bool> {
        self.path.push(OsStr::from_bytes(name.to_bytes()));
        Ok(true)
    }

    fn leave(&mut self, _: Option<BorrowedFd<'_>>, _: &CStr) -> io::Result<()> {
        self.path.pop();
        Ok(())
    }
}
