//! SQLite: the only place with SQL.

use std::path::Path;

use crate::error::Result;

pub mod record;

pub use record::{Home, Id, Kind, Layer, LayerId, Pause, Snapshot, Stage, Time, Usage};

/// The database: one writer that groups concurrent changes into one sync, and readers beside it.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Opens or makes the database, and brings an older one up to date.
    pub fn open(path: &Path) -> Result<Self> {
        todo!()
    }

    /// Runs `change` in a transaction; answers when it is on disk. Where `change` fails, nothing of
    /// it stays. It may run on another thread, beside others' changes in one transaction.
    pub fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Rows<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        todo!()
    }

    /// Runs `look` on one consistent state of the database.
    pub fn read<T>(&self, look: impl FnOnce(&Rows<'_>) -> Result<T>) -> Result<T> {
        todo!()
    }
}

/// The rows, inside a transaction.
#[derive(Debug)]
pub struct Rows<'a> {
    conn: &'a rusqlite::Connection,
}

impl Rows<'_> {
    // Snapshots.
    /// By id.
    pub fn snapshot(&self, id: Id) -> Result<Option<Snapshot>> {
        todo!()
    }
    /// By containerd's key.
    pub fn by_key(&self, key: &str) -> Result<Option<Snapshot>> {
        todo!()
    }
    /// By loom's name.
    pub fn by_name(&self, name: &str) -> Result<Option<Snapshot>> {
        todo!()
    }
    /// Those whose id begins so.
    pub fn by_prefix(&self, prefix: &str) -> Result<Vec<Snapshot>> {
        todo!()
    }
    /// Those whose key is `<namespace>/<sequence>/<client key>`.
    pub fn by_client_key(&self, namespace: &str, client_key: &str) -> Result<Vec<Snapshot>> {
        todo!()
    }
    /// Those with a key, in the order of keys, behind `after`, at most `limit`, each with its parent's key
    /// (None where it has none or the parent has no key).
    pub fn listed(&self, after: Option<&str>, limit: usize) -> Result<Vec<(Snapshot, Option<String>)>> {
        todo!()
    }
    /// Committed ones with a key whose label `containerd.io/snapshot.ref` is this.
    pub fn by_ref(&self, reference: &str) -> Result<Vec<Snapshot>> {
        todo!()
    }
    /// Those whose parent this is.
    pub fn children(&self, id: Id) -> Result<Vec<Snapshot>> {
        todo!()
    }
    /// Those whose source this is.
    pub fn branches(&self, id: Id) -> Result<Vec<Snapshot>> {
        todo!()
    }
    /// All, by created, then id.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        todo!()
    }
    /// Adds one; `KeyExists` or `NameExists` where its key or name is taken.
    pub fn insert(&self, snapshot: &Snapshot) -> Result<()> {
        todo!()
    }
    /// Changes one; errors as `insert`, `SnapshotNotFound` where it is gone.
    pub fn update(&self, snapshot: &Snapshot) -> Result<()> {
        todo!()
    }
    /// Deletes one.
    pub fn delete(&self, id: Id) -> Result<()> {
        todo!()
    }
    /// (with a key, held by name or pin, layers)
    pub fn counts(&self) -> Result<(u64, u64, u64)> {
        todo!()
    }

    // Layers.
    /// By id.
    pub fn layer(&self, id: LayerId) -> Result<Option<Layer>> {
        todo!()
    }
    /// All.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        todo!()
    }
    /// A layer and those it is stacked on, topmost first.
    pub fn chain(&self, id: LayerId) -> Result<Vec<Layer>> {
        todo!()
    }
    /// Adds one.
    pub fn insert_layer(&self, layer: &Layer) -> Result<()> {
        todo!()
    }
    /// Changes one.
    pub fn update_layer(&self, layer: &Layer) -> Result<()> {
        todo!()
    }
    /// Deletes one.
    pub fn delete_layer(&self, id: LayerId) -> Result<()> {
        todo!()
    }
    /// The snapshots that stand on it (`Snapshot::layer`) plus the layers that are stacked on it.
    pub fn standing_on(&self, id: LayerId) -> Result<u64> {
        todo!()
    }

    // Pauses.
    /// Writes one down; once is enough.
    pub fn insert_pause(&self, pause: &Pause) -> Result<()> {
        todo!()
    }
    /// Deletes one.
    pub fn delete_pause(&self, pause: &Pause) -> Result<()> {
        todo!()
    }
    /// All.
    pub fn pauses(&self) -> Result<Vec<Pause>> {
        todo!()
    }
}
