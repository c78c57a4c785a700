//! The bytes and inodes of a tree.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat};

use super::{Entry, Visit, vanished, walk};
use crate::error::{Error, Result};
use crate::store::Usage;

/// Sums the blocks of everything in the tree, its root too; a file with several names counts once.
pub(in crate::layer) fn measure(root: OwnedFd, at: &Path) -> Result<Usage> {
    let mut measure = Measure { usage: Usage::default(), seen: HashSet::new() };
    measure.add(&rustix::fs::fstat(root.as_fd()).map_err(Error::io("measure", at))?);
    walk(root, at, &mut measure)?;
    Ok(measure.usage)
}

struct Measure {
    usage: Usage,
    /// Device and inode of files with several names.
    seen: HashSet<(u64, u64)>,
}

impl Measure {
    fn add(&mut self, stat: &Stat) {
        self.usage.size += stat.st_blocks * 512;
        self.usage.inodes += 1;
    }
}

impl Visit for Measure {
    const ACTION: &'static str = "measure";
    const POINT: &'static str = "layer.measure.entry";

    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Entry> {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(e) if vanished(e) => return Ok(Entry::Done),
            Err(e) => return Err(e.into()),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(Entry::Directory);
        }
        if stat.st_nlink == 1 || self.seen.insert((stat.st_dev, stat.st_ino)) {
            self.add(&stat);
        }
        Ok(Entry::Done)
    }

    fn enter(&mut self, _: BorrowedFd<'_>, _: &CStr, opened: BorrowedFd<'_>) -> io::Result<bool> {
        self.add(&rustix::fs::fstat(opened)?);
        Ok(true)
    }

    fn leave(&mut self, _: Option<BorrowedFd<'_>>, _: &CStr) -> io::Result<()> {
        Ok(())
    }
}
