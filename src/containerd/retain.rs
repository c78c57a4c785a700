//! What expires goes by itself: snapshots, and containers with their snapshots.
//!
//! A name that loom keeps is dropped in the core. What has a key is containerd's: its container is removed by
//! whoever made it, and containerd then removes the snapshot as it does with every other one. So one that has
//! been seen to is there a little longer, and is looked at again like one that could not be removed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use containerd_client::services::v1::Container;
use futures::StreamExt as _;

use super::captured::Captured;
use super::client::Client;
use super::nerdctl::Way;
use super::{Brancher, Target, blocking, containers, reference, snapshots, task};
use crate::error::{Error, Result};
use crate::snapshot::key;
use crate::store::{Id, Operation, Snapshot, Time};

/// How long a new one may go unnoticed that expires at once.
const LOOK: Duration = Duration::from_secs(2);
/// The time between two tries: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));
/// How many containers are removed at once.
const AT_ONCE: usize = 8;

/// One that was tried, and is still there.
#[derive(Debug)]
struct Tried {
    next: Instant,
    wait: Duration,
}

impl Brancher {
    /// Removes what has expired as long as the daemon runs, each within a few seconds of its time: a snapshot's
    /// name, a container with its task. What is pinned stays, and so does what cannot be removed now; that is
    /// tried again.
    pub async fn expire(&self, address: &str) {
        let mut tried = HashMap::new();
        loop {
            if let Err(error) = self.expire_due(address, &mut tried).await {
                tracing::warn!(%error, "cannot tell what has expired");
            }
            let next = blocking(&self.core, |core| core.next_expiry()).await.ok().flatten();
            tokio::time::sleep(until(next, SystemTime::now())).await;
        }
    }

    /// Sees to everything that has expired by now and was not just tried.
    async fn expire_due(&self, address: &str, tried: &mut HashMap<Id, Tried>) -> Result<()> {
        let now = Time::now();
        let expired = blocking(&self.core, move |core| core.expired(now)).await?;
        tried.retain(|id, _| expired.iter().any(|row| row.id == *id));
        let due =
            expired.into_iter().filter(|row| tried.get(&row.id).is_none_or(|it| it.next <= Instant::now()));
        let work = due.map(|row| async move {
            let done = self.expire_one(address, &row, now).await;
            (row, done)
        });
        let done: Vec<_> = futures::stream::iter(work).buffer_unordered(AT_ONCE).collect().await;
        for (row, done) in done {
            let (shortest, longest) = BACKOFF;
            let wait = tried.get(&row.id).map_or(shortest, |before| (before.wait * 2).min(longest));
            match done {
                Err(error) if !tried.contains_key(&row.id) => {
                    tracing::warn!(snapshot = row.title(), %error, "it has expired, and stays until it can go");
                }
                Err(error) => tracing::debug!(snapshot = row.title(), %error, "it still cannot go"),
                Ok(()) => {}
            }
            tried.insert(row.id, Tried { next: Instant::now() + wait, wait });
        }
        Ok(())
    }

    async fn expire_one(&self, address: &str, row: &Snapshot, now: Time) -> Result<()> {
        let id = row.id;
        let Some(key) = row.key.clone() else {
            return blocking(&self.core, move |core| core.expire(id, now)).await;
        };
        let Some((namespace, client_key)) = key::parts(&key).filter(|(it, _)| reference::is_identifier(it))
        else {
            // A client of our own socket made it; containerd knows nothing of it.
            return blocking(&self.core, move |core| core.remove(&key)).await;
        };
        let maker = self.maker(row).await?;
        if maker.as_ref().is_some_and(|maker| !maker.state.ended()) {
            return Ok(());
        }
        let address = maker.map_or_else(|| address.to_owned(), |maker| maker.address);
        let client = Client::connect(&Target { address, namespace: namespace.to_owned() }).await?;
        let Some(container) = containers::of_snapshot(&client, client_key).await? else {
            let captured = row.captured.as_deref().map(|json| Captured::from_json(&row.title(), json));
            let Some(captured) = captured.transpose()? else {
                return Err(Error::precondition(
                    format!("snapshot {key:?}"),
                    "no container has it; remove it with `ctr snapshots rm`",
                ));
            };
            return snapshots::remove(&client, &captured.snapshotter, client_key).await;
        };
        // A branch of it may take long, and others expire meanwhile.
        let Ok(_turn) = tokio::time::timeout(LOOK, self.turns.take(namespace, &container.id)).await else {
            return Ok(());
        };
        // Pinned, kept for longer, or with another content meanwhile.
        if !blocking(&self.core, move |core| core.expired(now)).await?.iter().any(|it| it.id == id) {
            return Ok(());
        }
        remove(&client, &container).await?;
        tracing::info!(container = container.id, namespace, "removed a container that has expired");
        Ok(())
    }

    /// The operation that made a snapshot, where that is still known.
    async fn maker(&self, row: &Snapshot) -> Result<Option<Operation>> {
        let Some(made) = row.operation else { return Ok(None) };
        let operations = Arc::clone(&self.operations);
        match blocking(&self.core, move |_| operations.get(&made.to_string())).await {
            Ok(operation) => Ok(Some(operation)),
            Err(Error::OperationNotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Removes a container whatever it is doing, as whoever made it would.
async fn remove(client: &Client, container: &Container) -> Result<()> {
    if let Some(way) = Way::of(&Captured::of(&client.target().namespace, container)?)? {
        return way.remove(client, container).await;
    }
    if task::get(client, &container.id).await?.is_some() {
        task::end(client, &container.id).await?;
    }
    containers::delete(client, &container.id).await?;
    snapshots::remove(client, &container.snapshotter, &container.snapshot_key).await
}

/// How long to wait for the next one: not past when a new one may have come that expires before it.
fn until(next: Option<Time>, now: SystemTime) -> Duration {
    let left = next.and_then(|next| SystemTime::from(next).duration_since(now).ok());
    // One that has expired and is still there is tried again with the others.
    left.filter(|left| !left.is_zero()).map_or(LOOK, |left| left.min(LOOK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_is_waited_for_but_not_for_long() {
        let now = SystemTime::now();
        let at = |after: Duration| Some(Time::from(now + after));
        assert_eq!(until(None, now), LOOK);
        assert_eq!(until(at(Duration::ZERO), now), LOOK);
        assert_eq!(until(Some(Time(0)), now), LOOK);
        assert_eq!(until(at(Duration::from_hours(1)), now), LOOK);
        assert_eq!(until(at(Duration::from_millis(5)), now), Duration::from_millis(5));
    }
}
