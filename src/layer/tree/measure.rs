//! The bytes and inodes of a tree, and how many of the bytes others have too.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{Entry, Visit, magic, pin, status, vanished, walk};
use crate::error::{Error, Result};
use crate::layer::{Measured, ioctl};
use crate::store::Usage;

/// Sums the blocks of everything in the tree, its root too; a file with several names counts once.
pub(in crate::layer) fn measure(root: OwnedFd, at: &Path) -> Result<Usage> {
    let mut measure = Measure::new(false, None);
    measure.whole(root, at)?;
    Ok(measure.usage)
}

/// The same, with the bytes in extents that are not the file's alone, where files of this tree may have such;
/// None where `until` comes before the end.
pub(in crate::layer) fn measure_shared(
    root: OwnedFd,
    at: &Path,
    shares: bool,
    until: Instant,
) -> Result<Option<Measured>> {
    let mut measure = Measure::new(shares, Some(until));
    match measure.whole(root, at) {
        Ok(()) => Ok(Some(Measured { usage: measure.usage, shared: measure.shared })),
        Err(_) if measure.late() => Ok(None),
        Err(error) => Err(error),
    }
}

struct Measure {
    usage: Usage,
    /// Of the bytes, those in shared extents; nothing where `shares` is false.
    shared: i64,
    shares: bool,
    until: Option<Instant>,
    /// Device and inode of files with several names.
    seen: HashSet<(u64, u64)>,
}

impl Measure {
    fn new(shares: bool, until: Option<Instant>) -> Self {
        Self { usage: Usage::default(), shared: 0, shares, until, seen: HashSet::new() }
    }

    fn whole(&mut self, root: OwnedFd, at: &Path) -> Result<()> {
        self.add(&rustix::fs::fstat(root.as_fd()).map_err(Error::io("measure", at))?);
        walk(root, at, self)
    }

    fn late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn add(&mut self, stat: &Stat) {
        self.usage.size += stat.st_blocks * 512;
        self.usage.inodes += 1;
    }

    /// Adds what a regular file shares, if the name still is the file that was counted.
    fn add_shared(&mut self, dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
        let pinned = match pin(dir, name) {
            Ok(pinned) => pinned,
            Err(e) if vanished(e) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let found = status(pinned.as_fd())?;
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        if kind != FileType::RegularFile || found.stx_ino != stat.st_ino {
            return Ok(());
        }
        // Without waiting for the holder of a lease: the extents of one that has it count as its own.
        let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(CWD, magic(pinned.as_fd()), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::WOULDBLOCK | Errno::TXTBSY) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let shared = ioctl::shared_bytes(file, || !self.late())?.ok_or(io::ErrorKind::TimedOut)?;
        // An extent may reach further than the file's own part of it.
        self.shared += i64::try_from(shared).unwrap_or(i64::MAX).min(stat.st_blocks * 512);
        Ok(())
    }
}

impl Visit for Measure {
    const ACTION: &'static str = "measure";
    const POINT: &'static str = "layer.measure.entry";

    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Entry> {
        if self.late() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(e) if vanished(e) => return Ok(Entry::Done),
            Err(e) => return Err(e.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return Ok(Entry::Directory);
        }
        if stat.st_nlink == 1 || self.seen.insert((stat.st_dev, stat.st_ino)) {
            self.add(&stat);
            if self.shares && kind == FileType::RegularFile && stat.st_blocks > 0 {
                self.add_shared(dir, name, &stat)?;
            }
        }
        Ok(Entry::Done)
    }

    fn enter(&mut self, _: BorrowedFd<'_>, _: &CStr, opened: BorrowedFd<'_>) -> io::Result<bool> {
        if self.late() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.add(&rustix::fs::fstat(opened)?);
        Ok(true)
    }

    fn leave(&mut self, _: Option<BorrowedFd<'_>>, _: &CStr) -> io::Result<()> {
        Ok(())
    }
}
