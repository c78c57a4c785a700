//! containerd's Snapshots, asked from outside: it brings them to our own service and keeps its records.
//!
//! Never called from a handler of our Snapshots service: containerd may hold the snapshotter's lock
//! through the very request that the handler serves.

use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, Info, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest,
};
use containerd_client::tonic::Code;
use containerd_client::types::Mount;

use super::client::{Client, or_missing};
use crate::error::{Error, Result};
use crate::snapshot::{FORK_LABEL, key};

/// What containerd knows of a snapshot; None where it does not know it.
pub(super) async fn stat(client: &Client, snapshotter: &str, key: &str) -> Result<Option<Info>> {
    let request =
        client.look(StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
    let answer = or_missing(client.snapshots().stat(request).await)
        .map_err(client.failed(format!("look up snapshot {key:?} of {snapshotter}")))?;
    Ok(answer.and_then(|answer| answer.into_inner().info))
}

/// Makes an active snapshot that continues from the state that `grant` lets through.
pub(super) async fn prepare(
    client: &Client,
    snapshotter: &str,
    key: &str,
    parent: &str,
    grant: &str,
) -> Result<()> {
    crate::fault::point("containerd.branch.prepare")?;
    let request = client.request(PrepareSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: [(FORK_LABEL.to_owned(), grant.to_owned())].into(),
    });
    match client.snapshots().prepare(request).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => Err(Error::KeyExists(key.to_owned())),
        Err(status) => Err(client.failed(format!("prepare snapshot {key:?} of {snapshotter}"))(status)),
    }
}

/// Makes an active snapshot that a layer is unpacked into, and answers its mounts; none where the layer of this
/// chain id is unpacked already.
pub(super) async fn prepare_layer(
    client: &Client,
    snapshotter: &str,
    key: &str,
    parent: &str,
    chain_id: Option<&str>,
) -> Result<Option<Vec<Mount>>> {
    crate::fault::point("containerd.layer.prepare")?;
    let reference = chain_id.map(|chain_id| (key::REF_LABEL.to_owned(), chain_id.to_owned()));
    let request = client.request(PrepareSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: reference.into_iter().collect(),
    });
    match client.snapshots().prepare(request).await {
        Ok(answer) => Ok(Some(answer.into_inner().mounts)),
        Err(status) if status.code() == Code::AlreadyExists => Ok(None),
        Err(status) => Err(client.failed(format!("prepare snapshot {key:?} of {snapshotter}"))(status)),
    }
}

/// Commits an active snapshot under a name; false where another has the name.
pub(super) async fn commit(client: &Client, snapshotter: &str, name: &str, key: &str) -> Result<bool> {
    crate::fault::point("containerd.layer.commit")?;
    let request = client.request(CommitSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
        ..CommitSnapshotRequest::default()
    });
    match client.snapshots().commit(request).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::AlreadyExists => Ok(false),
        Err(status) => Err(client.failed(format!("commit snapshot {key:?} of {snapshotter}"))(status)),
    }
}

/// Has the state that `grant` lets through published as the layers of a chain id on those of `parent`: containerd
/// asks for it as for a layer that is to be unpacked, and finds it there.
pub(super) async fn publish(
    client: &Client,
    snapshotter: &str,
    chain_id: &str,
    parent: &str,
    grant: &str,
) -> Result<()> {
    crate::fault::point("containerd.commit.publish")?;
    let labels = [(FORK_LABEL, grant), (key::REF_LABEL, chain_id)];
    let request = client.request(PrepareSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key: chain_id.to_owned(),
        parent: parent.to_owned(),
        labels: labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into(),
    });
    let failed = client.failed(format!("publish snapshot {chain_id:?} of {snapshotter}"));
    match client.snapshots().prepare(request).await {
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        Err(status) => Err(failed(status)),
        Ok(_) => Err(Error::Internal(format!("snapshot {chain_id:?} was made anew and not published"))),
    }
}

/// How a snapshot is mounted.
pub(super) async fn mounts(client: &Client, snapshotter: &str, key: &str) -> Result<Vec<Mount>> {
    let request = client.request(MountsRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
    let answer = client
        .snapshots()
        .mounts(request)
        .await
        .map_err(client.failed(format!("ask for the mounts of snapshot {key:?} of {snapshotter}")))?;
    Ok(answer.into_inner().mounts)
}

/// Removes a snapshot; one that is gone is gone.
pub(super) async fn remove(client: &Client, snapshotter: &str, key: &str) -> Result<()> {
    let request =
        client.request(RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
    or_missing(client.snapshots().remove(request).await)
        .map_err(client.failed(format!("remove snapshot {key:?} of {snapshotter}")))?;
    Ok(())
}
