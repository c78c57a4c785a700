//! Some neighbouring layers of a chain as one, with the same meaning on those below.
//!
//! ```text
//! below          the layers            the one
//! etc/two        whiteout etc/two      whiteout etc/two
//!                whiteout gone         nothing: there it would be seen as a device
//! var/log/       var/ (opaque)         var/ (opaque)
//!                new/ (opaque)         new/
//! ```
//!
//! A copy of their mount would be another thing: it has no whiteouts. So the raw layers are walked, with the view of
//! what lies below them. Of a name the topmost entry decides; a directory is merged of theirs, down to one that is
//! opaque or no directory. A whiteout is written only where the layers below show the name, and a directory is
//! opaque only where it hides one that they show. Everything else that overlay noted goes: it holds for the inode
//! that it was written on. Files keep what they have, and are one file where they were one; only a link count no
//! longer counts names that are hidden.
//!
//! The layers are sealed, so that nothing changes under the walk. The target is new and only we write to it: a
//! directory gets its attributes when everything in it is there. Of a file with several names the first is linked
//! into a `stage` directory too, as a number, for the others to find it.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, mode};
use super::copy::Inode;
use super::union::{Entry, OPAQUE, Pinned, View};
use super::{Trail, data, directory, pin};
use crate::error::{Error, Result};
use crate::fault;

/// Where the one layer is made.
pub(in crate::layer) struct Target<'a> {
    /// Its tree: an empty directory.
    pub(in crate::layer) tree: OwnedFd,
    /// An empty directory beside it, which may be left with something in it.
    pub(in crate::layer) stage: BorrowedFd<'a>,
    /// The path of its tree, for messages.
    pub(in crate::layer) at: &'a Path,
    /// Whether files can share their extents with those that they are copies of.
    pub(in crate::layer) reflink: bool,
}

/// Makes of the topmost `count` layers of a view one tree. `tell` is asked at every name whether it is to go on.
/// Answers true where every file shares its extents with the one that it is a copy of.
pub(in crate::layer) fn flatten(
    view: View,
    count: usize,
    to: Target<'_>,
    tell: &mut dyn FnMut() -> Result<()>,
) -> Result<bool> {
    let Target { tree, stage, at, reflink } = to;
    let targets = Trail::new(tree).map_err(Error::io("create", at))?;
    let unset = Vec::new();
    let links = HashMap::new();
    let mut flatten = Flatten { view, count, tell, targets, unset, stage, links, at, reflink, shared: true };
    flatten.walk()?;
    Ok(reflink && flatten.shared)
}

struct Flatten<'a> {
    view: View,
    count: usize,
    tell: &'a mut dyn FnMut() -> Result<()>,
    /// The directories that were made of those that the view is in.
    targets: Trail,
    /// What they are to have.
    unset: Vec<Attributes>,
    stage: BorrowedFd<'a>,
    /// The files of which other names may come, by the names that they have in the stage.
    links: HashMap<Inode, CString>,
    at: &'a Path,
    reflink: bool,
    shared: bool,
}

