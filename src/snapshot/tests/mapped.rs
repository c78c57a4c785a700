//! Containers in user namespaces: whose their files are, whatever they continue.

use std::os::unix::fs::{MetadataExt, chown};

use super::*;
use crate::error::Kind as Class;
use crate::mapping::{GIDS_LABEL, Mapping, UIDS_LABEL};
use crate::snapshot::{Kept, Still};
use crate::store::{Kind, Layer};

const WEB: &str = "default/2/web";

/// The labels of a mapping whose root is this one on the host.
fn mapped(first: u32) -> BTreeMap<String, String> {
    let ids = format!("0:{first}:65536");
    BTreeMap::from([(UIDS_LABEL.to_owned(), ids.clone()), (GIDS_LABEL.to_owned(), ids)])
}

fn mapping(first: u32) -> Option<Mapping> {
    Mapping::of_labels(&mapped(first)).unwrap()
}

/// The topmost layer of what has a key.
fn layer(house: &House, key: &str) -> Layer {
    house.core.get(house.id(key)).unwrap().chain.remove(0)
}

/// Who owns a file in the topmost layer of what has a key.
fn owner(house: &House, key: &str, file: &str) -> (u32, u32) {
    let layer = layer(house, key);
    let status = std::fs::symlink_metadata(house.core.layers().fs(layer.home, layer.id).join(file)).unwrap();
    (status.uid(), status.gid())
}

fn option<'a>(mounts: &'a [Mount], name: &str) -> Option<&'a str> {
    mounts[0].options.iter().find_map(|option| option.strip_prefix(name))
}

/// An image with a file of user 5, and a container on it under a mapping, with one of user 33.
fn web(house: &House) {
    let mounts = house.prepare("default/1/extract-base", "");
    std::fs::write(top(&mounts).join("of-image"), "x").unwrap();
    chown(top(&mounts).join("of-image"), Some(5), Some(5)).unwrap();
    chown(top(&mounts), Some(3), Some(4)).unwrap();
    house.core.commit("base", "default/1/extract-base", BTreeMap::new()).unwrap();
    let mounts = house.core.prepare(WEB, "base", mapped(200_000)).unwrap();
    let file = top(&mounts).join("own");
    std::fs::write(&file, "own").unwrap();
    chown(&file, Some(200_033), Some(200_044)).unwrap();
}

fn houses() -> [House; 2] {
    [House::new(), House::pooled()]
}

#[test]
fn what_lies_below_is_shown_under_the_mapping() {
    for house in houses() {
        web(&house);
        let mounts = house.core.mounts(WEB).unwrap();
        assert_eq!(option(&mounts, "uidmap="), Some("0:200000:65536"));
        assert_eq!(option(&mounts, "gidmap="), Some("0:200000:65536"));
        assert_eq!(owner(&house, WEB, ""), (200_003, 200_004), "its root is as the image's");
        assert_eq!(layer(&house, WEB).mapping, mapping(200_000));
        let house = house.reopen();
        assert_eq!(house.core.mounts(WEB).unwrap(), mounts);
        // Without a parent nothing is shown under it, and its root is the user namespace's.
        let mounts = house.core.prepare("default/3/bare", "", mapped(200_000)).unwrap();
        assert!(mounts[0].options.iter().all(|option| !option.contains("map=")), "{mounts:?}");
        assert_eq!(owner(&house, "default/3/bare", ""), (200_000, 200_000));
    }
}

