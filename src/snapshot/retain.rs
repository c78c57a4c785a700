//! Retention: what expires, and what a prune is about.

use super::{Pruned, Snapshots};
use crate::error::Result;
use crate::store::{Id, Snapshot, Time};

impl Snapshots {
    /// Those that have expired by `now`, are not pinned, and still have their bytes.
    pub fn expired(&self, now: Time) -> Result<Vec<Snapshot>> {
        self.store.read(|rows| rows.expired(now))
    }

    /// When the next one expires.
    pub fn next_expiry(&self) -> Result<Option<Time>> {
        self.store.read(|rows| rows.next_expiry())
    }

    /// Ends loom's hold on one that has expired; one whose expiry was changed or that was pinned meanwhile stays.
    pub fn expire(&self, id: Id, now: Time) -> Result<()> {
        todo!()
    }

    /// The snapshots that loom keeps by a name, unpinned, that the request is about, oldest first.
    pub fn prunable(&self, pruned: &Pruned) -> Result<Vec<Snapshot>> {
        todo!()
    }

    /// The paths, at most `limit`, in an active snapshot whose contents, attributes or names have changed behind
    /// `since` (`Snapshot::taken`), relative to its root. Only what lies in its own layer is looked at: nothing
    /// else can have changed.
    pub fn changed_since(&self, id: Id, since: Time, limit: usize) -> Result<Vec<String>> {
        todo!()
    }
}
