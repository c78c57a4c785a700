//! What a brancher answers without a containerd: names, kinds and refusals.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Brancher, Target};
use crate::error::{Error, Kind};
use crate::layer::Layers;
use crate::snapshot::{Rules, Snapshots, Still, Take};
use crate::store::{Pause, Store};

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
    assert_eq!(house.fails("image:base").await.kind(), Kind::InvalidArgument);
}

#[tokio::test]
async fn what_is_not_mounted_is_snapshotted_without_a_containerd() {
    let house = house();
    let web = house.web();
    let reference = format!("snapshot:{}", web.id);
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let (state, _) = house.brancher.snapshot(&house.target, &reference, None, labels.clone()).await.unwrap();
    assert_eq!((state.source, &state.labels), (Some(web.id), &labels));
    assert!(state.name.unwrap().starts_with("web-"));

    let name = Some("base".to_owned());
    house.brancher.snapshot(&house.target, &reference, name.clone(), BTreeMap::new()).await.unwrap();
    let twice = house.brancher.snapshot(&house.target, &reference, name, BTreeMap::new()).await;
    assert_eq!(twice.unwrap_err().kind(), Kind::AlreadyExists);
}

#[tokio::test]
async fn a_committed_snapshot_is_not_snapshotted_again() {
    let house = house();
    house.state("base", None);
    let error = house.brancher.snapshot(&house.target, "base", None, BTreeMap::new()).await.unwrap_err();
    assert!(matches!(error, Error::WrongKind { .. }), "{error}");
}

#[tokio::test]
async fn only_a_committed_state_of_a_container_is_cloned() {
    let house = house();
    house.state("base", None);
    let clone = |reference: &'static str| house.brancher.clone_state(&house.target, reference, None, false);
    let error = clone("base").await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let active = house.core.by_client_key("default", "web").unwrap().unwrap().id.to_string();
    let error = house.brancher.clone_state(&house.target, &active, None, false).await.unwrap_err();
    assert!(matches!(error, Error::WrongKind { .. }), "{error}");
    assert_eq!(clone("snapshot:none").await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_state_of_nerdctls_container_is_not_cloned() {
    let house = house();
    let captured = r#"{"namespace":"default","id":"web","image":"","runtime":null,"snapshotter":"loom",
        "labels":{"nerdctl/name":"web"},"spec":{}}"#;
    house.state("base", Some(captured));
    let error = house.brancher.clone_state(&house.target, "base", None, false).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_container_is_needed_where_one_is_forked_or_resumed() {
    let house = house();
    house.state("base", None);
    let fork = house.brancher.fork(&house.target, "snapshot:base", None, 1, false).await;
    assert_eq!(fork.unwrap_err().kind(), Kind::InvalidArgument);
    let resume = house.brancher.resume(&house.target, "base").await;
    assert_eq!(resume.unwrap_err().kind(), Kind::Unavailable);
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
    drop(tokio::spawn(brancher.snapshot(target, "", None, BTreeMap::new())));
    drop(tokio::spawn(brancher.fork(target, "", None, 1, true)));
    drop(tokio::spawn(brancher.clone_state(target, "", None, true)));
    drop(tokio::spawn(brancher.resume(target, "")));
    drop(tokio::spawn(brancher.thaw_left()));
}
