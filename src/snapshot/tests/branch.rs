//! Snapshot, fork, clone, pin and lineage.

use std::collections::BTreeMap;
use std::fs;

use super::super::{FORK_LABEL, Keep, Made, Still, Take};
use super::{Counting, House, labels, named, top};
use crate::error::{Error, Kind as Class};
use crate::store::{Id, Kind};

fn id(house: &House, key: &str) -> Id {
    house.core.by_key(key).unwrap().unwrap().id
}

fn live(house: &House, key: &str) -> Id {
    house.image("default/1/base", "");
    let mounts = house.prepare(key, "default/1/base");
    fs::write(top(&mounts).join("state"), "one").unwrap();
    id(house, key)
}

#[test]
fn a_snapshot_is_a_moment_and_the_source_goes_on() {
    let house = House::new();
    let web = live(&house, "default/2/web");
    let mut freezer = Counting::default();
    let (state, cost) = house.core.snapshot(web, &named("before"), &mut freezer).unwrap();
    assert_eq!((freezer.frozen, freezer.thawed), (1, 1));
    assert!(!cost.paused.is_zero() && cost.paused <= cost.total);
    assert_eq!((state.kind, state.source), (Kind::Committed, Some(web)));
    fs::write(top(&house.core.mounts("default/2/web").unwrap()).join("state"), "two").unwrap();

    let grant = house.core.grant(state.id, Made::default()).unwrap();
    let mounts =
        house.core.prepare("default/3/again", "default/1/base", labels(FORK_LABEL, &grant.label())).unwrap();
    let lower = mounts[0].options.iter().find_map(|o| o.strip_prefix("lowerdir=")).unwrap();
    let nearest = lower.split(':').next().unwrap();
    assert_eq!(fs::read_to_string(format!("{nearest}/state")).unwrap(), "one");
    assert_eq!(house.core.stat("default/3/again").unwrap().parent, "default/1/base");
    let path: Vec<Id> =
        house.core.lineage(id(&house, "default/3/again")).unwrap().iter().map(|s| s.snapshot.id).collect();
    assert_eq!(path, [id(&house, "default/3/again"), state.id, web, id(&house, "default/1/base")]);
    assert!(!house.keys().iter().any(|key| key.contains("before")), "containerd must not see loom's own");
}

#[test]
fn one_fork_takes_the_state_over() {
    let house = House::new();
    let web = live(&house, "default/2/web");
    let take = Take {
        keep: Keep::ForOne,
        labels: BTreeMap::new(),
        captured: Some("{}".to_owned()),
        operation: None,
        expires: None,
    };
    let runs = house.runs("default/2/web");
    let (state, _) = house.core.snapshot(web, &take, &mut Still).unwrap();
    drop(runs);
    let directories = house.directories();
    let grant = house.core.grant(state.id, Made::default()).unwrap();
    let mounts = house.core.prepare("k8s.io/3/fork", "", labels(FORK_LABEL, &grant.label())).unwrap();
    assert_eq!(house.directories(), directories, "its bytes were not copied again");
    assert_eq!(fs::read_to_string(top(&mounts).join("state")).unwrap(), "one");
    house.core.release(state.id).unwrap();
    let fork = house.core.by_key("k8s.io/3/fork").unwrap().unwrap();
    assert_eq!((fork.source, fork.captured.as_deref()), (Some(web), Some("{}")));
    assert!(fork.labels.is_empty(), "a grant's token stays nowhere");
    assert!(house.core.prepare("k8s.io/4/fork", "", labels(FORK_LABEL, &grant.label())).is_err());
}

