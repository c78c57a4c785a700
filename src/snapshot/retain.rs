//! Retention: what expires, and what a prune is about.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::guard::unneeded;
use super::remove::collect;
use super::{Pruned, Snapshots};
use crate::error::{Error, Result};
use crate::store::{Id, Kind, Snapshot, Time};

/// The label of nerdctl's name for a container, which is not its id.
const NERDCTL_NAME: &str = "nerdctl/name";

impl Snapshots {
    /// Those that have expired by `now`, are not pinned, and still have their bytes.
    pub fn expired(&self, now: Time) -> Result<Vec<Snapshot>> {
        self.store.read(|rows| rows.expired(now))
    }

    /// When the next one expires.
    pub fn next_expiry(&self) -> Result<Option<Time>> {
        self.store.read(|rows| rows.next_expiry())
    }

    /// Ends loom's hold on one that has expired; one whose expiry was changed or that was pinned meanwhile stays,
    /// and so does one that containerd still has: its container is to be removed first. `Busy` while a request
    /// needs it ([`Snapshots::need`]).
    pub fn expire(&self, id: Id, now: Time) -> Result<()> {
        let needs = Arc::clone(&self.needs);
        let ended = self.store.write(move |rows| {
            let row = rows.snapshot(id)?.filter(|row| {
                let over = row.expires.is_some_and(|expires| expires <= now);
                over && !row.pinned && row.key.is_none()
            });
            let Some(row) = row else { return Ok(Vec::new()) };
            unneeded(&needs, &row)?;
            let row = Snapshot { name: None, expires: None, ..row };
            rows.update(&row)?;
            collect(rows, row)
        })?;
        self.end(ended);
        Ok(())
    }

    /// Keeps one for good that was to expire.
    pub fn keep(&self, id: Id) -> Result<()> {
        let layer = self.store.write(move |rows| match rows.snapshot(id)? {
            Some(row) => rows.update(&Snapshot { expires: None, ..row.clone() }).map(|()| row.layer),
            None => Err(Error::SnapshotNotFound(id.to_string())),
        })?;
        self.tell_later(layer);
        Ok(())
    }

    /// The snapshots that loom keeps by a name, unpinned, that the request is about, oldest first.
    pub fn prunable(&self, pruned: &Pruned) -> Result<Vec<Snapshot>> {
        let rows = self.store.read(|rows| rows.snapshots())?;
        Ok(rows.into_iter().filter(|row| pruned.fits(row)).collect())
    }

    /// The paths, at most `limit`, in an active snapshot whose contents, attributes or names have changed behind
    /// `since` (`Snapshot::taken`), relative to its root. Only what lies in its own layer is looked at, and in those
    /// that were its own until behind `since`: nothing else can have changed.
    ///
    /// A write through a mapping that was dirty at that moment is seen once the kernel has written the page out,
    /// and what is changed while the machine's clock is set back is not seen.
    pub fn changed_since(&self, id: Id, since: Time, limit: usize) -> Result<Vec<String>> {
        let gone = || Error::SnapshotNotFound(id.to_string());
        let row = self.store.read(|rows| rows.snapshot(id))?.ok_or_else(gone)?;
        if row.kind != Kind::Active {
            return Err(Error::WrongKind {
                key: row.title(),
                kind: row.kind,
                needs: "only an active one can change",
            });
        }
        let chain = self.read_chain(id)?.ok_or_else(gone)?;
        let (top, below) = chain.layers().split_first().ok_or_else(gone)?;
        let mut changed = self.layers.changed_since(top, since, limit)?;
        for layer in below.iter().filter(|layer| layer.still.is_some_and(|still| still > since)) {
            let before: HashSet<_> = changed.iter().cloned().collect();
            let more = self.layers.changed_since(layer, since, limit)?;
            changed.extend(more.into_iter().filter(|path| !before.contains(path)));
            changed.truncate(limit);
        }
        Ok(changed)
    }
}

impl Pruned {
    fn fits(&self, row: &Snapshot) -> bool {
        let kept = row.name.is_some() && !row.pinned && row.key.is_none();
        let old = self.before.is_none_or(|before| row.created < before);
        let labelled = self.labels.iter().all(|(label, wanted)| {
            row.labels.get(label).is_some_and(|value| wanted.is_empty() || wanted == value)
        });
        kept && old
            && labelled
            && self.container.as_ref().is_none_or(|(namespace, container)| {
                row.captured.as_deref().is_some_and(|captured| is_of(captured, namespace, container))
            })
    }
}

/// True where a state is one of this container, called by its id or by nerdctl's name for it.
fn is_of(captured: &str, namespace: &str, container: &str) -> bool {
    // What cannot be read is nobody's.
    let captured: Value = serde_json::from_str(captured).unwrap_or_default();
    let is = |value: Option<&Value>, wanted: &str| value.and_then(Value::as_str) == Some(wanted);
    let name = captured.get("labels").and_then(|labels| labels.get(NERDCTL_NAME));
    is(captured.get("namespace"), namespace) && (is(captured.get("id"), container) || is(name, container))
}
