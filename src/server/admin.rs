//! loom's own service, `loom.admin.v1.Admin`, over ttrpc.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream;
use ttrpc::r#async::{ServerStreamSender, TtrpcContext};

use self::message::{cost, forked, shown, snapshot};
use super::Served;
use super::calls::Core;
use super::convert::{from_labels, timestamp};
use super::ttrpc::send_all;
use crate::containerd::{Branched, Brancher, Changes, Consistency, Options, Resumed, Target};
use crate::error::Result;
use crate::protos::admin::{
    self as proto, CloneRequest, CloneResponse, ForkRequest, ForkResponse, GetRequest, GetResponse,
    LineageRequest, LineageResponse, ListRequest, ListResponse, PinRequest, PinResponse, RemoveRequest,
    RemoveResponse, ResumeRequest, ResumeResponse, SnapshotRequest, SnapshotResponse, StatusRequest,
    StatusResponse, UnpinRequest, UnpinResponse,
};
use crate::protos::admin_ttrpc;
use crate::snapshot::Snapshots;
use crate::store::{Home, Time};

mod message;

/// The service.
#[derive(Debug)]
pub(super) struct Admin {
    core: Core,
    brancher: Arc<Brancher>,
    containerd: String,
    started: Time,
}

impl Admin {
    /// Over what is served.
    pub(super) fn new(core: Core, served: Served, started: Time) -> Self {
        Self { core, brancher: served.brancher, containerd: served.containerd, started }
    }

    /// The containerd that a request is about.
    fn target(&self, containerd: Option<proto::Containerd>) -> Target {
        let given = containerd.unwrap_or_default();
        let or = |given: String, default: &str| if given.is_empty() { default.to_owned() } else { given };
        Target { address: or(given.address, &self.containerd), namespace: or(given.namespace, "default") }
    }

    /// Runs `work` with the brancher.
    async fn branch<T, F>(&self, work: impl FnOnce(Arc<Brancher>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.core.run(work(Arc::clone(&self.brancher))).await
    }

    /// Finds the snapshot that a reference means, then runs `then` with it; both run to their end.
    async fn on<T: Send + 'static>(
        &self,
        containerd: Option<proto::Containerd>,
        reference: String,
        then: impl FnOnce(&Snapshots, crate::store::Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let target = self.target(containerd);
        let core = self.core.clone();
        self.branch(|brancher| async move {
            let found = brancher.find(&target, &reference).await?;
            core.call(move |core| then(core, found)).await
        })
        .await
    }
}

/// What every branch can be asked for.
fn options(options: &proto::Options) -> Options {
    let app = Ok(proto::Consistency::CONSISTENCY_APP);
    Options {
        no_start: options.resume_policy.enum_value() == Ok(proto::ResumePolicy::RESUME_POLICY_MANUAL),
        consistency: if options.consistency.enum_value() == app {
            Consistency::App
        } else {
            Consistency::Crash
        },
        ..Options::default()
    }
}

/// An empty name is none.
fn given(name: String) -> Option<String> {
    (!name.is_empty()).then_some(name)
}

#[async_trait]
impl admin_ttrpc::Admin for Admin {
    async fn snapshot(&self, _: &TtrpcContext, request: SnapshotRequest) -> ttrpc::Result<SnapshotResponse> {
        let target = self.target(request.containerd.into_option());
        let options = Options {
            name: given(request.name),
            labels: from_labels(request.labels),
            ..options(&request.options)
        };
        let core = self.core.clone();
        let (seen, spent) = self
            .branch(|brancher| async move {
                let (_, made) = brancher.snapshot(&target, &request.reference, options).await?;
                Ok((core.call(move |core| core.get(made.snapshot)).await?, made.cost))
            })
            .await?;
        Ok(SnapshotResponse {
            snapshot: Some(snapshot(seen)).into(),
            cost: Some(cost(&spent)).into(),
            ..Default::default()
        })
    }

    async fn fork(&self, _: &TtrpcContext, request: ForkRequest) -> ttrpc::Result<ForkResponse> {
        let target = self.target(request.containerd.into_option());
        let options = Options { name: given(request.name), ..options(&request.options) };
        let (count, changes) = (request.count.max(1), Changes::default());
        let (_, Branched { forks, cost: spent }) = self
            .branch(|brancher| async move {
                brancher.fork(&target, &request.reference, count, options, changes).await
            })
            .await?;
        Ok(ForkResponse {
            forks: forks.into_iter().map(forked).collect(),
            cost: Some(cost(&spent)).into(),
            ..Default::default()
        })
    }

