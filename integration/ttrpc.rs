//! The generated client calls every method of both services over ttrpc. A method that the protos have and
//! nobody called here fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests panic.

mod support;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use loom_snapshotter::protos::{
    admin, admin_ttrpc::AdminClient, snapshots, snapshots_ttrpc::SnapshotsClient,
};
use protobuf::MessageField;
use ttrpc::context::Context;

use support::containerd::Version;
use support::doors::Refusal;
use support::image::small;
use support::layout::Layout;
use support::stage::Stage;

/// The images that are made, by their whole names.
const MADE: &str = "localhost/made:v1";
const TAGGED: &str = "localhost/tagged:v1";
const IMPORTED: &str = "localhost/imported:v1";

/// The methods of the service in a proto file.
fn methods(proto: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("protos").join(proto);
    let text = std::fs::read_to_string(path).unwrap();
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    names.map(ToOwned::to_owned).collect()
}

/// What was called: one name for a method, as its proto has it.
#[derive(Default)]
struct Calls(RefCell<BTreeSet<String>>);

impl Calls {
    fn note(&self, method: &str) {
        let words = method.split('_').map(|word| word[..1].to_ascii_uppercase() + &word[1..]);
        self.0.borrow_mut().insert(words.collect());
    }
}

/// Calls a method and notes its name.
macro_rules! call {
    ($calls:expr, $client:expr, $method:ident, $module:ident::$request:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        $calls.note(stringify!($method));
        let request = $module::$request { $($field: $value,)* ..Default::default() };
        $client.$method(Context::default(), &request).await.map_err(Refusal::from)
    }};
}

#[test]
fn every_method_of_snapshots() {
    const MANY: usize = 250;
    let mut stage = Stage::prepared(Layout::Ext4Pool, Version::Current);
    stage.loomd.start();
    let doors = stage.doors();
    let calls = Calls::default();
    doors.run(async {
        let client = SnapshotsClient::new(doors.ttrpc().await);
        let labels = HashMap::from([("a".to_owned(), "b".to_owned())]);
        let made = call!(
            calls,
            client,
            prepare,
            snapshots::PrepareSnapshotRequest { key: "active".into(), labels: labels.clone() }
        );
        let mount = &made.unwrap().mounts[0];
        let upper = mount.options.iter().find_map(|option| option.strip_prefix("upperdir="));
        let tree = Path::new(upper.unwrap_or(&mount.source)).to_owned();
        std::fs::write(tree.join("file"), vec![1; 100_000]).unwrap();
        let again = call!(calls, client, mounts, snapshots::MountsRequest { key: "active".into() });
        assert_eq!(again.unwrap().mounts[0], *mount);
        let commit = snapshots::CommitSnapshotRequest {
            name: "committed".into(),
            key: "active".into(),
            ..Default::default()
        };
        calls.note("commit");
        client.commit(Context::default(), &commit).await.unwrap();
        let refusal = client.commit(Context::default(), &commit).await.map_err(Refusal::from).unwrap_err();
        refusal.assert(6, &["committed"]);

        let stat = call!(calls, client, stat, snapshots::StatSnapshotRequest { key: "committed".into() });
        let info = stat.unwrap().info.unwrap();
        assert_eq!((info.name.as_str(), info.kind.value(), info.parent.as_str()), ("committed", 3, ""));
        let mut changed = snapshots::Info { name: "committed".into(), ..Default::default() };
        changed.labels.insert("c".into(), "d".into());
        let update = snapshots::UpdateSnapshotRequest {
            info: MessageField::some(changed),
            update_mask: MessageField::some(protobuf::well_known_types::field_mask::FieldMask {
                paths: vec!["labels.c".into()],
                ..Default::default()
            }),
            ..Default::default()
        };
        calls.note("update");
        let info = client.update(Context::default(), &update).await.unwrap().info.unwrap();
        assert_eq!(info.labels["c"], "d");
        let used = call!(calls, client, usage, snapshots::UsageRequest { key: "committed".into() }).unwrap();
        assert!(used.size >= 100_000 && used.inodes >= 2, "{used}");
        let view = snapshots::ViewSnapshotRequest {
            key: "view".into(),
            parent: "committed".into(),
            ..Default::default()
        };
        calls.note("view");
        let mounts = client.view(Context::default(), &view).await.unwrap().mounts;
        assert!(mounts[0].options.iter().any(|option| option == "ro"), "{mounts:?}");

        // More than one batch.
        for number in 0..MANY {
            let request = snapshots::PrepareSnapshotRequest {
                key: format!("many-{number:03}"),
                parent: "committed".into(),
                ..Default::default()
            };
            client.prepare(Context::default(), &request).await.unwrap();
        }
        calls.note("list");
        let mut batches = Vec::new();
        let request = snapshots::ListSnapshotsRequest::default();
        let mut stream = client.list(Context::default(), &request).await.unwrap();
        while let Some(batch) = stream.recv().await.unwrap() {
            batches.push(batch.info);
        }
        assert!(batches.len() >= 3 && batches.iter().all(|batch| batch.len() <= 100), "{}", batches.len());
        let names: BTreeSet<String> = batches.into_iter().flatten().map(|info| info.name).collect();
        assert_eq!(names.len(), MANY + 2);

        for name in names.iter().filter(|name| *name != "committed") {
            call!(calls, client, remove, snapshots::RemoveSnapshotRequest { key: name.clone() }).unwrap();
        }
        let request = snapshots::RemoveSnapshotRequest { key: "committed".into(), ..Default::default() };
        client.remove(Context::default(), &request).await.unwrap();
        call!(calls, client, cleanup, snapshots::CleanupRequest {}).unwrap();
    });
    // Cleanup answers when the disk is clean.
    assert_eq!((stage.place.layers().len(), stage.place.trash().len()), (0, 0));
    assert_eq!(calls.0.into_inner(), methods("containerd/services/snapshots/v1/snapshots.proto"));
}

