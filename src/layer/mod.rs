//! Bytes on disk: the only place with ioctls.
//!
//! ```text
//! <root>/lock                     one daemon a root
//! <root>/layers/<id>/fs/          the layer's tree
//!                    work/        overlay's, while the layer is writable
//!                    layer.json   what it is, once it is sealed; before that, an attribute of <id>
//! <root>/trash/<id>/              discarded; reclaimed when no mount names it
//! <root>/probe/                   there while the kernel is asked whether a layer is mounted
//! <pool>/layers/<id>/             the same, a btrfs subvolume
//! <pool>/trash/<id>/
//! <pool>/reclaim/<id>/            one that is being removed
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
//!  rename        the directory under either of two ids; a row says which two, and it is renamed back
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
mod copying;
pub(crate) mod ioctl;
mod lock;
mod manifest;
mod mounted;
mod mounts;
mod open;
mod outside;
mod pair;
mod probe;
mod quota;
mod reclaim;
mod renamed;
mod send;
mod space;
mod strays;
mod sync;
#[cfg(test)]
pub(crate) mod tests;
mod touched;
mod tree;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use self::area::Area;
pub use self::change::{Aspect, Change, ChangeKind, Node};
pub use self::copying::Copying;
pub use self::lock::lock;
pub use self::manifest::{Manifest, Seal, Told};
pub use self::mounted::{Mounted, Role};
pub use self::open::NewPool;
pub use self::pair::{Last, pool_of};
use self::probe::Probe;
pub use self::space::Space;
pub use self::strays::Stray;
use crate::error::{Error, Result};
use crate::mapping::Mapping;
use crate::store::{Home, Layer, LayerId, Time, Usage};

/// How a tree was put in a second place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A snapshot of a btrfs subvolume.
    Subvolume,
    /// Nothing was moved: the layer was sealed as it lay, below a new empty one.
    Sealed,
    /// Files share their extents, one FICLONE each.
    Reflink,
    /// Every byte was copied.
    Copy,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subvolume => "subvolume",
            Self::Sealed => "sealed",
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

/// The directories.
#[derive(Debug)]
pub struct Layers {
    plain: Area,
    /// Set once: at open, or later where the pool is made then.
    pool: OnceLock<Area>,
    /// How a plain layer is materialized.
    method: Method,
    /// Tells of a plain layer whether anything writes to it; None where nothing can.
    probe: Option<Probe>,
    /// The highest id that was given.
    highest: AtomicI64,
    /// The highest that an earlier daemon gave.
    opened: AtomicI64,
    throttle: reclaim::Throttle,
}

impl Layers {
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
        area::magic_number(self.plain.layers()).map_or_else(|_| "unknown".to_owned(), open::filesystem)
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
        self.opened.fetch_max(highest.0, Ordering::SeqCst);
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
    /// directory, while nothing writes to it. On failure nothing stays at the target.
    pub fn materialize(&self, source: &Layer, target: LayerId) -> Result<Method> {
        let mut copying = self.copying(source, target)?;
        copying.finish()?;
        copying.keep()
    }

