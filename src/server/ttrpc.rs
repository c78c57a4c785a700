//! containerd's Snapshots service over ttrpc.

use std::pin::pin;

use async_trait::async_trait;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use protobuf::Message;
use protobuf::well_known_types::empty::Empty;
use ttrpc::r#async::{ServerStreamSender, TtrpcContext};

use super::calls::Core;
use super::convert::{from_labels, ttrpc_info, ttrpc_mounts};
use crate::error::{Error, Result};
use crate::protos::snapshots::{
    CleanupRequest, CommitSnapshotRequest, ListSnapshotsRequest, ListSnapshotsResponse, MountsRequest,
    MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse, RemoveSnapshotRequest,
    StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest, UpdateSnapshotResponse, UsageRequest,
    UsageResponse, ViewSnapshotRequest, ViewSnapshotResponse,
};
use crate::protos::snapshots_ttrpc::Snapshots;
use crate::snapshot::filter::Filters;

/// The service over the core.
#[derive(Debug)]
pub(super) struct Ttrpc {
    core: Core,
}

impl Ttrpc {
    /// Over this core.
    pub(super) fn new(core: Core) -> Self {
        Self { core }
    }
}

#[async_trait]
impl Snapshots for Ttrpc {
    async fn prepare(
        &self,
        _: &TtrpcContext,
        request: PrepareSnapshotRequest,
    ) -> ttrpc::Result<PrepareSnapshotResponse> {
        let PrepareSnapshotRequest { key, parent, labels, .. } = request;
        let mounts = self.core.call(move |core| core.prepare(&key, &parent, from_labels(labels))).await?;
        Ok(PrepareSnapshotResponse { mounts: ttrpc_mounts(mounts), ..Default::default() })
    }

    async fn view(
        &self,
        _: &TtrpcContext,
        request: ViewSnapshotRequest,
    ) -> ttrpc::Result<ViewSnapshotResponse> {
        let ViewSnapshotRequest { key, parent, labels, .. } = request;
        let mounts = self.core.call(move |core| core.view(&key, &parent, from_labels(labels))).await?;
        Ok(ViewSnapshotResponse { mounts: ttrpc_mounts(mounts), ..Default::default() })
    }

    async fn mounts(&self, _: &TtrpcContext, request: MountsRequest) -> ttrpc::Result<MountsResponse> {
        let mounts = self.core.call(move |core| core.mounts(&request.key)).await?;
        Ok(MountsResponse { mounts: ttrpc_mounts(mounts), ..Default::default() })
    }

    async fn commit(&self, _: &TtrpcContext, request: CommitSnapshotRequest) -> ttrpc::Result<Empty> {
        let CommitSnapshotRequest { name, key, labels, parent, .. } = request;
        let commit = move |core: &crate::snapshot::Snapshots| {
            // Only containerd's capability "rebase", which loom does not offer, gives one a parent here.
            if !parent.is_empty() && core.stat(&key)?.parent != parent {
                let what = format!("parent {parent:?} at the commit of {key:?}");
                return Err(Error::invalid(what, "a snapshot's parent is given when it is prepared"));
            }
            core.commit(&name, &key, from_labels(labels))
        };
        self.core.call(commit).await?;
        Ok(Empty::new())
    }

    async fn remove(&self, _: &TtrpcContext, request: RemoveSnapshotRequest) -> ttrpc::Result<Empty> {
        self.core.call(move |core| core.remove(&request.key)).await?;
        Ok(Empty::new())
    }

    async fn stat(
        &self,
        _: &TtrpcContext,
        request: StatSnapshotRequest,
    ) -> ttrpc::Result<StatSnapshotResponse> {
        let listed = self.core.call(move |core| core.stat(&request.key)).await?;
        Ok(StatSnapshotResponse { info: Some(ttrpc_info(listed)).into(), ..Default::default() })
    }

