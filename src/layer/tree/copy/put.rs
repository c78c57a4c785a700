//! The copy of one inode that is no directory.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rustix::fs::{CWD, FileType, Mode, OFlags, Statx};

use super::super::attributes::{Attributes, mode};
use super::super::{data, magic, pin, status};
use super::Copy;
use super::record::{Entry, Inode, Seen};
use crate::layer::ioctl;

impl Copy {
    /// Makes a copy of what is pinned, as `name` in `dir`, which has no such name.
    pub(super) fn put(
        &self,
        pinned: BorrowedFd<'_>,
        found: &Statx,
        dir: BorrowedFd<'_>,
        name: &CStr,
    ) -> io::Result<Entry> {
        if found.stx_nlink < 2 {
            let (seen, settled) = self.make(pinned, found, dir, name)?;
            return Ok(Entry::Other { seen, settled });
        }
        let slot = self.links.of(Inode::of(found));
        let mut group = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Seen::of(found);
        if let Some(held) = &*group
            && held.seen == seen
            && ((held.settled && !self.set_back) || held.round == self.round)
        {
            let settled = held.settled;
            self.links.link(&mut group, dir, name)?;
            return Ok(Entry::Other { seen, settled });
        }
        let (seen, settled) = self.make(pinned, found, dir, name)?;
        self.links.hold(&mut group, (dir, name), (seen, settled, self.round))?;
        Ok(Entry::Other { seen, settled })
    }

    /// Answers what was copied, and whether a later change would show.
    fn make(
        &self,
        pinned: BorrowedFd<'_>,
        found: &Statx,
        dir: BorrowedFd<'_>,
        name: &CStr,
    ) -> io::Result<(Seen, bool)> {
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        if kind == FileType::RegularFile {
            return self.file(pinned, found, dir, name);
        }
        let seen = Seen::of(found);
        let settled = seen.changed_before(self.long_ago());
        let attributes = Attributes::of(pinned, *found)?;
        if kind == FileType::Symlink {
            let to = rustix::fs::readlinkat(pinned, c"", Vec::new())?;
            rustix::fs::symlinkat(&to, dir, name)?;
        } else {
            let device = rustix::fs::makedev(found.stx_rdev_major, found.stx_rdev_minor);
            rustix::fs::mknodat(dir, name, kind, mode(found), device)?;
        }
        attributes.set(dir, name, pin(dir, name)?.as_fd())?;
        Ok((seen, settled))
    }

    fn file(
        &self,
        pinned: BorrowedFd<'_>,
        found: &Statx,
        dir: BorrowedFd<'_>,
        name: &CStr,
    ) -> io::Result<(Seen, bool)> {
        // It is a regular file for sure, so opening it waits for nobody but a lease's holder.
        let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC;
        let source = rustix::fs::openat(CWD, magic(pinned), flags, Mode::empty())?;
        let (found, settled) = self.settle(source.as_fd(), *found)?;
        if !self.last {
            wait_for_writers(source.as_fd());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        if (found.stx_size > 0 || self.reflink)
            && !data::copy(source.as_fd(), made.as_fd(), found.stx_size, self.reflink)?
        {
            self.shared.store(false, Ordering::Relaxed);
        }
        Attributes::of_open(source.as_fd(), found)?.set_open(made.as_fd())?;
        Ok((Seen::of(&found), settled))
    }

    /// Answers what a file is, and whether every change from now on will show; writes it out where that helps.
    fn settle(&self, source: BorrowedFd<'_>, found: Statx) -> io::Result<(Statx, bool)> {
        let seen = Seen::of(&found);
        if self.last || seen.changed_before(self.flushed) {
            return Ok((found, true));
        }
        let before = self.long_ago();
        if !seen.changed_before(before) {
            return Ok((found, false));
        }
        ioctl::write_out(source)?;
        let found = status(source)?;
        Ok((found, Seen::of(&found).changed_before(before)))
    }

    /// True where a name that was copied needs no look again in this round, if it looks the same.
    pub(super) fn stays(&self, seen: &Seen, settled: bool) -> bool {
        // Copied again, it would be no more settled than it is.
        (settled && !self.set_back) || (!self.last && !seen.changed_before(self.long_ago()))
    }
}

/// Returns when the calls have ended that write to a file at this moment. One stamps it as it begins, and may write for
/// long; whoever began before the stamps were looked at is seen whole then.
fn wait_for_writers(file: BorrowedFd<'_>) {
    // Each holds the inode's lock, and so does this, which fails, and changes nothing: there is no such attribute.
    let _ = rustix::fs::fremovexattr(file, c"trusted.loom.none");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;
    use crate::layer::tests::image::Image;

    #[test]
    fn who_has_begun_to_write_is_waited_for() {
        const SIZE: usize = 200 << 20;
        let (old, new) = (vec![1; SIZE], vec![2; SIZE]);
        for kind in ["ext4", "xfs", "btrfs"] {
            let image = Image::new(kind, 1024);
            let path = image.path().join("file");
            std::fs::write(&path, &old).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let changed = || file.metadata().map(|found| (found.ctime(), found.ctime_nsec())).unwrap();
            let before = changed();
            std::thread::scope(|scope| {
                scope.spawn(|| file.write_all_at(&new, 0).unwrap());
                while changed() == before {
                    std::thread::yield_now();
                }
                wait_for_writers(file.as_fd());
                let mut last = [0];
                file.read_exact_at(&mut last, SIZE as u64 - 1).unwrap();
                assert_eq!(last, [2], "{kind}");
            });
            assert!(changed() > before);
            let stamped = changed();
            wait_for_writers(file.as_fd());
            assert_eq!(changed(), stamped, "{kind}: it is a look, and no change");
        }
    }
}
