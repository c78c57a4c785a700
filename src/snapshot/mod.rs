//! The core: what a snapshot is, and every rule about it. No SQL, no sockets, no ioctls.
//!
//! Snapshots are names, layers are bytes: two tables, two graphs.
//!
//! ```text
//!   snapshots                                   layers
//!   ─────────                                   ──────
//!   image ◄─parent─ web (active) ───stands on──► 7 (writable) ─base─► 3 (sealed)
//!     │               ▲ source                                         ▲
//!     └───────────────│───────────stands on─────────────────────────────┘
//!                   try (committed, held by loom) ──► 8 (sealed) ─base─► 3
//! ```
//!
//! - A snapshot reports a *parent*; a branch also has a *source*. Both are rows, and a row outlives its
//!   key and its bytes while the lineage of another row passes through it.
//! - A layer has a *base*, what is really stacked below it. An active snapshot owns its top layer alone;
//!   any number of snapshots stand on a sealed one. A layer goes when no snapshot stands on it and no
//!   layer is stacked on it.
//! - A layer may come to have the place of another that shows the same (`flatten`): a chain of generations stays
//!   shallow.
//! - containerd owns what has a key; loom *holds* what has a name, a pin, or a request under way.
//! - A key may move to a new row, with other content (`replace`); the row that had it keeps its id and lineage.
//! - A state has the moment that its source stood still (`moment`): what its source changed since can be told.
//!
//! The stages of a layer, and what a restart does with one that it finds in each:
//!
//! ```text
//!   (none) ──► Filling ──► Sealed ──► Doomed ──► trash/ ──► gone
//!      │       discarded    ▲          discarded
//!      └─────► Writable ────┘
//!              kept; a seal that was cut off is undone
//!
//! A layer `Filling` that `was` another is that one's directory: it is given back (`seal`).
//! ```
//!
//! A crash loses nothing that was answered and leaves nothing that was not: directories are made before
//! their rows, and rows end before their directories (`start` has the rest).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::layer::{Layers, Method};
use crate::pool::Pool;
use crate::store::{Id, Kind, Layer, LayerId, Snapshot, Store, Time};

mod archive;
mod asked;
mod branch;
mod chores;
mod commit;
pub mod filter;
mod flatten;
mod fork;
mod guard;
mod hold;
pub mod key;
mod limit;
mod moment;
mod pool;
mod prepare;
mod publish;
mod read;
mod reclaimer;
mod remove;
mod replace;
mod retain;
mod seal;
mod size;
mod start;
pub(crate) mod tell;
#[cfg(test)]
mod tests;
mod usage;

pub use asked::Listening;
pub use fork::Grant;
pub use guard::{Chain, Needed};
pub use limit::{LIMIT_LABEL, Limited};
pub use size::Size;

/// The label on Prepare that makes the new snapshot continue from another one.
pub const FORK_LABEL: &str = "containerd.io/snapshot/loom.fork-of";

/// What a branch cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// How its bytes were put in place.
    pub method: Method,
    /// How long the source stood still; nothing where nothing ran.
    #[serde(rename = "paused_us", with = "micros")]
    pub paused: Duration,
    /// The whole.
    #[serde(rename = "total_us", with = "micros")]
    pub total: Duration,
}

/// Durations as they are told everywhere: whole microseconds.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

/// Makes a source stand still around the last step of a branch: `ready`, then `freeze`, `still` and `thaw`.
pub trait Freezer {
    /// Asks the source to be ready for it, before what is dirty is flushed. Called at most once; `thaw` follows
    /// whatever it answers.
    fn ready(&mut self) -> Result<()> {
        Ok(())
    }
    /// What is to be done beside the core's own step while nothing writes. Called at most once, behind it.
    fn still(&mut self) -> Result<()> {
        Ok(())
    }
    /// Stops whatever writes to the source; answers whether anything ran. Called at most once, and always
    /// followed by `thaw`.
    fn freeze(&mut self) -> Result<bool>;
    /// Lets it go on. Called after every `ready` and `freeze`, failed ones too.
    fn thaw(&mut self) -> Result<()>;
}

/// Finds what stops the container of a live snapshot, for a fork that was asked for by label.
pub trait Freezers: Send + Sync + std::fmt::Debug {
    /// The freezer of the container whose snapshot has this client key; one that does nothing where no
    /// container of that namespace has it.
    fn of(&self, namespace: &str, client_key: &str) -> Result<Box<dyn Freezer>>;
}

