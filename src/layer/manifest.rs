//! `layer.json`: what a sealed layer says of itself, so that a lost database can be made anew.
//!
//! It is there whole or not at all: written under another name, synced, renamed, and the directory
//! synced. One that names the layer it lies in is what says
//! that this layer is sealed.
//!
//! A layer that is written to has the same as an extended attribute of its directory: whose it is. A sealed one keeps
//! that, and `layer.json` counts.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::fault;
use crate::mapping::Mapping;
use crate::store::LayerId;

const NAME: &CStr = c"layer.json";
const UNFINISHED: &CStr = c"layer.json.tmp";
const NOTE: &CStr = c"trusted.loom.layer";
/// The largest note: what an extended attribute has room for on ext4.
const NOTE_BYTES: usize = 3 << 10;

/// What `layer.json` says of a sealed layer, and the note of one that is written to: enough to make its rows anew.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    /// The layer's id.
    pub layer: i64,
    /// The layer that it is stacked on.
    pub base: Option<i64>,
    /// The snapshot that it was sealed for, or that writes to it.
    #[serde(flatten)]
    pub snapshot: Told,
    /// The other snapshots that stand on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Told>,
    /// The way of its lineage, nearest first, as far as no sealed layer tells of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Told>,
    /// The layers that it has the place of: what says that it is stacked on one of these is stacked on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<LayerId>,
    /// The most bytes that may be written to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<i64>,
    /// The user and group mapping that the owners in it are written with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
}

/// What a manifest says of a snapshot. Times are RFC 3339 UTC.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Told {
    /// Its id.
    #[serde(rename = "snapshot")]
    pub id: String,
    /// `active`, `view` or `committed`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its parent's id.
    pub parent: Option<String>,
    /// Its source's id.
    pub source: Option<String>,
    /// containerd's key for it.
    pub key: Option<String>,
    /// loom's name for it.
    pub name: Option<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created: String,
    /// When it goes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The moment that its source stood still for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// A hold that no removal overrides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// A request keeps it, and nobody else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transient: bool,
    /// The container that it is a state of (`Snapshot::captured`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<String>,
    /// The operation that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// What the `layer.json` in a layer's directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// There is none: the layer was not sealed.
    Absent,
    /// It is another layer's, of which this one is a copy that was cut off: this one was not sealed.
    Copied,
    /// It is its own, or cannot be read: the layer was sealed.
    Own,
}

/// Writes the manifest of the layer whose directory is `layer`; durable when it returns.
pub(super) fn write(layer: BorrowedFd<'_>, at: &Path, manifest: &Manifest) -> Result<()> {
    let path = at.join("layer.json");
    let wrong = || Error::io("write", &path);
    let text = serde_json::to_vec_pretty(manifest)
        .map_err(|e| Error::Internal(format!("the manifest of {} cannot be written: {e}", at.display())))?;
    fault::point("layer.seal.manifest")?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(layer, UNFINISHED, flags, Mode::RUSR | Mode::WUSR).map_err(wrong())?;
    let mut file = File::from(file);
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))?;
    fault::point("layer.seal.rename")?;
    rustix::fs::renameat(layer, UNFINISHED, layer, NAME).map_err(wrong())?;
    fault::point("layer.seal.directory")?;
    rustix::fs::fsync(layer).map_err(wrong())
}

/// Reads the manifest of the layer whose directory is `layer`.
pub(super) fn read(layer: BorrowedFd<'_>, at: &Path) -> Result<Manifest> {
    let path = at.join("layer.json");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(layer, NAME, flags, Mode::empty()).map_err(Error::io("read", &path))?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).map_err(Error::io("read", &path))?;
    serde_json::from_str(&text).map_err(|e| Error::io("read", &path)(std::io::Error::from(e)))
}

/// Whose manifest is in the directory of the layer `id`. A snapshot of a sealed subvolume has that one's
/// until it is forgotten.
pub(super) fn seal(layer: BorrowedFd<'_>, at: &Path, id: LayerId) -> Seal {
    match read(layer, at) {
        Ok(manifest) if manifest.layer != id.0 => Seal::Copied,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Seal::Absent,
        // What cannot be read is taken for its own: nothing is thrown away on a guess.
        Ok(_) | Err(_) => Seal::Own,
    }
}

/// Removes the manifest from a layer that is a copy of a sealed one.
pub(super) fn forget(layer: BorrowedFd<'_>, at: &Path) -> Result<()> {
    for name in [NAME, UNFINISHED] {
        match rustix::fs::unlinkat(layer, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::io("remove", at.join("layer.json"))(e)),
        }
    }
    Ok(())
}

/// True where there is a manifest, whatever it says.
pub(super) fn is_there(layer: BorrowedFd<'_>) -> bool {
    rustix::fs::statat(layer, NAME, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Writes down whose a layer is that is written to. What is too long for an attribute is left out.
pub(super) fn note(layer: BorrowedFd<'_>, at: &Path, manifest: &Manifest) -> Result<()> {
    let mut manifest = manifest.clone();
    // What is needed least goes first: the far end of the way that it came.
    for round in 0..5 {
        match round {
            1 => manifest.path.truncate(8),
            2 => manifest.path.clear(),
            3 => manifest.snapshot.labels.clear(),
            4 => manifest.snapshot.captured = None,
            _ => {}
        }
        let text = serde_json::to_vec(&manifest)
            .map_err(|e| Error::Internal(format!("the note of {} cannot be written: {e}", at.display())))?;
        if text.len() <= NOTE_BYTES {
            return rustix::fs::fsetxattr(layer, NOTE, &text, XattrFlags::empty())
                .map_err(Error::io("note whose is", at));
        }
    }
    Ok(())
}

/// Whose the layer `id` is. A snapshot of a subvolume has that one's note until it gets its own.
pub(super) fn noted(layer: BorrowedFd<'_>, at: &Path, id: LayerId) -> Result<Option<Manifest>> {
    let mut text = vec![0; NOTE_BYTES];
    match rustix::fs::fgetxattr(layer, NOTE, &mut text) {
        Ok(length) => text.truncate(length),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(e) => return Err(Error::io("read whose is", at)(e)),
    }
    let manifest: Option<Manifest> = serde_json::from_slice(&text).ok();
    Ok(manifest.filter(|manifest| manifest.layer == id.0))
}
