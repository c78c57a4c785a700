//! Both doors over one core, as clients see them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ::ttrpc::context;
use containerd_client::services::v1::snapshots as grpc;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient as GrpcClient;
use tokio::sync::oneshot;

use super::calls::Core;
use super::*;
use crate::layer::Layers;
use crate::operation::Operations;
use crate::protos::snapshots_ttrpc::SnapshotsClient;
use crate::protos::{admin, admin_ttrpc, snapshots};
use crate::snapshot::Rules;
use crate::store::Store;

mod operations;

/// Longer than any test waits.
const LONG: Duration = Duration::from_mins(1);

/// A served core in a directory of its own.
struct House {
    core: Arc<Snapshots>,
    operations: Arc<Operations>,
    server: Server,
    dir: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("loom.db")).unwrap();
        let layers = Layers::open(dir.path(), None).unwrap();
        let core = Snapshots::open(store, layers, Rules::default()).unwrap();
        let sockets = Sockets::open(&dir.path().join("state")).await.unwrap();
        let operations = Operations::open(Arc::clone(core.store())).unwrap();
        let served = Served {
            core: Arc::clone(&core),
            brancher: Arc::new(Brancher::new(Arc::clone(&core), Arc::clone(&operations))),
            operations: Arc::clone(&operations),
            containerd: "/nowhere/containerd.sock".into(),
        };
        Self { server: Server::start(sockets, served).await.unwrap(), core, operations, dir }
    }

    fn socket(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("state").join(name)
    }

    async fn grpc(&self) -> GrpcClient<containerd_client::tonic::transport::Channel> {
        GrpcClient::new(containerd_client::connect(self.socket("loom.sock")).await.unwrap())
    }

    async fn dial(&self) -> ::ttrpc::r#async::Client {
        let address = format!("unix://{}", self.socket("loom.sock.ttrpc").display());
        ::ttrpc::r#async::Client::connect(&address).await.unwrap()
    }

    async fn admin(&self) -> admin_ttrpc::AdminClient {
        admin_ttrpc::AdminClient::new(self.dial().await)
    }

    async fn ttrpc(&self) -> SnapshotsClient {
        SnapshotsClient::new(self.dial().await)
    }

    /// The core as the doors call it, with work of the test's own.
    fn calls(&self) -> Core {
        Core::new(Arc::clone(&self.core), self.server.tasks.clone())
    }
}

fn status(error: ::ttrpc::Error) -> (i32, String) {
    match error {
        ::ttrpc::Error::RpcStatus(status) => (status.code.value(), status.message),
        other => panic!("{other} is no status"),
    }
}