/// Gives "origin" other content, twice.
async fn replace(calls: &Calls, client: &AdminClient) {
    let rolled = call!(
        calls,
        client,
        rollback,
        admin::RollbackRequest { reference: "origin".into(), snapshot: "state".into(), name: "had".into() }
    );
    let rolled = rolled.unwrap().container.unwrap();
    assert_eq!((rolled.container.as_str(), rolled.kept_name.as_str()), ("origin", "had"));
    assert!(rolled.pid > 0, "it ran before");
    let request =
        admin::ForkRequest { reference: "origin".into(), name: "promoted".into(), ..Default::default() };
    client.fork(Context::default(), &request).await.unwrap();
    let promoted =
        call!(calls, client, promote, admin::PromoteRequest { reference: "promoted".into(), discard: true });
    let promoted = promoted.unwrap().container.unwrap();
    assert_eq!((promoted.container.as_str(), promoted.kept.as_str()), ("origin", ""));
    assert_ne!(promoted.snapshot, rolled.snapshot);
}

/// Looks at an operation that has succeeded, in every way that there is, and repeats one.
async fn operations(calls: &Calls, client: &AdminClient, id: &str) {
    let found = call!(calls, client, get_operation, admin::GetOperationRequest { id: id.to_owned() });
    let found = found.unwrap().operation.unwrap();
    assert_eq!(found.kind.enum_value(), Ok(admin::OperationKind::OPERATION_KIND_SNAPSHOT));
    assert_eq!(found.state.enum_value(), Ok(admin::OperationState::OPERATION_STATE_SUCCEEDED));

    let mut all = call!(calls, client, list_operations, admin::ListOperationsRequest {}).unwrap();
    let mut ids = Vec::new();
    while let Some(batch) = all.recv().await.unwrap() {
        ids.extend(batch.operations.into_iter().map(|operation| operation.id));
    }
    assert!(ids.iter().any(|one| one == id), "{ids:?}");

    let mut watched =
        call!(calls, client, watch_operations, admin::WatchOperationsRequest { id: id.to_owned() }).unwrap();
    assert_eq!(watched.recv().await.unwrap().unwrap().operation.unwrap(), found);
    assert!(watched.recv().await.unwrap().is_none(), "it has ended");
    let cancelled =
        call!(calls, client, cancel_operation, admin::CancelOperationRequest { id: id.to_owned() });
    cancelled.unwrap_err().assert(9, &[id, "succeeded"]);

    let once = |name: &str| admin::SnapshotRequest {
        reference: "origin".into(),
        name: name.into(),
        options: MessageField::some(admin::Options { idempotency_key: "k".into(), ..Default::default() }),
        ..Default::default()
    };
    let first = client.snapshot(Context::default(), &once("once")).await.unwrap();
    let again = client.snapshot(Context::default(), &once("once")).await.unwrap();
    assert_eq!((&first.operation, &first.snapshot.id), (&again.operation, &again.snapshot.id));
    let other = client.snapshot(Context::default(), &once("other")).await.map_err(Refusal::from);
    other.unwrap_err().assert(6, &["\"k\"", &first.operation]);
}

