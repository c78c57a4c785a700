//! Bytes on disk: the only place with ioctls.
//!
//! ```text
//! <root>/layers/<id>/fs/          the layer's tree
//!                    work/        overlay's, while the layer is writable
//!                    layer.json   what it is, once it is sealed
//! <root>/trash/<id>/              discarded; reclaimed when no mount names it
//! <pool>/layers/<id>/             the same, a btrfs subvolume
//! <pool>/trash/<id>/
//! ```
//!
//! What a crash can leave, at each step of a layer's life:
//!
//! ```text
//!  create        layers/<id> without layer.json: nobody knows it, start discards it
//!  materialize   the same, or with the layer.json of the layer that it is a copy of
//!  flatten       layers/<id> without layer.json
//!  seal          files synced -> layer.json synced -> work removed, or set read-only in the pool
//!                with layer.json the layer is whole, and sealing it again is harmless
//!  discard       one rename into trash/, durable once `settle` has returned
//!  reclaim       a part of trash/<id>: the next reclaim goes on
//! ```
//!
//! An id is the name of one layer for ever, in both homes: a new one is higher than that of every
//! directory in `layers/` and `trash/`.
//!
//! Trees that are no layers, such as volumes, are copied by the same means (`outside`).
//!
//! A layer that is written to is hostile ground: `tree` says how it is walked. Trees are read and
//! written where they lie, never through a mount of them.

mod area;
mod change;
mod compare;
pub(crate) mod ioctl;
mod manifest;
mod mounted;
mod mounts;
mod outside;
mod reclaim;
mod send;
mod sync;
#[cfg(test)]
pub(crate) mod tests;
mod touched;
mod tree;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags};

use self::area::Area;
pub use self::change::{Aspect, Change, ChangeKind, Node};
use crate::error::{Error, Result};
use crate::store::{Home, Layer, LayerId, Time, Usage};

/// How a tree was put in a second place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// What a layer takes on disk, and how much of that others have too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// All of it.
    pub usage: Usage,
    /// The bytes of it in extents that are not its files' alone.
    pub shared: i64,
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
    /// Layers that it has the place of: what says that it is stacked on one of these is stacked on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<i64>,
}

/// A layer's directory, found on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: LayerId,
    /// Where it lies.
    pub home: Home,
    /// Whether it was sealed.
    pub seal: Seal,
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

/// A pool without layers, to be attached.
#[derive(Debug)]
pub struct NewPool(Area);

/// The directories.
#[derive(Debug)]
pub struct Layers {
    plain: Area,
    /// Set once: at open, or later where the pool is made then.
    pool: OnceLock<Area>,
    /// How a plain layer is materialized.
    method: Method,
    /// The highest id that was given.
    highest: AtomicI64,
    /// Two reclaims at once would only meet each other's half-removed trees.
    reclaiming: Mutex<()>,
}

