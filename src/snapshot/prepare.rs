//! Prepare and View: new snapshots, and the layers that they stand on.

use std::collections::BTreeMap;

use super::{FORK_LABEL, Snapshots, key, limit};
use crate::error::{Error, Result};
use crate::layer::{Access, Method, Mount};
use crate::mapping::Mapping;
use crate::store::{Home, Id, Kind, Layer, LayerId, Rows, Snapshot, Stage, Time};

/// What a new writable layer is made of.
#[derive(Debug)]
pub(super) enum Base {
    /// An empty layer, stacked on these (topmost first; none for the first layer of all).
    On(Vec<Layer>),
    /// A copy of the first of these, stacked on the others.
    Of(Vec<Layer>),
}

/// A snapshot that is about to be made.
#[derive(Debug)]
pub(super) struct New {
    /// Its row, but for the layer.
    pub(super) snapshot: Snapshot,
    /// Where its layer is to lie.
    pub(super) home: Home,
    /// What its layer is to be made of.
    pub(super) base: Base,
    /// The mapping that its container runs under.
    pub(super) mapping: Option<Mapping>,
    /// The most bytes that may be written to it.
    pub(super) max_size: Option<i64>,
}

/// A new writable layer that has no row yet.
#[derive(Debug)]
pub(super) struct Laid {
    /// What its row is to be.
    pub(super) layer: Layer,
    /// The mounts of its chain.
    pub(super) mounts: Vec<Mount>,
    /// How its bytes were put in place.
    pub(super) method: Method,
}

impl Snapshots {
    /// containerd's Prepare: a new active snapshot on `parent` (empty for none), or, with the fork
    /// label, one that continues from another snapshot.
    pub fn prepare(&self, key: &str, parent: &str, labels: BTreeMap<String, String>) -> Result<Vec<Mount>> {
        key::check(key)?;
        key::check_labels(&labels)?;
        let _taken = self.take_key(key)?;
        if let Some(of) = labels.get(FORK_LABEL) {
            let of = of.clone();
            return self.prepare_fork(key, parent, labels, &of);
        }
        let unpack = key::is_unpack(key, &labels);
        // Unpackers copy what an image says of itself into labels, and an image has its own owners.
        let mapping = if unpack { None } else { Mapping::of_labels(&labels)? };
        // The default is for containers.
        let max_size = limit::asked(&labels)?.or(if unpack { None } else { self.rules.limit });
        let snapshot = fresh(key, Kind::Active, labels)?;
        let pooled = self.layers.pool().is_some();
        let new = self.store.read(|rows| {
            let snapshot = below(rows, snapshot, parent)?;
            if let Some(adopted) = adopted(rows, &snapshot)? {
                return Err(Error::RefExists(adopted));
            }
            let chain = parent_chain(rows, &snapshot)?;
            let mapping = unless_chowned(rows, &snapshot, mapping)?;
            let (home, base) = place(chain, unpack, pooled)?;
            Ok(New { snapshot, home, base, mapping, max_size })
        })?;
        self.make(new)
    }

    /// containerd's View: a read-only snapshot of `parent`, or of nothing where that is empty. It has a layer of its
    /// own only where its owners are not shown as they lie on disk.
    pub fn view(&self, key: &str, parent: &str, labels: BTreeMap<String, String>) -> Result<Vec<Mount>> {
        key::check(key)?;
        key::check_labels(&labels)?;
        if labels.contains_key(FORK_LABEL) {
            return Err(Error::invalid(
                format!("label {FORK_LABEL}"),
                "a view cannot be a fork; use Prepare",
            ));
        }
        let mapping = Mapping::of_labels(&labels)?;
        let _taken = self.take_key(key)?;
        let snapshot = fresh(key, Kind::View, labels)?;
        let (mut snapshot, chain, mapping) = self.store.read(|rows| {
            let snapshot = below(rows, snapshot, parent)?;
            let chain = parent_chain(rows, &snapshot)?;
            let mapping = unless_chowned(rows, &snapshot, mapping)?;
            Ok((snapshot, chain, mapping))
        })?;
        if chain.is_empty() {
            let (home, base) = (Home::Plain, Base::On(chain));
            return self.make(New { snapshot, home, base, mapping, max_size: None });
        }
        if mapping.is_some() || chain.iter().any(|layer| layer.mapping.is_some()) {
            let (home, base) = place(chain, false, self.layers.pool().is_some())?;
            return self.make(New { snapshot, home, base, mapping, max_size: None });
        }
        let mounts = self.mounts_of(key, &chain, Access::Read)?;
        snapshot.layer = chain.first().map(|layer| self.instead(layer.id));
        self.store.write(move |rows| {
            still_below(rows, &snapshot)?;
            rows.insert(&snapshot)
        })?;
        Ok(mounts)
    }

