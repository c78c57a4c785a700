//! Bytes on disk: the only place with ioctls.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::store::{Home, Layer, LayerId, Usage};

/// How a tree was put in a second place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A snapshot of a btrfs subvolume.
    Subvolume,
    /// Files share their extents, one FICLONE each.
    Reflink,
    /// Every byte was copied.
    Copy,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subvolume => "subvolume",
            Self::Reflink => "reflink",
            Self::Copy => "copy",
        })
    }
}

/// A mount as containerd takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `overlay` or `bind`.
    pub kind: &'static str,
    /// `overlay`, or the directory to bind.
    pub source: String,
    /// Options, one a string.
    pub options: Vec<String>,
}

/// What a mount is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The topmost layer is written to.
    Write,
    /// Nothing is written.
    Read,
}

/// What `layer.json` says of a sealed layer: enough to make its row anew.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    /// The layer's id.
    pub layer: i64,
    /// The layer that it is stacked on.
    pub base: Option<i64>,
    /// The id of the snapshot it was sealed for.
    pub snapshot: String,
    /// That snapshot's parent's id.
    pub parent: Option<String>,
    /// That snapshot's source's id.
    pub source: Option<String>,
    /// containerd's key for it.
    pub key: Option<String>,
    /// loom's name for it.
    pub name: Option<String>,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// When it was made, RFC 3339 UTC.
    pub created: String,
}

/// A layer's directory, found on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: LayerId,
    /// Where it lies.
    pub home: Home,
    /// True where it has a `layer.json`.
    pub sealed: bool,
}

/// The directories.
#[derive(Debug)]
pub struct Layers {}

impl Layers {
    /// Opens or makes `layers/` and `trash/` under the root and, where one is given, in the pool. A
    /// pool must be an existing directory on a btrfs that is not the root's filesystem.
    pub fn open(root: &Path, pool: Option<&Path>) -> Result<Self> {
        todo!()
    }
    /// The root's directory.
    pub fn root(&self) -> &Path {
        todo!()
    }
    /// The pool's directory, where there is one.
    pub fn pool(&self) -> Option<&Path> {
        todo!()
    }
    /// The name of the root's filesystem, such as `ext4`.
    pub fn root_filesystem(&self) -> String {
        todo!()
    }
    /// How a writable layer of this home is materialized here (for plain ones probed once, at open).
    pub fn method(&self, home: Home) -> Method {
        todo!()
    }
    /// A new id, higher than any before.
    pub fn next_id(&self) -> LayerId {
        todo!()
    }
    /// Ids start above this one too (open already looked at every directory in `layers/` and `trash/`).
    pub fn start_above(&self, highest: LayerId) {
        todo!()
    }
    /// The directory `<home>/layers/<id>/fs`.
    pub fn fs(&self, home: Home, id: LayerId) -> PathBuf {
        todo!()
    }
    /// Makes an empty writable layer; the root of its tree takes owner and mode of `like`'s (0755 root else).
    pub fn create(&self, home: Home, id: LayerId, like: Option<&Layer>) -> Result<()> {
        todo!()
    }
    /// Writes out what is dirty of a layer's files, so that a pause after it is short.
    pub fn flush(&self, layer: &Layer) -> Result<()> {
        todo!()
    }
    /// Puts a layer's tree in a second place, `<same home>/layers/<target>`, with an empty work
    /// directory. On failure nothing stays at the target.
    pub fn materialize(&self, source: &Layer, target: LayerId) -> Result<Method> {
        todo!()
    }
    /// Makes a layer immutable and durable: files, then `layer.json`, both synced; then, in the pool, the
    /// subvolume is set read-only. A plain layer's work directory goes.
    pub fn seal(&self, layer: &Layer, manifest: &Manifest) -> Result<()> {
        todo!()
    }
    /// Undoes a seal that did not become a commit: writable, without `layer.json`, with an empty work
    /// directory.
    pub fn unseal(&self, layer: &Layer) -> Result<()> {
        todo!()
    }
    /// The bytes and inodes of a layer itself; for a pool layer less what it shares with others where the
    /// filesystem can tell cheaply, else all. Safe against a live tree.
    pub fn measure(&self, layer: &Layer) -> Result<Usage> {
        todo!()
    }
    /// Moves a layer to the trash. One that is not there is already gone.
    pub fn discard(&self, home: Home, id: LayerId) -> Result<()> {
        todo!()
    }
    /// Reclaims what was in the trash at the call, but for layers that are mounted somewhere; answers how many are left.
    pub fn reclaim(&self) -> Result<usize> {
        todo!()
    }
    /// True where a mount table of any process names the layer.
    pub fn mounted(&self, home: Home, id: LayerId) -> Result<bool> {
        todo!()
    }
    /// Every directory of a layer.
    pub fn found(&self) -> Result<Vec<Found>> {
        todo!()
    }
    /// The mount of a chain of layers, topmost first; None where it is deeper than a mount can name.
    pub fn mounts(&self, chain: &[Layer], access: Access) -> Option<Vec<Mount>> {
        todo!()
    }
}
