//! loom's own service, `loom.admin.v1.Admin`, over ttrpc.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream;
use tokio_util::sync::CancellationToken;
use ttrpc::Code;
use ttrpc::r#async::{ServerStream, ServerStreamSender, TtrpcContext};

use self::message::{cost, forked, image_namespace, operation, rolled, shown, size, snapshot};
use self::watch::Watch;
use super::Served;
use super::calls::Core;
use super::convert::timestamp;
use super::ttrpc::send_all;
use crate::containerd::{Brancher, Target};
use crate::error::{Error, Kind, Result};
use crate::operation::Operations;
use crate::protos::admin::{
    self as proto, CancelOperationRequest, CancelOperationResponse, CheckRequest, CheckResponse,
    CloneRequest, CloneResponse, CommitRequest, CommitResponse, CreatePoolRequest, CreatePoolResponse,
    DiffRequest, DiffResponse, DiskUsageRequest, DiskUsageResponse, ExportRequest, ExportResponse,
    ForkRequest, ForkResponse, GetOperationRequest, GetOperationResponse, GetRequest, GetResponse,
    GrowPoolRequest, GrowPoolResponse, ImagesRequest, ImagesResponse, ImportRequest, ImportResponse,
    LimitRequest, LimitResponse, LineageRequest, LineageResponse, ListOperationsRequest,
    ListOperationsResponse, ListRequest, ListResponse, MoveToPoolRequest, MoveToPoolResponse, PinRequest,
    PinResponse, PortableRequest, PortableResponse, PromoteRequest, PromoteResponse, PruneRequest,
    PruneResponse, RemoveRequest, RemoveResponse, ResumeRequest, ResumeResponse, RollbackRequest,
    RollbackResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse, TagRequest,
    TagResponse, UnpinRequest, UnpinResponse, WatchOperationsRequest, WatchOperationsResponse,
};
use crate::protos::admin_ttrpc;
use crate::snapshot::{Pruned, Seen, Size, Snapshots};
use crate::store::{Id, Operation, Time};

mod archive;
mod check;
mod df;
mod image;
mod limit;
mod message;
mod pool;
mod request;
mod watch;

/// How long a request measures what it is to tell the sizes of.
const MEASURING: Duration = Duration::from_secs(2);

/// The service.
#[derive(Debug)]
pub(super) struct Admin {
    core: Core,
    brancher: Arc<Brancher>,
    operations: Arc<Operations>,
    containerd: String,
    started: Time,
    /// Ends the watches, which have no end of their own.
    stop: CancellationToken,
}

impl Admin {
    /// Over what is served, until `stop`.
    pub(super) fn new(core: Core, served: Served, started: Time, stop: CancellationToken) -> Self {
        let Served { brancher, operations, containerd, .. } = served;
        Self { core, brancher, operations, containerd, started, stop }
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

    /// Calls the operations.
    async fn tracked<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Operations) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let operations = Arc::clone(&self.operations);
        self.core.call(move |_| call(&operations)).await
    }

    /// Snapshots as they are told, with what people call their containers now.
    async fn told(&self, all: Vec<Seen>) -> Vec<proto::Snapshot> {
        let mut all: Vec<_> = all.into_iter().map(snapshot).collect();
        // Only nerdctl's containers are called by other names than their ids, which are digests.
        let unnamed = |told: &&mut proto::Snapshot| told.container_name.len() == 64;
        let namespaces = all.iter_mut().filter(unnamed).map(|told| told.namespace.clone()).collect();
        let names = self.brancher.names(&self.containerd, namespaces).await;
        for told in all.iter_mut().filter(unnamed) {
            if let Some(name) = names.get(&(told.namespace.clone(), told.container.clone())) {
                told.container_name.clone_from(name);
            }
        }
        all
    }

    /// The same with the names of the images whose tops they are and, where they were measured, their sizes.
    async fn described(&self, all: Vec<Seen>, sizes: Vec<Option<Size>>) -> Vec<proto::Snapshot> {
        let namespaces = all.iter().filter_map(|seen| image_namespace(&seen.snapshot)).collect();
        let images = self.brancher.image_names(&self.containerd, namespaces);
        let (mut all, mut images) = tokio::join!(self.told(all), images);
        for told in &mut all {
            told.images = told.id.parse().ok().and_then(|id: Id| images.remove(&id)).unwrap_or_default();
        }
        for (told, found) in all.iter_mut().zip(sizes) {
            told.size = found.map(size).into();
        }
        all
    }

    /// A snapshot that a branch made. One that is gone since, by its time or by another request, was made
    /// all the same.
    async fn made(&self, id: Id, by: Id) -> Result<proto::Snapshot> {
        match self.core.call(move |core| core.get(id)).await {
            Ok(seen) => Ok(snapshot(seen)),
            Err(Error::SnapshotNotFound(_)) => {
                Ok(proto::Snapshot { id: id.to_string(), operation: by.to_string(), ..Default::default() })
            }
            Err(error) => Err(error),
        }
    }
}

