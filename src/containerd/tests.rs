//! What a brancher answers without a containerd: names, kinds and refusals.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Brancher, Changes, Options, Target, Volumes};
use crate::error::{Error, Kind};
use crate::layer::Layers;
use crate::snapshot::{Rules, Snapshots, Still, Take};
use crate::store::{Id, Operation, OperationKind, OperationState, Pause, Store, Time};

/// A brancher over a core on a directory of its own; its containerd does not run.
struct House {
    core: Arc<Snapshots>,
    brancher: Brancher,
    target: Target,
    _dir: tempfile::TempDir,
}

fn house() -> House {
    let dir = tempfile::Builder::new().prefix("brancher").tempdir_in("/var/tmp").unwrap();
    let layers = Layers::open(dir.path(), None).unwrap();
    // Mounts are known by layers' ids; other tests mount low ones meanwhile.
    layers.start_above(crate::store::LayerId(i64::from(std::process::id()) << 20));
    let store = Store::open(&dir.path().join("loom.db")).unwrap();
    let core = Snapshots::open(store, layers, Rules::default()).unwrap();
    let address = dir.path().join("containerd.sock").to_str().unwrap().to_owned();
    let target = Target { address, namespace: "default".to_owned() };
    House {
        brancher: Brancher::new(
            core.clone(),
            crate::operation::Operations::open(core.store().clone()).unwrap(),
        ),
        core,
        target,
        _dir: dir,
    }
}

impl House {
    /// An active snapshot `default/1/web`.
    fn web(&self) -> crate::store::Snapshot {
        self.core.prepare("default/1/web", "", BTreeMap::new()).unwrap();
        self.core.by_client_key("default", "web").unwrap().unwrap()
    }

    /// A committed snapshot of it.
    fn state(&self, name: &str, captured: Option<&str>) {
        let source = self.web().id;
        let keep = crate::snapshot::Keep::Named(name.to_owned());
        let take = Take {
            keep,
            labels: BTreeMap::new(),
            captured: captured.map(str::to_owned),
            operation: None,
            expires: None,
        };
        self.core.snapshot(source, &take, &mut Still).unwrap();
    }

    async fn fails(&self, reference: &str) -> Error {
        self.brancher.find(&self.target, reference).await.unwrap_err()
    }
}

#[tokio::test]
async fn a_dead_containerd_matters_only_where_the_core_does_not_know_the_name() {
    let house = house();
    house.state("base", None);
    let base = house.brancher.find(&house.target, "base").await.unwrap();
    assert_eq!(base.name.as_deref(), Some("base"));
    let by_id = house.brancher.find(&house.target, &base.id.to_string()[..8]).await.unwrap();
    assert_eq!(by_id.id, base.id);

    for unknown in ["nothing", "container:base"] {
        let error = house.fails(unknown).await;
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(error.to_string().contains(&house.target.address), "{error}");
    }
    assert_eq!(house.fails("snapshot:nothing").await.kind(), Kind::NotFound);
    assert_eq!(house.fails("image:base").await.kind(), Kind::Unavailable);
    assert_eq!(house.fails("image:").await.kind(), Kind::InvalidArgument);
}

/// With this name and otherwise nothing.
fn named(name: &str) -> Options {
    Options { name: Some(name.to_owned()), ..Options::default() }
}

#[tokio::test]
async fn what_is_not_mounted_is_snapshotted_without_a_containerd() {
    let house = house();
    let web = house.web();
    let reference = format!("snapshot:{}", web.id);
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let ttl = Some(std::time::Duration::from_hours(1));
    let options = Options { labels: labels.clone(), ttl, ..Options::default() };
    let (operation, taken) = house.brancher.snapshot(&house.target, &reference, options).await.unwrap();
    let state = house.core.get(taken.snapshot).unwrap().snapshot;
    assert_eq!((state.source, &state.labels, state.operation), (Some(web.id), &labels, Some(operation)));
    assert!(state.expires.unwrap() > state.created);
    assert!(state.name.unwrap().starts_with("web-"));

    house.brancher.snapshot(&house.target, &reference, named("base")).await.unwrap();
    let twice = house.brancher.snapshot(&house.target, &reference, named("base")).await;
    assert_eq!(twice.unwrap_err().kind(), Kind::AlreadyExists);
}

