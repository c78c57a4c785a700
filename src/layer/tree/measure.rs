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
    let mut measure = Measure::new(None);
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
    let mut extents = shares.then(Extents::default);
    measure_extents(root, at, extents.as_mut(), until)
}

/// The same; `extents` is there where files of this tree may share some, and gets those that they do.
pub(in crate::layer) fn measure_extents(
    root: OwnedFd,
    at: &Path,
    extents: Option<&mut Extents>,
    until: Instant,
) -> Result<Option<Measured>> {
    let mut measure = Measure { extents, ..Measure::new(Some(until)) };
    match measure.whole(root, at) {
        Ok(()) => Ok(Some(Measured { usage: measure.usage, shared: measure.shared })),
        Err(_) if measure.late() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Extents, by place and length, each as often as it was met.
#[derive(Debug, Default)]
pub(in crate::layer) struct Extents(Vec<(u64, u64)>);

impl Extents {
    /// The bytes that they cover, each once.
    pub(in crate::layer) fn cover(&mut self) -> u64 {
        self.0.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for &(place, length) in &self.0 {
            match joined.last_mut() {
                Some((from, long)) if place <= *from + *long => *long = (*long).max(place + length - *from),
                _ => joined.push((place, length)),
            }
        }
        self.0 = joined;
        self.0.iter().map(|(_, length)| length).sum()
    }
}

struct Measure<'a> {
    usage: Usage,
    /// Of the bytes, those in shared extents; nothing where nobody wants to know those.
    shared: i64,
    extents: Option<&'a mut Extents>,
    until: Option<Instant>,
    /// Device and inode of files with several names.
    seen: HashSet<(u64, u64)>,
}

impl Measure<'_> {
    fn new(until: Option<Instant>) -> Self {
        Self { usage: Usage::default(), shared: 0, extents: None, until, seen: HashSet::new() }
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
        let until = self.until;
        let late = || until.is_some_and(|until| Instant::now() >= until);
        let (extents, mut shared) = (&mut self.extents, 0);
        let all = ioctl::shared_extents(
            file,
            || !late(),
            |place, length| {
                shared += length;
                if let Some(extents) = extents {
                    extents.0.push((place, length));
                }
            },
        )?;
        if !all {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // An extent may reach further than the file's own part of it.
        self.shared += i64::try_from(shared).unwrap_or(i64::MAX).min(stat.st_blocks * 512);
        Ok(())
    }
}

impl Visit for Measure<'_> {
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
            if self.extents.is_some() && kind == FileType::RegularFile && stat.st_blocks > 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_extents_cover_counts_once() {
        let mut extents = Extents(vec![(100, 10), (0, 50), (105, 10), (50, 5), (100, 10), (20, 10)]);
        assert_eq!(extents.cover(), 70);
        assert_eq!(extents.0, [(0, 55), (100, 15)]);
        extents.0.push((110, 10));
        assert_eq!(extents.cover(), 75);
        assert_eq!(Extents::default().cover(), 0);
    }
}