#[test]
fn what_was_taken_for_clones_goes_with_the_last_of_them() {
    let house = House::new();
    let web = live(&house, "default/2/web");
    let take = Take {
        keep: Keep::ForClones,
        labels: BTreeMap::new(),
        captured: None,
        operation: None,
        expires: None,
    };
    let (state, _) = house.core.snapshot(web, &take, &mut Still).unwrap();
    let grant = house.core.grant(state.id, Made::default()).unwrap();
    for n in 0..3 {
        let key = format!("default/{}/fork-{n}", 3 + n);
        house.core.prepare(&key, "default/1/base", labels(FORK_LABEL, &grant.label())).unwrap();
    }
    house.core.release(state.id).unwrap();
    assert!(house.core.get(state.id).is_err());
    house.core.remove("default/2/web").unwrap();
    for n in 0..3 {
        let chain = house.core.get(id(&house, &format!("default/{}/fork-{n}", 3 + n))).unwrap().chain;
        assert_eq!(chain.len(), 3, "the state's layer stays below its clones");
        house.core.mounts(&format!("default/{}/fork-{n}", 3 + n)).unwrap();
    }
    for n in 0..3 {
        house.core.remove(&format!("default/{}/fork-{n}", 3 + n)).unwrap();
    }
    house.core.remove("default/1/base").unwrap();
    assert!(house.empties());
    assert!(house.core.all().unwrap().is_empty(), "no row outlives its lineage");
}

#[test]
fn a_failed_freeze_is_thawed_and_leaves_nothing() {
    let house = House::new();
    let web = live(&house, "default/2/web");
    for keep in [Keep::Named("x".to_owned()), Keep::ForClones, Keep::ForOne] {
        let before = (house.directories(), house.core.all().unwrap());
        let mut freezer = Counting { fails: "freeze", ..Counting::default() };
        let take = Take { keep, labels: BTreeMap::new(), captured: None, operation: None, expires: None };
        let error = house.core.snapshot(web, &take, &mut freezer).unwrap_err();
        assert_eq!(error.kind(), Class::Aborted);
        assert_eq!(freezer.thawed, 1);
        assert_eq!((house.directories(), house.core.all().unwrap()), before);
    }
    house.core.snapshot(web, &named("x"), &mut Still).unwrap();
}

#[test]
fn names_are_unique_and_only_the_active_is_snapshotted() {
    let house = House::new();
    let web = live(&house, "default/2/web");
    house.core.view("default/3/look", "default/1/base", BTreeMap::new()).unwrap();
    let view = house.core.pin(id(&house, "default/3/look"), None).unwrap_err();
    assert_eq!(view.kind(), Class::FailedPrecondition);
    let (state, cost) = house.core.snapshot(web, &named("x"), &mut Still).unwrap();
    assert!(cost.paused.is_zero(), "nothing ran");
    assert!(matches!(house.core.snapshot(web, &named("x"), &mut Still), Err(Error::NameExists(_))));
    assert_eq!(
        house.core.snapshot(web, &named("a/b"), &mut Still).unwrap_err().kind(),
        Class::InvalidArgument
    );
    let wrong = house.core.snapshot(state.id, &named("y"), &mut Still).unwrap_err();
    assert_eq!(wrong.kind(), Class::FailedPrecondition);
}

#[test]
fn a_pin_outlives_the_container_and_its_image() {
    let house = House::new();
    let web = live(&house, "default/2/web");
    house.core.pin(web, Some("who".to_owned())).unwrap();
    house.core.remove("default/2/web").unwrap();
    house.core.remove("default/1/base").unwrap();
    assert!(house.keys().is_empty());
    let seen = house.core.get(web).unwrap();
    assert_eq!((seen.snapshot.kind, seen.chain.len()), (Kind::Committed, 2));
    assert!(matches!(house.core.forget(web), Err(Error::Pinned(_))));

    let house = house.reopen();
    let grant = house.core.grant(web, Made::default()).unwrap();
    let mounts = house.core.prepare("default/9/back", "", labels(FORK_LABEL, &grant.label())).unwrap();
    assert!(mounts[0].options.iter().any(|o| o.starts_with("lowerdir=") && o.contains(':')));
    house.core.remove("default/9/back").unwrap();
    house.core.unpin(web).unwrap();
    assert!(house.core.unpin(web).is_err());
    assert!(house.core.all().unwrap().is_empty());
    assert!(house.empties());
}

#[test]
fn what_loom_keeps_can_be_forgotten_and_nothing_else() {
    let house = House::new();
    let web = live(&house, "default/2/web");
    let runs = house.runs("default/2/web");
    let (state, _) = house.core.snapshot(web, &named("x"), &mut Still).unwrap();
    drop(runs);
    assert!(matches!(house.core.forget(web), Err(Error::OwnedByContainerd(_))));
    let found = house.core.resolve(&state.id.to_string()[..8]).unwrap();
    assert_eq!(found, house.core.resolve("x").unwrap());
    house.core.forget(state.id).unwrap();
    assert!(matches!(house.core.resolve("x"), Err(Error::SnapshotNotFound(_))));
    assert_eq!(house.directories().len(), 2);
}