#[tokio::test]
async fn a_repeated_request_makes_nothing_again() {
    let house = house();
    let reference = format!("snapshot:{}", house.web().id);
    let keyed = || Options { idempotency_key: Some("k".into()), ..Options::default() };
    let (first, made) = house.brancher.snapshot(&house.target, &reference, keyed()).await.unwrap();
    let (again, told) = house.brancher.snapshot(&house.target, &reference, keyed()).await.unwrap();
    assert_eq!((first, made.snapshot), (again, told.snapshot));
    let other = Options { name: Some("other".into()), ..keyed() };
    let conflict = house.brancher.snapshot(&house.target, &reference, other).await.unwrap_err();
    assert!(matches!(conflict, Error::KeyConflict { .. }), "{conflict}");
}

#[tokio::test]
async fn a_committed_snapshot_is_not_snapshotted_again() {
    let house = house();
    house.state("base", None);
    let error = house.brancher.snapshot(&house.target, "base", Options::default()).await.unwrap_err();
    assert!(matches!(error, Error::WrongKind { .. }), "{error}");
    let operation = &house.brancher.operations.list(1).unwrap()[0];
    assert_eq!(operation.state, OperationState::Failed);
}

#[tokio::test]
async fn what_can_never_be_is_refused_before_there_is_an_operation() {
    let house = house();
    let (brancher, target) = (&house.brancher, &house.target);
    let env = Changes { env: vec!["=".into()], ..Changes::default() };
    let refused = [
        brancher.snapshot(target, "web", named("a b")).await.map(drop),
        brancher.snapshot(target, "image:", Options::default()).await.map(drop),
        brancher.fork(target, "web", 0, Options::default(), Changes::default()).await.map(drop),
        brancher.fork(target, "web", 2, named("a/b"), Changes::default()).await.map(drop),
        brancher.clone_state(target, "base", Options::default(), env).await.map(drop),
        brancher.resume(target, "", Options::default()).await.map(drop),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), Kind::InvalidArgument);
    }
    assert_eq!(brancher.operations.list(10).unwrap(), []);
}

#[tokio::test]
async fn only_a_committed_state_of_a_container_is_cloned() {
    let house = house();
    house.state("base", None);
    let clone = async |reference: &str| {
        let (options, changes) = (Options::default(), Changes::default());
        house.brancher.clone_state(&house.target, reference, options, changes).await.unwrap_err()
    };
    let error = clone("base").await;
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let active = house.core.by_client_key("default", "web").unwrap().unwrap().id.to_string();
    let error = clone(&active).await;
    assert!(matches!(error, Error::WrongKind { .. }), "{error}");
    assert_eq!(clone("snapshot:none").await.kind(), Kind::NotFound);
}

#[tokio::test]
async fn ports_and_volumes_are_nerdctls_alone() {
    let house = house();
    let captured = r#"{"namespace":"default","id":"web","image":"","runtime":null,"snapshotter":"loom",
        "labels":{},"spec":{}}"#;
    house.state("base", Some(captured));
    for changes in [
        Changes { publish: vec!["80:80".into()], ..Changes::default() },
        Changes { volumes: Volumes::Clone, ..Changes::default() },
    ] {
        let clone = house.brancher.clone_state(&house.target, "base", Options::default(), changes).await;
        let error = clone.unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
        assert!(error.to_string().contains("nerdctl"), "{error}");
    }
}

#[tokio::test]
async fn a_container_is_needed_where_one_is_forked_or_resumed() {
    let house = house();
    house.state("base", None);
    let (options, changes) = (Options::default(), Changes::default());
    let fork = house.brancher.fork(&house.target, "snapshot:base", 1, options.clone(), changes).await;
    assert_eq!(fork.unwrap_err().kind(), Kind::InvalidArgument);
    let resume = house.brancher.resume(&house.target, "base", options).await;
    assert_eq!(resume.unwrap_err().kind(), Kind::Unavailable);
}