impl Flatten<'_> {
    fn walk(&mut self) -> Result<()> {
        let root = self.attributes()?;
        self.unset.extend(root);
        // The directories still to be entered, of each that the view is in.
        let mut ahead = vec![self.entries()?];
        while let Some(directories) = ahead.last_mut() {
            if let Some(entry) = directories.pop() {
                if self.enter(&entry)? {
                    ahead.push(self.entries()?);
                }
            } else {
                ahead.pop();
                self.leave()?;
            }
        }
        Ok(())
    }

    /// Makes everything where the view stands but the directories, which it answers.
    fn entries(&mut self) -> Result<Vec<Entry>> {
        let mut directories = Vec::new();
        for entry in self.view.list(self.count)? {
            fault::point("layer.flatten.entry")?;
            (self.tell)()?;
            match entry.kind {
                Some(FileType::Directory) => directories.push(entry),
                Some(_) => self.file(&entry)?,
                None => self.hidden(&entry)?,
            }
        }
        Ok(directories)
    }

    /// Makes a whiteout, where those below have the name.
    fn hidden(&mut self, entry: &Entry) -> Result<()> {
        if self.view.find(self.count, &entry.name)?.is_none() {
            return Ok(());
        }
        let made = self.target().and_then(|target| {
            Ok(rustix::fs::mknodat(target, &entry.name, FileType::CharacterDevice, Mode::empty(), 0)?)
        });
        made.map_err(self.wrong(&entry.name))
    }

    /// Makes a directory and goes into it; false where there is none.
    fn enter(&mut self, entry: &Entry) -> Result<bool> {
        let below = self.view.find(self.count, &entry.name)?;
        let wrong = self.wrong(&entry.name);
        if !self.view.enter(&entry.name)? {
            return Ok(false);
        }
        let Some(attributes) = self.attributes()? else {
            self.view.leave()?;
            return Ok(false);
        };
        let merged = self.view.parts().any(|layer| layer >= self.count);
        let hides = !merged && below.is_some_and(|below| below.is_directory());
        let make = || -> io::Result<OwnedFd> {
            let target = self.target()?;
            rustix::fs::mkdirat(target, &entry.name, Mode::RWXU)?;
            let made = directory(target, &entry.name)?;
            if hides {
                rustix::fs::fsetxattr(&made, OPAQUE, b"y", XattrFlags::empty())?;
            }
            Ok(made)
        };
        let target = make().map_err(&wrong)?;
        self.targets.push(target).map_err(|e| wrong(e.into()))?;
        self.unset.push(attributes);
        Ok(true)
    }

    /// Gives the directory where the view stands what it is to have, and goes up.
    fn leave(&mut self) -> Result<()> {
        if let Some(attributes) = self.unset.pop() {
            let set = self.target().and_then(|target| attributes.set_open(target));
            set.map_err(self.wrong(c""))?;
        }
        self.targets.pop().map_err(|e| self.wrong(c"")(e.into()))?;
        self.view.leave()
    }

    /// Makes anything but a directory.
    fn file(&mut self, entry: &Entry) -> Result<()> {
        let Some(found) = self.view.find(entry.layer, &entry.name)? else { return Ok(()) };
        let wrong = self.wrong(&entry.name);
        if found.status.stx_nlink < 2 {
            return self.make(&found, &entry.name).map_err(wrong);
        }
        let inode = Inode::of(&found.status);
        let target = self.target().map_err(&wrong)?;
        if let Some(staged) = self.links.get(&inode) {
            let linked = match rustix::fs::linkat(self.stage, staged, target, &entry.name, AtFlags::empty()) {
                // As many as a file can have, with ours.
                Err(Errno::MLINK) => rustix::fs::renameat(self.stage, staged, target, &entry.name),
                linked => linked,
            };
            return linked.map_err(|e| wrong(e.into()));
        }
        self.make(&found, &entry.name).map_err(&wrong)?;
        // Digits have no zero byte.
        let staged = CString::new(self.links.len().to_string()).unwrap_or_default();
        let target = self.target().map_err(&wrong)?;
        rustix::fs::linkat(target, &entry.name, self.stage, &staged, AtFlags::empty())
            .map_err(|e| wrong(e.into()))?;
        self.links.insert(inode, staged);
        Ok(())
    }

    fn make(&mut self, found: &Pinned, name: &CStr) -> io::Result<()> {
        let target = self.target()?;
        let attributes = Attributes::of(found.fd.as_fd(), found.status)?.without_notes();
        let made = match found.kind() {
            FileType::RegularFile => {
                let source = found.open()?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
                let size = found.status.stx_size;
                self.shared &= data::copy(source.as_fd(), made.as_fd(), size, self.reflink)?;
                made
            }
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(&found.fd, c"", Vec::new())?;
                rustix::fs::symlinkat(&to, target, name)?;
                pin(target, name)?
            }
            kind => {
                let device = rustix::fs::makedev(found.status.stx_rdev_major, found.status.stx_rdev_minor);
                rustix::fs::mknodat(target, name, kind, mode(&found.status), device)?;
                pin(target, name)?
            }
        };
        attributes.set(self.target()?, name, made.as_fd())
    }

    /// What the directory where the view stands is to have.
    fn attributes(&self) -> Result<Option<Attributes>> {
        let Some(here) = self.view.here()? else { return Ok(None) };
        let read = Attributes::of(here.fd.as_fd(), here.status).map_err(self.view.wrong(here.layer, c""));
        read.map(|read| Some(read.without_notes()))
    }

    /// What was made of the directory where the view stands.
    fn target(&self) -> io::Result<BorrowedFd<'_>> {
        self.targets.top().ok_or_else(|| io::Error::other("what is made of it was moved meanwhile"))
    }

    /// An error about what a name where the view stands becomes.
    fn wrong(&self, name: &CStr) -> impl Fn(io::Error) -> Error + use<> {
        let mut path = self.at.join(self.view.path());
        if !name.is_empty() {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        move |e| Error::io::<io::Error>("create", &path)(e)
    }
}
