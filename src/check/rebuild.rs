//! A new database of what the layers say of themselves.
//!
//! ```text
//!  layers/<id>/layer.json   a sealed layer: its base, the snapshots that stand on it, the rows of their lineage
//!  layers/<id> (attribute)  one that is written to: the same
//!  neither                  nobody knows whose it is: kept under the name recovered-<id>
//!
//!  loom.db.new ── written ──► loom.db ──► loom.db.<time>      loom.db.new ──► loom.db
//! ```
//!
//! What a layer does not say is not known any more: operations, idempotency keys, which containers are paused.
//! Nothing in `layers/` is moved or removed. Between the two renames there is no database; a start that finds none
//! beside layers refuses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::compare::{circular, titles};
use super::{Case, Code, Repair};
use crate::error::{Error, Result};
use crate::layer::{Found, Layers, Manifest, Seal, Told};
use crate::store::{Home, Id, Kind, Layer, LayerId, Snapshot, Stage, Store, Time};

/// What one layer says.
struct Said {
    found: Found,
    stage: Stage,
    manifest: Manifest,
}

/// What the new database is to have.
#[derive(Default)]
struct Rows {
    layers: BTreeMap<LayerId, Layer>,
    snapshots: BTreeMap<Id, Snapshot>,
    /// Keys and names that are taken.
    taken: BTreeSet<String>,
    /// Layers that cannot say what they are, as people are told of them.
    unreadable: BTreeMap<LayerId, String>,
    cases: Vec<Case>,
}

/// Makes the database at `path` anew.
pub(super) fn rebuild(layers: &Layers, path: &Path) -> Result<Vec<Case>> {
    let mut rows = Rows::default();
    let mut said = Vec::new();
    for found in layers.found()? {
        said.extend(rows.hear(layers, found)?);
    }
    // The sealed ones first, and of each the newest: they are what someone was told of.
    said.sort_by_key(|one| (one.stage != Stage::Sealed, std::cmp::Reverse(one.found.id)));
    let instead = instead(&said);
    for one in &said {
        rows.layer(one, &instead);
    }
    rows.bases()?;
    // What stood on a layer stands on the one that has its place, which says so too.
    said.retain(|one| !instead.contains_key(&one.found.id));
    for one in &said {
        rows.standing(one)?;
    }
    for one in &said {
        for told in &one.manifest.path {
            rows.add(told, None, one)?;
        }
    }
    rows.lineage();
    let kept = write(path, &rows)?;
    let message = format!(
        "made anew: {} layers, {} snapshots{}. Operations and idempotency keys are not known any more, nor what loom had \
         paused",
        rows.layers.len(),
        rows.snapshots.len(),
        kept.map(|kept| format!("; the one before is {}", kept.display())).unwrap_or_default()
    );
    let mut done = Case::told(Code::DatabaseRebuilt, path.display().to_string(), message);
    done.finding.repair = Repair::Done;
    rows.cases.push(done);
    Ok(rows.cases)
}

impl Rows {
    /// What a layer says of itself; none for what is to have no row.
    fn hear(&mut self, layers: &Layers, found: Found) -> Result<Option<Said>> {
        let (home, id) = (found.home, found.id);
        let mut what = layers.fs(home, id);
        what.pop();
        let what = format!("{home} layer {id} ({})", what.display());
        match found.seal {
            Seal::Own => match layers.manifest(home, id) {
                Ok(manifest) => return Ok(Some(Said { found, stage: Stage::Sealed, manifest })),
                Err(error) => {
                    let message = format!(
                        "{error}: whose it is cannot be known. loomd does not start until it is moved away"
                    );
                    self.cases.push(Case::told(Code::ManifestUnreadable, &what, message));
                    self.unreadable.insert(id, what);
                    return Ok(None);
                }
            },
            // Whoever was making a copy never came to the end.
            Seal::Copied => return Ok(None),
            Seal::Absent => {}
        }
        match layers.noted(home, id)? {
            Some(manifest) if manifest.layer == id.0 => {
                Ok(Some(Said { found, stage: Stage::Writable, manifest }))
            }
            // Likewise.
            Some(_) => Ok(None),
            None => {
                let name = recovered(id);
                let message = format!(
                    "it was written to, and does not say by whom, nor what it stood on: what was written is kept as \
                     snapshot {name}. `loom export {name}` writes it as a tar; `loom rm {name}` removes it"
                );
                self.cases.push(Case::told(Code::LayerRecovered, what, message));
                let id = Id::random()?.to_string();
                let (name, created) = (Some(name), Time::now().to_string());
                let snapshot = Told { id, kind: Kind::Active.to_string(), name, created, ..Told::default() };
                let layer = found.id.0;
                let manifest = Manifest {
                    layer,
                    base: None,
                    snapshot,
                    others: Vec::new(),
                    path: Vec::new(),
                    instead_of: Vec::new(),
                    max_size: None,
                    mapping: None,
                };
                Ok(Some(Said { found, stage: Stage::Writable, manifest }))
            }
        }
    }