#[test]
fn a_branch_keeps_the_mapping() {
    for house in houses() {
        web(&house);
        let (state, _) = house.core.snapshot(house.id(WEB), &named("state"), &mut Still).unwrap();
        for (n, parent) in ["base", ""].into_iter().enumerate() {
            let key = format!("default/{}/clone", n + 3);
            let id = house.fork(&key, parent, state.id);
            assert_eq!(house.text(id, "own"), b"own");
            assert_eq!(owner(&house, &key, "own"), (200_033, 200_044));
            let mounts = house.core.mounts(&key).unwrap();
            assert_eq!(option(&mounts, "uidmap="), Some("0:200000:65536"));
            // Nothing that was written under the mapping is shown under it again.
            assert_eq!(option(&mounts, "lowerdir=").unwrap().split(':').count(), 1);
            assert_eq!(house.core.stat(&key).unwrap().labels, mapped(200_000));
        }
        // One that takes its bytes over.
        let take = Take { keep: Keep::ForOne, ..named("one") };
        let (taken, _) = house.core.snapshot(house.id(WEB), &take, &mut Still).unwrap();
        house.fork("default/5/fork", "base", taken.id);
        assert_eq!(owner(&house, "default/5/fork", "own"), (200_033, 200_044));
        assert_eq!(layer(&house, "default/5/fork").mapping, mapping(200_000));
        let (taken, _) = house.core.snapshot(house.id(WEB), &take, &mut Still).unwrap();
        let grant = house.core.grant(taken.id, Made::default()).unwrap();
        let mut other = mapped(300_000);
        other.insert(FORK_LABEL.to_owned(), grant.label());
        let error = house.core.prepare("default/6/fork", "base", other).unwrap_err();
        assert!(error.to_string().contains("user namespace"), "{error}");
    }
}

#[test]
fn a_committed_one_is_continued_under_whatever_mapping() {
    for house in houses() {
        web(&house);
        house.core.commit("state", WEB, BTreeMap::new()).unwrap();
        let cases = [
            (BTreeMap::new(), (33, 44)),
            (mapped(200_000), (200_033, 200_044)),
            (mapped(300_000), (300_033, 300_044)),
        ];
        for (n, (labels, wanted)) in cases.into_iter().enumerate() {
            let (key, view) = (format!("default/{}/new", n + 3), format!("default/{}/view", n + 3));
            let mounts = house.core.prepare(&key, "state", labels.clone()).unwrap();
            assert_eq!(owner(&house, &key, "own"), wanted);
            assert_eq!(option(&mounts, "uidmap="), labels.get(UIDS_LABEL).map(String::as_str));
            assert!(!option(&mounts, "lowerdir=").unwrap().contains(':'), "{mounts:?}");
            let mounts = house.core.view(&view, "state", labels).unwrap();
            assert_eq!(owner(&house, &view, "own"), wanted);
            assert_eq!(mounts, house.core.mounts(&view).unwrap());
            assert_eq!(layer(&house, &view).stage, crate::store::Stage::Writable);
        }
        let error = house.core.prepare("default/9/extract-more", "state", BTreeMap::new()).unwrap_err();
        assert_eq!(error.kind(), Class::FailedPrecondition, "{error}");
        assert!(error.to_string().contains("loom commit"), "{error}");
        for n in 3..6 {
            house.core.remove(&format!("default/{n}/new")).unwrap();
            house.core.remove(&format!("default/{n}/view")).unwrap();
        }
        house.core.remove("state").unwrap();
        house.core.remove("base").unwrap();
        house.settle(0);
    }
}

#[test]
fn a_state_of_the_hosts_own_owners_can_be_continued_under_one() {
    for house in houses() {
        web(&house);
        house.prepare("default/3/host", "base");
        house.write("default/3/host", "own", "x");
        house.core.commit("state", "default/3/host", BTreeMap::new()).unwrap();
        let mounts = house.core.prepare("default/4/new", "state", mapped(200_000)).unwrap();
        let lowers = option(&mounts, "lowerdir=").unwrap().split(':').count();
        if house.core.layers().pool().is_some() {
            assert_eq!((lowers, owner(&house, "default/4/new", "own")), (1, (200_000, 200_000)));
        } else {
            assert_eq!(lowers, 2);
        }
        let mounts = house.core.view("default/5/view", "base", mapped(200_000)).unwrap();
        assert!(mounts[0].options.contains(&"ro".to_owned()), "{mounts:?}");
        assert_eq!(option(&mounts, "gidmap="), Some("0:200000:65536"));
        // What nobody maps is shown by the layers themselves.
        let mounts = house.core.view("default/6/view", "base", BTreeMap::new()).unwrap();
        assert_eq!(mounts[0].kind, "bind");
    }
}

