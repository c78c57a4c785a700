//! What layers say of themselves, so that a lost database can be made anew: `layer.json` of a sealed one, a note of
//! one that is written to.
//!
//! A sealed layer's is on disk before its row says that it is sealed. What changes later (a second snapshot comes to
//! stand on it, a name, a pin or a label changes) follows a little behind the answer, as a chore.

use std::collections::{HashSet, VecDeque};

use super::Snapshots;
use super::chores::Chore;
use crate::error::Result;
use crate::layer::{Layers, Manifest, Told};
use crate::store::{Id, Layer, LayerId, Rows, Snapshot, Stage, Store};

/// The rows of a lineage that one layer tells of at most.
const PATH: usize = 64;

impl Snapshots {
    /// What a layer is to say that is sealed for a snapshot, or written to by it.
    pub(super) fn manifest(&self, snapshot: &Snapshot, layer: &Layer) -> Result<Manifest> {
        self.store.read(|rows| manifest(rows, snapshot, layer))
    }

    /// Writes down whose a layer is that is written to.
    pub(super) fn note(&self, snapshot: &Snapshot, layer: &Layer) -> Result<()> {
        self.layers.note(layer.home, &self.manifest(snapshot, layer)?)
    }

    /// The same, behind a change that is done.
    pub(super) fn note_done(&self, snapshot: &Snapshot, layer: &Layer) {
        if let Err(error) = self.note(snapshot, layer) {
            tracing::warn!(layer = %layer.id, %error, "the layer does not say whose it is; only a lost database would miss that");
        }
    }

    /// Has a layer say what stands on it now, where it says something else.
    pub(super) fn tell(&self, id: LayerId) -> Result<()> {
        // One that has ended is on its way to the trash.
        let Some((_reading, layer)) = self.read_layer(id)? else { return Ok(()) };
        if layer.stage == Stage::Writable {
            let said = self.layers.noted(layer.home, id)?;
            let wanted = self.store.read(|rows| telling(rows, &layer))?;
            let old = !wanted.snapshot.id.is_empty() && said.is_none_or(|said| !says(&said, &wanted));
            return if old { self.layers.note(layer.home, &wanted) } else { Ok(()) };
        }
        let Ok(said) = self.layers.manifest(layer.home, id) else { return Ok(()) };
        let (followed, wanted, unused) = self.store.read(|rows| {
            let wanted = telling(rows, &layer)?;
            let unused = wanted.snapshot.id.is_empty() && rows.above(id)?.is_empty();
            Ok((followed(rows, said.clone(), &wanted)?, wanted, unused))
        })?;
        // Where nothing stands on it a row was lost: only this knows then whose it was.
        if unused {
            return Ok(());
        }
        // Where they differ in what never changes, one of them is damaged: a check tells of it.
        let old = !says(&said, &wanted) && conflicts(&followed, &wanted).is_empty();
        if layer.stage == Stage::Sealed && old { again(&self.store, &self.layers, id) } else { Ok(()) }
    }

    /// Leaves that to the chores, behind a change of what stands on a layer.
    pub(super) fn tell_later(&self, layer: Option<LayerId>) {
        if let Some(layer) = layer {
            self.leave(Chore::Tell(layer));
        }
    }
}

/// Writes what a sealed layer is to say of itself.
pub(crate) fn again(store: &Store, layers: &Layers, id: LayerId) -> Result<()> {
    crate::fault::point("snapshot.tell")?;
    let sealed = |rows: &Rows<'_>| Ok(rows.layer(id)?.filter(|layer| layer.stage == Stage::Sealed));
    let Some((layer, manifest)) = store.read(|rows| match sealed(rows)? {
        Some(layer) => telling(rows, &layer).map(|manifest| Some((layer, manifest))),
        None => Ok(None),
    })?
    else {
        return Ok(());
    };
    // It may be written to again by the time that the layer's turn comes.
    layers.retell(&layer, &manifest, &|| Ok(store.read(sealed)?.is_some()))
}

/// True where a manifest says what another does, but for the lineage, which was what it was when the layer was sealed.
pub(crate) fn says(said: &Manifest, wanted: &Manifest) -> bool {
    *said == Manifest { path: said.path.clone(), ..wanted.clone() }
}

/// A manifest with the base that the rows have, where that has the place of the one that it names.
pub(crate) fn followed(rows: &Rows<'_>, said: Manifest, wanted: &Manifest) -> Result<Manifest> {
    let base = wanted.base.map(|base| rows.layer(LayerId(base))).transpose()?.flatten();
    let in_place = |said: i64| base.as_ref().is_some_and(|base| base.instead_of.contains(&LayerId(said)));
    let base = if said.base.is_some_and(in_place) { wanted.base } else { said.base };
    Ok(Manifest { base, ..said })
}

