//! The core: what a snapshot is, and every rule about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::layer::{Layers, Method, Mount};
use crate::store::{Id, Snapshot, Store, Usage};

pub mod filter;

/// The label on Prepare that makes the new snapshot continue from another one.
pub const FORK_LABEL: &str = "containerd.io/snapshot/loom.fork-of";

/// What a branch cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// How its bytes were put in place.
    pub method: Method,
    /// How long the source stood still.
    pub paused: Duration,
    /// The whole.
    pub total: Duration,
}

/// Makes a source stand still around the last step of a branch.
pub trait Freezer {
    /// Stops whatever writes to the source. Called at most once, and always followed by `thaw`.
    fn freeze(&mut self) -> Result<()>;
    /// Lets it go on. Called after every `freeze`, failed ones too.
    fn thaw(&mut self) -> Result<()>;
}

/// A source that nothing writes to needs no stopping.
#[derive(Debug)]
pub struct Still;

impl Freezer for Still {
    fn freeze(&mut self) -> Result<()> {
        Ok(())
    }

    fn thaw(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What becomes of a state once it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// loom keeps it under this name.
    Named(String),
    /// It is kept while a request needs it, then released; any number of clones may come from it.
    ForClones,
    /// As `ForClones`, for exactly one clone, which takes its bytes over instead of copying them.
    ForOne,
}

/// A request for a state of an active snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// What becomes of it.
    pub keep: Keep,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The container it is a state of (`Snapshot::captured`).
    pub captured: Option<String>,
}

/// The limits of the fork label, from the configuration.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Namespaces in which the fork label is refused.
    pub deny_fork_label: Vec<String>,
}

/// The core. Its calls block; a server runs each on a thread of its own and lets it run to its end.
#[derive(Debug)]
pub struct Snapshots {
    store: Store,
    layers: Layers,
    rules: Rules,
}

/// Lets the fork label through for one snapshot, in whatever namespace, while it lives.
#[derive(Debug)]
pub struct Grant {
    core: Arc<Snapshots>,
    token: String,
}

impl Grant {
    /// The value of the fork label that uses it.
    pub fn label(&self) -> String {
        format!("grant:{}", self.token)
    }
}

/// How often something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Snapshots with a key.
    pub listed: u64,
    /// Snapshots that loom keeps.
    pub held: u64,
    /// Layers.
    pub layers: u64,
}

/// A snapshot with what is told about its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its row.
    pub snapshot: Snapshot,
    /// The layers that a mount of it stacks, topmost first; empty once its bytes are gone.
    pub chain: Vec<crate::store::Layer>,
}

impl Snapshots {
    /// Opens the core over a store and layers, and puts right what a crash left.
    pub fn open(store: Store, layers: Layers, rules: Rules) -> Result<Arc<Self>> {
        todo!()
    }
    /// Where bytes lie.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }
    /// The rows.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// containerd's Prepare.
    pub fn prepare(&self, key: &str, parent: &str, labels: BTreeMap<String, String>) -> Result<Vec<Mount>> {
        todo!()
    }
    /// containerd's View.
    pub fn view(&self, key: &str, parent: &str, labels: BTreeMap<String, String>) -> Result<Vec<Mount>> {
        todo!()
    }
    /// containerd's Commit.
    pub fn commit(&self, name: &str, key: &str, labels: BTreeMap<String, String>) -> Result<()> {
        todo!()
    }
    /// containerd's Remove.
    pub fn remove(&self, key: &str) -> Result<()> {
        todo!()
    }
    /// containerd's Stat.
    pub fn stat(&self, key: &str) -> Result<Listed> {
        todo!()
    }
    /// containerd's Update. No fields: all labels are replaced.
    pub fn update(&self, key: &str, labels: BTreeMap<String, String>, fields: &[String]) -> Result<Listed> {
        todo!()
    }
    /// containerd's Mounts.
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        todo!()
    }
    /// containerd's Usage.
    pub fn usage(&self, key: &str) -> Result<Usage> {
        todo!()
    }
    /// A page of what containerd lists, in the order of keys: those behind `after` that any of the
    /// filters lets through, and where to go on; None at the end.
    pub fn list(
        &self,
        filters: &filter::Filters,
        after: Option<&str>,
    ) -> Result<(Vec<Listed>, Option<String>)> {
        todo!()
    }
    /// containerd's Cleanup: drains what is in the trash now.
    pub fn cleanup(&self) -> Result<()> {
        todo!()
    }

    /// Makes a committed snapshot of an active one, which lives on.
    pub fn snapshot(&self, source: Id, take: &Take, freezer: &mut dyn Freezer) -> Result<(Snapshot, Cost)> {
        todo!()
    }
    /// Lets the fork label through for a snapshot.
    pub fn grant(self: &Arc<Self>, id: Id) -> Grant {
        todo!()
    }
    /// Ends the hold of a transient state; what nothing else needs goes.
    pub fn release(&self, id: Id) -> Result<()> {
        todo!()
    }
    /// Keeps a snapshot until it is unpinned.
    pub fn pin(&self, id: Id) -> Result<Snapshot> {
        todo!()
    }
    /// Ends a pin.
    pub fn unpin(&self, id: Id) -> Result<()> {
        todo!()
    }
    /// Removes what loom keeps.
    pub fn forget(&self, id: Id) -> Result<()> {
        todo!()
    }
    /// The snapshot with this key, that containerd has.
    pub fn by_key(&self, key: &str) -> Result<Option<Snapshot>> {
        todo!()
    }
    /// The active snapshot or view that containerd knows as `client_key` in `namespace` (a key
    /// `<namespace>/<sequence>/<client key>`).
    pub fn by_client_key(&self, namespace: &str, client_key: &str) -> Result<Option<Snapshot>> {
        todo!()
    }
    /// The snapshot that a name, an id or a unique prefix of one means; `SnapshotNotFound` or `Ambiguous`.
    pub fn resolve(&self, reference: &str) -> Result<Snapshot> {
        todo!()
    }
    /// A snapshot by its id.
    pub fn get(&self, id: Id) -> Result<Seen> {
        todo!()
    }
    /// From a snapshot over sources and parents to its root.
    pub fn lineage(&self, id: Id) -> Result<Vec<Seen>> {
        todo!()
    }
    /// Every row, oldest first (created, then id).
    pub fn all(&self) -> Result<Vec<Seen>> {
        todo!()
    }
    /// How many there are.
    pub fn counts(&self) -> Result<Counts> {
        todo!()
    }
}

/// A snapshot as containerd sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its parent's key, or empty.
    pub parent: String,
    /// What it is.
    pub kind: crate::store::Kind,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, or committed.
    pub created: crate::store::Time,
    /// When it last changed.
    pub updated: crate::store::Time,
}
