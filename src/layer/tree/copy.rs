//! A second tree with everything that a layer can hold.
//!
//! The target is new and only we write to it. A directory gets its attributes when everything in it
//! is there: its times would change, and a default ACL would be inherited. The first name of a file
//! with several is linked into a `stage` directory too, as a number, so that the others need neither
//! its path nor an open descriptor; the last takes the stage's own name away by a rename.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx};
use rustix::io::Errno;

use super::attributes::{Attributes, mode};
use super::{Entry, Trail, Visit, data, directory, magic, pin, status, vanished, walk};
use crate::error::{Error, Result};

/// Copies the tree below `source` into the empty directory `target`, attributes of the root too.
/// `stage` is an empty directory beside it, which may be left with something in it. `at` is the
/// source's path, for messages. Answers true where every file shares its extents with the source's.
pub(in crate::layer) fn copy(
    source: OwnedFd,
    target: OwnedFd,
    stage: BorrowedFd<'_>,
    at: &Path,
    reflink: bool,
) -> Result<bool> {
    let wrong = |e: io::Error| Error::io::<io::Error>("copy", at)(e);
    let attributes =
        status(source.as_fd()).map_err(io::Error::from).and_then(|s| Attributes::of(source.as_fd(), s));
    let attributes = attributes.map_err(wrong)?;
    let root = target.try_clone().map_err(wrong)?;
    let targets = Trail::new(target).map_err(wrong)?;
    let mut copy =
        Copy { targets, unset: Vec::new(), stage, links: HashMap::new(), staged: 0, reflink, shared: true };
    walk(source, at, &mut copy)?;
    attributes.set_on(root).map_err(wrong)?;
    Ok(reflink && copy.shared)
}

struct Copy<'a> {
    /// The copies of the directories that the walk is in.
    targets: Trail,
    /// Their attributes, the root's excepted.
    unset: Vec<Attributes>,
    stage: BorrowedFd<'a>,
    links: HashMap<Inode, Staged>,
    staged: u64,
    reflink: bool,
    shared: bool,
}

/// A file with several names. The birth time tells an inode number that was used again.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Inode {
    device: (u32, u32),
    number: u64,
    born: (i64, u32),
}

struct Staged {
    name: CString,
    /// Names of the source that have not been seen.
    left: u32,
}

impl Visit for Copy<'_> {
    const ACTION: &'static str = "copy";
    const POINT: &'static str = "layer.copy.entry";

    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Entry> {
        let pinned = match pin(dir, name) {
            Ok(pinned) => pinned,
            Err(e) if vanished(e) => return Ok(Entry::Done),
            Err(e) => return Err(e.into()),
        };
        let found = status(pinned.as_fd())?;
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        if kind == FileType::Directory {
            return Ok(Entry::Directory);
        }
        match self.put(pinned.as_fd(), &found, kind, name) {
            // A directory that changes while it is read may show one name twice.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Entry::Done),
            done => done.map(|()| Entry::Done),
        }
    }

    fn enter(&mut self, _: BorrowedFd<'_>, name: &CStr, opened: BorrowedFd<'_>) -> io::Result<bool> {
        let attributes = Attributes::of(opened, status(opened)?)?;
        let target = self.target()?;
        match rustix::fs::mkdirat(target, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        let made = directory(target, name)?;
        self.targets.push(made)?;
        self.unset.push(attributes);
        Ok(true)
    }

    fn leave(&mut self, _: Option<BorrowedFd<'_>>, _: &CStr) -> io::Result<()> {
        if let Some(attributes) = self.unset.pop() {
            attributes.set_on(self.target()?)?;
        }
        self.targets.pop();
        Ok(())
    }
}

impl Copy<'_> {
    /// The copy of the directory that the walk is in.
    fn target(&self) -> io::Result<BorrowedFd<'_>> {
        self.targets.top().ok_or_else(|| io::Error::other("the copy was moved while it was made"))
    }

    /// Makes a copy of what is pinned, under the same name.
    fn put(&mut self, pinned: BorrowedFd<'_>, found: &Statx, kind: FileType, name: &CStr) -> io::Result<()> {
        let several = found.stx_nlink > 1;
        if several && self.link(found, name)? {
            return Ok(());
        }
        self.make(pinned, found, kind, name)?;
        if several {
            self.stage(found, name)?;
        }
        Ok(())
    }

    fn make(&mut self, pinned: BorrowedFd<'_>, found: &Statx, kind: FileType, name: &CStr) -> io::Result<()> {
        let attributes = Attributes::of(pinned, *found)?;
        let made = match kind {
            FileType::RegularFile => {
                // It is a regular file for sure, so opening it waits for nobody but a lease's holder.
                let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC;
                let source = rustix::fs::openat(CWD, magic(pinned), flags, Mode::empty())?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(self.target()?, name, flags, Mode::RUSR | Mode::WUSR)?;
                if found.stx_size > 0 || self.reflink {
                    let shared = data::copy(source.as_fd(), made.as_fd(), found.stx_size, self.reflink)?;
                    self.shared &= shared;
                }
                made
            }
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(pinned, c"", Vec::new())?;
                rustix::fs::symlinkat(&to, self.target()?, name)?;
                pin(self.target()?, name)?
            }
            kind => {
                let device = rustix::fs::makedev(found.stx_rdev_major, found.stx_rdev_minor);
                rustix::fs::mknodat(self.target()?, name, kind, mode(found), device)?;
                pin(self.target()?, name)?
            }
        };
        attributes.set(self.target()?, name, made.as_fd())
    }

    /// Links `name` to the copy of a file of which another name was seen; false where none was.
    fn link(&mut self, found: &Statx, name: &CStr) -> io::Result<bool> {
        let inode = Inode::of(found);
        let target = self.targets.top().ok_or(Errno::STALE)?;
        let Some(staged) = self.links.get_mut(&inode) else {
            return Ok(false);
        };
        if staged.left > 1 {
            staged.left -= 1;
            rustix::fs::linkat(self.stage, &staged.name, target, name, AtFlags::empty())?;
        } else {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(self.stage, &staged.name, target, name, flags)?;
            self.links.remove(&inode);
        }
        Ok(true)
    }

    /// Keeps a hold on a file that has other names.
    fn stage(&mut self, found: &Statx, name: &CStr) -> io::Result<()> {
        let number = CString::new(self.staged.to_string())?;
        rustix::fs::linkat(self.target()?, name, self.stage, &number, AtFlags::empty())?;
        self.staged += 1;
        self.links.insert(Inode::of(found), Staged { name: number, left: found.stx_nlink - 1 });
        Ok(())
    }
}

impl Inode {
    pub(super) fn of(status: &Statx) -> Self {
        Self {
            device: (status.stx_dev_major, status.stx_dev_minor),
            number: status.stx_ino,
            born: (status.stx_btime.tv_sec, status.stx_btime.tv_nsec),
        }
    }
}
