//! Branches that a crash cut off are undone.
//!
//! A branch is made under a lease, and ending the lease is what makes it hold: it is answered only behind
//! that. So a lease of ours that is there before this daemon took any is that of a branch which nobody was
//! told of, and the snapshots that it keeps tell how far it came:
//!
//! ```text
//! lease taken ── snapshots ── containers ── tasks ── lease ended ── answered
//!      └──────── a crash: all of it goes ──────┘
//! ```
//!
//! It is looked for when loom starts, and before the first branch in a namespace, which may want the same
//! names again.

use std::collections::HashSet;
use std::time::Duration;

use containerd_client::services::v1::ListNamespacesRequest;

use super::client::Client;
use super::{Brancher, Target, containers, leases, snapshots, task};
use crate::error::Result;

/// The time between two tries while containerd is not there: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// The places, by address and namespace, in which nothing of an earlier daemon is left.
pub(super) type Undone = tokio::sync::Mutex<HashSet<(String, String)>>;

impl Brancher {
    /// Undoes what a crash cut off in all namespaces of the containerd at `address`, trying as long as the
    /// daemon runs: containerd may come up after us.
    pub async fn undo_left(&self, address: &str) {
        let (mut wait, longest) = BACKOFF;
        while let Err(error) = self.undo_everywhere(address).await {
            tracing::debug!(%error, "cannot tell yet whether a crash left something half branched");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    async fn undo_everywhere(&self, address: &str) -> Result<()> {
        // Any namespace will do to ask for all.
        let target =
            |namespace: &str| Target { address: address.to_owned(), namespace: namespace.to_owned() };
        let client = Client::connect(&target("default")).await?;
        let request = client.look(ListNamespacesRequest { filter: String::new() });
        let answer = client.namespaces().list(request).await.map_err(client.failed("list namespaces"))?;
        for namespace in answer.into_inner().namespaces {
            self.undo_in(&client.of(&target(&namespace.name))?).await?;
        }
        Ok(())
    }

    /// Undoes what a crash cut off in a client's namespace, once in a daemon's life.
    pub(super) async fn undo_in(&self, client: &Client) -> Result<()> {
        let Target { address, namespace } = client.target().clone();
        let mut undone = self.undone.lock().await;
        if undone.contains(&(address.clone(), namespace.clone())) {
            return Ok(());
        }
        for lease in leases::of_root(client, self.core.layers().root()).await? {
            for (snapshotter, key) in leases::snapshots(client, &lease).await? {
                unmake(client, &snapshotter, &key).await?;
                tracing::info!(container = key, namespace, "undid a branch that was cut off");
            }
            leases::end(client, &lease, true).await?;
        }
        undone.insert((address, namespace));
        Ok(())
    }
}

/// Takes away a branch that nobody was told of, as far as it came.
pub(super) async fn unmake(client: &Client, snapshotter: &str, name: &str) -> Result<()> {
    // A container of that name on another snapshot is somebody else's.
    let container = containers::get(client, name).await?;
    if container.is_some_and(|made| made.snapshotter == snapshotter && made.snapshot_key == name) {
        if task::get(client, name).await?.is_some() {
            task::end(client, name).await?;
        }
        containers::delete(client, name).await?;
    }
    snapshots::remove(client, snapshotter, name).await
}