    async fn update(
        &self,
        _: &TtrpcContext,
        request: UpdateSnapshotRequest,
    ) -> ttrpc::Result<UpdateSnapshotResponse> {
        let Some(info) = request.info.into_option() else {
            return Err(Error::invalid("an update without info", "info names the snapshot").into());
        };
        // No mask and an empty one both mean everything.
        let fields = request.update_mask.into_option().unwrap_or_default().paths;
        let listed =
            self.core.call(move |core| core.update(&info.name, from_labels(info.labels), &fields)).await?;
        Ok(UpdateSnapshotResponse { info: Some(ttrpc_info(listed)).into(), ..Default::default() })
    }

    async fn list(
        &self,
        _: &TtrpcContext,
        request: ListSnapshotsRequest,
        sender: ServerStreamSender<ListSnapshotsResponse>,
    ) -> ttrpc::Result<()> {
        let answer = |info| ListSnapshotsResponse { info, ..Default::default() };
        let pages = self.core.pages(Filters::parse(&request.filters)?);
        let infos = pages.map_ok(|page| stream::iter(page).map(|listed| Ok(ttrpc_info(listed))));
        send_all(&sender, infos.try_flatten(), answer).await
    }

    async fn usage(&self, _: &TtrpcContext, request: UsageRequest) -> ttrpc::Result<UsageResponse> {
        let usage = self.core.call(move |core| core.usage(&request.key)).await?;
        Ok(UsageResponse { size: usage.size, inodes: usage.inodes, ..Default::default() })
    }

    async fn cleanup(&self, _: &TtrpcContext, _: CleanupRequest) -> ttrpc::Result<Empty> {
        self.core.call(crate::snapshot::Snapshots::cleanup).await?;
        Ok(Empty::new())
    }
}

/// Sends a listing, in messages of a fitting size.
pub(super) async fn send_all<T: Message, R: Message>(
    sender: &ServerStreamSender<R>,
    listing: impl Stream<Item = Result<T>>,
    answer: impl Fn(Vec<T>) -> R,
) -> ttrpc::Result<()> {
    let mut listing = pin!(listing);
    let mut batch = Batch::default();
    while let Some(one) = listing.try_next().await? {
        if let Some(full) = batch.add(one) {
            sender.send(&answer(full)).await?;
        }
    }
    if let Some(rest) = batch.rest() {
        sender.send(&answer(rest)).await?;
    }
    Ok(())
}

/// Gathers a listing into messages: of at most 100, as containerd's own are, and well below the 4 MiB
/// that a ttrpc message may have.
#[derive(Debug)]
struct Batch<T> {
    gathered: Vec<T>,
    bytes: u64,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { gathered: Vec::new(), bytes: 0 }
    }
}

impl<T: Message> Batch<T> {
    const MOST: usize = 100;
    const BYTES: u64 = 1 << 20;

    /// Adds one; answers those that make a message where there are enough.
    fn add(&mut self, one: T) -> Option<Vec<T>> {
        self.bytes += one.compute_size();
        self.gathered.push(one);
        if self.gathered.len() < Self::MOST && self.bytes < Self::BYTES { None } else { self.rest() }
    }

    /// What has not been answered yet.
    fn rest(&mut self) -> Option<Vec<T>> {
        self.bytes = 0;
        let rest = std::mem::take(&mut self.gathered);
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protos::snapshots::Info;

    fn named(name: String) -> Info {
        Info { name, ..Default::default() }
    }

    #[test]
    fn a_batch_is_a_hundred_at_most() {
        let mut batch = Batch::default();
        let full: Vec<_> = (0..250).filter_map(|n| batch.add(named(n.to_string()))).collect();
        assert_eq!(full.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100]);
        assert_eq!(batch.rest().unwrap().len(), 50);
        assert!(batch.rest().is_none());
    }

    #[test]
    fn a_batch_of_large_ones_ends_early() {
        let mut batch = Batch::default();
        let large = || named("x".repeat(600 << 10));
        assert!(batch.add(large()).is_none());
        assert_eq!(batch.add(large()).unwrap().len(), 2);
        assert!(batch.rest().is_none());
    }
}
