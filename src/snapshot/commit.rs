//! Commit: an active snapshot becomes an immutable one under another name.

use std::collections::BTreeMap;

use super::remove::collect;
use super::{FORK_LABEL, Snapshots, key};
use crate::error::{Error, Result};
use crate::store::{Kind, Layer, LayerId, Rows, Snapshot, Stage, Time};

impl Snapshots {
    /// containerd's Commit. Files, then `layer.json`, then the row: all of it is on disk when it answers.
    pub fn commit(&self, name: &str, key: &str, mut labels: BTreeMap<String, String>) -> Result<()> {
        key::check(name)?;
        key::check_labels(&labels)?;
        labels.remove(FORK_LABEL);
        if key::client(key).strip_suffix(key::CHOWNED_SUFFIX) == Some(key::client(name)) {
            labels.insert(key::CHOWNED_LABEL.to_owned(), "true".to_owned());
        }
        let _name = self.take_key(name)?;
        let _seal = self.take_seal(key)?;
        let (active, layer) = self.store.read(|rows| {
            if rows.by_key(name)?.is_some() {
                return Err(Error::KeyExists(name.to_owned()));
            }
            let active = rows.by_key(key)?.ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))?;
            if active.kind != Kind::Active {
                return Err(Error::WrongKind {
                    key: key.to_owned(),
                    kind: active.kind,
                    needs: "only an active one can be committed",
                });
            }
            let layer = active.layer.map(|layer| rows.layer(layer)).transpose()?.flatten();
            let layer = layer.ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))?;
            Ok((active, layer))
        })?;
        let now = Time::now();
        let committed = Snapshot {
            key: Some(name.to_owned()),
            kind: Kind::Committed,
            labels,
            created: now,
            updated: now,
            // What containerd commits is no branch's any more.
            expires: None,
            ..active
        };
        self.seal(&committed, &layer)?;
        self.measure_later(layer.id);
        Ok(())
    }

    /// Seals the layer of an active snapshot, whose seal the caller has taken, and writes the row that says
    /// so. Where that fails the snapshot is as active as it was.
    pub(super) fn seal(&self, committed: &Snapshot, layer: &Layer) -> Result<()> {
        let manifest = self.manifest(committed, layer)?;
        let sealed = self.layers.seal(layer, &manifest).and_then(|()| {
            crate::fault::point("snapshot.commit")?;
            let (committed, layer) = (committed.clone(), layer.clone());
            self.store.write(move |rows| {
                let now = rows.snapshot(committed.id)?;
                let now = now.filter(|row| row.kind == Kind::Active && row.layer == Some(layer.id));
                let now = now.ok_or_else(|| Error::SnapshotNotFound(committed.title()))?;
                set_sealed(rows, layer.id)?;
                // A pin may have come or ended meanwhile; what is removed may have no other hold.
                let row = Snapshot { pinned: now.pinned, captured: now.captured, ..committed };
                rows.update(&row)?;
                collect(rows, row)
            })
        });
        if sealed.is_err()
            && let Err(error) = self.layers.unseal(layer)
        {
            tracing::warn!(layer = %layer.id, %error, "a commit that failed left its layer sealed; the next start undoes that");
        }
        self.end(sealed?);
        Ok(())
    }
}

/// Writes that a layer is sealed. Its row is read anew: what it is stacked on may have been flattened meanwhile.
pub(super) fn set_sealed(rows: &Rows<'_>, layer: LayerId) -> Result<()> {
    let row =
        rows.layer(layer)?.ok_or_else(|| Error::Internal(format!("layer {layer} was sealed and is gone")))?;
    rows.update_layer(&Layer { stage: Stage::Sealed, ..row })
}