    /// Begins to put the tree of a layer that is written to in a second place, as `materialize` does: what is left
    /// for [`Copying::finish`], while nothing writes to it, does not depend on how much there is.
    pub fn begin(&self, source: &Layer, target: LayerId) -> Result<Copying<'_>> {
        let mut copying = self.copying(source, target)?;
        copying.rounds()?;
        Ok(copying)
    }

    fn copying(&self, source: &Layer, target: LayerId) -> Result<Copying<'_>> {
        Copying::new(self.area(source.home)?, source.id, target, self.method(source.home))
    }

    /// Gives everything in a layer that nothing else writes to the owners that it has under the layer's mapping; until
    /// now they are written with `from`. Where that fails a part of it is done: such a layer is discarded.
    pub fn chown(&self, layer: &Layer, from: Option<&Mapping>) -> Result<()> {
        let owners = tree::Owners { from, to: layer.mapping.as_ref() };
        tree::chown(self.area(layer.home)?.open_tree(layer.id)?, &self.fs(layer.home, layer.id), owners)
    }

    /// Puts a plain layer's tree in a second place, `<pool>/layers/<target>`, by copying it. On failure nothing stays
    /// at the target.
    pub fn transfer(&self, source: &Layer, target: LayerId) -> Result<()> {
        self.area(Home::Pool)?.receive(self.area(source.home)?, source.id, target)
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
        let area = self.area(layer.home)?;
        if layer.max_size.is_some() {
            // It may be full, and its seal takes some bytes.
            quota::limit(area, layer.id, None)?;
        }
        area.seal(layer.id, manifest)
    }

    /// Undoes a seal that did not become a commit: the layer is writable again, with an empty work directory
    /// and without `layer.json`.
    pub fn unseal(&self, layer: &Layer) -> Result<()> {
        let area = self.area(layer.home)?;
        area.unseal(layer.id)?;
        if layer.max_size.is_some() { quota::limit(area, layer.id, layer.max_size) } else { Ok(()) }
    }

    /// What a sealed layer says of itself.
    pub fn manifest(&self, home: Home, id: LayerId) -> Result<Manifest> {
        self.area(home)?.manifest(id)
    }

    /// Writes down whose a layer is that is written to, for a database that is lost.
    pub fn note(&self, home: Home, manifest: &Manifest) -> Result<()> {
        self.area(home)?.note(LayerId(manifest.layer), manifest)
    }

    /// Whose a layer is that is, or was, written to, where that was written down.
    pub fn noted(&self, home: Home, id: LayerId) -> Result<Option<Manifest>> {
        self.area(home)?.noted(id)
    }

    /// Every mount that names a layer of these homes by its whole path, in whatever mount namespace.
    pub fn mounted_layers(&self) -> Result<Vec<Mounted>> {
        let homes: Vec<_> = self.areas().map(|area| (area.home(), area.path())).collect();
        mounted::all(&homes)
    }

    /// True for an id that was given since these were opened: what lies under it may be a request's that is under
    /// way, whose row comes later.
    pub fn gave(&self, id: LayerId) -> bool {
        id.0 > self.opened.load(Ordering::SeqCst) && id.0 <= self.highest.load(Ordering::SeqCst)
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

    /// What all of a home takes, each byte once, and what its filesystem says. `known` are the sizes of sealed layers.
    pub fn space(&self, home: Home, known: &HashMap<LayerId, i64>, until: Instant) -> Result<Space> {
        space::space(self.area(home)?, self.shares(home), known, until)
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

    /// Reclaims, as fast as it goes, what was in the trash at the call, but for layers that are mounted somewhere;
    /// answers how many are left.
    pub fn reclaim(&self) -> Result<usize> {
        reclaim::at_once(self.areas(), &self.throttle)
    }

    /// The same so slowly that nobody else feels it; what is stopped meanwhile counts as left.
    pub fn reclaim_slowly(&self) -> Result<usize> {
        reclaim::slowly(self.areas(), &self.throttle)
    }

    /// Ends what is reclaimed slowly, for good.
    pub fn stop_reclaiming(&self) {
        self.throttle.stop();
    }

    /// Has a sealed layer say something else of itself, if it is sealed `still` when its turn comes.
    pub fn retell(&self, layer: &Layer, manifest: &Manifest, still: &dyn Fn() -> Result<bool>) -> Result<()> {
        self.area(layer.home)?.retell(layer.id, manifest, still)
    }

    /// True where something below a path is mounted, or something is mounted there.
    pub fn is_mounted(&self, path: &Path) -> Result<bool> {
        mounted::touches(path)
    }

    /// True where a mount table of any process names the layer.
    pub fn mounted(&self, id: LayerId) -> Result<bool> {
        // An id is one layer's in both homes.
        Ok(mounted::layers()?.contains(id, || None))
    }

    /// True where a mount table of any process has the layer as what is written to, or bound.
    pub fn in_use(&self, layer: &Layer) -> Result<bool> {
        let fs = self.fs(layer.home, layer.id);
        mounted::to_write(&fs, &fs)
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
        let mut view = tree::View::open(chain.iter().map(tree).collect::<Result<_>>()?)?;
        for (at, layer) in chain.iter().enumerate() {
            if let Some(mapping) = &layer.mapping {
                view.written_with(at, mapping.clone());
            }
        }
        Ok(view)
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