/// Makes an image of "state", and everything that can become of one.
async fn images(calls: &Calls, client: &AdminClient) {
    let made = call!(
        calls,
        client,
        commit,
        admin::CommitRequest {
            reference: "state".into(),
            image: MADE.into(),
            changes: vec!["ENV A=b".into()],
            message: "made".into(),
        }
    );
    let made = made.unwrap().image.unwrap();
    assert_eq!((made.name.as_str(), made.portable), (MADE, false));
    let tagged = call!(calls, client, tag, admin::TagRequest { image: MADE.into(), name: TAGGED.into() });
    assert_eq!(tagged.unwrap().image.digest, made.digest);
    let written = call!(calls, client, portable, admin::PortableRequest { image: MADE.into() }).unwrap();
    assert!(written.image.portable && written.layer.starts_with("sha256:"), "{written}");

    calls.note("images");
    let mut stream = client.images(Context::default(), &admin::ImagesRequest::default()).await.unwrap();
    let mut names = BTreeSet::new();
    while let Some(batch) = stream.recv().await.unwrap() {
        names.extend(batch.images.into_iter().map(|image| image.name));
    }
    assert!(names.contains(MADE) && names.contains(TAGGED), "{names:?}");
}

/// Exports "state", and imports what came of that.
async fn archives(calls: &Calls, client: &AdminClient) {
    let mut parts =
        call!(calls, client, export, admin::ExportRequest { reference: "snapshot:state".into() }).unwrap();
    let mut archive = Vec::new();
    while let Some(part) = parts.recv().await.unwrap() {
        archive.extend(part.data);
    }
    let mut entries = tar::Archive::new(&archive[..]);
    let busybox = entries.entries().unwrap().any(|entry| entry.unwrap().path().unwrap().ends_with("busybox"));
    assert!(busybox, "of {} bytes", archive.len());

    calls.note("import");
    let mut stream = client.import(Context::default()).await.unwrap();
    let to = admin::ImportTo { image: IMPORTED.into(), ..Default::default() };
    let to = admin::ImportRequest { to: MessageField::some(to), ..Default::default() };
    stream.send(&to).await.unwrap();
    stream.recv().await.unwrap();
    let mut sent = 0;
    for data in archive.chunks(1 << 20) {
        let part = admin::ImportRequest { offset: sent, data: data.to_vec(), ..Default::default() };
        stream.send(&part).await.unwrap();
        sent += data.len() as u64;
        while stream.recv().await.unwrap().received < sent {}
    }
    let end = admin::ImportRequest { offset: sent, end: true, ..Default::default() };
    stream.send(&end).await.unwrap();
    let made = loop {
        if let Some(made) = stream.recv().await.unwrap().image.into_option() {
            break made;
        }
    };
    assert_eq!((made.name.as_str(), made.portable), (IMPORTED, true));

    let imported = format!("image:{IMPORTED}");
    let changes = call!(calls, client, diff, admin::DiffRequest { from: "state".into(), to: imported });
    let first = changes.unwrap().recv().await.unwrap();
    assert_eq!(first, None, "what was imported is what was exported");
}

/// What tells and keeps space; the stage's pool is a directory of its configuration.
async fn space(calls: &Calls, client: &AdminClient) {
    let refused = call!(calls, client, create_pool, admin::CreatePoolRequest { size: 1 << 30 });
    refused.unwrap_err().assert(9, &["it has a pool at"]);
    let refused = call!(calls, client, grow_pool, admin::GrowPoolRequest { size: 1 << 40 });
    refused.unwrap_err().assert(9, &["directory"]);
    let request = call!(
        calls,
        client,
        move_to_pool,
        admin::MoveToPoolRequest { references: vec!["container:origin".into()] }
    );
    let moved = request.unwrap().recv().await.unwrap().unwrap();
    assert!(
        moved.container == "container:origin" && moved.refused.contains("in the pool already"),
        "{moved}"
    );
    let limited =
        call!(calls, client, limit, admin::LimitRequest { reference: "origin".into(), bytes: 1 << 30 });
    assert_eq!(limited.unwrap().bytes, 1 << 30);
    let mut usage = call!(calls, client, disk_usage, admin::DiskUsageRequest {}).unwrap();
    let (mut rows, mut homes) = (Vec::new(), Vec::new());
    while let Some(batch) = usage.recv().await.unwrap() {
        rows.extend(batch.rows);
        homes.extend(batch.homes);
    }
    assert!(rows.iter().any(|row| row.name == "origin" && row.limit == 1 << 30), "{rows:?}");
    assert_eq!(homes.len(), 2, "{homes:?}");
    let mut check = call!(calls, client, check, admin::CheckRequest {}).unwrap();
    while let Some(batch) = check.recv().await.unwrap() {
        assert!(batch.findings.is_empty(), "{batch}");
    }
}

/// More than one batch has.
const MANY: usize = 120;

