//! A client of containerd: containers, tasks, leases, pauses; forks as containers.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::snapshot::{Cost, Snapshots};
use crate::store::{Id, Snapshot};

/// The containerd, and its namespace, that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its socket's path.
    pub address: String,
    /// Its namespace.
    pub namespace: String,
}

/// One container that a branch made, or why it could not be made.
#[derive(Debug)]
pub struct Forked {
    /// Its id in containerd.
    pub container: String,
    /// containerd's namespace.
    pub namespace: String,
    /// Its snapshot.
    pub snapshot: Option<Id>,
    /// Its process, where it was started.
    pub pid: Option<u32>,
    /// Why it could not be made or started.
    pub error: Option<Error>,
}

/// Makes branches of containers.
#[derive(Debug)]
pub struct Brancher {
    core: Arc<Snapshots>,
}

impl Brancher {
    /// Over this core.
    pub fn new(core: Arc<Snapshots>) -> Self {
        Self { core }
    }

    /// The snapshot that a reference means.
    pub async fn find(&self, target: &Target, reference: &str) -> Result<Snapshot> {
        todo!()
    }

    /// Makes a committed snapshot of a container or of an active snapshot, named `name` or
    /// `<source>-<6 hex>`.
    pub async fn snapshot(
        &self,
        target: &Target,
        reference: &str,
        name: Option<String>,
        labels: std::collections::BTreeMap<String, String>,
    ) -> Result<(Snapshot, Cost)> {
        todo!()
    }

    /// Makes `count` containers from the state of one.
    pub async fn fork(
        &self,
        target: &Target,
        reference: &str,
        name: Option<String>,
        count: u32,
        start: bool,
    ) -> Result<(Vec<Forked>, Cost)> {
        todo!()
    }

    /// Makes a container from a committed snapshot.
    pub async fn clone_state(
        &self,
        target: &Target,
        reference: &str,
        name: Option<String>,
        start: bool,
    ) -> Result<(Forked, Cost)> {
        todo!()
    }

    /// Starts a container's task, or continues it; answers its full id and its process.
    pub async fn resume(&self, target: &Target, reference: &str) -> Result<(String, u32)> {
        todo!()
    }

    /// Continues every container that a crash left paused by loom.
    pub async fn thaw_left(&self) {
        todo!()
    }
}
