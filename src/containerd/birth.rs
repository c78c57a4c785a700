//! Containers of `ctr` and its like: a branch's snapshots, records and tasks are made here, and undone.
//!
//! Everything carries its operation: the container as a label, the snapshot as its row, both through the lease.
//! So one and the same search finds it here, where an operation fails, and in the next daemon (`recover`).

use std::sync::atomic::{AtomicU64, Ordering};

use containerd_client::services::v1::Container;
use futures::StreamExt as _;

use super::captured::{Captured, Unlike};
use super::client::Client;
use super::leases::{self, Lease};
use super::undo::{settle, undo};
use super::{Branched, Brancher, Forked, Options, blocking, containers, snapshots, task};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::snapshot::{Cost, Made, key};
use crate::store::{Id, Time};

/// How many containers are made or started at once.
const AT_ONCE: usize = 8;
/// What all containers of one branch share.
#[derive(Debug)]
pub(super) struct Mold {
    /// Their source, as it was when its state was taken.
    pub(super) captured: Captured,
    /// What containerd calls the snapshot that they report as their parent; empty for none.
    pub(super) parent: String,
    /// What is not as in their source.
    pub(super) unlike: Unlike,
    /// When they go by themselves.
    pub(super) expires: Option<Time>,
}

/// Where the containers of one operation are made: nothing of them stays until it is left by `keep`.
#[derive(Debug)]
pub(super) struct Nest {
    client: Client,
    lease: Lease,
    snapshotter: String,
    operation: Id,
}

impl Brancher {
    /// A nest for the containers of a branch. Taken once their state is: a large one may take longer to copy
    /// than a lease lasts.
    pub(super) async fn nest(&self, client: &Client, mold: &Mold) -> Result<Nest> {
        let operation = mold.unlike.operation;
        let lease = Lease::take(client, self.core.layers().root(), operation).await?;
        let snapshotter = mold.captured.snapshotter.clone();
        Ok(Nest { client: client.clone(), lease, snapshotter, operation })
    }

    /// Makes a container a name, in the order of names, all from one state that is kept meanwhile.
    pub(super) async fn cast(
        &self,
        work: &Work,
        nest: &Nest,
        mold: &Mold,
        state: Id,
        names: &[String],
    ) -> Vec<Result<Container>> {
        let failed = |error: &Error| names.iter().map(|_| Err(again(error))).collect();
        if let Err(error) = work.step("containers") {
            return failed(&error);
        }
        let made = Made { operation: Some(nest.operation), expires: mold.expires };
        let grant = match self.core.grant(state, made) {
            Ok(grant) => grant,
            Err(error) => return failed(&error),
        };
        let label = grant.label();
        let births = names.iter().map(|name| {
            let label = &label;
            async move {
                work.check()?;
                make(work, nest.lease.client(), mold, label, name).await
            }
        });
        some_at_once(births.collect()).await
    }

    /// Starts what was made, and says for each what became of it. Where nothing stays of all of it, that is an
    /// error; else it holds, and the nest is left.
    pub(super) async fn bear(
        &self,
        work: &Work,
        nest: Nest,
        made: Vec<Result<Container>>,
        names: &[String],
        options: &Options,
        cost: Cost,
    ) -> Result<Branched> {
        let born = async {
            if !options.no_start {
                work.step("start")?;
            }
            let (done, total) = (AtomicU64::new(0), u64::try_from(names.len()).unwrap_or(u64::MAX));
            let births = names.iter().zip(made).map(|(name, made)| {
                let (nest, done) = (&nest, &done);
                async move {
                    let fork = self.birth(work, nest, name, made, !options.no_start).await;
                    // What is undone soon is not done.
                    if work.check().is_ok() {
                        work.progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                    }
                    fork
                }
            });
            let mut forks = some_at_once(births.collect()).await;
            work.check()?;
            if forks.iter().all(|fork| fork.error.is_some())
                && let Some(first) = forks.iter_mut().find_map(|fork| fork.error.take())
            {
                return Err(first.into());
            }
            let branched = Branched { forks, cost };
            work.decided(&branched).await?;
            Ok(branched)
        };
        let Nest { client, snapshotter, operation, .. } = &nest;
        let born = born.await;
        settle(work, client, born, || self.unmake_all(client, snapshotter, *operation)).await
    }