/// Leaves an operation as a crash would.
fn cut_off(house: &House, kind: OperationKind, plan: Option<&str>) -> Operation {
    let operation = Operation {
        id: Id::random().unwrap(),
        kind,
        subject: "web".to_owned(),
        address: house.target.address.clone(),
        namespace: "default".to_owned(),
        state: OperationState::Running,
        done: 0,
        total: 0,
        steps: Vec::new(),
        warnings: Vec::new(),
        error: None,
        key: None,
        request: "{}".to_owned(),
        plan: plan.map(str::to_owned),
        result: None,
        created: Time::now(),
        ended: None,
    };
    let row = operation.clone();
    house.core.store().write(move |rows| rows.put_operation(&row)).unwrap();
    operation
}

#[tokio::test]
async fn a_snapshot_that_was_cut_off_is_settled_without_a_containerd() {
    let house = house();
    let (made, not_made) =
        (cut_off(&house, OperationKind::Snapshot, None), cut_off(&house, OperationKind::Snapshot, None));
    let waits = cut_off(&house, OperationKind::Fork, Some("{}"));
    let take = Take {
        keep: crate::snapshot::Keep::Named("base".to_owned()),
        labels: BTreeMap::new(),
        captured: None,
        operation: Some(made.id),
        expires: None,
    };
    let (state, _) = house.core.snapshot(house.web().id, &take, &mut Still).unwrap();

    let operations = crate::operation::Operations::open(house.core.store().clone()).unwrap();
    let brancher = Brancher::new(house.core.clone(), operations.clone());
    {
        // It tries for ever: this containerd never comes up.
        let mut recovery = Box::pin(brancher.recover_left(&house.target.address));
        let settled = async {
            let mut changes = operations.changes();
            while operations.left(&house.target.address, "default").len() > 1 {
                changes.recv().await.unwrap();
            }
        };
        tokio::select! {
            () = &mut recovery => panic!("containerd does not run"),
            () = settled => {}
        }
    }
    let is = |operation: &Operation| operations.get(&operation.id.to_string()).unwrap();
    assert_eq!(is(&made).state, OperationState::Succeeded);
    let result: super::Taken = serde_json::from_str(&is(&made).result.unwrap()).unwrap();
    assert_eq!(result.snapshot, state.id);
    assert_eq!((is(&not_made).state, is(&waits).state), (OperationState::Failed, OperationState::Running));
}

#[tokio::test]
async fn a_pause_stays_written_down_while_containerd_is_away() {
    let house = house();
    let Target { address, namespace } = house.target.clone();
    let pause = Pause { address, namespace, container: "web".to_owned(), unquiesce: None };
    let row = pause.clone();
    house.core.store().write(move |rows| rows.insert_pause(&row)).unwrap();
    house.brancher.thaw_left().await;
    // Its first try is over once it is another's turn on the container.
    tokio::task::yield_now().await;
    drop(house.brancher.turns.take("default", "web").await);
    assert_eq!(house.core.store().read(super::freezer::written).unwrap(), [pause]);
}

/// A server runs each of these on a task of its own; that they can be sent there is seen here first.
#[allow(dead_code)]
fn every_call_can_be_spawned(brancher: &'static Brancher, target: &'static Target) {
    drop(tokio::spawn(brancher.find_captured(target, "")));
    drop(tokio::spawn(brancher.snapshot(target, "", Options::default())));
    drop(tokio::spawn(brancher.fork(target, "", 1, Options::default(), Changes::default())));
    drop(tokio::spawn(brancher.clone_state(target, "", Options::default(), Changes::default())));
    drop(tokio::spawn(brancher.resume(target, "", Options::default())));
    drop(tokio::spawn(brancher.thaw_left()));
    drop(tokio::spawn(brancher.recover_left("")));
}
