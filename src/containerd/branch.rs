//! Fork and clone: containers on new active snapshots that continue from a state.
//!
//! ```text
//! state of the source ── grant, lease ┬─ Prepare ── Containers.Create ─┬─ grant ended, state
//! (one pause)                         ├─ … a container each …          │  released, tasks
//!                                     └─ Prepare ── Containers.Create ─┘  started, lease ended
//! ```
//!
//! What fails undoes what it alone made. The lease keeps a snapshot that no container names yet, and all
//! of it holds only once the lease has ended: what a crash leaves before that is undone (`undo`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use containerd_client::services::v1::Container;
use futures::StreamExt as _;

use super::captured::Captured;
use super::client::Client;
use super::leases::Lease;
use super::undo::unmake;
use super::{Brancher, Forked, Holder, Target, blocking, containers, reference, snapshots, task};
use crate::error::{Error, Result};
use crate::snapshot::{Cost, Keep, key};
use crate::store::{Id, Kind, Snapshot};

/// How many containers are made or started at once.
const AT_ONCE: usize = 8;
/// How often an undo is tried where containerd does not answer.
const UNDOS: u32 = 10;
/// The time between two tries; no test waits for it.
const BREATH: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 500 });

/// What all containers of one branch share.
#[derive(Debug)]
struct Mold {
    /// Their source, as it was when its state was taken.
    captured: Captured,
    /// What containerd calls the snapshot that they report as their parent; empty for none.
    parent: String,
    /// The fork label's value.
    grant: String,
}

impl Brancher {
    /// Makes `count` containers from the state of one, all of one moment, and starts them where `start`
    /// says so. One that fails is undone and reported in its place; where all fail, so does the call.
    ///
    /// A fork has its source's image, runtime, labels and specification, under its own id. Labels of
    /// the restart monitor are not taken over. nerdctl's containers are refused.
    pub async fn fork(
        &self,
        target: &Target,
        reference: &str,
        name: Option<String>,
        count: u32,
        start: bool,
    ) -> Result<(Vec<Forked>, Cost)> {
        let begun = Instant::now();
        // Before anyone is asked anything.
        reference::check_count(count)?;
        let holder = self.container(target, reference).await?;
        let Holder { client, container } = &holder;
        let captured = Captured::of(&client.target().namespace, container)?;
        captured.branchable(containers::display_name(container))?;
        let names = reference::fork_names(&container.id, name.as_deref(), count)?;
        let source = self.of_container(&holder).await?;
        if source.kind != Kind::Active {
            return Err(Error::WrongKind {
                key: source.title(),
                kind: source.kind,
                needs: "a fork continues from an active one",
            });
        }
        self.undo_in(client).await?;
        unused(client, &captured.snapshotter, &names).await?;
        let Some(known) = snapshots::stat(client, &captured.snapshotter, &container.snapshot_key).await?
        else {
            return Err(Error::SnapshotNotFound(container.snapshot_key.clone()));
        };

        let keep = if count == 1 { Keep::ForOne } else { Keep::ForClones };
        let (state, cost) = self.take(source.id, super::state::Taking::of(keep), Some(&holder)).await?;
        let snapshotter = captured.snapshotter.clone();
        let made = self.cast(client, captured, known.parent, state.id, &names).await;
        self.release(state.id).await;
        let (lease, made) = made?;
        let mut forks = self.finish(client, &names, made, start).await;
        hold(client, &lease, &snapshotter, &forks).await?;
        if forks.iter().all(|fork| fork.error.is_some())
            && let Some(first) = forks.iter_mut().find_map(|fork| fork.error.take())
        {
            return Err(first.into());
        }
        Ok((forks, Cost { total: begun.elapsed(), ..cost }))
    }

