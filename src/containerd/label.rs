//! The pause of a container whose fork a client of containerd asked for by label.
//!
//! It happens inside a Prepare of containerd's, which holds the snapshotter's lock meanwhile: only
//! Containers and Tasks are asked here, never Snapshots.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::freezer::{TaskFreezer, Turns};
use super::{Brancher, Holder, Target};
use crate::error::{Error, Result};
use crate::snapshot::{Freezer, Freezers, Snapshots, Still};

/// Finds the container of a live snapshot, and what stops it.
#[derive(Debug)]
pub(super) struct LiveFreezers {
    /// The core keeps these: they must not keep the core.
    core: Weak<Snapshots>,
    turns: Arc<Turns>,
    address: String,
    runtime: Handle,
}

impl LiveFreezers {
    /// Of the containerd at this address. Called in the runtime that they are to wait in.
    pub(super) fn new(core: &Arc<Snapshots>, turns: &Arc<Turns>, address: &str) -> Self {
        Self {
            core: Arc::downgrade(core),
            turns: turns.clone(),
            address: address.to_owned(),
            runtime: Handle::current(),
        }
    }
}

impl Freezers for LiveFreezers {
    fn of(&self, namespace: &str, client_key: &str) -> Result<Box<dyn Freezer>> {
        let Some(core) = self.core.upgrade() else {
            return Err(Error::precondition("loom", "it is shutting down; try again"));
        };
        let Some(snapshot) = core.by_client_key(namespace, client_key)? else {
            return Ok(Box::new(Still));
        };
        let target = Target { address: self.address.clone(), namespace: namespace.to_owned() };
        let turns = self.turns.clone();
        self.runtime.block_on(async move {
            Ok(match Brancher::holder(&core, &target, &snapshot).await? {
                Some(Holder { client, container }) => {
                    Box::new(TaskFreezer::of(core, turns, client, &container.id).await) as Box<dyn Freezer>
                }
                None => Box::new(Still),
            })
        })
    }
}
