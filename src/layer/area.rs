//! One home of layers: its `layers/` and `trash/`, and how a layer comes and goes there.
//!
//! A layer's directory is an ordinary one in the plain home and a subvolume in the pool. What fails
//! half-way while it is made is removed again; what cannot be removed has no `layer.json`, and the
//! next start throws it away.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::quota::{self, Quotas};
use super::sync::Syncs;
use super::{Found, Measured, Method, Seal, ioctl, manifest, tree};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::{Home, LayerId, Time, Usage};

/// The tree of a layer.
pub(super) const FS: &CStr = c"fs";
/// What overlay needs beside an upper directory.
pub(super) const WORK: &CStr = c"work";

/// One home of layers.
#[derive(Debug)]
pub(super) struct Area {
    home: Home,
    path: PathBuf,
    layers: OwnedFd,
    trash: OwnedFd,
    /// In the pool: what is being removed. While a subvolume goes nobody else can change the directory it is in.
    reclaim: Option<OwnedFd>,
    syncs: Syncs,
    quotas: Quotas,
    /// One at a time makes a layer writable again, or rewrites its manifest.
    unsealing: Mutex<()>,
}

impl Area {
    /// Opens or makes `layers/` and `trash/` in an existing directory.
    pub(super) fn open(home: Home, path: &Path) -> Result<Self> {
        let sub = |name: &str| {
            let sub = path.join(name);
            match rustix::fs::mkdirat(CWD, &sub, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(Error::io("create", &sub)(e)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, &sub, flags, Mode::empty()).map_err(Error::io("open", &sub))
        };
        let layers = sub("layers")?;
        let syncs = Syncs::new(sub("layers")?);
        let reclaim = (home == Home::Pool).then(|| sub("reclaim")).transpose()?;
        let quotas = Quotas::of(home, &layers);
        let (path, trash) = (path.to_path_buf(), sub("trash")?);
        Ok(Self { home, path, layers, trash, reclaim, syncs, quotas, unsealing: Mutex::default() })
    }

    /// What keeps its limits.
    pub(super) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn home(&self) -> Home {
        self.home
    }

    /// The directories that have layers in them, with their names.
    pub(super) fn directories(&self) -> impl Iterator<Item = (&OwnedFd, &'static str)> {
        std::iter::once((&self.layers, "layers")).chain(self.trashes())
    }

    /// The directories that removed layers are in, with their names.
    pub(super) fn trashes(&self) -> impl Iterator<Item = (&OwnedFd, &'static str)> {
        std::iter::once((&self.trash, "trash")).chain(self.reclaim.as_ref().map(|fd| (fd, "reclaim")))
    }

    /// Where a layer is removed: moved there, in the pool, from the trash, into which others are moved meanwhile.
    pub(super) fn to_reclaim(&self, id: LayerId) -> rustix::io::Result<(&OwnedFd, PathBuf)> {
        let Some(reclaim) = &self.reclaim else { return Ok((&self.trash, self.trashed(id))) };
        match rustix::fs::renameat(&self.trash, name(id), reclaim, name(id)) {
            // It is there since an earlier pass.
            Ok(()) | Err(Errno::NOENT) => Ok((reclaim, self.path.join("reclaim").join(id.to_string()))),
            Err(e) => Err(e),
        }
    }

    pub(super) fn layers(&self) -> &OwnedFd {
        &self.layers
    }

    pub(super) fn trash(&self) -> &OwnedFd {
        &self.trash
    }

    /// The directory of a layer.
    pub(super) fn directory(&self, id: LayerId) -> PathBuf {
        self.path.join("layers").join(id.to_string())
    }

    /// The place of a layer in the trash.
    pub(super) fn trashed(&self, id: LayerId) -> PathBuf {
        self.path.join("trash").join(id.to_string())
    }

    pub(super) fn open_layer(&self, id: LayerId) -> Result<OwnedFd> {
        tree::directory(self.layers.as_fd(), &name(id)).map_err(Error::io("open layer", self.directory(id)))
    }

    pub(super) fn open_tree(&self, id: LayerId) -> Result<OwnedFd> {
        let layer = self.open_layer(id)?;
        tree::directory(layer.as_fd(), FS).map_err(Error::io("open layer", self.directory(id).join("fs")))
    }

    /// Makes an empty layer; the root of its tree is like that of another, which a mount would hide.
    pub(super) fn create(&self, id: LayerId, like: Option<(&Self, LayerId)>) -> Result<()> {
        let like = like.map(|(area, like)| area.open_tree(like)).transpose()?;
        fault::point("layer.create.begin")?;
        self.make(id)?;
        self.or_undo(id, || {
            fault::point("layer.create.fs")?;
            let layer = self.open_layer(id)?;
            let wrong = || Error::io("create", self.directory(id).join("fs"));
            rustix::fs::mkdirat(&layer, FS, Mode::RWXU).map_err(wrong())?;
            if let Some(like) = &like {
                let made = tree::directory(layer.as_fd(), FS).map_err(wrong())?;
                tree::resemble(like.as_fd(), made.as_fd())
                    .map_err(Error::io("create", self.directory(id).join("fs")))?;
            } else {
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::chmodat(&layer, FS, mode, AtFlags::empty()).map_err(wrong())?;
            }
            self.make_work(id, &layer)?;
            fault::point("layer.create.end")
        })
    }

    /// Makes the directory or subvolume of a layer.
    pub(super) fn make(&self, id: LayerId) -> Result<()> {
        let made = match self.home {
            Home::Plain => rustix::fs::mkdirat(&self.layers, name(id), Mode::RWXU),
            Home::Pool => ioctl::subvolume_create(self.layers.as_fd(), &name(id)),
        };
        made.map_err(Error::io("create", self.directory(id)))?;
        if self.home == Home::Plain { self.or_undo(id, || quota::adopt(self, id)) } else { Ok(()) }
    }

    fn make_work(&self, id: LayerId, layer: &OwnedFd) -> Result<()> {
        fault::point("layer.create.work")?;
        let mode = Mode::from_raw_mode(0o711);
        rustix::fs::mkdirat(layer, WORK, mode)
            .and_then(|()| rustix::fs::chmodat(layer, WORK, mode, AtFlags::empty()))
            .map_err(Error::io("create", self.directory(id).join("work")))
    }

    /// Removes a layer that this call made where the rest of its making fails.
    pub(super) fn or_undo<T>(&self, id: LayerId, make: impl FnOnce() -> Result<T>) -> Result<T> {
        make().inspect_err(|_| self.undo(id))
    }

    /// Removes a layer that was not finished, as far as that can be done.
    pub(super) fn undo(&self, id: LayerId) {
        let path = self.directory(id);
        if let Err(e) = tree::remove(self.layers.as_fd(), &name(id), &path) {
            tracing::warn!(layer = %id, error = %e, "cannot remove a layer that was not finished");
        }
    }

    /// Puts the tree of another home's layer in a place here.
    pub(super) fn receive(&self, home: &Self, source: LayerId, target: LayerId) -> Result<()> {
        fault::point("layer.transfer.begin")?;
        self.make(target)?;
        self.or_undo(target, || {
            let layer = self.open_layer(target)?;
            let wrong = || Error::io("create", self.directory(target));
            for name in [FS, WORK] {
                rustix::fs::mkdirat(&layer, name, Mode::RWXU).map_err(wrong())?;
            }
            let copy = tree::directory(layer.as_fd(), FS).map_err(wrong())?;
            let stage = tree::directory(layer.as_fd(), WORK).map_err(wrong())?;
            fault::point("layer.transfer.copy")?;
            let at = home.directory(source).join("fs");
            tree::Copy::new(home.open_tree(source)?, copy, stage, &at, false).finish()?;
            self.remake_work(target, &layer)?;
            fault::point("layer.transfer.end")
        })
    }

    /// Makes of the topmost `count` layers of a view one layer, as `tree::flatten` does. It is still to be sealed.
    pub(super) fn flatten(
        &self,
        view: tree::View,
        count: usize,
        target: LayerId,
        method: Method,
        tell: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Method> {
        fault::point("layer.flatten.begin")?;
        self.make(target)?;
        self.or_undo(target, || {
            let layer = self.open_layer(target)?;
            let at = self.directory(target).join("fs");
            let wrong = || Error::io("create", &at);
            // What is left in `work` goes when the layer is sealed.
            for name in [FS, WORK] {
                rustix::fs::mkdirat(&layer, name, Mode::RWXU).map_err(wrong())?;
            }
            let made = tree::directory(layer.as_fd(), FS).map_err(wrong())?;
            let stage = tree::directory(layer.as_fd(), WORK).map_err(wrong())?;
            let reflink = method == Method::Reflink;
            let to = tree::Target { tree: made, stage: stage.as_fd(), at: &at, reflink };
            let shared = tree::flatten(view, count, to, tell)?;
            fault::point("layer.flatten.end")?;
            Ok(if shared { Method::Reflink } else { Method::Copy })
        })
    }

    /// Makes a read-only snapshot of a pool layer, as it lies; nothing else may know it.
    pub(super) fn hold(&self, source: LayerId, target: LayerId) -> Result<()> {
        let from = self.open_layer(source)?;
        ioctl::subvolume_snapshot(self.layers.as_fd(), &name(target), &from, true)
            .map_err(Error::io("snapshot layer", self.directory(source)))
    }

    /// Removes what [`Area::hold`] made. What cannot be removed is no layer, and start discards it.
    pub(super) fn let_go(&self, id: LayerId) {
        if let Err(e) = tree::remove(self.layers.as_fd(), &name(id), &self.directory(id)) {
            tracing::warn!(layer = %id, error = %e, "cannot remove a snapshot that was made to compare with");
        }
    }

    /// Makes an empty work directory, whatever is in the one that there is.
    pub(super) fn remake_work(&self, id: LayerId, layer: &OwnedFd) -> Result<()> {
        self.remove_work(id, layer)?;
        self.make_work(id, layer)
    }

    fn remove_work(&self, id: LayerId, layer: &OwnedFd) -> Result<()> {
        fault::point("layer.work.remove")?;
        tree::remove(layer.as_fd(), WORK, &self.directory(id).join("work"))
    }

    /// Writes out everything that is dirty on this filesystem.
    pub(super) fn flush(&self) -> Result<()> {
        fault::point("layer.flush.sync")?;
        rustix::fs::syncfs(&self.layers).map_err(Error::io("sync", &self.path))
    }

    /// True where there is nothing in a layer.
    pub(super) fn is_empty(&self, id: LayerId) -> Result<bool> {
        let tree = self.open_tree(id)?;
        let mut buffer = vec![MaybeUninit::uninit(); 4 * 1024];
        let mut entries = RawDir::new(&tree, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(Error::io("list", self.directory(id).join("fs")))?;
            if ![c".", c".."].contains(&entry.file_name()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives a layer's directory the name of another id.
    pub(super) fn rename(&self, id: LayerId, to: LayerId) -> Result<()> {
        fault::point("layer.rename.begin")?;
        rustix::fs::renameat(&self.layers, name(id), &self.layers, name(to))
            .map_err(Error::io("rename layer", self.directory(id)))?;
        fault::point("layer.rename.end")
    }

    /// Makes a layer immutable and durable.
    pub(super) fn seal(&self, id: LayerId, manifest: &super::Manifest) -> Result<()> {
        self.write_seal(id, manifest)?;
        self.close(id)
    }

    /// The part of a seal that touches nothing that a mount of the layer needs.
    pub(super) fn write_seal(&self, id: LayerId, manifest: &super::Manifest) -> Result<()> {
        let at = self.directory(id);
        let layer = self.open_layer(id)?;
        if self.home == Home::Pool && ioctl::subvolume_is_read_only(&layer).map_err(Error::io("seal", &at))? {
            // Sealed before; its manifest may be another now.
            ioctl::subvolume_set_read_only(&layer, false).map_err(Error::io("seal", &at))?;
        }
        fault::point("layer.seal.files")?;
        self.syncs.sync().map_err(Error::io("sync", &self.path))?;
        manifest::write(layer.as_fd(), &at, manifest)?;
        fault::point("layer.seal.name")?;
        // The name of the layer's own directory.
        rustix::fs::fsync(&self.layers).map_err(Error::io("sync", self.path.join("layers")))
    }

    /// The rest of a seal.
    pub(super) fn close(&self, id: LayerId) -> Result<()> {
        let at = self.directory(id);
        let layer = self.open_layer(id)?;
        match self.home {
            Home::Plain => self.remove_work(id, &layer)?,
            Home::Pool => {
                fault::point("layer.seal.read_only")?;
                ioctl::subvolume_set_read_only(&layer, true).map_err(Error::io("seal", &at))?;
            }
        }
        fault::point("layer.seal.end")
    }

    /// Rewrites the manifest of a layer that is sealed `still`.
    pub(super) fn retell(
        &self,
        id: LayerId,
        manifest: &super::Manifest,
        still: &dyn Fn() -> Result<bool>,
    ) -> Result<()> {
        let at = self.directory(id);
        let _alone = self.unsealing.lock().unwrap_or_else(PoisonError::into_inner);
        if !still()? {
            return Ok(());
        }
        let layer = self.open_layer(id)?;
        let read_only = self.home == Home::Pool
            && ioctl::subvolume_is_read_only(&layer).map_err(Error::io("rewrite", &at))?;
        if read_only {
            ioctl::subvolume_set_read_only(&layer, false).map_err(Error::io("rewrite", &at))?;
        }
        let written = manifest::write(layer.as_fd(), &at, manifest);
        if read_only {
            ioctl::subvolume_set_read_only(&layer, true).map_err(Error::io("rewrite", &at))?;
        }
        written
    }

    /// Undoes a seal.
    pub(super) fn unseal(&self, id: LayerId) -> Result<()> {
        let at = self.directory(id);
        let _alone = self.unsealing.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = self.open_layer(id)?;
        fault::point("layer.unseal.begin")?;
        if self.home == Home::Pool
            && ioctl::subvolume_is_read_only(&layer).map_err(Error::io("unseal", &at))?
        {
            ioctl::subvolume_set_read_only(&layer, false).map_err(Error::io("unseal", &at))?;
        }
        manifest::forget(layer.as_fd(), &at)?;
        // If its name came back behind a removal of the layer, that would look like a lost one.
        rustix::fs::fsync(&layer).map_err(Error::io("unseal", &at))?;
        self.remake_work(id, &layer)
    }

    /// Writes down whose a layer is that is written to. It is for a lost database only: nothing waits until it is
    /// on disk.
    pub(super) fn note(&self, id: LayerId, manifest: &super::Manifest) -> Result<()> {
        fault::point("layer.note.write")?;
        manifest::note(self.open_layer(id)?.as_fd(), &self.directory(id), manifest)
    }

    /// Whose a layer is, where that was written down.
    pub(super) fn noted(&self, id: LayerId) -> Result<Option<super::Manifest>> {
        manifest::noted(self.open_layer(id)?.as_fd(), &self.directory(id), id)
    }

    /// Undoes a seal of a plain layer that may be mounted: what a mount needs stays as it is.
    pub(super) fn reopen(&self, id: LayerId) -> Result<()> {
        let at = self.directory(id);
        let layer = self.open_layer(id)?;
        fault::point("layer.reopen.begin")?;
        manifest::forget(layer.as_fd(), &at)?;
        rustix::fs::fsync(&layer).map_err(Error::io("unseal", &at))?;
        match rustix::fs::accessat(&layer, WORK, Access::EXISTS, AtFlags::empty()) {
            Err(Errno::NOENT) => self.make_work(id, &layer),
            looked => looked.map_err(Error::io("inspect", at.join("work"))),
        }
    }

    /// Directories of a layer that only one overlay can write to.
    pub(super) fn written(&self, id: LayerId) -> Result<Vec<OwnedFd>> {
        let layer = self.open_layer(id)?;
        let mut written = vec![self.open_tree(id)?];
        match tree::directory(layer.as_fd(), WORK) {
            Ok(work) => written.push(work),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::io("open layer", self.directory(id).join("work"))(e)),
        }
        Ok(written)
    }

    /// What a sealed layer says of itself.
    pub(super) fn manifest(&self, id: LayerId) -> Result<super::Manifest> {
        manifest::read(self.open_layer(id)?.as_fd(), &self.directory(id))
    }

    /// The bytes and inodes of a layer's tree.
    pub(super) fn measure(&self, id: LayerId) -> Result<Usage> {
        tree::measure(self.open_tree(id)?, &self.directory(id).join("fs"))
    }

    /// The same with what of it is shared, which is nothing unless this home `shares`; None where `until` comes
    /// first.
    pub(super) fn measure_shared(
        &self,
        id: LayerId,
        shares: bool,
        until: Instant,
    ) -> Result<Option<Measured>> {
        tree::measure_shared(self.open_tree(id)?, &self.directory(id).join("fs"), shares, until)
    }

    /// The paths in a layer's tree that changed behind a moment.
    pub(super) fn changed_since(&self, id: LayerId, since: Time, limit: usize) -> Result<Vec<String>> {
        tree::changed(self.open_tree(id)?, &self.directory(id).join("fs"), since, limit)
    }

    /// Moves a layer to the trash. One that is not there is already gone.
    pub(super) fn discard(&self, id: LayerId) -> Result<()> {
        fault::point("layer.discard.rename")?;
        let name = name(id);
        let rename = || rustix::fs::renameat(&self.layers, &name, &self.trash, &name);
        let mut renamed = rename();
        if self.home == Home::Pool && matches!(renamed, Err(Errno::ROFS | Errno::PERM | Errno::ACCESS)) {
            // A directory that moves gets a new `..`, which a read-only one does not take.
            ioctl::subvolume_set_read_only(self.open_layer(id)?, false)
                .map_err(Error::io("discard layer", self.directory(id)))?;
            renamed = rename();
        }
        match renamed {
            Ok(()) | Err(Errno::NOENT) => fault::point("layer.discard.end"),
            Err(e) => Err(Error::io("discard layer", self.directory(id))(e)),
        }
    }

    /// Makes the renames into the trash durable.
    pub(super) fn settle(&self) -> Result<()> {
        fault::point("layer.settle.sync")?;
        rustix::fs::fsync(&self.layers).map_err(Error::io("sync", self.path.join("layers")))
    }

    /// The layers of this home.
    pub(super) fn found(&self) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        for id in numbers(&self.layers).map_err(Error::io("list", self.path.join("layers")))? {
            let seal = match self.open_layer(id) {
                Ok(layer) => manifest::seal(layer.as_fd(), &self.directory(id), id),
                // Not a directory: nobody sealed it.
                Err(Error::Io { source, .. })
                    if matches!(source.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) =>
                {
                    Seal::Absent
                }
                Err(e) => return Err(e),
            };
            all.push(Found { id, home: self.home, seal });
        }
        Ok(all)
    }

    /// The highest id that a directory of this home has or had lately.
    pub(super) fn highest(&self) -> Result<i64> {
        let mut highest = 0;
        for (fd, sub) in self.directories() {
            let ids = numbers(fd).map_err(Error::io("list", self.path.join(sub)))?;
            highest = ids.into_iter().map(|id| id.0).fold(highest, i64::max);
        }
        Ok(highest)
    }
}

/// The name of a layer's directory.
pub(super) fn name(id: LayerId) -> CString {
    // Digits have no zero byte.
    CString::new(id.to_string()).unwrap_or_default()
}

/// The entries of a directory that are ids.
pub(super) fn numbers(directory: &OwnedFd) -> rustix::io::Result<Vec<LayerId>> {
    // A descriptor of its own: the position in a directory is the descriptor's.
    let directory = tree::directory(directory.as_fd(), c".")?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(&directory, &mut buffer);
    let mut ids = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let id = entry.file_name().to_str().ok().and_then(parse);
        ids.extend(id.filter(|_| entry.file_type() != FileType::Symlink));
    }
    Ok(ids)
}

/// The id that a directory's name is, written as we write it.
pub(super) fn parse(name: &str) -> Option<LayerId> {
    let id = name.parse().ok().filter(|id| *id >= 0)?;
    (i64::to_string(&id) == name).then_some(LayerId(id))
}

/// True where a descriptor lies on a btrfs.
pub(super) fn is_btrfs(on: impl AsFd) -> rustix::io::Result<bool> {
    Ok(magic_number(on)? == ioctl::BTRFS_SUPER_MAGIC)
}

/// The number by which statfs tells one filesystem type from another.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The number has 32 bits in a long.
pub(super) fn magic_number(on: impl AsFd) -> rustix::io::Result<u32> {
    Ok(rustix::fs::fstatfs(on)?.f_type as u32)
}
