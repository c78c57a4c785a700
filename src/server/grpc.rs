//! containerd's Snapshots service over gRPC, which is how containerd dials a proxy plugin.

use std::collections::HashMap;

use containerd_snapshots::api::types::Mount;
use containerd_snapshots::{Info, Snapshotter, Usage};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::calls::Core;
use super::convert::{from_labels, grpc_info, grpc_mounts, grpc_usage};
use crate::error::{Error, Result};
use crate::snapshot::filter::Filters;

/// The service over the core.
#[derive(Debug)]
pub(super) struct Grpc {
    core: Core,
}

impl Grpc {
    /// Over this core.
    pub(super) fn new(core: Core) -> Self {
        Self { core }
    }
}

#[tonic::async_trait]
impl Snapshotter for Grpc {
    type Error = Error;

    async fn stat(&self, key: String) -> Result<Info> {
        self.core.call(move |core| core.stat(&key)).await.map(grpc_info)
    }

    async fn update(&self, info: Info, fields: Option<Vec<String>>) -> Result<Info> {
        // A client that sends no mask and one that sends an empty mask both mean everything.
        let fields = fields.unwrap_or_default();
        let (key, labels) = (info.name, from_labels(info.labels));
        self.core.call(move |core| core.update(&key, labels, &fields)).await.map(grpc_info)
    }

    async fn usage(&self, key: String) -> Result<Usage> {
        self.core.call(move |core| core.usage(&key)).await.map(grpc_usage)
    }

    async fn mounts(&self, key: String) -> Result<Vec<Mount>> {
        self.core.call(move |core| core.mounts(&key)).await.map(grpc_mounts)
    }

    async fn prepare(
        &self,
        key: String,
        parent: String,
        labels: HashMap<String, String>,
    ) -> Result<Vec<Mount>> {
        let labels = from_labels(labels);
        self.core.call(move |core| core.prepare(&key, &parent, labels)).await.map(grpc_mounts)
    }

    async fn view(&self, key: String, parent: String, labels: HashMap<String, String>) -> Result<Vec<Mount>> {
        let labels = from_labels(labels);
        self.core.call(move |core| core.view(&key, &parent, labels)).await.map(grpc_mounts)
    }

    async fn commit(&self, name: String, key: String, labels: HashMap<String, String>) -> Result<()> {
        let labels = from_labels(labels);
        self.core.call(move |core| core.commit(&name, &key, labels)).await
    }

    async fn remove(&self, key: String) -> Result<()> {
        self.core.call(move |core| core.remove(&key)).await
    }

    async fn clear(&self) -> Result<()> {
        self.core.call(crate::snapshot::Snapshots::cleanup).await
    }

    type InfoStream = BoxStream<'static, Result<Info>>;

    async fn list(&self, _snapshotter: String, filters: Vec<String>) -> Result<Self::InfoStream> {
        let pages = self.core.pages(Filters::parse(&filters)?);
        let infos = pages.map_ok(|page| stream::iter(page).map(|listed| Ok(grpc_info(listed))));
        Ok(infos.try_flatten().boxed())
    }
}
