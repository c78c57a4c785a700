//! What lies in a home and is no layer: names that are no ids, and subvolumes within layers.
//!
//! loom makes neither. A subvolume within a layer's tree is no part of the layer: in a clone of it there is an empty
//! directory in its place.

use std::ffi::{CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RawDir};

use super::area::{self, Area};
use super::{Layers, ioctl, manifest, tree};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::{Home, LayerId};

/// Something that is no layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where it lies: relative to its home.
    pub path: PathBuf,
    /// Its home.
    pub home: Home,
    /// The layer in whose directory it is, where it is in one.
    pub within: Option<LayerId>,
    /// True where it may be committed bytes (it has a `layer.json`), or a part of a layer's tree.
    pub kept: bool,
}

impl Layers {
    /// What lies in the homes and is no layer.
    pub fn strays(&self) -> Result<Vec<Stray>> {
        let mut strays = Vec::new();
        for area in self.areas() {
            strays.extend(area.strays()?);
        }
        Ok(strays)
    }

    /// Moves a stray to the trash.
    pub fn throw_away(&self, stray: &Stray) -> Result<()> {
        self.area(stray.home)?.throw_away(stray, self.next_id())
    }

    /// Where a stray lies.
    pub fn place_of(&self, stray: &Stray) -> Result<PathBuf> {
        Ok(self.area(stray.home)?.path().join(&stray.path))
    }

    /// The layers in the trash.
    pub fn trashed(&self) -> Result<Vec<(PathBuf, LayerId)>> {
        let mut all = Vec::new();
        for area in self.areas() {
            for (directory, sub) in area.trashes() {
                let path = area.path().join(sub);
                let ids = area::numbers(directory).map_err(Error::io("list", &path))?;
                all.extend(ids.into_iter().map(|id| (path.join(id.to_string()), id)));
            }
        }
        Ok(all)
    }

    /// The bytes of everything below a path, which nobody but root can change.
    pub fn weigh(&self, path: &Path) -> Result<u64> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(root) => Ok(u64::try_from(tree::measure(root, path)?.size).unwrap_or_default()),
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP | rustix::io::Errno::NOENT) => Ok(0),
            Err(e) => Err(Error::io("measure", path)(e)),
        }
    }
}

impl Area {
    /// What lies in this home and is no layer, in the order of paths.
    pub(super) fn strays(&self) -> Result<Vec<Stray>> {
        let mut strays = Vec::new();
        for (directory, sub) in self.directories() {
            let path = Path::new(sub);
            for name in names(directory).map_err(Error::io("list", self.path().join(sub)))? {
                if OsStr::from_bytes(name.to_bytes()).to_str().and_then(area::parse).is_some() {
                    continue;
                }
                // A manifest that cannot be read is one too.
                let kept = tree::directory(directory.as_fd(), &name)
                    .is_ok_and(|entry| manifest::is_there(entry.as_fd()));
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                strays.push(Stray { path, home: self.home(), within: None, kept });
            }
        }
        if self.home() == Home::Pool {
            for id in area::numbers(self.layers()).map_err(Error::io("list", self.path().join("layers")))? {
                // It went meanwhile, or is no directory.
                let Ok(layer) = self.open_layer(id) else { continue };
                strays.extend(self.nested(id, layer.as_fd())?);
            }
        }
        strays.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(strays)
    }

    fn nested(&self, id: LayerId, layer: BorrowedFd<'_>) -> Result<Vec<Stray>> {
        if !tree::is_subvolume(layer).map_err(Error::io("inspect", self.directory(id)))? {
            return Ok(Vec::new());
        }
        let nested = ioctl::nested_subvolumes(layer)
            .map_err(Error::io("list the subvolumes within", self.directory(id)))?;
        let stray = |within: std::ffi::OsString| {
            let kept = Path::new(&within).starts_with("fs");
            let path = Path::new("layers").join(id.to_string()).join(within);
            Stray { path, home: self.home(), within: Some(id), kept }
        };
        Ok(nested.into_iter().map(std::ffi::OsString::from_vec).map(stray).collect())
    }

    /// Moves a stray to the trash, under an id of its own.
    pub(super) fn throw_away(&self, stray: &Stray, id: LayerId) -> Result<()> {
        fault::point("layer.stray.rename")?;
        let at = self.path().join(&stray.path);
        let wrong = || Error::io("move to the trash", &at);
        let (parent, name) = self.open_parent(&stray.path).map_err(wrong())?;
        // Behind the look that found it: something else may have the name by now.
        if tree::directory(parent.as_fd(), &name).is_ok_and(|entry| manifest::is_there(entry.as_fd())) {
            return Err(Error::precondition(at.display().to_string(), "it has a layer.json by now"));
        }
        let rename = || rustix::fs::renameat(&parent, &name, self.trash(), area::name(id));
        match rename() {
            // As a layer that was sealed.
            Err(rustix::io::Errno::ROFS) if self.home() == Home::Pool => {
                let entry = tree::directory(parent.as_fd(), &name).map_err(wrong())?;
                ioctl::subvolume_set_read_only(entry, false).map_err(wrong())?;
                rename().map_err(wrong())
            }
            renamed => renamed.map_err(wrong()),
        }
    }

    /// The directory of a path in this home, opened step by step so that no link is followed, and its last name.
    fn open_parent(&self, path: &Path) -> rustix::io::Result<(OwnedFd, CString)> {
        let mut names: Vec<CString> = Vec::new();
        for part in path.components() {
            let Component::Normal(part) = part else { return Err(rustix::io::Errno::INVAL) };
            names.push(CString::new(part.as_bytes()).map_err(|_| rustix::io::Errno::INVAL)?);
        }
        let name = names.pop().ok_or(rustix::io::Errno::INVAL)?;
        let open = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let mut parent = rustix::fs::openat(rustix::fs::CWD, self.path(), open, rustix::fs::Mode::empty())?;
        for name in names {
            parent = tree::directory(parent.as_fd(), &name)?;
        }
        Ok((parent, name))
    }
}

/// The names in a directory.
fn names(directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    // A descriptor of its own: the position in a directory is the descriptor's.
    let directory = tree::directory(directory.as_fd(), c".")?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(&directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
