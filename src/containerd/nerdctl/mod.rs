//! Containers of nerdctl's: made, started, stopped and removed by nerdctl itself, whose files and labels change
//! by version.
//!
//! The way to it is in the container: its OCI hook names the binary and the global flags that it was made with.

use containerd_client::services::v1::Container;
use serde::{Deserialize, Serialize};

use super::captured::Captured;
use super::client::Client;
use super::{Branched, Brancher, Changes, Holder, Options};
use crate::error::Result;
use crate::operation::Work;
use crate::store::{Id, Snapshot};

/// The label on containers and volumes that says which operation made them.
pub(super) const OPERATION_LABEL: &str = "loom.operation";

/// How nerdctl is called for a container: kept in an operation's plan, so that a restart can undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    /// Its binary.
    binary: String,
    /// Its global flags.
    flags: Vec<String>,
}

/// What forks of a container are made from.
#[derive(Debug)]
pub(super) enum Origin<'a> {
    /// A live one, and its snapshot.
    Live(&'a Holder, Snapshot),
    /// A committed state of one that may be gone.
    State(Snapshot),
}

impl Way {
    /// That of a container of nerdctl's; none of another tool's. `Precondition` where it is nerdctl's and the
    /// binary is not there any more.
    pub(super) fn of(captured: &Captured) -> Result<Option<Self>> {
        todo!()
    }

    /// Stops a container as its user would.
    pub(super) async fn stop(&self, client: &Client, container: &Container) -> Result<()> {
        todo!()
    }

    /// Starts one that is stopped; answers its process.
    pub(super) async fn start(&self, client: &Client, container: &Container) -> Result<u32> {
        todo!()
    }

    /// Removes one whatever it is doing, with its anonymous volumes. One that is gone is gone.
    pub(super) async fn remove(&self, client: &Client, container: &Container) -> Result<()> {
        todo!()
    }

    /// Undoes what an operation made, as far as it came: containers, volumes, images, names. It waits for calls of
    /// nerdctl that an earlier daemon left running.
    pub(super) async fn undo(&self, client: &Client, operation: Id) -> Result<()> {
        todo!()
    }
}

impl Brancher {
    /// Makes containers of nerdctl's, one for each name, all of one state, and starts them unless the options say
    /// no. One that fails is undone and reported in its place. The plan is written already, with the way.
    pub(super) async fn fork_by_nerdctl(
        &self,
        work: &Work,
        client: &Client,
        way: &Way,
        captured: &Captured,
        origin: Origin<'_>,
        names: &[String],
        options: &Options,
        changes: &Changes,
    ) -> Result<Branched> {
        todo!()
    }
}