    async fn clone_state(&self, _: &TtrpcContext, request: CloneRequest) -> ttrpc::Result<CloneResponse> {
        let target = self.target(request.containerd.into_option());
        let options = Options { name: given(request.name), ..options(&request.options) };
        let changes = Changes::default();
        let (_, Branched { mut forks, cost: spent }) = self
            .branch(|brancher| async move {
                brancher.clone_state(&target, &request.reference, options, changes).await
            })
            .await?;
        let clone = forks.pop();
        Ok(CloneResponse {
            clone: clone.map(forked).into(),
            cost: Some(cost(&spent)).into(),
            ..Default::default()
        })
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<ResumeResponse> {
        let target = self.target(request.containerd.into_option());
        let options = options(&request.options);
        let (_, Resumed { container, pid }) = self
            .branch(|brancher| async move { brancher.resume(&target, &request.reference, options).await })
            .await?;
        Ok(ResumeResponse { container, pid, ..Default::default() })
    }

    async fn lineage(
        &self,
        _: &TtrpcContext,
        request: LineageRequest,
        sender: ServerStreamSender<LineageResponse>,
    ) -> ttrpc::Result<()> {
        let answer = |snapshots| LineageResponse { snapshots, ..Default::default() };
        let path = self
            .on(request.containerd.into_option(), request.reference, |core, found| core.lineage(found.id))
            .await?;
        send_all(&sender, stream::iter(path.into_iter().map(snapshot).map(Ok)), answer).await
    }

    async fn pin(&self, _: &TtrpcContext, request: PinRequest) -> ttrpc::Result<PinResponse> {
        let target = self.target(request.containerd.into_option());
        let core = self.core.clone();
        let seen = self
            .branch(|brancher| async move {
                let (found, captured) = brancher.find_captured(&target, &request.reference).await?;
                let pin = move |core: &Snapshots| {
                    core.pin(found.id, captured)?;
                    core.get(found.id)
                };
                core.call(pin).await
            })
            .await?;
        Ok(PinResponse { snapshot: Some(snapshot(seen)).into(), ..Default::default() })
    }

    async fn unpin(&self, _: &TtrpcContext, request: UnpinRequest) -> ttrpc::Result<UnpinResponse> {
        self.on(request.containerd.into_option(), request.reference, |core, found| core.unpin(found.id))
            .await?;
        Ok(UnpinResponse::new())
    }

    async fn list(
        &self,
        _: &TtrpcContext,
        request: ListRequest,
        sender: ServerStreamSender<ListResponse>,
    ) -> ttrpc::Result<()> {
        let answer = |snapshots| ListResponse { snapshots, ..Default::default() };
        let all = self.core.call(Snapshots::all).await?.into_iter();
        let asked = all.filter(|seen| request.all || shown(seen)).map(snapshot);
        send_all(&sender, stream::iter(asked.map(Ok)), answer).await
    }

    async fn get(&self, _: &TtrpcContext, request: GetRequest) -> ttrpc::Result<GetResponse> {
        let seen = self
            .on(request.containerd.into_option(), request.reference, |core, found| core.get(found.id))
            .await?;
        Ok(GetResponse { snapshot: Some(snapshot(seen)).into(), ..Default::default() })
    }

    async fn remove(&self, _: &TtrpcContext, request: RemoveRequest) -> ttrpc::Result<RemoveResponse> {
        self.on(request.containerd.into_option(), request.reference, |core, found| core.forget(found.id))
            .await?;
        Ok(RemoveResponse::new())
    }

    async fn status(&self, _: &TtrpcContext, _: StatusRequest) -> ttrpc::Result<StatusResponse> {
        let mut status = StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            containerd: self.containerd.clone(),
            started: timestamp(self.started),
            ..Default::default()
        };
        let look = move |core: &Snapshots| {
            let (layers, counts) = (core.layers(), core.counts()?);
            // Writable layers of containers lie in the pool wherever there is one.
            let home = if layers.pool().is_some() { Home::Pool } else { Home::Plain };
            status.root = layers.root().to_string_lossy().into_owned();
            status.root_filesystem = layers.root_filesystem();
            status.pool = layers.pool().map(|pool| pool.to_string_lossy().into_owned()).unwrap_or_default();
            status.method = layers.method(home).to_string();
            (status.listed, status.held, status.layers) = (counts.listed, counts.held, counts.layers);
            Ok(status)
        };
        Ok(self.core.call(look).await?)
    }
}