    fn layer(&mut self, said: &Said, instead: &BTreeMap<LayerId, LayerId>) {
        let Manifest { base, max_size, mapping, instead_of, .. } = &said.manifest;
        let (id, home) = (said.found.id, said.found.home);
        let mut base = base.map(LayerId);
        while let Some(by) = base.and_then(|base| instead.get(&base)) {
            base = Some(*by);
        }
        let (base, stage) =
            if instead.contains_key(&id) { (None, Stage::Doomed) } else { (base, said.stage) };
        // It may have been its source's own until then, which only the row said.
        let still = said.manifest.snapshot.taken.as_ref().filter(|_| said.stage == Stage::Sealed);
        let layer = Layer {
            still: still.and_then(|taken| taken.parse().ok()),
            max_size: *max_size,
            mapping: mapping.clone(),
            instead_of: instead_of.clone(),
            ..Layer::new(id, home, base, stage)
        };
        self.layers.insert(said.found.id, layer);
    }

    /// Bases that are not there get rows all the same: what stands on them must not look whole. One that is there and
    /// cannot say what it stands on itself would, so nothing is made then.
    fn bases(&mut self) -> Result<()> {
        let bases: BTreeSet<LayerId> = self.layers.values().filter_map(|layer| layer.base).collect();
        for base in bases {
            if let Some(what) = self.unreadable.get(&base) {
                return Err(Error::Config(format!(
                    "{what} has a layer.json that cannot be read, and others are stacked on it: what it is stacked on \
                     itself is not known. Nothing was changed. Put the file back from a backup; or move the layer away, \
                     and what stands on it cannot be mounted any more"
                )));
            }
            // What is looked at next tells of it.
            self.layers.entry(base).or_insert_with(|| Layer::new(base, Home::Plain, None, Stage::Sealed));
        }
        let above = self.layers.values().map(|layer| (layer.id, layer.base.into_iter().collect())).collect();
        for id in circular::<LayerId>(&above) {
            let Some(layer) = self.layers.get_mut(&id) else { continue };
            let message = "by what the layers say it stands on itself in the end, which cannot be; it stands on nothing now";
            let what = format!("{} layer {id}", layer.home);
            self.cases.push(Case::told(Code::Circle, what, message));
            layer.base = None;
        }
        Ok(())
    }

    fn standing(&mut self, said: &Said) -> Result<()> {
        let manifest = &said.manifest;
        for told in std::iter::once(&manifest.snapshot).chain(&manifest.others) {
            if !told.id.is_empty() {
                self.add(told, Some(said.found.id), said)?;
            }
        }
        Ok(())
    }

    /// Adds a snapshot, unless it is there.
    fn add(&mut self, told: &Told, layer: Option<LayerId>, by: &Said) -> Result<()> {
        let Ok(mut row) = read(told, layer, by.stage) else {
            let message = format!("what it says of {} cannot be read", titles(&by.manifest));
            let what = format!("{} layer {}", by.found.home, by.found.id);
            self.cases.push(Case::told(Code::ManifestUnreadable, what, message));
            return Ok(());
        };
        if let Some(before) = self.snapshots.get(&row.id) {
            if layer.is_none() || before.layer.is_none() || before.layer == layer {
                return Ok(());
            }
            // Two layers say that they are one snapshot's: the one that was looked at first is.
            row = Snapshot {
                id: Id::random()?,
                key: None,
                name: None,
                source: Some(before.id),
                pinned: false,
                ..row
            };
        }
        for name in [&mut row.key, &mut row.name] {
            if name.as_ref().is_some_and(|name| !self.taken.insert(name.clone())) {
                *name = None;
            }
        }
        if let Some(layer) = layer.filter(|_| row.key.is_none() && !row.held()) {
            let name = recovered(layer);
            if self.taken.insert(name.clone()) {
                row.name = Some(name);
            } else {
                row.pinned = true;
            }
        }
        self.snapshots.insert(row.id, row);
        Ok(())
    }

