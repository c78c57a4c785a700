//! Everything that only looks, and Update, which changes nothing but labels.

use std::collections::{BTreeMap, HashSet};

use super::filter::Filters;
use super::{Counts, Listed, Seen, Snapshots, key};
use crate::error::{Error, Result};
use crate::layer::{Access, Method, Mount};
use crate::store::{Id, Kind, Layer, Rows, Snapshot, Time};

/// Rows that one look at the database takes: a lister may take its time between pages.
const PAGE: usize = 100;

impl Snapshots {
    /// containerd's Stat.
    pub fn stat(&self, key: &str) -> Result<Listed> {
        self.hear(key);
        self.store.read(|rows| listed(rows, keyed(rows, key)?))
    }

    /// containerd's Update: labels by the field paths `labels` (all) and `labels.<key>`; none is all. An
    /// empty value deletes a label.
    pub fn update(&self, key: &str, labels: BTreeMap<String, String>, fields: &[String]) -> Result<Listed> {
        key::check_labels(&labels)?;
        let fields = fields.to_vec();
        let key = key.to_owned();
        let (listed, layer) = self.store.write(move |rows| {
            let mut row = keyed(rows, &key)?;
            if fields.is_empty() {
                row.labels.clone_from(&labels);
            }
            for field in &fields {
                match field.strip_prefix("labels.") {
                    _ if field == "labels" => row.labels.clone_from(&labels),
                    Some(label) => match labels.get(label) {
                        Some(value) => _ = row.labels.insert(label.to_owned(), value.clone()),
                        None => _ = row.labels.remove(label),
                    },
                    None => {
                        return Err(Error::invalid(
                            format!("field path {field:?}"),
                            "only `labels` and `labels.<key>` can be updated",
                        ));
                    }
                }
            }
            row.labels.retain(|_, value| !value.is_empty());
            row.updated = Time::now();
            rows.update(&row)?;
            let layer = row.layer;
            Ok((listed(rows, row)?, layer))
        })?;
        self.tell_later(layer);
        Ok(listed)
    }