#[tokio::test]
async fn one_core_is_behind_both_doors() {
    let house = House::open().await;
    let (mut grpc, ttrpc) = (house.grpc().await, house.ttrpc().await);
    let prepare = grpc::PrepareSnapshotRequest { key: "default/1/c1".into(), ..Default::default() };
    let mounts = grpc.prepare(prepare.clone()).await.unwrap().into_inner().mounts;
    let request = snapshots::MountsRequest { key: "default/1/c1".into(), ..Default::default() };
    let again = ttrpc.mounts(context::Context::default(), &request).await.unwrap().mounts;
    assert_eq!((mounts.len(), again.len()), (1, 1));
    assert_eq!((&mounts[0].r#type, &mounts[0].source), (&again[0].type_, &again[0].source));
    assert_eq!(mounts[0].options, again[0].options);

    // An error has the same code and the same whole message on both.
    let refused = grpc.prepare(prepare).await.unwrap_err();
    let request = snapshots::PrepareSnapshotRequest { key: "default/1/c1".into(), ..Default::default() };
    let (code, message) = status(ttrpc.prepare(context::Context::default(), &request).await.unwrap_err());
    assert_eq!((refused.code() as i32, refused.message()), (code, message.as_str()));
    assert_eq!(code, 6);
    assert!(message.contains("default/1/c1"), "{message}");
}

#[tokio::test]
async fn listings_come_in_batches_of_a_hundred() {
    let house = House::open().await;
    for n in 0..101 {
        house.core.prepare(&format!("k{n:03}"), "", BTreeMap::new()).unwrap();
    }
    let ttrpc = house.ttrpc().await;
    let request = snapshots::ListSnapshotsRequest::default();
    let mut stream = ttrpc.list(context::Context::default(), &request).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.recv().await.unwrap() {
        batches.push(batch.info.len());
    }
    assert_eq!(batches, [100, 1]);
    let mut stream =
        house.grpc().await.list(grpc::ListSnapshotsRequest::default()).await.unwrap().into_inner();
    let mut batches = Vec::new();
    while let Some(batch) = stream.message().await.unwrap() {
        batches.push(batch.info.len());
    }
    assert_eq!(batches, [100, 1]);
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_an_invalid_argument() {
    let house = House::open().await;
    let filters = vec!["name==\"".to_owned()];
    let request = grpc::ListSnapshotsRequest { filters: filters.clone(), ..Default::default() };
    let refused = match house.grpc().await.list(request).await {
        Err(refused) => refused,
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
    };
    assert_eq!(refused.code() as i32, 3);
    let request = snapshots::ListSnapshotsRequest { filters, ..Default::default() };
    let ttrpc = house.ttrpc().await;
    let mut stream = ttrpc.list(context::Context::default(), &request).await.unwrap();
    assert_eq!(status(stream.recv().await.unwrap_err()).0, 3);
}

#[tokio::test]
async fn without_a_mask_and_with_an_empty_one_all_labels_are_replaced() {
    let house = House::open().await;
    house.core.prepare("k", "", BTreeMap::from([("old".into(), "1".into())])).unwrap();
    let ttrpc = house.ttrpc().await;
    for (mask, label) in [(None, "a"), (Some(protobuf::well_known_types::field_mask::FieldMask::new()), "b")]
    {
        let info = snapshots::Info {
            name: "k".into(),
            labels: [(label.to_owned(), "2".to_owned())].into(),
            ..Default::default()
        };
        let request = snapshots::UpdateSnapshotRequest {
            info: Some(info).into(),
            update_mask: mask.into(),
            ..Default::default()
        };
        ttrpc.update(context::Context::default(), &request).await.unwrap();
        assert_eq!(house.core.stat("k").unwrap().labels.into_keys().collect::<Vec<_>>(), [label]);
    }
    let error = ttrpc.update(context::Context::default(), &snapshots::UpdateSnapshotRequest::new()).await;
    assert_eq!(status(error.unwrap_err()).0, 3);
}

#[tokio::test]
async fn a_parent_at_commit_is_the_one_it_has() {
    let house = House::open().await;
    let ttrpc = house.ttrpc().await;
    house.core.prepare("a", "", BTreeMap::new()).unwrap();
    house.core.commit("base", "a", BTreeMap::new()).unwrap();
    house.core.prepare("b", "base", BTreeMap::new()).unwrap();
    let commit = |parent: &str| snapshots::CommitSnapshotRequest {
        name: "top".into(),
        key: "b".into(),
        parent: parent.into(),
        ..Default::default()
    };
    let refused = ttrpc.commit(context::Context::default(), &commit("other")).await.unwrap_err();
    assert_eq!(status(refused).0, 3);
    ttrpc.commit(context::Context::default(), &commit("base")).await.unwrap();
    assert_eq!(house.core.stat("top").unwrap().parent, "base");
}

#[tokio::test]
async fn the_admin_service_tells_how_things_are() {
    let house = House::open().await;
    house.core.prepare("default/1/c1", "", BTreeMap::new()).unwrap();
    house.core.prepare("default/2/extract-1 sha256:aa", "", BTreeMap::new()).unwrap();
    let client = house.admin().await;
    let status = client.status(context::Context::default(), &admin::StatusRequest::new()).await.unwrap();
    assert_eq!((status.pid, status.listed, status.held), (std::process::id(), 2, 0));
    assert_eq!((status.root.as_str(), status.pool.as_str()), (house.dir.path().to_str().unwrap(), ""));
    assert_eq!(status.containerd, "/nowhere/containerd.sock");
    for (all, expected) in [(false, vec!["c1"]), (true, vec!["c1", ""])] {
        let request = admin::ListRequest { all, ..Default::default() };
        let mut stream = client.list(context::Context::default(), &request).await.unwrap();
        let batch = stream.recv().await.unwrap().unwrap();
        let containers: Vec<_> = batch.snapshots.iter().map(|s| s.container.as_str()).collect();
        assert_eq!(containers, expected);
    }
    let request = admin::ForkRequest { reference: "c1".into(), count: 1001, ..Default::default() };
    let refused = client.fork(context::Context::default(), &request).await.unwrap_err();
    assert!(matches!(refused, ::ttrpc::Error::RpcStatus(status) if status.code.value() == 3));
}

#[tokio::test]
async fn sizes_are_told_where_they_are_asked_for() {
    const MIB: u64 = 1 << 20;
    let house = House::open().await;
    let client = house.admin().await;
    house.core.prepare("default/1/base", "", BTreeMap::new()).unwrap();
    house.core.commit("default/2/sha256:aa", "default/1/base", BTreeMap::new()).unwrap();
    let mounts = house.core.prepare("default/3/c1", "default/2/sha256:aa", BTreeMap::new()).unwrap();
    let upper = mounts[0].options.iter().find_map(|option| option.strip_prefix("upperdir=")).unwrap();
    std::fs::write(format!("{upper}/data"), vec![7; 3 << 20]).unwrap();
    for sizes in [false, true] {
        let request = admin::ListRequest { all: true, sizes, ..Default::default() };
        let mut list = client.list(context::Context::default(), &request).await.unwrap();
        let listed = list.recv().await.unwrap().unwrap().snapshots;
        let reference = listed[1].id.clone();
        let request = admin::LineageRequest { reference, sizes, ..Default::default() };
        let mut way = client.lineage(context::Context::default(), &request).await.unwrap();
        let way = way.recv().await.unwrap().unwrap().snapshots;
        assert_eq!((listed.len(), way.len()), (2, 2));
        for told in listed.iter().chain(&way) {
            assert_eq!(told.size.is_some(), sizes, "{told}");
            assert!(told.images.is_empty(), "no containerd is there to tell");
        }
        let own = |told: &admin::Snapshot| told.size.as_ref().map(|size| size.exclusive / MIB);
        assert_eq!(own(&listed[1]), sizes.then_some(3));
        assert_eq!((own(&listed[0]), own(&way[0])), (sizes.then_some(0), sizes.then_some(3)));
    }
}

#[tokio::test]
async fn a_lineage_is_longer_than_a_message() {
    let house = House::open().await;
    let labels: BTreeMap<_, _> = (0..60).map(|n| (format!("large.{n}"), "x".repeat(4_000))).collect();
    let mut parent = String::new();
    for n in 0..20 {
        let name = format!("p{n}");
        house.core.prepare("k", &parent, BTreeMap::new()).unwrap();
        house.core.commit(&name, "k", labels.clone()).unwrap();
        parent = name;
    }
    let client = house.admin().await;
    let request = admin::LineageRequest { reference: format!("snapshot:{parent}"), ..Default::default() };
    let mut stream = client.lineage(context::Context::default(), &request).await.unwrap();
    let mut way = Vec::new();
    while let Some(batch) = stream.recv().await.unwrap() {
        way.extend(batch.snapshots);
    }
    assert_eq!(way.len(), 20);
    assert!(way.windows(2).all(|step| step[0].parent == step[1].id));
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing() {
    let house = House::open().await;
    let (go, wait) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    let calls = house.calls();
    let mut handler = Box::pin(calls.run(async move {
        wait.await.unwrap();
        tell.send("done").unwrap();
        Ok(())
    }));
    // The transport polls a handler, and drops it when the client is gone.
    assert!(futures::poll!(&mut handler).is_pending());
    drop(handler);
    go.send(()).unwrap();
    assert_eq!(told.await, Ok("done"));
}

#[tokio::test]
async fn a_stop_waits_for_what_is_under_way() {
    let house = House::open().await;
    let (go, wait) = oneshot::channel::<()>();
    let calls = house.calls();
    let mut handler = Box::pin(calls.call(move |core| {
        wait.blocking_recv().unwrap();
        core.prepare("late", "", BTreeMap::new())
    }));
    assert!(futures::poll!(&mut handler).is_pending());
    let mut stop = Box::pin(house.server.stop(LONG));
    assert!(futures::poll!(&mut stop).is_pending());
    assert!(!house.dir.path().join("state/loom.sock").exists(), "nobody new gets in");
    go.send(()).unwrap();
    assert_eq!(stop.await, 0);
    assert!(handler.await.is_ok());
    assert!(house.core.stat("late").is_ok());
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_it_may() {
    let house = House::open().await;
    let (_never, wait) = oneshot::channel::<()>();
    let calls = house.calls();
    let mut handler = Box::pin(calls.run(async move {
        let _ = wait.await;
        Ok(())
    }));
    assert!(futures::poll!(&mut handler).is_pending());
    assert_eq!(house.server.stop(Duration::ZERO).await, 1);
}