#[test]
fn a_rollback_keeps_the_containers_mapping() {
    for house in houses() {
        web(&house);
        house.prepare("default/3/host", "base");
        house.write("default/3/host", "theirs", "x");
        for (source, name) in [(WEB, "own"), ("default/3/host", "other")] {
            house.core.snapshot(house.id(source), &named(name), &mut Still).unwrap();
        }
        for (name, file, wanted) in
            [("own", "own", (200_033, 200_044)), ("other", "theirs", (200_000, 200_000))]
        {
            let state = house.core.resolve(name).unwrap().id;
            house.core.replace(house.id(WEB), state, &Kept::Discarded, None).unwrap();
            assert_eq!(layer(&house, WEB).mapping, mapping(200_000));
            assert_eq!(house.core.stat(WEB).unwrap().labels, mapped(200_000));
            assert_eq!(option(&house.core.mounts(WEB).unwrap(), "uidmap="), Some("0:200000:65536"));
            if house.core.layers().pool().is_some() || name == "own" {
                assert_eq!(owner(&house, WEB, file), wanted);
            }
        }
    }
}

#[test]
fn what_becomes_an_image_has_the_owners_that_the_container_sees() {
    for house in houses() {
        web(&house);
        let (state, _) = house.core.snapshot(house.id(WEB), &named("state"), &mut Still).unwrap();
        let plain = house.core.unmapped(state.id, None).unwrap();
        assert_eq!((plain.kind, plain.source, plain.transient), (Kind::Committed, Some(state.id), true));
        let seen = house.core.get(plain.id).unwrap().chain.remove(0);
        assert_eq!(seen.mapping, None);
        let file = house.core.layers().fs(seen.home, seen.id).join("own");
        assert_eq!(std::fs::metadata(file).unwrap().uid(), 33);
        assert_eq!(house.core.layers().manifest(seen.home, seen.id).unwrap().mapping, None);
        assert_eq!(house.core.unmapped(plain.id, None).unwrap().id, plain.id);
        house.core.release(plain.id).unwrap();
        let kept = layer_of(&house, "state");
        assert_eq!(house.core.layers().manifest(kept.home, kept.id).unwrap().mapping, mapping(200_000));
    }
}

fn layer_of(house: &House, name: &str) -> Layer {
    let state = house.core.resolve(name).unwrap().id;
    house.core.get(state).unwrap().chain.remove(0)
}

#[test]
fn what_a_client_has_changed_itself_is_not_mapped_again() {
    for house in houses() {
        web(&house);
        let mounts = house.prepare("default/3/sha256:ab-remap", "base");
        chown(top(&mounts), Some(200_003), Some(200_004)).unwrap();
        house.core.commit("default/4/sha256:ab", "default/3/sha256:ab-remap", BTreeMap::new()).unwrap();
        let mounts = house.core.prepare("default/5/new", "default/4/sha256:ab", mapped(200_000)).unwrap();
        assert_eq!(option(&mounts, "uidmap="), None);
        assert_eq!(owner(&house, "default/5/new", ""), (200_003, 200_004));
        house.core.view("default/6/view", "default/4/sha256:ab", mapped(200_000)).unwrap();
        assert_eq!(
            house.core.mounts("default/6/view").unwrap()[0].options.iter().find(|o| o.contains("uidmap")),
            None
        );
    }
}

#[test]
fn labels_that_are_no_mapping_are_refused() {
    let house = House::new();
    house.image("base", "");
    let one = labels(UIDS_LABEL, "0:1:1");
    let mut odd = mapped(200_000);
    odd.insert(GIDS_LABEL.to_owned(), "1:2:3".to_owned());
    for labels in [one, odd] {
        for error in [
            house.core.prepare("default/2/a", "base", labels.clone()).unwrap_err(),
            house.core.view("default/2/b", "base", labels.clone()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Class::InvalidArgument, "{error}");
        }
        // What an image says of itself maps nothing.
        house.core.prepare("default/2/extract-more", "base", labels).unwrap();
        assert_eq!(layer(&house, "default/2/extract-more").mapping, None);
        house.core.remove("default/2/extract-more").unwrap();
    }
    assert_eq!(house.keys(), ["base"]);
    let far = house.prepare("default/3/extract-far", "");
    chown(top(&far), Some(70_000), None).unwrap();
    house.core.commit("far", "default/3/extract-far", BTreeMap::new()).unwrap();
    let error = house.core.prepare("default/4/x", "far", mapped(200_000)).unwrap_err().to_string();
    assert!(error.contains("user 70000"), "{error}");
    assert_eq!(house.keys(), ["base", "far"]);
}
