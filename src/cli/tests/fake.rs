//! A loomd that knows one container, one snapshot, a few operations, and how to refuse.

use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp;
use tokio::sync::{oneshot, watch};
use ttrpc::Code;
use ttrpc::r#async::{Server, ServerStream, ServerStreamSender, TtrpcContext};

pub(super) use self::image::{ARCHIVE, PATCH};
use self::image::{changes, image};
use super::{Exit, loom_interrupted};
use crate::protos::admin::*;
use crate::protos::admin_ttrpc::{Admin, create_admin};

mod image;

/// The operation that made everything here.
pub(super) const SEED: &str = "5eed5eed5eed5eed5eed5eed5eed5eed";

/// What it remembers: the operation under way, and whether it was cancelled.
#[derive(Debug, Default)]
struct Fake {
    under_way: watch::Sender<(String, bool)>,
}

impl Fake {
    /// What never ends by itself, until it is cancelled.
    async fn stall(&self, operation: &str) {
        self.under_way.send_replace((operation.to_owned(), false));
        let mut changes = self.under_way.subscribe();
        let _ = changes.wait_for(|(_, cancelled)| *cancelled).await;
    }
}

fn refuse<T>(code: Code, message: &str) -> ttrpc::Result<T> {
    Err(ttrpc::Error::RpcStatus(ttrpc::get_status(code, message)))
}

fn at(seconds: i64, nanos: i32) -> MessageField<Timestamp> {
    MessageField::some(Timestamp { seconds, nanos, ..Default::default() })
}

pub(super) fn web() -> Snapshot {
    Snapshot {
        id: "0123456789abcdef0123456789abcdef".into(),
        key: "default/7/web".into(),
        kind: Kind::KIND_ACTIVE.into(),
        container: "web".into(),
        namespace: "default".into(),
        created: at(1_700_000_000, 5_000_000),
        home: "pool".into(),
        depth: 3,
        labels: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
        operation: SEED.into(),
        ..Default::default()
    }
}

/// A pool in an image.
fn image_pool() -> Pool {
    Pool {
        path: "/var/lib/loom/pool".into(),
        kind: "image".into(),
        source: "/var/lib/loom/pool.img".into(),
        used: 3_000_000,
        free: 2_000_000_000,
        allocated: 2_100_000_000,
        host_free: 50_000_000_000,
        reserve: 1_000_000_000,
        ..Default::default()
    }
}

pub(super) fn before() -> Snapshot {
    Snapshot {
        id: "fedcba9876543210fedcba9876543210".into(),
        name: "before".into(),
        kind: Kind::KIND_COMMITTED.into(),
        source: web().id,
        pinned: true,
        expires: at(1_700_086_400, 0),
        ..web()
    }
}

fn price() -> MessageField<Cost> {
    MessageField::some(Cost {
        method: "subvolume".into(),
        paused_us: 2_100,
        total_us: 14_000,
        ..Default::default()
    })
}

/// A fork in three steps that has warned of something.
fn done() -> Operation {
    let step = |name: &str, took_us| Step { name: name.into(), took_us, ..Default::default() };
    Operation {
        id: SEED.into(),
        kind: OperationKind::OPERATION_KIND_FORK.into(),
        subject: "web".into(),
        namespace: "default".into(),
        state: OperationState::OPERATION_STATE_SUCCEEDED.into(),
        done: 3,
        total: 3,
        steps: vec![step("state", 2_100), step("make", 40_000), step("start", 320_000)],
        warnings: vec!["loom.unquiesce of \"web\" failed: exit status 1".into()],
        idempotency_key: "nightly-7".into(),
        created: at(1_700_000_000, 0),
        ended: at(1_700_000_000, 367_000_000),
        result: FORKS.into(),
        ..Default::default()
    }
}

/// Its result.
pub(super) const FORKS: &str = r#"{"forks":[{"name":"try-1","pid":1192,"error":null},{"name":"try-2","pid":null,"error":{"message":"no"}}]}"#;

/// The same while it was under way.
fn running() -> Operation {
    let mut running = done();
    running.state = OperationState::OPERATION_STATE_RUNNING.into();
    running.done = 1;
    running.steps[2].took_us = 0;
    (running.ended, running.result) = (MessageField::none(), String::new());
    running
}

/// One that did not come to anything.
fn failed() -> Operation {
    Operation {
        id: "0badc0de0badc0de0badc0de0badc0de".into(),
        kind: OperationKind::OPERATION_KIND_ROLLBACK.into(),
        subject: "db".into(),
        state: OperationState::OPERATION_STATE_FAILED.into(),
        error_code: "NO_SPACE".into(),
        error: "no space".into(),
        steps: Vec::new(),
        warnings: Vec::new(),
        idempotency_key: String::new(),
        result: String::new(),
        ..done()
    }
}