#[test]
fn a_source_removed_in_the_middle_stays_until_it_is_copied() {
    struct Removing<'a>(&'a House);
    impl super::Freezer for Removing<'_> {
        fn freeze(&mut self) -> crate::error::Result<bool> {
            self.0.core.remove("default/2/web").map(|()| false)
        }
        fn thaw(&mut self) -> crate::error::Result<()> {
            Ok(())
        }
    }
    let house = House::new();
    let web = live(&house, "default/2/web");
    let _runs = house.runs("default/2/web");
    let error = house.core.snapshot(web, &named("x"), &mut Removing(&house)).unwrap_err();
    assert_eq!(error.kind(), Class::NotFound);
    assert_eq!(house.directories().len(), 1, "source and copy are both gone, the image is not");
    assert_eq!(house.keys(), ["default/1/base"]);
}

#[test]
fn the_source_is_asked_in_order_and_always_thawed() {
    let house = House::new();
    let web = live(&house, "default/2/web");
    for (fails, asked) in [
        ("ready", &["ready", "thaw"][..]),
        ("freeze", &["ready", "freeze", "thaw"]),
        ("still", &["ready", "freeze", "still", "thaw"]),
        ("thaw", &["ready", "freeze", "still", "thaw"]),
        ("", &["ready", "freeze", "still", "thaw"]),
    ] {
        let before = (house.directories(), house.core.all().unwrap());
        let mut freezer = Counting { fails, ..Counting::default() };
        let taken = house.core.snapshot(web, &named("x"), &mut freezer);
        assert_eq!(freezer.asked, asked);
        assert_eq!(taken.is_err(), !fails.is_empty());
        if taken.is_err() {
            assert_eq!((house.directories(), house.core.all().unwrap()), before, "{fails}");
        }
    }
}

#[test]
fn every_state_has_its_moment_and_its_clones_too() {
    let house = House::new();
    let web = live(&house, "default/2/web");
    let take = |keep| Take { keep, labels: BTreeMap::new(), captured: None, operation: None, expires: None };
    let clone = |state: Id, key: &str| {
        let grant = house.core.grant(state, Made::default()).unwrap();
        house.core.prepare(key, "default/1/base", labels(FORK_LABEL, &grant.label())).unwrap();
        house.core.by_key(key).unwrap().unwrap()
    };
    for (n, keep) in [Keep::ForOne, Keep::ForClones, Keep::Named("x".to_owned())].into_iter().enumerate() {
        let kept = matches!(keep, Keep::Named(_));
        let began = crate::store::Time::now();
        let (state, _) = house.core.snapshot(web, &take(keep), &mut Still).unwrap();
        let taken = state.taken.unwrap();
        assert!(began < taken && taken < crate::store::Time::now());
        assert_eq!(house.core.get(state.id).unwrap().snapshot.taken, Some(taken));
        let row = clone(state.id, &format!("default/{}/fork", 10 + n));
        assert_eq!(row.taken, (!kept).then_some(taken), "the moment of its source is in its source's row");
        assert_eq!(row.source, Some(if kept { state.id } else { web }));
        assert!(house.core.changed_since(web, taken, 9).unwrap().is_empty());
        house.write("default/2/web", &format!("new{n}"), "");
        assert_eq!(house.core.changed_since(web, taken, 9).unwrap(), [format!("new{n}")]);
    }
}

#[test]
fn a_fork_by_label_has_its_moment() {
    let house = House::pooled();
    let web = live(&house, "default/2/web");
    house.core.prepare("default/3/fork", "default/1/base", labels(FORK_LABEL, "web")).unwrap();
    let fork = house.core.by_key("default/3/fork").unwrap().unwrap();
    assert_eq!(fork.source, Some(web));
    let taken = fork.taken.unwrap();
    assert!(house.core.changed_since(web, taken, 9).unwrap().is_empty());
    house.write("default/2/web", "state", "two");
    assert_eq!(house.core.changed_since(web, taken, 9).unwrap(), ["state"]);
}