/// A source that nothing writes to needs no stopping.
#[derive(Debug)]
pub struct Still;

impl Freezer for Still {
    fn freeze(&mut self) -> Result<bool> {
        Ok(false)
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
    /// The operation that it is taken for.
    pub operation: Option<Id>,
    /// When it goes by itself.
    pub expires: Option<Time>,
}

/// What a grant says of the snapshots that are made with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// The operation that makes them.
    pub operation: Option<Id>,
    /// When they go by themselves.
    pub expires: Option<Time>,
}

/// What becomes of what a snapshot's key had before [`Snapshots::replace`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// loom keeps it as a committed snapshot of this name.
    Named {
        /// Its name.
        name: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// When it goes by itself.
        expires: Option<Time>,
        /// The container that it is a state of (`Snapshot::captured`).
        captured: Option<String>,
    },
    /// Nothing; lineage may keep its row.
    Discarded,
}

/// What [`Snapshots::replace`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The snapshot that has the key now.
    pub now: Id,
    /// The one that had it, with its id and lineage, where it is kept.
    pub kept: Option<Id>,
    /// How its bytes were put in place.
    pub method: Method,
}

/// Which of the snapshots that loom keeps by name a prune is about; all that are given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Made before this moment.
    pub before: Option<Time>,
    /// With all of these labels; an empty value fits any.
    pub labels: BTreeMap<String, String>,
    /// States of this container: its namespace and its id.
    pub container: Option<(String, String)>,
}

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Namespaces in which the fork label is refused.
    pub deny_fork_label: Vec<String>,
    /// Layers of loom's own that may lie on each other before some become one; at least 2.
    pub flat_depth: usize,
    /// The most bytes that may be written to a container's layer, where nothing else is said.
    pub limit: Option<i64>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { deny_fork_label: Vec::new(), flat_depth: 16, limit: None }
    }
}

/// How many there are.
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
    pub chain: Vec<Layer>,
}

/// A snapshot as containerd sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its parent's key, or empty.
    pub parent: String,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, or committed.
    pub created: Time,
    /// When it last changed.
    pub updated: Time,
}

/// The core. Its calls block; a server runs each on a thread of its own and lets it run to its end.
#[derive(Debug)]
pub struct Snapshots {
    store: Arc<Store>,
    layers: Arc<Layers>,
    rules: Rules,
    /// Set once at start: the room that knows containers lies above this one.
    freezers: OnceLock<Arc<dyn Freezers>>,
    /// Set once at start; none in tests that need none.
    pool: OnceLock<Arc<Pool>>,
    /// Keys and names that requests under way are about to take.
    taking: Mutex<HashSet<String>>,
    /// Told whenever one of these is given back, or a layer is no longer read.
    given_back: Condvar,
    /// Layers that requests under way read, and those among them whose end waits for that.
    reading: Mutex<HashMap<LayerId, guard::Readers>>,
    /// Snapshots that requests under way may come back to.
    needs: guard::Needs,
    /// What writable layers took when that was last looked at.
    known: Mutex<usage::Known>,
    /// What sealed layers shared with others when that was last looked at.
    sharing: Mutex<size::Sharing>,
    /// Grants of the fork label, by token.
    grants: Mutex<HashMap<String, (Id, Made)>>,
    /// Chains that are or are to be flat.
    flat: flatten::Flat,
    /// What empties the trash.
    reclaimer: reclaimer::Reclaimer,
    /// The keys that containerd asked for while someone listens ([`Snapshots::listen`]).
    asked: Mutex<asked::Asked>,
    /// What is left to the thread that does chores; it ends when this does.
    chores: Sender<chores::Chore>,
    /// Closed when that thread has ended.
    chores_ended: Mutex<Option<Receiver<()>>>,
    /// What is left to the thread that measures layers; it ends when this does.
    measures: Sender<LayerId>,
}

impl Snapshots {
    /// The directories.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The rows.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// From now on forks by label stop their source with these.
    pub fn freeze_with(&self, freezers: Arc<dyn Freezers>) {
        // Set twice only by a defect, and then the first ones are as good.
        let _ = self.freezers.set(freezers);
    }
}

/// A thread that died while it held the lock left nothing half done: these maps change in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