fn rolled(name: String, discard: bool, options: &Options) -> MessageField<Rolled> {
    let manual = options.resume_policy.enum_value() == Ok(ResumePolicy::RESUME_POLICY_MANUAL);
    MessageField::some(Rolled {
        container: "c0ffee".into(),
        name: "web".into(),
        namespace: "default".into(),
        snapshot: web().id,
        kept: if discard { String::new() } else { before().id },
        kept_name: if discard { String::new() } else { name },
        pid: if manual { 0 } else { 42 },
        ..Default::default()
    })
}

#[async_trait]
impl Admin for Fake {
    async fn commit(&self, _: &TtrpcContext, request: CommitRequest) -> ttrpc::Result<CommitResponse> {
        if request.image == "taken" && !request.replace {
            return refuse(Code::ALREADY_EXISTS, "image \"taken\" already exists");
        }
        let mut image = image(&request.image);
        image.mut_or_insert_default().portable |= request.portable;
        Ok(CommitResponse {
            image,
            // A snapshot's state was there before.
            cost: if request.reference == "before" { MessageField::none() } else { price() },
            operation: "1".repeat(32),
            ..Default::default()
        })
    }

    async fn portable(&self, _: &TtrpcContext, request: PortableRequest) -> ttrpc::Result<PortableResponse> {
        if request.image == "slow" {
            self.stall(&request.options.operation).await;
            return refuse(Code::ABORTED, "operation was cancelled; what it had made was undone");
        }
        let written = !request.image.starts_with("portable");
        Ok(PortableResponse {
            image: image(&request.image),
            layer: if written { format!("sha256:{}", "a".repeat(64)) } else { String::new() },
            layer_size: if written { 1_100_000_000 } else { 0 },
            operation: "2".repeat(32),
            ..Default::default()
        })
    }

