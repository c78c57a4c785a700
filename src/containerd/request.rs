//! What can be asked of a [`super::Brancher`], and what it answers. Answers are kept with their operation, as
//! JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::snapshot::Cost;
use crate::store::{Failure, Id};

/// How whole a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// One point in time, as after a power cut.
    #[default]
    Crash,
    /// As `Crash`, between the commands in the container's labels `loom.quiesce` and `loom.unquiesce`, and
    /// written out while it stands still.
    App,
}

/// What every branch can be asked for. Its JSON is what an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// The operation's id, where the client chose one.
    #[serde(skip)]
    pub operation: Option<Id>,
    /// What the client calls the request.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
    /// The name of what is made: a container's or a snapshot's. Of a rollback or a promotion: of the snapshot that
    /// keeps what the container had.
    pub name: Option<String>,
    /// Labels for it. Of a container, an empty value drops the source's label.
    pub labels: BTreeMap<String, String>,
    /// How long it is kept.
    pub ttl: Option<Duration>,
    /// How whole its state is.
    pub consistency: Consistency,
    /// Leave containers stopped (the resume policy `manual`).
    pub no_start: bool,
}

/// What becomes of a source's named volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Volumes {
    /// The fork has them too.
    #[default]
    Share,
    /// The fork has copies of its own, of the moment of its state.
    Clone,
}

/// What is different in a container that a branch makes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changes {
    /// Environment, `NAME=VALUE`; `NAME` alone drops one.
    pub env: Vec<String>,
    /// The command, in place of the source's; empty for the same.
    pub command: Vec<String>,
    /// Ports to publish, as `nerdctl run -p` has them: for containers of nerdctl only.
    pub publish: Vec<String>,
    /// Its named volumes: of nerdctl only.
    pub volumes: Volumes,
}

/// A state that was kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Taken {
    /// The snapshot.
    pub snapshot: Id,
    /// What it cost.
    pub cost: Cost,
}

/// One container that a branch made, or why it could not be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Forked {
    /// Its id in containerd; the name that it was to have where it could not be made.
    pub container: String,
    /// What people call it: nerdctl's name, else its id.
    pub name: String,
    /// containerd's namespace.
    pub namespace: String,
    /// Its snapshot.
    pub snapshot: Option<Id>,
    /// Its process, where it was started.
    pub pid: Option<u32>,
    /// Why it could not be made or started.
    pub error: Option<Failure>,
}

/// The containers that a branch made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Branched {
    /// In the order of their names.
    pub forks: Vec<Forked>,
    /// What they cost.
    pub cost: Cost,
}

/// A container whose content was replaced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rolled {
    /// Its id in containerd.
    pub container: String,
    /// What people call it.
    pub name: String,
    /// containerd's namespace.
    pub namespace: String,
    /// Its snapshot now.
    pub snapshot: Id,
    /// The snapshot that keeps what it had.
    pub kept: Option<Id>,
    /// The name of that.
    pub kept_name: Option<String>,
    /// Its process, where it runs.
    pub pid: Option<u32>,
    /// What it cost; `paused` is how long it was stopped.
    pub cost: Cost,
}

/// A container that was started or continued.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resumed {
    /// Its id in containerd.
    pub container: String,
    /// Its process.
    pub pid: u32,
}
