//! The merged view of a chain of layers, read where they lie: what an overlay of them shows.
//!
//! ```text
//!            layer 0 (top)     layer 1           layer 2           the view
//! etc/       etc/              etc/ (opaque)     etc/              layers 0 and 1 merged
//! etc/one                      etc/one           etc/one           layer 1's
//! etc/two    whiteout          etc/two                             none
//! var                          a file            var/              the file
//! ```
//!
//! A directory of the view is the directories of that name from the top down to the first that is opaque, or to what
//! is no directory; its attributes are the topmost one's. The root is always merged of all. Redirects and files
//! without their data ("metacopy") are refused: no mount of ours makes them.
//!
//! Whose its files are is told by the container's own ids, also of a layer that is written under a mapping.
//!
//! A [`View`] stands in one directory and goes down and up. It holds descriptors, never paths, since the topmost layer
//! may be live: what moves or vanishes under it is passed over, and no link is followed. However deep the tree,
//! it holds a bounded number of descriptors.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, Statx};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::owners::Owners;
use super::{OPEN, READ, Trail, directory, magic, pin, status, vanished};
use crate::error::{Error, Result};
use crate::mapping::Mapping;

pub(super) const OPAQUE: &CStr = c"trusted.overlay.opaque";
const REDIRECT: &CStr = c"trusted.overlay.redirect";
const METACOPY: &CStr = c"trusted.overlay.metacopy";
const WHITEOUT: &CStr = c"trusted.overlay.whiteout";

/// A place in the merged view of a chain: at first the root.
pub(in crate::layer) struct View {
    /// Topmost first.
    layers: Vec<Source>,
    /// The directories from the root to where it stands, as the layers that each is merged of.
    levels: Vec<Vec<usize>>,
    /// Of where it stands, relative to the root.
    path: PathBuf,
}

/// A layer.
struct Source {
    /// The path of its tree, for messages.
    at: PathBuf,
    /// From its root to the deepest directory in which the view stands or stood on its way.
    trail: Trail,
    /// Its whiteouts may be files with an attribute: its root says so.
    marks: bool,
    /// The mapping that its owners are written with.
    mapping: Option<Arc<Mapping>>,
}

/// A name in a directory of some of the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::layer) struct Entry {
    /// The name.
    pub(in crate::layer) name: CString,
    /// The topmost layer that has it.
    pub(in crate::layer) layer: usize,
    /// What that has there; none for a whiteout.
    pub(in crate::layer) kind: Option<FileType>,
}

/// What the view shows at a name, kept from being swapped for something else.
#[derive(Debug)]
pub(in crate::layer) struct Pinned {
    /// The layer it lies in.
    pub(in crate::layer) layer: usize,
    /// Open as a path (`O_PATH`) only.
    pub(in crate::layer) fd: OwnedFd,
    /// What it is; its owner is as it lies on disk.
    pub(in crate::layer) status: Statx,
    /// The mapping that its owner is written with.
    mapping: Option<Arc<Mapping>>,
}

impl Pinned {
    /// What kind of thing it is.
    pub(in crate::layer) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.status.stx_mode.into())
    }

    /// True for a directory.
    pub(in crate::layer) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Its user and group, as the container sees them.
    pub(in crate::layer) fn owner(&self) -> io::Result<(u32, u32)> {
        self.owners().of(&self.status)
    }

    /// All that is set on it, as the container sees it.
    pub(in crate::layer::tree) fn attributes(&self) -> io::Result<Attributes> {
        Attributes::of(self.fd.as_fd(), self.status)?.owned(self.owners())
    }

    fn owners(&self) -> Owners<'_> {
        Owners { from: self.mapping.as_deref(), to: None }
    }

    /// Opens a regular file to be read. Anything else is refused: opening it might do or wait for something.
    pub(in crate::layer) fn open(&self) -> io::Result<OwnedFd> {
        if self.kind() != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, magic(self.fd.as_fd()), flags, Mode::empty())?;
        refuse(opened.as_fd(), METACOPY, "its data lie elsewhere (overlay's metacopy)")?;
        Ok(opened)
    }
}

impl View {
    /// The view of layers' trees, topmost first, each with its path for messages.
    pub(in crate::layer) fn open(trees: Vec<(OwnedFd, PathBuf)>) -> Result<Self> {
        let each = (OPEN / trees.len().max(1)).max(2);
        let mut layers = Vec::with_capacity(trees.len());
        let mut root = Vec::with_capacity(trees.len());
        for (layer, (tree, at)) in trees.into_iter().enumerate() {
            let opaque = notes(tree.as_fd()).map_err(|e| Error::io::<io::Error>("read", &at)(e))?;
            let trail = Trail::within(tree, each).map_err(Error::io("read", &at))?;
            layers.push(Source { at, trail, marks: opaque == Opaque::Marks, mapping: None });
            root.push(layer);
        }
        Ok(Self { layers, levels: vec![root], path: PathBuf::new() })
    }

