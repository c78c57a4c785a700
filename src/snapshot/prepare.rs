//! Prepare and View: new snapshots, and the layers that they stand on.

use std::collections::BTreeMap;

use super::{FORK_LABEL, Snapshots, key, limit};
use crate::error::{Error, Result};
use crate::layer::{Access, Method, Mount};
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
            let (home, base) = place(chain, unpack, pooled);
            Ok(New { snapshot, home, base, max_size })
        })?;
        self.make(new)
    }

    /// containerd's View: a read-only snapshot of `parent`, or of nothing where that is empty.
    pub fn view(&self, key: &str, parent: &str, labels: BTreeMap<String, String>) -> Result<Vec<Mount>> {
        key::check(key)?;
        key::check_labels(&labels)?;
        if labels.contains_key(FORK_LABEL) {
            return Err(Error::invalid(
                format!("label {FORK_LABEL}"),
                "a view cannot be a fork; use Prepare",
            ));
        }
        let _taken = self.take_key(key)?;
        let snapshot = fresh(key, Kind::View, labels)?;
        let (mut snapshot, chain) = self.store.read(|rows| {
            let snapshot = below(rows, snapshot, parent)?;
            let chain = parent_chain(rows, &snapshot)?;
            Ok((snapshot, chain))
        })?;
        if chain.is_empty() {
            return self.make(New { snapshot, home: Home::Plain, base: Base::On(chain), max_size: None });
        }
        let mounts = self.mounts_of(key, &chain, Access::Read)?;
        snapshot.layer = chain.first().map(|layer| layer.id);
        self.store.write(move |rows| {
            still_below(rows, &snapshot)?;
            rows.insert(&snapshot)
        })?;
        Ok(mounts)
    }

    /// Makes the layer and then the rows of a new snapshot. Where that fails nothing stays.
    pub(super) fn make(&self, new: New) -> Result<Vec<Mount>> {
        let New { mut snapshot, home, base, max_size } = new;
        let access = if snapshot.kind == Kind::View { Access::Read } else { Access::Write };
        let laid = self.lay(&snapshot.title(), (home, max_size), &base, access)?;
        snapshot.layer = Some(laid.layer.id);
        self.insert(laid.layer, snapshot)?;
        Ok(laid.mounts)
    }

    /// Makes a writable layer in a home, with a limit that is still to be set and no row yet, for the snapshot called
    /// `title`.
    pub(super) fn lay(
        &self,
        title: &str,
        (home, max_size): (Home, Option<i64>),
        base: &Base,
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
        let layer = Layer { max_size, ..Layer::new(id, home, below.first().map(|l| l.id), Stage::Writable) };
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
        Ok(Laid { layer, mounts, method })
    }

    /// Writes the rows of a layer that is in place; where that fails the layer goes.
    pub(super) fn insert(&self, layer: Layer, snapshot: Snapshot) -> Result<()> {
        let (home, id) = (layer.home, layer.id);
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
        self.layers
            .mounts(chain, access)
            .ok_or_else(|| Error::TooDeep { key: title.to_owned(), depth: chain.len() })
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
pub(super) fn place(chain: Vec<Layer>, unpack: bool, pooled: bool) -> (Home, Base) {
    let top = chain.first().map(|layer| layer.home);
    let has_pool = chain.iter().any(|layer| layer.home == Home::Pool);
    if unpack || !pooled {
        (Home::Plain, Base::On(chain))
    } else if top == Some(Home::Pool) {
        (Home::Pool, Base::Of(chain))
    } else if has_pool {
        (Home::Plain, Base::On(chain))
    } else {
        (Home::Pool, Base::On(chain))
    }
}