    async fn birth(
        &self,
        work: &Work,
        nest: &Nest,
        name: &str,
        made: Result<Container>,
        start: bool,
    ) -> Forked {
        let (namespace, container) = (nest.client.target().namespace.clone(), name.to_owned());
        let pid = match made {
            Ok(container) if start => match work.check() {
                Ok(()) => start_or_undo(work, &nest.client, &container).await.map(Some),
                // All of it is undone soon.
                Err(cancelled) => Err(cancelled),
            },
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        let fork = |snapshot, pid, error| Forked {
            name: container.clone(),
            container: container.clone(),
            namespace: namespace.clone(),
            snapshot,
            pid,
            error,
        };
        match pid {
            Ok(pid) => fork(self.snapshot_of(&namespace, &container).await, pid, None),
            Err(error) => fork(None, None, Some(error.into())),
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

    /// Takes away all that an operation made in a namespace, as far as it came: containers by their label, and
    /// snapshots that no container names yet by its lease and by their rows. Then its lease is ended.
    pub(super) async fn unmake_all(&self, client: &Client, snapshotter: &str, operation: Id) -> Result<()> {
        for made in containers::of_operation(client, operation).await? {
            unmake(client, &made.snapshotter, &made.id).await?;
        }
        let lease = leases::of_operation(operation);
        for (snapshotter, key) in leases::snapshots(client, &lease).await? {
            unmake(client, &snapshotter, &key).await?;
        }
        let rows = blocking(&self.core, move |core| core.store().read(|rows| rows.by_operation(operation)));
        for row in rows.await? {
            if let Some((namespace, name)) = row.key.as_deref().and_then(key::parts)
                && namespace == client.target().namespace
            {
                unmake(client, snapshotter, name).await?;
            }
        }
        leases::end(client, &lease, true).await
    }
}

/// Does all of the work, a little of it at once, and answers in its order.
pub(super) async fn some_at_once<W: Future>(work: Vec<W>) -> Vec<W::Output> {
    futures::stream::iter(work).buffered(AT_ONCE).collect().await
}

/// An error that several have.
fn again(error: &Error) -> Error {
    crate::store::Failure::from(error).into()
}

/// Makes a snapshot and a container on it, or nothing. The lease keeps the one until the other names it.
async fn make(work: &Work, leased: &Client, mold: &Mold, grant: &str, name: &str) -> Result<Container> {
    let container = mold.captured.branch(name, &leased.target().namespace, &mold.unlike)?;
    snapshots::prepare(leased, &container.snapshotter, name, &mold.parent, grant).await?;
    match containers::create(leased, container.clone()).await {
        Ok(()) => Ok(container),
        Err(error) => {
            let snapshotter = &container.snapshotter;
            let undone = undo(|| async {
                if matches!(error, Error::ContainerExists { .. }) {
                    return snapshots::remove(leased, snapshotter, name).await;
                }
                // One whose answer was lost may be there all the same.
                unmake(leased, snapshotter, name).await
            });
            tell_left(work, name, undone.await);
            Err(error)
        }
    }
}

/// Starts a container that we made; where it does not start, nothing of it stays.
async fn start_or_undo(work: &Work, client: &Client, container: &Container) -> Result<u32> {
    match task::start(client, container).await {
        Ok(pid) => Ok(pid),
        Err(error) => {
            let undone = undo(|| unmake(client, &container.snapshotter, &container.id)).await;
            tell_left(work, &container.id, undone);
            Err(error)
        }
    }
}

/// Takes away a container of a branch and its snapshot, as far as it came.
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

/// Tells what one container that failed leaves behind, and does not hide why it did.
fn tell_left(work: &Work, name: &str, undone: Result<()>) {
    if let Err(left) = undone {
        work.warn(format!("fork {name:?} failed and leaves something behind: {left}"));
    }
}
