//! Removes a tree, whatever is in it: hostile names, immutable files, nested subvolumes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, IFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Entry, Visit, directory, magic, pin, vanished, walk};
use crate::error::{Error, Result};
use crate::layer::ioctl;
use crate::layer::reclaim::Pace;

/// Rounds over a directory that keeps being filled, or whose reading passed over a name.
const ROUNDS: usize = 3;

/// Removes `name` in `parent` with everything in it. One that is not there is removed. `at` is its
/// path, for messages.
pub(in crate::layer) fn remove(parent: BorrowedFd<'_>, name: &CStr, at: &Path) -> Result<()> {
    remove_at(parent, name, at, None)
}

/// The same, at a pace.
pub(in crate::layer) fn remove_at(
    parent: BorrowedFd<'_>,
    name: &CStr,
    at: &Path,
    mut pace: Option<&mut Pace<'_>>,
) -> Result<()> {
    let mut round = 1;
    loop {
        match attempt(parent, name, at, pace.as_deref_mut()) {
            Err(Error::Io { source, .. })
                if source.kind() == io::ErrorKind::DirectoryNotEmpty && round < ROUNDS =>
            {
                round += 1;
            }
            done => return done,
        }
    }
}

/// Removes everything in an open directory, which stays. `at` is its path, for messages.
pub(in crate::layer) fn empty(dir: BorrowedFd<'_>, at: &Path) -> Result<()> {
    // A descriptor of its own: the position in a directory is the descriptor's.
    let opened = directory(dir, c".").map_err(Error::io("remove", at))?;
    walk(opened, at, &mut Remove(None))
}

fn attempt(parent: BorrowedFd<'_>, name: &CStr, at: &Path, pace: Option<&mut Pace<'_>>) -> Result<()> {
    let mut remove = Remove(pace);
    let wrong = |e: io::Error| Error::io::<io::Error>("remove", at)(e);
    let opened = match directory(parent, name) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return unlink(parent, name, AtFlags::empty()).map_err(wrong),
        Err(e) => return Err(wrong(e.into())),
    };
    if !remove.enter(parent, name, opened.as_fd()).map_err(wrong)? {
        return Ok(());
    }
    walk(opened, at, &mut remove)?;
    remove.leave(Some(parent), name).map_err(wrong)
}

/// With the pace that it keeps, if any.
struct Remove<'a, 'b>(Option<&'a mut Pace<'b>>);

impl Visit for Remove<'_, '_> {
    const ACTION: &'static str = "remove";
    const POINT: &'static str = "layer.remove.entry";

    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Entry> {
        self.0.as_mut().map_or(Ok(()), |pace| pace.step())?;
        match unlink(dir, name, AtFlags::empty()) {
            Err(e) if e.raw_os_error() == Some(Errno::ISDIR.raw_os_error()) => Ok(Entry::Directory),
            done => done.map(|()| Entry::Done),
        }
    }

    /// A subvolume goes at once, unless others are nested in it.
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &CStr, opened: BorrowedFd<'_>) -> io::Result<bool> {
        if !is_subvolume(opened)? {
            return Ok(true);
        }
        match ioctl::subvolume_destroy(parent, name) {
            Ok(()) | Err(Errno::NOENT) => Ok(false),
            Err(Errno::NOTEMPTY) => {
                if ioctl::subvolume_is_read_only(opened)? {
                    ioctl::subvolume_set_read_only(opened, false)?;
                }
                Ok(true)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn leave(&mut self, parent: Option<BorrowedFd<'_>>, name: &CStr) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), |pace| pace.step())?;
        let parent = parent.ok_or(Errno::NOTEMPTY)?;
        unlink(parent, name, AtFlags::REMOVEDIR)
    }
}

/// True for the root of a subvolume.
pub(in crate::layer) fn is_subvolume(opened: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::fs::fstat(opened)?.st_ino == ioctl::SUBVOLUME_INODE && super::super::area::is_btrfs(opened)?)
}

/// Unlinks a name; where a flag forbids that, clears it from the file and its directory first.
fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => {
            loosen(dir)?;
            match pin(dir, name) {
                Ok(pinned) => loosen_pinned(pinned.as_fd())?,
                Err(e) if vanished(e) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
            Ok(rustix::fs::unlinkat(dir, name, flags)?)
        }
        done => Ok(done?),
    }
}

fn loosen_pinned(pinned: BorrowedFd<'_>) -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(pinned)?.st_mode);
    if matches!(kind, FileType::RegularFile | FileType::Directory) {
        let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC;
        loosen(rustix::fs::openat(CWD, magic(pinned), flags, Mode::empty())?.as_fd())?;
    }
    Ok(())
}

/// Clears the flags that keep a file, or the names in a directory, from being removed.
fn loosen(fd: BorrowedFd<'_>) -> io::Result<()> {
    let fixed = IFlags::IMMUTABLE | IFlags::APPEND;
    let flags = match rustix::fs::ioctl_getflags(fd) {
        Ok(flags) => flags,
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if flags.intersects(fixed) {
        rustix::fs::ioctl_setflags(fd, flags - fixed)?;
    }
    Ok(())
}