    /// Every row that another names gets one, without bytes, and no row comes from itself.
    fn lineage(&mut self) {
        let named: BTreeMap<Id, Time> = self
            .snapshots
            .values()
            .flat_map(|row| [row.parent, row.source].into_iter().flatten().map(|id| (id, row.created)))
            .collect();
        for (id, created) in named {
            self.snapshots.entry(id).or_insert_with(|| gone(id, created));
        }
    }
}

/// Of layers that others have the place of: which. A layer has that of older ones only, and no circle comes of it.
fn instead(said: &[Said]) -> BTreeMap<LayerId, LayerId> {
    let mut instead = BTreeMap::new();
    for one in said.iter().filter(|one| one.stage == Stage::Sealed) {
        let older = one.manifest.instead_of.iter().filter(|other| **other < one.found.id);
        for other in older {
            // The newest first: what it has the place of is its own.
            instead.entry(*other).or_insert(one.found.id);
        }
    }
    instead
}

/// A row that only lineage keeps.
fn gone(id: Id, created: Time) -> Snapshot {
    Snapshot {
        id,
        key: None,
        name: None,
        kind: Kind::Committed,
        parent: None,
        source: None,
        layer: None,
        pinned: false,
        transient: false,
        labels: BTreeMap::new(),
        created,
        updated: created,
        captured: None,
        operation: None,
        expires: None,
        taken: None,
    }
}

/// A row as a layer tells it.
fn read(told: &Told, layer: Option<LayerId>, stage: Stage) -> Result<Snapshot> {
    let id = |text: &Option<String>| text.as_deref().map(str::parse::<Id>).transpose();
    let time = |text: &Option<String>| text.as_deref().map(str::parse::<Time>).transpose();
    let created = told.created.parse()?;
    let kind = match (stage, told.kind.as_str()) {
        // An older loom's says nothing.
        (Stage::Sealed, _) | (_, "committed") => Kind::Committed,
        (_, "view") => Kind::View,
        _ => Kind::Active,
    };
    let whose = layer.is_some();
    Ok(Snapshot {
        key: told.key.clone().filter(|_| whose),
        name: told.name.clone().filter(|_| whose),
        kind,
        parent: id(&told.parent)?,
        source: id(&told.source)?,
        layer,
        pinned: told.pinned && whose,
        transient: told.transient && whose,
        labels: told.labels.clone(),
        captured: told.captured.clone(),
        operation: id(&told.operation)?,
        expires: time(&told.expires)?,
        taken: time(&told.taken)?,
        ..gone(told.id.parse()?, created)
    })
}

fn recovered(layer: LayerId) -> String {
    format!("recovered-{layer}")
}

/// Writes the new database, and puts it in the place of the one that is there, which is kept; answers where.
fn write(path: &Path, rows: &Rows) -> Result<Option<PathBuf>> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let fresh = beside(".new");
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::remove_file(beside(&format!(".new{suffix}"))) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &fresh)(e));
            }
            _ => {}
        }
    }
    crate::fault::point("check.rebuild.write")?;
    let store = Store::open(&fresh)?;
    let (layers, snapshots): (Vec<Layer>, Vec<Snapshot>) =
        (rows.layers.values().cloned().collect(), rows.snapshots.values().cloned().collect());
    store.write(move |rows| {
        // What a row names must be there before it.
        for layer in &layers {
            rows.insert_layer(&Layer { base: None, ..layer.clone() })?;
        }
        layers.iter().try_for_each(|layer| rows.update_layer(layer))?;
        for row in &snapshots {
            rows.insert(&Snapshot { parent: None, source: None, ..row.clone() })?;
        }
        snapshots.iter().try_for_each(|row| rows.update(row))
    })?;
    // Closed, it is one file.
    drop(store);
    let now = Time::now().0 / 1_000_000_000;
    let mut kept = HashMap::new();
    for suffix in ["", "-wal", "-shm"] {
        let old = beside(suffix);
        if old.exists() {
            crate::fault::point("check.rebuild.keep")?;
            let to = beside(&format!(".{now}{suffix}"));
            std::fs::rename(&old, &to).map_err(Error::io("rename", &old))?;
            kept.insert(suffix, to);
        }
    }
    crate::fault::point("check.rebuild.rename")?;
    std::fs::rename(&fresh, path).map_err(Error::io("rename", &fresh))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(directory).and_then(|root| root.sync_all()).map_err(Error::io("sync", directory))?;
    Ok(kept.remove(""))
}