    /// Makes the layer and then the rows of a new snapshot. Where that fails nothing stays.
    pub(super) fn make(&self, new: New) -> Result<Vec<Mount>> {
        let New { mut snapshot, home, base, mapping, max_size } = new;
        let access = if snapshot.kind == Kind::View { Access::Read } else { Access::Write };
        let laid = self.lay(&snapshot.title(), (home, max_size), &base, mapping, access)?;
        snapshot.layer = Some(laid.layer.id);
        self.insert(laid.layer, snapshot)?;
        Ok(laid.mounts)
    }

    /// Makes a writable layer in a home, with a limit that is still to be set and no row yet, for the snapshot called
    /// `title`, whose container runs under `mapping`.
    pub(super) fn lay(
        &self,
        title: &str,
        (home, max_size): (Home, Option<i64>),
        base: &Base,
        mapping: Option<Mapping>,
        access: Access,
    ) -> Result<Laid> {
        if max_size.is_some() {
            self.layers.ready_for_limits(home)?;
        }
        let id = self.layers.next_id();
        let (below, source) = match base {
            Base::On(chain) => (chain.as_slice(), None),
            Base::Of(chain) => {
                let Some((first, rest)) = chain.split_first() else {
                    return Err(Error::Internal("a copy of no layer".to_owned()));
                };
                (rest, Some(first))
            }
        };
        let layer =
            Layer { max_size, mapping, ..Layer::new(id, home, below.first().map(|l| l.id), Stage::Writable) };
        let mut chain = vec![layer.clone()];
        chain.extend_from_slice(below);
        let mounts = self.mounts_of(title, &chain, access)?;
        let method = match source {
            None => {
                self.layers.create(home, id, below.first()).or_else(|error| {
                    // A removal that came meanwhile took the layer below away; the disk is sound.
                    below.first().map_or(Ok(()), |base| self.store.read(|rows| standing(rows, base.id)))?;
                    Err(error)
                })?;
                // Nothing was to be put in place.
                self.layers.method(home)
            }
            Some(source) => {
                let Some((_reading, source)) = self.read_layer(source.id)? else {
                    return Err(gone(source.id));
                };
                self.layers.materialize(&source, id)?
            }
        };
        // What was made is like what it was made of.
        self.own(&layer, source.and_then(|source| source.mapping.as_ref()))?;
        Ok(Laid { layer, mounts, method })
    }

    /// Gives all that is in a layer without a row, so far written with `from`, to its mapping. Where that fails the
    /// layer goes.
    pub(super) fn own(&self, layer: &Layer, from: Option<&Mapping>) -> Result<()> {
        if layer.mapping.as_ref() == from {
            return Ok(());
        }
        self.layers.chown(layer, from).inspect_err(|_| {
            self.discard(super::remove::Ended { home: layer.home, layer: layer.id, row: false });
        })
    }

    /// Writes the rows of a layer that is in place; where that fails the layer goes.
    pub(super) fn insert(&self, layer: Layer, snapshot: Snapshot) -> Result<()> {
        let (home, id) = (layer.home, layer.id);
        let layer = self.on_flat(layer);
        // The limit last: what is told of a layer that is full cannot be written into it.
        let told = crate::fault::point("snapshot.insert").and_then(|()| self.note(&snapshot, &layer));
        let kept = told.and_then(|()| self.keep_limit(&layer));
        let written = kept.and_then(|()| {
            self.store.write(move |rows| {
                still_below(rows, &snapshot)?;
                if let Some(base) = layer.base {
                    standing(rows, base)?;
                }
                rows.insert_layer(&layer)?;
                rows.insert(&snapshot)
            })
        });
        if written.is_err() {
            self.discard(super::remove::Ended { home, layer: id, row: false });
        }
        written
    }

    /// The mounts of a chain, or the reason why there can be none.
    pub(super) fn mounts_of(&self, title: &str, chain: &[Layer], access: Access) -> Result<Vec<Mount>> {
        self.flat.look_at(chain);
        match self.layers.mounts(chain, access) {
            Some(mounts) => Ok(mounts),
            None => self.mounts_of_flat(title, chain, access),
        }
    }
}

/// The row of a snapshot that nothing stands on yet.
pub(super) fn fresh(key: &str, kind: Kind, labels: BTreeMap<String, String>) -> Result<Snapshot> {
    let now = Time::now();
    Ok(Snapshot {
        id: Id::random()?,
        key: Some(key.to_owned()),
        name: None,
        kind,
        parent: None,
        source: None,
        layer: None,
        pinned: false,
        transient: false,
        labels,
        created: now,
        updated: now,
        captured: None,
        operation: None,
        expires: None,
        taken: None,
    })
}

