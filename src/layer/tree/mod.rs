//! Trees that may be hostile: walked by descriptor, never by path.
//!
//! The process in a container can swap any name for anything else while we walk. So a directory is
//! opened with `O_DIRECTORY | O_NOFOLLOW` in the directory it was seen in, anything else is first
//! pinned with `O_PATH | O_NOFOLLOW` and looked at before it is opened, and what vanished or changed
//! its type since its name was read is passed over. No symbolic link is followed, no device or FIFO
//! opened, whatever the other side does.
//!
//! The depth of a tree is bounded by neither the stack nor the number of descriptors: [`Trail`] keeps
//! the deepest few open and comes back to the others through `..`.

mod archive;
mod attributes;
mod changed;
mod compare;
mod copy;
mod data;
mod flatten;
mod links;
mod measure;
mod owners;
mod read;
mod remove;
mod tar;
mod touched;
mod union;

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::fault;

pub(super) use archive::archive;
pub(super) use changed::changed;
pub(super) use compare::compare;
pub(super) use copy::Copy;
pub(super) use flatten::{Target, flatten};
pub(super) use links::links;
pub(super) use measure::{Extents, measure, measure_extents, measure_shared};
pub(super) use owners::{Owners, chown};
pub(super) use read::read;
pub(super) use remove::{empty, is_subvolume, remove, remove_at};
pub(super) use touched::Touched;
pub(super) use union::View;

/// The directories of a tree that stay open.
const OPEN: usize = 128;
/// Bytes of a directory that are read at once.
const READ: usize = 32 * 1024;

/// What a name turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Not a directory, and dealt with.
    Done,
    /// A directory, to be entered.
    Directory,
}

/// What is done with a tree.
trait Visit {
    /// The verb of its errors.
    const ACTION: &'static str;
    /// The fault point that every entry passes.
    const POINT: &'static str;

    /// Deals with a name in `dir` that was no directory when it was read.
    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Entry>;
    /// Comes to a directory, open as `opened`; false passes over it.
    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr, opened: BorrowedFd<'_>) -> io::Result<bool>;
    /// Has dealt with everything in a directory. Its parent is none where the other side moved it.
    fn leave(&mut self, parent: Option<BorrowedFd<'_>>, name: &CStr) -> io::Result<()>;
}

/// A directory that is being walked.
struct Level {
    name: CString,
    /// The directories in it that are still to be entered.
    ahead: Vec<CString>,
}

/// Walks everything below `root`; `at` is its path, for messages only.
fn walk<V: Visit>(root: OwnedFd, at: &Path, visit: &mut V) -> Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); READ];
    let mut levels = vec![Level { name: CString::default(), ahead: Vec::new() }];
    let wrong = |levels: &[Level], name: &CStr, e: io::Error| {
        Error::io::<io::Error>(V::ACTION, path(at, levels, name))(e)
    };
    let mut trail = Trail::new(root).map_err(Error::io(V::ACTION, at))?;
    if let Some(dir) = trail.top() {
        let ahead = names(dir, &mut buffer, at, &levels, visit)?;
        if let Some(level) = levels.last_mut() {
            level.ahead = ahead;
        }
    }
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.ahead.pop() {
            let Some(dir) = trail.top() else { continue };
            let opened = match directory(dir, &name) {
                Ok(opened) => opened,
                Err(e) if vanished(e) => continue,
                Err(e) => return Err(wrong(&levels, &name, e.into())),
            };
            if !visit.enter(dir, &name, opened.as_fd()).map_err(|e| wrong(&levels, &name, e))? {
                continue;
            }
            levels.push(Level { name, ahead: Vec::new() });
            let ahead = names(opened.as_fd(), &mut buffer, at, &levels, visit)?;
            if let Some(level) = levels.last_mut() {
                level.ahead = ahead;
            }
            trail.push(opened).map_err(|e| wrong(&levels, c"", e.into()))?;
        } else if let Some(level) = levels.pop() {
            if levels.is_empty() {
                break;
            }
            trail.pop().map_err(|e| wrong(&levels, &level.name, e.into()))?;
            visit.leave(trail.top(), &level.name).map_err(|e| wrong(&levels, &level.name, e))?;
        }
    }
    Ok(())
}

/// Deals with everything in a directory but the directories, which it answers.
fn names<V: Visit>(
    dir: BorrowedFd<'_>,
    buffer: &mut [MaybeUninit<u8>],
    at: &Path,
    levels: &[Level],
    visit: &mut V,
) -> Result<Vec<CString>> {
    let mut ahead = Vec::new();
    let mut entries = RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // The directory itself was removed.
            Err(Errno::NOENT) => break,
            Err(e) => return Err(Error::io(V::ACTION, path(at, levels, c""))(e)),
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        fault::point(V::POINT)?;
        let found = if entry.file_type() == FileType::Directory {
            Entry::Directory
        } else {
            visit.other(dir, name).map_err(Error::io(V::ACTION, path(at, levels, name)))?
        };
        if found == Entry::Directory {
            ahead.push(name.to_owned());
        }
    }
    Ok(ahead)
}