    /// Says which mapping the owners of a layer are written with.
    pub(in crate::layer) fn written_with(&mut self, layer: usize, mapping: Mapping) {
        if let Some(source) = self.layers.get_mut(layer) {
            source.mapping = Some(Arc::new(mapping));
        }
    }

    /// Where it stands, relative to the root; empty there.
    pub(in crate::layer) fn path(&self) -> &Path {
        &self.path
    }

    /// The layers that the directory where it stands is merged of, topmost first.
    pub(in crate::layer) fn parts(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        self.levels.last().map_or(&[][..], Vec::as_slice).iter().copied()
    }

    /// True where files of a layer may be marked as whiteouts.
    pub(in crate::layer) fn marks(&self, layer: usize) -> bool {
        self.layers.get(layer).is_some_and(|layer| layer.marks)
    }

    /// What the directory where it stands is; none in a chain without layers, or where that vanished.
    pub(in crate::layer) fn here(&self) -> Result<Option<Pinned>> {
        let Some(layer) = self.parts().next() else { return Ok(None) };
        let Some(dir) = self.dir(layer) else { return Ok(None) };
        self.pinned(layer, dir, c".")
    }

    /// The names that the topmost `count` layers of the chain have where it stands, in the order of their bytes. A
    /// name with a whiteout is one of them: whether the layers below show it, [`View::find`] tells.
    pub(in crate::layer) fn list(&self, count: usize) -> Result<Vec<Entry>> {
        let mut buffer = vec![MaybeUninit::uninit(); READ];
        let mut entries = Vec::new();
        for layer in self.parts().filter(|layer| *layer < count) {
            let Some(dir) = self.dir(layer) else { continue };
            // A descriptor of its own: the position in a directory is the descriptor's.
            let dir = match directory(dir, c".") {
                Ok(dir) => dir,
                Err(e) if vanished(e) => continue,
                Err(e) => return Err(self.wrong(layer, c"")(e.into())),
            };
            let mut names = RawDir::new(&dir, &mut buffer);
            while let Some(found) = names.next() {
                let found = match found {
                    Ok(found) => found,
                    // The directory itself was removed.
                    Err(Errno::NOENT) => break,
                    Err(e) => return Err(self.wrong(layer, c"")(e.into())),
                };
                let name = found.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                match self.kind(layer, dir.as_fd(), name, found.file_type()) {
                    Ok(kind) => entries.push(Entry { name: name.to_owned(), layer, kind }),
                    Err(e) if gone(&e) => {}
                    Err(e) => return Err(self.wrong(layer, name)(e)),
                }
            }
        }
        // Stable: of one name the topmost stays the first.
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        entries.dedup_by(|below, above| below.name == above.name);
        Ok(entries)
    }

    /// What the layers from number `from` down show at a name where it stands.
    pub(in crate::layer) fn find(&self, from: usize, name: &CStr) -> Result<Option<Pinned>> {
        for layer in self.parts().filter(|layer| *layer >= from) {
            let Some(dir) = self.dir(layer) else { continue };
            let Some(found) = self.pinned(layer, dir, name)? else { continue };
            let white = self.is_whiteout(&found).map_err(|e| self.wrong(layer, name)(e))?;
            return Ok((!white).then_some(found));
        }
        Ok(None)
    }

    /// Goes down into a directory; false where the view shows none of that name.
    pub(in crate::layer) fn enter(&mut self, name: &CStr) -> Result<bool> {
        let mut parts = Vec::new();
        for layer in self.parts() {
            let Some(dir) = self.dir(layer) else { continue };
            let opened = match directory(dir, name) {
                Ok(opened) => opened,
                Err(Errno::NOENT | Errno::STALE) => continue,
                // A whiteout, or something that hides what is below.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(e) => return Err(self.wrong(layer, name)(e.into())),
            };
            let opaque = notes(opened.as_fd()).map_err(|e| self.wrong(layer, name)(e))?;
            parts.push((layer, opened));
            if opaque == Opaque::Yes {
                break;
            }
        }
        let found = !parts.is_empty();
        if found {
            let mut level = Vec::with_capacity(parts.len());
            for (layer, opened) in parts {
                let source = self.layers.get_mut(layer);
                let pushed = source.map_or(Ok(()), |source| source.trail.push(opened));
                pushed.map_err(|e| self.wrong(layer, name)(e.into()))?;
                level.push(layer);
            }
            self.levels.push(level);
            self.path.push(OsStr::from_bytes(name.to_bytes()));
        }
        Ok(found)
    }