/// Snapshots of which a list has more than one batch, and their removal.
async fn batches(calls: &Calls, client: &AdminClient) {
    for number in 0..MANY {
        let name = format!("state-{number}");
        let request =
            admin::SnapshotRequest { reference: "container:origin".into(), name, ..Default::default() };
        client.snapshot(Context::default(), &request).await.unwrap();
    }
    calls.note("list");
    let request = admin::ListRequest { all: true, ..Default::default() };
    let mut stream = client.list(Context::default(), &request).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.recv().await.unwrap() {
        batches.push(batch.snapshots);
    }
    assert!(batches.len() >= 2 && batches.iter().all(|batch| batch.len() <= 100), "{}", batches.len());
    let ids: BTreeSet<String> = batches.into_iter().flatten().map(|snapshot| snapshot.id).collect();
    assert!(ids.len() > MANY + 4, "{}", ids.len());

    let request = admin::RemoveRequest { reference: "snapshot:state".into(), ..Default::default() };
    client.remove(Context::default(), &request).await.unwrap();
    for dry_run in [true, false] {
        let gone =
            call!(calls, client, prune, admin::PruneRequest { container: "origin".into(), dry_run: dry_run });
        let (mut gone, mut names) = (gone.unwrap(), BTreeSet::new());
        while let Some(batch) = gone.recv().await.unwrap() {
            assert!(batch.snapshots.len() <= 100);
            names.extend(batch.snapshots.into_iter().map(|snapshot| snapshot.name));
        }
        assert!(names.contains("had") && names.contains("once"), "{names:?}");
        assert_eq!(names.iter().filter(|name| name.starts_with("state-")).count(), MANY);
    }
}

#[test]
fn every_method_of_admin() {
    let stage = Stage::new(Layout::Ext4Pool, Version::Current);
    let image = stage.import(&small());
    let run = ["run", "-d", "--snapshotter", "loom", &image, "origin", "sleep", "10000"];
    stage.containerd.ctr(&run);
    let doors = stage.doors();
    let calls = Calls::default();
    doors.run(async {
        let client = AdminClient::new(doors.ttrpc().await);
        let status = call!(calls, client, status, admin::StatusRequest {}).unwrap();
        assert_eq!((status.method.as_str(), status.root_filesystem.as_str()), ("subvolume", "ext4"));
        assert_eq!(status.version, env!("CARGO_PKG_VERSION"));

        let taken = call!(
            calls,
            client,
            snapshot,
            admin::SnapshotRequest {
                reference: "origin".into(),
                name: "state".into(),
                labels: HashMap::from([("a".to_owned(), "b".to_owned())]),
            }
        );
        let taken = taken.unwrap();
        assert_eq!((taken.snapshot.name.as_str(), taken.cost.method.as_str()), ("state", "subvolume"));
        let request = admin::ForkRequest { reference: "origin".into(), count: 2, ..Default::default() };
        calls.note("fork");
        let forks = client.fork(Context::default(), &request).await.unwrap().forks;
        assert_eq!(forks.iter().filter(|fork| fork.pid > 0 && fork.error.is_empty()).count(), 2);
        let cloned = call!(
            calls,
            client,
            clone,
            admin::CloneRequest {
                reference: "state".into(),
                name: "clone".into(),
                options: MessageField::some(admin::Options {
                    resume_policy: admin::ResumePolicy::RESUME_POLICY_MANUAL.into(),
                    ..Default::default()
                }),
            }
        );
        assert_eq!(cloned.unwrap().clone.container, "clone");
        let resumed = call!(calls, client, resume, admin::ResumeRequest { reference: "clone".into() });
        assert_eq!(resumed.unwrap().pid, stage.containerd.pid_of("clone"));
        replace(&calls, &client).await;
        operations(&calls, &client, &taken.operation).await;
        images(&calls, &client).await;
        archives(&calls, &client).await;
        space(&calls, &client).await;

        let way = call!(calls, client, lineage, admin::LineageRequest { reference: "clone".into() });
        let (mut way, mut ids) = (way.unwrap(), Vec::new());
        while let Some(batch) = way.recv().await.unwrap() {
            ids.extend(batch.snapshots.into_iter().map(|snapshot| snapshot.id));
        }
        assert!(ids.contains(&taken.snapshot.id), "{ids:?}");
        let pinned = call!(calls, client, pin, admin::PinRequest { reference: "state".into() });
        assert!(pinned.unwrap().snapshot.pinned);
        let refusal = call!(calls, client, remove, admin::RemoveRequest { reference: "state".into() });
        refusal.unwrap_err().assert(9, &["state", "pinned"]);
        call!(calls, client, unpin, admin::UnpinRequest { reference: "state".into() }).unwrap();
        let got = call!(calls, client, get, admin::GetRequest { reference: "snapshot:state".into() });
        assert_eq!(got.unwrap().snapshot.id, taken.snapshot.id);

        batches(&calls, &client).await;
    });
    assert_eq!(calls.0.into_inner(), methods("loom/admin/v1/admin.proto"));
    stage.containerd.remove_all();
    for image in [MADE, TAGGED, IMPORTED, &image] {
        stage.containerd.ctr(&["images", "rm", "--sync", image]);
    }
    stage.wait_until_empty();
}