/// Snapshots, with their sizes where those are wanted.
fn measured(core: &Snapshots, all: Vec<Seen>, sizes: bool) -> Result<(Vec<Seen>, Vec<Option<Size>>)> {
    let sizes = if sizes { core.sizes(&all, MEASURING)? } else { Vec::new() };
    Ok((all, sizes))
}

/// Removes what fits, or only tells it. What someone has pinned, removed or taken up meanwhile is left out.
fn prune(core: &Snapshots, pruned: &Pruned, dry_run: bool) -> Result<Vec<Seen>> {
    let (mut gone, mut failed) = (Vec::new(), None);
    for snapshot in core.prunable(pruned)? {
        let id = snapshot.id;
        let look = core.get(id);
        let ended = look.and_then(|seen| if dry_run { Ok(seen) } else { core.forget(id).map(|()| seen) });
        match ended {
            Ok(seen) => gone.push(seen),
            Err(error)
                if matches!(error.kind(), Kind::NotFound | Kind::FailedPrecondition | Kind::Aborted) =>
            {
                tracing::debug!(snapshot = %id, %error, "not pruned");
            }
            // One bad layer does not keep the others.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(gone), Err)
}

#[async_trait]
impl admin_ttrpc::Admin for Admin {
    async fn snapshot(&self, _: &TtrpcContext, request: SnapshotRequest) -> ttrpc::Result<SnapshotResponse> {
        let target = self.target(request.containerd.into_option());
        let options = request::options(request.options.into_option(), request.name, request.labels)?;
        let reference = request.reference;
        let (id, taken) = self
            .branch(|brancher| async move { brancher.snapshot(&target, &reference, options).await })
            .await?;
        Ok(SnapshotResponse {
            snapshot: Some(self.made(taken.snapshot, id).await?).into(),
            cost: Some(cost(&taken.cost)).into(),
            operation: id.to_string(),
            ..Default::default()
        })
    }

    async fn fork(&self, _: &TtrpcContext, request: ForkRequest) -> ttrpc::Result<ForkResponse> {
        let target = self.target(request.containerd.into_option());
        let (options, changes) =
            request::branch(request.options.into_option(), request.changes.into_option(), request.name)?;
        let (reference, count) = (request.reference, request.count.max(1));
        let fork = |brancher: Arc<Brancher>| async move {
            brancher.fork(&target, &reference, count, options, changes).await
        };
        let (id, made) = self.branch(fork).await?;
        Ok(ForkResponse {
            forks: made.forks.into_iter().map(forked).collect(),
            cost: Some(cost(&made.cost)).into(),
            operation: id.to_string(),
            ..Default::default()
        })
    }

    async fn clone_state(&self, _: &TtrpcContext, request: CloneRequest) -> ttrpc::Result<CloneResponse> {
        let target = self.target(request.containerd.into_option());
        let (options, changes) =
            request::branch(request.options.into_option(), request.changes.into_option(), request.name)?;
        let reference = request.reference;
        let clone = |brancher: Arc<Brancher>| async move {
            brancher.clone_state(&target, &reference, options, changes).await
        };
        let (id, made) = self.branch(clone).await?;
        Ok(CloneResponse {
            clone: made.forks.into_iter().next().map(forked).into(),
            cost: Some(cost(&made.cost)).into(),
            operation: id.to_string(),
            ..Default::default()
        })
    }

    async fn rollback(&self, _: &TtrpcContext, request: RollbackRequest) -> ttrpc::Result<RollbackResponse> {
        let target = self.target(request.containerd.into_option());
        let options = request::options(request.options.into_option(), request.name, request.labels)?;
        let (reference, snapshot, discard) = (request.reference, request.snapshot, request.discard);
        let (id, made) = self
            .branch(|brancher| async move {
                brancher.rollback(&target, &reference, &snapshot, discard, options).await
            })
            .await?;
        Ok(RollbackResponse {
            cost: Some(cost(&made.cost)).into(),
            container: Some(rolled(made)).into(),
            operation: id.to_string(),
            ..Default::default()
        })
    }

    async fn promote(&self, _: &TtrpcContext, request: PromoteRequest) -> ttrpc::Result<PromoteResponse> {
        let target = self.target(request.containerd.into_option());
        let options = request::options(request.options.into_option(), request.name, request.labels)?;
        let (reference, discard, if_unchanged) = (request.reference, request.discard, request.if_unchanged);
        let (id, made) = self
            .branch(|brancher| async move {
                brancher.promote(&target, &reference, discard, if_unchanged, options).await
            })
            .await?;
        Ok(PromoteResponse {
            cost: Some(cost(&made.cost)).into(),
            container: Some(rolled(made)).into(),
            operation: id.to_string(),
            ..Default::default()
        })
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<ResumeResponse> {
        let target = self.target(request.containerd.into_option());
        let options = request::options(request.options.into_option(), String::new(), HashMap::default())?;
        let reference = request.reference;
        let (id, resumed) = self
            .branch(|brancher| async move { brancher.resume(&target, &reference, options).await })
            .await?;
        Ok(ResumeResponse {
            container: resumed.container,
            name: resumed.name,
            pid: resumed.pid,
            operation: id.to_string(),
            ..Default::default()
        })
    }

    async fn commit(&self, _: &TtrpcContext, request: CommitRequest) -> ttrpc::Result<CommitResponse> {
        self.make_image(request).await
    }

    async fn portable(&self, _: &TtrpcContext, request: PortableRequest) -> ttrpc::Result<PortableResponse> {
        self.make_portable(request).await
    }

    async fn images(
        &self,
        _: &TtrpcContext,
        request: ImagesRequest,
        sender: ServerStreamSender<ImagesResponse>,
    ) -> ttrpc::Result<()> {
        self.all_images(request, &sender).await
    }

    async fn tag(&self, _: &TtrpcContext, request: TagRequest) -> ttrpc::Result<TagResponse> {
        self.tag_image(request).await
    }

    async fn diff(
        &self,
        _: &TtrpcContext,
        request: DiffRequest,
        sender: ServerStreamSender<DiffResponse>,
    ) -> ttrpc::Result<()> {
        self.compare(request, &sender).await
    }

    async fn export(
        &self,
        _: &TtrpcContext,
        request: ExportRequest,
        sender: ServerStreamSender<ExportResponse>,
    ) -> ttrpc::Result<()> {
        self.send_archive(request, &sender).await
    }

    async fn import(
        &self,
        _: &TtrpcContext,
        stream: ServerStream<ImportResponse, ImportRequest>,
    ) -> ttrpc::Result<()> {
        self.take_archive(stream).await
    }

    async fn lineage(
        &self,
        _: &TtrpcContext,
        request: LineageRequest,
        sender: ServerStreamSender<LineageResponse>,
    ) -> ttrpc::Result<()> {
        let answer = |snapshots| LineageResponse { snapshots, ..Default::default() };
        let (path, sizes) = self
            .on(request.containerd.into_option(), request.reference, move |core, found| {
                measured(core, core.lineage(found.id)?, request.sizes)
            })
            .await?;
        let told = self.described(path, sizes).await;
        send_all(&sender, stream::iter(told.into_iter().map(Ok)), answer).await
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
        Ok(PinResponse { snapshot: self.told(vec![seen]).await.pop().into(), ..Default::default() })
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
        let look = move |core: &Snapshots| {
            let mut all = core.all()?;
            all.retain(|seen| request.all || shown(seen));
            measured(core, all, request.sizes)
        };
        let (all, sizes) = self.core.call(look).await?;
        let told = self.described(all, sizes).await;
        send_all(&sender, stream::iter(told.into_iter().map(Ok)), answer).await
    }

    async fn get(&self, _: &TtrpcContext, request: GetRequest) -> ttrpc::Result<GetResponse> {
        let seen = self
            .on(request.containerd.into_option(), request.reference, |core, found| core.get(found.id))
            .await?;
        let told = self.described(vec![seen], Vec::new()).await.pop();
        Ok(GetResponse { snapshot: told.into(), ..Default::default() })
    }

    async fn remove(&self, _: &TtrpcContext, request: RemoveRequest) -> ttrpc::Result<RemoveResponse> {
        self.on(request.containerd.into_option(), request.reference, |core, found| core.forget(found.id))
            .await?;
        Ok(RemoveResponse::new())
    }

    async fn prune(
        &self,
        _: &TtrpcContext,
        mut request: PruneRequest,
        sender: ServerStreamSender<PruneResponse>,
    ) -> ttrpc::Result<()> {
        let answer = |snapshots| PruneResponse { snapshots, ..Default::default() };
        let target = self.target(request.containerd.take());
        let dry_run = request.dry_run;
        let pruned = request::pruned(request, &target.namespace)?;
        let gone = self.core.call(move |core| prune(core, &pruned, dry_run)).await?;
        send_all(&sender, stream::iter(self.told(gone).await.into_iter().map(Ok)), answer).await
    }

    async fn limit(&self, _: &TtrpcContext, request: LimitRequest) -> ttrpc::Result<LimitResponse> {
        self.limit_container(request).await
    }

    async fn disk_usage(
        &self,
        _: &TtrpcContext,
        _: DiskUsageRequest,
        sender: ServerStreamSender<DiskUsageResponse>,
    ) -> ttrpc::Result<()> {
        self.all_disk_usage(&sender).await
    }

    async fn get_operation(
        &self,
        _: &TtrpcContext,
        request: GetOperationRequest,
    ) -> ttrpc::Result<GetOperationResponse> {
        let found = self.tracked(move |operations| operations.get(&request.id)).await?;
        Ok(GetOperationResponse { operation: Some(operation(found)).into(), ..Default::default() })
    }

    async fn list_operations(
        &self,
        _: &TtrpcContext,
        request: ListOperationsRequest,
        sender: ServerStreamSender<ListOperationsResponse>,
    ) -> ttrpc::Result<()> {
        let answer = |operations| ListOperationsResponse { operations, ..Default::default() };
        let limit = match request.limit {
            0 => 100,
            limit => limit.min(1000) as usize,
        };
        let newest = self.tracked(move |operations| operations.list(limit)).await?;
        send_all(&sender, stream::iter(newest.into_iter().map(operation).map(Ok)), answer).await
    }

    async fn watch_operations(
        &self,
        _: &TtrpcContext,
        request: WatchOperationsRequest,
        sender: ServerStreamSender<WatchOperationsResponse>,
    ) -> ttrpc::Result<()> {
        let mut watch = Watch::new(self.core.clone(), Arc::clone(&self.operations), request.id);
        loop {
            let change: Option<Operation> = tokio::select! {
                change = watch.next() => change?,
                () = self.stop.cancelled() => {
                    let status = ttrpc::get_status(Code::UNAVAILABLE, "loomd is stopping; watch again once it runs");
                    return Err(ttrpc::Error::RpcStatus(status));
                }
            };
            let Some(change) = change else { return Ok(()) };
            let operation = Some(operation(change)).into();
            sender.send(&WatchOperationsResponse { operation, ..Default::default() }).await?;
        }
    }

    async fn cancel_operation(
        &self,
        _: &TtrpcContext,
        request: CancelOperationRequest,
    ) -> ttrpc::Result<CancelOperationResponse> {
        let asked = self.tracked(move |operations| operations.cancel(&request.id)).await?;
        Ok(CancelOperationResponse { operation: Some(operation(asked)).into(), ..Default::default() })
    }

    async fn check(
        &self,
        _: &TtrpcContext,
        request: CheckRequest,
        sender: ServerStreamSender<CheckResponse>,
    ) -> ttrpc::Result<()> {
        self.compare_all(request, &sender).await
    }

    async fn create_pool(
        &self,
        _: &TtrpcContext,
        request: CreatePoolRequest,
    ) -> ttrpc::Result<CreatePoolResponse> {
        self.make_pool(request).await
    }

    async fn grow_pool(&self, _: &TtrpcContext, request: GrowPoolRequest) -> ttrpc::Result<GrowPoolResponse> {
        self.enlarge_pool(request).await
    }

    async fn move_to_pool(
        &self,
        _: &TtrpcContext,
        request: MoveToPoolRequest,
        sender: ServerStreamSender<MoveToPoolResponse>,
    ) -> ttrpc::Result<()> {
        self.bring_to_pool(request, &sender).await
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
            let (method, why) = core.how();
            status.root = layers.root().to_string_lossy().into_owned();
            status.root_filesystem = layers.root_filesystem();
            status.pool = layers.pool().map(|pool| pool.to_string_lossy().into_owned()).unwrap_or_default();
            (status.method, status.method_why) = (method.to_string(), why);
            status.seals = layers.seals();
            status.pool_state = core.pool_seen()?.map(pool::pool).into();
            (status.listed, status.held, status.layers) = (counts.listed, counts.held, counts.layers);
            Ok(status)
        };
        Ok(self.core.call(look).await?)
    }
}