    /// containerd's Mounts.
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let (row, chain) = loop {
            let read = self.store.read(|rows| {
                let row = keyed(rows, key)?;
                let chain = chain(rows, &row)?;
                Ok((row, chain))
            })?;
            // Looked at behind the row: what began to change it before it was read is seen.
            if self.settled(key)? {
                break read;
            }
        };
        let access = match row.kind {
            Kind::Active => Access::Write,
            Kind::View => Access::Read,
            Kind::Committed => {
                return Err(Error::WrongKind {
                    key: key.to_owned(),
                    kind: row.kind,
                    needs: "only an active one or a view can be mounted; make one of it with Prepare or View",
                });
            }
        };
        self.mounts_of(key, &chain, access)
    }

    /// A page of what containerd lists, in the order of keys: those behind `after` that any of the filters
    /// lets through, and where to go on; None at the end.
    pub fn list(&self, filters: &Filters, after: Option<&str>) -> Result<(Vec<Listed>, Option<String>)> {
        let page = self.store.read(|rows| rows.listed(after, PAGE))?;
        let next = if page.len() < PAGE { None } else { page.last().and_then(|(row, _)| row.key.clone()) };
        let page = page.into_iter().map(|(row, parent)| shown(row, parent));
        Ok((page.filter(|listed| filters.matches(listed)).collect(), next))
    }

    /// The snapshot that containerd has under this key.
    pub fn by_key(&self, key: &str) -> Result<Option<Snapshot>> {
        self.store.read(|rows| rows.by_key(key))
    }

    /// The snapshot that containerd's clients know as `client_key` in `namespace`.
    pub fn by_client_key(&self, namespace: &str, client_key: &str) -> Result<Option<Snapshot>> {
        Ok(self.store.read(|rows| rows.by_client_key(namespace, client_key))?.pop())
    }

    /// The snapshot that a name, an id, a unique prefix of one, or a whole key of containerd's means.
    pub fn resolve(&self, reference: &str) -> Result<Snapshot> {
        let not_found = || Error::SnapshotNotFound(reference.to_owned());
        self.store.read(|rows| {
            if let Some(named) = rows.by_name(reference)? {
                return Ok(named);
            }
            if Id::may_begin(reference) {
                let mut found = rows.by_prefix(reference)?;
                match found.len() {
                    0 => {}
                    1 => return found.pop().ok_or_else(not_found),
                    _ => {
                        let matches = found.iter().map(|row| format!("{} ({})", row.id, row.title()));
                        return Err(Error::Ambiguous {
                            what: reference.to_owned(),
                            matches: matches.collect(),
                        });
                    }
                }
            }
            rows.by_key(reference)?.ok_or_else(not_found)
        })
    }

    /// A snapshot by its id.
    pub fn get(&self, id: Id) -> Result<Seen> {
        self.store.read(|rows| {
            let row = rows.snapshot(id)?.ok_or_else(|| Error::SnapshotNotFound(id.to_string()))?;
            seen(rows, row)
        })
    }

    /// How a snapshot's bytes are put in a second place; None once they are gone.
    pub fn method(&self, id: Id) -> Result<Option<Method>> {
        Ok(self.get(id)?.chain.first().map(|top| self.layers.method(top.home)))
    }

    /// The way from a snapshot over its sources, and parents where it has none, to its root.
    pub fn lineage(&self, id: Id) -> Result<Vec<Seen>> {
        self.store.read(|rows| {
            let mut path = Vec::new();
            let mut next = Some(id);
            while let Some(id) = next.take() {
                let row = rows.snapshot(id)?.ok_or_else(|| Error::SnapshotNotFound(id.to_string()))?;
                next = row.source.or(row.parent);
                path.push(seen(rows, row)?);
            }
            Ok(path)
        })
    }

    /// The state that a snapshot was made of, for telling what it has changed: the first committed one on its
    /// lineage whose bytes are not its own. None where it began with nothing.
    ///
    /// Of a container that is what it was cloned from or rolled back to, else its image; so it is of a snapshot of that
    /// container. A fork of a live container has begun with a state that nobody keeps: it is told what that
    /// container was made of. Fails where the bytes of its image are gone.
    pub fn made_of(&self, id: Id) -> Result<Option<Snapshot>> {
        let path = self.lineage(id)?;
        let own = path.first().and_then(|seen| seen.snapshot.layer);
        for (Seen { snapshot: below, .. }, Seen { snapshot, .. }) in path.iter().zip(path.iter().skip(1)) {
            let by_source = below.source.is_some();
            match snapshot.layer {
                _ if snapshot.kind != Kind::Committed => {}
                Some(layer) if Some(layer) != own => return Ok(Some(snapshot.clone())),
                Some(_) => {}
                // A state that is gone leaves those before it. What lies below an image that is gone is a part
                // of it, and never was a state of anything.
                None if by_source => {}
                None => {
                    return Err(Error::precondition(
                        format!("what snapshot {:?} was made of", below.title()),
                        "its bytes are gone; name a state to compare it with",
                    ));
                }
            }
        }
        Ok(None)
    }

    /// True where the way from a snapshot to its root, or over its parents, passes one that containerd's clients call
    /// `client_key`, in whatever namespace, or one with the bytes of an image's layer of that name: a layer that was
    /// made portable has two.
    pub fn descends(&self, id: Id, client_key: &str) -> Result<bool> {
        self.store.read(|rows| {
            let layers: HashSet<_> =
                rows.by_ref(client_key)?.into_iter().filter_map(|row| row.layer).collect();
            let called = |row: &Snapshot| {
                row.key.as_deref().map(key::client) == Some(client_key)
                    || row.layer.is_some_and(|layer| layers.contains(&layer))
            };
            let above: [fn(&Snapshot) -> Option<Id>; 2] = [|row| row.parent, |row| row.source.or(row.parent)];
            for above in above {
                let mut next = Some(id);
                while let Some(row) = next.map(|id| rows.snapshot(id)).transpose()?.flatten() {
                    if called(&row) {
                        return Ok(true);
                    }
                    next = above(&row);
                }
            }
            Ok(false)
        })
    }

    /// Every row, oldest first.
    pub fn all(&self) -> Result<Vec<Seen>> {
        self.store.read(|rows| {
            let layers: std::collections::HashMap<_, _> =
                rows.layers()?.into_iter().map(|layer| (layer.id, layer)).collect();
            let chained = |row: Snapshot| {
                let mut chain = Vec::new();
                let mut next = row.layer;
                while let Some(layer) = next.and_then(|id| layers.get(&id)) {
                    next = layer.base;
                    chain.push(layer.clone());
                }
                Seen { snapshot: row, chain }
            };
            Ok(rows.snapshots()?.into_iter().map(chained).collect())
        })
    }

    /// How many there are.
    pub fn counts(&self) -> Result<Counts> {
        let (listed, held, layers) = self.store.read(|rows| rows.counts())?;
        Ok(Counts { listed, held, layers })
    }
}

fn keyed(rows: &Rows<'_>, key: &str) -> Result<Snapshot> {
    rows.by_key(key)?.ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))
}

fn chain(rows: &Rows<'_>, row: &Snapshot) -> Result<Vec<Layer>> {
    row.layer.map_or_else(|| Ok(Vec::new()), |layer| rows.chain(layer))
}

fn seen(rows: &Rows<'_>, snapshot: Snapshot) -> Result<Seen> {
    let chain = chain(rows, &snapshot)?;
    Ok(Seen { snapshot, chain })
}

fn listed(rows: &Rows<'_>, row: Snapshot) -> Result<Listed> {
    let parent = row.parent.map(|parent| rows.snapshot(parent)).transpose()?.flatten();
    Ok(shown(row, parent.and_then(|parent| parent.key)))
}

/// A parent without a key is not listed, and a collector that finds such a parent named stops short.
fn shown(row: Snapshot, parent: Option<String>) -> Listed {
    Listed {
        key: row.key.unwrap_or_default(),
        parent: parent.unwrap_or_default(),
        kind: row.kind,
        labels: row.labels,
        created: row.created,
        updated: row.updated,
    }
}