    /// Makes a container from a committed snapshot of one, which may be gone, and starts it where
    /// `start` says so.
    pub async fn clone_state(
        &self,
        target: &Target,
        reference: &str,
        name: Option<String>,
        start: bool,
    ) -> Result<(Forked, Cost)> {
        let begun = Instant::now();
        let state = self.committed(target, reference).await?;
        let Some(json) = &state.captured else {
            return Err(Error::Refused {
                what: state.title(),
                why: "it is no state of a container; make one with `loom snapshot` of a container".to_owned(),
            });
        };
        let captured = Captured::from_json(&state.title(), json)?;
        captured.branchable(&state.title())?;
        // loom's names are freer than containerd's ids.
        let called = Some(state.title()).filter(|title| reference::is_identifier(title));
        let called = called.unwrap_or_else(|| captured.id.clone());
        let names = reference::fork_names(&called, name.as_deref(), 1)?;
        let client = Client::connect(target).await?;
        self.undo_in(&client).await?;
        unused(&client, &captured.snapshotter, &names).await?;
        let parent = self.parent_known(&client, &captured.snapshotter, &state).await?;
        let id = state.id;
        let method = blocking(&self.core, move |core| {
            let home = core.get(id)?.chain.first().map(|top| top.home);
            Ok(home.map(|home| core.layers().method(home)))
        });
        let Some(method) = method.await? else {
            return Err(Error::precondition(
                format!("snapshot {:?}", state.title()),
                "its bytes are gone, and only its lineage is kept; choose a later snapshot",
            ));
        };

        let snapshotter = captured.snapshotter.clone();
        let (lease, made) = self.cast(&client, captured, parent, state.id, &names).await?;
        let mut clones = self.finish(&client, &names, made, start).await;
        hold(&client, &lease, &snapshotter, &clones).await?;
        let Some(mut made) = clones.pop() else {
            return Err(Error::Internal("a clone made nothing".to_owned()));
        };
        match made.error.take() {
            Some(error) => Err(error.into()),
            None => Ok((made, Cost { method, paused: Duration::ZERO, total: begun.elapsed() })),
        }
    }

    /// Makes a container a name, in the order of names, all from one state that is kept meanwhile. They
    /// hold once the lease has ended.
    async fn cast(
        &self,
        client: &Client,
        captured: Captured,
        parent: String,
        state: Id,
        names: &[String],
    ) -> Result<(Lease, Vec<Result<Container>>)> {
        let grant = self.core.grant(state, crate::snapshot::Made::default())?;
        let mold = Mold { captured, parent, grant: grant.label() };
        // Taken only now: a large state may take longer to copy than a lease lasts.
        let lease = Lease::take(client, self.core.layers().root()).await?;
        let made = names.iter().map(|name| make(lease.client(), &mold, name)).collect();
        let made = some_at_once(made).await;
        Ok((lease, made))
    }

    /// The committed snapshot that a reference means where only one will do. containerd is asked only
    /// about what we do not know.
    async fn committed(&self, target: &Target, reference: &str) -> Result<Snapshot> {
        use super::Reference;
        let found = match Reference::parse(reference)? {
            Reference::Bare(name) => match self.named(name).await {
                Err(Error::SnapshotNotFound(_)) => self.find(target, reference).await?,
                answer => answer?,
            },
            Reference::Container { .. } | Reference::Snapshot(_) => self.find(target, reference).await?,
        };
        if found.kind != Kind::Committed {
            return Err(Error::WrongKind {
                key: found.title(),
                kind: found.kind,
                needs: "a clone is made of a committed one; `loom fork` continues from a container as it is",
            });
        }
        Ok(found)
    }

    /// The nearest parent that containerd knows in this namespace, by its client's name; empty for none.
    /// It is what the new snapshot reports as its parent, and keeps the image's layers from the collector.
    pub(super) async fn parent_known(&self, client: &Client, snapshotter: &str, state: &Snapshot) -> Result<String> {
        let mut next = state.parent;
        while let Some(id) = next {
            let parent = blocking(&self.core, move |core| core.get(id)).await?.snapshot;
            if let Some((namespace, name)) = parent.key.as_deref().and_then(key::parts)
                && namespace == client.target().namespace
                && parent.kind == Kind::Committed
                && snapshots::stat(client, snapshotter, name).await?.is_some()
            {
                return Ok(name.to_owned());
            }
            next = parent.parent;
        }
        Ok(String::new())
    }

    /// Starts what was made, and says for each what became of it.
    async fn finish(
        &self,
        client: &Client,
        names: &[String],
        made: Vec<Result<Container>>,
        start: bool,
    ) -> Vec<Forked> {
        let births = names.iter().zip(made).map(|(name, made)| self.birth(client, name, made, start));
        some_at_once(births.collect()).await
    }

