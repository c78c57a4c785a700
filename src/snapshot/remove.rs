//! Remove, and what goes with a snapshot: rows that no lineage needs, layers that nothing stands on.

use std::sync::Arc;

use super::Snapshots;
use super::chores::Chore;
use super::guard::unneeded;
use crate::error::{Error, Result};
use crate::store::{Home, Id, Kind, Layer, LayerId, Rows, Snapshot, Stage, Time};

/// A layer whose directory is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) home: Home,
    pub(super) layer: LayerId,
    /// True where a row (`Doomed`) still speaks of it: a sealed layer keeps one until its directory is in
    /// the trash, so that a crash between the two does not leave what looks like a lost layer.
    pub(super) row: bool,
}

/// What a removal has come to.
enum Removed {
    /// It is done, but for these directories; this sealed layer may have others on it.
    Ended(Vec<Ended>, Option<LayerId>),
    /// Nothing has changed: the snapshot is pinned and active, and its layer is to be sealed first.
    Pinned(Box<(Snapshot, Layer)>),
}

impl Snapshots {
    /// containerd's Remove: the key goes, and what nothing else needs goes with it. A snapshot that loom
    /// holds stays as loom's own; an active one is committed for that.
    pub fn remove(&self, key: &str) -> Result<()> {
        // A row must not end while a commit seals its layer: a crash would leave what looks like a lost one.
        let _seal = self.take_seal(key)?;
        let removed = {
            let key = key.to_owned();
            self.store.write(move |rows| {
                let row = rows.by_key(&key)?.ok_or_else(|| Error::SnapshotNotFound(key.clone()))?;
                if let Some(child) = rows.listed_child(row.id)? {
                    return Err(Error::HasChild { key, child: child.title() });
                }
                if row.pinned && row.kind == Kind::Active {
                    let layer = row.layer.map(|layer| rows.layer(layer)).transpose()?.flatten();
                    let layer = layer.ok_or(Error::SnapshotNotFound(key))?;
                    return Ok(Removed::Pinned(Box::new((row, layer))));
                }
                let row = Snapshot { key: None, ..row };
                rows.update(&row)?;
                let layer = row.layer.filter(|_| row.kind == Kind::Committed);
                Ok(Removed::Ended(collect(rows, row)?, layer))
            })?
        };
        match removed {
            Removed::Ended(ended, layer) => {
                self.tell_later(layer.filter(|layer| ended.iter().all(|ended| ended.layer != *layer)));
                self.end(ended);
            }
            Removed::Pinned(pinned) => {
                let (active, layer) = *pinned;
                let updated = Time::now();
                let held = Snapshot { key: None, kind: Kind::Committed, updated, ..active };
                self.seal(&held, &layer)?;
            }
        }
        Ok(())
    }

    /// Removes what loom keeps: its name goes, and with it what nothing else needs. `Busy` while a request needs
    /// it ([`Snapshots::need`]).
    pub fn forget(&self, id: Id) -> Result<()> {
        let needs = Arc::clone(&self.needs);
        self.drop_hold(id, move |row| {
            if row.layer.is_none() {
                return Err(Error::SnapshotNotFound(row.id.to_string()));
            }
            if row.key.is_some() {
                return Err(Error::OwnedByContainerd(row.title()));
            }
            if row.pinned {
                return Err(Error::Pinned(row.title()));
            }
            unneeded(&needs, row)?;
            row.name = None;
            Ok(())
        })
    }

    /// Ends the hold of a state that was taken for a request. One that has gone already is no error, and
    /// one that cannot be let go now is let go as soon as it can.
    pub fn release(&self, id: Id) -> Result<()> {
        self.let_go(id).inspect_err(|_| self.leave(Chore::Release(id)))
    }

    pub(super) fn let_go(&self, id: Id) -> Result<()> {
        let released = self.drop_hold(id, |row| {
            row.transient = false;
            Ok(())
        });
        match released {
            Err(Error::SnapshotNotFound(_)) => Ok(()),
            other => other,
        }
    }

    /// Changes a row so that it is held by less, and ends what nothing holds any more.
    pub(super) fn drop_hold(
        &self,
        id: Id,
        change: impl FnOnce(&mut Snapshot) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (ended, layer) = self.store.write(move |rows| {
            let mut row = rows.snapshot(id)?.ok_or_else(|| Error::SnapshotNotFound(id.to_string()))?;
            change(&mut row)?;
            rows.update(&row)?;
            let layer = row.layer;
            Ok((collect(rows, row)?, layer))
        })?;
        self.tell_later(layer.filter(|layer| ended.iter().all(|ended| ended.layer != *layer)));
        self.end(ended);
        Ok(())
    }

    /// Moves ended layers to the trash.
    pub(super) fn end(&self, ended: Vec<Ended>) {
        for layer in ended {
            self.discard(layer);
        }
    }

    /// containerd's Cleanup: drains what is in the trash, and what is still to be moved there.
    pub fn cleanup(&self) -> Result<()> {
        self.wait_for_chores();
        self.layers.reclaim().map(|_| ())
    }
}

/// Ends a row that neither containerd nor loom keeps, the layers that nothing stands on any more, and
/// the rows above it that were kept for its lineage only.
pub(super) fn collect(rows: &Rows<'_>, row: Snapshot) -> Result<Vec<Ended>> {
    let mut ended = Vec::new();
    let mut next = vec![row];
    while let Some(row) = next.pop() {
        if row.key.is_some() || row.held() {
            continue;
        }
        let layer = row.layer;
        if rows.lineage_needs(row.id)? {
            rows.update(&Snapshot { layer: None, ..row })?;
        } else {
            rows.delete(row.id)?;
            for above in [row.parent, row.source].into_iter().flatten() {
                // The same row may be both.
                if next.iter().all(|row| row.id != above) {
                    next.extend(rows.snapshot(above)?.filter(|above| above.layer.is_none()));
                }
            }
        }
        if let Some(layer) = layer {
            end_layers(rows, layer, &mut ended)?;
        }
    }
    Ok(ended)
}

/// Ends a layer that nothing stands on, those below it that only it stood on, and those that it has the place of.
pub(super) fn end_layers(rows: &Rows<'_>, top: LayerId, ended: &mut Vec<Ended>) -> Result<()> {
    let mut next = vec![top];
    while let Some(id) = next.pop() {
        let Some(layer) = rows.layer(id)? else { continue };
        if layer.stage == Stage::Doomed || rows.standing_on(id)? > 0 {
            continue;
        }
        // What is or may be sealed keeps a row, stacked on nothing, until its directory is in the trash.
        let row = layer.stage != Stage::Writable;
        next.extend(layer.base.iter().chain(&layer.instead_of));
        ended.push(Ended { home: layer.home, layer: id, row });
        if row {
            rows.update_layer(&Layer { stage: Stage::Doomed, base: None, ..layer })?;
        } else {
            rows.delete_layer(id)?;
        }
    }
    Ok(())
}