impl Layers {
    /// Opens or makes `layers/` and `trash/` under the root and, where one is given, in the pool. A
    /// pool must be an existing directory on a btrfs that is not the root's filesystem.
    pub fn open(root: &Path, pool: Option<&Path>) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(Error::io("create", root))?;
        let root = root.canonicalize().map_err(Error::io("open", root))?;
        fit("root", &root)?;
        let plain = Area::open(Home::Plain, &root)?;
        let pool = pool.map(|pool| open_pool(&plain, pool)).transpose()?;
        let method = probe(plain.layers().as_fd());
        let highest = plain.highest()?.max(pool.as_ref().map_or(Ok(0), Area::highest)?);
        let highest = AtomicI64::new(highest);
        let pool = pool.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { plain, pool, method, highest, reclaiming: Mutex::new(()) })
    }

    /// Opens a pool that is new, with the same conditions as `open`, for `attach`.
    pub fn open_new_pool(&self, path: &Path) -> Result<NewPool> {
        let area = open_pool(&self.plain, path)?;
        if area.highest()? > 0 {
            return Err(Error::precondition(
                format!("pool {}", path.display()),
                "it has layers of another root in it; name an empty directory, or restart loomd with pool.path \
                 where they are this root's",
            ));
        }
        Ok(NewPool(area))
    }

    /// Has writable layers lie in this pool from now on. A pool that there is already stays the one.
    pub fn attach(&self, pool: NewPool) -> Result<()> {
        self.pool.set(pool.0).map_err(|_| Error::Internal("a second pool was attached".to_owned()))
    }

    /// The root's directory.
    pub fn root(&self) -> &Path {
        self.plain.path()
    }

    /// The pool's directory, where there is one.
    pub fn pool(&self) -> Option<&Path> {
        self.pool.get().map(Area::path)
    }

    /// The name of the root's filesystem, such as `ext4`.
    pub fn root_filesystem(&self) -> String {
        area::magic_number(self.plain.layers()).map_or_else(|_| "unknown".to_owned(), filesystem)
    }

    /// How a writable layer of this home is materialized here (for plain ones probed once, at open).
    pub fn method(&self, home: Home) -> Method {
        match home {
            Home::Plain => self.method,
            Home::Pool => Method::Subvolume,
        }
    }

    /// A new id, higher than any before.
    pub fn next_id(&self) -> LayerId {
        LayerId(self.highest.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Ids start above this one too (open already looked at every directory in `layers/` and `trash/`).
    pub fn start_above(&self, highest: LayerId) {
        self.highest.fetch_max(highest.0, Ordering::SeqCst);
    }

    /// The directory `<home>/layers/<id>/fs`. Without a pool, that of a pool layer is one that is not there.
    pub fn fs(&self, home: Home, id: LayerId) -> PathBuf {
        self.directory(home, id).join("fs")
    }

    /// Makes an empty writable layer; the root of its tree has the owner, mode, extended attributes and
    /// times of `like`'s (0755, root's else).
    pub fn create(&self, home: Home, id: LayerId, like: Option<&Layer>) -> Result<()> {
        let like = like.map(|like| Ok::<_, Error>((self.area(like.home)?, like.id))).transpose()?;
        self.area(home)?.create(id, like)
    }

    /// Writes out what is dirty of a layer's files, so that a pause after it is short.
    pub fn flush(&self, layer: &Layer) -> Result<()> {
        self.area(layer.home)?.flush()
    }

    /// Puts a layer's tree in a second place, `<same home>/layers/<target>`, with an empty work
    /// directory. On failure nothing stays at the target.
    pub fn materialize(&self, source: &Layer, target: LayerId) -> Result<Method> {
        self.area(source.home)?.materialize(source.id, target, self.method(source.home))
    }

    /// Puts the content of a directory that is no layer, such as a volume, in another, empty one: everything
    /// that a layer can hold, by reflink where both lie on one filesystem that can, else by copy. `from` may be
    /// written to by a hostile process meanwhile; neither path may be in its hands.
    /// It is on disk when this answers; on failure `to` is empty again.
    pub fn copy_tree(&self, from: &Path, to: &Path) -> Result<Method> {
        outside::copy(from, to)
    }

    /// The paths, at most `limit`, in a writable layer whose content, attributes or names changed behind
    /// `since`, relative to its root. Safe against a live tree.
    pub fn changed_since(&self, layer: &Layer, since: Time, limit: usize) -> Result<Vec<String>> {
        self.area(layer.home)?.changed_since(layer.id, since, limit)
    }

    /// Tells how the tree of the chain `after` differs from that of `before` (both topmost first; an empty chain is
    /// an empty tree), in the order of their paths' bytes, name by name. It reads the layers that only one of them
    /// has, and of two pool layers what btrfs knows to differ. A time alone is no difference; an added or deleted
    /// directory is told with all that is in it. Safe against a live tree, whose changes meanwhile may or may not
    /// be told.
    pub fn compare(
        &self,
        before: &[Layer],
        after: &[Layer],
        tell: &mut dyn FnMut(Change) -> Result<()>,
    ) -> Result<()> {
        compare::compare(self, before, after, tell)
    }

    /// What a chain has at a path, where that is a regular file of at most `limit` bytes.
    pub fn read(&self, chain: &[Layer], path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        tree::read(self.view(chain)?, path, limit)
    }

    /// Writes what the topmost `count` layers of a chain make of those below, as the tar of an OCI layer; the whole
    /// chain as a plain tar of its tree. The same state gives the same bytes. `tell` hears the bytes of files that
    /// were read, of the number that `measure` tells.
    pub fn archive(
        &self,
        chain: &[Layer],
        count: usize,
        to: &mut dyn std::io::Write,
        tell: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        tree::archive(self.view(chain)?, count, to, tell)
    }

    /// Makes of the topmost `count` layers of a chain, which are sealed and plain, one new plain layer, `target`, that
    /// shows the same on those below; it is still to be sealed. `tell` is asked at every name whether it is to go on.
    /// On failure nothing stays at the target.
    pub fn flatten(
        &self,
        chain: &[Layer],
        count: usize,
        target: LayerId,
        tell: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Method> {
        self.plain.flatten(self.view(chain)?, count, target, self.method, tell)
    }

    /// Makes a layer immutable and durable: files, then `layer.json`, both synced; then, in the pool, the
    /// subvolume is set read-only. A plain layer's work directory goes.
    pub fn seal(&self, layer: &Layer, manifest: &Manifest) -> Result<()> {
        self.area(layer.home)?.seal(layer.id, manifest)
    }

    /// Undoes a seal that did not become a commit: the layer is writable again, with an empty work directory
    /// and without `layer.json`.
    pub fn unseal(&self, layer: &Layer) -> Result<()> {
        self.area(layer.home)?.unseal(layer.id)
    }

    /// What a sealed layer says of itself.
    pub fn manifest(&self, home: Home, id: LayerId) -> Result<Manifest> {
        self.area(home)?.manifest(id)
    }

    /// The bytes and inodes of a layer itself; for a pool layer less what it shares with others where the
    /// filesystem can tell cheaply, else all. Safe against a live tree.
    pub fn measure(&self, layer: &Layer) -> Result<Usage> {
        self.area(layer.home)?.measure(layer.id)
    }

    /// As `measure`, with what of it is shared, as the filesystem has it now: one call more for each file. None
    /// where `until` comes first.
    pub fn measure_shared(&self, layer: &Layer, until: Instant) -> Result<Option<Measured>> {
        self.area(layer.home)?.measure_shared(layer.id, self.shares(layer.home), until)
    }

    /// True where layers of this home can have extents in common.
    pub fn shares(&self, home: Home) -> bool {
        self.method(home) != Method::Copy
    }

    /// Moves a layer to the trash. One that is not there is already gone.
    pub fn discard(&self, home: Home, id: LayerId) -> Result<()> {
        self.area(home)?.discard(id)
    }

    /// Makes durable what was discarded: a power cut brings none of it back.
    pub fn settle(&self) -> Result<()> {
        self.areas().try_for_each(Area::settle)
    }

    /// Reclaims what was in the trash at the call, but for layers that are mounted somewhere; answers how many are left.
    pub fn reclaim(&self) -> Result<usize> {
        let _alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        reclaim::reclaim(self.areas())
    }

    /// True where a mount table of any process names the layer.
    pub fn mounted(&self, id: LayerId) -> Result<bool> {
        // An id is one layer's in both homes.
        Ok(mounted::layers()?.contains(&id))
    }

    /// True where a mount table of any process has the layer as what is written to, or bound.
    pub fn in_use(&self, layer: &Layer) -> Result<bool> {
        mounted::to_write(&self.fs(layer.home, layer.id))
    }

    /// Every directory of a layer.
    pub fn found(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for area in self.areas() {
            found.extend(area.found()?);
        }
        Ok(found)
    }

    /// The mount of a chain of layers, topmost first; None where it is deeper than a mount can name.
    pub fn mounts(&self, chain: &[Layer], access: Access) -> Option<Vec<Mount>> {
        mounts::mounts(chain, access, |layer| {
            // `open` refuses what is not UTF-8.
            self.directory(layer.home, layer.id).to_string_lossy().into_owned()
        })
    }

    /// The merged view of a chain, topmost first.
    fn view(&self, chain: &[Layer]) -> Result<tree::View> {
        let tree =
            |layer: &Layer| Ok((self.area(layer.home)?.open_tree(layer.id)?, self.fs(layer.home, layer.id)));
        tree::View::open(chain.iter().map(tree).collect::<Result<_>>()?)
    }

    fn areas(&self) -> impl Iterator<Item = &Area> {
        std::iter::once(&self.plain).chain(self.pool.get())
    }

    fn area(&self, home: Home) -> Result<&Area> {
        match home {
            Home::Plain => Ok(&self.plain),
            Home::Pool => self.pool.get().ok_or_else(|| {
                Error::Config(
                    "the layer lies in a pool, and there is none; set pool.path to where it was".to_owned(),
                )
            }),
        }
    }

    fn directory(&self, home: Home, id: LayerId) -> PathBuf {
        match (home, self.pool.get()) {
            (Home::Pool, None) => self.root().join("pool/layers").join(id.to_string()),
            (Home::Pool, Some(pool)) => pool.directory(id),
            (Home::Plain, _) => self.plain.directory(id),
        }
    }
}

/// Opens the pool, or says what is wrong with it.
fn open_pool(plain: &Area, path: &Path) -> Result<Area> {
    let wrong = |why: String| Error::Config(format!("pool {}: {why}", path.display()));
    let path = match path.canonicalize() {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(wrong(
                "it does not exist; create it and mount a btrfs there, or unset pool.path".into(),
            ));
        }
        Err(e) => return Err(Error::io("open pool", path)(e)),
    };
    fit("pool", &path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let pool = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
        Ok(pool) => pool,
        Err(rustix::io::Errno::NOTDIR) => {
            return Err(wrong("it is not a directory; name the directory where a btrfs is mounted".into()));
        }
        Err(e) => return Err(Error::io("open pool", &path)(e)),
    };
    let on = area::magic_number(&pool).map_err(Error::io("inspect pool", &path))?;
    if on != ioctl::BTRFS_SUPER_MAGIC {
        return Err(wrong(format!(
            "it is on {}, and a pool must be on btrfs; if its filesystem is not mounted, mount it, \
             else name a directory on a btrfs or unset pool.path",
            filesystem(on)
        )));
    }
    let inspect = || Error::io("inspect pool", &path);
    if area::is_btrfs(plain.layers()).map_err(inspect())?
        && ioctl::btrfs_uuid(plain.layers()).map_err(inspect())?
            == ioctl::btrfs_uuid(&pool).map_err(inspect())?
    {
        return Err(wrong(format!(
            "it is on the same btrfs as the root {}, which overlayfs cannot tell apart; \
             name a directory on another btrfs or unset pool.path",
            plain.path().display()
        )));
    }
    Area::open(Home::Pool, &path)
}

/// Refuses a directory that no overlay mount can name.
fn fit(what: &str, path: &Path) -> Result<()> {
    mounts::unfit(path).map_or(Ok(()), |why| {
        Err(Error::Config(format!("{what} {}: {why}; choose another directory", path.display())))
    })
}

/// Tries how files can be copied here.
fn probe(directory: BorrowedFd<'_>) -> Method {
    let scratch = || {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR)
    };
    let cloned = || {
        let (source, target) = (scratch()?, scratch()?);
        rustix::io::write(&source, &[1; 4096])?;
        rustix::fs::ioctl_ficlone(&target, &source)
    };
    if cloned().is_ok() { Method::Reflink } else { Method::Copy }
}

/// The name of a filesystem type by its number.
fn filesystem(magic: u32) -> String {
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        ioctl::BTRFS_SUPER_MAGIC => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0xca45_1a4e => "bcachefs",
        0x6969 => "nfs",
        other => return format!("filesystem {other:#x}"),
    };
    name.to_owned()
}