/// What never changes once a layer is sealed, and is otherwise in the rows than a manifest has it.
pub(crate) fn conflicts(said: &Manifest, wanted: &Manifest) -> Vec<String> {
    let or_none = |value: Option<&String>| value.cloned().unwrap_or_else(|| "none".to_owned());
    let mut differs = Vec::new();
    let mut compare = |word: &str, now: Option<&String>, said: Option<&String>| {
        if now != said {
            differs.push(format!("{word} {} and not {}", or_none(now), or_none(said)));
        }
    };
    let base = |manifest: &Manifest| manifest.base.map(|base| base.to_string());
    compare("base", base(wanted).as_ref(), base(said).as_ref());
    let told: Vec<&Told> = std::iter::once(&said.snapshot).chain(&said.others).collect();
    for now in std::iter::once(&wanted.snapshot).chain(&wanted.others).filter(|now| !now.id.is_empty()) {
        if let Some(said) = told.iter().find(|said| said.id == now.id) {
            compare("parent", now.parent.as_ref(), said.parent.as_ref());
            compare("source", now.source.as_ref(), said.source.as_ref());
        }
    }
    differs
}

/// What a sealed layer is to say.
pub(crate) fn telling(rows: &Rows<'_>, layer: &Layer) -> Result<Manifest> {
    // By age, so that the first is the one that it was sealed for, or has been there longest.
    let standing = rows.standing(layer.id)?;
    let Some((first, others)) = standing.split_first() else {
        let nobody = Manifest {
            layer: layer.id.0,
            base: layer.base.map(|base| base.0),
            snapshot: Told::default(),
            others: Vec::new(),
            path: Vec::new(),
            instead_of: layer.instead_of.clone(),
            max_size: layer.max_size,
            mapping: layer.mapping.clone(),
        };
        return Ok(nobody);
    };
    let mut manifest = manifest(rows, first, layer)?;
    manifest.others = others.iter().map(told).collect();
    Ok(manifest)
}

/// What a layer says that is sealed for a snapshot, or written to by it.
pub(crate) fn manifest(rows: &Rows<'_>, snapshot: &Snapshot, layer: &Layer) -> Result<Manifest> {
    Ok(Manifest {
        layer: layer.id.0,
        base: layer.base.map(|base| base.0),
        snapshot: told(snapshot),
        others: Vec::new(),
        path: path(rows, snapshot)?,
        instead_of: layer.instead_of.clone(),
        max_size: layer.max_size,
        mapping: layer.mapping.clone(),
    })
}

fn told(snapshot: &Snapshot) -> Told {
    let text = |id: Option<Id>| id.map(|id| id.to_string());
    Told {
        id: snapshot.id.to_string(),
        kind: snapshot.kind.to_string(),
        parent: text(snapshot.parent),
        source: text(snapshot.source),
        key: snapshot.key.clone(),
        name: snapshot.name.clone(),
        labels: snapshot.labels.clone(),
        created: snapshot.created.to_string(),
        expires: snapshot.expires.map(|time| time.to_string()),
        taken: snapshot.taken.map(|time| time.to_string()),
        pinned: snapshot.pinned,
        transient: snapshot.transient,
        captured: snapshot.captured.clone(),
        operation: text(snapshot.operation),
    }
}

/// The rows from which a snapshot comes, nearest first. Those whose own layers tell of them too: what stands on these
/// may go, and the rows stay for the lineage of others.
fn path(rows: &Rows<'_>, snapshot: &Snapshot) -> Result<Vec<Told>> {
    let mut path = Vec::new();
    // A parent alone is committed, and an image's.
    let Some(source) = snapshot.source else { return Ok(path) };
    let mut next: VecDeque<Id> = [Some(source), snapshot.parent].into_iter().flatten().collect();
    let mut seen: HashSet<Id> = [snapshot.id].into();
    while let Some(id) = next.pop_front() {
        if path.len() == PATH || !seen.insert(id) {
            continue;
        }
        let Some(row) = rows.snapshot(id)? else { continue };
        next.extend([row.source, row.parent].into_iter().flatten());
        // Its own layer, while it has one, tells more.
        let (labels, captured) = (std::collections::BTreeMap::new(), None);
        path.push(Told { labels, captured, ..told(&row) });
    }
    Ok(path)
}