    /// Goes up again from a directory that was entered.
    pub(in crate::layer) fn leave(&mut self) -> Result<()> {
        if self.levels.len() < 2 {
            return Ok(());
        }
        self.path.pop();
        for layer in self.levels.pop().unwrap_or_default() {
            let popped = self.layers.get_mut(layer).map_or(Ok(()), |source| source.trail.pop());
            popped.map_err(|e| self.wrong(layer, c"")(e.into()))?;
        }
        Ok(())
    }

    /// An error about a name where it stands, in one layer.
    pub(in crate::layer) fn wrong(&self, layer: usize, name: &CStr) -> impl Fn(io::Error) -> Error + use<> {
        let mut path = self.layers.get(layer).map(|source| source.at.clone()).unwrap_or_default();
        path.push(&self.path);
        if !name.is_empty() {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        move |e| Error::io::<io::Error>("read", &path)(e)
    }

    /// The directory of a layer where it stands; none where it was moved away.
    fn dir(&self, layer: usize) -> Option<BorrowedFd<'_>> {
        self.layers.get(layer).and_then(|source| source.trail.top())
    }

    fn pinned(&self, layer: usize, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<Pinned>> {
        let pinned = || {
            let fd = pin(dir, name)?;
            let status = status(fd.as_fd())?;
            Ok(self.found(layer, fd, status))
        };
        match pinned() {
            Ok(pinned) => Ok(Some(pinned)),
            Err(e) if vanished(e) => Ok(None),
            Err(e) => Err(self.wrong(layer, name)(io::Error::from(e))),
        }
    }

    fn found(&self, layer: usize, fd: OwnedFd, status: Statx) -> Pinned {
        let mapping = self.layers.get(layer).and_then(|source| source.mapping.clone());
        Pinned { layer, fd, status, mapping }
    }

    /// What a name is, none for a whiteout; `told` is what the directory says of it.
    fn kind(
        &self,
        layer: usize,
        dir: BorrowedFd<'_>,
        name: &CStr,
        told: FileType,
    ) -> io::Result<Option<FileType>> {
        match told {
            FileType::CharacterDevice | FileType::Unknown => {}
            FileType::RegularFile if self.marks(layer) => {}
            told => return Ok(Some(told)),
        }
        let fd = pin(dir, name)?;
        let status = status(fd.as_fd())?;
        let pinned = self.found(layer, fd, status);
        Ok((!self.is_whiteout(&pinned)?).then(|| pinned.kind()))
    }

    fn is_whiteout(&self, pinned: &Pinned) -> io::Result<bool> {
        let status = &pinned.status;
        match pinned.kind() {
            FileType::CharacterDevice => Ok((status.stx_rdev_major, status.stx_rdev_minor) == (0, 0)),
            FileType::RegularFile if status.stx_size == 0 && self.marks(pinned.layer) => {
                let name = OsStr::from_bytes(WHITEOUT.to_bytes());
                Ok(xattr::get_deref(magic(pinned.fd.as_fd()), name)?.is_some())
            }
            _ => Ok(false),
        }
    }
}

/// What a directory says of what is below it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opaque {
    No,
    /// Nothing of it shows.
    Yes,
    /// It shows, and what is below it may be marked as whiteouts.
    Marks,
}

/// Reads overlay's notes on an open directory.
fn notes(directory: BorrowedFd<'_>) -> io::Result<Opaque> {
    refuse(directory, REDIRECT, "it stands for a directory of another name (overlay's redirect)")?;
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(directory, OPAQUE, &mut value[..]) {
        Ok(1) if value == *b"y" => Ok(Opaque::Yes),
        Ok(1) if value == *b"x" => Ok(Opaque::Marks),
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(Opaque::No),
        Err(e) => Err(e.into()),
    }
}

/// Refuses what is open where overlay left a note on it that we do not follow.
fn refuse(opened: BorrowedFd<'_>, note: &CStr, why: &str) -> io::Result<()> {
    match rustix::fs::fgetxattr(opened, note, &mut [0_u8; 0][..]) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(e) if e != Errno::RANGE => Err(e.into()),
        Ok(_) | Err(_) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("{why}, which loom does not read")))
        }
    }
}

/// True where a name is no longer what it was when it was read.
fn gone(e: &io::Error) -> bool {
    e.raw_os_error().map(Errno::from_raw_os_error).is_some_and(vanished)
}
