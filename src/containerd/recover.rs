//! What a crash cut off is finished or undone.
//!
//! An operation that has not ended in its row is one that nobody was told of; what it made carries its id. One
//! that has succeeded holds, and at most its lease is still there.
//!
//! ```text
//! accepted ── plan ── lease ── snapshots ── containers ── tasks ── result written ── lease ended ── answered
//!      └─────────── a crash: all of it goes ──────────────┘              └─ a crash ─┴─ the lease is ended
//! ```
//!
//! It is looked for when loom starts, for as long as containerd does not answer, and before every branch in a
//! namespace, which may want the same names again. One at a time does so in one place. What failed while containerd
//! did not answer, and could not be undone, is seen to in the same way; it has an error already, and is undone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use containerd_client::services::v1::ListNamespacesRequest;
use containerd_client::types::v1::Status;

use super::birth::unmake;
use super::branch::Plan;
use super::client::Client;
use super::reference::is_identifier;
use super::{Brancher, Resumed, Taken, Target, blocking, containers, is_silence, leases, task};
use crate::error::{Error, Result};
use crate::operation::Outcome;
use crate::snapshot::Cost;
use crate::store::{self, Id, Operation, OperationKind, OperationState};

/// The time between two tries while containerd is not there: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// The places that are recovered, by address and namespace.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<(String, String), Arc<Place>>>);

/// True once the leases of earlier daemons were ended; locked by the one who recovers there.
type Place = tokio::sync::Mutex<bool>;

impl Places {
    fn get(&self, target: &Target) -> Arc<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry((target.address.clone(), target.namespace.clone())).or_default().clone()
    }
}

impl Brancher {
    /// Finishes or undoes what a crash cut off: everywhere that operations were left, and in all namespaces of
    /// the containerd at `address`. Tries as long as the daemon runs: containerd may come up after us, and be away
    /// when something is to be undone.
    pub async fn recover_left(&self, address: &str) {
        loop {
            self.recover_all(address).await;
            self.operations.some_left().await;
        }
    }

    async fn recover_all(&self, address: &str) {
        for (address, namespace) in self.operations.left_at() {
            // What needs no containerd does not wait for one.
            for operation in self.operations.left(&address, &namespace) {
                if operation.kind == OperationKind::Snapshot
                    && let Err(error) = self.recover_snapshot(&operation).await
                {
                    tracing::error!(operation = %operation.id, %error, "cannot tell what a crash left of it");
                }
            }
        }
        let left = self.operations.left_at().into_iter().map(|(address, _)| address);
        let addresses: BTreeSet<String> = left.chain([address.to_owned()]).collect();
        futures::future::join_all(addresses.iter().map(|address| self.recover_at(address))).await;
    }

    /// As `recover_left`, now and whenever a failure could not be undone, as long as the daemon runs.
    pub async fn recover(&self, address: &str) {
        loop {
            self.recover_left(address).await;
            self.operations.some_left().await;
        }
    }