/// The path of a name in the deepest level, for messages.
fn path(at: &Path, levels: &[Level], name: &CStr) -> PathBuf {
    let mut path = at.to_path_buf();
    let names = levels.iter().skip(1).map(|level| level.name.as_c_str()).chain([name]);
    path.extend(names.filter(|name| !name.is_empty()).map(|name| OsStr::from_bytes(name.to_bytes())));
    path
}

/// The directories from a root to where a walk is.
///
/// The deepest few and the root are open. One that was closed is opened again through the `..`
/// of the one below it, and taken only if it is the same directory still: a live tree may have been
/// moved about, and then what is left of it counts as vanished.
struct Trail {
    steps: Vec<Step>,
    /// How many of the deepest stay open.
    open: usize,
}

struct Step {
    fd: Option<OwnedFd>,
    /// Device and inode.
    same: (u64, u64),
}

impl Trail {
    fn new(root: OwnedFd) -> io::Result<Self> {
        Self::within(root, OPEN)
    }

    /// One of which only so many stay open besides the root.
    fn within(root: OwnedFd, open: usize) -> io::Result<Self> {
        let mut trail = Self { steps: Vec::new(), open };
        trail.push(root)?;
        Ok(trail)
    }

    /// The deepest directory; none where it was lost.
    fn top(&self) -> Option<BorrowedFd<'_>> {
        self.steps.last().and_then(|step| step.fd.as_ref()).map(AsFd::as_fd)
    }

    fn push(&mut self, fd: OwnedFd) -> rustix::io::Result<()> {
        let stat = rustix::fs::fstat(&fd)?;
        self.steps.push(Step { fd: Some(fd), same: (stat.st_dev, stat.st_ino) });
        if let Some(far) = self.steps.len().checked_sub(self.open + 1).filter(|far| *far > 0)
            && let Some(step) = self.steps.get_mut(far)
        {
            step.fd = None;
        }
        Ok(())
    }

    /// Goes up. What keeps a directory from being opened that is there is an error: it did not vanish.
    fn pop(&mut self) -> rustix::io::Result<()> {
        let below = self.steps.pop().and_then(|step| step.fd);
        let Some(top) = self.steps.last_mut().filter(|top| top.fd.is_none()) else { return Ok(()) };
        let Some(below) = below else { return Ok(()) };
        let parent = match directory(below.as_fd(), c"..") {
            Ok(parent) => parent,
            Err(e) if vanished(e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let stat = rustix::fs::fstat(&parent)?;
        if (stat.st_dev, stat.st_ino) == top.same {
            top.fd = Some(parent);
        }
        Ok(())
    }
}

/// Opens a directory, and nothing else, without following a link.
pub(super) fn directory(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Gives an empty directory what another is besides its entries and overlay's notes on it: owner, mode,
/// extended attributes, times.
pub(super) fn resemble(like: BorrowedFd<'_>, made: BorrowedFd<'_>) -> std::io::Result<()> {
    attributes::Attributes::of(like, status(like)?)?.without_notes().set_open(made)
}

/// Gives a directory again what its copy gave it and a change of its entries took away.
pub(super) fn match_times(like: BorrowedFd<'_>, made: BorrowedFd<'_>) -> rustix::io::Result<()> {
    attributes::set_times(&status(like)?, made, c".")
}

/// Pins whatever a name is, without opening it or following a link.
fn pin(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// What a pinned or open descriptor is.
pub(super) fn status(fd: BorrowedFd<'_>) -> rustix::io::Result<Statx> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// True for what is a directory.
pub(super) fn is_directory(status: &Statx) -> bool {
    FileType::from_raw_mode(status.stx_mode.into()) == FileType::Directory
}

/// What is the same for one inode in a subvolume and in its copies, and for no other. The birth time, which nobody
/// can set, tells a number that was used again.
pub(super) fn identity(status: &Statx) -> (u64, i64, u32) {
    (status.stx_ino, status.stx_btime.tv_sec, status.stx_btime.tv_nsec)
}

/// A path that leads to exactly what a descriptor is open on, a link or device too, and no further.
fn magic(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// True where a name is no longer what it was when it was read.
pub(super) fn vanished(e: Errno) -> bool {
    matches!(e, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_directory_that_moved_is_not_taken_for_its_old_parent() {
        let tree = tempfile::tempdir().unwrap();
        let open = |path: &Path| std::fs::File::open(path).unwrap();
        let mut trail = Trail::new(open(tree.path()).into()).unwrap();
        let mut here = tree.path().to_path_buf();
        let depth = 2 * OPEN;
        for _ in 0..depth {
            here.push("d");
            std::fs::create_dir(&here).unwrap();
            trail.push(open(&here).into()).unwrap();
        }
        // The deepest that is still open, whose parent is not.
        let up = |n: usize| here.ancestors().nth(n).unwrap().to_path_buf();
        std::fs::create_dir(tree.path().join("elsewhere")).unwrap();
        std::fs::rename(up(OPEN - 1), tree.path().join("elsewhere/d")).unwrap();
        for _ in 0..OPEN {
            assert!(trail.top().is_some());
            trail.pop().unwrap();
        }
        // What was between is lost; the root never is.
        for _ in OPEN..depth {
            assert!(trail.top().is_none());
            trail.pop().unwrap();
        }
        assert!(trail.top().is_some());
    }
}
