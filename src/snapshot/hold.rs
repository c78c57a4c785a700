//! Pins: a hold that keeps a snapshot whatever containerd says, until it is unpinned.

use super::Snapshots;
use crate::error::{Error, Result};
use crate::store::{Id, Kind, Snapshot};

impl Snapshots {
    /// Keeps a snapshot until it is unpinned; pinning twice is once. `captured` says which container it is
    /// a state of, where the caller knows.
    pub fn pin(&self, id: Id, captured: Option<String>) -> Result<Snapshot> {
        let row = self.store.write(move |rows| {
            let row = rows.snapshot(id)?.filter(|row| row.layer.is_some());
            let row = row.ok_or_else(|| Error::SnapshotNotFound(id.to_string()))?;
            if row.kind == Kind::View {
                return Err(Error::WrongKind {
                    key: row.title(),
                    kind: row.kind,
                    needs: "a view has no state of its own; pin its parent",
                });
            }
            let row = Snapshot { pinned: true, captured: captured.or(row.captured), ..row };
            rows.update(&row)?;
            Ok(row)
        })?;
        self.tell_later(row.layer);
        Ok(row)
    }

    /// Ends a pin; what nothing else keeps goes with it.
    pub fn unpin(&self, id: Id) -> Result<()> {
        self.drop_hold(id, |row| {
            if !row.pinned {
                return Err(Error::precondition(format!("snapshot {:?}", row.title()), "it is not pinned"));
            }
            row.pinned = false;
            Ok(())
        })
    }
}