    async fn recover_at(&self, address: &str) {
        let (mut wait, longest) = BACKOFF;
        loop {
            match self.recover_everywhere(address).await {
                Ok(()) if !self.operations.left_at().iter().any(|(left, _)| left == address) => return,
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%error, "cannot tell yet whether a crash left something half done");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    async fn recover_everywhere(&self, address: &str) -> Result<()> {
        // Any namespace will do to ask for all.
        let target =
            |namespace: &str| Target { address: address.to_owned(), namespace: namespace.to_owned() };
        let client = Client::connect(&target("default")).await?;
        let request = client.look(ListNamespacesRequest { filter: String::new() });
        let answer = client.namespaces().list(request).await.map_err(client.failed("list namespaces"))?;
        let known = answer.into_inner().namespaces.into_iter().map(|namespace| namespace.name);
        let left = self.operations.left_at().into_iter().filter(|(left, _)| left == address);
        let namespaces: BTreeSet<String> = known.chain(left.map(|(_, namespace)| namespace)).collect();
        let mut done = Ok(());
        for namespace in namespaces {
            // One that fails does not keep the others from it.
            let recovered = async { self.recover_in(&client.of(&target(&namespace))?).await };
            done = done.and(recovered.await);
        }
        done
    }

    /// Finishes or undoes what was cut off in a client's namespace. What cannot be is told and tried again the
    /// next time; only a containerd that does not answer is an error.
    pub(super) async fn recover_in(&self, client: &Client) -> Result<()> {
        let Target { address, namespace } = client.target();
        let place = self.places.get(client.target());
        let mut recovered = place.lock().await;
        for operation in self.operations.left(address, namespace) {
            let id = operation.id;
            let settled = match self.recover_one(client, &operation).await {
                Ok(outcome) => self.operations.settle(id, outcome).await,
                Err(error) => Err(error),
            };
            match settled {
                Ok(()) => {
                    tracing::info!(operation = %id, kind = %operation.kind, namespace, "settled what was cut off");
                }
                Err(error) if is_silence(&error) => return Err(error),
                Err(error) if *recovered => tracing::debug!(operation = %id, %error, "it stays cut off"),
                Err(error) => tracing::warn!(operation = %id, %error, "what was cut off is not settled yet"),
            }
        }
        if !*recovered {
            match self.end_leases(client).await {
                Ok(()) => *recovered = true,
                Err(error) if is_silence(&error) => return Err(error),
                // It keeps nobody from what is asked for now.
                Err(error) => {
                    tracing::warn!(namespace, %error, "leases of an earlier loomd are not ended yet");
                }
            }
        }
        Ok(())
    }

    async fn recover_one(&self, client: &Client, operation: &Operation) -> Result<Outcome> {
        match operation.kind {
            OperationKind::Snapshot => self.outcome_of_snapshot(operation.id).await,
            OperationKind::Fork | OperationKind::Clone => {
                // Without a plan nothing was made yet.
                if let Some(plan) = &operation.plan {
                    self.undo_branch(client, operation.id, plan).await?;
                }
                Ok(Outcome::Undone)
            }
            OperationKind::Rollback | OperationKind::Promote => self.recover_replace(client, operation).await,
            OperationKind::Resume => outcome_of_resume(client, operation).await,
            OperationKind::Commit | OperationKind::Portable | OperationKind::Import => {
                self.recover_image(client, operation).await
            }
        }
    }

    /// A snapshot needs no containerd to be settled.
    async fn recover_snapshot(&self, operation: &Operation) -> Result<()> {
        self.operations.settle(operation.id, self.outcome_of_snapshot(operation.id).await?).await
    }

    /// A state whose row is there is whole, and is kept.
    async fn outcome_of_snapshot(&self, operation: Id) -> Result<Outcome> {
        let rows = blocking(&self.core, move |core| core.store().read(|rows| rows.by_operation(operation)));
        let made = |row: &store::Snapshot| row.kind == store::Kind::Committed && row.name.is_some();
        let Some(state) = rows.await?.into_iter().find(made) else { return Ok(Outcome::Undone) };
        let method = blocking(&self.core, move |core| {
            let method = core.method(state.id)?;
            Ok(method.unwrap_or_else(|| core.layers().method(store::Home::Plain)))
        });
        // How long it took went with the daemon that knew it.
        let cost = Cost { method: method.await?, paused: Duration::ZERO, total: Duration::ZERO };
        finished(&Taken { snapshot: state.id, cost })
    }

    async fn undo_branch(&self, client: &Client, operation: Id, plan: &str) -> Result<()> {
        let plan: Plan = planned(operation, plan)?;
        if let Some(way) = &plan.way {
            way.undo(client, operation, self.core.layers().root()).await?;
        }
        self.unmake_all(client, &plan.snapshotter, operation).await
    }

    /// Ends the leases of earlier daemons. What holds has an operation that succeeded; all else goes.
    async fn end_leases(&self, client: &Client) -> Result<()> {
        for lease in leases::of_root(client, self.core.layers().root()).await? {
            match self.state_of(&lease).await? {
                Some(OperationState::Succeeded) => leases::end(client, &lease, false).await?,
                // It is still to be settled, or under way.
                Some(OperationState::Accepted | OperationState::Running) => {}
                Some(OperationState::Failed | OperationState::Cancelled) | None => {
                    let kept = leases::snapshots(client, &lease).await?;
                    // An image's layer may be another image's too: it goes with the lease, or stays.
                    for (snapshotter, key) in kept.into_iter().filter(|(_, key)| is_identifier(key)) {
                        unmake(client, &snapshotter, &key).await?;
                        tracing::info!(container = key, "undid a branch that was cut off");
                    }
                    leases::end(client, &lease, true).await?;
                }
            }
        }
        Ok(())
    }

    /// What became of the operation that a lease is of.
    async fn state_of(&self, lease: &str) -> Result<Option<OperationState>> {
        let Some(id) = leases::operation(lease) else { return Ok(None) };
        let row = blocking(&self.core, move |core| core.store().read(|rows| rows.operation(id))).await?;
        Ok(row.map(|operation| operation.state))
    }
}

/// There is nothing to undo in it; where its container runs it was finished.
async fn outcome_of_resume(client: &Client, operation: &Operation) -> Result<Outcome> {
    let name = operation.subject.strip_prefix("container:").unwrap_or(&operation.subject);
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    let container = match containers::resolve(client, name).await {
        Ok(container) => container,
        Err(error) if is_silence(&error) => return Err(error),
        Err(_) => return Ok(Outcome::Undone),
    };
    match task::get(client, &container.id).await? {
        Some(task) if task.status == Status::Running => {
            let name = containers::display_name(&container).to_owned();
            finished(&Resumed { container: container.id, name, pid: task.pid })
        }
        _ => Ok(Outcome::Undone),
    }
}

/// What was written down of an operation before anything of it was made.
pub(super) fn planned<T: serde::de::DeserializeOwned>(operation: Id, plan: &str) -> Result<T> {
    serde_json::from_str(plan).map_err(|e| Error::Internal(format!("plan of operation {operation}: {e}")))
}

/// It was finished, and this is its result.
pub(super) fn finished(result: &impl serde::Serialize) -> Result<Outcome> {
    let json = serde_json::to_string(result);
    Ok(Outcome::Finished(json.map_err(|e| Error::Internal(format!("result of an operation: {e}")))?))
}