    async fn birth(&self, client: &Client, name: &str, made: Result<Container>, start: bool) -> Forked {
        let (namespace, container) = (client.target().namespace.clone(), name.to_owned());
        let pid = match made {
            Ok(container) if start => start_or_undo(client, &container).await.map(Some),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        match pid {
            Ok(pid) => {
                let snapshot = self.snapshot_of(&namespace, &container).await;
                Forked { name: container.clone(), container, namespace, snapshot, pid, error: None }
            }
            Err(error) => Forked {
                name: container.clone(),
                container,
                namespace,
                snapshot: None,
                pid: None,
                error: Some(error.into()),
            },
        }
    }

    /// A new container's snapshot. That it cannot be told does not unmake the container.
    pub(super) async fn snapshot_of(&self, namespace: &str, key: &str) -> Option<Id> {
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        match blocking(&self.core, move |core| core.by_client_key(&namespace, &key)).await {
            Ok(snapshot) => snapshot.map(|snapshot| snapshot.id),
            Err(error) => {
                tracing::warn!(%error, "cannot tell a new container's snapshot");
                None
            }
        }
    }

    /// Lets a transient state go. One that cannot be let go now goes when the daemon starts again.
    pub(super) async fn release(&self, state: Id) {
        if let Err(error) = blocking(&self.core, move |core| core.release(state)).await {
            tracing::warn!(snapshot = %state, %error, "a state that a fork stood on is not released yet");
        }
    }
}

/// Does all of the work, a little of it at once, and answers in its order.
pub(super) async fn some_at_once<W: Future>(work: Vec<W>) -> Vec<W::Output> {
    futures::stream::iter(work).buffered(AT_ONCE).collect().await
}

/// Refuses names that containers or snapshots have, before anything is made. It asks containerd for the
/// snapshots too: what it has let go of already is ours until its collector comes by.
async fn unused(client: &Client, snapshotter: &str, names: &[String]) -> Result<()> {
    let looks = names.iter().map(|name| async move {
        if containers::get(client, name).await?.is_some() {
            let namespace = client.target().namespace.clone();
            return Err(Error::ContainerExists { name: name.clone(), namespace });
        }
        match snapshots::stat(client, snapshotter, name).await? {
            Some(_) => Err(Error::KeyExists(name.clone())),
            None => Ok(()),
        }
    });
    some_at_once(looks.collect()).await.into_iter().collect()
}

/// Makes a snapshot and a container on it, or nothing. The lease keeps the one until the other names it.
async fn make(leased: &Client, mold: &Mold, name: &str) -> Result<Container> {
    let container = mold.captured.branch(name, &leased.target().namespace)?;
    snapshots::prepare(leased, &container.snapshotter, name, &mold.parent, &mold.grant).await?;
    match containers::create(leased, container.clone()).await {
        Ok(()) => Ok(container),
        Err(error) => {
            undo(name, || async {
                // One whose answer was lost may be there all the same.
                if !matches!(error, Error::ContainerExists { .. }) {
                    containers::delete(leased, name).await?;
                }
                snapshots::remove(leased, &container.snapshotter, name).await
            })
            .await;
            Err(error)
        }
    }
}

/// Starts a container that we made; where it does not start, nothing of it stays.
async fn start_or_undo(client: &Client, container: &Container) -> Result<u32> {
    match task::start(client, container).await {
        Ok(pid) => Ok(pid),
        Err(error) => {
            undo(&container.id, || unmake(client, &container.snapshotter, &container.id)).await;
            Err(error)
        }
    }
}

/// Ends the lease, so that what was made holds; where that fails, nothing of it stays.
async fn hold(client: &Client, lease: &Lease, snapshotter: &str, made: &[Forked]) -> Result<()> {
    let Err(error) = lease.end().await else { return Ok(()) };
    for fork in made.iter().filter(|fork| fork.error.is_none()) {
        undo(&fork.container, || unmake(client, snapshotter, &fork.container)).await;
    }
    if let Err(error) = lease.end().await {
        tracing::warn!(%error, "a lease is left to expire");
    }
    Err(error)
}

/// Undoes what a branch that failed has made, in steps that can be taken again: a containerd that is
/// being restarted is waited for a little. What cannot be undone is told, and does not hide why it had
/// to be.
async fn undo<W: Future<Output = Result<()>>>(container: &str, steps: impl Fn() -> W) {
    let mut tries = 1;
    while let Err(error) = steps().await {
        if error.kind() != crate::error::Kind::Unavailable || tries == UNDOS {
            tracing::warn!(container, %error, "a branch that failed leaves something behind");
            return;
        }
        tries += 1;
        tokio::time::sleep(BREATH).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::Cell;

    use super::*;

    /// Undoes while containerd answers with this error `away` times; answers how often it tried.
    async fn tries(kind: crate::error::Kind, away: u32) -> u32 {
        let tried = Cell::new(0);
        undo("try", || async {
            tried.set(tried.get() + 1);
            if tried.get() > away {
                return Ok(());
            }
            Err(Error::Containerd { action: "undo".into(), message: "no".into(), kind })
        })
        .await;
        tried.get()
    }

    #[tokio::test]
    async fn a_containerd_that_is_away_is_waited_for_a_little() {
        use crate::error::Kind;
        for (kind, away, tried) in [
            (Kind::Unavailable, 0, 1),
            (Kind::Unavailable, 3, 4),
            (Kind::Unavailable, u32::MAX, UNDOS),
            (Kind::Internal, 3, 1),
        ] {
            assert_eq!(tries(kind, away).await, tried, "{kind} {away}");
        }
    }
}