/// Puts a new snapshot on the parent with this key, which must be committed. The key must be free.
pub(super) fn below(rows: &Rows<'_>, mut snapshot: Snapshot, parent: &str) -> Result<Snapshot> {
    if let Some(key) = &snapshot.key
        && rows.by_key(key)?.is_some()
    {
        return Err(Error::KeyExists(key.clone()));
    }
    if !parent.is_empty() {
        let parent = rows.by_key(parent)?.ok_or_else(|| Error::ParentNotFound(parent.to_owned()))?;
        if parent.kind != Kind::Committed {
            return Err(Error::ParentNotCommitted { parent: parent.title(), kind: parent.kind });
        }
        snapshot.parent = Some(parent.id);
    }
    Ok(snapshot)
}

/// Checks in the transaction that writes a snapshot that its parent and source are still there. What
/// containerd is to list needs a parent that it has not removed meanwhile, even where loom keeps that.
pub(super) fn still_below(rows: &Rows<'_>, snapshot: &Snapshot) -> Result<()> {
    if let Some(parent) = snapshot.parent {
        let row = rows.snapshot(parent)?.filter(|row| row.layer.is_some());
        if row.is_none_or(|row| snapshot.key.is_some() && row.key.is_none()) {
            return Err(Error::ParentNotFound(parent.to_string()));
        }
    }
    if let Some(source) = snapshot.source
        && rows.snapshot(source)?.is_none()
    {
        return Err(Error::SnapshotNotFound(source.to_string()));
    }
    Ok(())
}

/// Checks in the transaction that stacks something on a layer that the layer has not ended.
pub(super) fn standing(rows: &Rows<'_>, base: LayerId) -> Result<()> {
    match rows.layer(base)? {
        Some(layer) if layer.stage == Stage::Sealed => Ok(()),
        _ => Err(gone(base)),
    }
}

fn gone(below: LayerId) -> Error {
    Error::ParentNotFound(format!("layer {below}"))
}

/// The layers of a snapshot's parent, topmost first.
fn parent_chain(rows: &Rows<'_>, snapshot: &Snapshot) -> Result<Vec<Layer>> {
    let parent = snapshot.parent.map(|parent| rows.snapshot(parent)).transpose()?.flatten();
    match parent.and_then(|parent| parent.layer) {
        Some(layer) => rows.chain(layer),
        None => Ok(Vec::new()),
    }
}

/// The mapping that a snapshot's layer is to have: none where its parent is an image's copy that its client has given to
/// the user namespace already, every file of it.
fn unless_chowned(rows: &Rows<'_>, snapshot: &Snapshot, mapping: Option<Mapping>) -> Result<Option<Mapping>> {
    let parent = snapshot.parent.map(|parent| rows.snapshot(parent)).transpose()?.flatten();
    let chowned = parent.is_some_and(|parent| parent.labels.contains_key(key::CHOWNED_LABEL));
    Ok(mapping.filter(|_| !chowned))
}

/// The committed snapshot that an unpacker would make again: same label, same parent. A state that was published
/// is its own namespace's: what it is called elsewhere is a stranger's word.
fn adopted(rows: &Rows<'_>, snapshot: &Snapshot) -> Result<Option<String>> {
    let Some(reference) = snapshot.labels.get(key::REF_LABEL) else { return Ok(None) };
    let here = |other: &Snapshot| other.source.is_none() || key::namespace(other) == key::namespace(snapshot);
    let same =
        rows.by_ref(reference)?.into_iter().any(|other| other.parent == snapshot.parent && here(&other));
    Ok(same.then(|| reference.clone()))
}

/// Where a new writable layer lies and what it is made of.
///
/// What is unpacked is always plain. A container's layer is a pool layer wherever there is a pool: a clone
/// where its parent's top layer is one, an empty one over a plain chain. overlayfs confuses two
/// subvolumes of one btrfs, so over a chain that has a pool layer further down only a plain one is right.
///
/// What was written under a mapping is continued by a copy too: a mount shows all that is below its topmost layer under
/// one mapping, and below that one lies an image, whose owners have none.
pub(super) fn place(chain: Vec<Layer>, unpack: bool, pooled: bool) -> Result<(Home, Base)> {
    let top = chain.first().map(|layer| layer.home);
    if let Some(Layer { id, home, mapping: Some(mapping), .. }) = chain.first() {
        if unpack {
            return Err(Error::precondition(
                format!("layer {id}"),
                format!(
                    "it was written in a user namespace ({mapping}), and no image's layer can stand on it; make an \
                     image of its container with `loom commit`"
                ),
            ));
        }
        return Ok((*home, Base::Of(chain)));
    }
    let has_pool = chain.iter().any(|layer| layer.home == Home::Pool);
    Ok(if unpack || !pooled {
        (Home::Plain, Base::On(chain))
    } else if top == Some(Home::Pool) {
        (Home::Pool, Base::Of(chain))
    } else if has_pool {
        (Home::Plain, Base::On(chain))
    } else {
        (Home::Pool, Base::On(chain))
    })
}