    async fn images(
        &self,
        _: &TtrpcContext,
        _: ImagesRequest,
        sender: ServerStreamSender<ImagesResponse>,
    ) -> ttrpc::Result<()> {
        for name in ["app:v2", "portable:v1"] {
            let images = image(name).into_option().into_iter().collect();
            sender.send(&ImagesResponse { images, ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn tag(&self, _: &TtrpcContext, request: TagRequest) -> ttrpc::Result<TagResponse> {
        match request.image.as_str() {
            "none" => refuse(Code::NOT_FOUND, "image \"none\" does not exist"),
            _ => Ok(TagResponse { image: image(&request.name), ..Default::default() }),
        }
    }

    async fn diff(
        &self,
        _: &TtrpcContext,
        request: DiffRequest,
        sender: ServerStreamSender<DiffResponse>,
    ) -> ttrpc::Result<()> {
        for mut change in changes().into_iter().filter(|_| request.from != request.to) {
            if request.patch && change.path == "etc/motd" {
                change.patch = PATCH.into();
            }
            sender.send(&DiffResponse { changes: vec![change], ..Default::default() }).await?;
        }
        match request.from.as_str() {
            "gone" => refuse(Code::NOT_FOUND, "its bytes are gone"),
            _ => Ok(()),
        }
    }

    async fn export(
        &self,
        _: &TtrpcContext,
        request: ExportRequest,
        sender: ServerStreamSender<ExportResponse>,
    ) -> ttrpc::Result<()> {
        for part in ARCHIVE.chunks(6) {
            sender.send(&ExportResponse { data: part.to_vec(), ..Default::default() }).await?;
        }
        match request.reference.as_str() {
            "broken" => refuse(Code::INTERNAL, "read /layers/7/fs/x: Input/output error"),
            "slow" => {
                self.stall(&request.options.operation).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn import(
        &self,
        _: &TtrpcContext,
        mut stream: ServerStream<ImportResponse, ImportRequest>,
    ) -> ttrpc::Result<()> {
        image::import(self, &mut stream).await
    }

    async fn create_pool(
        &self,
        _: &TtrpcContext,
        request: CreatePoolRequest,
    ) -> ttrpc::Result<CreatePoolResponse> {
        if request.device == "/dev/full" {
            return refuse(Code::FAILED_PRECONDITION, "device /dev/full: it has something on it (ext4)");
        }
        let pool = Pool { size: request.size.max(5 << 30), ..image_pool() };
        Ok(CreatePoolResponse { pool: MessageField::some(pool), ..Default::default() })
    }

    async fn grow_pool(&self, _: &TtrpcContext, request: GrowPoolRequest) -> ttrpc::Result<GrowPoolResponse> {
        let pool = Pool { size: request.size, refuses: "the host is full".into(), ..image_pool() };
        Ok(GrowPoolResponse { pool: MessageField::some(pool), ..Default::default() })
    }

    async fn move_to_pool(
        &self,
        _: &TtrpcContext,
        request: MoveToPoolRequest,
        sender: ServerStreamSender<MoveToPoolResponse>,
    ) -> ttrpc::Result<()> {
        for container in request.references {
            let refused = if container == "db" { "it is mounted".to_owned() } else { String::new() };
            let snapshot = MessageField::some(web());
            sender.send(&MoveToPoolResponse { container, refused, snapshot, ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn status(&self, _: &TtrpcContext, _: StatusRequest) -> ttrpc::Result<StatusResponse> {
        Ok(StatusResponse {
            version: "0.1.0".into(),
            pid: 42,
            root: "/var/lib/loom".into(),
            root_filesystem: "ext4".into(),
            method: "copy".into(),
            method_why: "there is no pool".into(),
            containerd: "/run/containerd/containerd.sock".into(),
            listed: 2,
            ..Default::default()
        })
    }

    async fn list(
        &self,
        _: &TtrpcContext,
        request: ListRequest,
        sender: ServerStreamSender<ListResponse>,
    ) -> ttrpc::Result<()> {
        // Several batches: the end of one is not the end of the list.
        for snapshot in [web(), before()] {
            sender.send(&ListResponse { snapshots: vec![snapshot], ..Default::default() }).await?;
        }
        if request.all {
            let layer = Snapshot { image_layer: true, ..Default::default() };
            sender.send(&ListResponse { snapshots: vec![layer; 100], ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn get(&self, _: &TtrpcContext, request: GetRequest) -> ttrpc::Result<GetResponse> {
        match request.reference.as_str() {
            "web" => Ok(GetResponse { snapshot: MessageField::some(web()), ..Default::default() }),
            "lost" => refuse(Code::UNAVAILABLE, "containerd does not answer"),
            other => refuse(Code::NOT_FOUND, &format!("snapshot {other:?} does not exist")),
        }
    }

    async fn lineage(
        &self,
        _: &TtrpcContext,
        _: LineageRequest,
        sender: ServerStreamSender<LineageResponse>,
    ) -> ttrpc::Result<()> {
        for snapshot in [before(), web()] {
            sender.send(&LineageResponse { snapshots: vec![snapshot], ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn remove(&self, _: &TtrpcContext, request: RemoveRequest) -> ttrpc::Result<RemoveResponse> {
        match request.reference.as_str() {
            "before" => refuse(Code::FAILED_PRECONDITION, "snapshot \"before\" is pinned"),
            "none" => refuse(Code::NOT_FOUND, "snapshot \"none\" does not exist"),
            _ => Ok(RemoveResponse::new()),
        }
    }

    async fn snapshot(&self, _: &TtrpcContext, request: SnapshotRequest) -> ttrpc::Result<SnapshotResponse> {
        if request.name == "before" {
            return refuse(Code::ALREADY_EXISTS, "a snapshot named \"before\" already exists");
        }
        let snapshot = Snapshot { name: request.name, labels: request.labels, ..before() };
        Ok(SnapshotResponse {
            snapshot: MessageField::some(snapshot),
            cost: price(),
            // One that is repeated has another operation's answer, and that one has warned.
            operation: match request.options.idempotency_key.as_str() {
                "" => request.options.operation.clone(),
                _ => SEED.into(),
            },
            ..Default::default()
        })
    }

    async fn fork(&self, _: &TtrpcContext, request: ForkRequest) -> ttrpc::Result<ForkResponse> {
        let containerd = &request.containerd;
        if request.reference == "slow" {
            self.stall(&request.options.operation).await;
            return refuse(Code::ABORTED, "operation was cancelled; what it had made was undone");
        }
        let manual = request.options.resume_policy.enum_value() == Ok(ResumePolicy::RESUME_POLICY_MANUAL);
        let fork = |at: u32| Forked {
            container: format!("{}-{at}", request.name),
            name: if at == 2 { "by-nerdctl".into() } else { String::new() },
            namespace: containerd.namespace.clone(),
            snapshot: containerd.address.clone(),
            pid: if manual { 0 } else { 100 + at },
            error: if at == 3 { "no space".into() } else { String::new() },
            ..Default::default()
        };
        let forks = (1..=request.count).map(fork).collect();
        Ok(ForkResponse { forks, cost: price(), operation: "f".repeat(32), ..Default::default() })
    }

    async fn clone_state(&self, _: &TtrpcContext, request: CloneRequest) -> ttrpc::Result<CloneResponse> {
        let clone = Forked { container: request.name, pid: 7, ..Default::default() };
        Ok(CloneResponse {
            clone: MessageField::some(clone),
            cost: price(),
            operation: "c".repeat(32),
            ..Default::default()
        })
    }

    async fn rollback(&self, _: &TtrpcContext, request: RollbackRequest) -> ttrpc::Result<RollbackResponse> {
        if request.snapshot == "others" {
            return refuse(Code::FAILED_PRECONDITION, "snapshot \"others\" is not in the lineage of \"web\"");
        }
        Ok(RollbackResponse {
            container: rolled(request.name, request.discard, &request.options),
            cost: price(),
            operation: "b".repeat(32),
            ..Default::default()
        })
    }

    async fn promote(&self, _: &TtrpcContext, request: PromoteRequest) -> ttrpc::Result<PromoteResponse> {
        if request.if_unchanged {
            return refuse(Code::FAILED_PRECONDITION, "\"web\" has written since the fork: etc/motd");
        }
        Ok(PromoteResponse {
            container: rolled(request.name, request.discard, &request.options),
            cost: price(),
            operation: "a".repeat(32),
            ..Default::default()
        })
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<ResumeResponse> {
        let (container, operation) = (request.reference, "d".repeat(32));
        Ok(ResumeResponse { container, pid: 9, operation, ..Default::default() })
    }

    async fn prune(
        &self,
        _: &TtrpcContext,
        request: PruneRequest,
        sender: ServerStreamSender<PruneResponse>,
    ) -> ttrpc::Result<()> {
        let all = [before(), Snapshot { name: "older".into(), ..before() }];
        for snapshot in all.into_iter().filter(|_| request.container.is_empty()) {
            sender.send(&PruneResponse { snapshots: vec![snapshot], ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn get_operation(
        &self,
        _: &TtrpcContext,
        request: GetOperationRequest,
    ) -> ttrpc::Result<GetOperationResponse> {
        let found = [done(), failed()].into_iter().find(|found| found.id.starts_with(&request.id));
        match found {
            Some(found) => {
                Ok(GetOperationResponse { operation: MessageField::some(found), ..Default::default() })
            }
            None => refuse(Code::NOT_FOUND, "operation does not exist"),
        }
    }

    async fn list_operations(
        &self,
        _: &TtrpcContext,
        request: ListOperationsRequest,
        sender: ServerStreamSender<ListOperationsResponse>,
    ) -> ttrpc::Result<()> {
        for one in [done(), running(), failed()].into_iter().take(request.limit as usize) {
            sender.send(&ListOperationsResponse { operations: vec![one], ..Default::default() }).await?;
        }
        Ok(())
    }

    async fn watch_operations(
        &self,
        _: &TtrpcContext,
        request: WatchOperationsRequest,
        sender: ServerStreamSender<WatchOperationsResponse>,
    ) -> ttrpc::Result<()> {
        let all = [running(), done(), failed()];
        for one in all.into_iter().filter(|one| one.id.starts_with(&request.id)) {
            let operation = MessageField::some(one);
            sender.send(&WatchOperationsResponse { operation, ..Default::default() }).await?;
        }
        match request.id.as_str() {
            "" => refuse(Code::UNAVAILABLE, "loomd is stopping"),
            _ => Ok(()),
        }
    }

    async fn cancel_operation(
        &self,
        _: &TtrpcContext,
        request: CancelOperationRequest,
    ) -> ttrpc::Result<CancelOperationResponse> {
        let under_way = self.under_way.borrow().0.clone();
        if done().id.starts_with(&request.id) {
            return Ok(CancelOperationResponse {
                operation: MessageField::some(running()),
                ..Default::default()
            });
        }
        if request.id != under_way {
            return refuse(Code::NOT_FOUND, "operation does not exist");
        }
        self.under_way.send_modify(|(_, cancelled)| *cancelled = true);
        Ok(CancelOperationResponse::new())
    }
}

/// Runs `check` with a way to run lines against a [`Fake`] that is gone afterwards.
pub(super) fn with_loomd(check: impl FnOnce(&dyn Fn(&str) -> (Exit, String, String))) {
    with_interrupts(|loom| check(&|line| loom(0, line)));
}

/// The same, with so many Ctrl-C for each line.
pub(super) fn with_interrupts(check: impl FnOnce(&dyn Fn(usize, &str) -> (Exit, String, String))) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("loom.sock").display().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, started) = std::sync::mpsc::channel();
    let address = format!("unix://{socket}");
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let admin = create_admin(Arc::new(Fake::default()));
            let mut server = Server::new().bind(&address).unwrap().register_service(admin);
            server.start().await.unwrap();
            ready.send(()).unwrap();
            let _ = stopped.await;
            server.shutdown().await.unwrap();
        });
    };
    let server = thread::spawn(serve);
    started.recv().unwrap();
    check(&|times, line| {
        loom_interrupted(times, &[&["--address", &socket], &*line.split(' ').collect::<Vec<_>>()].concat())
    });
    let _ = stop.send(());
    server.join().unwrap();
}
